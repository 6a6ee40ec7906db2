"""Diagnostics of embeddings in closed form and against numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import evaluation


def data(n=30, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def unit(x):
    return x / np.linalg.norm(x, axis=1, keepdims=True)


@pytest.mark.parametrize("alpha", [1.0, 2.0])
def test_alignment(transform, alpha):
    x, y = data(), data(seed=1)
    want = np.mean(np.linalg.norm(unit(x) - unit(y), axis=1) ** alpha)
    got = transform(lambda x, y: evaluation.alignment(x, y, alpha=alpha))(x, y)
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("chunk", [7, 1024])
def test_uniformity_equals_the_mean_over_pairs(chunk):
    x = data()
    z = unit(x)
    square = np.sum((z[:, None] - z[None]) ** 2, axis=-1)[np.triu_indices(30, 1)]
    got = jax.jit(lambda t: evaluation.uniformity(x, t=t, chunk=chunk))(2.0)
    np.testing.assert_allclose(got, np.log(np.mean(np.exp(-2 * square))), rtol=1e-5)


def test_uniformity_of_one_direction_is_0():
    x = np.ones((4, 3), np.float32) * np.arange(1, 5, dtype=np.float32)[:, None]
    np.testing.assert_allclose(evaluation.uniformity(x), 0.0, atol=1e-6)
    assert evaluation.uniformity(np.ones((999, 3), np.float32)) <= 0
    with pytest.raises(ValueError, match="x: expected at least two rows, got 1"):
        evaluation.uniformity(x[:1])


def test_uniformity_of_rows_at_the_origin():
    x = np.array([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], np.float32)
    want = np.log((1 + 2 * np.exp(-2.0)) / 3)
    np.testing.assert_allclose(evaluation.uniformity(x), want, rtol=1e-6)


def test_average_cosine_equals_the_mean_over_pairs(transform):
    x = data() + 1
    cosines = unit(x) @ unit(x).T
    want = np.mean(cosines[~np.eye(30, dtype=bool)])
    got = transform(evaluation.average_cosine)(jnp.asarray(x))
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_isotropy_by_its_definition(transform):
    x = data() * np.array([1, 1, 2, 0.5, 1], np.float32) + 0.3
    _, vectors = np.linalg.eigh(x.T @ x)
    partition = np.exp(x @ np.concatenate([vectors, -vectors], axis=1)).sum(axis=0)
    got = transform(evaluation.isotropy)(jnp.asarray(x))
    np.testing.assert_allclose(got, partition.min() / partition.max(), rtol=1e-4)
    assert evaluation.isotropy(1e3 * x) >= 0  # no overflow on the way
    np.testing.assert_allclose(evaluation.isotropy(0 * x), 1.0)


@pytest.mark.parametrize("rank", [1, 3, 5])
def test_ranks_of_orthogonal_directions(transform, rank):
    basis = np.linalg.qr(data(30, 30))[0][:, :rank]
    x = jnp.asarray(7 * basis @ np.linalg.qr(data(5, 5))[0][:rank])
    got = transform(evaluation.effective_rank)(x)
    np.testing.assert_allclose(got, rank, rtol=1e-3)
    assert transform(evaluation.numerical_rank)(x) == rank


def test_effective_rank_of_unequal_directions():
    # Singular values 3 and 1: p = (3/4, 1/4).
    want = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    got = evaluation.effective_rank(jnp.diag(jnp.array([3.0, 1.0])))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_effective_rank_stays_in_its_range():
    for size in (1.0, 1e-25, 1e25):
        x = jnp.float32(size) * jnp.eye(512)
        rank = evaluation.effective_rank(x)
        assert rank <= 512
        np.testing.assert_allclose(rank, 512, rtol=1e-5)
    assert evaluation.effective_rank(jnp.zeros((4, 3))) == 1
    assert evaluation.effective_rank(jnp.ones((50, 30))) >= 1


def test_numerical_rank_tolerance():
    x = jnp.diag(jnp.array([1.0, 1e-2, 1e-4]))
    assert evaluation.numerical_rank(x) == np.linalg.matrix_rank(x) == 3
    assert evaluation.numerical_rank(x, tol=1e-3) == 2
    assert evaluation.numerical_rank(0 * x) == 0


def test_collapse_std():
    x = data(4000, 16)
    np.testing.assert_allclose(evaluation.collapse_std(x), 1 / 4, rtol=0.01)
    np.testing.assert_allclose(
        evaluation.collapse_std(x[:1].repeat(9, 0)), 0, atol=1e-7
    )
    want = np.mean(np.std(unit(x), axis=0))
    np.testing.assert_allclose(evaluation.collapse_std(x), want, rtol=1e-5)


def test_zero_rows_are_finite():
    x = jnp.zeros((4, 3))
    for measure in (
        evaluation.average_cosine,
        evaluation.collapse_std,
        evaluation.effective_rank,
        evaluation.uniformity,
    ):
        assert jnp.isfinite(measure(x))


def test_wrong_input_is_named():
    with pytest.raises((TypeError, ValueError), match="x"):
        evaluation.effective_rank(jnp.ones(3))
    with pytest.raises(ValueError, match="t: expected a finite number > 0"):
        evaluation.uniformity(jnp.ones((3, 2)), t=0.0)
