"""Agreement of similarities with human judgement: Spearman and Pearson correlation."""

import numpy as np
from jaxtyping import Array, Float, Shaped

from contrastive_jax import numerics, similarity


def pearson(
    x: Shaped[Array | np.ndarray, " n"], y: Shaped[Array | np.ndarray, " n"]
) -> float:
    """Linear correlation, in [-1, 1], computed in float64.

    A constant has correlation 0 with everything: collapsed embeddings score 0, not NaN.
    With a NaN among the numbers the result is NaN.

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
    """Rank correlation, in [-1, 1]; equal values share the mean of their ranks.

    0 and NaN as for `pearson`.

    Args:
      x: real numbers.
      y: as many real numbers.

    Examples:
      >>> round(spearman(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 5.0])), 4)
      1.0
    """
    numerics.check_shapes(x=(x, "n"), y=(y, "n"))
    return pearson(average_ranks(x), average_ranks(y))


def sts_correlations(
    a: Float[Array | np.ndarray, "n d"],
    b: Float[Array | np.ndarray, "n d"],
    gold: Shaped[Array | np.ndarray, " n"],
) -> dict[str, float]:
    """Correlation of cosines between rows with gold similarities.

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


def average_ranks(x: Shaped[Array | np.ndarray, " n"]) -> np.ndarray:
    """Ranks from 1; equal values share the mean of theirs. All NaN if one value is.

    Examples:
      >>> average_ranks(np.array([5.0, 1.0, 5.0]))
      array([2.5, 1. , 2.5])
    """
    x = np.asarray(x)
    if np.any(np.isnan(x)):
        return np.full(x.shape, np.nan)
    ordered = np.sort(x)
    below = np.searchsorted(ordered, x, side="left")
    up_to = np.searchsorted(ordered, x, side="right")
    return (below + up_to + 1) / 2
