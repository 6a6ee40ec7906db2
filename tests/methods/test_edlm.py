"""EDLM: residual energies over masked diffusion, against loops and an exact chain."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm
from contrastive_jax.methods import edlm
from tests.losses.cases import Case


def energies(rng, n):
    return {
        "positive_energies": rng.normal(size=n),
        "negative_energies": rng.normal(size=(n, n + 2)),
    }


CASES = {
    "residual_nce": Case(
        edlm.residual_nce,
        {"positive_energies": "n", "negative_energies": "n k"},
        energies,
        ("positive_energies", "negative_energies"),
        where="n",
    ),
}
HELPERS = (
    "LogPartition",
    "SampleInfo",
    "autoregressive_energy",
    "diffusion_sample",
    "importance_choice",
    "log_partition_bounds",
    "proposals",
    "residual_bound",
    "weighed_steps",
)

MASK = 3
# Sequences, positions, vocabulary with its mask; the second has one word only.
SHAPES = [(3, 5, 6, 2), (1, 1, 2, 0), (2, 4, 3, 2)]


def random_log_probs(rng, tokens, vocabulary=4):
    logits = jnp.asarray(rng.normal(size=(*tokens.shape, vocabulary)))
    return ebm.subs_log_probs(logits, tokens, mask_id=vocabulary - 1)


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
        bounds = edlm.log_partition_bounds(jnp.asarray(energies))
        whole = np.log(np.mean(np.exp(-energies), axis=1))
        left = [
            np.log(np.mean(np.exp(-np.delete(energies, j, axis=1)), axis=1))
            for j in range(k)
        ]
        np.testing.assert_allclose(bounds.estimate, whole)
        np.testing.assert_allclose(bounds.leave_one_out, np.mean(left, axis=0))
        upper = (2 * k - 1) * whole - 2 * (k - 1) * np.mean(left, axis=0)
        np.testing.assert_allclose(bounds.upper, upper)


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
    bounds = edlm.log_partition_bounds(energies)
    exact = 0.5
    assert jnp.mean(bounds.leave_one_out) < jnp.mean(bounds.estimate) < exact
    assert exact < jnp.mean(bounds.upper) + 0.1
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


def test_tokens_out_of_range_are_refused_or_have_no_terms():
    rng = np.random.default_rng(0)
    masked = jnp.full((1, 3), MASK)
    log_probs = random_log_probs(rng, masked)
    logits = jnp.asarray(rng.normal(size=(1, 2, 4)))
    good, bad = jnp.array([[0, 2, 1]]), jnp.array([[0, 2, -1]])
    real = jnp.array([[True, True, False]])

    def energy(tokens, where=None):
        return edlm.autoregressive_energy(
            logits, log_probs, tokens, masked, mask_id=MASK, where=where
        )

    want = energy(good, real)
    np.testing.assert_allclose(energy(bad, real), want, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(energy)(bad), want, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^tokens: expected numbers in \[0, 4\)"):
        energy(bad)


def test_proposals_of_a_large_vocabulary_hold_rare_tokens():
    v = 50_258
    weights = 1 / np.arange(1, v + 1)
    log_probs = jnp.log(jnp.asarray(weights / weights.sum(), jnp.float32))
    draw = jax.jit(edlm.proposals, static_argnums=2)
    drawn = np.asarray(
        draw(jax.random.split(jax.random.key(0), 1), log_probs[None, None], 40)
    )
    share = weights[1000:].sum() / weights.sum()
    z = (np.mean(drawn >= 1000) - share) / np.sqrt(share * (1 - share) / drawn.size)
    assert abs(z) < 5


def test_the_window_must_be_a_plain_number(without_type_hooks):
    with pytest.raises(TypeError, match=r"^window: expected a plain number"):
        jax.jit(lambda w: edlm.weighed_steps(4, w))(0.5)


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


@pytest.mark.experiments
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
        results = {}
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
                results[steps, name] = jnp.mean(loss), tokens, info.effective
        return results

    results = compare()
    loss = {key: float(value[0]) for key, value in results.items()}
    assert loss[2, "energy"] < loss[2, "plain"] - 0.20, loss
    assert loss[4, "energy"] < loss[4, "plain"] - 0.20, loss
    assert loss[8, "energy"] < loss[8, "plain"] - 0.08, loss
    for steps in (2, 4):
        assert loss[steps, "wrong"] > loss[steps, "plain"], loss
    for steps in (2, 4, 8):  # without a choice it is plain diffusion, bit for bit
        for name in ("one", "never"):
            np.testing.assert_array_equal(
                results[steps, name][1], results[steps, "plain"][1]
            )
        effective = results[steps, "energy"][2]
        assert ((effective >= 1) & (effective <= 8)).all()
