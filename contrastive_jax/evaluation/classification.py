"""F1 of predicted classes, and of scores at their best threshold.

0 where precision and recall have nothing to divide by, as scikit-learn with
`zero_division=0`.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool, Int, Shaped

from contrastive_jax import numerics


class BestF1(NamedTuple):
    """What a threshold chosen for F1 gives.

    Attributes:
      f1: harmonic mean of precision and recall, in [0, 1].
      precision: share of true ones among those at or above the threshold.
      recall: share of the true ones that are at or above the threshold.
      threshold: the score; positive infinity when no example is true.
    """

    f1: float
    precision: float
    recall: float
    threshold: float


def binary_f1(
    labels: Bool[Array | np.ndarray, " n"], predictions: Bool[Array | np.ndarray, " n"]
) -> float:
    """Harmonic mean of precision and recall of a yes or no, in [0, 1].

        F1 = 2 TP / (2 TP + FP + FN)

    Args:
      labels: what is true.
      predictions: what was said.

    Examples:
      >>> binary_f1(np.array([True, True, False]), np.array([True, False, False]))
      0.6666666666666666

    References:
      van Rijsbergen 1979, Information Retrieval, chapter 7.
    """
    numerics.check_shapes(labels=(labels, "n"), predictions=(predictions, "n"))
    labels = np.asarray(numerics.check_mask(labels, "labels"))
    predictions = np.asarray(numerics.check_mask(predictions, "predictions"))
    both, either = np.sum(labels & predictions), np.sum(labels) + np.sum(predictions)
    return float(2 * both / either) if either else 0.0


def macro_f1(
    labels: Int[Array | np.ndarray, " n"], predictions: Int[Array | np.ndarray, " n"]
) -> float:
    """Mean over classes of each class's F1 against the rest, in [0, 1].

    Classes are the numbers that occur as a label or as a prediction.

    Args:
      labels: true classes.
      predictions: predicted classes.

    Examples:
      >>> macro_f1(np.array([0, 0, 1]), np.array([0, 0, 2]))
      0.3333333333333333

    References:
      Opitz and Burst 2019, arXiv:1911.03347, eq. 2 (mean of F1).
    """
    numerics.check_shapes(labels=(labels, "n"), predictions=(predictions, "n"))
    labels = np.asarray(numerics.check_integer(labels, "labels"))
    predictions = np.asarray(numerics.check_integer(predictions, "predictions"))
    classes = np.union1d(labels, predictions)
    return float(np.mean([binary_f1(labels == c, predictions == c) for c in classes]))


def best_f1(
    labels: Bool[Array | np.ndarray, " n"], scores: Shaped[Array | np.ndarray, " n"]
) -> BestF1:
    """F1 at the threshold that makes it largest, over all distinct scores.

    Equal scores pass a threshold together; among equally good thresholds the lowest is
    taken. Chosen on the examples that it is measured on, F1 flatters: with half of the
    examples true, a constant score has 2 / 3.

    Args:
      labels: what is true.
      scores: higher is more likely true.

    Raises:
      ValueError: NaN.

    Examples:
      >>> labels, scores = np.array([True, True, False]), np.array([0.9, 0.2, 0.5])
      >>> best_f1(labels, scores).f1, best_f1(labels, scores).threshold
      (0.8, 0.2)

    References:
      Lipton et al. 2014, arXiv:1402.1892 (F1 at the best threshold).
    """
    numerics.check_shapes(labels=(labels, "n"), scores=(scores, "n"))
    labels = np.asarray(numerics.check_mask(labels, "labels"))
    scores = np.asarray(scores, np.float64)
    if np.any(np.isnan(scores)):
        raise ValueError("scores: expected real numbers, got NaN")
    true = np.sum(labels)
    if not true:
        return BestF1(0.0, 0.0, 0.0, float("inf"))
    thresholds = np.unique(scores)
    order = np.argsort(scores, kind="stable")
    first = np.searchsorted(scores[order], thresholds)
    passed = len(scores) - first
    hits = true - np.concatenate([[0], np.cumsum(labels[order])])[first]
    f1 = 2 * hits / (passed + true)
    best = int(np.argmax(f1))
    return BestF1(
        float(f1[best]),
        float(hits[best] / passed[best]),
        float(hits[best] / true),
        float(thresholds[best]),
    )
