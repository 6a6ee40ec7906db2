"""Nearest neighbors against a full sort in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import search


def rows(n, seed=0, d=6):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("chunk", [7, 64, 4096])
def test_neighbors_equal_a_full_sort(chunk):
    x, y = rows(50), rows(30, seed=1)
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
    x = rows(20)
    exclude = np.stack([np.arange(20), np.full(20, -1), (np.arange(20) + 1) % 20], 1)
    scores, indices = search.nearest_neighbors(x, x, k=18, exclude=exclude, chunk=chunk)
    for row, out in zip(indices.tolist(), exclude.tolist(), strict=True):
        assert sorted([*row, out[0], out[2]]) == list(range(20))
    scores, _ = search.nearest_neighbors(x, x, k=20, exclude=exclude, chunk=chunk)
    assert jnp.all(jnp.isneginf(scores[:, 18:])) and jnp.all(scores[:, :18] > -1e9)


def test_more_neighbors_than_candidates_are_refused():
    x = rows(10)
    with pytest.raises(ValueError, match="k: expected 1 to 10"):
        search.nearest_neighbors(x, x, k=11)


def test_empty_places_have_no_index():
    x = rows(5)
    exclude = np.tile(np.array([[0, 1, 3]], np.uint8), (2, 1))
    scores, indices = search.nearest_neighbors(x[:2], x, k=4, exclude=exclude)
    assert np.all(np.sort(indices[:, :2], axis=1) == [2, 4])
    assert np.all(indices[:, 2:] == -1) and np.all(np.isneginf(scores[:, 2:]))


@pytest.mark.parametrize("chunk", [1, 64, 4096])
def test_equal_candidates_have_one_score_for_one_query(chunk):
    candidates = np.tile(rows(1, d=17), (1001 if chunk > 1 else 9, 1))
    scores, indices = search.nearest_neighbors(
        rows(1, seed=1, d=17), candidates, k=len(candidates), chunk=chunk
    )
    assert len(np.unique(scores)) == 1
    np.testing.assert_array_equal(indices[0], np.arange(len(candidates)))


def test_excluded_numbers_out_of_range_are_refused_or_nobody():
    x = rows(4)
    for wrong in (4, -2, 2**33 + 1):
        with pytest.raises(ValueError, match=r"^exclude: "):
            search.nearest_neighbors(x, x, k=1, exclude=np.full((4, 1), wrong))
    run = jax.jit(lambda out: search.nearest_neighbors(x, x, k=4, exclude=out)[1])
    np.testing.assert_array_equal(
        run(jnp.full((4, 1), 9)), search.nearest_neighbors(x, x, k=4)[1]
    )
    with pytest.raises(ValueError, match=r"^chunk: expected at least 1"):
        search.nearest_neighbors(x, x, k=1, chunk=0)
