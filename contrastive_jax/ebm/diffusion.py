"""Masked discrete diffusion over token sequences: schedule, noise, objective, sampling.

Tokens are [n, t] integers; `mask_id` stands for a token that is not yet known. A
denoiser maps partly masked sequences to log-probabilities of all tokens, [n, t, v].
Noise of the training comes in as uniforms, one per use, so that a step can key them by
example; steps of a sampler take one key, or one per sequence. Tokens of fewer than 32
bits come up to int32, so that every token and the mask fit.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import numerics
from contrastive_jax.ebm import samplers
from contrastive_jax.randomness import bernoulli, fold_keys

# Log-probability of a token that cannot be.
IMPOSSIBLE = -1e6

# From partly masked tokens [n, t] to log-probabilities [n, t, v].
Denoise = Callable[[Array], Array]


class Schedule(NamedTuple):
    """The noise of a time in (0, 1].

    Attributes:
      sigma: total noise.
      dsigma: its slope.
      move_chance: probability that a token is masked, 1 - exp(-sigma).
      weight: of the objective at this time, dsigma / (exp(sigma) - 1) = 1 / t.
    """

    sigma: Float[Array, " n"]
    dsigma: Float[Array, " n"]
    move_chance: Float[Array, " n"]
    weight: Float[Array, " n"]


def loglinear_schedule(t: Float[Array, " n"], *, eps: float | Array = 1e-3) -> Schedule:
    """The schedule under which tokens are masked at a rate linear in time.

        sigma(t) = -log(1 - (1 - eps) t)

    Args:
      t: times in (0, 1].
      eps: share of tokens that are left at t = 1, in (0, 1).

    References:
      Sahoo et al. 2024, arXiv:2406.07524 (MDLM).

    Examples:
      >>> schedule = loglinear_schedule(jnp.array([0.5]), eps=0.0)
      >>> f"{schedule.move_chance[0]:.2f} {schedule.weight[0]:.2f}"
      '0.50 2.00'
    """
    numerics.check_fraction(eps=eps)
    t = numerics.at_least_f32(t, "t")
    move_chance = (1 - eps) * t
    sigma = -jnp.log1p(-move_chance)
    dsigma = (1 - eps) / (1 - move_chance)
    return Schedule(sigma, dsigma, move_chance, 1 / t)


def antithetic_times(
    uniform: Float[Array, " n"],
    rows: Integer[Array, " n"] | None = None,
    *,
    total: int | Array | None = None,
    min_t: float | Array = 1e-3,
) -> Float[Array, " n"]:
    """Times that cover (0, 1] evenly over a batch, each uniform by itself.

        t_i = (1 - min_t) frac((uniform_i + i) / total) + min_t

    Args:
      uniform: a number in [0, 1) per example.
      rows: numbers of the examples in the batch of all devices; 0, 1, ... when None.
      total: examples of all devices together; n when None.
      min_t: the smallest time, in [0, 1].

    References:
      Sahoo et al. 2024, arXiv:2406.07524; kuleshov-group/mdlm.

    Examples:
      >>> antithetic_times(jnp.array([0.5, 0.5]), min_t=0.0).tolist()
      [0.25, 0.75]
    """
    numerics.check_fraction(min_t=min_t)
    numerics.check_shapes(uniform=(uniform, "n"), rows=(rows, "n"))
    uniform = numerics.at_least_f32(uniform, "uniform")
    rows = jnp.arange(len(uniform)) if rows is None else rows
    even = (uniform + rows) / (len(uniform) if total is None else total)
    return (1 - min_t) * (even % 1) + min_t


def discrete_times(t: Float[Array, " n"], num_steps: int | Array) -> Float[Array, " n"]:
    """Times moved up to the grid 1/T, 2/T, ..., 1 of a chain of T steps.

    Args:
      t: times in (0, 1].
      num_steps: T, at least 1.

    Raises:
      ValueError: no step.

    Examples:
      >>> discrete_times(jnp.array([0.3]), 2).tolist()
      [0.5]
    """
    numerics.check_positive(num_steps=num_steps)
    t = numerics.at_least_f32(t, "t")
    return jnp.minimum(jnp.floor(t * num_steps) + 1, num_steps) / num_steps


def mask_tokens(
    uniform: Float[Array, "n t"],
    tokens: Integer[Array, "n t"],
    move_chance: Float[Array, " n"],
    *,
    mask_id: int,
    where: Bool[Array, "n t"] | None = None,
) -> Integer[Array, "n t"]:
    """Each token replaced by the mask with its sequence's probability.

    Args:
      uniform: a number in [0, 1) per token.
      tokens: the clean sequences.
      move_chance: probability per sequence.
      mask_id: the mask.
      where: tokens that may be masked; the others stay.

    Examples:
      >>> uniform = jnp.array([[0.1, 0.9]])
      >>> mask_tokens(uniform, jnp.array([[3, 4]]), jnp.array([0.5]), mask_id=9)
      Array([[9, 4]], dtype=int32)
    """
    numerics.check_shapes(
        uniform=(uniform, "n t"),
        tokens=(tokens, "n t"),
        move_chance=(move_chance, "n"),
        where=(where, "n t"),
    )
    tokens = numerics.check_signed(tokens, "tokens")
    moved = uniform < move_chance[:, None]
    if where is not None:
        moved &= numerics.check_mask(where, "where")
    return jnp.where(moved, mask_id, tokens)


def subs_log_probs(
    logits: Float[Array, "n t v"], tokens: Integer[Array, "n t"], *, mask_id: int
) -> Float[Array, "n t v"]:
    """Log-probabilities of clean tokens: never the mask, and what is known stays.

    Args:
      logits: of the network, for every position.
      tokens: the partly masked sequences that it saw.
      mask_id: the mask, in [0, v).

    Returns:
      IMPOSSIBLE (-1e6) at the mask and, at known positions, at all but the token (at
      all, where a traced token is out of range).

    Raises:
      ValueError: a mask or a token outside of the vocabulary.

    References:
      Sahoo et al. 2024, arXiv:2406.07524 (substitution parameterisation).

    Examples:
      >>> log_p = subs_log_probs(jnp.zeros((1, 2, 3)), jnp.array([[0, 2]]), mask_id=2)
      >>> jnp.exp(log_p[0]).round(2).tolist()
      [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]
    """
    numerics.check_shapes(logits=(logits, "n t v"), tokens=(tokens, "n t"))
    logits = numerics.at_least_f32(logits, "logits")
    vocabulary = logits.shape[-1]
    tokens = numerics.check_columns(tokens, vocabulary, "tokens")
    if not 0 <= mask_id < vocabulary:
        raise ValueError(f"mask_id: expected 0 to {vocabulary - 1}, got {mask_id}")
    possible = jnp.broadcast_to(jnp.arange(vocabulary) != mask_id, logits.shape)
    unknown = jnp.where(
        possible, numerics.masked_log_softmax(logits, possible), IMPOSSIBLE
    )
    itself = jax.nn.one_hot(tokens, vocabulary, dtype=bool)
    known = jnp.where(itself, jnp.zeros_like(logits), IMPOSSIBLE)
    return jnp.where((tokens == mask_id)[..., None], unknown, known)


def masked_diffusion(
    log_probs: Float[Array, "n t v"],
    tokens: Integer[Array, "n t"],
    times: Float[Array, " n"],
    *,
    max_time: float | Array = 1.0,
    where: Bool[Array, "n t"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Bound of the negative log-likelihood of masked diffusion, at random times.

        loss_i = sum_k -log_probs[i, k, tokens[i, k]] / times[i]         (nats)

    The mean over times of this is a bound of the negative log-likelihood. Known
    positions add 0, since their log-probability is 0 (`subs_log_probs`). `jnp.mean`
    divides by the number of tokens that count, known ones included. The chain of T
    steps has the same terms at the times k/T (`discrete_times`), with max_time 1 - 1e-4
    in the released code.

    Args:
      log_probs: of the denoiser at `times`, see `subs_log_probs`.
      tokens: the clean tokens, in [0, v) where they count; a traced one that is not
        drops out.
      times: in (0, 1], under the log-linear schedule; cut to at least 1e-6.
      max_time: larger times are cut to this.
      where: tokens that count (padding does not).
      weights: one non-negative weight per sequence.
      reduce_fn: `jnp.mean` or `jnp.sum` over tokens; None gives the sums of the
        sequences, [n].

    Raises:
      ValueError: a token outside of the vocabulary, as far as it is known.

    References:
      Sahoo et al. 2024, arXiv:2406.07524 (MDLM, continuous time).

    Examples:
      >>> log_probs = jnp.log(jnp.array([[[0.5, 0.5]]]))
      >>> loss = masked_diffusion(log_probs, jnp.array([[1]]), jnp.array([0.5]))
      >>> f"{loss:.4f}"
      '1.3863'
    """
    numerics.check_shapes(
        log_probs=(log_probs, "n t v"),
        tokens=(tokens, "n t"),
        times=(times, "n"),
        where=(where, "n t"),
        weights=(weights, "n"),
    )
    numerics.check_positive(max_time=max_time)
    log_probs = numerics.at_least_f32(log_probs, "log_probs")
    times = numerics.at_least_f32(times, "times")
    tokens = numerics.check_integer(tokens, "tokens")
    if where is not None:
        tokens = jnp.where(numerics.check_mask(where, "where"), tokens, 0)
    tokens = numerics.check_columns(tokens, log_probs.shape[-1], "tokens")
    inside = tokens < log_probs.shape[-1]
    where = inside & numerics.mask_or_all(where, tokens.shape)
    times = jnp.clip(times, 1e-6, max_time)
    loss = -at_tokens(log_probs, tokens) / times[:, None]
    return numerics.reduce_terms(
        loss, where=where, weights=weights, reduce_fn=reduce_fn
    )


def ddpm_step(
    rng: Key[Array, "*keys"],
    tokens: Integer[Array, "n t"],
    probs: Float[Array, "n t v"],
    time: float | Float[Array, ""],
    dt: float | Float[Array, ""],
    *,
    mask_id: int,
) -> Integer[Array, "n t"]:
    """One step back in time, from `time` to `time - dt`; known tokens stay.

    A masked position becomes token v with probability probs[v] dt / time and stays
    masked with probability (time - dt) / time, as `ddpm_probs` says. Whether and which
    are drawn apart: each token of a large vocabulary by itself is too rare.

    Args:
      rng: one key, or one per sequence.
      tokens: the sequences at `time`.
      probs: the denoiser's probabilities of clean tokens, which sum to 1; that of the
        mask does not matter.
      time: in (0, 1].
      dt: length of the step, at most `time`.
      mask_id: the mask.

    References:
      Sahoo et al. 2024, arXiv:2406.07524; kuleshov-group/mdlm.

    Examples:
      >>> probs = jnp.array([[[1.0, 0.0, 0.0]]])
      >>> ddpm_step(jax.random.key(0), jnp.array([[2]]), probs, 0.5, 0.5, mask_id=2)
      Array([[0]], dtype=int32)
    """
    numerics.check_shapes(tokens=(tokens, "n t"), probs=(probs, "n t v"))
    log_probs = jnp.log(numerics.at_least_f32(probs, "probs"))
    masks = jnp.arange(probs.shape[-1]) == mask_id
    log_probs = jnp.where(masks, -jnp.inf, log_probs)
    drawn = samplers.gumbel_argmax(fold_keys(rng, 1), log_probs)
    return reveal_tokens(fold_keys(rng, 0), tokens, drawn, time, dt, mask_id=mask_id)


def reveal_tokens(
    rng: Key[Array, "*keys"],
    tokens: Integer[Array, "n t"],
    drawn: Integer[Array, "n t"],
    time: float | Float[Array, ""],
    dt: float | Float[Array, ""],
    *,
    mask_id: int,
) -> Integer[Array, "n t"]:
    """One step back in time, towards sequences without masks that were drawn before.

    A masked position becomes drawn[i, k] with probability dt / time.

    Args:
      rng: one key, or one per sequence.
      tokens: the sequences at `time`.
      drawn: whole sequences.
      time: in (0, 1].
      dt: length of the step, at most `time`.
      mask_id: the mask.

    Examples:
      >>> tokens, drawn = jnp.array([[3, 9]]), jnp.array([[4, 5]])
      >>> reveal_tokens(jax.random.key(0), tokens, drawn, 0.5, 0.5, mask_id=9)
      Array([[3, 5]], dtype=int32)
    """
    numerics.check_shapes(tokens=(tokens, "n t"), drawn=(drawn, "n t"))
    tokens, chance = (
        numerics.check_signed(tokens, "tokens"),
        jnp.asarray(dt / time, float),
    )
    moved = bernoulli(rng, jnp.broadcast_to(chance, tokens.shape))
    return jnp.where(moved & (tokens == mask_id), drawn.astype(tokens.dtype), tokens)


def ddpm_probs(
    tokens: Integer[Array, "n t"],
    probs: Float[Array, "n t v"],
    time: float | Float[Array, ""],
    dt: float | Float[Array, ""],
    *,
    mask_id: int,
) -> Float[Array, "n t v"]:
    """The law of `ddpm_step`: probabilities of every token at `time - dt`.

    Args:
      tokens: the sequences at `time`.
      probs: the denoiser's probabilities of clean tokens.
      time: in (0, 1].
      dt: length of the step, at most `time`.
      mask_id: the mask.

    References:
      Sahoo et al. 2024, arXiv:2406.07524, eq. 6.

    Examples:
      >>> probs = jnp.array([[[0.25, 0.75, 0.0]]])
      >>> ddpm_probs(jnp.array([[2]]), probs, 1.0, 0.5, mask_id=2).tolist()
      [[[0.125, 0.375, 0.5]]]
    """
    numerics.check_shapes(tokens=(tokens, "n t"), probs=(probs, "n t v"))
    probs = numerics.at_least_f32(probs, "probs")
    masks = jnp.arange(probs.shape[-1]) == mask_id
    moved = jnp.where(masks, (time - dt) / time, probs * (dt / time))
    tokens = numerics.check_signed(tokens, "tokens")
    known = jax.nn.one_hot(tokens, probs.shape[-1], dtype=probs.dtype)
    return jnp.where((tokens == mask_id)[..., None], moved, known)


def fill(
    log_probs: Float[Array, "n t v"], tokens: Integer[Array, "n t"], *, mask_id: int
) -> Integer[Array, "n t"]:
    """The sequences with their most probable token at every position still masked.

    Examples:
      >>> log_probs = jnp.log(jnp.array([[[0.2, 0.7, 0.1], [0.2, 0.7, 0.1]]]))
      >>> fill(log_probs, jnp.array([[0, 2]]), mask_id=2).tolist()
      [[0, 1]]
    """
    tokens = numerics.check_signed(tokens, "tokens")
    best = jnp.argmax(log_probs, axis=-1).astype(tokens.dtype)
    return jnp.where(tokens == mask_id, best, tokens)


def sampling_times(num_steps: int, *, last: float = 1e-5) -> Float[Array, " steps"]:
    """The times at which the steps of a sampler begin, from 1 down; dt is even.

    Raises:
      ValueError: no step.

    Examples:
      >>> sampling_times(2, last=0.0).tolist()
      [1.0, 0.5]
    """
    numerics.check_positive(num_steps=num_steps)
    return jnp.linspace(1.0, last, num_steps + 1)[:-1]


def at_tokens(
    log_probs: Float[Array, "n t v"], tokens: Integer[Array, "n t"]
) -> Float[Array, "n t"]:
    """The log-probability of each token; 0 where there is no such token."""
    flat = log_probs.reshape(-1, log_probs.shape[-1])
    return numerics.at_columns(flat, tokens.reshape(-1)).reshape(tokens.shape)
