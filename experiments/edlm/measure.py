"""What experiments on diffusion language models share: bounds, samples, report.

A run has four networks: a denoiser of masked tokens, a language model, a sequence
energy and a judge, a language model of another seed that scores what is drawn.
"""

import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from contrastive_jax import ebm, randomness
from contrastive_jax.evaluation.generation import unigram_entropy
from contrastive_jax.methods import edlm
from experiments.edlm.model import Networks, draw


@functools.partial(jax.jit, static_argnames=("eps", "num_proposals"))
def bounds_of(
    nets: Networks,
    tokens: Int[Array, "n t"],
    times: Float[Array, " n"],
    keys: Array,
    *,
    eps: float,
    num_proposals: int,
) -> dict[str, Any]:
    """Terms of `likelihood_bounds` for some sequences, each at a time of its own."""
    n, length = tokens.shape
    noise_keys, draw_keys = (randomness.fold_keys(keys, i) for i in range(2))
    masked = ebm.mask_tokens(
        randomness.uniform(noise_keys, (n, length)),
        tokens,
        ebm.loglinear_schedule(times, eps=eps).move_chance,
        mask_id=nets.mask_id,
        where=jnp.broadcast_to(jnp.arange(length)[None] > 0, tokens.shape),
    )
    log_probs = nets.denoise(masked)
    draws = edlm.proposals(draw_keys, log_probs, num_proposals)
    zero = jnp.zeros(n)
    found = {"mdlm": edlm.residual_bound(log_probs, tokens, zero, zero, times)}
    candidates = jnp.concatenate([tokens[:, None], draws], axis=1)
    given = dict(masked=masked, log_probs=log_probs)
    known = nets.energy("ar", tokens[:, None], **given, carry_over=True)[:, 0]
    found["edlm_coar"] = edlm.residual_bound(log_probs, tokens, known, zero, times)
    log_z = {}
    for name in ("ar", "nce"):
        energies = nets.energy(name, candidates, **given)
        for k in powers(num_proposals):
            z = edlm.log_partition_bounds(energies[:, 1 : k + 1])
            log_z[f"{name} {k}"] = jnp.mean(z.estimate), jnp.mean(z.upper)
        for suffix, value in (("", z.estimate), ("_upper", z.upper)):
            found[f"edlm_{name}{suffix}"] = edlm.residual_bound(
                log_probs, tokens, energies[:, 0], value, times
            )
    bits = jax.tree.map(lambda x: jnp.mean(x) / (length - 1) / math.log(2), found)
    return {"bits": bits, "log_z": log_z}


def powers(largest: int) -> list[int]:
    """1, 2, 4, ... below `largest`, and `largest`."""
    return [2**i for i in range(largest.bit_length()) if 2**i < largest] + [largest]


def likelihood_bounds(
    nets: Networks,
    tokens: Int[np.ndarray, "n t"],
    *,
    steps: Sequence[int],
    times: int,
    min_t: float,
    eps: float,
    num_proposals: int,
    seed: int,
) -> tuple[dict[str, float], dict[str, Any]]:
    """Bits per token after the first, of diffusion and of its energies.

    Each is measured in continuous time and for chains of few steps, whose terms are
    those of the times 1/T, 2/T, ..., 1 (`ebm.discrete_times`); the same random numbers
    serve all of them, which takes most of the noise out of differences.

    "mdlm" and "edlm_coar" are bounds, "ar" is exact; the others follow the paper's
    formula, which is no bound in general (`edlm.residual_bound`). They take Z from the
    mean of `num_proposals` weights, which is below Z in the mean and makes the figure
    too small; their "_upper" forms correct it (`edlm.log_partition_bounds`).

    Args:
      nets: the networks.
      tokens: held-out sequences.
      steps: lengths T of the chains.
      times: random times of each sequence.
      min_t: the smallest.
      eps: of the schedule.
      num_proposals: for Z.
      seed: of all of it.

    Returns:
      bits by "method/bits" in continuous time and "method_T/bits" for T steps, and
      mean bounds of log Z by "energy k" for the report, in continuous time.
    """
    total = len(tokens) * times
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(seed), jnp.arange(total)
    )
    time_keys, other_keys = (randomness.fold_keys(keys, i) for i in range(2))
    even = ebm.antithetic_times(randomness.uniform(time_keys, (total,)), min_t=min_t)
    # Held-out windows come in the order of their texts: times must not follow it.
    rows = np.random.default_rng(seed).permutation(total).reshape(times, -1)

    def measure(moved: Array) -> dict[str, Any]:
        """Means over all sequences at these times, [total]."""
        parts = [
            bounds_of(
                nets,
                jnp.asarray(tokens),
                moved[i],
                other_keys[i],
                eps=eps,
                num_proposals=num_proposals,
            )
            for i in rows
        ]
        return jax.tree.map(lambda *x: float(np.mean(x)), *parts)

    mean = measure(even)
    bits = mean["bits"] | {"ar": mean_nll(nets, "ar", tokens) / math.log(2)}
    for t in steps:
        found = measure(ebm.discrete_times(even, t))["bits"]
        bits |= {f"{name}_{t}": x for name, x in found.items()}
    return {f"{name}/bits": x for name, x in bits.items()}, mean["log_z"]


def timed_samples(
    nets: Networks,
    start: Int[np.ndarray, "n t"],
    *,
    seed: int,
    repeats: int,
    **options: Any,
) -> tuple[Int[np.ndarray, "n t"], dict[str, float]]:
    """Samples, and how good and how fast they are.

    Args:
      nets: the networks.
      start: masks at the positions to be drawn.
      seed: of the samples.
      repeats: calls of the compiled program that are timed; the fastest counts. 0 makes
        one call and measures no time.
      **options: of `draw`.

    Returns:
      the samples, and "perplexity" under the judge, "entropy" (nats, of each sample's
      own letters), "seconds" of wall time for all of them, "effective" (mean number of
      proposals over the steps).
    """
    inputs = (
        nets,
        jnp.asarray(start),
        jax.random.split(jax.random.key(seed), len(start)),
    )
    call = draw.lower(*inputs, **options).compile()
    seconds = []
    for _ in range(max(repeats, 1)):
        began = time.perf_counter()
        tokens, info = jax.block_until_ready(call(*inputs))
        seconds.append(time.perf_counter() - began)
    measures = {
        "perplexity": math.exp(mean_nll(nets, "judge", tokens)),
        "entropy": unigram_entropy(tokens[:, 1:]),
        "effective": float(jnp.mean(info.effective)),
    }
    return np.asarray(tokens), measures | ({"seconds": min(seconds)} if repeats else {})


def mean_nll(
    nets: Networks, name: str, tokens: Int[Array | np.ndarray, "n t"]
) -> float:
    """Mean of `Networks.nll` (nats per token after the first)."""
    return float(jnp.mean(jitted_nll(nets, name, jnp.asarray(tokens))))


jitted_nll = jax.jit(Networks.nll, static_argnums=1)


def speed_up(
    found: Mapping[str, float], plain: str, others: Sequence[str], steps: Sequence[int]
) -> dict[str, float]:
    """How much faster other methods reach the perplexity of plain diffusion.

    Args:
      found: "perplexity" and "seconds" as "method_steps/measure".
      plain: the method to be beaten.
      others: methods that may do it, at any number of steps.
      steps: numbers of steps.

    Returns:
      seconds of plain over those of the fastest that is as good, 0 when none is:
      "speed_up/of_most_steps" for plain at its largest number of steps, and
      "speed_up/of_best_steps" for plain where its perplexity is lowest, which is the
      harder one, since that number of steps is chosen after the fact. With "/method"
      behind it for one of the others alone.
    """

    def perplexity(name: str) -> float:
        return found[f"{name}/perplexity"]

    goals = {
        "most": f"{plain}_{max(steps)}",
        "best": min((f"{plain}_{k}" for k in steps), key=perplexity),
    }
    gains = {}
    for which, goal in goals.items():
        key = f"speed_up/of_{which}_steps"
        for name in others:
            good = [
                found[f"{name}_{k}/seconds"]
                for k in steps
                if perplexity(f"{name}_{k}") <= perplexity(goal)
            ]
            gains[f"{key}/{name}"] = found[f"{goal}/seconds"] / min(
                good, default=np.inf
            )
        gains[key] = max(gains[f"{key}/{name}"] for name in others)
    return gains
