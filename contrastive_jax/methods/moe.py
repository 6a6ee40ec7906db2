"""MoE-Sim (Hallee et al. 2024): sentences of several fields, an expert for each.

Two texts that a third one cites together are a pair. Their field is told to the encoder
by a token in the place of the first one, and picks the expert of every layer
(`models.moe_enforced`). Here are its losses, whose targets come from the texts on each
side, and its head. Losses of learned routers are in `losses.routing`.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import losses, numerics, pairs, similarity
from contrastive_jax.losses import routing

__all__ = [
    "argmax_target_contrastive",
    "pooled_head",
    "replace_first_with_field_token",
    "soft_target_contrastive",
    "summed_mutual_information",
]


def argmax_target_contrastive(
    z_a: Float[Array, "n d"],
    z_b: Float[Array, "n d"],
    *,
    temperature: numerics.Number = 1.0,
    target_scale: numerics.Number = 1.0,
    normalize: bool = False,
    where: Bool[Array, "n n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE in both directions, whose targets are the pairs most alike on both sides.

        S = a b^T / temperature
        M = softmax of the rows of target_scale (a a^T + b b^T) / 2
        loss_i = (CE(S_i, argmax_j M_ij) + CE(S^T_i, argmax_j M_ji)) / 2       (nats)

    Both targets come from M, whose rows sum to 1, its columns not. They have no
    gradient; of equal entries the first is taken. With vectors of length 1 the target
    is the pair itself, so that this is `losses.two_way_info_nce`, unless two pairs are
    equal. Without, one long vector may be the target of many.

    In the preprint's code, as `clip_loss`, a learned temperature multiplies the scores
    of the targets as well.

    Also known as MNR-plus.

    Args:
      z_a: embeddings of the first texts.
      z_b: embeddings of the second texts.
      temperature: divides S, > 0.
      target_scale: multiplies the target's scores, > 0.
      normalize: whether vectors are brought to length 1 first.
      where: pairs of a row of a and one of b that count, in S and, where a text may
        meet itself, in M; a direction whose target is masked drops out.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    References:
      Hallee et al. 2024, arXiv:2401.15713; `mnr_plus_loss` of its code.

    Examples:
      >>> z = jnp.eye(2)
      >>> f"{argmax_target_contrastive(z, z):.4f}"  # log(1 + 1 / e)
      '0.3133'
    """
    scores, alike = compared(z_a, z_b, temperature, target_scale, normalize, where)
    counts = numerics.mask_or_all(where, scores.shape)
    log_m = jax.lax.stop_gradient(numerics.masked_log_softmax(alike, counts))
    log_m = jnp.where(counts, log_m, -jnp.inf)
    options: Any = dict(weights=weights, reduce_fn=reduce_fn)
    rows, columns = jnp.argmax(log_m, axis=1), jnp.argmax(log_m, axis=0)
    forward = losses.info_nce(scores, rows, where=counts, **options)
    backward = losses.info_nce(scores.T, columns, where=counts.T, **options)
    return (forward + backward) / 2


def soft_target_contrastive(
    z_a: Float[Array, "n d"],
    z_b: Float[Array, "n d"],
    *,
    temperature: numerics.Number = 1.0,
    target_scale: numerics.Number = 1.0,
    normalize: bool = True,
    where: Bool[Array, "n n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Divergence of the scores in both directions from a soft target.

        S = a b^T / temperature
        M = softmax of the rows of target_scale (a a^T + b b^T) / 2
        loss_i = (sum_j M_ij log(M_ij / softmax(S_i)_j)
                  + sum_j M_ji log(M_ji / softmax(S^T_i)_j)) / 2               (nats)

    The gradient flows through the target too. Columns of M do not sum to 1, so that the
    second part is no divergence and may be below 0: as in the released code.

    Also known as MNR-plus-plus.

    Args:
      z_a: embeddings of the first texts.
      z_b: embeddings of the second texts.
      temperature: divides S, > 0.
      target_scale: multiplies the target's scores, > 0.
      normalize: whether vectors are brought to length 1 first.
      where: pairs that count, as in `argmax_target_contrastive`.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs with something to compare; None
        gives [n].

    References:
      Hallee et al. 2024, arXiv:2401.15713; `mnr_plus_plus_loss` of its code.

    Examples:
      >>> z = jnp.eye(2)
      >>> f"{soft_target_contrastive(z, z):.4f}"
      '0.0000'
    """
    scores, alike = compared(z_a, z_b, temperature, target_scale, normalize, where)
    numerics.check_shapes(scores=(scores, "n n"), weights=(weights, "n"))
    counts = numerics.mask_or_all(where, scores.shape)
    log_m = numerics.masked_log_softmax(alike, counts)

    def divergence(log_m, scores, counts):
        terms = jnp.exp(log_m) * (log_m - numerics.masked_log_softmax(scores, counts))
        return jnp.sum(jnp.where(counts, terms, 0), axis=1)

    loss = divergence(log_m, scores, counts) + divergence(log_m.T, scores.T, counts.T)
    there = jnp.any(counts, axis=1) | jnp.any(counts, axis=0)
    return numerics.safe_reduce(
        loss / 2, where=there, weights=weights, reduce_fn=reduce_fn
    )


def compared(z_a, z_b, temperature, target_scale, normalize, where):
    """Scores between the sides, and those within them, averaged."""
    numerics.check_shapes(z_a=(z_a, "n d"), z_b=(z_b, "n d"), where=(where, "n n"))
    numerics.check_positive(temperature=temperature, target_scale=target_scale)
    z_a, z_b = (numerics.at_least_f32(z, n) for z, n in ((z_a, "z_a"), (z_b, "z_b")))
    if normalize:
        z_a, z_b = similarity.l2_normalize(z_a), similarity.l2_normalize(z_b)
    within = (similarity.dot(z_a, z_a) + similarity.dot(z_b, z_b)) / 2
    return similarity.dot(z_a, z_b) / temperature, target_scale * within


def replace_first_with_field_token(
    tokens: Integer[Array, "n t"],
    fields: Integer[Array, " n"],
    field_tokens: Integer[Array, " f"],
) -> Integer[Array, "n t"]:
    """Texts whose first token, as [CLS], is replaced by the token of their field.

    Args:
      tokens: token ids.
      fields: of each text, in [0, f).
      field_tokens: id of the token of each field.

    Raises:
      ValueError: no such field.

    References:
      Hallee et al. 2024, arXiv:2401.15713; its code starts the new tokens' embeddings
      as copies of that of [CLS].

    Examples:
      >>> tokens, names = jnp.array([[1, 7], [1, 8]]), jnp.array([20, 21, 22])
      >>> replace_first_with_field_token(tokens, jnp.array([2, 0]), names).tolist()
      [[22, 7], [20, 8]]
    """
    numerics.check_shapes(
        tokens=(tokens, "n t"), fields=(fields, "n"), field_tokens=(field_tokens, "f")
    )
    fields = numerics.check_columns(fields, len(field_tokens), "fields")
    return tokens.at[:, 0].set(field_tokens[fields].astype(tokens.dtype))


def pooled_head(
    params: Mapping[str, Any], pooled: Float[Array, "n d"], *, epsilon: float = 1e-5
) -> Float[Array, "n d"]:
    """What turns the mean state of a text into its embedding.

        up tanh(down norm(x)),  norm(x) = scale (x - mean) / sqrt(var + epsilon) + bias

    Args:
      params: {"norm": {"scale", "bias"}, "down": {"kernel", "bias"}, "up": ...}, where
        kernels are [in, out].
      pooled: mean states, as of `models.pool_mean`.
      epsilon: added to the variance.

    References:
      Hallee et al. 2024, arXiv:2401.15713; `Pooler` of its code.

    Examples:
      >>> dense = {"kernel": jnp.eye(2), "bias": jnp.zeros(2)}
      >>> norm = {"scale": jnp.ones(2), "bias": jnp.zeros(2)}
      >>> params = {"norm": norm, "down": dense, "up": dense}
      >>> print(pooled_head(params, jnp.array([[0.0, 4.0]])).round(2))
      [[-0.76  0.76]]
    """
    numerics.check_shapes(pooled=(pooled, "n d"))
    x = numerics.at_least_f32(pooled, "pooled")
    x = x - jnp.mean(x, axis=1, keepdims=True)
    x = x * jax.lax.rsqrt(jnp.mean(x**2, axis=1, keepdims=True) + epsilon)
    x = x * params["norm"]["scale"][None] + params["norm"]["bias"][None]
    x = jnp.tanh(x @ params["down"]["kernel"] + params["down"]["bias"][None])
    return x @ params["up"]["kernel"] + params["up"]["bias"][None]


def summed_mutual_information(
    gate: Float[Array, "t e"],
    router_logits: Float[Array, "n e"],
    tasks: Integer[Array, " n"],
    *,
    top_k: int = 1,
    eps: numerics.Number = 1e-4,
) -> tuple[Float[Array, ""], Float[Array, "t e"]]:
    """Minus the mutual information of fields and experts over all batches so far.

        gate_tk += n_t sum of softmax(router_logits)_ik over rows i of task t

    with n_t the rows of task t, and the loss of `losses.router_mutual_information` with
    gate in the place of G. As released: a row counts once for each row of its task, the
    sums are never reset, and there is no gradient. To train with, take that loss.

    Args:
      gate: sums of the batches before, zeros at first.
      router_logits: scores of the experts for each row.
      tasks: of each row, in [0, t).
      top_k: experts that work on each row, >= 1.
      eps: keeps quotient and logarithm finite, > 0.

    Returns:
      the loss (nats), and the sums with this batch.

    References:
      Hallee et al. 2024, arXiv:2401.15713; `MILoss` of its preprint's code.

    Examples:
      >>> logits = jnp.array([[9.0, 0.0], [0.0, 9.0]])
      >>> loss, gate = summed_mutual_information(
      ...     jnp.zeros((2, 2)), logits, jnp.array([0, 1])
      ... )
      >>> f"{loss:.3f}", gate.round(2).tolist()
      ('-0.692', [[1.0, 0.0], [0.0, 1.0]])
    """
    numerics.check_shapes(
        gate=(gate, "t e"), router_logits=(router_logits, "n e"), tasks=(tasks, "n")
    )
    numerics.check_positive(top_k=top_k, eps=eps)
    probabilities, _ = routing.checked(router_logits, None)
    tasks = numerics.check_columns(tasks, gate.shape[0], "tasks")
    rows = pairs.one_column(tasks, gate.shape[0]).astype(probabilities.dtype)
    sums = similarity.matmul(rows.T, probabilities.T)
    gate = gate + jnp.sum(rows, axis=0)[:, None] * sums
    gate = jax.lax.stop_gradient(gate)
    return routing.negative_information(gate, top_k=top_k, eps=eps), gate
