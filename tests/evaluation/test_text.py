"""Measures of text by hand: n-grams, pairs of tokens, divergence curves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import evaluation, parallel

TEXT = np.array([[1, 2, 1, 2, 1, 2], [3, 3, 3, 4, 5, 6]])
RNG = np.random.default_rng(0)


def test_repetition_by_hand():
    # 12 21 12 21 12 and 33 33 34 45 56: five pairs each, 2 and 4 of them different.
    assert evaluation.repetition(TEXT, 2) == pytest.approx(1 - 6 / 10)
    # Without the last one: 2 of 4 and 3 of 4.
    official = evaluation.repetition(TEXT, 2, drop_last_ngram=True)
    assert official == pytest.approx(1 - 5 / 8)
    assert evaluation.repetition(TEXT, 1) == pytest.approx(1 - 6 / 12)
    assert evaluation.repetition(TEXT, 6) == 0
    # Of texts too short for an n-gram nothing is repeated.
    for drop in (False, True):
        assert evaluation.repetition(TEXT, 7, drop_last_ngram=drop) == 0
    with pytest.raises(ValueError, match="n: expected at least 1, got 0"):
        evaluation.repetition(TEXT, 0)


def test_ngrams_of_masked_tokens_do_not_count():
    where = np.arange(6)[None, :] < np.array([[4], [1]])
    # 12 21 12 of the first text, nothing of the second.
    assert evaluation.repetition(TEXT, 2, where=where) == pytest.approx(1 / 3)
    garbage = np.where(where, TEXT, 9)
    assert evaluation.repetition(garbage, 2, where=where) == pytest.approx(1 / 3)
    # A hole: the tokens beside it are no pair.
    hole = np.ones((1, 6), bool)
    hole[0, 2] = False
    assert evaluation.repetition(TEXT[:1], 2, where=hole) == pytest.approx(1 / 3)


def test_diversity_is_the_product():
    want = np.prod([1 - evaluation.repetition(TEXT, n) for n in (2, 3, 4)])
    assert evaluation.diversity(TEXT) == pytest.approx(want)
    assert 0 < want < 1
    assert evaluation.diversity(np.arange(9)[None]) == 1
    assert evaluation.diversity(np.zeros((1, 99), int)) < 1e-5


def test_coherence_is_the_mean_of_the_means():
    log_probs = np.array([[-1.0, -3.0, np.nan], [-8.0, np.nan, np.nan], 3 * [np.nan]])
    where = np.arange(3)[None, :] < np.array([[2], [1], [0]])
    got = evaluation.coherence(log_probs, where=where)
    assert got == pytest.approx((-2.0 - 8.0) / 2)


def cosines(rows):
    units = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    square = units @ units.T
    return square.sum() - np.trace(square)


def test_isotropy_over_batches_and_devices():
    hidden = RNG.normal(size=(8, 5, 3)).astype(np.float32) + 0.5
    lengths = np.array([5, 4, 3, 2, 1, 0, 5, 5])
    where = np.arange(5)[None, :] < lengths[:, None]
    total = sum(
        cosines(h[:n].astype(float)) for h, n in zip(hidden, lengths, strict=True)
    )
    count = (lengths * (lengths - 1)).sum()
    hidden[~where] = 1e6
    got = evaluation.token_isotropy(hidden, where)
    np.testing.assert_allclose(got.total, total, rtol=1e-5)
    assert got.count == count
    np.testing.assert_allclose(got.isotropy(), 1 - total / count, rtol=1e-5)

    def split(hidden, where):
        sums = parallel.psum(evaluation.token_isotropy(hidden, where), "data")
        return sums.isotropy()

    mapped = jax.pmap(split, axis_name="data")
    values = mapped(hidden.reshape(4, 2, 5, 3), where.reshape(4, 2, 5))
    np.testing.assert_allclose(values, 4 * [1 - total / count], rtol=1e-5)


def test_isotropy_of_zero_states_and_without_pairs():
    hidden = jnp.zeros((1, 3, 2)).at[0, 0, 0].set(1.0)
    assert evaluation.token_isotropy(hidden).isotropy() == 1
    alone = evaluation.token_isotropy(jnp.ones((2, 1, 2)))
    assert alone.count == 0 and alone.isotropy() == 1
    equal = evaluation.token_isotropy(jnp.ones((2, 4, 2)))
    np.testing.assert_allclose(equal.isotropy(), 0, atol=1e-6)


def in_clusters(counts):
    """That many equal features in each of a few directions."""
    return np.repeat(np.eye(len(counts)), counts, axis=0)


def test_mauve_by_hand():
    """Clusters are known: three directions, of which samples have other shares."""
    a, b = in_clusters([6, 3, 1]), in_clusters([2, 4, 4])
    q, p = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.4, 0.4])

    def kl(a, b):
        return np.sum(a * np.log(a / b))

    curve = [(0.0, 1.0)]
    for share in np.linspace(1 - 1e-6, 1e-6, 25):
        r = share * p + (1 - share) * q
        curve.append((np.exp(-5 * kl(q, r)), np.exp(-5 * kl(p, r))))
    curve = np.array([*curve, (1.0, 0.0)])
    x, y = curve.T
    want = np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2)
    key = jax.random.key(0)
    got = evaluation.mauve(key, a, b, k=3)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    # Which sample is which does not matter to the area, but for the trapezoids.
    assert evaluation.mauve(key, b, a, k=3) == pytest.approx(want, rel=1e-3)
    assert evaluation.mauve(key, a, a, k=3) == 1


def test_mauve_falls_with_the_distance_of_the_samples():
    key = jax.random.key(1)
    real = RNG.normal(size=(80, 4))
    values = [
        evaluation.mauve(key, RNG.normal(size=(60, 4)) + shift, real)
        for shift in (0.0, 1.0, 8.0)
    ]
    assert values[0] > 0.7 > values[1] > values[2] and values[2] < 0.02
    again = evaluation.mauve(key, real[:60] + 1.0, real)
    assert again == evaluation.mauve(key, real[:60] + 1.0, real)
    for name, options in {"k": dict(k=1), "points": dict(points=1)}.items():
        with pytest.raises(ValueError, match=f"^{name}: expected at least 2, got 1"):
            evaluation.mauve(key, real, real, **options)
