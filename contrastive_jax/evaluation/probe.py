"""Linear readouts of frozen features: logistic regression and ridge regression.

scikit-learn's, on the host. Features are standardized with the statistics of the
training rows. The penalty is chosen on a held-out part of the training rows and never
on the test rows; the readout is then fitted again on all training rows. Features and
targets must be finite; classes are any integers below 2^63. A wrong dtype raises
TypeError and shapes that do not fit together ValueError, naming the argument.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Integer, Shaped
from sklearn.base import BaseEstimator
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression, Ridge, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from contrastive_jax import numerics
from contrastive_jax.evaluation import checks


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
    train_labels: Integer[Array | np.ndarray, " n"],
    test: Float[Array | np.ndarray, "q d"],
    test_labels: Integer[Array | np.ndarray, " q"],
    *,
    strengths: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1),
    held_out: float = 0.2,
    seed: int = 0,
) -> ProbeResult:
    """Accuracy of multinomial logistic regression on frozen features.

        min_W  mean_i cross_entropy(W x_i + b, y_i) + strength / 2 ||W||^2      (nats)

    with a row of W for each class, also of two. Solved by L-BFGS in float32, to a
    gradient of 1e-4; the bias is not penalized.

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
      ValueError: features that are not finite, no strength or one not above 0, a
        held_out outside of (0, 1), fewer than two classes.

    Examples:
      >>> x = np.array([[-2.0], [-1.0], [1.0], [2.0]])
      >>> y = np.array([0, 0, 1, 1])
      >>> linear_probe(x, y, x, y, strengths=(0.1,)).score
      1.0
    """
    numerics.check_shapes(
        train=(train, "n d"),
        train_labels=(train_labels, "n"),
        test=(test, "q d"),
        test_labels=(test_labels, "q"),
    )
    train_labels = checks.integers(train_labels, "train_labels")
    test_labels = checks.integers(test_labels, "test_labels")
    if len(np.unique(train_labels)) < 2:
        raise ValueError("train_labels: expected at least two classes, got one")
    arrays = (
        checks.features(train, "train"),
        train_labels,
        checks.features(test, "test"),
        test_labels,
    )
    return _probe(LogisticReadout(), _accuracy, arrays, strengths, held_out, seed)


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
    """Accuracy or R^2 of ridge regression on frozen features.

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
      ValueError: features or targets that are not finite, no strength or one not above
        0, a held_out outside of (0, 1).

    Examples:
      >>> x = np.array([[0.0], [1.0], [2.0], [3.0]])
      >>> round(ridge_probe(x, 2 * x, x, 2 * x, strengths=(1e-6,)).score, 4)
      1.0
    """
    columns = " t" * (np.ndim(train_targets) - 1)
    numerics.check_shapes(
        train=(train, "n d"),
        train_targets=(train_targets, "n" + columns),
        test=(test, "q d"),
        test_targets=(test_targets, "q" + columns),
    )
    targets = checks.on_host(train_targets, "train_targets")
    of_classes = jnp.issubdtype(targets.dtype, jnp.integer)
    if targets.ndim > (1 if of_classes else 2):
        raise ValueError(
            f"train_targets: expected classes [n] or real values [n] or [n, t], got "
            f"{targets.dtype}{list(targets.shape)}"
        )
    check = checks.integers if of_classes else checks.features
    arrays = (
        checks.features(train, "train"),
        check(train_targets, "train_targets"),
        checks.features(test, "test"),
        check(test_targets, "test_targets"),
    )
    readout = RidgeReadout(RidgeClassifier if of_classes else Ridge)
    score = _accuracy if of_classes else _r2
    return _probe(readout, score, arrays, strengths, held_out, seed)


class LogisticReadout(BaseEstimator):
    """`LogisticRegression` whose penalty does not depend on the number of rows."""

    def __init__(self, strength: float = 1.0, tol: float = 1e-4):
        self.strength = strength
        self.tol = tol

    def fit(self, x, y):
        num_classes = len(np.unique(y))
        # scikit-learn keeps one row of weights for two classes, the difference of ours,
        # whose squared length is twice the sum of theirs.
        share = 2 if num_classes == 2 else 1
        inverse = share / (self.strength * len(x))
        model = LogisticRegression(C=inverse, max_iter=1000, tol=self.tol)
        if num_classes == 1:  # a held-out split may leave a single class
            model = DummyClassifier()
        self.model_ = model.fit(x.astype(np.float32), y)
        return self

    def predict(self, x):
        return self.model_.predict(x.astype(np.float32))


class RidgeReadout(BaseEstimator):
    """`Ridge` or `RidgeClassifier`, whose penalty does not depend on how many rows."""

    def __init__(self, kind: type, strength: float = 1.0, tol: float = 1e-4):
        self.kind = kind
        self.strength = strength
        self.tol = tol

    def fit(self, x, y):
        model = self.kind(alpha=self.strength * len(x), tol=self.tol)
        self.model_, self.columns_ = model.fit(x, y), y.shape[1:]
        return self

    def predict(self, x):
        # scikit-learn drops the axis of a single column.
        return self.model_.predict(x).reshape(len(x), *self.columns_)


def _accuracy(predicted, targets):
    """Fraction of equal classes."""
    return float(np.mean(predicted == targets))


def _r2(predicted, targets):
    """Coefficient of determination, the mean over columns.

    Unlike scikit-learn's, of constant targets 1 minus the sum of squared errors.
    """
    residual = np.sum((targets - predicted) ** 2, axis=0)
    total = np.sum((targets - np.mean(targets, axis=0)) ** 2, axis=0)
    # Rounding leaves a constant column a little spread.
    varies = (np.max(targets, axis=0) > np.min(targets, axis=0)) & (total > 0)
    return float(np.mean(1 - residual / np.where(varies, total, 1)))


def _probe(
    readout: Any,
    score: Callable,
    arrays: tuple[np.ndarray, ...],
    strengths: Sequence[float],
    held_out: float,
    seed: int,
) -> ProbeResult:
    """Chooses a strength on held-out training rows, then fits on all of them."""
    x = arrays[0]
    strengths = sorted(strengths, reverse=True)  # of equally good ones the first wins
    if not strengths:
        raise ValueError("strengths: expected at least one, got none")
    numerics.check_positive(strengths=np.asarray(strengths))
    if not 0 < held_out < 1:
        raise ValueError(f"held_out: expected a fraction in (0, 1), got {held_out}")
    with checks.few_threads(x):
        return _fit_best(readout, score, arrays, strengths, held_out, seed)


def _fit_best(readout, score, arrays, strengths, held_out, seed) -> ProbeResult:
    """`_probe` of checked arguments; strengths from the largest to the smallest."""
    x, y, queries, targets = arrays
    pipeline = Pipeline([("scale", StandardScaler()), ("readout", readout)])
    best = strengths[0]
    if len(strengths) > 1:
        if len(x) < 2:
            raise ValueError("train: expected at least two rows to hold one out")
        order = np.random.default_rng(seed).permutation(len(x))
        cut = min(max(1, round(held_out * len(x))), len(x) - 1)
        # To choose a penalty a rough solution does; half of the time goes there.
        options: dict[str, Any] = dict(refit=False, error_score="raise")
        search = GridSearchCV(
            pipeline.set_params(readout__tol=1e-3),
            {"readout__strength": strengths},
            scoring=lambda model, x, y: score(model.predict(x), y),
            cv=[(order[cut:], order[:cut])],
            **options,
        )
        best = search.fit(x, y).best_params_["readout__strength"]
    pipeline.set_params(readout__strength=best, readout__tol=1e-4)
    predictions = pipeline.fit(x, y).predict(queries)
    return ProbeResult(score(predictions, targets), best, predictions)
