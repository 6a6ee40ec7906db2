"""Random numbers of high range: chances far below the steps of a float32 uniform."""

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import randomness

STEP = 2.0**-23  # of uniform numbers in float32


def test_the_largest_gumbel_numbers_lie_between_the_steps_of_a_uniform():
    draws = jax.jit(lambda key: randomness.gumbel(key, (2**21,)))(jax.random.key(0))
    high = np.asarray(draws, np.float64)
    high = high[high > 10]
    # exp(-g) is nearly the uniform number: multiples of the step would have rest 0.
    rest = (np.exp(-high) / STEP) % 1
    assert abs(len(high) - 2**21 * np.exp(-10)) < 5 * np.sqrt(2**21 * np.exp(-10))
    assert abs(np.mean(rest) - 0.5) < 5 / np.sqrt(12 * len(rest))
    assert np.mean((rest > 0.01) & (rest < 0.99)) > 0.9


def test_a_chance_below_the_step_of_a_uniform_is_decided_by_more_digits(monkeypatch):
    place = jnp.arange(1024) / 1024

    def grid(rng, shape, dtype):
        later = jnp.any(jax.random.key_data(rng) != jax.random.key_data(KEY))
        return jnp.where(later, place, 0).astype(dtype)

    monkeypatch.setattr(randomness, "uniform", grid)
    for share in (0.0, 0.25, 0.75, 1.0):
        drawn = randomness.bernoulli(KEY, jnp.full(1024, share * STEP))
        assert int(jnp.sum(drawn)) == share * 1024


KEY = jax.random.key(0)


def test_bernoulli_has_its_rates_and_its_ends_and_follows_the_keys():
    p = jnp.repeat(jnp.array([0.0, 1e-3, 0.4, 1.0]), 20_000)
    draws = np.asarray(jax.jit(randomness.bernoulli)(KEY, p)).reshape(4, -1)
    for share, row in zip((0.0, 1e-3, 0.4, 1.0), draws, strict=True):
        z = (row.mean() - share) / np.sqrt(max(share * (1 - share), 1e-30) / 20_000)
        assert abs(z) < 5
    keys = jax.random.split(KEY, 6)
    whole = randomness.bernoulli(keys, jnp.full((6, 3), 0.5))
    part = randomness.bernoulli(keys[4:], jnp.full((2, 3), 0.5))
    np.testing.assert_array_equal(part, whole[4:])
    # Nearly always what the uniform number alone says.
    first = randomness.uniform(KEY, (1000,)) < 0.3
    np.testing.assert_array_equal(randomness.bernoulli(KEY, jnp.full(1000, 0.3)), first)
