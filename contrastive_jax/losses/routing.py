"""Losses on the router of a mixture of experts.

`router_logits [n, e]` are scores of e experts for n tokens (or sentences); rows of
several layers are simply stacked. To teach a router given experts, `losses.info_nce`
with the number of each row's expert for a label is the cross entropy.
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs, similarity


def load_balancing(
    router_logits: Float[Array, "n e"], *, where: Bool[Array, " n"] | None = None
) -> Float[Array, ""]:
    """How far a router is from using all experts alike; 1 when it does.

        p = softmax(router_logits)
        loss = e sum_k (mean_i p_ik) (share of rows i with argmax p_i = k)

    The shares have no gradient. Among equal scores the first expert has the row.

    Also known as Switch Transformer.

    Args:
      router_logits: scores of the experts for each row.
      where: rows that count; leave padding out.

    References:
      Fedus et al. 2021, arXiv:2101.03961, eq. 4.

    Examples:
      >>> f"{load_balancing(jnp.array([[9.0, 0.0], [0.0, 9.0]])):.4f}"
      '1.0000'
      >>> f"{load_balancing(jnp.array([[9.0, 0.0], [9.0, 0.0]])):.4f}"
      '1.9998'
    """
    probabilities, where = checked(router_logits, where)
    e = probabilities.shape[1]
    first = pairs.one_column(jnp.argmax(probabilities, axis=1), e)
    share, mean = (
        numerics.masked_mean(x, where[:, None], axis=0)
        for x in (first.astype(probabilities.dtype), probabilities)
    )
    return e * jnp.sum(share * mean)


def router_mutual_information(
    router_logits: Float[Array, "n e"],
    tasks: Integer[Array, " n"],
    *,
    num_tasks: int,
    top_k: int = 1,
    eps: numerics.Number = 1e-4,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Minus the mutual information between a row's task (or field) and its expert.

        G_tk = sum of softmax(router_logits)_ik over rows i of task t
        J = top_k G / (sum G + top_k eps)
        loss = -sum_tk J_tk log( J_tk / (P_t P_k) + eps )                      (nats)

    with the sums of J over experts and over tasks, plus eps, as P_t and P_k. Least when
    each task has experts of its own and all are used.

    Also known as Mod-Squad.

    Args:
      router_logits: scores of the experts for each row.
      tasks: of each row, in [0, num_tasks).
      num_tasks: how many tasks there are.
      top_k: experts that work on each row, >= 1.
      eps: keeps quotient and logarithm finite, > 0.
      where: rows that count.

    References:
      Chen et al. 2022, arXiv:2212.08066, section 3 (Mod-Squad).

    Deviations:
      The released code of MoE-Sim (Hallee et al. 2024, arXiv:2401.15713) adds batches
      up without end, counts a row once for each row of its task, and passes no
      gradient; this is of one batch.

    Examples:
      >>> logits = jnp.array([[9.0, 0.0], [0.0, 9.0]])
      >>> loss = router_mutual_information(logits, jnp.array([0, 1]), num_tasks=2)
      >>> f"{loss:.3f}"
      '-0.692'
    """
    numerics.check_shapes(router_logits=(router_logits, "n e"), tasks=(tasks, "n"))
    numerics.check_positive(num_tasks=num_tasks, top_k=top_k, eps=eps)
    probabilities, where = checked(router_logits, where)
    tasks = numerics.check_columns(tasks, num_tasks, "tasks")
    rows = pairs.one_column(tasks, num_tasks) & where[:, None]
    joint = similarity.matmul(rows.astype(probabilities.dtype).T, probabilities.T)
    return negative_information(joint, top_k=top_k, eps=eps)


def negative_information(
    sums: Float[Array, "t e"], *, top_k: int, eps: numerics.Number
) -> Float[Array, ""]:
    """The loss of `router_mutual_information` from the sums G of tasks and experts."""
    joint = sums / (jnp.sum(sums) / top_k + eps)
    by_task = jnp.sum(joint, axis=1, keepdims=True) + eps
    by_expert = jnp.sum(joint, axis=0, keepdims=True) + eps
    return -jnp.sum(joint * jnp.log(joint / (by_task * by_expert) + eps))


def checked(
    router_logits: Array, where: Array | None
) -> tuple[Float[Array, "n e"], Bool[Array, " n"]]:
    """Probabilities of the experts, 0 in rows that do not count, and which rows do."""
    numerics.check_shapes(router_logits=(router_logits, "n e"), where=(where, "n"))
    logits, valid = numerics.masked_logits(router_logits, None, "router_logits")
    where = numerics.mask_or_all(where, logits.shape[:1])
    valid = valid & where[:, None]
    log_p = numerics.masked_log_softmax(jnp.where(valid, logits, 0), valid)
    return jnp.where(valid, jnp.exp(log_p), 0), where
