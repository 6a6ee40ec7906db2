"""Scatters by kymatio what `launch.bench.scattering` names, and prints JSON.

Run by an interpreter that has kymatio 0.3.0, PyTorch and SciPy below 1.15; imports
nothing of ours.
"""

import json
import sys
import time

import numpy as np


def timed(f) -> tuple[float, object]:
    """Least CPU seconds of five calls, and the last result."""
    best, out = float("inf"), None
    for _ in range(5):
        start = time.process_time()
        out = f()
        best = min(best, time.process_time() - start)
    return best, out


def by_numpy(images: np.ndarray, scales: int, angles: int) -> dict:
    """The coefficients; there is no gradient."""
    from kymatio.numpy import Scattering2D

    scatter = Scattering2D(scales, images.shape[1:], L=angles)
    seconds, s = timed(lambda: scatter(images))
    return {"seconds": seconds, "loss": float((s.astype(np.float64) ** 2).sum())}


def by_torch(images: np.ndarray, scales: int, angles: int) -> dict:
    """The coefficients, and the gradient of the sum of their squares."""
    import torch
    from kymatio.torch import Scattering2D

    torch.set_num_threads(1)
    scatter = Scattering2D(scales, images.shape[1:], L=angles)
    x = torch.tensor(images, requires_grad=True)

    def forward():
        with torch.inference_mode():
            return scatter(x)

    def both():
        x.grad = None
        loss = (scatter(x) ** 2).sum()
        loss.backward()
        return loss

    seconds, _ = timed(forward)
    grad_seconds, loss = timed(both)
    return {
        "seconds": seconds,
        "grad_seconds": grad_seconds,
        "loss": float(loss.detach()),
        "grad_norm": float(x.grad.double().norm()),
    }


def main() -> None:
    """Times and sums of one back end."""
    backend, scales, angles, rows, side = json.loads(sys.argv[1])
    images = np.random.default_rng(0).uniform(size=(rows, side, side))
    run = {"torch": by_torch, "numpy": by_numpy}[backend]
    print(json.dumps(run(images.astype("float32"), scales, angles)))


if __name__ == "__main__":
    main()
