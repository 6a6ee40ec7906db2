"""Small generators: densities in the plane, as tests of density estimators."""

import numpy as np
from jaxtyping import Float

PLANE = ("moons", "circles", "pinwheel")


def plane_points(name: str, num: int, seed: int) -> Float[np.ndarray, "num 2"]:
    """Samples of a density in the plane, centered, within about 3 of the origin.

    "moons" and "circles" are scikit-learn's (noise 0.1 and 0.06, inner circle half as
    wide); "pinwheel" has five curved arms.

    Args:
      name: one of PLANE.
      num: number of samples.
      seed: of the points; every seed gives a fresh sample.

    Raises:
      ValueError: no such density.

    Examples:
      >>> plane_points("moons", 4, seed=0).shape
      (4, 2)
    """
    if name == "pinwheel":
        rng = np.random.default_rng(seed)
        arm = rng.integers(5, size=num)
        x = rng.normal(size=(num, 2)) * [0.3, 0.1] + [1.0, 0.0]
        angle = arm * (2 * np.pi / 5) + np.exp(x[:, 0] - 1) * 0.7
        turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)])
        x = 1.6 * np.einsum("ni,nij->nj", x, turn.T.reshape(num, 2, 2))
    elif name in PLANE:
        from sklearn import datasets

        if name == "moons":
            x, _ = datasets.make_moons(num, noise=0.1, random_state=seed)
            x = 1.6 * (np.asarray(x) - [0.5, 0.25])
        else:
            x, _ = datasets.make_circles(num, noise=0.06, factor=0.5, random_state=seed)
            x = 2.0 * np.asarray(x)
    else:
        raise ValueError(f"name: expected one of {', '.join(PLANE)}, got {name!r}")
    return x.astype(np.float32)
