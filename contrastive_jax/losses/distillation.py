"""Losses that match a teacher: its scores, its margins, or its geometry.

Teachers carry no gradient. A candidate that the student scores -inf is as if masked,
one that the teacher scores -inf has probability 0; where the teacher scores all that
count so, it says nothing, and the anchor drops out. In regression both are as if
masked.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics, similarity


def logit_mse(
    logits: Float[Array, "n m"],
    teacher: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    candidates: Literal["mean", "sum"] = "mean",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Mean squared difference of student and teacher scores.

        mean: loss_i = mean_j (logits[i, j] - teacher[i, j])^2
        sum:  loss_i = sum_j (logits[i, j] - teacher[i, j])^2

    Args:
      logits: the student's scores of n anchors against m candidates.
      teacher: the teacher's scores.
      where: candidates that count; an anchor with none drops out.
      weights: one non-negative weight per anchor.
      candidates: mean or sum over the candidates (classes) of an anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Ba and Caruana 2014, arXiv:1312.6184, eq. 1 (regression on logits); Barkan et al.
      2020, arXiv:1908.05161 (sum over classes).

    Examples:
      >>> logit_mse(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0]]), reduce_fn=None)
      Array([2.], dtype=float32)
    """
    logits, teacher, where = checked(logits, teacher, where, weights)
    where = where & (teacher != -jnp.inf)
    squares = jnp.where(where, logits - teacher, 0) ** 2
    if candidates not in ("mean", "sum"):
        raise ValueError(f'candidates: expected "mean" or "sum", got {candidates!r}')
    if candidates == "mean":
        loss = numerics.masked_mean(squares, where, axis=-1)
    else:
        loss = jnp.sum(squares, axis=-1)
    return numerics.safe_reduce(
        loss,
        where=jnp.any(where, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def distillation_kl(
    logits: Float[Array, "n m"],
    teacher: Float[Array, "n m"],
    *,
    temperature: numerics.Number = 1.0,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """KL divergence of the student's softmax from the teacher's.

        p = softmax(teacher / temperature), q = softmax(logits / temperature)
        loss_i = temperature^2 sum_j p_ij log(p_ij / q_ij)               (nats)

    Also known as knowledge distillation.

    Args:
      logits: the student's scores of n anchors against m candidates.
      teacher: the teacher's scores.
      temperature: of both, > 0. Its square keeps the size of the gradients.
      where: candidates that count; an anchor with none drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Hinton et al. 2015, arXiv:1503.02531, section 2.

    Examples:
      >>> loss = distillation_kl(jnp.array([[0.0, 0.0]]), jnp.array([[2.0, 0.0]]))
      >>> f"{loss:.4f}"
      '0.3278'
    """
    logits, teacher, where = checked(logits, teacher, where, weights)
    numerics.check_positive(temperature=temperature)
    known = where & (teacher != -jnp.inf)
    log_p = numerics.masked_log_softmax(teacher, known, temperature=temperature)
    log_q = numerics.masked_log_softmax(logits, where, temperature=temperature)
    terms = jnp.where(known, jnp.exp(log_p) * (log_p - log_q), 0)
    return numerics.safe_reduce(
        temperature**2 * jnp.sum(terms, axis=-1),
        where=jnp.any(known, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def margin_mse(
    positive_logits: Float[Array, " n"],
    negative_logits: Float[Array, "n k"],
    teacher_margins: Float[Array, "n k"],
    *,
    where: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Squared difference between the student's and the teacher's margins.

        loss_i = mean_k (positive_logits[i] - negative_logits[i, k]
                         - teacher_margins[i, k])^2

    Args:
      positive_logits: the student's score of each anchor and its positive.
      negative_logits: the student's scores of each anchor and k negatives.
      teacher_margins: the teacher's score of the positive less that of each negative.
      where: negatives that count; an anchor with none drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Hofstätter et al. 2020, arXiv:2010.02666 (Margin-MSE).

    Examples:
      >>> margins = jnp.array([[1.0, 3.0]])
      >>> margin_mse(jnp.array([2.0]), jnp.array([[1.0, 0.0]]), margins, reduce_fn=None)
      Array([0.5], dtype=float32)
    """
    numerics.check_shapes(
        positive_logits=(positive_logits, "n"),
        negative_logits=(negative_logits, "n k"),
        teacher_margins=(teacher_margins, "n k"),
        where=(where, "n k"),
        weights=(weights, "n"),
    )
    positive_logits = numerics.at_least_f32(positive_logits, "positive_logits")
    negative_logits = numerics.at_least_f32(negative_logits, "negative_logits")
    teacher_margins = numerics.at_least_f32(teacher_margins, "teacher_margins")
    negative_logits, where = numerics.masked_logits(negative_logits, where)
    where = where & (teacher_margins != jnp.inf)  # a negative that it scores -inf
    margins = positive_logits[:, None] - negative_logits
    return logit_mse(
        margins, teacher_margins, where=where, weights=weights, reduce_fn=reduce_fn
    )


def clip_distillation(
    logits: Float[Array, "n m"],
    teacher: Float[Array, "n m"],
    *,
    reverse_logits: Float[Array, "n m"] | None = None,
    reverse_teacher: Float[Array, "n m"] | None = None,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy against the teacher's softmax, both ways, averaged.

        H(t, s)_i = -sum_j softmax(t)_ij log softmax(s)_ij
        loss_i = (H(teacher, logits)_i + H(reverse_teacher, reverse_logits)_i) / 2
                                                                         (nats)

    Also known as contrastive relational distillation.

    Args:
      logits: the student's scores of n images against m texts, scale applied.
      teacher: the teacher's scores, likewise.
      reverse_logits: the student's scores of n texts against m images. Both reversed
        scores are transposed when None, which needs n = m.
      reverse_teacher: the teacher's scores of n texts against m images.
      where: pairs that count, in the layout of `logits`; only with square logits.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    References:
      Yang et al. 2024, arXiv:2307.12732, section 3 (relational distillation).

    Examples:
      >>> loss = clip_distillation(jnp.zeros((2, 2)), 9.0 * jnp.eye(2))
      >>> f"{loss:.4f}"
      '0.6931'
    """
    reverse = {"reverse_logits": reverse_logits, "reverse_teacher": reverse_teacher}
    numerics.check_shapes(**{k: (x, "n m") for k, x in reverse.items()})
    logits, teacher, valid = checked(logits, teacher, where, weights)
    numerics.check_shapes(
        logits=(logits, "n m"), **{k: (x, "n m") for k, x in reverse.items()}
    )
    if reverse_logits is None and reverse_teacher is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(
                f"reverse_logits: needed when logits are not square, got logits of "
                f"shape {list(logits.shape)}"
            )
        reverse_logits, reverse_teacher, back = logits.T, teacher.T, valid.T
    elif reverse_logits is None or reverse_teacher is None:
        raise ValueError("reverse_teacher: goes together with reverse_logits")
    elif where is not None:
        raise ValueError("where: only with square logits and no reverse_logits")
    else:
        reverse_logits = numerics.at_least_f32(reverse_logits, "reverse_logits")
        reverse_teacher = numerics.at_least_f32(reverse_teacher, "reverse_teacher")
        reverse_logits, back = numerics.masked_logits(reverse_logits, None)
        reverse_teacher = jax.lax.stop_gradient(reverse_teacher)

    def entropy(logits, teacher, where):
        targets, counts = teacher_softmax(teacher, where)
        return numerics.safe_reduce(
            -jnp.sum(targets * numerics.masked_log_softmax(logits, where), axis=-1),
            where=counts,
            weights=weights,
            reduce_fn=reduce_fn,
        )

    forward = entropy(logits, teacher, valid)
    return (forward + entropy(reverse_logits, reverse_teacher, back)) / 2


def relational_distance(
    student: Float[Array, "n d"],
    teacher: Float[Array, "n e"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Huber loss between the distances within student and within teacher.

        D_ij = ||x_i - x_j|| / mean_{k != l} ||x_k - x_l||
        loss_i = mean_{j != i} huber(D_ij(student) - D_ij(teacher))

    Also known as RKD-D.

    Args:
      student: the student's embeddings.
      teacher: the teacher's embeddings, of any width.
      where: rows that count; with fewer than two the loss is 0.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Park et al. 2019, arXiv:1904.05068 (distance-wise loss).

    Deviations:
      The released code averages over all n^2 pairs, n of which are always 0; this
      averages over the pairs i != j.

    Examples:
      >>> x = jnp.array([[0.0], [1.0], [3.0]])
      >>> f"{relational_distance(x, 7.0 * x):.4f}"
      '0.0000'
    """
    student, teacher, where = checked_rows(student, teacher, where, weights)
    others = where[:, None] & where[None, :] & ~jnp.eye(where.size, dtype=bool)
    gaps = mean_distances(student, others) - mean_distances(teacher, others)
    return numerics.safe_reduce(
        numerics.masked_mean(huber(gaps), others, axis=-1),
        where=jnp.any(others, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def relational_angle(
    student: Float[Array, "n d"],
    teacher: Float[Array, "n e"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Huber loss between the angles within student and within teacher.

        A_ijk = cos of the angle at x_i between x_j and x_k
        loss_i = mean_{j != i, k != i, j != k} huber(A_ijk(student) - A_ijk(teacher))

    Takes time of n^3 * d, but memory of n^2: the anchors are taken one after the other.

    Also known as RKD-A.

    Args:
      student: the student's embeddings.
      teacher: the teacher's embeddings, of any width.
      where: rows that count; with fewer than three the loss is 0.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Park et al. 2019, arXiv:1904.05068 (angle-wise loss).

    Deviations:
      The released code averages over all n^3 triples; this averages over those of
      three different rows.

    Examples:
      >>> x = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
      >>> y = jnp.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
      >>> f"{relational_angle(x, x):.4f} {relational_angle(x, y):.4f}"
      '0.0000 0.5833'
    """
    student, teacher, where = checked_rows(student, teacher, where, weights)
    others = where[:, None] & where[None, :] & ~jnp.eye(where.size, dtype=bool)

    @jax.checkpoint
    def of_anchor(args):
        a, b, others_of_one = args
        both = others & others_of_one[:, None] & others_of_one[None, :]
        gaps = angles(student - a[None, :]) - angles(teacher - b[None, :])
        return numerics.masked_mean(huber(gaps), both), jnp.any(both)

    loss, counts = jax.lax.map(of_anchor, (student, teacher, others))
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )


def checked(
    logits: Array, teacher: Array, where: Array | None, weights: Array | None
) -> tuple[Float[Array, "n m"], Float[Array, "n m"], Bool[Array, "n m"]]:
    """Both scores in at least float32, the teacher without gradient, what counts."""
    numerics.check_shapes(
        logits=(logits, "n m"),
        teacher=(teacher, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    teacher = jax.lax.stop_gradient(numerics.at_least_f32(teacher, "teacher"))
    return logits, teacher, where


def teacher_softmax(
    teacher: Float[Array, "n m"], where: Bool[Array, "n m"]
) -> tuple[Float[Array, "n m"], Bool[Array, " n"]]:
    """Probabilities of the candidates, 0 at a score of -inf, and rows that have any."""
    known = where & (teacher != -jnp.inf)
    log_p = numerics.masked_log_softmax(teacher, known)
    return jnp.where(known, jnp.exp(log_p), 0), jnp.any(known, axis=-1)


def checked_rows(
    student: Array, teacher: Array, where: Array | None, weights: Array | None
) -> tuple[Float[Array, "n d"], Float[Array, "n e"], Bool[Array, " n"]]:
    """Both embeddings in at least float32, 0 in rows that do not count."""
    numerics.check_shapes(
        student=(student, "n d"),
        teacher=(teacher, "n e"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    student = numerics.at_least_f32(student, "student")
    teacher = jax.lax.stop_gradient(numerics.at_least_f32(teacher, "teacher"))
    where = numerics.mask_or_all(where, student.shape[:1])
    keep = where[:, None]
    return jnp.where(keep, student, 0), jnp.where(keep, teacher, 0), where


def mean_distances(
    x: Float[Array, "n d"], others: Bool[Array, "n n"]
) -> Float[Array, "n n"]:
    """Distances of all pairs over their mean; 0 where all are equal."""
    distances = similarity.euclidean_distance(x, x)
    mean = numerics.masked_mean(distances, others)
    # A comparison that a NaN fails would hide it.
    flat = mean == 0
    return jnp.where(flat, 0, distances / jnp.where(flat, 1, mean))


def angles(x: Float[Array, "n d"]) -> Float[Array, "n n"]:
    """Cosines of the angles at the origin between the rows."""
    return similarity.cosine(x, x)


def huber(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x^2 / 2 up to 1, |x| - 1/2 above."""
    near = jnp.clip(x, -1, 1)
    return near * (x - near / 2)
