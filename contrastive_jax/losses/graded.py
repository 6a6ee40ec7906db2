"""Losses for real-valued targets: scores of pairs, order of pairs, distance of labels.

`cosine_similarity_mse`, `cosent` and `angle_loss` judge given pairs by a target per
pair; `rank_n_contrast` and `weighted_supervised_contrastive` judge candidates by how
far their target lies from the anchor's. `pairs.close_targets` gives positives by
threshold.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics, similarity


def cosine_similarity_mse(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    targets: Float[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Squared error between the cosine of a pair and its target.

        loss_i = (cos(a_i, b_i) - targets[i])^2

    Args:
      a: first embedding of each pair.
      b: second embedding of each pair.
      targets: wanted cosine, in [-1, 1].
      where: pairs that count.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    References:
      Reimers and Gurevych 2019, arXiv:1908.10084, section 3 (regression objective).

    Examples:
      >>> a, b = jnp.array([[2.0, 0.0]]), jnp.array([[0.0, 3.0]])
      >>> print(cosine_similarity_mse(a, b, jnp.array([0.5])))
      0.25
    """
    numerics.check_shapes(
        a=(a, "n d"),
        b=(b, "n d"),
        targets=(targets, "n"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    targets = numerics.at_least_f32(targets, "targets")
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")
    where = numerics.mask_or_all(where, targets.shape)
    a, b = jnp.where(where[:, None], a, 0), jnp.where(where[:, None], b, 0)
    a, b = similarity.l2_normalize(a), similarity.l2_normalize(b)
    cosines = similarity.within(jnp.sum(a * b, axis=1), -1.0, 1.0)
    return numerics.safe_reduce(
        jnp.square(cosines - jnp.where(where, targets, 0)),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def cosent(
    logits: Float[Array, " n"],
    targets: Float[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Pairs with a higher target must score higher than pairs with a lower one.

        loss = log(1 + sum_{k, l: targets[k] < targets[l]} exp(logits[k] - logits[l]))
                                                                              (nats)

    A loss of the whole batch: gather pairs over devices before the call. Holds n * n
    numbers.

    Also known as CoSENT.

    Args:
      logits: one score per pair, temperature applied (cosine / 0.05 is usual).
      targets: one real value per pair; only their order matters.
      where: pairs that count.

    References:
      Su 2022, CoSENT (published as a web article); used in Li and Li 2023,
      arXiv:2309.12871, section 3.

    Examples:
      >>> targets = jnp.array([0.1, 0.9])
      >>> round(float(cosent(jnp.array([2.0, 1.0]), targets)), 4)  # log(1 + e)
      1.3133
    """
    numerics.check_shapes(
        logits=(logits, "n"), targets=(targets, "n"), where=(where, "n")
    )
    logits = numerics.at_least_f32(logits, "logits")
    targets = numerics.at_least_f32(targets, "targets")
    where = numerics.mask_or_all(where, logits.shape)
    ordered = targets[:, None] < targets[None, :]
    ordered = ordered & where[:, None] & where[None, :]
    gaps = logits[:, None] - logits[None, :]
    return jax.nn.softplus(numerics.masked_logsumexp(gaps.ravel(), ordered.ravel()))


def angle_loss(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    targets: Float[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
    temperature: numerics.Number = 0.05,
) -> Float[Array, ""]:
    """`cosent` on angle scores of embeddings read as complex vectors.

        loss = log(1 + sum exp((g_k - g_l) / temperature)),
               sum over k, l with targets[k] < targets[l]                     (nats)
        g_i = |sum_j Re(z_ij) + Im(z_ij)|,  z_ij = x_ij conj(y_ij) / (||x_i|| ||y_i||)

    x and y are a and b with the first half of the entries as real, the second half as
    imaginary part; of an odd number the last imaginary part is 0.

    Also known as AnglE.

    Args:
      a: first embedding of each pair.
      b: second embedding of each pair.
      targets: one real value per pair; only their order matters.
      where: pairs that count.
      temperature: > 0.

    References:
      Li and Li 2023, arXiv:2309.12871, section 3 (angle objective).

    Deviations:
      The paper adds a cosine and an in-batch term; they are `cosent` and `info_nce`.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [1.0, 0.0]])
      >>> y = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> round(float(angle_loss(x, y, jnp.array([0.0, 1.0]))), 4)  # scores 1 and 1
      0.6931
    """
    numerics.check_positive(temperature=temperature)
    numerics.check_shapes(
        a=(a, "n d"), b=(b, "n d"), targets=(targets, "n"), where=(where, "n")
    )
    a, b = numerics.at_least_f32(a, "a"), numerics.at_least_f32(b, "b")
    where = numerics.mask_or_all(where, a.shape[:1])
    a, b = jnp.where(where[:, None], a, 0), jnp.where(where[:, None], b, 0)
    padding = ((0, 0), (0, a.shape[1] % 2))
    a, b = (jnp.pad(similarity.l2_normalize(x), padding) for x in (a, b))
    (re_a, im_a), (re_b, im_b) = jnp.split(a, 2, axis=1), jnp.split(b, 2, axis=1)
    real = re_a * re_b + im_a * im_b
    imaginary = im_a * re_b - re_a * im_b
    scores = jnp.abs(jnp.sum(real + imaginary, axis=1))
    return cosent(scores / temperature, targets, where=where)


def rank_n_contrast(
    logits: Float[Array, "n m"],
    target_distances: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each candidate against those whose target is at least as far from the anchor's.

        loss_ik = logsumexp_{j: t_ij >= t_ik} logits[i, j] - logits[i, k]     (nats)

    Sorts each row once: n * m numbers, not n * m * m.

    Also known as RnC.

    Args:
      logits: minus Euclidean distances of n anchors to m candidates, temperature (2 in
        the paper) applied.
      target_distances: t, distances between the targets of anchor and candidate.
      where: candidates that count; leave the anchor itself out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over (anchor, candidate) pairs; None gives each
        anchor's sum, [n].

    References:
      Zha et al. 2023, arXiv:2210.01189, section 3.

    Examples:
      >>> logits = jnp.zeros((1, 3))
      >>> t = jnp.array([[1.0, 2.0, 3.0]])
      >>> round(float(rank_n_contrast(logits, t, reduce_fn=jnp.sum)), 4)  # log(3 * 2)
      1.7918
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        target_distances=(target_distances, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    logits = numerics.less_largest(logits, where)
    far = numerics.at_least_f32(target_distances, "target_distances")
    # Farthest first, masked ones last; a candidate's denominator ends with its ties.
    keys = jnp.where(where, -far, jnp.inf)
    order = jnp.argsort(keys, axis=1)
    ascending = jnp.take_along_axis(keys, order, axis=1)
    masked = jnp.where(where, logits, numerics.MASKED)
    sums = jax.lax.cumlogsumexp(jnp.take_along_axis(masked, order, axis=1), axis=1)
    search = jax.vmap(lambda row, values: jnp.searchsorted(row, values, side="right"))
    totals = jnp.take_along_axis(sums, search(ascending, keys) - 1, axis=1)
    return numerics.reduce_terms(
        totals - logits, where=where, weights=weights, reduce_fn=reduce_fn
    )


def weighted_supervised_contrastive(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    pair_weights: Float[Array, "n m"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """SupCon whose denominator weighs candidates, by the distance of their targets.

        loss_i = mean_{p in P(i)} ( log sum_j w_ij exp(logits[i, j]) - logits[i, p] )
                                                                              (nats)

    With all weights 1 it is `supervised_contrastive`.

    Also known as SupCon for regression.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      positives: which candidates belong to which anchor; `pairs.same_label` or
        `pairs.close_targets`.
      pair_weights: w >= 0, for example 1 + |target difference|; 0 is as if masked in
        the denominator. All 1 when None.
      where: candidates that count; leave the anchor itself out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].

    References:
      Wu et al. 2023, arXiv:2309.16633 (distance magnifying weights); Khosla et al.
      2020, arXiv:2004.11362, eq. 2.

    Examples:
      >>> logits = jnp.zeros((1, 2))
      >>> match, w = jnp.array([[True, False]]), jnp.array([[1.0, 3.0]])
      >>> round(float(weighted_supervised_contrastive(logits, match, w)), 4)  # log 4
      1.3863
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        positives=(positives, "n m"),
        pair_weights=(pair_weights, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    logits = numerics.less_largest(logits, where)
    positives = numerics.check_mask(positives, "positives")
    positives = positives & where
    tilted, inside = logits, where
    if pair_weights is not None:
        pair_weights = numerics.at_least_f32(pair_weights, "pair_weights")
        pair_weights = jnp.where(where, pair_weights, 1)
        tilted = logits + numerics.safe_log(pair_weights)
        inside = where & ~(pair_weights <= 0)
    has_pair = jnp.any(inside, axis=1)
    total = jnp.where(has_pair, numerics.masked_logsumexp(tilted, inside), 0)
    loss = numerics.masked_mean(total[:, None] - logits, positives, axis=1)
    return numerics.safe_reduce(
        loss,
        where=jnp.any(positives, axis=1) & has_pair,
        weights=weights,
        reduce_fn=reduce_fn,
    )
