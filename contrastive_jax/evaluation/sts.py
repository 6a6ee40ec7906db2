"""Semantic textual similarity: Spearman and Pearson correlation with human judgments.

Computed on the host. A wrong dtype raises TypeError and shapes that do not fit together
ValueError, naming the argument.
"""

from typing import Any

import numpy as np
from jaxtyping import Array, Float, Shaped
from scipy.stats import pearsonr, rankdata

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


def pearson(
    x: Shaped[Array | np.ndarray, " n"], y: Shaped[Array | np.ndarray, " n"]
) -> float:
    """Pearson's linear correlation, in [-1, 1], computed in float64.

    scipy's `pearsonr`, but a constant has correlation 0 with everything: collapsed
    embeddings score 0, not NaN. A common offset costs no digits. With a NaN or an
    infinity among the numbers the result is NaN.

    Args:
      x: real numbers.
      y: as many real numbers.

    Examples:
      >>> round(pearson(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 4.0])), 4)
      0.982
    """
    numerics.check_shapes(x=(x, "n"), y=(y, "n"))
    x, y = checks.reals(x, "x", nan=True), checks.reals(y, "y", nan=True)
    if not (np.all(np.isfinite(x)) and np.all(np.isfinite(y))):
        return float("nan")
    if np.min(x) == np.max(x) or np.min(y) == np.max(y):
        return 0.0
    result: Any = pearsonr(_shifted(x), _shifted(y))
    return float(np.clip(result.statistic, -1, 1))


def spearman(
    x: Shaped[Array | np.ndarray, " n"], y: Shaped[Array | np.ndarray, " n"]
) -> float:
    """Spearman's rank correlation, in [-1, 1]; tied values share their mean rank.

    scipy's `rankdata` and `pearson`: 0 for a constant, NaN with a NaN. Integers of any
    size and infinities are ranked as they are.

    Args:
      x: real numbers.
      y: as many real numbers.

    Examples:
      >>> round(spearman(np.array([1.0, 2.0, 9.0]), np.array([1.0, 4.0, 5.0])), 4)
      1.0
    """
    numerics.check_shapes(x=(x, "n"), y=(y, "n"))
    ranks = []
    for name, v in (("x", x), ("y", y)):
        v = checks.on_host(v, name)
        exact = np.issubdtype(v.dtype, np.integer)
        ranks.append(rankdata(v if exact else checks.reals(v, name, nan=True)))
    return pearson(*ranks)


def sts_correlations(
    a: Float[Array | np.ndarray, "n d"],
    b: Float[Array | np.ndarray, "n d"],
    gold: Shaped[Array | np.ndarray, " n"],
) -> dict[str, float]:
    """Correlation of the cosines of paired embeddings with judged similarities.

    Cosines are computed in float64 and rounded to 12 digits, so that those that are
    equal have equal ranks; that of a zero row is 0.

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
    a, b = (_directions(checks.floats(x, name)) for x, name in ((a, "a"), (b, "b")))
    gold = checks.reals(gold, "gold", nan=True)
    cosines = np.round(np.sum(a * b, axis=1), 12)
    return {"spearman": spearman(cosines, gold), "pearson": pearson(cosines, gold)}


def _shifted(x):
    """Without a common offset, which would take digits, and of size 1."""
    x = checks.scaled(x)
    return checks.scaled(x - x[0])


def _directions(x):
    """Rows of length 1; rows of zeros stay."""
    x = checks.scaled(x, axis=1)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return x / np.where(length > 0, length, 1)
