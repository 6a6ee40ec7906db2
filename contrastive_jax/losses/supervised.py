"""Losses with any number of positives per anchor, from labels or a pair mask."""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics


def supervised_contrastive(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    form: Literal["out", "in"] = "out",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy against all positives of an anchor (SupCon).

        out: loss_i = mean_{p in P(i)} ( logsumexp_a logits[i, a] - logits[i, p] )
        in:  loss_i = logsumexp_a logits[i, a] - logsumexp_p logits[i, p] + log |P(i)|
                                                                              (nats)

    The candidates a are all columns that count, positives included. Leave the anchor
    itself out of `where`.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      positives: which candidates belong to which anchor. Masked ones are no positives.
      where: candidates that count; all when None.
      weights: one non-negative weight per anchor.
      form: "out" averages outside of the logarithm, "in" inside.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].

    Raises:
      TypeError: arrays of the wrong kind.
      ValueError: shapes that do not fit together, an unknown form.

    References:
      Khosla et al. 2020, arXiv:2004.11362, eq. 2 (out) and eq. 3 (in).

    Deviations:
      The released code multiplies by temperature / base_temperature (1 by default) and
      counts anchors without a positive in the mean.
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits = numerics.at_least_f32(logits, "logits")
    positives = numerics.check_mask(positives, "positives")
    where = jnp.ones(logits.shape, bool) if where is None else where
    positives = positives & where
    total = numerics.masked_logsumexp(logits, where)
    if form == "out":
        loss = numerics.masked_mean(total[:, None] - logits, positives, axis=-1)
    elif form == "in":
        count = jnp.maximum(jnp.sum(positives, axis=-1), 1)
        loss = total - numerics.masked_logsumexp(logits, positives) + jnp.log(count)
    else:
        raise ValueError(f'form: expected "out" or "in", got {form!r}')
    return numerics.safe_reduce(
        loss, where=jnp.any(positives, axis=-1), weights=weights, reduce_fn=reduce_fn
    )
