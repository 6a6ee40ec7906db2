"""Losses with one positive per anchor: InfoNCE and its in-batch relatives.

All take scores with the temperature applied, [n anchors, m candidates], and return
nats. Besides them stand weights for their negatives, positives from a support set, and
what goes with any loss of embeddings: prefixes, a bound of a learned temperature.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics, pairs, similarity


def info_nce(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    log_weights: Float[Array, "n m"] | None = None,
    margin: numerics.Number | Float[Array, " m"] = 0.0,
    label_smoothing: numerics.Number = 0.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy of each anchor's positive among m candidates.

        s_ij = logits[i, j] + log_weights[i, j], s_i+ = logits[i, labels[i]] - margin
        loss_i = (1 - e) l_i+ + e mean_j l_ij,  l_ij = logsumexp_k s_ik - s_ij   (nats)

    with e the label smoothing.

    Hard negatives and queued keys are further columns.

    Also known as multiple negatives ranking, in-batch softmax, SimCSE and logQ.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      labels: column of each anchor's positive; the diagonal when None.
      where: candidates that count; an anchor whose positive is masked drops out.
      weights: one non-negative weight per anchor.
      log_weights: logarithms of the weights of the negatives in the sum, as for hard
        negatives or for a correction by minus the log-probability of sampling them.
        Not applied to positives.
      margin: taken off the positive's logit; a number, or one per candidate (class).
      label_smoothing: share of the target spread evenly over all candidates that
        count, in [0, 1].
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      van den Oord et al. 2018, arXiv:1807.03748, eq. 4. Henderson et al. 2017,
      arXiv:1705.00652 (multiple negatives ranking).

    Examples:
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 1.0]])
      >>> info_nce(logits, reduce_fn=None).round(4)
      Array([0.1269, 0.6931], dtype=float32)
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
        log_weights=(log_weights, "n m"),
    )
    numerics.check_finite(margin=margin)
    numerics.check_fraction(label_smoothing=label_smoothing)
    logits, where = numerics.masked_logits(logits, where)
    labels = pairs.positive_columns(labels, logits.shape)
    logits, where, counts = numerics.labeled_rows(logits, labels, where)
    margin = numerics.per_column(margin, logits.shape[1], logits.dtype, "margin")
    margin = jnp.take(margin, labels, mode="fill", fill_value=0)
    own = pairs.one_column(labels, logits.shape[1])
    if log_weights is not None:
        log_weights = numerics.at_least_f32(log_weights, "log_weights")
        where = where & (own | (log_weights != -jnp.inf))
        # Small weights would drown in a large number that all logits have in common.
        logits = numerics.less_largest(logits, where)
        logits = logits + jnp.where(where & ~own, log_weights, 0)
    loss = numerics.negative_log_softmax(logits, labels, where, margin=margin)
    if not numerics.is_zero(label_smoothing):
        gaps = numerics.at_columns(logits, labels)[:, None] - logits - margin[:, None]
        rest = numerics.masked_mean(jnp.where(own, 0, gaps), where, axis=-1)
        loss = loss + label_smoothing * rest
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )


def two_way_info_nce(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    reverse_logits: Float[Array, "n k"] | None = None,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number | Float[Array, " m"] = 0.0,
    label_smoothing: numerics.Number = 0.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE from a to b and from b to a, averaged.

        loss_i = (info_nce(a_i -> b) + info_nce(b_i -> a)) / 2           (nats)

    Also known as CLIP and symmetric multiple negatives ranking.

    Args:
      logits: scores of n rows of a against m rows of b, temperature applied.
      labels: column of each anchor's positive, the same in both directions; the
        diagonal when None.
      reverse_logits: scores of n rows of b against k rows of a. `logits.T` when None,
        which needs n = m. Where candidates were gathered over devices or one side has
        hard negatives, hand it in.
      where: pairs that count, in the layout of `logits`; only with square logits.
      weights: one non-negative weight per pair (a_i, b_i).
      margin: taken off the positive's logit, as in `info_nce`.
      label_smoothing: as in `info_nce`.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs; None gives [n].

    References:
      Radford et al. 2021, arXiv:2103.00020, figure 3.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 1.0]])
      >>> f"{two_way_info_nce(logits):.4f}"
      '0.3616\'
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        reverse_logits=(reverse_logits, "n k"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits = numerics.at_least_f32(logits, "logits")
    if reverse_logits is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(
                f"reverse_logits: needed when logits are not square, got logits of "
                f"shape {list(logits.shape)}"
            )
        reverse_logits = logits.T
    elif where is not None:
        raise ValueError("where: only with square logits and no reverse_logits")
    reverse_logits = numerics.at_least_f32(reverse_logits, "reverse_logits")
    where = None if where is None else numerics.check_mask(where, "where")
    sizes = logits.shape[1], reverse_logits.shape[1]
    labels = pairs.positive_columns(labels, (logits.shape[0], min(sizes)))
    labels = jnp.where(labels < min(sizes), labels, max(sizes))  # a column in neither
    options: dict[str, Any] = dict(
        weights=weights,
        margin=margin,
        label_smoothing=label_smoothing,
        reduce_fn=reduce_fn,
    )
    forward = info_nce(logits, labels, where=where, **options)
    where = None if where is None else where.T
    backward = info_nce(reverse_logits, labels, where=where, **options)
    return (forward + backward) / 2


def all_direction_info_nce(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    query_logits: Float[Array, "n m"],
    document_logits: Float[Array, "n m"],
    reverse_logits: Float[Array, "n m"] | None = None,
    repeat_positive: bool = True,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE whose negatives are also of the anchor's own type.

        Z_i = sum_j (e^(q_i d_j) + e^(d_i q_j))
              + sum_{j != i} (e^(q_i q_j) + e^(d_i d_j))
        loss_i = log Z_i - q_i d_i                                       (nats)

    The positive pair stands in Z_i twice, once in each direction, so that the loss is
    above 0 at the optimum.

    Also known as GTE.

    Args:
      logits: scores of n queries against m documents, temperature applied.
      labels: column of each query's own document, which is also the column of the query
        itself among the queries; the diagonal when None.
      query_logits: scores of the n queries against m queries.
      document_logits: scores of the n queries' documents against m documents.
      reverse_logits: scores of the n queries' documents against m queries. `logits.T`
        when None, which needs n = m.
      repeat_positive: whether the positive stands in the second sum too; without it
        one example alone has loss 0.
      where: examples j that count for anchor i, in all four sums.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Li et al. 2023, arXiv:2308.03281 (improved contrastive loss).

    Examples:
      >>> scores = jnp.array([[2.0, 0.0], [1.0, 1.0]])
      >>> same = jnp.array([[9.0, 0.0], [0.0, 9.0]])
      >>> options = dict(query_logits=same, document_logits=same)
      >>> all_direction_info_nce(scores, **options, reduce_fn=None).round(2)
      Array([1.02, 1.41], dtype=float32)
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        query_logits=(query_logits, "n m"),
        document_logits=(document_logits, "n m"),
        reverse_logits=(reverse_logits, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits = numerics.at_least_f32(logits, "logits")
    query_logits = numerics.at_least_f32(query_logits, "query_logits")
    document_logits = numerics.at_least_f32(document_logits, "document_logits")
    labels = pairs.positive_columns(labels, logits.shape)
    m = logits.shape[1]
    where = numerics.mask_or_all(where, logits.shape)
    if reverse_logits is None:
        if logits.shape[0] != logits.shape[1]:
            raise ValueError(
                f"reverse_logits: needed when logits are not square, got logits of "
                f"shape {list(logits.shape)}"
            )
        reverse_logits = logits.T
    reverse_logits = numerics.at_least_f32(reverse_logits, "reverse_logits")
    blocks = [logits, query_logits, reverse_logits, document_logits]
    others = where & ~pairs.one_column(labels, m)
    reverse = where if repeat_positive else others
    return info_nce(
        jnp.concatenate(blocks, axis=1),
        jnp.where(labels < m, labels, 4 * m),  # no column of the other blocks either
        where=jnp.concatenate([where, others, reverse, others], axis=1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def nt_xent(
    logits: Float[Array, "nn mm"],
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "nn mm"] | None = None,
    weights: Float[Array, " nn"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE between two views in one set, oneself left out.

        loss_i = logsumexp_{j != i} logits[i, j] - logits[i, other view of i]   (nats)

    Also known as SimCLR.

    Args:
      logits: scores of 2n anchors, first views then second views, against 2m
        candidates in the same order; temperature applied.
      labels: index of each of the n examples among the m candidates' examples;
        `arange(n)` when None. With candidates gathered over devices it is the global
        row of each local example.
      where: pairs that count, besides oneself, which never does.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors; None gives [2n].

    Raises:
      ValueError: an odd number of rows or columns.

    References:
      Chen et al. 2020, arXiv:2002.05709, eq. 1.

    Deviations:
      The released TensorFlow code returns the sum of the two views' means, twice this.

    Examples:
      >>> x = jnp.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
      >>> f"{nt_xent(x @ x.T):.4f}"
      '0.5514\'
    """
    others, columns = two_view_pairs(logits, labels)
    numerics.check_shapes(
        logits=(logits, "2n 2m"), where=(where, "2n 2m"), weights=(weights, "2n")
    )
    return info_nce(
        numerics.at_least_f32(logits, "logits"),
        columns,
        where=others & numerics.mask_or_all(where, logits.shape),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def nearest_positives(
    queries: Float[Array, "n d"],
    support: Float[Array, "m d"],
    *,
    where: Bool[Array, " m"] | None = None,
) -> Float[Array, "n d"]:
    """The nearest row of a support set in place of each query (NNCLR).

        nn_i = support[argmax_j cos(queries[i], support[j])]

    Scored against the other views as the queries would be, by `info_nce`, it makes a
    positive of another example that looks like this one. No gradient passes.

    Args:
      queries: embeddings of one view, of any length.
      support: rows to choose from, as of a queue; before it takes in this batch.
      where: rows that count (`states.queue_filled`). Without any the queries stay.

    References:
      Dwibedi et al. 2021, arXiv:2104.14548, eq. 1 and 2.

    Examples:
      >>> support = jnp.array([[0.0, 2.0], [3.0, 1.0]])
      >>> nearest_positives(jnp.array([[1.0, 0.0]]), support)
      Array([[3., 1.]], dtype=float32)
    """
    numerics.check_shapes(
        queries=(queries, "n d"), support=(support, "m d"), where=(where, "m")
    )
    queries, support = jax.lax.stop_gradient(
        (
            numerics.at_least_f32(queries, "queries"),
            numerics.at_least_f32(support, "support"),
        )
    )
    where = numerics.mask_or_all(where, support.shape[:1])
    support = jnp.where(where[:, None], support, 0)
    cosines = jnp.where(where[None, :], similarity.cosine(queries, support), -jnp.inf)
    nearest = support[jnp.argmax(cosines, axis=1)]
    return jnp.where(jnp.any(where), nearest, queries)


def matryoshka(
    loss_fn: Callable[..., Array],
    *embeddings: Float[Array, "n d"],
    sizes: Sequence[int],
    weights: Sequence[numerics.Number] | Float[Array, " k"] | None = None,
) -> Array:
    """A loss on the first numbers of each embedding, summed over several sizes.

        loss = sum_k weights[k] loss_fn(x[:, :sizes[k]], y[:, :sizes[k]], ...)

    Embeddings trained so can be cut to any of the sizes. A loss of unit vectors has to
    scale the rows itself: a prefix of a unit vector is shorter.

    Args:
      loss_fn: function of the embeddings alone that returns the loss, any shape.
      embeddings: one or more, all of them cut.
      sizes: how many numbers are kept; usually the last is d.
      weights: one for each size; 1 when None.

    Raises:
      ValueError: no sizes, one outside of 1 to d, not as many weights.

    References:
      Kusupati et al. 2022, arXiv:2205.13147, eq. 1.

    Examples:
      >>> x = jnp.array([[1.0, 2.0, 4.0]])
      >>> print(matryoshka(jnp.sum, x, sizes=(1, 3)))  # 1 + 7
      8.0
    """
    d = min(x.shape[1] for x in embeddings)
    if not sizes or not all(1 <= size <= d for size in sizes):
        raise ValueError(f"sizes: expected numbers from 1 to {d}, got {sizes}")
    weights = [1.0] * len(sizes) if weights is None else weights
    if len(weights) != len(sizes):
        raise ValueError(
            f"weights: expected one for each of {len(sizes)} sizes, got {len(weights)}"
        )
    parts = [loss_fn(*(x[:, :size] for x in embeddings)) for size in sizes]
    return sum(
        (weight * part for weight, part in zip(weights, parts, strict=True)),
        start=jnp.zeros_like(parts[0]),
    )


def clip_temperature(
    x: Float[Array, "*shape"], low: numerics.Number, high: numerics.Number
) -> Float[Array, "*shape"]:
    """A learned temperature (scale, or logarithm of one) kept within a range.

        clip(x, low, high), with the gradient of x itself where that leads back inside

    `jnp.clip` has gradient 0 beyond its bounds, so that what is once outside never
    returns; without a bound on the gradient it would drift ever farther out. Here
    descent moves a number that is outside back as soon as the loss asks for it, and
    never farther out.

    Args:
      x: the parameter.
      low: least value.
      high: greatest value; CLIP has a log-scale of at most log 100.

    Raises:
      ValueError: low above high.

    References:
      Radford et al. 2021, arXiv:2103.00020, section 2.5.

    Deviations:
      The released code of CLIP sets the parameter itself to the bound after each step.
      Several devices here cut each its own share of the gradient, and so may differ
      at the bound from one device.

    Examples:
      >>> loss = lambda x, sign: sign * clip_temperature(x, 0.0, 4.6)
      >>> grad = jax.grad(loss)
      >>> print(grad(5.0, 1.0), grad(5.0, -1.0))  # back inside, farther out
      1.0 0.0
    """
    known = not any(isinstance(bound, jax.core.Tracer) for bound in (low, high))
    if known and not low <= high:
        raise ValueError(f"low: expected at most high = {high}, got {low}")
    x = numerics.at_least_f32(x)
    return clip_inwards(x, jnp.asarray(low, x.dtype), jnp.asarray(high, x.dtype))


@jax.custom_vjp
def clip_inwards(x: Array, low: Array, high: Array) -> Array:
    """`jnp.clip` with the gradient cut only where descent would leave the range."""
    return jnp.clip(x, low, high)


def clip_forward(x: Array, low: Array, high: Array) -> tuple[Array, Any]:
    return jnp.clip(x, low, high), (x, low, high)


def clip_backward(kept: Any, grad: Array) -> tuple[Array, Array, Array]:
    x, low, high = kept
    outwards = ((x >= high) & (grad < 0)) | ((x <= low) & (grad > 0))
    return jnp.where(outwards, 0, grad), jnp.zeros_like(low), jnp.zeros_like(high)


clip_inwards.defvjp(clip_forward, clip_backward)


def decoupled_info_nce(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    positive_weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE without the positive in the denominator; may be negative.

        loss_i = logsumexp_{j != labels[i]} logits[i, j]
                 - positive_weights[i] logits[i, labels[i]]              (nats)

    Also known as DCL and DCLW.

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      labels: column of each anchor's positive; the diagonal when None.
      where: candidates that count; leave the anchor itself out. An anchor whose
        positive or all of whose negatives are masked drops out.
      weights: one non-negative weight per anchor.
      positive_weights: weights of the positive terms, 1 when None; for DCLW see
        `decoupled_weights`.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Yeh et al. 2021, arXiv:2110.06848, section 3 (DCL and DCLW).

    Deviations:
      The released code masks by adding -103.6, which temperatures below 0.02 overcome.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 1.0]])
      >>> decoupled_info_nce(logits, reduce_fn=None)
      Array([-2.,  0.], dtype=float32)
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
        positive_weights=(positive_weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    labels = pairs.positive_columns(labels, logits.shape)
    logits, where, counts = numerics.labeled_rows(logits, labels, where)
    negatives = where & ~pairs.one_column(labels, logits.shape[1])
    attraction = numerics.at_columns(logits, labels)
    if positive_weights is not None:
        attraction = attraction * numerics.at_least_f32(
            positive_weights, "positive_weights"
        )
    return numerics.safe_reduce(
        numerics.masked_logsumexp(logits - attraction[:, None], negatives),
        where=counts & jnp.any(negatives, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def decoupled_weights(
    similarities: Float[Array, " n"],
    *,
    where: Bool[Array, " n"] | None = None,
    sigma: numerics.Number = 0.5,
) -> Float[Array, " n"]:
    """Weights of the positive terms of DCLW: less for pairs that agree already.

        w_i = 2 - n exp(s_i / sigma) / sum_k exp(s_k / sigma)

    Args:
      similarities: similarity of each example's two views, without temperature. Over
        several devices, of all examples.
      where: examples that count; the weight of others is 0.
      sigma: temperature of the weights, > 0.

    References:
      Yeh et al. 2021, arXiv:2110.06848, section 3 (DCLW).

    Examples:
      >>> decoupled_weights(jnp.array([0.5, 0.5, 1.0])).round(4)
      Array([1.3642, 1.3642, 0.2716], dtype=float32)
    """
    numerics.check_shapes(similarities=(similarities, "n"), where=(where, "n"))
    numerics.check_positive(sigma=sigma)
    similarities = numerics.at_least_f32(similarities, "similarities")
    where = numerics.mask_or_all(where, similarities.shape)
    log_share = numerics.masked_log_softmax(similarities, where, temperature=sigma)
    share = jnp.exp(log_share)
    return jnp.where(where, 2 - jnp.sum(where) * share, 0)


def hardness_log_weights(
    scores: Float[Array, "n m"],
    negatives: Bool[Array, "n m"],
    *,
    strength: numerics.Number,
) -> Float[Array, "n m"]:
    """Logarithms of weights that grow with the score of a negative.

        log w_ij = strength scores[i, j] for the negatives chosen, else 0

    For the `log_weights` of `info_nce`. The weights carry no gradient.

    Args:
      scores: similarity of n anchors and m candidates, without temperature.
      negatives: which of them are weighted: those in the batch, mined ones, or both.
      strength: at least 0; 0 weighs all alike.

    References:
      Robinson et al. 2021, arXiv:2010.04592, section 3 (the weights, without their
      normalisation).

    Examples:
      >>> negatives = jnp.array([[False, True, True]])
      >>> hardness_log_weights(jnp.array([[0.9, 0.5, 0.1]]), negatives, strength=2.0)
      Array([[0. , 1. , 0.2]], dtype=float32)
    """
    numerics.check_shapes(scores=(scores, "n m"), negatives=(negatives, "n m"))
    numerics.check_nonnegative(strength=strength)
    scores = jax.lax.stop_gradient(numerics.at_least_f32(scores, "scores"))
    negatives = numerics.check_mask(negatives, "negatives")
    return jnp.where(negatives, strength * scores, 0)


def debiased_info_nce(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    class_prior: numerics.Number = 0.1,
    temperature: numerics.Number = 0.5,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE corrected for negatives that share the anchor's class.

        G_i = max( (sum_neg e^s - N p e^(s+)) / (1 - p), N e^(-1 / temperature) )
        loss_i = -log( e^(s+) / (e^(s+) + G_i) )                         (nats)

    with N negatives, s = logits and p the class prior.

    Also known as DCL (debiased).

    Args:
      logits: scores of n anchors against m candidates, cosines over the temperature.
      labels: column of each anchor's positive; the diagonal when None.
      class_prior: share of all examples that belong to the anchor's class, in [0, 1).
      temperature: the one in the logits. It sets the lower bound of the sum.
      where: candidates that count; leave the anchor itself out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Chuang et al. 2020, arXiv:2007.00224, section 3.

    Deviations:
      The released code sums exponentials in float32, which overflow at temperatures
      below 0.0113; here all sums are logarithms.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0], [1.0, 1.0]])
      >>> debiased_info_nce(logits, class_prior=0.1, reduce_fn=None).round(4)
      Array([0.0385, 0.6931], dtype=float32)
    """
    return hard_negative_info_nce(
        logits,
        labels,
        beta=0.0,
        class_prior=class_prior,
        temperature=temperature,
        where=where,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def hard_negative_info_nce(
    logits: Float[Array, "n m"],
    labels: Integer[Array, " n"] | None = None,
    *,
    beta: numerics.Number = 1.0,
    class_prior: numerics.Number = 0.1,
    temperature: numerics.Number = 0.5,
    constant_weights: bool = False,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Debiased InfoNCE with more weight on similar negatives.

        w_j = e^(beta s_j) / mean_neg e^(beta s)
        G_i = max( (sum_neg w e^s - N p e^(s+)) / (1 - p), N e^(-1 / temperature) )
        loss_i = -log( e^(s+) / (e^(s+) + G_i) )                         (nats)

    Also known as HCL.

    Args:
      logits: scores of n anchors against m candidates, cosines over the temperature.
      labels: column of each anchor's positive; the diagonal when None.
      beta: concentration on hard negatives, at least 0; 0 is `debiased_info_nce`.
      class_prior: share p of examples that belong to the anchor's class, in [0, 1).
      temperature: the one in the logits. It sets the lower bound of the sum.
      constant_weights: stops the gradient through w.
      where: candidates that count; leave the anchor itself out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Robinson et al. 2021, arXiv:2010.04592, section 3.

    Deviations:
      The paper leaves open whether w carries a gradient; the released code lets it,
      and so does the default.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0, 1.0], [1.0, 1.0, 0.0]])
      >>> f"{hard_negative_info_nce(logits, class_prior=0.0):.4f}"
      '0.7275'
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        labels=(labels, "n"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    numerics.check_numbers(
        "a number in [0, 1)", lambda p: (p >= 0) & (p < 1), class_prior=class_prior
    )
    numerics.check_positive(temperature=temperature)
    numerics.check_nonnegative(beta=beta)
    logits, where = numerics.masked_logits(logits, where)
    labels = pairs.positive_columns(labels, logits.shape)
    logits, where, counts = numerics.labeled_rows(logits, labels, where)
    negatives = where & ~pairs.one_column(labels, logits.shape[1])
    # Relative to the positive: a number that all logits have in common costs no digits.
    shift = jax.lax.stop_gradient(numerics.at_columns(logits, labels))
    logits = logits - shift[:, None]
    positive = numerics.at_columns(logits, labels)
    count = numerics.safe_log(jnp.sum(negatives, axis=-1, dtype=logits.dtype))
    # log w_j + log N, so that the weighted sum is the plain one where beta is 0.
    importance = numerics.masked_log_softmax(beta * logits, negatives)
    if constant_weights:
        importance = jax.lax.stop_gradient(importance)
    total = count + numerics.masked_logsumexp(logits + importance, negatives)
    known = numerics.safe_log(jnp.asarray(class_prior, logits.dtype))
    mass = numerics.log_subtract_exp(total, count + known + positive)
    mass = mass - jnp.log1p(-jnp.asarray(class_prior, logits.dtype))
    mass = jnp.maximum(mass, count - 1 / temperature - shift)
    return numerics.safe_reduce(
        jax.nn.softplus(mass - positive),
        where=counts,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def soft_target_cross_entropy(
    logits: Float[Array, "n m"],
    targets: Float[Array, "n m"],
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy against a distribution over the candidates.

        loss_i = sum_j targets[i, j] (logsumexp_k logits[i, k] - logits[i, j])    (nats)

    Args:
      logits: scores of n anchors against m candidates, temperature applied.
      targets: non-negative; rows of the candidates that count should sum to 1.
      where: candidates that count; an anchor without any target left drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors that count; None gives [n].

    References:
      Szegedy et al. 2016, arXiv:1512.00567, section 7.

    Examples:
      >>> logits = jnp.array([[2.0, 0.0]])
      >>> f"{soft_target_cross_entropy(logits, jnp.array([[0.5, 0.5]])):.4f}"
      '1.1269\'
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        targets=(targets, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    targets = numerics.at_least_f32(targets, "targets").astype(logits.dtype)
    targets = jnp.where(where, targets, 0)
    return numerics.safe_reduce(
        -jnp.sum(targets * numerics.masked_log_softmax(logits, where), axis=-1),
        where=jnp.any(targets != 0, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def pairwise_sigmoid(
    logits: Float[Array, "n m"],
    positives: Bool[Array, "n m"] | None = None,
    *,
    where: Bool[Array, "n m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Every pair judged on its own: matching or not.

        loss_i = sum_j softplus(-y_ij logits[i, j]),  y = 1 for positives, else -1
                                                                             (nats)

    Also known as SigLIP.

    Args:
      logits: scores of n anchors against m candidates, scale and bias applied.
      positives: the matching pairs; the diagonal when None.
      where: pairs that count; an anchor with none drops out.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` over anchors (the published form divides by the number of
        anchors, not of pairs) or `jnp.sum`; None gives [n].

    References:
      Zhai et al. 2023, arXiv:2303.15343, section 3.2.

    Examples:
      >>> logits = jnp.array([[2.0, -2.0], [-2.0, 2.0]])
      >>> pairwise_sigmoid(logits, reduce_fn=None).round(4)
      Array([0.2539, 0.2539], dtype=float32)
    """
    numerics.check_shapes(
        logits=(logits, "n m"),
        positives=(positives, "n m"),
        where=(where, "n m"),
        weights=(weights, "n"),
    )
    logits, where = numerics.masked_logits(logits, where)
    n, m = logits.shape
    if positives is None:
        positives = pairs.one_column(jnp.arange(n), m)
    positives = numerics.check_mask(positives, "positives")
    loss = jax.nn.softplus(jnp.where(positives, -logits, logits))
    return numerics.safe_reduce(
        jnp.sum(jnp.where(where, loss, 0), axis=-1),
        where=jnp.any(where, axis=-1),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def two_view_pairs(
    logits: Array, labels: Array | None
) -> tuple[Bool[Array, "nn mm"], Integer[Array, " nn"]]:
    """Everyone but oneself, and the column of each anchor's other view.

    Both layouts are all first views, then all second views.
    """
    numerics.check_shapes(logits=(logits, "2n 2m"), labels=(labels, "n"))
    if logits.shape[0] % 2 or logits.shape[1] % 2:
        raise ValueError(
            f"logits: expected two views in rows and in columns (even sizes), got "
            f"shape {list(logits.shape)}"
        )
    n, m = logits.shape[0] // 2, logits.shape[1] // 2
    labels = pairs.positive_columns(labels, (n, m))
    numerics.check_shapes(logits=(logits[:n], "n 2m"), labels=(labels, "n"))
    # A row that is no candidate (traced) has neither itself nor another view there.
    first = jnp.where(labels < m, labels, 2 * m)
    second = jnp.where(labels < m, labels + m, 2 * m)
    others = ~pairs.one_column(jnp.concatenate([first, second]), 2 * m)
    return others, jnp.concatenate([second, first])
