"""Neighbors against numpy, votes against scikit-learn."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from contrastive_jax import evaluation, search


def data(n, seed=0, d=6):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, n)
    centers = 1.5 * np.random.default_rng(99).normal(size=(4, d))
    return (centers[labels] + rng.normal(size=(n, d))).astype(np.float32), labels


@pytest.mark.parametrize("chunk", [7, 64, 4096])
def test_neighbors_equal_a_full_sort(chunk):
    (x, _), (y, _) = data(50), data(30, seed=1)
    scores, indices = search.nearest_neighbors(y, x, k=5, chunk=chunk)
    full = y @ x.T
    want = np.argsort(-full, axis=1, kind="stable")[:, :5]
    np.testing.assert_array_equal(indices, want)
    np.testing.assert_allclose(scores, np.take_along_axis(full, want, 1), rtol=1e-5)


@pytest.mark.parametrize("chunk", [3, 100])
def test_equal_scores_go_by_index(chunk):
    candidates = jnp.ones((10, 2)).at[4].set(2.0)
    _, indices = search.nearest_neighbors(
        jnp.ones((1, 2)), candidates, k=10, chunk=chunk
    )
    assert indices[0].tolist() == [4, 0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_zero_and_minus_zero_are_equal_scores():
    candidates = jnp.array([[-1.0], [2.0], [-3.0]])  # times 0: -0, 0, -0
    _, indices = search.nearest_neighbors(jnp.zeros((1, 1)), candidates, k=3)
    assert indices[0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("chunk", [6, 100])
def test_excluded_candidates_do_not_return(chunk):
    x, _ = data(20)
    exclude = np.stack([np.arange(20), np.full(20, -1), (np.arange(20) + 1) % 20], 1)
    scores, indices = search.nearest_neighbors(x, x, k=18, exclude=exclude, chunk=chunk)
    for row, out in zip(indices.tolist(), exclude.tolist(), strict=True):
        assert sorted([*row, out[0], out[2]]) == list(range(20))
    scores, _ = search.nearest_neighbors(x, x, k=20, exclude=exclude, chunk=chunk)
    assert jnp.all(jnp.isneginf(scores[:, 18:])) and jnp.all(scores[:, :18] > -1e9)


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
    with pytest.raises(ValueError, match="k: expected 1 to 10"):
        search.nearest_neighbors(x, x, k=11)
    with pytest.raises(ValueError, match="temperature: expected a finite number > 0"):
        evaluation.knn_classify(x, labels, x, k=1, num_classes=4, temperature=0.0)
    with pytest.raises(ValueError, match="train_labels: expected numbers in"):
        evaluation.knn_classify(x, labels, x, k=1, num_classes=2)
    with pytest.raises((TypeError, ValueError), match="vote"):
        evaluation.knn_classify(x, labels, x, k=1, num_classes=4, vote="loud")
