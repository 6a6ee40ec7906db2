"""Wavelet scattering of images, beside kymatio's torch and numpy back ends.

kymatio 0.3.0 needs SciPy below 1.15, so it runs by an interpreter of its own (`--peer`)
that has it and PyTorch.
"""

import json
import time

from launch.bench.measure import MIB, memory_mark, run_peer, status, timed

# A number is that of images at a time.
METHODS = ["ours/4", "ours/1", "ours", "kymatio/torch", "kymatio/numpy"]
# Task -> methods, ours first; a task is "J<scales>L<angles>".
TASKS = {name: METHODS for name in ("J2L8", "J2L16", "J3L8")}


def sizes_of(task: str) -> tuple[int, int]:
    """Scales and angles of a task."""
    scales, _, angles = task[1:].partition("L")
    return int(scales), int(angles)


def pictures(rows: int, side: int):
    """Random images [rows, side, side], the same for all."""
    import numpy as np

    return np.random.default_rng(0).uniform(size=(rows, side, side)).astype("float32")


def measure_scattering(task: str, method: str, rows: int, side: int) -> dict:
    """Everything about one method for so many images (or channels) of one size.

    `seconds` are those of the coefficients, `grad_seconds` those of the sum of their
    squares (`loss`) and its gradient by the images.
    """
    if method.startswith("kymatio"):
        return peer(method.partition("/")[2], task, rows, side)
    import jax
    import jax.numpy as jnp
    import numpy as np

    from contrastive_jax import models

    scales, angles = sizes_of(task)
    chunk = int(method.partition("/")[2] or 0)

    def run(x):
        return models.scattering_2d(x, scales=scales, angles=angles, chunk=chunk)

    def loss(x):
        return jnp.sum(run(x) ** 2)

    x = jnp.asarray(pictures(rows, side))
    start = time.process_time()
    forward = jax.jit(run).lower(x).compile()
    compiling = time.process_time() - start
    both = jax.jit(jax.value_and_grad(loss)).lower(x).compile()
    before = memory_mark()
    seconds, _ = timed(lambda: forward(x).block_until_ready(), 5)
    rise = status("VmHWM") - before
    grad_seconds, (value, grad) = timed(lambda: jax.block_until_ready(both(x)), 5)
    return {
        "seconds": seconds,
        "grad_seconds": grad_seconds,
        "compile_seconds": compiling,
        "scratch": forward.memory_analysis().temp_size_in_bytes / MIB,
        "rise": rise,
        "loss": float(value),
        "grad_norm": float(np.linalg.norm(np.asarray(grad, np.float64))),
    }


def peer(backend: str, task: str, rows: int, side: int) -> dict:
    """The same of a back end of kymatio, by the interpreter in BENCH_PEER."""
    job = [backend, *sizes_of(task), rows, side]
    return run_peer("kymatio_peer.py", json.dumps(job))
