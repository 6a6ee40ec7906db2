"""Semantic textual similarity: Spearman and Pearson correlation with human judgments.

A wrong dtype raises TypeError and shapes that do not fit together ValueError, naming
the argument.
"""

import numpy as np
from jaxtyping import Array, Float, Shaped
from scipy.stats import rankdata

from contrastive_jax import numerics, similarity


def pearson(
    x: Shaped[Array | np.ndarray, " n"], y: Shaped[Array | np.ndarray, " n"]
) -> float:
    """Pearson's linear correlation, in [-1, 1], computed in float64.

    Unlike scipy's, a constant has correlation 0 with everything: collapsed embeddings
    score 0, not NaN. With a NaN among the numbers the result is NaN.

    Args:
      x: real numbers.
      y: as many real numbers.

    Examples:
      >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])), 4)
      0.982
    """
    numerics.check_shapes(x=(x, "n"), y=(y, "n"))
    x, y = (np.asarray(v, np.float64) for v in (x, y))
    if np.any(np.isnan(x)) or np.any(np.isnan(y)):
        return float("nan")
    if np.min(x) == np.max(x) or np.min(y) == np.max(y):
        return 0.0
    # Scaled first, so that neither huge nor tiny values leave the range of floats.
    x, y = (v / np.max(np.abs(v)) for v in (x, y))
    x, y = x - np.mean(x), y - np.mean(y)
    x, y = (v / np.max(np.abs(v)) for v in (x, y))
    value = np.sum(x * y) / np.sqrt(np.sum(x * x) * np.sum(y * y))
    return float(np.clip(value, -1, 1))


def spearman(
    x: Shaped[Array | np.ndarray, " n"], y: Shaped[Array | np.ndarray, " n"]
) -> float:
    """Spearman's rank correlation, in [-1, 1]; tied values share their mean rank.

    0 and NaN as for `pearson`.

    Args:
      x: real numbers.
      y: as many real numbers.

    Examples:
      >>> round(spearman(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 5.0])), 4)
      1.0
    """
    numerics.check_shapes(x=(x, "n"), y=(y, "n"))
    return pearson(rankdata(np.asarray(x)), rankdata(np.asarray(y)))


def sts_correlations(
    a: Float[Array | np.ndarray, "n d"],
    b: Float[Array | np.ndarray, "n d"],
    gold: Shaped[Array | np.ndarray, " n"],
) -> dict[str, float]:
    """Correlation of the cosines of paired embeddings with judged similarities.

    Args:
      a: embeddings of the first texts.
      b: embeddings of the second texts.
      gold: judged similarity of each pair, on any scale.

    Returns:
      "spearman" and "pearson", in [-1, 1].

    Examples:
      >>> a, b = np.eye(2)[[0, 0, 0]], np.array([[0.0, 1.0], [1.0, 1.0], [1.0, 0.0]])
      >>> round(sts_correlations(a, b, np.arange(3.0))["spearman"], 4)
      1.0
    """
    numerics.check_shapes(a=(a, "n d"), b=(b, "n d"), gold=(gold, "n"))
    a, b = (
        np.asarray(similarity.l2_normalize(numerics.at_least_f32(x, name)))
        for x, name in ((a, "a"), (b, "b"))
    )
    cosines = np.sum(a * b, axis=-1)
    return {"spearman": spearman(cosines, gold), "pearson": pearson(cosines, gold)}
