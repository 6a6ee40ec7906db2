"""Masked diffusion: closed forms and corners."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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


def z_score(hits, share):
    """How many standard errors the share of hits lies off."""
    hits = np.asarray(hits)
    return abs(hits.mean() - share) / np.sqrt(share * (1 - share) / hits.size)


def test_a_step_reveals_at_the_rate_of_the_time_and_keeps_what_is_known():
    keys = jax.random.split(jax.random.key(1), 3000)
    tokens = jnp.tile(jnp.array([1, MASK]), (3000, 1))
    probs = jnp.tile(jnp.array([0.7, 0.1, 0.2, 0.0]), (3000, 2, 1))
    args = tokens, probs, 0.8, 0.2
    step = jax.jit(functools.partial(ebm.ddpm_step, mask_id=MASK))
    after = step(keys, *args)
    assert (after[:, 0] == 1).all()
    law = ebm.ddpm_probs(*args, mask_id=MASK)
    np.testing.assert_allclose(law[0], [[0, 1, 0, 0], [0.175, 0.025, 0.05, 0.75]])
    for token in range(4):
        assert z_score(after[:, 1] == token, law[0, 1, token]) < 5
    # An example has its own numbers.
    part = step(keys[:9], *(x[:9] for x in args[:2]), 0.8, 0.2)
    np.testing.assert_array_equal(part, after[:9])


def zipf(vocabulary):
    weights = 1 / np.arange(1, vocabulary)
    return np.append(weights / weights.sum(), 0)


@functools.partial(jax.jit, static_argnames="mask_id")
def one_step(key, tokens, probs, time, dt, mask_id):
    probs = jnp.broadcast_to(probs, (*tokens.shape, *probs.shape))
    return ebm.ddpm_step(key, tokens, probs, time, dt, mask_id=mask_id)


@pytest.mark.parametrize(
    "positions", [48, pytest.param(120, marks=pytest.mark.experiments)]
)
def test_rare_tokens_of_a_vocabulary_of_50258_come_as_often_as_they_should(positions):
    mask, start = 50_257, jnp.full((1, positions), 50_257)
    laws = zipf(mask + 1), np.append(np.ones(mask) / mask, 0)
    for i, probs in enumerate(laws[: 1 + (positions > 100)]):
        after = one_step(
            jax.random.key(i), start, jnp.asarray(probs, jnp.float32), 1.0, 0.9, mask
        )
        after = np.asarray(after)
        assert z_score(after == mask, 0.1) < 5
        drawn = after[after != mask]
        for first in (100, 1000, 10_000, 40_000):
            assert z_score(drawn >= first, probs[first:].sum()) < 5


def test_a_short_step_reveals_as_few_as_it_should():
    tokens, drawn = jnp.full((1000, 1000), MASK), jnp.zeros((1000, 1000), jnp.int32)
    for dt in (1e-3, 1e-5):
        after = ebm.reveal_tokens(
            jax.random.key(2), tokens, drawn, 1.0, dt, mask_id=MASK
        )
        assert z_score(after == 0, dt) < 5


def test_a_whole_trajectory_reveals_evenly_and_draws_by_the_probabilities():
    vocabulary, steps = 1000, 24
    probs = zipf(vocabulary)

    @jax.jit
    def run(key, probs):
        def step(tokens, i):
            tokens = one_step(
                jax.random.fold_in(key, i), tokens, probs, 1 - i / steps, 1 / steps, 999
            )
            return tokens, jnp.sum(tokens == 999)

        return jax.lax.scan(step, jnp.full((1, 150), 999), jnp.arange(steps))

    tokens, masked = run(jax.random.key(0), jnp.asarray(probs, jnp.float32))
    assert masked[-1] == 0
    for i in range(steps - 1):
        hits = np.arange(150) < int(masked[i])
        assert z_score(hits, 1 - (i + 1) / steps) < 5
    for first in (10, 100, 300):
        assert z_score(np.asarray(tokens) >= first, probs[first:].sum()) < 5


def test_a_token_out_of_range_is_refused_or_drops_out():
    rng, times = np.random.default_rng(0), jnp.array([0.5, 0.5])
    log_probs = random_log_probs(rng, jnp.full((2, 2), MASK))
    good, bad = jnp.array([[1, 0], [2, 1]]), jnp.array([[1, -1], [2, 4]])
    only = jnp.array([[True, False], [True, False]])
    want = ebm.masked_diffusion(log_probs, good, times, where=only)

    def loss(log_probs, tokens, where=None):
        return ebm.masked_diffusion(log_probs, tokens, times, where=where)

    with pytest.raises(ValueError, match=r"^tokens: expected numbers in \[0, 4\)"):
        loss(log_probs, bad)
    np.testing.assert_allclose(loss(log_probs, bad, only), want)  # padding is anything
    value, grad = jax.jit(jax.value_and_grad(loss))(log_probs, bad)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert not np.any(grad[:, 1]) and np.any(grad[:, 0])
    with pytest.raises(ValueError, match=r"^tokens: expected numbers in \[0, 4\)"):
        ebm.subs_log_probs(log_probs, bad, mask_id=MASK)


def test_tokens_of_narrow_types_do_not_wrap():
    tokens = jnp.array([[100, 7]], jnp.int8)
    want = [[300, 7]]
    log_probs = jnp.zeros((1, 2, 301)).at[0, 0, 300].set(9.0)
    got = ebm.mask_tokens(
        jnp.array([[0.0, 0.9]]), tokens, jnp.array([0.5]), mask_id=300
    )
    assert got.tolist() == want
    assert ebm.fill(log_probs, tokens, mask_id=100).tolist() == want
    probs = jax.nn.one_hot(jnp.array([[300, 0]]), 301)
    got = ebm.ddpm_step(jax.random.key(0), tokens, probs, 0.5, 0.5, mask_id=100)
    assert got.tolist() == want
