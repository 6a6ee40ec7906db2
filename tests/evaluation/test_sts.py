"""Correlations against scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from contrastive_jax import evaluation


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("ties", [False, True])
def test_equal_scipy(seed, ties):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 5, 40) if ties else rng.normal(size=40)
    y = x + 2 * rng.normal(size=40)
    y = np.round(y) if ties else y
    want = scipy.stats.spearmanr(x, y).statistic
    np.testing.assert_allclose(evaluation.spearman(x, y), want, rtol=1e-12)
    want = scipy.stats.pearsonr(x, y).statistic
    np.testing.assert_allclose(evaluation.pearson(x, y), want, rtol=1e-12)


def test_any_increasing_map_keeps_spearman():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=30), rng.normal(size=30)
    want = evaluation.spearman(x, y)
    np.testing.assert_allclose(evaluation.spearman(np.exp(x), y**3), want, rtol=1e-12)


def test_constants_and_extremes_are_finite():
    x = np.arange(5.0)
    assert evaluation.spearman(x, np.ones(5)) == 0.0
    assert evaluation.pearson(np.ones(5), x) == 0.0
    np.testing.assert_allclose(evaluation.pearson(1e200 * x, 1e-200 * x), 1.0)
    np.testing.assert_allclose(evaluation.pearson(4e307 * x, x), 1.0)


def test_nan_is_not_hidden():
    x, y = np.array([np.nan, 1.0, 2.0, 3.0]), np.arange(4.0)
    for measure in (evaluation.spearman, evaluation.pearson):
        assert np.isnan(measure(x, y)) and np.isnan(measure(y, x))
        assert np.isnan(measure(np.ones(4), x))


def test_embeddings():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 25, 8)).astype(np.float32)
    gold = rng.uniform(0, 5, 25)
    cosines = [
        x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in zip(a, b, strict=True)
    ]
    got = evaluation.sts_correlations(jnp.asarray(a), jnp.asarray(b), gold)
    want = scipy.stats.spearmanr(cosines, gold).statistic
    np.testing.assert_allclose(got["spearman"], want, rtol=1e-6)
    want = scipy.stats.pearsonr(cosines, gold).statistic
    np.testing.assert_allclose(got["pearson"], want, rtol=1e-4)
    zero = evaluation.sts_correlations(0 * a, b, gold)
    assert zero == {"spearman": 0.0, "pearson": 0.0}


def test_wrong_input_is_named():
    with pytest.raises((TypeError, ValueError), match="y"):
        evaluation.spearman(np.ones(3), np.ones(4))


def test_a_common_offset_costs_no_digits():
    x, y = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 3.0, 2.0, 4.0])
    for offset in (1e4, 1e9, 1e15):
        for got in (
            evaluation.pearson(offset + x, y),
            evaluation.pearson(y, x - offset),
            evaluation.pearson(offset + x, offset + y),
        ):
            np.testing.assert_allclose(got, 0.8, rtol=1e-14)
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, (2, 997)).astype(float)
    want = evaluation.pearson(x, y)
    np.testing.assert_allclose(evaluation.pearson(1e15 + x, y), want, rtol=1e-12)


def test_integers_of_any_size_have_ranks():
    x = np.array([1, 3, 2, 4]) + 2**60
    np.testing.assert_allclose(evaluation.spearman(x, np.arange(4)), 0.8)
    with pytest.raises(ValueError, match=r"^x: expected integers of at most 2\^53"):
        evaluation.pearson(x, np.arange(4))


def test_parallel_pairs_have_one_rank():
    # Cosines of 1, of which rounding makes 1 - 1e-16.
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 8))
    b = a * rng.uniform(0.1, 9, (50, 1))
    assert evaluation.sts_correlations(a, b, np.arange(50.0)) == {
        "spearman": 0.0,
        "pearson": 0.0,
    }
    long = evaluation.sts_correlations(1e200 * a, 1e-200 * a[::-1], np.arange(50.0))
    want = evaluation.sts_correlations(a, a[::-1], np.arange(50.0))
    assert long == pytest.approx(want, abs=1e-12)
