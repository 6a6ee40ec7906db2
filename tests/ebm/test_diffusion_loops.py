"""Masked diffusion and residual energies against loops, on shapes of all kinds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm
from contrastive_jax.methods import edlm

# Sequences, positions, vocabulary with its mask; the second has one word only.
SHAPES = [(3, 5, 6, 2), (1, 1, 2, 0), (2, 4, 3, 2)]


def softmax_without(row, mask_id):
    kept = np.arange(len(row)) != mask_id
    total = np.log(np.sum(np.exp(row[kept])))
    return np.where(kept, row - total, -1e6)


@pytest.mark.parametrize(("n", "t", "v", "mask_id"), SHAPES)
def test_objective_and_energy_equal_loops(n, t, v, mask_id, x64):
    rng = np.random.default_rng(10 * n + v)
    logits, ar_logits = rng.normal(size=(n, t, v)), rng.normal(size=(n, t - 1, v))
    words = [w for w in range(v) if w != mask_id]
    tokens = rng.choice(words, (n, t))
    times, uniform = rng.uniform(0.1, 1, n), rng.random((n, t))
    where = np.arange(t)[None, :] < rng.integers(1, t + 1, n)[:, None]
    noisy = ebm.mask_tokens(
        *map(jnp.asarray, (uniform, tokens, 0.999 * times)), mask_id=mask_id
    )
    noisy_want = np.where(uniform < 0.999 * times[:, None], mask_id, tokens)
    np.testing.assert_array_equal(noisy, noisy_want)

    log_probs = ebm.subs_log_probs(jnp.asarray(logits), noisy, mask_id=mask_id)
    want, loss = np.full((n, t, v), -1e6), []
    with_carry, without = np.zeros(n), np.zeros(n)
    for b, i in np.ndindex(n, t):
        hidden = noisy_want[b, i] == mask_id
        if hidden:
            want[b, i] = softmax_without(logits[b, i], mask_id)
        else:
            want[b, i, tokens[b, i]] = 0
        if where[b, i]:
            loss.append(-want[b, i, tokens[b, i]] / times[b])
            ar = 0.0
            if i:
                ar = softmax_without(ar_logits[b, i - 1], mask_id)[tokens[b, i]]
            without[b] += want[b, i, tokens[b, i]] - ar
            with_carry[b] += want[b, i, tokens[b, i]] - ar * hidden
    np.testing.assert_allclose(log_probs, want, rtol=1e-9, atol=1e-12)
    arrays = *map(jnp.asarray, (ar_logits, log_probs, tokens)), noisy
    real = jnp.asarray(where)
    got = ebm.masked_diffusion(*arrays[1:3], jnp.asarray(times), where=real)
    np.testing.assert_allclose(got, np.mean(loss))
    for carry_over, energy in ((True, with_carry), (False, without)):
        got = edlm.autoregressive_energy(
            *arrays, mask_id=mask_id, carry_over=carry_over, where=real
        )
        np.testing.assert_allclose(got, energy, rtol=1e-9, atol=1e-9)


def test_padding_of_any_kind_leaves_objective_energy_and_gradient(x64):
    rng = np.random.default_rng(0)
    logits = jnp.asarray(rng.normal(size=(2, 5, 4)))
    tokens = jnp.array([[0, 1, 2, 0, 1], [2, 2, 1, 0, 0]])
    noisy = jnp.array([[0, 3, 3, 3, 1], [3, 2, 1, 3, 0]])
    where = jnp.arange(5)[None, :] < jnp.array([3, 5])[:, None]

    def both(logits, tokens, noisy):
        log_probs = ebm.subs_log_probs(logits, noisy, mask_id=3)
        times = jnp.array([0.4, 0.9])
        loss = ebm.masked_diffusion(log_probs, tokens, times, where=where)
        energy = edlm.autoregressive_energy(
            logits[:, 1:], log_probs, tokens, noisy, mask_id=3, where=where
        )
        return loss + jnp.sum(energy)

    run = jax.value_and_grad(both)
    value, grad = run(logits, tokens, noisy)
    # Padding may be seen or masked, and hold any token, the mask among them.
    other = run(
        jnp.where(where[..., None], logits, 7.0),
        jnp.where(where, tokens, 3),
        jnp.where(where, noisy, 1),
    )
    assert value == other[0]
    np.testing.assert_allclose(grad[:, :2], other[1][:, :2])
    assert np.isfinite(grad).all()


def test_the_language_model_never_gives_the_mask():
    """A proposal that holds a mask is out, however well it fits otherwise."""
    masked = jnp.array([[0, 2]])
    log_probs = jnp.zeros((1, 2, 3))
    energies = [
        edlm.autoregressive_energy(
            jnp.zeros((1, 1, 3)), log_probs, jnp.array([[0, last]]), masked, mask_id=2
        )[0]
        for last in (1, 2)
    ]
    np.testing.assert_allclose(energies, [np.log(2), 1e6], rtol=1e-6)


def test_released_loss_and_log_z_equal_loops(x64):
    rng = np.random.default_rng(0)
    positive, negative = 3 * rng.normal(size=4), 3 * rng.normal(size=(4, 1))
    sigmoid = lambda x: 1 / (1 + np.exp(-x))  # noqa: E731
    want = -np.log(sigmoid(-positive) + 1e-8) - np.log(sigmoid(negative[:, 0]) + 1e-8)
    got = edlm.residual_nce(
        jnp.asarray(positive), jnp.asarray(negative), reduce_fn=None
    )
    np.testing.assert_allclose(got, want, rtol=1e-6)
    for k in (2, 5):
        energies = 2 * rng.normal(size=(3, k))
        found = edlm.log_partition_bounds(jnp.asarray(energies))
        whole = np.log(np.mean(np.exp(-energies), axis=1))
        left = [
            np.log(np.mean(np.exp(-np.delete(energies, j, axis=1)), axis=1))
            for j in range(k)
        ]
        np.testing.assert_allclose(found.estimate, whole)
        np.testing.assert_allclose(found.leave_one_out, np.mean(left, axis=0))
        upper = (2 * k - 1) * whole - 2 * (k - 1) * np.mean(left, axis=0)
        np.testing.assert_allclose(found.upper, upper)


def test_the_residual_bound_of_an_exact_posterior_is_half_of_the_truth(x64):
    """Two equal fair bits: one bit is the truth, the integral over times gives half.

    Exact marginals, exact energy, exact log Z: both are masked with chance t^2, which
    costs log 2 / t; with one of them seen the other is certain.
    """
    times = (jnp.arange(4000) + 0.5) / 4000
    tokens = jnp.zeros((4000, 2), int)
    noisy = jnp.full_like(tokens, 2)
    log_probs = ebm.subs_log_probs(jnp.zeros((4000, 2, 3)), noisy, mask_id=2)
    energies = jnp.full(4000, -np.log(2))  # p(00) = 1/2, not 1/4; log Z = 0
    both = edlm.residual_bound(
        log_probs, tokens, energies, jnp.zeros_like(times), times
    )
    total = float(jnp.mean(times**2 * both))  # other patterns have bound 0
    np.testing.assert_allclose(total, np.log(2) / 2, rtol=1e-6)


def test_the_energy_is_used_while_the_time_is_in_its_window():
    """Equal energies: the effective number of proposals is k where they are weighed."""
    keys, start = jax.random.split(jax.random.key(0), 2), jnp.full((2, 3), 2)

    def denoise(tokens):
        return ebm.subs_log_probs(jnp.zeros((2, 3, 3)), tokens, mask_id=2)

    for steps, window, want in ((4, 0.2, [1]), (4, 0.5, [1, 1, 1]), (2, 0.0, [])):
        _, info = edlm.diffusion_sample(
            keys,
            start,
            denoise,
            lambda candidates, *_: jnp.zeros(candidates.shape[:2]),
            num_steps=steps,
            mask_id=2,
            num_proposals=5,
            window=window,
        )
        weighed = 5 * np.array(want) if want else []
        rest = np.ones(steps - len(want))
        np.testing.assert_allclose(info.effective, [*weighed, *rest], rtol=1e-6)
