"""EDLM (Xu et al. 2024): an energy of sequences over a denoiser, and its sampler.

    p(x | x_t) = p_diffusion(x | x_t) exp(-E(x, x_t)) / Z(x_t)

The denoiser draws all masked tokens at once and independently; the energy sees the
whole sequence. It is a language model (`autoregressive_energy`) or is trained by
`residual_nce`. Sampling draws several proposals from the denoiser and keeps one in
proportion to exp(-E).
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.core
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import numerics
from contrastive_jax.ebm import diffusion, nce, samplers
from contrastive_jax.randomness import fold_keys

__all__ = [
    "LogPartition",
    "SampleInfo",
    "autoregressive_energy",
    "diffusion_sample",
    "importance_choice",
    "log_partition_bounds",
    "proposals",
    "residual_bound",
    "residual_nce",
    "weighed_steps",
]

# From proposals [n, k, t], the masked sequences [n, t] and the denoiser's
# log-probabilities [n, t, v] to energies [n, k].
Energy = Callable[[Array, Array, Array], Array]

SIGNS = {"paper": -1.0, "released": 1.0}


def autoregressive_energy(
    ar_logits: Float[Array, "n s v"],
    log_probs: Float[Array, "n t v"],
    tokens: Integer[Array, "n t"],
    masked: Integer[Array, "n t"],
    *,
    mask_id: int,
    carry_over: bool = True,
    where: Bool[Array, "n t"] | None = None,
) -> Float[Array, " n"]:
    """Energy that turns the denoiser into an autoregressive model.

        E_i = -sum_{k >= 1} log p_AR(x_ik | x_i<k) + sum_k log p_diffusion(x_ik | x_t)

    With `carry_over` the first sum leaves out positions that are known in x_t. The
    first token has no autoregressive term: make it a fixed one.

    Args:
      ar_logits: of tokens 1, 2, ... given those before, s = t - 1.
      log_probs: of the denoiser, see `subs_log_probs`.
      tokens: the whole sequences, without masks; of a traced token out of range the
        terms are 0.
      masked: the sequences that the denoiser saw.
      mask_id: the mask, which the autoregressive model never gives.
      carry_over: see above.
      where: tokens that count (padding does not, and may be any number).

    Raises:
      ValueError: a token out of range, as far as it is known.

    References:
      Xu et al. 2024, arXiv:2410.21357 (EDLM-AR; with `carry_over` EDLM-coAR).

    Examples:
      >>> uniform = jnp.zeros((1, 1, 3))
      >>> log_probs = diffusion.subs_log_probs(
      ...     jnp.zeros((1, 2, 3)), jnp.array([[0, 2]]), mask_id=2
      ... )
      >>> tokens, masked = jnp.array([[0, 1]]), jnp.array([[0, 2]])
      >>> energy = autoregressive_energy(
      ...     uniform, log_probs, tokens, masked, mask_id=2
      ... )
      >>> f"{energy[0]:.1f}"
      '0.0'
    """
    sizes = numerics.check_shapes(
        ar_logits=(ar_logits, "n s* v"),
        log_probs=(log_probs, "n t v"),
        tokens=(tokens, "n t"),
        masked=(masked, "n t"),
        where=(where, "n t"),
    )
    if ar_logits.shape[1] != sizes["t"] - 1:
        raise ValueError(
            f"ar_logits: expected {sizes['t'] - 1} positions (one less than tokens), "
            f"got {ar_logits.shape[1]}"
        )
    ar_logits = numerics.at_least_f32(ar_logits, "ar_logits")
    log_probs = numerics.at_least_f32(log_probs, "log_probs")
    where = numerics.mask_or_all(where, tokens.shape)
    tokens = jnp.where(where, numerics.check_integer(tokens, "tokens"), 0)
    tokens = numerics.check_columns(tokens, sizes["v"], "tokens")
    possible = jnp.broadcast_to(
        jnp.arange(ar_logits.shape[-1]) != mask_id, ar_logits.shape
    )
    ar = numerics.masked_log_softmax(ar_logits, possible)
    ar = jnp.where(possible, ar, diffusion.IMPOSSIBLE)
    ar = diffusion.at_tokens(ar, tokens[:, 1:])
    scored = where[:, 1:]
    if carry_over:
        scored &= masked[:, 1:] == mask_id
    denoised = jnp.where(where, diffusion.at_tokens(log_probs, tokens), 0)
    return jnp.sum(denoised, axis=-1) - jnp.sum(jnp.where(scored, ar, 0), axis=-1)


def residual_nce(
    positive_energies: Float[Array, " n"],
    negative_energies: Float[Array, "n k"],
    *,
    where: Bool[Array, " n"] | None = None,
    negatives: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Noise-contrastive estimation of a residual energy.

        loss_i = softplus(E(x_i)) + sum_k softplus(-E(y_ik))             (nats)

    The negatives y are drawn from the denoiser, which is also the noise, so that its
    probabilities cancel and the minimum is at the residual energy.

    Args:
      positive_energies: of the clean sequences.
      negative_energies: of sequences drawn by the denoiser from the same masked ones.
      where: sequences that count.
      negatives: negatives that count.
      weights: one non-negative weight per sequence.
      reduce_fn: `jnp.mean` or `jnp.sum` over sequences that count; None gives [n].

    References:
      Xu et al. 2024, arXiv:2410.21357 (EDLM-NCE); Deng et al. 2020, arXiv:2004.11714.

    Deviations:
      The released code adds 1e-8 to the sigmoids inside the logarithms and weights
      sequences by their number of tokens (`weights`).

    Examples:
      >>> f"{residual_nce(jnp.array([0.0]), jnp.array([[0.0]])):.4f}"
      '1.3863'
    """
    numerics.check_shapes(
        positive_energies=(positive_energies, "n"),
        negative_energies=(negative_energies, "n k*"),
    )
    return nce.negative_sampling(
        -numerics.at_least_f32(positive_energies, "positive_energies"),
        -numerics.at_least_f32(negative_energies, "negative_energies"),
        where=where,
        negatives=negatives,
        weights=weights,
        reduce_fn=reduce_fn,
    )


class LogPartition(NamedTuple):
    """Estimates of log Z from k proposals.

    Attributes:
      estimate: T_k, the log of the mean of exp(-E); at most log Z in the mean.
      leave_one_out: mean of the estimates that leave out one proposal; T_1 if k = 1.
      upper: (2k - 1) T_k - 2 (k - 1) T_{k-1}, at least log Z in the limit of large k.
    """

    estimate: Float[Array, "*batch"]
    leave_one_out: Float[Array, "*batch"]
    upper: Float[Array, "*batch"]


def log_partition_bounds(energies: Float[Array, "*batch k"]) -> LogPartition:
    """Estimates of log Z = log E[exp(-E(x))] that lie below and above it.

    Args:
      energies: of k proposals drawn from the denoiser.

    Raises:
      ValueError: no proposal.

    References:
      Xu et al. 2024, arXiv:2410.21357; Deng et al. 2020, arXiv:2004.11714 (the form
      of the upper one).

    Examples:
      >>> bounds = log_partition_bounds(jnp.array([1.0, 1.0]))
      >>> [float(x) for x in bounds]
      [-1.0, -1.0, -1.0]
    """
    energies = numerics.at_least_f32(energies, "energies")
    k = energies.shape[-1] if energies.ndim else 0
    if not k:
        raise ValueError(
            f"energies: expected at least one proposal, got {energies.shape}"
        )
    estimate = jax.nn.logsumexp(-energies, axis=-1) - jnp.log(k)
    if k == 1:
        return LogPartition(estimate, estimate, estimate)
    others = ~jnp.eye(k, dtype=bool)
    rest = jnp.broadcast_to(-energies[..., None, :], (*energies.shape, k))
    left = numerics.masked_logsumexp(rest, jnp.broadcast_to(others, rest.shape))
    leave_one_out = jnp.mean(left - jnp.log(k - 1), axis=-1)
    upper = (2 * k - 1) * estimate - 2 * (k - 1) * leave_one_out
    return LogPartition(estimate, leave_one_out, upper)


def residual_bound(
    log_probs: Float[Array, "n t v"],
    tokens: Integer[Array, "n t"],
    energies: Float[Array, " n"],
    log_partition: Float[Array, " n"],
    times: Float[Array, " n"],
) -> Float[Array, " n"]:
    """The paper's likelihood figure of the denoiser with its energy, at random times.

        bound_i = (-sum_k log_probs[i, k, x_ik] + E_i + log Z_i) / times[i]   (nats)

    With E = log Z = 0 its mean over times bounds the negative log-likelihood; with
    `autoregressive_energy` with `carry_over` (log Z = 0) it is the language model's.
    With any other energy it is no bound: the joint probability of all masked tokens
    stands for that of the next few, and of two equal fair bits the exact residual
    model gets half a bit where one is the truth.

    Args:
      log_probs: of the denoiser at `times`.
      tokens: the clean tokens.
      energies: E of the clean sequences.
      log_partition: log Z of the masked ones, see `log_partition_bounds`; an estimate
        below log Z makes the bound too small.
      times: in (0, 1], under the log-linear schedule.

    References:
      Xu et al. 2024, arXiv:2410.21357.

    Examples:
      >>> log_probs = jnp.log(jnp.array([[[0.5, 0.5]]]))
      >>> zero, tokens = jnp.zeros(1), jnp.array([[1]])
      >>> bound = residual_bound(log_probs, tokens, zero, zero, jnp.array([0.5]))
      >>> f"{bound[0]:.4f}"
      '1.3863'
    """
    numerics.check_shapes(
        log_probs=(log_probs, "n t v"),
        tokens=(tokens, "n t"),
        energies=(energies, "n"),
        log_partition=(log_partition, "n"),
        times=(times, "n"),
    )
    plain = diffusion.masked_diffusion(log_probs, tokens, times, reduce_fn=None)
    return plain + (energies + log_partition) / jnp.maximum(times, 1e-6)


def proposals(
    rngs: Key[Array, " n"],
    log_probs: Float[Array, "n t v"],
    num_proposals: int,
) -> Integer[Array, "n k t"]:
    """Whole sequences drawn from the denoiser, tokens independent; known ones stay.

    Args:
      rngs: one per sequence.
      log_probs: of the denoiser, see `diffusion.subs_log_probs`.
      num_proposals: k, >= 1.

    Examples:
      >>> log_probs = jnp.log(jnp.array([[[0.0, 1.0]]]))
      >>> proposals(jax.random.split(jax.random.key(0), 1), log_probs, 2).tolist()
      [[[1], [1]]]
    """
    numerics.check_positive(num_proposals=num_proposals)

    def draw(rng, row):
        # "high", for without it tokens rarer than 1e-7 come out wrong.
        shape = num_proposals, len(row)
        return jax.random.categorical(rng, row, shape=shape, mode="high")

    return jax.vmap(draw)(rngs, log_probs)


def importance_choice(
    rngs: Key[Array, " n"],
    candidates: Integer[Array, "n k t"],
    energies: Float[Array, "n k"],
    *,
    temperature: float | Array = 1.0,
    sign: str = "paper",
) -> tuple[Integer[Array, "n t"], Float[Array, " n"]]:
    """One of the proposals of each sequence, drawn in proportion to exp(-E).

    Args:
      rngs: one per sequence.
      candidates: proposals.
      energies: of each.
      temperature: E is divided by it, > 0.
      sign: "paper" for exp(-E); "released" for exp(+E), what the released sampler
        does against its own training objective.

    Returns:
      the chosen sequences, and the effective sample size of the weights in [1, k].

    References:
      Xu et al. 2024, arXiv:2410.21357; MinkaiXu/Energy-Diffusion-LLM.

    Examples:
      >>> rngs = jax.random.split(jax.random.key(0), 1)
      >>> candidates, energies = jnp.array([[[5], [6]]]), jnp.array([[1e3, -1e3]])
      >>> importance_choice(rngs, candidates, energies)[0].tolist()
      [[6]]
    """
    numerics.check_shapes(candidates=(candidates, "n k t"), energies=(energies, "n k"))
    numerics.check_positive(temperature=temperature)
    if sign not in SIGNS:
        raise ValueError(f"sign: expected one of {', '.join(SIGNS)}, got {sign!r}")
    log_w = SIGNS[sign] * numerics.at_least_f32(energies, "energies") / temperature
    chosen = samplers.gumbel_argmax(rngs, log_w)
    rows = jnp.take_along_axis(candidates, chosen[:, None, None], axis=1)[:, 0]
    return rows, samplers.effective_sample_size(log_w)


def weighed_steps(num_steps: int, window: float) -> int:
    """How many steps begin at a time in [1 - window, 1]; none without a window.

    Raises:
      TypeError: a traced window.

    Examples:
      >>> [weighed_steps(4, window) for window in (0.0, 0.2, 0.5, 1.0)]
      [0, 1, 3, 4]
    """
    if isinstance(window, jax.core.Tracer):
        raise TypeError(f"window: expected a plain number, got {window}")
    if window == 0:
        return 0
    times = 1 - np.arange(num_steps) * (1 - 1e-5) / num_steps
    return int(np.sum(times >= 1 - window - 1e-9))


class SampleInfo(NamedTuple):
    """Diagnostics of a sampler, one value per step.

    Attributes:
      effective: mean effective number of proposals; 1 where there is no energy.
      masked: share of positions that are masked after the step.
    """

    effective: Float[Array, " steps"]
    masked: Float[Array, " steps"]


def diffusion_sample(
    rngs: Key[Array, " n"],
    start: Integer[Array, "n t"],
    denoise: diffusion.Denoise,
    energy: Energy | None = None,
    *,
    num_steps: int,
    mask_id: int,
    num_proposals: int = 1,
    window: float = 1.0,
    temperature: float | Array = 1.0,
    sign: str = "paper",
) -> tuple[Integer[Array, "n t"], SampleInfo]:
    """Sequences drawn from masked diffusion, with or without a residual energy.

    Steps that begin at a time in [1 - window, 1] draw `num_proposals` whole sequences,
    keep one by weight, and reveal a part of it; later ones, and all of them with one
    proposal or without a window, are the plain ones of `diffusion.ddpm_step`.
    Positions still masked at the end get their most probable token.

    Args:
      rngs: one per sequence; the number of the step is folded in.
      start: masks at all positions to be drawn, tokens at those that are given.
      denoise: the denoiser; its log-probabilities as `diffusion.subs_log_probs` gives.
      energy: the residual energy, or None.
      num_steps: steps from noise to text.
      mask_id: the mask.
      num_proposals: k.
      window: length of the time in which the energy is used, in [0, 1]; a plain number,
        for the number of such steps is part of the program.
      temperature: see `importance_choice`.
      sign: see `importance_choice`.

    References:
      Xu et al. 2024, arXiv:2410.21357; Sahoo et al. 2024, arXiv:2406.07524.

    Examples:
      >>> def denoise(tokens):
      ...     logits = jnp.broadcast_to(jnp.array([0.0, 9e9, 0.0]), (*tokens.shape, 3))
      ...     return diffusion.subs_log_probs(logits, tokens, mask_id=2)
      >>> rngs = jax.random.split(jax.random.key(0), 1)
      >>> start = jnp.array([[0, 2, 2]])
      >>> diffusion_sample(rngs, start, denoise, num_steps=2, mask_id=2)[0].tolist()
      [[0, 1, 1]]
    """
    numerics.check_shapes(rngs=(rngs, "n"), start=(start, "n t"))
    numerics.check_fraction(window=window)
    numerics.check_positive(num_proposals=num_proposals)
    start = numerics.check_signed(start, "start")
    times = diffusion.sampling_times(num_steps)
    dt = times[0] - times[1] if num_steps > 1 else times[0] - 1e-5
    with_energy = energy is not None and num_proposals > 1
    early = weighed_steps(num_steps, window) if with_energy else 0

    def step(tokens, at, weigh):
        index, time = at
        now = fold_keys(rngs, index)
        log_probs, effective = denoise(tokens), jnp.ones(())
        if weigh and energy is not None:
            candidates = proposals(fold_keys(now, 1), log_probs, num_proposals)
            chosen, size = importance_choice(
                fold_keys(now, 2),
                candidates,
                energy(candidates, tokens, log_probs),
                temperature=temperature,
                sign=sign,
            )
            effective = jnp.mean(size)
            tokens = diffusion.reveal_tokens(
                fold_keys(now, 0), tokens, chosen, time, dt, mask_id=mask_id
            )
        else:
            probs = jnp.exp(log_probs)
            tokens = diffusion.ddpm_step(
                fold_keys(now, 0), tokens, probs, time, dt, mask_id=mask_id
            )
        return tokens, SampleInfo(effective, jnp.mean(tokens == mask_id))

    tokens, infos = start, []
    for weigh, part in ((True, slice(early)), (False, slice(early, num_steps))):
        at = jnp.arange(num_steps)[part], times[part]
        if len(at[0]):
            scanned = functools.partial(step, weigh=weigh)
            tokens, info = jax.lax.scan(scanned, tokens, at)
            infos.append(info)
    info = jax.tree.map(lambda *x: jnp.concatenate(x), *infos)
    return diffusion.fill(denoise(tokens), tokens, mask_id=mask_id), info
