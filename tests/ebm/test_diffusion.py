"""Masked diffusion: closed forms and corners."""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import ebm, randomness

MASK = 3


def random_log_probs(rng, tokens, vocabulary=4):
    logits = jnp.asarray(rng.normal(size=(*tokens.shape, vocabulary)))
    return ebm.subs_log_probs(logits, tokens, mask_id=vocabulary - 1)


def test_times_cover_the_unit_interval_on_any_number_of_devices():
    uniform = jnp.asarray(np.random.default_rng(0).random(8))
    whole = ebm.antithetic_times(uniform)
    assert sorted((np.asarray(whole) * 8).astype(int)) == list(range(8))
    parts = [
        ebm.antithetic_times(uniform[i : i + 2], jnp.arange(i, i + 2), total=8)
        for i in range(0, 8, 2)
    ]
    np.testing.assert_allclose(jnp.concatenate(parts), whole, rtol=1e-6)
    np.testing.assert_allclose(
        ebm.discrete_times(jnp.array([1e-3, 0.5, 0.99, 1.0]), 4), [0.25, 0.75, 1, 1]
    )


def test_masks_come_at_the_rate_of_the_time():
    keys = jax.random.split(jax.random.key(0), 2000)
    uniform = randomness.uniform(keys, (2000, 8))
    tokens = jnp.zeros((2000, 8), jnp.int32)
    t = jnp.full(2000, 0.3)
    chance = ebm.loglinear_schedule(t).move_chance
    keep = jnp.arange(8) > 0
    masked = ebm.mask_tokens(
        uniform, tokens, chance, mask_id=MASK, where=jnp.tile(keep, (2000, 1))
    )
    rate = jnp.mean(masked == MASK, axis=0)
    assert rate[0] == 0
    np.testing.assert_allclose(rate[1:], 0.3, atol=0.04)


def test_the_bound_of_one_token_is_its_entropy(x64):
    """With one position the bound is tight: the mean over times is -log p."""
    log_probs = jnp.log(jnp.array([[[0.2, 0.5, 0.3, 1e-9]]]))
    times = ebm.antithetic_times(jnp.full(4000, 0.5), min_t=0.0)
    masked = np.random.default_rng(0).random(4000) < times
    loss = ebm.masked_diffusion(
        jnp.where(masked[:, None, None], log_probs, 0.0),
        jnp.ones((4000, 1), int),
        times,
    )
    assert abs(loss + np.log(0.5)) < 0.05


def test_visible_sequences_lose_nothing_and_masked_ones_all():
    rng = np.random.default_rng(0)
    tokens = jnp.array([[0, 2, 1]])
    times = jnp.array([1.0])
    seen = random_log_probs(rng, tokens)
    assert ebm.masked_diffusion(seen, tokens, times) == 0
    hidden = random_log_probs(rng, jnp.full_like(tokens, MASK))
    want = -np.mean([hidden[0, k, tokens[0, k]] for k in range(3)])
    got = ebm.masked_diffusion(hidden, tokens, times)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_a_step_reveals_at_the_rate_of_the_time_and_keeps_what_is_known():
    keys = jax.random.split(jax.random.key(1), 3000)
    tokens = jnp.tile(jnp.array([1, MASK]), (3000, 1))
    probs = jnp.tile(jnp.array([0.7, 0.1, 0.2, 0.0]), (3000, 2, 1))
    uniform = randomness.uniform(keys, (3000, 2, 4))
    after = ebm.ddpm_step(uniform, tokens, probs, 0.8, 0.2, mask_id=MASK)
    assert (after[:, 0] == 1).all()
    share = np.bincount(np.asarray(after[:, 1]), minlength=4) / 3000
    np.testing.assert_allclose(share, [0.175, 0.025, 0.05, 0.75], atol=0.03)
