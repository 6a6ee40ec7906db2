"""Transformers: what a token can see, what padding cannot do, positions, conditions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import models

TOKENS = jnp.array([[3, 1, 4, 1, 5, 2], [2, 7, 1, 6, 2, 0]])
SMALL = dict(vocab_size=8, width=16, depth=2, heads=2, max_length=8)


def make(**settings):
    """A small transformer as a jitted function of (tokens, where), and parameters."""
    model = models.Transformer(**{**SMALL, **settings})
    params = model.init(jax.random.key(0), TOKENS, train=False)

    @jax.jit
    def apply(tokens, where=None):
        return model.apply(params, tokens, where=where, train=False)

    return apply, params


@pytest.mark.parametrize("positions", ["rotary", "learned"])
def test_causal_tokens_see_only_the_past(positions):
    apply, _ = make(causal=True, positions=positions)
    changed = TOKENS.at[:, 3].add(1)
    moved = np.abs(apply(TOKENS).last - apply(changed).last).max(axis=(0, 2))
    assert (moved[:3] == 0).all() and (moved[3:] > 1e-4).all()


def test_without_causality_every_token_sees_all():
    apply, _ = make(positions="rotary")
    changed = TOKENS.at[:, 3].add(1)
    moved = np.abs(apply(TOKENS).last - apply(changed).last).max(axis=(0, 2))
    assert (moved > 1e-5).all()


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(causal):
    apply, _ = make(causal=causal)
    where = jnp.arange(6)[None, :] < jnp.array([4, 6])[:, None]
    out = apply(TOKENS, where).last
    np.testing.assert_allclose(out[0, :4], apply(TOKENS[:1, :4]).last[0], atol=1e-5)
    other = jnp.where(where, TOKENS, 7)
    assert not np.array_equal(other, TOKENS)
    np.testing.assert_array_equal(out[0, :4], apply(other, where).last[0, :4])


def test_a_sequence_of_padding_stays_finite():
    apply, _ = make()
    assert np.isfinite(apply(TOKENS, jnp.zeros((2, 6), bool)).last).all()


def test_rotated_products_depend_on_the_distance_only():
    rng = np.random.default_rng(0)
    q, k = (jnp.asarray(rng.normal(size=8), jnp.float32) for _ in range(2))
    rows = [models.rotate(jnp.broadcast_to(x, (1, 9, 1, 8)))[0, :, 0] for x in (q, k)]
    products = np.asarray(rows[0] @ rows[1].T)
    for distance in range(-8, 9):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-4)
    np.testing.assert_allclose(products[0, 0], q @ k, rtol=1e-5)
    assert np.ptp(products[0]) > 0.1


def test_rotation_spelled_out():
    x = jnp.arange(8.0).reshape(1, 2, 1, 4)
    turned = models.rotate(x)[0, 1, 0]
    for i, speed in enumerate((1.0, 0.01)):
        a, b = float(x[0, 1, 0, i]), float(x[0, 1, 0, i + 2])
        want = (a + 1j * b) * np.exp(1j * speed)
        np.testing.assert_allclose(turned[i::2], [want.real, want.imag], 1e-5)


def test_shapes_and_types():
    apply, params = make(dtype=jnp.bfloat16)
    out = apply(TOKENS)
    assert out.last.shape == (2, 6, 16) and len(out.hidden) == 3
    assert {x.dtype for x in jax.tree.leaves((params, out))} == {jnp.dtype("float32")}
    np.testing.assert_allclose(out.last, make()[0](TOKENS).last, atol=0.1)


def test_a_fresh_condition_leaves_tokens_as_they_come():
    """The gates start at 0: every block is the identity."""
    model = models.Transformer(**SMALL, positions="rotary", use_bias=False)
    condition = jnp.ones((2, 3))
    out, params = model.init_with_output(
        jax.random.key(0), TOKENS, condition=condition, train=False
    )
    np.testing.assert_array_equal(out.hidden[0], out.hidden[-1])
    noisy = jax.tree.map(lambda x: x + 0.1, params)
    outs = [
        model.apply(noisy, TOKENS, condition=c, train=False).last
        for c in (condition, 2 * condition)
    ]
    assert np.abs(outs[0] - outs[1]).max() > 1e-3


def test_dropout_only_in_training():
    model = models.Transformer(**SMALL, dropout=0.5)
    params = model.init(jax.random.key(0), TOKENS, train=False)
    drawn = [
        model.apply(params, TOKENS, train=True, rngs={"dropout": jax.random.key(i)})
        for i in range(2)
    ]
    assert not np.array_equal(drawn[0].last, drawn[1].last)


def test_wrong_input_is_named():
    run = lambda tokens, **settings: models.Transformer(**{**SMALL, **settings}).init(  # noqa: E731
        jax.random.key(0), tokens, train=False
    )
    with pytest.raises(ValueError, match="tokens: expected at most max_length = 8"):
        run(jnp.zeros((1, 9), jnp.int32))
    with pytest.raises(ValueError, match="heads: 3 does not divide width 16"):
        run(TOKENS, heads=3)
    with pytest.raises(ValueError, match="x: expected an even last axis"):
        models.rotate(jnp.zeros((1, 2, 1, 3)))
