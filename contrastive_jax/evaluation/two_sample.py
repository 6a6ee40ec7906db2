"""Whether two samples come from the same distribution."""

import numpy as np
from jaxtyping import Float

from contrastive_jax import numerics


def nearest_neighbor_accuracy(
    real: Float[np.ndarray, "n d"], made: Float[np.ndarray, "m d"]
) -> float:
    """How well the nearest other row tells which sample a row is from, in [0, 1].

    0.5 is what equal distributions give; 1 means that the samples lie apart, below 0.5
    that rows of one copy rows of the other. The longer sample is cut to the shorter.

    Args:
      real: rows of one sample.
      made: rows of the other.

    Raises:
      ValueError: an empty sample.

    References:
      Lopez-Paz and Oquab 2017, arXiv:1610.06545, section 3; Xu et al. 2018,
      arXiv:1806.07755, section 4.6 (1-NN two-sample test).

    Examples:
      >>> nearest_neighbor_accuracy(np.array([[0.0], [0.1]]), np.array([[5.0], [5.2]]))
      1.0
    """
    numerics.check_shapes(real=(real, "n d"), made=(made, "m d"))
    n = min(len(real), len(made))
    rows = np.concatenate([real[:n], made[:n]]).astype(np.float64)
    squares = np.sum(rows**2, axis=1)
    scores = rows @ rows.T - squares[None, :] / 2  # falls with the distance
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argmax(scores, axis=1)
    return float(np.mean((nearest < n) == (np.arange(2 * n) < n)))
