"""F1 against scikit-learn, with ties, several classes and nothing to find."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_curve

from contrastive_jax import evaluation


@pytest.mark.parametrize("seed", range(3))
def test_f1_equals_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    labels, predictions = rng.integers(-1, 4, 40), rng.integers(-1, 5, 40)
    got = evaluation.macro_f1(predictions, labels)
    np.testing.assert_allclose(got, f1_score(labels, predictions, average="macro"))
    got = evaluation.binary_f1(predictions > 1, labels > 1)
    np.testing.assert_allclose(got, f1_score(labels > 1, predictions > 1))


@pytest.mark.parametrize("decimals", [0, 1, 8])
def test_best_f1_equals_the_best_of_all_thresholds(decimals):
    rng = np.random.default_rng(decimals)
    labels = rng.random(50) < 0.4
    scores = np.round(rng.normal(size=50) + labels, decimals)
    got = evaluation.best_f1(scores, labels)
    every = {t: f1_score(labels, scores >= t) for t in np.unique(scores)}
    np.testing.assert_allclose(got.f1, max(every.values()))
    first = min(t for t, f1 in every.items() if np.isclose(f1, got.f1, rtol=1e-12))
    assert got.threshold == first
    precision, recall, thresholds = precision_recall_curve(labels, scores)
    at = np.flatnonzero(thresholds == got.threshold)[0]
    np.testing.assert_allclose([got.precision, got.recall], [precision[at], recall[at]])


def test_one_class_only():
    none, all_true = np.zeros(4, bool), np.ones(4, bool)
    assert evaluation.binary_f1(none, none) == 0
    assert evaluation.binary_f1(none, all_true) == 0
    assert evaluation.best_f1(np.arange(4.0), none) == (0, 0, 0, np.inf)
    assert evaluation.best_f1(np.arange(4.0), all_true) == (1, 1, 1, 0)
    # A constant score says yes to all.
    half = np.array([True, False] * 3)
    assert evaluation.best_f1(np.zeros(6), half).f1 == pytest.approx(2 / 3)


def test_wrong_input_is_named(without_type_hooks):
    labels, scores = np.array([True, False]), np.array([1.0, np.nan])
    with pytest.raises(ValueError, match=r"^scores: expected real numbers"):
        evaluation.best_f1(scores, labels)
    with pytest.raises(TypeError, match=r"^labels: "):
        evaluation.best_f1(scores, labels.astype(int))
    with pytest.raises(ValueError, match=r"^labels: "):
        evaluation.macro_f1(np.zeros(3, int), np.zeros(2, int))


def test_classes_beyond_32_bits():
    # 2^32 + 1 is not 1: F1 of 1 is 2 / 3, of it 0, of 2 it is 1.
    predictions, labels = np.array([1, 2**32 + 1, 2]), np.array([1, 1, 2])
    got = evaluation.macro_f1(predictions, labels)
    np.testing.assert_allclose(got, (2 / 3 + 0 + 1) / 3, rtol=1e-12)
    # Signed and unsigned 64-bit numbers do not meet as floats.
    predictions = np.array([2**53 + 1, 2**53], np.uint64)
    assert evaluation.macro_f1(predictions, np.array([2**53, 2**53])) == 1 / 3
