"""Losses over prototypes: balanced assignments, swapped prediction, self-distillation.

Scores of several crops of the same n images come as [v crops, n, k prototypes]. A score
of -inf is a probability of 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics


def sinkhorn(
    scores: Float[Array, "n k"],
    queued: Float[Array, "q k"] | None = None,
    *,
    epsilon: numerics.Number = 0.05,
    num_iterations: int = 3,
    eps: numerics.Number = 0.0,
    where: Bool[Array, " n"] | None = None,
    where_queued: Bool[Array, " q"] | None = None,
) -> Float[Array, "n k"]:
    """Soft assignments of n rows to k prototypes that use all prototypes equally.

        Q = exp(scores / epsilon); repeated: columns sum to n / k, then rows sum to 1

    Computed on logarithms: no score overflows.

    Args:
      scores: similarity of rows and prototypes. Over several devices, of all rows.
      queued: that of rows from earlier steps (`states.Queue`), which take part in the
        balance, n being the number of all rows, but whose assignments are not returned.
        Batches with fewer rows than prototypes need them.
      epsilon: temperature, > 0; smaller is harder.
      num_iterations: how often columns and rows are normalised. With 0 the whole sums
        to n.
      eps: least sum to divide a column or row by, all of Q summing to 1: a prototype
        far from every row is then not used as much as others. PALM has 1e-12.
      where: rows that count; the assignments of others are 0.
      where_queued: queued rows that count (`states.queue_filled`).

    References:
      Cuturi 2013, arXiv:1306.0895; Caron et al. 2020, arXiv:2006.09882, eq. 3 to 5.

    Examples:
      >>> scores = jnp.array([[0.0, 0.0], [0.0, 0.0]])
      >>> sinkhorn(scores)
      Array([[0.5, 0.5],
             [0.5, 0.5]], dtype=float32)
    """
    n = numerics.check_shapes(
        scores=(scores, "n k"),
        queued=(queued, "q k"),
        where=(where, "n"),
        where_queued=(where_queued, "q"),
    )["n"]
    numerics.check_positive(epsilon=epsilon)
    numerics.check_nonnegative(eps=eps)
    scores = numerics.at_least_f32(scores, "scores")
    where = numerics.mask_or_all(where, scores.shape[:1])
    if queued is not None:
        queued = numerics.at_least_f32(queued, "queued").astype(scores.dtype)
        queued_where = numerics.mask_or_all(
            where_queued, queued.shape[:1], "where_queued"
        )
        scores = jnp.concatenate([scores, queued])
        where = jnp.concatenate([where, queued_where])
    rows = jnp.broadcast_to(where[:, None], scores.shape)
    scores, rows = numerics.masked_logits(scores, rows)
    log_n = numerics.safe_log(jnp.sum(jnp.any(rows, axis=1), dtype=scores.dtype))
    log_k = jnp.log(jnp.asarray(scores.shape[1], scores.dtype))
    log_q = numerics.masked_log_softmax(
        scores.ravel(), rows.ravel(), temperature=epsilon
    ).reshape(scores.shape)
    least = numerics.safe_log(jnp.asarray(eps, scores.dtype))
    for _ in range(num_iterations):
        columns = numerics.masked_logsumexp(log_q, rows, axis=0)
        log_q = log_q - jnp.maximum(columns, least)[None, :] - log_k
        totals = numerics.masked_logsumexp(log_q, rows)
        log_q = log_q - jnp.maximum(totals, least)[:, None] - log_n
    return jnp.exp(jnp.where(rows, log_q + log_n, numerics.MASKED))[:n]


def swav(
    scores: Float[Array, "v n k"],
    assignments: Float[Array, "a n k"],
    *,
    crops: tuple[int, ...] | None = None,
    temperature: numerics.Number = 0.1,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each crop predicts the prototype assignments of the other crops (SwAV).

        loss_i = mean_{a, v != crops[a]} -sum_k assignments[a, i, k]
                                         log softmax_k(scores[v, i, k] / temperature)
                                                                         (nats)

    The assignments come from `sinkhorn` over the rows of all devices, and queued rows
    where there are some, and carry no gradient.

    Args:
      scores: similarity of v crops of n images and k prototypes.
      assignments: soft assignments of some of the crops; rows sum to 1.
      crops: which crops were assigned; the first ones when None.
      temperature: of the scores, > 0.
      where: images that count.
      weights: one non-negative weight per image.
      reduce_fn: `jnp.mean` or `jnp.sum` over images that count; None gives [n].

    References:
      Caron et al. 2020, arXiv:2006.09882, eq. 1 and 2.

    Examples:
      >>> scores = jnp.array([[[1.0, 0.0]], [[1.0, 0.0]]])
      >>> loss = swav(scores, scores, temperature=1.0)
      >>> f"{loss:.4f}"
      '0.3133'
    """
    numerics.check_shapes(
        scores=(scores, "v n k"),
        assignments=(assignments, "a n k"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(temperature=temperature)
    scores = numerics.at_least_f32(scores, "scores")
    assignments = numerics.at_least_f32(assignments, "assignments")
    where = numerics.mask_or_all(where, scores.shape[1:2])
    scores = jnp.where(where[None, :, None], scores, 0)
    assignments = jnp.where(where[None, :, None], assignments, 0)
    log_p, _ = log_softmax(scores, temperature)
    return numerics.safe_reduce(
        other_crops_cross_entropy(log_p, assignments, crops),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def dino(
    student: Float[Array, "v n k"],
    teacher: Float[Array, "a n k"],
    center: Float[Array, " k"] | None = None,
    *,
    crops: tuple[int, ...] | None = None,
    student_temperature: numerics.Number = 0.1,
    teacher_temperature: numerics.Number = 0.04,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each crop's student predicts the centred teacher of the other crops (DINO).

        p = softmax((teacher - center) / teacher_temperature)
        s = log softmax(student / student_temperature)
        loss_i = mean_{a, v != crops[a]} -sum_k p[a, i, k] s[v, i, k]    (nats)

    The teacher carries no gradient. Update the centre after the loss.

    Args:
      student: outputs for v crops of n images.
      teacher: outputs for some of the crops, by the averaged network.
      center: running mean of the teacher's outputs; 0 when None.
      crops: which crops the teacher saw; the first ones when None.
      student_temperature: > 0.
      teacher_temperature: > 0, below the student's to sharpen.
      where: images that count.
      weights: one non-negative weight per image.
      reduce_fn: `jnp.mean` or `jnp.sum` over images that count; None gives [n].

    References:
      Caron et al. 2021, arXiv:2104.14294, eq. 1 to 4 and algorithm 1.

    Examples:
      >>> crops = jnp.array([[[1.0, 0.0]], [[1.0, 0.0]]])
      >>> loss = dino(crops, crops, student_temperature=1.0, teacher_temperature=1.0)
      >>> f"{loss:.4f}"
      '0.5822'
    """
    numerics.check_shapes(
        student=(student, "v n k"),
        teacher=(teacher, "a n k"),
        center=(center, "k"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    numerics.check_positive(
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
    )
    student = numerics.at_least_f32(student, "student")
    teacher = numerics.at_least_f32(teacher, "teacher")
    where = numerics.mask_or_all(where, student.shape[1:2])
    student = jnp.where(where[None, :, None], student, 0)
    teacher = jnp.where(where[None, :, None], teacher, 0)
    # The largest goes first: next to it the centre could lose digits.
    valid = teacher != -jnp.inf
    teacher = numerics.less_largest(jnp.where(valid, teacher, 0), valid)
    if center is not None:
        teacher = teacher - numerics.at_least_f32(center, "center")[None, None, :]
    teacher = jnp.where(valid, teacher, -jnp.inf)
    targets, known = log_softmax(teacher, teacher_temperature)
    targets = jnp.where(known[:, :, None], jnp.exp(targets), 0)
    log_p, _ = log_softmax(student, student_temperature)
    return numerics.safe_reduce(
        other_crops_cross_entropy(log_p, targets, crops, known),
        where=where & jnp.any(known, axis=0),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def log_softmax(
    x: Float[Array, "v n k"], temperature: numerics.Number
) -> tuple[Float[Array, "v n k"], Bool[Array, "v n"]]:
    """Log-softmax of x / temperature, MASKED at -inf; rows that are not all of it."""
    x, valid = numerics.masked_logits(x, None)
    log_p = numerics.masked_log_softmax(x, valid, temperature=temperature)
    return jnp.where(valid, log_p, numerics.MASKED), jnp.any(valid, axis=-1)


def other_crops_cross_entropy(
    log_p: Float[Array, "v n k"],
    targets: Float[Array, "a n k"],
    crops: tuple[int, ...] | None,
    known: Bool[Array, "a n"] | None = None,
) -> Float[Array, " n"]:
    """Cross entropy against targets, averaged over all pairs of different crops.

    Only over those whose targets are `known`, which are all of them when None.
    """
    num_crops, num_targets = log_p.shape[0], targets.shape[0]
    crops = tuple(range(num_targets)) if crops is None else tuple(crops)
    if len(crops) != num_targets or not all(0 <= c < num_crops for c in crops):
        raise ValueError(
            f"crops: expected {num_targets} numbers below {num_crops}, got {crops}"
        )
    if num_crops == 1:
        return jnp.zeros(log_p.shape[1], log_p.dtype)
    targets = jax.lax.stop_gradient(targets)
    entropy = -jnp.einsum("vnk,ank->avn", log_p, targets, precision="highest")
    own = jnp.asarray(crops)[:, None] == jnp.arange(num_crops)[None, :]
    others = jnp.broadcast_to(~own[:, :, None], entropy.shape)
    if known is not None:
        others = others & known[:, None, :]
    return numerics.masked_mean(entropy, others, axis=(0, 1))
