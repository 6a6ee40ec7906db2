"""AdaCAD: strengths and scores in closed form, row by row, and what is refused."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import decoding
from contrastive_jax.methods import adacad

# It trains nothing: no loss.
CASES = {}
HELPERS = ("adacad_alpha", "adacad_logits")

RNG = np.random.default_rng(0)
WITH, WITHOUT = (jnp.asarray(RNG.normal(0, 2, (4, 9)), jnp.float32) for _ in range(2))


def divergence(a, b):
    """The Jensen-Shannon divergence of two rows, in nats, term by term."""
    total = 0.0
    p, q = (np.exp(x) / np.sum(np.exp(x)) for x in np.asarray([a, b], np.float64))
    for x, y in zip(p, q, strict=True):
        m = (x + y) / 2
        total += (x * math.log(x / m) + y * math.log(y / m)) / 2
    return total


def test_strength_of_each_row(transform):
    """The released code would average it over the batch."""
    nats = [divergence(a, b) for a, b in zip(WITH, WITHOUT, strict=True)]
    assert np.ptp(nats) > 0.05
    got = transform(lambda a, b: adacad.adacad_alpha(a, b))(WITH, WITHOUT)
    np.testing.assert_allclose(got, nats, rtol=1e-5)
    bits = adacad.adacad_alpha(WITH, WITHOUT, base=2.0)
    np.testing.assert_allclose(bits, np.asarray(nats) / math.log(2), rtol=1e-5)
    middle = float(np.median(nats))
    got = adacad.adacad_alpha(WITH, WITHOUT, min_alpha=middle)
    np.testing.assert_allclose(got, np.maximum(nats, middle), rtol=1e-5)


def test_scores_are_those_of_cad_with_the_strength_of_the_row(transform):
    got = transform(lambda a, b: adacad.adacad_logits(a, b))(WITH, WITHOUT)
    for row, a, b in zip(got, WITH, WITHOUT, strict=True):
        alpha = divergence(a, b)
        np.testing.assert_allclose(row, (1 + alpha) * a - alpha * b, rtol=1e-5)
        alone = adacad.adacad_logits(a, b)
        np.testing.assert_allclose(row, alone, rtol=1e-5, atol=1e-6)
    # Above the largest divergence the threshold is CAD's strength.
    got = adacad.adacad_logits(WITH, WITHOUT, min_alpha=1.5)
    want = decoding.context_aware(WITH, WITHOUT, alpha=1.5)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_same_twice_changes_nothing():
    alpha = adacad.adacad_alpha(WITH, WITH)
    assert (alpha >= 0).all() and (alpha < 1e-6).all()
    scores = adacad.adacad_logits(WITH, WITH)
    np.testing.assert_allclose(scores, WITH, rtol=1e-5)
    # A constant added to the logits is no conflict.
    assert (adacad.adacad_alpha(WITH, WITH + 3) < 1e-6).all()


def test_distributions_apart_have_the_largest_strength():
    a = jnp.array([[0.0, 0.0, -jnp.inf, -jnp.inf], [200.0, 0.0, 0.0, 0.0]])
    b = jnp.array([[-jnp.inf, -jnp.inf, 0.0, 0.0], [0.0, 200.0, 0.0, 0.0]])
    np.testing.assert_allclose(adacad.adacad_alpha(a, b), math.log(2), rtol=1e-5)
    np.testing.assert_allclose(adacad.adacad_alpha(a, b, base=2.0), 1.0, rtol=1e-5)


def test_tokens_without_probability():
    """Ruled out with the context: out. Ruled out on both sides: no NaN."""
    a = WITH.at[:, 0].set(-jnp.inf).at[:, 1].set(-jnp.inf)
    b = WITHOUT.at[:, 0].set(-jnp.inf).at[:, 2].set(-jnp.inf)
    scores = adacad.adacad_logits(a, b)
    assert not jnp.isnan(scores).any()
    assert jnp.isneginf(scores[:, :2]).all() and jnp.isfinite(scores[:, 3:]).all()

    def total(x, y):
        return jnp.sum(adacad.adacad_alpha(x, y))

    grads = jax.grad(total, argnums=(0, 1))(a, b)
    assert all(jnp.isfinite(g).all() for g in grads)
    assert all(
        jnp.isfinite(g).all() for g in jax.grad(total, argnums=(0, 1))(WITH, WITH)
    )


def test_half_precision_is_computed_in_float32():
    got = adacad.adacad_alpha(WITH.astype(jnp.bfloat16), WITHOUT.astype(jnp.bfloat16))
    assert got.dtype == jnp.float32
    want = adacad.adacad_alpha(WITH, WITHOUT)
    np.testing.assert_allclose(got, want, rtol=0.05)


def test_what_is_refused(without_type_hooks):
    with pytest.raises(ValueError, match=r"^without: expected shape \[4, 9\]"):
        adacad.adacad_alpha(WITH, WITHOUT[:, :8])
    with pytest.raises(ValueError, match=r"^min_alpha: "):
        adacad.adacad_alpha(WITH, WITHOUT, min_alpha=-0.1)
    with pytest.raises(ValueError, match=r"^base: "):
        adacad.adacad_logits(WITH, WITHOUT, base=1.0)
    with pytest.raises(TypeError, match=r"^logits: "):
        adacad.adacad_logits(WITH.astype(int), WITHOUT)
