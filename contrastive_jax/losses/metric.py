"""Margins between positive and negative pairs: pairwise, triplet, tuplet, angular.

Functions of distances want small values for positives, functions of scores large ones;
each says which in its first argument. `positives [n, m]` marks the positives of n
anchors among m candidates, and every other candidate that counts is a negative: where
anchors are among the candidates, leave them out of `where`. A loss over pairs or
triplets reduces over those terms; `reduce_fn=None` then gives each anchor's sum.
"""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs, similarity


def triplet(
    positive_distances: Float[Array, " n"],
    negative_distances: Float[Array, " n"],
    swap_distances: Float[Array, " n"] | None = None,
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.2,
    soft: bool = False,
    average: Literal["all", "nonzero"] = "all",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Given triplets: the negative must be farther than the positive by a margin.

        loss_i = max(0, d(a_i, p_i) - d(a_i, n_i) + margin)
        soft:    log(1 + exp(d(a_i, p_i) - d(a_i, n_i) + margin))

    Any distance serves; with 1 - cosine it is the cosine form.

    Args:
      positive_distances: d(anchor, positive) of each triplet.
      negative_distances: d(anchor, negative) of each triplet.
      swap_distances: d(positive, negative); where it is the smaller one it stands in
        for d(anchor, negative).
      where: triplets that count.
      weights: one non-negative weight per triplet.
      margin: in units of the distance; the soft form is usually taken with 0.
      soft: softplus instead of the hinge.
      average: "nonzero" leaves triplets with value 0 out of the reduction.
      reduce_fn: `jnp.mean` or `jnp.sum` over triplets; None gives [n].

    References:
      Schroff et al. 2015, arXiv:1503.03832, section 3.1; Hermans et al. 2017,
      arXiv:1703.07737, section 2 (soft); Balntas et al. 2016, BMVC, section 2 (swap).

    Examples:
      >>> d_ap, d_an = jnp.array([0.5, 1.0]), jnp.array([0.75, 2.0])
      >>> print(triplet(d_ap, d_an, margin=0.5, reduce_fn=None))
      [0.25 0.  ]
    """
    numerics.check_finite(margin=margin)
    numerics.check_shapes(
        positive_distances=(positive_distances, "n"),
        negative_distances=(negative_distances, "n"),
        swap_distances=(swap_distances, "n"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    near = numerics.at_least_f32(positive_distances, "positive_distances")
    far = numerics.at_least_f32(negative_distances, "negative_distances")
    if swap_distances is not None:
        swap = numerics.at_least_f32(swap_distances, "swap_distances")
        far = jnp.minimum(far, swap)
    where = numerics.mask_or_all(where, near.shape)
    gap = jnp.where(where, near - far, 0)
    loss = violated(gap + margin, soft)
    where = counted_terms(loss, where, average)
    return numerics.safe_reduce(loss, where=where, weights=weights, reduce_fn=reduce_fn)


def triplet_batch_all(
    distances: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    swap_distances: Float[Array, "m m"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.2,
    soft: bool = False,
    average: Literal["all", "nonzero"] = "all",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Every triplet that the candidates form: anchor, positive, negative.

        loss_ipk = max(0, d_ip - d_ik + margin),  p in P(i), k in N(i)
        soft:      log(1 + exp(d_ip - d_ik + margin))

    Holds n * m * m numbers.

    Also known as batch all.

    Args:
      distances: of n anchors to m candidates.
      positives: which candidates belong to which anchor.
      swap_distances: of the candidates to each other; d_pk stands in for d_ik where it
        is the smaller one.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      margin: in units of the distance.
      soft: softplus instead of the hinge.
      average: "nonzero" leaves triplets with value 0 out of the reduction, the "batch
        all, non-zero mean" of Hermans et al.
      reduce_fn: `jnp.mean` or `jnp.sum` over triplets; None gives [n].

    References:
      Hermans et al. 2017, arXiv:1703.07737, section 2 (batch all).

    Examples:
      >>> distances = jnp.array([[0.5, 0.4, 0.6]])
      >>> positives = jnp.array([[True, False, False]])
      >>> round(float(triplet_batch_all(distances, positives, margin=0.2)), 4)
      0.2
    """
    numerics.check_finite(margin=margin)
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    far = distances[:, None, :]
    if swap_distances is not None:
        numerics.check_shapes(
            distances=(distances, "n m"), swap_distances=(swap_distances, "m m")
        )
        swap = numerics.at_least_f32(swap_distances, "swap_distances")
        far = jnp.minimum(far, swap[None, :, :])
    where = positives[:, :, None] & negatives[:, None, :]
    gap = jnp.where(where, distances[:, :, None] - far, 0)
    loss = violated(gap + margin, soft)
    where = counted_terms(loss, where, average)
    return numerics.reduce_terms(
        loss, where=where, weights=weights, reduce_fn=reduce_fn
    )


def triplet_batch_hard(
    distances: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.2,
    soft: bool = False,
    incomplete: Literal["drop", "keep"] = "drop",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each anchor with its farthest positive and its nearest negative.

        loss_i = max(0, max_{p in P(i)} d_ip - min_{k in N(i)} d_ik + margin)
        soft:    log(1 + exp(...))

    Also known as batch hard.

    Args:
      distances: of n anchors to m candidates, >= 0.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      margin: in units of the distance; the soft form is usually taken with 0.
      soft: softplus instead of the hinge.
      incomplete: "drop" leaves an anchor without a positive or without a negative out;
        "keep" takes 0 for its missing positive distance and the largest distance in its
        row for its missing negative one.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors; None gives [n].

    References:
      Hermans et al. 2017, arXiv:1703.07737, section 2 (batch hard).

    Deviations:
      sentence-transformers counts incomplete anchors as "keep" does; the paper samples
      batches in which there are none.

    Examples:
      >>> distances = jnp.array([[0.5, 0.3, 0.6, 0.9]])
      >>> positives = jnp.array([[True, True, False, False]])
      >>> round(float(triplet_batch_hard(distances, positives, margin=0.2)), 4)
      0.1
    """
    numerics.check_finite(margin=margin)
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    near = numerics.at_columns(distances, pairs.hardest(distances, positives))
    far = numerics.at_columns(distances, pairs.hardest(-distances, negatives))
    has_positive, has_negative = jnp.any(positives, axis=1), jnp.any(negatives, axis=1)
    if keeps_incomplete(incomplete):
        largest = numerics.at_columns(
            distances, pairs.hardest(distances, positives | negatives)
        )
        near = jnp.where(has_positive, near, 0)
        far = jnp.where(has_negative, far, largest)
        where = has_positive | has_negative
    else:
        where = has_positive & has_negative
    return numerics.safe_reduce(
        violated(near - far + margin, soft),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def triplet_semi_hard(
    distances: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.2,
    soft: bool = False,
    incomplete: Literal["drop", "keep"] = "drop",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each positive pair with the nearest negative farther away than its positive.

        loss_ip = max(0, d_ip - d_ik + margin),
        k = argmin d_ik over negatives with d_ik > d_ip, or the farthest negative
        soft: log(1 + exp(...))

    Also known as FaceNet.

    Args:
      distances: of n anchors to m candidates, >= 0.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      margin: in units of the distance.
      soft: softplus instead of the hinge.
      incomplete: "drop" leaves pairs of an anchor without negatives out; "keep" takes
        distance 0 for their missing negative.
      reduce_fn: `jnp.mean` or `jnp.sum` over positive pairs; None gives [n].

    References:
      Schroff et al. 2015, arXiv:1503.03832, section 3.2.

    Deviations:
      TensorFlow Addons and sentence-transformers count pairs without a negative as
      "keep" does.

    Examples:
      >>> distances = jnp.array([[0.5, 0.3, 0.6, 0.9]])
      >>> positives = jnp.array([[True, False, False, False]])
      >>> round(float(triplet_semi_hard(distances, positives, margin=0.2)), 4)
      0.1
    """
    numerics.check_finite(margin=margin)
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    columns = pairs.semi_hard(distances, negatives)
    far = jnp.take_along_axis(distances, columns, axis=1)
    has_negative = jnp.any(negatives, axis=1, keepdims=True)
    if keeps_incomplete(incomplete):
        far = jnp.where(has_negative, far, 0)
    else:
        positives = positives & has_negative
    loss = violated(distances - far + margin, soft)
    return numerics.reduce_terms(
        loss, where=positives, weights=weights, reduce_fn=reduce_fn
    )


def pair_margin(
    distances: Float[Array, " n"],
    positives: Bool[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 1.0,
    factor: numerics.Number = 0.5,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Given pairs: positives drawn together, negatives pushed beyond a margin.

        loss_i = factor * d_i^2                    for positives
                 factor * max(0, margin - d_i)^2   for negatives

    Also known as contrastive loss.

    Args:
      distances: one per pair.
      positives: True for pairs that match.
      where: pairs that count.
      weights: one non-negative weight per pair.
      margin: distance beyond which a negative costs nothing.
      factor: 1/2 in the paper; 1 in many libraries.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    References:
      Hadsell et al. 2006, CVPR, Dimensionality Reduction by Learning an Invariant
      Mapping, eq. 4.

    Examples:
      >>> d, match = jnp.array([0.5, 0.25]), jnp.array([True, False])
      >>> print(pair_margin(d, match, reduce_fn=None))
      [0.125   0.28125]
    """
    numerics.check_finite(margin=margin, factor=factor)
    distances, positives, where = check_given_pairs(
        distances, positives, where, weights
    )
    pull = jnp.square(distances)
    push = jnp.square(numerics.hinge(margin - distances))
    return numerics.safe_reduce(
        factor * jnp.where(positives, pull, push),
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def online_contrastive(
    distances: Float[Array, " n"],
    positives: Bool[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.5,
    reduce_fn: numerics.ReduceFn | None = jnp.sum,
) -> Float[Array, "..."]:
    """`pair_margin` over the hard pairs of the batch only.

        positives with d_i > min over negatives of d:  d_i^2
        negatives with d_i < max over positives of d:  max(0, margin - d_i)^2

    Without negatives (positives) to take the extremum of, the mean over the pair's own
    kind is the threshold.

    Args:
      distances: one per pair.
      positives: True for pairs that match.
      where: pairs that count.
      weights: one non-negative weight per pair.
      margin: distance beyond which a negative costs nothing.
      reduce_fn: `jnp.sum` (as published) or `jnp.mean` over hard pairs; None gives [n].

    References:
      No paper; the OnlineContrastiveLoss of sentence-transformers, which also has the
      rule for pairs of one kind.

    Examples:
      >>> d = jnp.array([0.1, 0.4, 0.3, 0.9])
      >>> match = jnp.array([True, True, False, False])
      >>> round(float(online_contrastive(d, match)), 4)  # 0.4^2 + 0.2^2
      0.2
    """
    numerics.check_finite(margin=margin)
    distances, positives, where = check_given_pairs(
        distances, positives, where, weights
    )
    negatives, positives = where & ~positives, where & positives
    farthest = jnp.max(jnp.where(positives, distances, -jnp.inf))
    nearest = jnp.min(jnp.where(negatives, distances, jnp.inf))
    below = jnp.where(
        jnp.any(positives), farthest, numerics.masked_mean(distances, negatives)
    )
    above = jnp.where(
        jnp.any(negatives), nearest, numerics.masked_mean(distances, positives)
    )
    # Written so that a pair with a distance of NaN stays in.
    easy = jnp.where(positives, distances <= above, distances >= below)
    pull = jnp.square(distances)
    push = jnp.square(numerics.hinge(margin - distances))
    return numerics.safe_reduce(
        jnp.where(positives, pull, push),
        where=where & ~easy,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def contrastive_margin(
    distances: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    positive_margin: numerics.Number = 0.0,
    negative_margin: numerics.Number = 1.0,
    average: Literal["all", "nonzero"] = "all",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """All pairs of a batch: positives within one distance, negatives beyond another.

        loss = mean_{positives} max(0, d_ij - positive_margin)
             + mean_{negatives} max(0, negative_margin - d_ij)

    Also known as margin based loss.

    Args:
      distances: of n anchors to m candidates; 1 - cosine for the cosine form.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      positive_margin: distance within which a positive costs nothing.
      negative_margin: distance beyond which a negative costs nothing.
      average: "nonzero" leaves pairs with value 0 out of their mean.
      reduce_fn: reduction over positive pairs and over negative pairs, which are then
        added; None gives each anchor's sum, [n].

    References:
      Wu et al. 2017, arXiv:1706.07567 (margin based loss), with margins
      beta - alpha and beta + alpha.

    Examples:
      >>> distances = jnp.array([[0.25, 0.5, 2.0]])
      >>> positives = jnp.array([[True, False, False]])
      >>> print(contrastive_margin(distances, positives))
      0.5
    """
    numerics.check_finite(
        positive_margin=positive_margin, negative_margin=negative_margin
    )
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    pull = numerics.hinge(distances - positive_margin)
    push = numerics.hinge(negative_margin - distances)
    options: dict[str, Any] = dict(weights=weights, reduce_fn=reduce_fn)
    positives = counted_terms(pull, positives, average)
    negatives = counted_terms(push, negatives, average)
    pull = numerics.reduce_terms(pull, where=positives, **options)
    return pull + numerics.reduce_terms(push, where=negatives, **options)


def mega_batch_margin(
    scores: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    positive_margin: numerics.Number = 0.8,
    negative_margin: numerics.Number = 0.3,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """The positive's score above one margin, the hardest negative's below another.

        loss_i = max(0, positive_margin - s_{i,labels[i]})
               + max(0, max_{j != labels[i]} s_ij - negative_margin)

    Args:
      scores: cosines of n anchors against m candidates.
      labels: column of each anchor's positive; the diagonal when None.
      where: candidates that count; an anchor whose positive is masked drops out.
      weights: one non-negative weight per anchor.
      positive_margin: score above which a positive costs nothing.
      negative_margin: score below which a negative costs nothing.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors; None gives [n].

    References:
      Wieting and Gimpel 2018, arXiv:1711.05732 (hardest negatives of a mega
      batch), in the two-margin form of sentence-transformers.

    Examples:
      >>> scores = jnp.array([[0.5, 0.4, 0.1]])
      >>> round(float(mega_batch_margin(scores)), 4)
      0.4
    """
    numerics.check_finite(
        positive_margin=positive_margin, negative_margin=negative_margin
    )
    numerics.check_shapes(
        scores=(scores, "n m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    scores = numerics.at_least_f32(scores, "scores")
    labels = pairs.positive_columns(labels, scores.shape)
    where = numerics.mask_or_all(where, scores.shape)
    scores = jnp.where(where, scores, 0)
    negatives = where & ~pairs.one_column(labels, scores.shape[1])
    pull = numerics.hinge(positive_margin - numerics.at_columns(scores, labels))
    worst = numerics.at_columns(scores, pairs.hardest(scores, negatives))
    push = numerics.hinge(worst - negative_margin)
    return numerics.safe_reduce(
        pull + jnp.where(jnp.any(negatives, axis=1), push, 0),
        where=numerics.at_columns(where, labels),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def n_pairs(
    anchors: Float[Array, "n d"],
    positive_embeddings: Float[Array, "n d"],
    *,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    l2_weight: numerics.Number = 0.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """One pair per class: each anchor must find its positive among all positives.

        loss_i = log(1 + sum_{j != i} exp(a_i . p_j - a_i . p_i))
               + l2_weight * (||a_i||^2 + ||p_i||^2)                     (nats)

    Embeddings are not normalised. `pairs.first_pair` picks the pairs from labels.

    Args:
      anchors: one embedding of each class.
      positive_embeddings: another embedding of the same class, in the same order.
      where: pairs that count.
      weights: one non-negative weight per pair.
      l2_weight: of the squared lengths, which keeps them from growing.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    References:
      Sohn 2016, Improved Deep Metric Learning with Multi-class N-pair Loss Objective,
      NeurIPS, section 3.2.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> round(float(n_pairs(x, x)), 4)  # log(1 + exp(0 - 1))
      0.3133
    """
    numerics.check_finite(l2_weight=l2_weight)
    numerics.check_shapes(
        anchors=(anchors, "n d"),
        positive_embeddings=(positive_embeddings, "n d"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    anchors = numerics.at_least_f32(anchors, "anchors")
    positives = numerics.at_least_f32(positive_embeddings, "positive_embeddings")
    n = anchors.shape[0]
    where = numerics.mask_or_all(where, (n,))
    anchors = jnp.where(where[:, None], anchors, 0)
    positives = jnp.where(where[:, None], positives, 0)
    loss = numerics.negative_log_softmax(
        similarity.matmul(anchors, positives),
        jnp.arange(n),
        jnp.broadcast_to(where[None, :], (n, n)),
    )
    lengths = jnp.sum(jnp.square(anchors) + jnp.square(positives), axis=1)
    return numerics.safe_reduce(
        loss + l2_weight * lengths, where=where, weights=weights, reduce_fn=reduce_fn
    )


def lifted_structure(
    distances: Float[Array, "n n"],
    positives: Bool[Array, "n n"],
    *,
    where: Bool[Array, "n n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 1.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each positive pair against the negatives of both its ends.

        J_ij = log( sum_{k in N(i)} exp(margin - d_ik) + sum_{l in N(j)} exp(margin -
               d_jl) ) + d_ij
        loss_ij = max(0, J_ij)^2 / 2,   positive pairs in both orders

    A pair whose ends have no negative costs nothing.

    Args:
      distances: of n examples to each other.
      positives: pairs of one class; symmetric, without the diagonal.
      where: pairs that count; leave the diagonal out.
      weights: one non-negative weight per example, for the pairs of its row.
      margin: distance beyond which negatives weigh little.
      reduce_fn: `jnp.mean` or `jnp.sum` over positive pairs; None gives [n].

    References:
      Song et al. 2016, arXiv:1511.06452 (the smooth upper bound).

    Examples:
      >>> distances = jnp.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]])
      >>> same = jnp.array([[0, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
      >>> others = ~jnp.eye(3, dtype=bool)
      >>> round(float(lifted_structure(distances, same, where=others)), 4)
      0.2402
    """
    numerics.check_finite(margin=margin)
    numerics.check_shapes(distances=(distances, "n n"))
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    spread = numerics.masked_logsumexp(margin - distances, negatives)
    has_negative = jnp.any(negatives, axis=1)
    both = jnp.logaddexp(spread[:, None], spread[None, :])
    has_negative = has_negative[:, None] | has_negative[None, :]
    loss = jnp.square(numerics.hinge(jnp.where(has_negative, both, 0) + distances)) / 2
    return numerics.reduce_terms(
        jnp.where(has_negative, loss, 0),
        where=positives,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def generalized_lifted_structure(
    distances: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    positive_margin: numerics.Number = 0.0,
    negative_margin: numerics.Number = 1.0,
    incomplete: Literal["drop", "keep"] = "drop",
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Smooth maximum of the positive and smooth minimum of the negative distances.

        loss_i = max(0, log sum_{p in P(i)} exp(d_ip - positive_margin)
                      + log sum_{k in N(i)} exp(negative_margin - d_ik))

    Args:
      distances: of n anchors to m candidates.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      positive_margin: taken off positive distances.
      negative_margin: distance beyond which negatives weigh little.
      incomplete: "drop" leaves an anchor without a positive or without a negative out
        (the limit of the formula is 0); "keep" counts the logarithm of an empty sum as
        0, so that the other one remains.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors; None gives [n].

    References:
      Hermans et al. 2017, arXiv:1703.07737, section 2 (generalized lifted loss).

    Deviations:
      pytorch-metric-learning treats empty sums as "keep" does. With "drop" the mean is
      over complete anchors.

    Examples:
      >>> distances = jnp.array([[0.5, 1.0, 1.0]])
      >>> positives = jnp.array([[True, False, False]])
      >>> round(float(generalized_lifted_structure(distances, positives)), 4)
      1.1931
    """
    numerics.check_finite(
        positive_margin=positive_margin, negative_margin=negative_margin
    )
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    near = numerics.masked_logsumexp(distances - positive_margin, positives)
    far = numerics.masked_logsumexp(negative_margin - distances, negatives)
    has_positive, has_negative = jnp.any(positives, axis=1), jnp.any(negatives, axis=1)
    near, far = jnp.where(has_positive, near, 0), jnp.where(has_negative, far, 0)
    if keeps_incomplete(incomplete):
        where = has_positive | has_negative
    else:
        where = has_positive & has_negative
    return numerics.safe_reduce(
        numerics.hinge(near + far), where=where, weights=weights, reduce_fn=reduce_fn
    )


def multi_similarity(
    scores: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    alpha: numerics.Number = 2.0,
    beta: numerics.Number = 50.0,
    base: numerics.Number = 0.5,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Positives below and negatives above one score, weighted by how far.

        loss_i = log(1 + sum_{p in P(i)} exp(-alpha (s_ip - base))) / alpha
               + log(1 + sum_{k in N(i)} exp(beta (s_ik - base))) / beta

    An anchor without positives (or negatives) has only the other term.

    Args:
      scores: cosines of n anchors against m candidates.
      positives: which candidates belong to which anchor.
      where: candidates that count. `pairs.informative` does the paper's mining.
      weights: one non-negative weight per anchor.
      alpha: sharpness on positives, > 0.
      beta: sharpness on negatives, > 0.
      base: the score that separates the two.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a pair; None gives [n].

    References:
      Wang et al. 2019, arXiv:1904.06627, section 3.

    Examples:
      >>> scores = jnp.array([[0.5, 0.5]])
      >>> round(float(multi_similarity(scores, jnp.array([[True, False]]))), 4)
      0.3604
    """
    numerics.check_finite(base=base)
    numerics.check_positive(alpha=alpha, beta=beta)
    scores, positives, negatives = check_pairs(positives, where, weights, scores=scores)
    pull = numerics.masked_logsumexp(alpha * (base - scores), positives)
    push = numerics.masked_logsumexp(beta * (scores - base), negatives)
    return numerics.safe_reduce(
        jax.nn.softplus(pull) / alpha + jax.nn.softplus(push) / beta,
        where=jnp.any(positives | negatives, axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def circle_loss(
    scores: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.25,
    gamma: numerics.Number = 256.0,
    constant_weights: bool = True,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each score paced by its own distance from the optimum.

        loss_i = log(1 + sum_{k in N(i)} exp(gamma a_ik (s_ik - margin))
                       * sum_{p in P(i)} exp(-gamma a_ip (s_ip - 1 + margin)))
        a_ip = max(0, 1 + margin - s_ip),  a_ik = max(0, s_ik + margin)

    Args:
      scores: cosines of n anchors against m candidates.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      margin: relaxation; the optimum of a positive is 1 + margin, of a negative
        -margin.
      gamma: scale, > 0.
      constant_weights: stops the gradient through the weights a, as in the paper.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive and a
        negative; None gives [n].

    References:
      Sun et al. 2020, arXiv:2002.10857, section 3 (circle loss with margins).

    Examples:
      >>> scores = jnp.array([[0.5, 0.5]])
      >>> round(float(circle_loss(scores, jnp.array([[True, False]]), gamma=1.0)), 4)
      0.8981
    """
    numerics.check_finite(margin=margin)
    numerics.check_positive(gamma=gamma)
    scores, positives, negatives = check_pairs(positives, where, weights, scores=scores)
    fixed = jax.lax.stop_gradient(scores) if constant_weights else scores
    pull = -gamma * numerics.hinge(1 + margin - fixed) * (scores - 1 + margin)
    push = gamma * numerics.hinge(fixed + margin) * (scores - margin)
    where = jnp.any(positives, axis=1) & jnp.any(negatives, axis=1)
    total = numerics.masked_logsumexp(pull, positives)
    total = total + numerics.masked_logsumexp(push, negatives)
    return numerics.safe_reduce(
        jax.nn.softplus(total), where=where, weights=weights, reduce_fn=reduce_fn
    )


def tuplet_margin(
    scores: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number = 0.1,
    scale: numerics.Number = 64.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Each positive pair, its angle eased by a slack, against the anchor's negatives.

        loss_ip = log(1 + sum_{k in N(i)} exp(scale (cos t_ik - cos(t_ip - margin))))

    Args:
      scores: cosines cos t_ij of n anchors against m candidates.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      margin: slack of the angle, in radians (the paper's 0.1 is 5.73 degrees).
      scale: > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over positive pairs; None gives [n].

    References:
      Yu and Tao 2019, Deep Metric Learning with Tuplet Margin Loss, ICCV.

    Examples:
      >>> scores = jnp.array([[0.5, 0.5]])
      >>> match = jnp.array([[True, False]])
      >>> round(float(tuplet_margin(scores, match, margin=0.0)), 4)
      0.6931
    """
    numerics.check_finite(margin=margin)
    numerics.check_positive(scale=scale)
    scores, positives, negatives = check_pairs(positives, where, weights, scores=scores)
    push = numerics.masked_logsumexp(scale * scores, negatives)[:, None]
    pull = scale * numerics.add_angle(scores, -margin)
    return numerics.reduce_terms(
        jax.nn.softplus(push - pull),
        where=positives,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def intra_pair_variance(
    scores: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    positive_slack: numerics.Number = 0.01,
    negative_slack: numerics.Number = 0.01,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Positives much below their mean score and negatives much above theirs.

        loss = mean_{positives} max(0, (1 - positive_slack) mu_p - s_ij)^2
             + mean_{negatives} max(0, s_ij - (1 + negative_slack) mu_n)^2

    with mu_p and mu_n the means over all positive and all negative pairs that count.

    A loss of the whole batch, for the sake of the two means.

    Args:
      scores: cosines of n anchors against m candidates.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor; the two means stay unweighted.
      positive_slack: share of the mean that positives may be below.
      negative_slack: share of the mean that negatives may be above.
      reduce_fn: reduction over positive pairs and over negative pairs, which are then
        added; None gives each anchor's sum, [n].

    References:
      Yu and Tao 2019, Deep Metric Learning with Tuplet Margin Loss, ICCV.

    Examples:
      >>> scores = jnp.array([[0.8, 0.4, 0.1]])
      >>> positives = jnp.array([[True, True, False]])
      >>> round(float(intra_pair_variance(scores, positives, positive_slack=0.0)), 4)
      0.02
    """
    numerics.check_finite(positive_slack=positive_slack, negative_slack=negative_slack)
    scores, positives, negatives = check_pairs(positives, where, weights, scores=scores)
    lower = (1 - positive_slack) * numerics.masked_mean(scores, positives)
    upper = (1 + negative_slack) * numerics.masked_mean(scores, negatives)
    options: dict[str, Any] = dict(weights=weights, reduce_fn=reduce_fn)
    pull = jnp.square(numerics.hinge(lower - scores))
    push = jnp.square(numerics.hinge(scores - upper))
    pull = numerics.reduce_terms(pull, where=positives, **options)
    return pull + numerics.reduce_terms(push, where=negatives, **options)


def nca(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Minus the log-probability that a random neighbour of the anchor is a positive.

        loss_i = logsumexp_j logits[i, j] - logsumexp_{p in P(i)} logits[i, p]   (nats)

    Also known as neighbourhood components analysis.

    Args:
      logits: minus squared distances of n anchors to m candidates, scaled.
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].

    References:
      Goldberger et al. 2004, Neighbourhood Components Analysis, NeurIPS.

    Deviations:
      Where no anchor has a positive, pytorch-metric-learning returns NaN; here it is 0.

    Examples:
      >>> logits = jnp.zeros((1, 4))
      >>> round(float(nca(logits, jnp.array([[True, False, False, False]]))), 4)
      1.3863
    """
    logits, positives, negatives = check_pairs(positives, where, weights, logits=logits)
    logits = numerics.less_largest(logits, positives | negatives)
    has_positive = jnp.any(positives, axis=1)
    near = jnp.where(has_positive, numerics.masked_logsumexp(logits, positives), 0)
    gap = numerics.masked_logsumexp(logits, negatives) - near
    return numerics.safe_reduce(
        jax.nn.softplus(gap), where=has_positive, weights=weights, reduce_fn=reduce_fn
    )


def fast_ap(
    distances: Float[Array, "n m"],
    positives: Bool[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    num_bins: int = 10,
    max_distance: numerics.Number = 4.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """One minus the average precision of a ranking, from soft histograms.

        loss_i = 1 - sum_b h+_b H+_b / H_b / |P(i)|

    h+_b is the soft count of positives in bin b of the distance (triangular weights
    around num_bins + 1 equally spaced centres), H+_b and H_b the counts of positives
    and of all candidates up to bin b. In [0, 1].

    Also known as FastAP.

    Args:
      distances: of n anchors to m candidates; squared Euclidean distances of unit
        vectors lie in [0, 4].
      positives: which candidates belong to which anchor.
      where: candidates that count.
      weights: one non-negative weight per anchor.
      num_bins: bins of the histogram, >= 1.
      max_distance: where the last bin is centred, > 0; for an anchor with a candidate
        beyond it, at its farthest candidate. Distances below 0 count as 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a positive; None gives
        [n].

    References:
      Cakir et al. 2019, Deep Metric Learning to Rank, CVPR.

    Examples:
      >>> distances = jnp.array([[0.0, 2.0, 4.0]])
      >>> round(float(fast_ap(distances, jnp.array([[False, True, False]]))), 4)
      0.5
    """
    numerics.check_positive(num_bins=num_bins, max_distance=max_distance)
    distances, positives, negatives = check_pairs(
        positives, where, weights, distances=distances
    )
    where = positives | negatives
    distances = numerics.hinge(distances)
    farthest = jnp.max(distances, axis=1, keepdims=True)
    places = num_bins * (distances / jnp.maximum(farthest, max_distance))

    @jax.checkpoint
    def counts(center):
        shares = numerics.hinge(1 - jnp.abs(places - center))
        return tuple(
            jnp.sum(jnp.where(mask, shares, 0), axis=1) for mask in (positives, where)
        )

    histogram, everyone = jax.lax.map(counts, jnp.arange(num_bins + 1.0))
    below, among = jnp.cumsum(histogram, axis=0), jnp.cumsum(everyone, axis=0)
    precision = below / jnp.where(among == 0, 1, among)
    count = jnp.sum(positives, axis=1)
    loss = 1 - jnp.sum(histogram * precision, axis=0) / jnp.maximum(count, 1)
    loss = similarity.within(loss, 0.0, 1.0)
    return numerics.safe_reduce(
        loss, where=count > 0, weights=weights, reduce_fn=reduce_fn
    )


def angular_loss(
    anchors: Float[Array, "n d"],
    positive_embeddings: Float[Array, "n d"],
    negative_embeddings: Float[Array, "m d"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    angle: numerics.Number = math.pi / 4,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Bounds the angle at the negative of each triangle anchor, positive, negative.

        loss_i = log(1 + sum_k exp(f_ik))
        f_ik = 4 tan(angle)^2 (a_i + p_i) . n_k - 2 (1 + tan(angle)^2) a_i . p_i

    Args:
      anchors: unit vectors.
      positive_embeddings: unit vectors of the same classes, in the same order.
      negative_embeddings: unit vectors of other classes; the positives of the other
        rows when None.
      where: negatives that count for each anchor (pairs of rows when there are no
        `negative_embeddings`, which never counts a row against itself).
      weights: one non-negative weight per anchor.
      angle: bound, in radians, in (0, pi / 2); 45 degrees in the paper, which also
        tries 36 to 55.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that have a negative; None gives
        [n].

    References:
      Wang et al. 2017, arXiv:1708.01682, section 3.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0]])
      >>> round(float(angular_loss(x, x)), 4)  # log(1 + exp(-4))
      0.0181
    """
    numerics.check_finite(angle=angle)
    numerics.check_numbers(
        "radians in (0, pi / 2)", lambda x: (x > 0) & (x < math.pi / 2), angle=angle
    )
    numerics.check_shapes(
        anchors=(anchors, "n d"),
        positive_embeddings=(positive_embeddings, "n d"),
        negative_embeddings=(negative_embeddings, "m d"),
        weights=(weights, "n"),
    )
    anchors = numerics.at_least_f32(anchors, "anchors")
    positives = numerics.at_least_f32(positive_embeddings, "positive_embeddings")
    n = anchors.shape[0]
    if negative_embeddings is None:
        negatives, allowed = positives, ~jnp.eye(n, dtype=bool)
    else:
        negatives = numerics.at_least_f32(negative_embeddings, "negative_embeddings")
        allowed = jnp.ones((n, negatives.shape[0]), bool)
    numerics.check_shapes(where=(where, f"{n} {negatives.shape[0]}"))
    where = allowed & numerics.mask_or_all(where, allowed.shape)
    # What counts nowhere leaves no trace in a gradient.
    has_negative, used = jnp.any(where, axis=1), jnp.any(where, axis=0)
    anchors = jnp.where(has_negative[:, None], anchors, 0)
    positives = jnp.where(has_negative[:, None], positives, 0)
    negatives = jnp.where(used[:, None], negatives, 0)
    square = jnp.tan(jnp.asarray(angle, anchors.dtype)) ** 2
    apart = 4 * square * similarity.matmul(anchors + positives, negatives)
    close = 2 * (1 + square) * jnp.sum(anchors * positives, axis=1)
    return numerics.safe_reduce(
        jax.nn.softplus(numerics.masked_logsumexp(apart - close[:, None], where)),
        where=has_negative,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def violated(violation: Float[Array, "*shape"], soft: bool) -> Float[Array, "*shape"]:
    """max(0, x), or its smooth form log(1 + exp(x))."""
    return jax.nn.softplus(violation) if soft else numerics.hinge(violation)


def counted_terms(
    values: Float[Array, "*shape"], where: Bool[Array, "*shape"], average: str
) -> Bool[Array, "*shape"]:
    """Terms that a reduction sees: all, or those that are not 0 (NaN stays in)."""
    if average == "all":
        return where
    if average == "nonzero":
        return where & ~(values <= 0)
    raise ValueError(f'average: expected "all" or "nonzero", got {average!r}')


def keeps_incomplete(incomplete: str) -> bool:
    """Whether anchors that lack a positive or a negative stay in the loss."""
    if incomplete not in ("drop", "keep"):
        raise ValueError(f'incomplete: expected "drop" or "keep", got {incomplete!r}')
    return incomplete == "keep"


def check_pairs(
    positives: Bool[Array, "n m"],
    where: Bool[Array, "n m"] | None,
    weights: Float[Array, " n"] | None,
    **named: Array,
) -> tuple[Float[Array, "n m"], Bool[Array, "n m"], Bool[Array, "n m"]]:
    """Checks one named [n, m] array and its masks.

    Returns it in at least float32, 0 where it does not count, with the positives and
    the negatives that count.
    """
    ((name, x),) = named.items()
    numerics.check_shapes(
        **{name: (x, "n m")},
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    positives = numerics.check_mask(positives, "positives")
    if name == "logits":
        x, where = numerics.masked_logits(x, where)
    else:
        x, where = numerics.at_least_f32(x, name), numerics.mask_or_all(where, x.shape)
        x = jnp.where(where, x, 0)
    return x, where & positives, where & ~positives


def check_given_pairs(
    distances: Float[Array, " n"],
    positives: Bool[Array, " n"],
    where: Bool[Array, " n"] | None,
    weights: Float[Array, " n"] | None,
) -> tuple[Float[Array, " n"], Bool[Array, " n"], Bool[Array, " n"]]:
    """Checks distances, kinds and mask of n given pairs."""
    numerics.check_shapes(
        distances=(distances, "n"),
        positives=(positives, "n"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    distances = numerics.at_least_f32(distances, "distances")
    positives = numerics.check_mask(positives, "positives")
    where = numerics.mask_or_all(where, distances.shape)
    return jnp.where(where, distances, 0), positives, where
