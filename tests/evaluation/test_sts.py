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
