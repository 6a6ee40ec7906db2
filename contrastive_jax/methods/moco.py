"""MoCo (He et al. 2019; Chen et al. 2021): one key against a queue, or the batch."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics
from contrastive_jax.losses import info_nce

__all__ = [
    "moco",
    "moco_v3",
]


def moco(
    positive_logits: Float[Array, " n"],
    negative_logits: Float[Array, "n k"],
    *,
    where: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE of a query's key against a queue of past keys.

        loss_i = log(1 + sum_k exp(negative_logits[i, k] - positive_logits[i]))   (nats)

    Also known as MoCo v1 and MoCo v2.

    Args:
      positive_logits: score of each query and its own key, temperature applied.
      negative_logits: scores of each query against k queued keys.
      where: queued keys that count.
      weights: one non-negative weight per query.
      reduce_fn: `jnp.mean` or `jnp.sum` over queries; None gives [n].

    References:
      He et al. 2020, arXiv:1911.05722, eq. 1 and algorithm 1.

    Examples:
      >>> queue_logits = jnp.array([[0.0, 0.0], [0.0, 1.0]])
      >>> moco(jnp.array([2.0, 1.0]), queue_logits, reduce_fn=None).round(4)
      Array([0.2395, 0.862 ], dtype=float32)
    """
    numerics.check_shapes(
        positive_logits=(positive_logits, "n"),
        negative_logits=(negative_logits, "n k*"),
        where=(where, "n k*"),
        weights=(weights, "n"),
    )
    positive_logits = numerics.at_least_f32(positive_logits, "positive_logits")
    negative_logits, where = numerics.masked_logits(
        negative_logits, where, "negative_logits"
    )
    gaps = negative_logits - positive_logits[:, None]
    loss = jax.nn.softplus(numerics.masked_logsumexp(gaps, where))
    return numerics.safe_reduce(loss, weights=weights, reduce_fn=reduce_fn)


def moco_v3(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    temperature: numerics.Number,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE against the keys of the batch, scaled by twice the temperature.

        loss_i = 2 temperature info_nce_i                                (nats)

    The objective is the sum of this over the two pairs of views, (q1, k2) and (q2, k1).

    Also known as MoCo v3.

    Args:
      logits: scores of n queries against the keys of the whole batch, temperature
        applied, keys without gradient.
      labels: column of each query's key; the diagonal when None.
      temperature: the one in the logits, > 0.
      where: keys that count; a query whose key is masked drops out.
      weights: one non-negative weight per query.
      reduce_fn: `jnp.mean` or `jnp.sum` over queries that count; None gives [n].

    References:
      Chen et al. 2021, arXiv:2104.02057, eq. 1 and algorithm 1.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 1.0]])
      >>> moco_v3(logits, temperature=0.2, reduce_fn=None).round(4)
      Array([0.0508, 0.2773], dtype=float32)
    """
    numerics.check_positive(temperature=temperature)
    scale = 2 * temperature
    options: dict[str, Any] = dict(where=where, weights=weights, reduce_fn=reduce_fn)
    return scale * info_nce(logits, labels, **options)
