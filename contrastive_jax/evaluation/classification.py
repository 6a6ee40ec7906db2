"""F1 of predicted classes, and of scores at their best threshold.

Computed on the host by scikit-learn, with 0 where precision and recall have nothing to
divide by. Predictions and labels are [n] and of one kind; classes may be any integers
below 2^63. A wrong dtype raises TypeError and a wrong shape ValueError, naming the
argument.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Integer, Shaped
from sklearn.metrics import f1_score

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks

# Where there is nothing to divide by; declared as a string in scikit-learn.
ZERO: Any = 0.0


class BestF1(NamedTuple):
    """F1, precision and recall at the threshold of highest F1.

    Attributes:
      f1: harmonic mean of precision and recall, in [0, 1].
      precision: fraction of positives among examples at or above the threshold.
      recall: fraction of the positives that are at or above the threshold.
      threshold: the score; positive infinity when there is no positive.
    """

    f1: float
    precision: float
    recall: float
    threshold: float


def binary_f1(
    predictions: Bool[Array | np.ndarray, " n"], labels: Bool[Array | np.ndarray, " n"]
) -> float:
    """F1 score of binary predictions, in [0, 1].

        F1 = 2 TP / (2 TP + FP + FN)

    Args:
      predictions: predicted positives.
      labels: true positives.

    Examples:
      >>> binary_f1(np.array([True, False, False]), np.array([True, True, False]))
      0.6666666666666666

    References:
      van Rijsbergen 1979, Information Retrieval, chapter 7.
    """
    numerics.check_shapes(predictions=(predictions, "n"), labels=(labels, "n"))
    predictions = checks.booleans(predictions, "predictions")
    labels = checks.booleans(labels, "labels")
    return float(f1_score(labels, predictions, zero_division=ZERO))


def macro_f1(
    predictions: Integer[Array | np.ndarray, " n"],
    labels: Integer[Array | np.ndarray, " n"],
) -> float:
    """Mean over classes of each class's F1 against the rest, in [0, 1].

    Classes are the numbers that occur as a prediction or as a label.

    Args:
      predictions: predicted classes.
      labels: true classes.

    Examples:
      >>> macro_f1(np.array([0, 0, 2]), np.array([0, 0, 1]))
      0.3333333333333333

    References:
      Opitz and Burst 2019, arXiv:1911.03347, eq. 2 (mean of F1).
    """
    numerics.check_shapes(predictions=(predictions, "n"), labels=(labels, "n"))
    predictions = checks.integers(predictions, "predictions")
    labels = checks.integers(labels, "labels")
    return float(f1_score(labels, predictions, average="macro", zero_division=ZERO))


def best_f1(
    scores: Shaped[Array | np.ndarray, " n"], labels: Bool[Array | np.ndarray, " n"]
) -> BestF1:
    """Highest F1 over all thresholds on a score.

    Equal scores pass a threshold together; among equally good thresholds the lowest is
    taken. The threshold is chosen on the examples it is measured on, so the value is
    optimistic: with half of the examples positive, a constant score has 2 / 3.

    Args:
      scores: higher is more likely positive.
      labels: true positives.

    Raises:
      ValueError: a score that is NaN.

    Examples:
      >>> scores, labels = np.array([0.9, 0.2, 0.5]), np.array([True, True, False])
      >>> best_f1(scores, labels).f1, best_f1(scores, labels).threshold
      (0.8, 0.2)

    References:
      Lipton et al. 2014, arXiv:1402.1892 (F1 at the best threshold).
    """
    numerics.check_shapes(scores=(scores, "n"), labels=(labels, "n"))
    labels = checks.booleans(labels, "labels")
    scores = checks.reals(scores, "scores")
    positives = np.sum(labels)
    if not positives:
        return BestF1(0.0, 0.0, 0.0, float("inf"))
    thresholds = np.unique(scores)
    order = np.argsort(scores, kind="stable")
    first = np.searchsorted(scores[order], thresholds)
    passed = len(scores) - first
    hits = positives - np.concatenate([[0], np.cumsum(labels[order])])[first]
    f1 = 2 * hits / (passed + positives)
    best = int(np.argmax(f1))
    return BestF1(
        float(f1[best]),
        float(hits[best] / passed[best]),
        float(hits[best] / positives),
        float(thresholds[best]),
    )
