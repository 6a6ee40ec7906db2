"""Processors against loops in numpy, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import decoding

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(0, 2, (3, 7)), jnp.float32) for _ in range(2))
EARLY = jnp.asarray(RNG.normal(0, 2, (4, 3, 7)), jnp.float32)


def softmax(x):
    e = np.exp(np.asarray(x, np.float64) - np.max(x, axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def kept(scores):
    return np.isfinite(np.asarray(scores))


def test_nucleus_and_its_kin():
    p = softmax(A)
    for row, order in enumerate(np.argsort(-p, axis=-1)):
        count = int(np.searchsorted(np.cumsum(p[row, order]), 0.8)) + 1
        assert set(np.flatnonzero(kept(decoding.top_p(A, 0.8))[row])) == set(
            order[:count]
        )
        assert set(np.flatnonzero(kept(decoding.top_k(A, 3))[row])) == set(order[:3])
        want = p[row] >= 0.2 * p[row].max()
        np.testing.assert_array_equal(kept(decoding.min_p(A, 0.2))[row], want)
    assert kept(decoding.top_p(A, 1.0)).all()
    assert (kept(decoding.top_p(A, 1e-9)).sum(axis=-1) == 1).all()
    # Three equal tokens: all of them or none.
    assert kept(decoding.top_p(jnp.zeros(3), 0.4)).all()


def nucleus_by_sort(logits, p):
    """Tokens at least as likely as the one at which the sorted sum reaches p."""
    order = np.argsort(-logits, kind="stable")
    sums = np.cumsum(softmax(logits[None])[0][order])
    last = order[min(np.searchsorted(sums, p), len(order) - 1)]
    return logits >= logits[last]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_nucleus_of_many_tokens_and_ties(dtype):
    """Rounded logits, so that many tie; signed zeros; tokens that are ruled out."""
    rng = np.random.default_rng(1)
    logits = np.round(rng.normal(0, 2, (6, 500)), 1).astype(dtype)
    logits[1, :100] = 0.0
    logits[1, 100:200] = -0.0
    logits[2, 10:490] = -np.inf
    logits[3] = -np.inf
    logits[3, 7] = -3
    with jax.enable_x64(dtype == "float64"):
        run = jax.jit(decoding.top_p)
        for p in (1e-6, 0.3, 0.62, 0.9, 0.999):
            got = kept(run(jnp.asarray(logits), p))
            want = [nucleus_by_sort(row, p) for row in logits.astype(np.float64)]
            np.testing.assert_array_equal(got, np.array(want) & np.isfinite(logits))


def test_repetition():
    seen = decoding.seen_tokens(
        jnp.array([[1, 2], [3, 3], [0, 6]]), jnp.array([[1, 1], [0, 1], [1, 0]]) > 0, 7
    )
    assert [np.flatnonzero(row).tolist() for row in seen] == [[1, 2], [3], [0]]
    got = decoding.repetition_penalty(A, seen, 1.5)
    want = np.where(seen, np.where(A > 0, A / 1.5, A * 1.5), A)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_contrasts():
    p, q = softmax(A), softmax(B)
    keep = p >= 0.3 * p.max(axis=-1, keepdims=True)
    got = decoding.contrast(A, B, alpha=0.3, weight=0.7, amateur_temperature=0.5)
    np.testing.assert_array_equal(kept(got), keep)
    want = np.log(p) - 0.7 * np.log(q) / 0.5
    np.testing.assert_allclose(np.asarray(got)[keep], want[keep], rtol=1e-4, atol=1e-5)
    alpha = jnp.array([[0.0], [0.5], [2.0]])
    got = decoding.context_aware(A, B, alpha=alpha)
    np.testing.assert_allclose(got, (1 + alpha) * A - alpha * B, rtol=1e-5, atol=1e-5)
    assert kept(decoding.contrast(A, B, alpha=0.0)).all()
    three = decoding.contrast(A, B, alpha=1.0, min_tokens=3)
    assert (kept(three).sum(axis=-1) == 3).all()


def test_jensen_shannon():
    p, q = softmax(A), softmax(B)
    m = (p + q) / 2
    want = (np.sum(p * np.log(p / m), -1) + np.sum(q * np.log(q / m), -1)) / 2
    np.testing.assert_allclose(decoding.js_divergence(A, B), want, rtol=1e-4)
    far = jnp.array([[500.0, 0.0], [0.0, 500.0]])
    np.testing.assert_allclose(
        decoding.js_divergence(far, far[::-1]), np.log(2), rtol=1e-6
    )
    masked = jnp.array([0.0, -jnp.inf, 1.0])
    value, slope = jax.value_and_grad(decoding.js_divergence)(masked, masked[::-1])
    assert np.isfinite(value) and np.isfinite(slope).all()
    assert (decoding.js_divergence(A, A) == 0).all()


@pytest.mark.parametrize("reverse", [True, False])
def test_layers(reverse):
    p, early = softmax(A), softmax(EARLY)
    m = (p + early) / 2

    def kl(a, b):
        return np.sum(a * np.log(a / b), axis=-1)

    gaps = kl(m, p) + kl(m, early) if reverse else kl(p + 0 * m, m) + kl(early, m)
    chosen = gaps.argmax(axis=0)
    got = decoding.premature_layer(A, EARLY, reverse=reverse)
    np.testing.assert_array_equal(got, chosen)
    scores = decoding.layer_contrast(A, EARLY, alpha=0.0, reverse=reverse)
    want = np.log(p) - np.log(early[chosen, range(3)])
    np.testing.assert_allclose(scores, want, rtol=1e-4, atol=1e-5)


def test_numbers_may_be_traced():
    def run(x):
        return (
            decoding.temperature(A, x),
            decoding.top_p(A, x),
            decoding.min_p(A, x),
            decoding.contrast(A, B, alpha=x, weight=x, amateur_temperature=x),
            decoding.context_aware(A, B, alpha=x),
            decoding.repetition_penalty(A, A > 0, x),
        )

    for got, want in zip(jax.jit(run)(0.4), run(0.4), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    ("message", "call"),
    [
        ("k: expected 1 to 7", lambda: decoding.top_k(A, 8)),
        ("p: expected a number in", lambda: decoding.top_p(A, 1.5)),
        ("p: expected a finite number > 0", lambda: decoding.min_p(A, 0.0)),
        ("value: expected a finite number > 0", lambda: decoding.temperature(A, 0.0)),
        ("alpha: expected a number in", lambda: decoding.contrast(A, B, alpha=2.0)),
        ("amateur: expected shape", lambda: decoding.contrast(A, B[:, :5])),
        ("without: expected shape", lambda: decoding.context_aware(A, B[:, :5])),
        ("seen: expected shape", lambda: decoding.repetition_penalty(A, A[0] > 0, 2.0)),
    ],
)
def test_what_does_not_fit_is_named(message, call, without_type_hooks):
    with pytest.raises(ValueError, match=message):
        call()
