"""WhitenedCSE (Zhuo et al. 2023): sentences by whitening and several positives.

The whitening of shuffled groups of channels is `states.shuffled_group_whiten`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import losses, numerics, pairs

__all__ = ["multi_view_info_nce"]


def multi_view_info_nce(
    logits: Float[Array, "n v m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE of an anchor against each of several views, summed over the views.

        loss_i = sum_v ( logsumexp_j logits[i, v, j] - logits[i, v, labels[i]] )  (nats)

    Every view has a softmax of its own, so that the positives of an anchor are not
    set against each other; the sum is v times as large as a loss of one view.

    Args:
      logits: scores of n anchors, the first view, against m candidates in each of v
        other views; temperature applied.
      labels: column of each anchor's positive, the same in every view; the diagonal
        when None.
      where: candidates that count, the same in every view; an anchor whose positive is
        masked drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors with a positive that counts; None
        gives [n].

    References:
      Zhuo et al. 2023, arXiv:2305.17746, section 3.3.

    Examples:
      >>> logits = jnp.array([[[2.0, 0.0], [1.0, 1.0]]])
      >>> f"{multi_view_info_nce(logits):.4f}"
      '0.8201'
    """
    sizes = numerics.check_shapes(
        logits=(logits, "n v m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits = numerics.at_least_f32(logits, "logits")
    where = numerics.mask_or_all(where, (sizes["n"], sizes["m"]))
    labels = pairs.positive_columns(labels, where.shape)

    def of_view(logits):
        return losses.info_nce(logits, labels, where=where, reduce_fn=None)

    loss = jnp.sum(jax.vmap(of_view, 1)(logits), axis=0)
    counts = jnp.any(where & pairs.one_column(labels, sizes["m"]), axis=1)
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )
