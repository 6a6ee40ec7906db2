"""LOL: scores in closed form, its special cases, masks, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import decoding
from contrastive_jax.methods import lol

# It trains nothing: no loss.
CASES = {}
HELPERS = ("lol_dynamic_scores", "lol_scores")

RNG = np.random.default_rng(0)
P, A, P_LOW, A_LOW, TRUTH = (
    jnp.asarray(RNG.normal(0, 2, (3, 8)), jnp.float32) for _ in range(5)
)
FIVE = (P, A, P_LOW, A_LOW, TRUTH)


def log_softmax(x):
    x = np.asarray(x, np.float64)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))


def test_scores_in_closed_form(transform):
    weights = dict(lam=0.7, gamma=0.4, alpha=0.2, beta=1.3)
    got = transform(lambda *x: lol.lol_scores(*x, **weights))(*FIVE)
    p, a, p_low, a_low, truth = map(log_softmax, FIVE)
    want = 1.3 * p - a + 0.7 * (p_low - a_low) + 0.4 * (truth - p)
    keep = np.exp(p) >= 0.2 * np.exp(p).max(axis=-1, keepdims=True)
    np.testing.assert_array_equal(np.isfinite(got), keep)
    assert 3 < keep.sum() < keep.size
    np.testing.assert_allclose(np.asarray(got)[keep], want[keep], rtol=1e-4, atol=1e-5)


def test_without_its_terms_it_is_icd():
    got = lol.lol_scores(*FIVE, lam=0.0, gamma=0.0, alpha=0.1)
    want = decoding.contrast(P, A, alpha=0.1)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_the_model_as_its_own_amateur():
    """Nothing but the instruction's term; without that, 0 on every plausible token."""
    got = lol.lol_scores(P, P, P_LOW, P_LOW, TRUTH, lam=0.0, gamma=1.0, alpha=0.0)
    want = log_softmax(TRUTH) - log_softmax(P)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    got = lol.lol_scores(P, P, P_LOW, P_LOW, P, lam=1.0, gamma=1.0, alpha=0.3)
    keep = np.asarray(decoding.plausible(P, 0.3))
    np.testing.assert_allclose(np.asarray(got)[keep], 0, atol=1e-5)
    # The argmax is then the first plausible token, whatever its probability.
    np.testing.assert_array_equal(got.argmax(axis=-1), keep.argmax(axis=-1))


def test_plausibility_is_by_the_model_alone():
    """alpha = 1 is greedy whatever the rest says; 0 keeps all tokens."""
    loud = (P, 9 * A, 9 * P_LOW, 9 * A_LOW, 9 * TRUTH)
    got = lol.lol_scores(*loud, lam=2.0, gamma=2.0, alpha=1.0)
    np.testing.assert_array_equal(got.argmax(axis=-1), P.argmax(axis=-1))
    assert (np.isfinite(got).sum(axis=-1) == 1).all()
    got = lol.lol_scores(*loud, lam=2.0, gamma=2.0, alpha=1.0, min_tokens=3)
    assert (np.isfinite(got).sum(axis=-1) == 3).all()
    assert np.isfinite(lol.lol_scores(*loud, lam=2.0, gamma=2.0, alpha=0.0)).all()


def test_each_row_as_if_alone():
    weights = dict(lam=1.0, gamma=0.5)
    whole = lol.lol_scores(*FIVE, **weights)
    for i in range(3):
        alone = lol.lol_scores(*(x[i] for x in FIVE), **weights)
        np.testing.assert_allclose(alone, whole[i], rtol=1e-5, atol=1e-6)


def test_the_layer_is_chosen_for_each_row():
    """Where one layer is the last one, the other is taken, in every row."""
    far = jnp.asarray(RNG.normal(0, 2, (3, 8)), jnp.float32)
    early = jnp.stack([far, P]).at[:, 1].set(jnp.stack([P[1], far[1]]))
    other = jnp.stack([P_LOW, A_LOW])
    weights = dict(lam=0.8, gamma=0.3)
    got = lol.lol_dynamic_scores(P, A, early, other, TRUTH, **weights)
    low = P_LOW.at[1].set(A_LOW[1])
    want = lol.lol_scores(P, A, far, low, TRUTH, **weights)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_tokens_ruled_out_everywhere():
    """-inf on both sides of every difference gives neither NaN nor a NaN gradient."""
    five = [x.at[:, 2].set(-jnp.inf) for x in FIVE]
    scores = lol.lol_scores(*five, lam=1.0, gamma=1.0, alpha=0.0)
    assert jnp.isneginf(scores[:, 2]).all()
    assert jnp.isfinite(jnp.delete(scores, 2, axis=1)).all()

    def total(*x):
        scores = lol.lol_scores(*x, lam=1.0, gamma=1.0, alpha=0.0)
        return jnp.sum(jnp.where(jnp.isfinite(scores), scores, 0))

    grads = jax.grad(total, argnums=(0, 1, 2, 3, 4))(*five)
    assert all(jnp.isfinite(g).all() for g in grads)


def test_what_is_refused(without_type_hooks):
    with pytest.raises(ValueError, match=r"^amateur: expected shape \[3, 8\]"):
        lol.lol_scores(P, A[:, :7], *FIVE[2:], lam=1.0, gamma=0.0)
    with pytest.raises(ValueError, match=r"^low: expected shape \[3, 8\]"):
        lol.lol_scores(P, A, P_LOW[:2], A_LOW[:2], TRUTH, lam=1.0, gamma=0.0)
    with pytest.raises(ValueError, match=r"^alpha: "):
        lol.lol_scores(*FIVE, lam=1.0, gamma=0.0, alpha=1.1)
    with pytest.raises(ValueError, match=r"^lam: "):
        lol.lol_scores(*FIVE, lam=float("nan"), gamma=0.0)
