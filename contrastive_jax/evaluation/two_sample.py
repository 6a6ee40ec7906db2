"""Whether two samples come from one distribution: the nearest-neighbor test."""

import numpy as np
from jaxtyping import Array, Float
from scipy.spatial.distance import cdist

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


def nearest_neighbor_accuracy(
    generated: Float[Array | np.ndarray, "n d"], real: Float[Array | np.ndarray, "m d"]
) -> float:
    """Leave-one-out accuracy of a 1-NN classifier between two samples, in [0, 1].

    The 1-NN two-sample test by Euclidean distance: 0.5 where both samples have one
    distribution, 1 where they are separated, below 0.5 where rows of one sample copy
    rows of the other. The longer sample is cut to the length of the shorter. Of several
    nearest neighbors at one distance each counts with its share.

    Args:
      generated: rows of one sample.
      real: rows of the other, of equal width.

    Raises:
      ValueError: rows that are not finite.

    References:
      Lopez-Paz and Oquab 2017, arXiv:1610.06545, section 3; Xu et al. 2018,
      arXiv:1806.07755, section 4.6 (1-NN two-sample test).

    Examples:
      >>> nearest_neighbor_accuracy(np.array([[0.0], [0.1]]), np.array([[5.0], [5.2]]))
      1.0
    """
    numerics.check_shapes(generated=(generated, "n d"), real=(real, "m d"))
    n = min(len(generated), len(real))
    parts = checks.features(generated, "generated"), checks.features(real, "real")
    rows = checks.scaled(np.concatenate([part[:n] for part in parts]))
    gaps = cdist(rows, rows)  # from differences: equal rows have equal distances
    np.fill_diagonal(gaps, np.inf)
    nearest = gaps == np.min(gaps, axis=1, keepdims=True)
    as_real = np.sum(nearest[:, n:], axis=1) / np.sum(nearest, axis=1)
    return float(np.mean(np.concatenate([1 - as_real[:n], as_real[n:]])))
