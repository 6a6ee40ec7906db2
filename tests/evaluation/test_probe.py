"""Probes against scikit-learn, and that the test rows choose nothing."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import logsumexp, softmax
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from contrastive_jax import evaluation
from contrastive_jax.evaluation import probe


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    return x[:600], y[:600], x[600:1000], y[600:1000]


def standardized(train, test):
    scaler = StandardScaler().fit(train)
    return scaler.transform(train), scaler.transform(test)


def test_linear_probe_equals_scikit_learn(digits):
    train, labels, test, test_labels = digits
    got = evaluation.linear_probe(*digits, strengths=(1e-2,))
    x, queries = standardized(train, test)
    model = LogisticRegression(C=1 / (1e-2 * 600), max_iter=2000, tol=1e-8)
    want = model.fit(x, labels).predict(queries)
    assert np.mean(got.predictions != want) < 0.01
    assert got.strength == 1e-2 and got.score > 0.9
    assert got.score == np.mean(got.predictions == test_labels)


def test_digits_linear_probe_chooses_and_repeats(digits):
    options = dict(strengths=(1e-3, 1e-1, 1e4))
    got = evaluation.linear_probe(*digits, **options)
    assert got.strength < 1e4 and got.score > 0.9
    again = evaluation.linear_probe(*digits, **options)
    np.testing.assert_array_equal(got.predictions, again.predictions)


@pytest.mark.parametrize("probe", [evaluation.linear_probe, evaluation.ridge_probe])
def test_test_labels_choose_nothing(digits, probe):
    train, labels, test, test_labels = digits
    options = dict(strengths=(1e-3, 1.0))
    want = probe(train, labels, test, test_labels, **options)
    got = probe(train, labels, test, (test_labels + 1) % 10, **options)
    assert got.strength == want.strength
    np.testing.assert_array_equal(got.predictions, want.predictions)
    assert got.score < want.score


@pytest.mark.parametrize("probe", [evaluation.linear_probe, evaluation.ridge_probe])
def test_scale_and_constant_columns_do_not_matter(digits, probe):
    train, labels, test, test_labels = digits
    want = probe(*digits, strengths=(1e-2,))

    def change(x):
        return np.concatenate([5 * x + 3, np.full((len(x), 1), 7.0)], axis=1)

    got = probe(change(train), labels, change(test), test_labels, strengths=(1e-2,))
    assert np.mean(got.predictions != want.predictions) < 0.01


@pytest.mark.parametrize("columns", [None, 3])
def test_ridge_regression_equals_scikit_learn(columns):
    rng = np.random.default_rng(0)
    train, test = rng.normal(size=(80, 5)), rng.normal(size=(30, 5))
    shape = (5,) if columns is None else (5, columns)
    weights = rng.normal(size=shape)
    y, z = train @ weights + 2, test @ weights + 2
    y = y + rng.normal(size=y.shape)
    got = evaluation.ridge_probe(train, y, test, z, strengths=(0.3,))
    x, queries = standardized(train, test)
    want = Ridge(alpha=0.3 * 80).fit(x, y).predict(queries)
    np.testing.assert_allclose(got.predictions, want, rtol=1e-8)
    np.testing.assert_allclose(got.score, r2_score(z, want), rtol=1e-8)


def test_rounding_gives_a_constant_no_weight():
    rng = np.random.default_rng(0)
    x, queries = rng.normal(size=(2, 29, 2))
    labels, expected = (x[:, 0] > 1).astype(int), (queries[:, 0] > 1).astype(int)
    want = evaluation.linear_probe(x, labels, queries, expected, strengths=(1e-3,))
    x, queries = (np.c_[a, np.full(29, 0.1)] for a in (x, queries))
    assert np.std(x, axis=0)[2] > 0
    queries[:, 2] += 1e-8
    got = evaluation.linear_probe(x, labels, queries, expected, strengths=(1e-3,))
    np.testing.assert_array_equal(got.predictions, want.predictions)
    assert 0 < np.mean(got.predictions) < 0.5


def test_constant_targets_score_by_their_squared_errors():
    x = np.linspace(-1, 1, 29)[:, None]
    constant = np.full(29, 0.1)
    result = evaluation.ridge_probe(x, x[:, 0], x, constant, strengths=(1e-6,))
    want = 1 - np.sum((x[:, 0] - 0.1) ** 2)
    np.testing.assert_allclose(result.score, want, rtol=1e-4)


def test_ridge_chooses_the_strength_that_holds_out_best():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 40)), rng.normal(size=60)  # nothing to learn
    got = evaluation.ridge_probe(x, y, x, y, strengths=(1e-3, 1e3))
    assert got.strength == 1e3
    y = x @ rng.normal(size=40)  # no noise
    got = evaluation.ridge_probe(x, y, x, y, strengths=(1e-6, 1.0, 1e3))
    assert got.strength == 1e-6


def test_ridge_classes_keep_their_names(digits):
    train, labels, test, test_labels = digits
    got = evaluation.ridge_probe(train, labels - 100, test, test_labels - 100)
    assert got.score > 0.85 and got.predictions.max() < 0


def test_wrong_input_is_named(digits):
    train, labels, test, test_labels = digits
    with pytest.raises(ValueError, match="strengths: expected a finite number > 0"):
        evaluation.linear_probe(*digits, strengths=(0.0,))
    with pytest.raises(ValueError, match="strengths: expected at least one"):
        evaluation.ridge_probe(*digits, strengths=())
    with pytest.raises(ValueError, match="held_out: expected a fraction"):
        evaluation.linear_probe(*digits, held_out=1.5)
    with pytest.raises(ValueError, match="train_labels: expected at least two"):
        evaluation.linear_probe(train, np.zeros(600, int), test, test_labels)
    with pytest.raises((TypeError, ValueError), match="test"):
        evaluation.ridge_probe(train, labels, test[:, :3], test_labels)


@pytest.mark.parametrize("num_classes", [2, 3])
def test_linear_probe_solves_the_penalty_of_its_docstring(num_classes):
    rng = np.random.default_rng(0)
    x = StandardScaler().fit_transform(rng.normal(size=(60, 3)))
    y = np.argmax(x[:, :num_classes] + rng.normal(size=(60, num_classes)), axis=1)
    strength = 0.3

    def objective(parameters):
        weights, bias = np.split(parameters, [3 * num_classes])
        weights = weights.reshape(num_classes, 3)
        logits = x @ weights.T + bias
        losses = logsumexp(logits, axis=1) - logits[np.arange(60), y]
        return np.mean(losses) + strength / 2 * np.sum(weights**2)

    best = minimize(objective, np.zeros(4 * num_classes), tol=1e-10).x
    weights, bias = np.split(best, [3 * num_classes])
    model = probe.LogisticReadout(strength, tol=1e-8).fit(x, y).model_
    logits = x @ weights.reshape(num_classes, 3).T + bias
    want = softmax(logits, axis=1)
    np.testing.assert_allclose(model.predict_proba(x.astype("f4")), want, atol=1e-3)
    got = evaluation.linear_probe(x, y, x, y, strengths=(strength,))
    np.testing.assert_array_equal(got.predictions, np.argmax(logits, axis=1))


@pytest.mark.parametrize("name", ["linear_probe", "ridge_probe"])
def test_nan_is_no_class(digits, name):
    train, labels, test, test_labels = digits
    broken = test.copy()
    broken[3, 0] = np.nan
    measure = getattr(evaluation, name)
    with pytest.raises(ValueError, match=r"^test: expected finite numbers"):
        measure(train, labels, broken, test_labels)
    with pytest.raises(ValueError, match=r"^train: expected finite numbers"):
        measure(np.where(train == 0, np.inf, train), labels, test, test_labels)
    if name == "ridge_probe":
        with pytest.raises(ValueError, match=r"^train_targets: expected finite"):
            measure(train, np.full(600, np.nan), test, test_labels.astype(float))


def test_one_column_of_targets_keeps_its_axis():
    x = np.linspace(-1, 1, 20)[:, None]
    got = evaluation.ridge_probe(x, 3 * x, x, 3 * x, strengths=(1e-9, 1e-6))
    assert got.predictions.shape == (20, 1) and got.score > 0.999


def test_a_class_that_the_held_out_split_lacks(digits):
    # 13 rows of one class and one of another.
    x = np.arange(14.0)[:, None]
    y = (x[:, 0] == 13).astype(int)
    for measure in (evaluation.linear_probe, evaluation.ridge_probe):
        for seed in range(3):
            assert measure(x, y, x, y, seed=seed).score >= 13 / 14
