"""Transforms of embeddings against scipy and against what made the data."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from scipy.spatial.transform import Rotation

from contrastive_jax import transforms

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


def test_calibrate_standardizes_each_group():
    groups = np.array([5, -1, 5, 5, -1, -1, 5, 2])
    x = RNG.normal(size=(8, 3)) + groups[:, None]
    y = transforms.calibrate(x, groups)
    for group in (5, -1):
        close(y[groups == group].mean(axis=0), 0)
        close(y[groups == group].std(axis=0), 1)
    close(y[groups == 2], 0)  # one row has no variance
    unbiased = transforms.calibrate(x, groups, ddof=1)
    close(unbiased[groups == 5].std(axis=0, ddof=1), 1)
    close(unbiased[groups == 2], 0)
    shifted = transforms.calibrate(x, groups, scale=False)
    close(shifted[groups == 5], x[groups == 5] - x[groups == 5].mean(axis=0))


def test_calibrate_makes_a_constant_channel_0():
    x = np.full((29, 1), 0.1)
    assert np.std(x, axis=0) > 0  # by rounding
    assert not transforms.calibrate(x, np.zeros(29, int)).any()


def test_calibrate_keeps_the_precision():
    x, groups = normal(4, 2), np.zeros(4, int)
    assert transforms.calibrate(x, groups).dtype == np.float32
    half = x.astype(jnp.bfloat16)
    assert transforms.calibrate(half, groups).dtype == np.float32
    assert transforms.calibrate(np.asarray(x, "f8"), groups).dtype == np.float64


def test_calibrate_leaves_out_rows_that_are_not_finite():
    groups = np.array([0, 0, 0, 1, 1, 2])
    x = np.array([[1.0], [3.0], [np.nan], [np.inf], [4.0], [np.nan]])
    y = transforms.calibrate(x, groups)[:, 0]
    np.testing.assert_array_equal(y, [-1, 1, np.nan, np.nan, 0, np.nan])


def test_calibrate_tells_groups_beyond_32_bits_apart():
    groups = np.array([1, 2**32 + 1, 1, 2**32 + 1])
    y = transforms.calibrate(np.array([[1.0], [10.0], [3.0], [30.0]]), groups)
    np.testing.assert_allclose(y[:, 0], [-1, -1, 1, 1])


def test_rotation_equals_scipy(transform):
    source, target = normal(9, 4), normal(9, 4)
    got = transform(transforms.procrustes_rotation)(source, target)
    close(got, scipy.linalg.orthogonal_procrustes(source, target)[0])


def test_rotation_without_reflection_equals_scipy():
    source = normal(6, 3)
    mirrored = source * jnp.array([[1.0, 1.0, -1.0]]) + 0.1 * normal(6, 3)
    free = transforms.procrustes_rotation(source, mirrored)
    close(jnp.linalg.det(free), -1)
    got = transforms.procrustes_rotation(source, mirrored, reflection=False)
    want = Rotation.align_vectors(mirrored, source)[0].as_matrix().T
    close(got, want, 1e-4)


def test_alignment_undoes_a_similarity():
    y = normal(7, 3)
    turn = jnp.asarray(Rotation.from_rotvec([0.3, -1.0, 0.5]).as_matrix(), jnp.float32)
    moved = 2.5 * y @ turn + jnp.array([[1.0, -2.0, 3.0]])
    close(transforms.procrustes_align(moved, y), y, 1e-4)
    mirrored = moved * jnp.array([[-1.0, 1.0, 1.0]])
    got = transforms.procrustes_align(mirrored, y, reflection=True)
    close(got, y, 1e-4)
    assert jnp.max(jnp.abs(transforms.procrustes_align(mirrored, y) - y)) > 0.1
    assert jnp.max(jnp.abs(transforms.procrustes_align(moved, y, scale=False) - y)) > 1


def test_alignment_is_the_best_of_its_kind(transform):
    x, y = normal(5, 2), normal(5, 2)
    best = np.asarray(transform(transforms.procrustes_align)(x, y))
    y, residual = np.asarray(y), np.sum((best - y) ** 2)
    centered = best - np.mean(best, axis=0)
    for angle, factor, shift in ((0.02, 1, 0), (0, 1.02, 0), (0, 1, 0.02)):
        c, s = np.cos(angle), np.sin(angle)
        other = factor * centered @ [[c, s], [-s, c]] + np.mean(best, axis=0) + shift
        assert np.sum((other - y) ** 2) > residual


def test_points_that_coincide_are_finite():
    got = jax.vmap(transforms.procrustes_align)(jnp.ones((1, 4, 3)), normal(1, 4, 3))
    assert np.all(np.isfinite(got))


def test_ica_finds_the_sources():
    sources = RNG.laplace(size=(3000, 3))
    mixed = sources @ RNG.normal(size=(3, 3)) + 5
    y = transforms.fast_ica(mixed, seed=0)
    close(y.T @ y / len(y), np.eye(3), 1e-6)
    correlation = np.abs(np.corrcoef(y.T, sources.T)[:3, 3:])
    assert np.all(np.sort(correlation.max(axis=1)) > 0.99)
    assert sorted(correlation.argmax(axis=1)) == [0, 1, 2]
    np.testing.assert_array_equal(y, transforms.fast_ica(mixed, seed=0))
    assert transforms.fast_ica(mixed, seed=0, num_components=2).shape == (3000, 2)


def test_wrong_input_is_named(without_type_hooks):
    x = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"^groups: "):
        transforms.calibrate(x, np.zeros(2, int))
    with pytest.raises(ValueError, match=r"^target: "):
        transforms.procrustes_rotation(x, x[:2])
    with pytest.raises(ValueError, match=r"^num_components: "):
        transforms.fast_ica(x, seed=0, num_components=3)
    with pytest.raises(ValueError, match=r"^x: expected at least 2 rows"):
        transforms.fast_ica(x[:1], seed=0)
    with pytest.raises(TypeError, match=r"^x: "):
        transforms.fast_ica(x.astype(int), seed=0)
