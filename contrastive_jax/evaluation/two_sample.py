"""Whether two samples come from one distribution: the nearest-neighbor test."""

import numpy as np
from jaxtyping import Float

from contrastive_jax import numerics


def nearest_neighbor_accuracy(
    generated: Float[np.ndarray, "n d"], real: Float[np.ndarray, "m d"]
) -> float:
    """Leave-one-out accuracy of a 1-NN classifier between two samples, in [0, 1].

    The 1-NN two-sample test by Euclidean distance: 0.5 where both samples have one
    distribution, 1 where they are separated, below 0.5 where rows of one sample copy
    rows of the other. The longer sample is cut to the length of the shorter.

    Args:
      generated: rows of one sample.
      real: rows of the other, of equal width.

    References:
      Lopez-Paz and Oquab 2017, arXiv:1610.06545, section 3; Xu et al. 2018,
      arXiv:1806.07755, section 4.6 (1-NN two-sample test).

    Examples:
      >>> nearest_neighbor_accuracy(np.array([[0.0], [0.1]]), np.array([[5.0], [5.2]]))
      1.0
    """
    numerics.check_shapes(generated=(generated, "n d"), real=(real, "m d"))
    n = min(len(generated), len(real))
    rows = np.concatenate([generated[:n], real[:n]]).astype(np.float64)
    squares = np.sum(rows**2, axis=1)
    scores = rows @ rows.T - squares[None, :] / 2  # falls with the distance
    np.fill_diagonal(scores, -np.inf)
    nearest = np.argmax(scores, axis=1)
    return float(np.mean((nearest < n) == (np.arange(2 * n) < n)))
