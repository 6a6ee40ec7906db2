"""Linear readouts of frozen features: logistic regression and ridge regression.

Features are standardized with the statistics of the training rows. The penalty is
chosen on a held-out part of the training rows and never on the test rows; the readout
is then fitted again on all training rows. A wrong dtype raises TypeError and shapes
that do not fit together ValueError, naming the argument.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Float, Int, Shaped
from sklearn.linear_model import LogisticRegression

from contrastive_jax import numerics


class ProbeResult(NamedTuple):
    """Score and predictions of a linear readout.

    Attributes:
      score: on the test rows; accuracy in [0, 1] for classes, R^2 for real targets.
      strength: the selected penalty.
      predictions: for each test row.
    """

    score: float
    strength: float
    predictions: np.ndarray


def linear_probe(
    train: Float[Array | np.ndarray, "n d"],
    train_labels: Int[Array | np.ndarray, " n"],
    test: Float[Array | np.ndarray, "q d"],
    test_labels: Int[Array | np.ndarray, " q"],
    *,
    strengths: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    held_out: float = 0.2,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of multinomial logistic regression on frozen features.

        min_W  mean_i cross_entropy(W x_i + b, y_i) + strength / 2 ||W||^2      (nats)

    Solved by scikit-learn's L-BFGS in float32, to a gradient of 1e-4; the bias is not
    penalized.

    Args:
      train: training features.
      train_labels: their classes.
      test: features to report on.
      test_labels: their classes.
      strengths: penalties to choose from, all above 0; a single one is taken as it is.
      held_out: fraction of the training rows that the penalty is selected on. Among
        equally good penalties the largest is taken.
      seed: seed of that split.

    Raises:
      ValueError: no strength or one not above 0, a held_out outside of (0, 1), fewer
        than two classes.

    Examples:
      >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
      >>> y = np.array([0, 0, 1, 1])
      >>> linear_probe(x, y, x, y, strengths=(0.1,)).score
      1.0
    """
    train, train_labels = _checked(train, train_labels, "train")
    test, test_labels = _checked(test, test_labels, "test")
    numerics.check_integer(train_labels, "train_labels")
    numerics.check_integer(test_labels, "test_labels")
    numerics.check_shapes(train=(train, "n d"), test=(test, "q d"))
    if len(np.unique(train_labels)) < 2:
        raise ValueError("train_labels: expected at least two classes, got one")

    def fit(x, y, strengths, queries):
        """Predictions for the queries, one set per strength."""
        classes = np.unique(y)
        if len(classes) == 1:  # a held-out split may leave a single class
            return [np.full(len(queries), classes[0]) for _ in strengths]
        x, queries = x.astype(np.float32), queries.astype(np.float32)
        # To choose a penalty a rough solution does; half of the time goes there.
        tol = 1e-4 if len(strengths) == 1 else 1e-3
        return [
            LogisticRegression(C=1 / (strength * len(x)), max_iter=1000, tol=tol)
            .fit(x, y)
            .predict(queries)
            for strength in strengths
        ]

    return _probe(
        fit,
        lambda predicted, labels: float(np.mean(predicted == labels)),
        (train, train_labels, test, test_labels),
        strengths,
        held_out,
        seed,
    )


def ridge_probe(
    train: Float[Array | np.ndarray, "n d"],
    train_targets: Shaped[Array | np.ndarray, " n *t"],
    test: Float[Array | np.ndarray, "q d"],
    test_targets: Shaped[Array | np.ndarray, " q *t"],
    *,
    strengths: Sequence[float] = (1e-4, 1e-3, 1e-2, 1e-1, 1.0),
    held_out: float = 0.2,
    seed: int = 0,
) -> ProbeResult:
    """Ridge regression on frozen features, in closed form.

        min_W  mean_i ||W x_i + b - y_i||^2 + strength ||W||^2

    Integer targets are classes: y_i is one-hot, the largest output is the prediction
    and the score is accuracy. Real targets are regressed and the score is R^2, the
    mean over columns.

    Args:
      train: training features.
      train_targets: classes [n], or real values [n] or [n, t].
      test: features to report on.
      test_targets: theirs.
      strengths: penalties to choose from, all above 0; a single one is taken as it is.
      held_out: fraction of the training rows that the penalty is selected on. Among
        equally good penalties the largest is taken.
      seed: seed of that split.

    Raises:
      ValueError: no strength or one not above 0, a held_out outside of (0, 1).

    Examples:
      >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
      >>> round(ridge_probe(x, 2 * x, x, 2 * x, strengths=(1e-6,)).score, 4)
      1.0
    """
    train, train_targets = _checked(train, train_targets, "train")
    test, test_targets = _checked(test, test_targets, "test")
    numerics.check_shapes(train=(train, "n d"), test=(test, "q d"))
    if train_targets.shape[1:] != test_targets.shape[1:]:
        raise ValueError(
            f"test_targets: expected columns {list(train_targets.shape[1:])} as in "
            f"train_targets, got {list(test_targets.shape[1:])}"
        )
    classes = None
    if np.issubdtype(train_targets.dtype, np.integer):
        if train_targets.ndim != 1:
            raise ValueError(
                f"train_targets: classes must have shape [n], got "
                f"{list(train_targets.shape)}"
            )
        classes = np.unique(train_targets)
    elif not np.issubdtype(train_targets.dtype, np.floating):
        raise TypeError(
            f"train_targets: expected integers or floating point, got "
            f"{train_targets.dtype}"
        )

    def fit(x, y, strengths, queries):
        """Predictions for the queries, one set per strength."""
        if classes is not None:
            y = (y[:, None] == classes[None, :]).astype(float)
        mean = np.mean(y, axis=0)
        # One eigendecomposition serves every strength; x has mean 0.
        values, vectors = np.linalg.eigh(x.T @ x / len(x))
        moments = vectors.T @ (x.T @ (y - mean) / len(x)).reshape(x.shape[1], -1)
        outputs = [
            queries @ (vectors @ (moments / (values[:, None] + strength)))
            for strength in strengths
        ]
        outputs = [(out.reshape(len(queries), *mean.shape) + mean) for out in outputs]
        if classes is None:
            return outputs
        return [classes[np.argmax(out, axis=-1)] for out in outputs]

    return _probe(
        fit,
        _r2 if classes is None else lambda a, b: float(np.mean(a == b)),
        (train, train_targets, test, test_targets),
        strengths,
        held_out,
        seed,
    )


def _checked(x, y, name):
    """Features as float64 and targets, with as many rows."""
    numerics.at_least_f32(x, name)
    x, y = np.asarray(x, np.float64), np.asarray(y)
    if x.ndim != 2 or y.ndim < 1 or len(x) != len(y) or not x.size:
        raise ValueError(
            f"{name}: expected features [n, d] and one target each, got shapes "
            f"{list(x.shape)} and {list(y.shape)}"
        )
    return x, y


def _standardize(x, *others):
    """Mean 0 and variance 1 by the columns of x; constant columns become 0."""
    mean, std = np.mean(x, axis=0), np.std(x, axis=0)
    # Rounding leaves a constant column a little spread.
    scale = np.where(_varies(x) & (std > 0), std, 1)
    return [(y - mean) / scale for y in (x, *others)]


def _r2(predicted, targets):
    """Coefficient of determination, the mean over columns.

    Of constant targets 1 minus the sum of squared errors.
    """
    residual = np.sum((targets - predicted) ** 2, axis=0)
    total = np.sum((targets - np.mean(targets, axis=0)) ** 2, axis=0)
    varies = _varies(targets) & (total > 0)
    return float(np.mean(1 - residual / np.where(varies, total, 1)))


def _varies(x):
    """Which columns hold different numbers."""
    return np.max(x, axis=0) > np.min(x, axis=0)


def _probe(
    fit: Callable,
    score: Callable,
    arrays: tuple[np.ndarray, ...],
    strengths: Sequence[float],
    held_out: float,
    seed: int,
) -> ProbeResult:
    """Chooses a strength on held-out training rows, then fits on all of them."""
    x, y, queries, targets = arrays
    strengths = sorted(strengths, reverse=True)
    if not strengths:
        raise ValueError("strengths: expected at least one, got none")
    numerics.check_positive(strengths=np.asarray(strengths))
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: expected a fraction in (0, 1), got {held_out}")
    best = 0
    if len(strengths) > 1:
        if len(x) < 2:
            raise ValueError("train: expected at least two rows to hold one out")
        order = np.random.default_rng(seed).permutation(len(x))
        cut = min(max(1, round(held_out * len(x))), len(x) - 1)
        test_rows, fit_rows = order[:cut], order[cut:]
        inner, outer = _standardize(x[fit_rows], x[test_rows])
        outputs = fit(inner, y[fit_rows], strengths, outer)
        best = int(np.argmax([score(out, y[test_rows]) for out in outputs]))
    x, queries = _standardize(x, queries)
    (predictions,) = fit(x, y, strengths[best : best + 1], queries)
    return ProbeResult(score(predictions, targets), strengths[best], predictions)
