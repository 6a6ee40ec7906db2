"""Masked diffusion and residual energies: closed forms, corners, an exact chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm, randomness
from contrastive_jax.methods import edlm

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


def test_a_vocabulary_of_two_is_one_token_and_the_mask():
    masked = jnp.array([[1, 1]])
    log_probs = ebm.subs_log_probs(jnp.ones((1, 2, 2)), masked, mask_id=1)
    np.testing.assert_allclose(log_probs[..., 0], 0, atol=1e-7)
    keys = jax.random.split(jax.random.key(0), 1)
    out, _ = edlm.diffusion_sample(
        keys,
        masked,
        lambda x: ebm.subs_log_probs(jnp.ones((1, 2, 2)), x, mask_id=1),
        num_steps=3,
        mask_id=1,
    )
    assert out.tolist() == [[0, 0]]


def test_a_step_reveals_at_the_rate_of_the_time_and_keeps_what_is_known():
    keys = jax.random.split(jax.random.key(1), 3000)
    tokens = jnp.tile(jnp.array([1, MASK]), (3000, 1))
    probs = jnp.tile(jnp.array([0.7, 0.1, 0.2, 0.0]), (3000, 2, 1))
    uniform = randomness.uniform(keys, (3000, 2, 4))
    after = ebm.ddpm_step(uniform, tokens, probs, 0.8, 0.2, mask_id=MASK)
    assert (after[:, 0] == 1).all()
    share = np.bincount(np.asarray(after[:, 1]), minlength=4) / 3000
    np.testing.assert_allclose(share, [0.175, 0.025, 0.05, 0.75], atol=0.03)


def test_autoregressive_energy_spelled_out(x64):
    rng = np.random.default_rng(0)
    tokens, masked = jnp.array([[0, 2, 1, 0]]), jnp.array([[0, MASK, 1, MASK]])
    log_probs = random_log_probs(rng, masked)
    logits = rng.normal(size=(1, 3, 4))
    ar = logits[..., :3] - np.log(np.exp(logits[..., :3]).sum(-1, keepdims=True))
    terms = [ar[0, k, tokens[0, k + 1]] for k in range(3)]
    denoised = log_probs[0, 1, 2] + log_probs[0, 3, 0]

    def energy(**options):
        return edlm.autoregressive_energy(
            jnp.asarray(logits), log_probs, tokens, masked, mask_id=MASK, **options
        )[0]

    np.testing.assert_allclose(energy(), denoised - terms[0] - terms[2])
    np.testing.assert_allclose(energy(carry_over=False), denoised - sum(terms))
    real = jnp.array([[True, True, True, False]])
    np.testing.assert_allclose(energy(where=real), log_probs[0, 1, 2] - terms[0])
    with pytest.raises(ValueError, match="ar_logits: expected 3 positions"):
        edlm.autoregressive_energy(
            jnp.zeros((1, 4, 4)), log_probs, tokens, masked, mask_id=MASK
        )


def test_bounds_of_log_z_hold_what_they_say(x64):
    """Under Gaussian energies log Z is known; one proposal is its own estimate."""
    energies = jnp.asarray(np.random.default_rng(0).normal(size=(4000, 8)))
    found = edlm.log_partition_bounds(energies)
    exact = 0.5
    assert jnp.mean(found.leave_one_out) < jnp.mean(found.estimate) < exact
    assert exact < jnp.mean(found.upper) + 0.1
    one = edlm.log_partition_bounds(energies[:, :1])
    np.testing.assert_array_equal(one.upper, -energies[:, 0])
    far = edlm.log_partition_bounds(jnp.array([[-800.0, 900.0, 900.0]]))
    np.testing.assert_allclose(far.estimate, 800 - np.log(3))
    assert np.isfinite(far.upper).all()


def test_the_residual_bound_of_no_energy_is_the_plain_one():
    rng = np.random.default_rng(0)
    tokens, times = jnp.array([[0, 2]]), jnp.array([0.4])
    log_probs = random_log_probs(rng, jnp.full_like(tokens, MASK))
    zero = jnp.zeros(1)
    got = edlm.residual_bound(log_probs, tokens, zero, zero, times)
    want = ebm.masked_diffusion(log_probs, tokens, times, reduce_fn=None)
    np.testing.assert_array_equal(got, want)
    shifted = edlm.residual_bound(log_probs, tokens, zero + 7, zero - 7, times)
    np.testing.assert_allclose(shifted, want, rtol=1e-6)  # E is free up to a constant


def test_choice_follows_the_sign_and_survives_hundreds_of_nats():
    keys = jax.random.split(jax.random.key(0), 2)
    candidates = jnp.arange(4).reshape(2, 2, 1)
    energies = jnp.array([[500.0, -500.0], [-500.0, 500.0]])
    chosen, size = edlm.importance_choice(keys, candidates, energies)
    assert chosen[:, 0].tolist() == [1, 2] and np.allclose(size, 1)
    chosen, _ = edlm.importance_choice(keys, candidates, energies, sign="released")
    assert chosen[:, 0].tolist() == [0, 3]
    with pytest.raises(ValueError, match="sign: expected one of paper, released"):
        edlm.importance_choice(keys, candidates, energies, sign="minus")
    with pytest.raises(ValueError, match="temperature"):
        edlm.importance_choice(keys, candidates, energies, temperature=0.0)


# A Markov chain whose marginals and likelihood are exact: V = 6 states, mask 6, L = 16.
STATES, LENGTH = 6, 16


def chain():
    """Log of the transition rows, drawn from Dirichlet(0.15); the start is uniform."""
    rows = np.random.default_rng(3).dirichlet(np.full(STATES, 0.15), size=STATES)
    return jnp.log(jnp.asarray(np.maximum(rows, 1e-12), jnp.float32))


def log_likelihood(log_rows, tokens):
    """Exact log-probability of sequences."""
    steps = log_rows[tokens[..., :-1], tokens[..., 1:]]
    return jnp.sum(steps, axis=-1) - np.log(STATES)


def exact_denoiser(log_rows):
    """Marginals of every position given the known ones, by forward-backward."""

    def message(before, seen):
        out = jax.nn.logsumexp(before[:, None] + log_rows, axis=0)
        return out + seen, out + seen

    def back(after, seen):
        out = jax.nn.logsumexp(log_rows + (after + seen)[None, :], axis=1)
        return out, out

    def one(tokens):
        known = jax.nn.one_hot(tokens, STATES, dtype=bool)
        seen = jnp.where((tokens == STATES)[:, None] | known, 0.0, -1e6)
        first = seen[0] - np.log(STATES)
        _, forward = jax.lax.scan(message, first, seen[1:])
        forward = jnp.concatenate([first[None], forward])
        last = jnp.zeros(STATES)
        _, backward = jax.lax.scan(back, last, seen[1:], reverse=True)
        return forward + jnp.concatenate([backward, last[None]])

    def denoise(tokens):
        logits = jax.vmap(one)(tokens)
        logits = jnp.concatenate([logits, jnp.zeros((*tokens.shape, 1))], axis=-1)
        return ebm.subs_log_probs(logits, tokens, mask_id=STATES)

    return denoise


def test_the_exact_energy_mends_few_step_sampling_and_the_wrong_sign_breaks_it():
    log_rows = chain()
    denoise = exact_denoiser(log_rows)

    def energy(candidates, tokens, log_probs):
        drawn = jnp.sum(
            jnp.take_along_axis(log_probs[:, None], candidates[..., None], axis=-1)[
                ..., 0
            ],
            axis=-1,
        )
        return drawn - log_likelihood(log_rows, candidates)

    start = jnp.full((300, LENGTH), STATES)
    keys = jax.random.split(jax.random.key(0), 300)

    @jax.jit
    def compare():
        found = {}
        for steps in (2, 4, 8):
            shared = dict(num_steps=steps, mask_id=STATES)
            runs = {
                "plain": dict(),
                "energy": dict(energy=energy, num_proposals=8),
                "wrong": dict(energy=energy, num_proposals=8, sign="released"),
                "one": dict(energy=energy, num_proposals=1),
                "never": dict(energy=energy, num_proposals=8, window=0.0),
            }
            for name, options in runs.items():
                if steps == 8 and name == "wrong":
                    continue
                tokens, info = edlm.diffusion_sample(
                    keys, start, denoise, **options, **shared
                )
                loss = -log_likelihood(log_rows, tokens) / LENGTH
                found[steps, name] = jnp.mean(loss), tokens, info.effective
        return found

    found = compare()
    loss = {key: float(value[0]) for key, value in found.items()}
    assert loss[2, "energy"] < loss[2, "plain"] - 0.20, loss
    assert loss[4, "energy"] < loss[4, "plain"] - 0.20, loss
    assert loss[8, "energy"] < loss[8, "plain"] - 0.08, loss
    for steps in (2, 4):
        assert loss[steps, "wrong"] > loss[steps, "plain"], loss
    for steps in (2, 4, 8):  # without a choice it is plain diffusion, bit for bit
        for name in ("one", "never"):
            np.testing.assert_array_equal(
                found[steps, name][1], found[steps, "plain"][1]
            )
        effective = found[steps, "energy"][2]
        assert ((effective >= 1) & (effective <= 8)).all()
