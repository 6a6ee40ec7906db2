"""Votes of neighbors against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from contrastive_jax import evaluation


def data(n, seed=0, d=6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    centers = 1.5 * np.random.default_rng(99).normal(size=(4, d))
    return (centers[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("vote", ["weighted", "majority"])
@pytest.mark.parametrize("chunk", [16, 4096])
def test_votes_equal_scikit_learn(vote, chunk):
    (x, labels), (y, _) = data(120), data(40, seed=1)
    weights = {"weighted": lambda d: np.exp((1 - d) / 0.1), "majority": "uniform"}
    model = KNeighborsClassifier(9, metric="cosine", weights=weights[vote])
    want = model.fit(x, labels).predict(y)
    got = evaluation.knn_classify(
        x, labels, y, k=9, num_classes=4, temperature=0.1, vote=vote, chunk=chunk
    )
    np.testing.assert_array_equal(got, want)
    assert len(np.unique(want)) == 4


def test_both_votes_differ_where_they_should():
    # One close neighbor of class 1 against two distant ones of class 0.
    train = jnp.array([[1.0, 0.0], [0.1, 1.0], [0.0, 1.0]])
    labels, test = jnp.array([1, 0, 0]), jnp.array([[1.0, 0.05]])
    options = dict(k=3, num_classes=2)
    assert evaluation.knn_classify(train, labels, test, **options) == 1
    got = evaluation.knn_classify(train, labels, test, vote="majority", **options)
    assert got == 0


def test_small_temperature_is_the_nearest_neighbor():
    (x, labels), (y, _) = data(120), data(40, seed=1)
    options = dict(num_classes=4)
    got = evaluation.knn_classify(x, labels, y, k=50, temperature=1e-4, **options)
    want = evaluation.knn_classify(x, labels, y, k=1, **options)
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("vote", ["weighted", "majority"])
def test_nan_has_no_class(vote):
    (x, labels), (y, _) = data(30), data(6, seed=1)
    y[2, 0] = np.nan
    got = evaluation.knn_classify(x, labels, y, k=3, num_classes=4, vote=vote)
    assert np.flatnonzero(got < 0).tolist() == [2]


def test_half_precision_and_jit():
    (x, labels), (y, _) = data(60), data(20, seed=1)
    x, y = jnp.asarray(x, jnp.bfloat16), jnp.asarray(y, jnp.bfloat16)
    call = lambda x, y: evaluation.knn_classify(  # noqa: E731
        x, jnp.asarray(labels), y, k=3, num_classes=4
    )
    wide = call(x.astype(jnp.float32), y.astype(jnp.float32))
    np.testing.assert_array_equal(jax.jit(call)(x, y), wide)


def test_wrong_input_is_named():
    x, labels = data(10)
    with pytest.raises(ValueError, match="temperature: expected a finite number > 0"):
        evaluation.knn_classify(x, labels, x, k=1, num_classes=4, temperature=0.0)
    with pytest.raises(ValueError, match="train_labels: expected numbers in"):
        evaluation.knn_classify(x, labels, x, k=1, num_classes=2)
    with pytest.raises((TypeError, ValueError), match="vote"):
        evaluation.knn_classify(x, labels, x, k=1, num_classes=4, vote="loud")


def test_leave_one_out_asks_the_others():
    x, labels = data(60)
    x[7] = x[3]  # a twin is another row
    options = dict(k=5, num_classes=4, vote="majority")
    got = evaluation.knn_classify(x, labels, **options)
    for i in (0, 3, 7, 20):
        rest = np.arange(60) != i
        want = evaluation.knn_classify(x[rest], labels[rest], x[i : i + 1], **options)
        assert got[i] == want[0]
    with pytest.raises(ValueError, match=r"^k: expected 1 to 59"):
        evaluation.knn_classify(x, labels, k=60, num_classes=4)


def test_a_traced_class_out_of_range_has_no_vote():
    train = jnp.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    run = jax.jit(
        lambda labels: evaluation.knn_classify(
            train, labels, train, k=3, num_classes=2, temperature=10.0
        )
    )
    assert run(jnp.array([-1, 2, 1])).tolist() == [1, 1, 1]
    assert run(jnp.array([-1, 2, 9])).tolist() == [-1, -1, -1]
