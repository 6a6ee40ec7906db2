"""Language model and sequence energy: what steers them, padding, the energy's start."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import models
from experiments.edlm.model import SequenceEnergy

SMALL = dict(vocab_size=7, width=16, depth=2, heads=2)
TOKENS = jnp.array([[1, 2, 3, 4, 5], [2, 2, 0, 1, 3]])


def made(model, *inputs):
    """A model with random parameters everywhere, as a function of its inputs."""
    init = jax.jit(functools.partial(model.init, train=False))
    params = init(jax.random.key(0), *inputs)["params"]
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda p: p + 0.3 * rng.normal(size=p.shape), params)
    return jax.jit(functools.partial(model.apply, {"params": params}, train=False))


def test_noise_steers_adaptive_blocks_and_is_0_when_left_out():
    run = made(models.LanguageModel(**SMALL, causal=False, adaptive=True), TOKENS)
    zero, one = (run(TOKENS, sigma=jnp.full(2, x)) for x in (0.0, 1.0))
    assert zero.shape == (2, 5, 7)
    np.testing.assert_allclose(zero, run(TOKENS), rtol=1e-6)
    assert jnp.abs(zero - one).max() > 1e-3


def test_energy_sees_both_sequences_but_no_padding():
    masked = jnp.full_like(TOKENS, 6)
    run = made(SequenceEnergy(**SMALL), TOKENS, masked)
    there = jnp.array([[True, True, True, True, False]] * 2)
    energy = run(TOKENS, masked, where=there)
    assert energy.shape == (2,)
    padded = run(TOKENS.at[:, 4].set(0), masked.at[:, 4].set(1), where=there)
    np.testing.assert_allclose(padded, energy, rtol=1e-5)
    assert jnp.abs(run(TOKENS.at[:, 0].set(0), masked, where=there) - energy).min() > 0
    assert jnp.abs(run(TOKENS, masked.at[:, 0].set(0), where=there) - energy).min() > 0


def test_a_denoiser_can_start_an_energy():
    denoiser = models.LanguageModel(**SMALL, causal=False)
    energy = SequenceEnergy(**SMALL)
    init = functools.partial(denoiser.init, train=False)
    trunk = jax.eval_shape(init, jax.random.key(0), TOKENS)["params"]["trunk"]
    init = functools.partial(energy.init, train=False)
    mine = jax.eval_shape(init, jax.random.key(0), TOKENS, TOKENS)["params"]
    for part in ("token", "blocks"):
        assert jax.tree.map(jnp.shape, trunk[part]) == jax.tree.map(
            jnp.shape, mine[part]
        )
