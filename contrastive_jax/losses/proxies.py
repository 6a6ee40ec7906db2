"""Examples against one learnable vector per class: proxies and margin softmax.

All take scores of n examples against c classes and the class of each example. Cosines
come in without a scale: the functions apply their own margin and scale.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Real

from contrastive_jax import numerics, pairs


def proxy_nca(
    logits: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    positive_in_denominator: bool = False,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Neighbourhood components with proxies for examples.

        loss_i = logsumexp_{c != labels[i]} logits[i, c] - logits[i, labels[i]]   (nats)

    It can be negative. With the positive in the denominator it is cross entropy.

    Also known as ProxyNCA++.

    Args:
      logits: minus squared distances of n unit vectors to c unit proxies, scaled.
      labels: class of each example.
      where: classes that count; an example whose own class is masked drops out.
      weights: one non-negative weight per example.
      positive_in_denominator: sum over all classes instead of the other ones.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples with a class to tell from; None
        gives [n].

    References:
      Movshovitz-Attias et al. 2017, arXiv:1703.07464.

    Deviations:
      pytorch-metric-learning has the positive in the denominator, as ProxyNCA++ (Teh et
      al. 2020, arXiv:2004.01113) has.

    Examples:
      >>> logits = jnp.array([[-1.0, -3.0]])
      >>> print(proxy_nca(logits, jnp.array([0])))
      -2.0
    """
    logits, labels, where = check_classes(labels, where, weights, logits=logits)
    logits, where, counts = numerics.labeled_rows(logits, labels, where)
    others = where & ~pairs.one_column(labels, logits.shape[1])
    if positive_in_denominator:
        loss = numerics.negative_log_softmax(logits, labels, where)
    else:
        own = numerics.at_columns(logits, labels)
        loss = numerics.masked_logsumexp(logits - own[:, None], others)
        counts = counts & jnp.any(others, axis=1)
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )


def proxy_anchor(
    cosines: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    margin: numerics.Number | Float[Array, " c"] = 0.1,
    alpha: numerics.Number = 32.0,
) -> Float[Array, ""]:
    """Each proxy pulls its hardest examples and pushes the hardest others.

        loss = mean_{c in C+} log(1 + sum_{i in X(c)} exp(-alpha (s_ic - margin)))
             + mean_{c in C} log(1 + sum_{i not in X(c)} exp(alpha (s_ic + margin)))

    C are all classes, X(c) the examples of class c, C+ the classes that have one.

    Args:
      cosines: of n examples to c proxies.
      labels: class of each example.
      where: pairs that count; a class without any leaves the means.
      margin: added to negatives, taken off positives; a number, or one per class.
      alpha: sharpness, > 0.

    References:
      Kim et al. 2020, arXiv:2003.13911, section 3.

    Examples:
      >>> cosines = jnp.array([[0.1, -0.1]])
      >>> round(float(proxy_anchor(cosines, jnp.array([0]))), 4)  # log 2 + log(2) / 2
      1.0397
    """
    numerics.check_positive(alpha=alpha)
    numerics.check_finite(margin=margin)
    cosines, labels, where = check_classes(labels, where, None, cosines=cosines)
    where = where & (labels < cosines.shape[1])[:, None]
    margin = numerics.per_column(margin, cosines.shape[1], cosines.dtype, "margin")
    margin = margin[None, :]
    own = pairs.one_column(labels, cosines.shape[1])
    positives, negatives = where & own, where & ~own
    pull = numerics.masked_logsumexp(alpha * (margin - cosines), positives, axis=0)
    push = numerics.masked_logsumexp(alpha * (margin + cosines), negatives, axis=0)
    pull = numerics.safe_reduce(jax.nn.softplus(pull), where=jnp.any(positives, axis=0))
    push = numerics.safe_reduce(jax.nn.softplus(push), where=jnp.any(where, axis=0))
    return pull + push


def arcface(
    cosines: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number | Float[Array, " c"] = 0.5,
    scale: numerics.Number = 64.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy with a margin on the angle to the own class.

        loss_i = logsumexp_c z_ic - z_{i,labels[i]},  z_ic = scale cos t_ic   (nats)
        own class: z = scale cos(t + margin),            where t <= pi - margin
                   z = scale (cos t - margin sin(margin)) beyond, to stay monotone

    Also known as additive angular margin.

    Args:
      cosines: cos t of n examples to c class vectors.
      labels: class of each example.
      where: classes that count; an example whose own class is masked drops out.
      weights: one non-negative weight per example.
      margin: in radians, in [0, pi); a number, or one per class.
      scale: > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples; None gives [n].

    References:
      Deng et al. 2019, arXiv:1801.07698, eq. 3; the branch beyond pi - margin is in the
      released code only.

    Examples:
      >>> cosines = jnp.array([[1.0, 0.5]])
      >>> labels = jnp.array([0])
      >>> round(float(arcface(cosines, labels, margin=math.pi / 3, scale=1.0)), 4)
      0.6931
    """
    numerics.check_positive(scale=scale)
    numerics.check_numbers(
        "radians in [0, pi)", lambda x: (x >= 0) & (x < math.pi), margin=margin
    )
    cosines, labels, where = check_classes(labels, where, weights, cosines=cosines)
    margin = numerics.per_column(margin, cosines.shape[1], cosines.dtype, "margin")
    margin = margin[None, :]
    eased = jnp.where(
        cosines >= -jnp.cos(margin),
        numerics.add_angle(cosines, margin),
        cosines - margin * jnp.sin(margin),
    )
    logits = jnp.where(pairs.one_column(labels, cosines.shape[1]), eased, cosines)
    return class_cross_entropy(logits, labels, where, weights, reduce_fn, scale)


def subcenter_arcface(
    cosines: Float[Array, "n c k"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number | Float[Array, " c"] = 0.5,
    scale: numerics.Number = 64.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """ArcFace with k vectors per class, of which the nearest one stands for it.

        loss_i = arcface of cos t_ic = max_k cosines[i, c, k]                 (nats)

    An example need only be near one of its class: wrongly labeled and rare ones gather
    at the others.

    Also known as Sub-center ArcFace.

    Args:
      cosines: of n examples to k vectors of each of c classes; -inf for one that a
        class does not have.
      labels: class of each example.
      where: classes that count; an example whose own class is masked drops out.
      weights: one non-negative weight per example.
      margin: as in `arcface`.
      scale: > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples; None gives [n].

    References:
      Deng et al. 2020, Sub-center ArcFace: Boosting Face Recognition by Large-Scale
      Noisy Web Faces, ECCV, section 3.3.

    Examples:
      >>> cosines = jnp.array([[[-1.0, 1.0], [0.5, 0.2]]])
      >>> loss = subcenter_arcface(cosines, jnp.array([0]), margin=1.0, scale=1.0)
      >>> f"{loss:.4f}"  # of the cosines 1 and 0.5
      '0.6732'
    """
    numerics.check_shapes(cosines=(cosines, "n c k"), where=(where, "n c"))
    cosines = numerics.at_least_f32(cosines, "cosines")
    shown = numerics.mask_or_all(where, cosines.shape[:2])[:, :, None]
    scores = jnp.where(shown, cosines, -jnp.inf)
    nearest = jnp.argmax(scores, axis=2, keepdims=True)  # of a NaN, should there be one
    return arcface(
        jnp.take_along_axis(scores, nearest, axis=2)[:, :, 0],
        labels,
        where=shown[:, :, 0],
        weights=weights,
        margin=margin,
        scale=scale,
        reduce_fn=reduce_fn,
    )


def class_margins(
    class_counts: Real[Array | np.ndarray, " c"],
    *,
    largest: numerics.Number = 0.5,
) -> Float[Array, " c"]:
    """Margins by class, the greater the rarer it is.

        margin_c = largest (class_counts[c] / least of them)^(-1/4)

    For the `margin` of `cosface` (LDAM with a scale) and of others. A class without
    examples counts as one of a single example.

    Args:
      class_counts: examples of each class, >= 0.
      largest: margin of the rarest class, >= 0.

    Raises:
      ValueError: a negative count.

    References:
      Cao et al. 2019, arXiv:1906.07413, section 3.2 (label-distribution-aware margin).

    Examples:
      >>> class_margins(jnp.array([16, 1]))
      Array([0.25, 0.5 ], dtype=float32)
    """
    numerics.check_nonnegative(class_counts=class_counts, largest=largest)
    numerics.check_shapes(class_counts=(class_counts, "c"))
    if not isinstance(class_counts, jax.Array):
        class_counts = np.asarray(class_counts, float)  # counts of 2^31 and more
    counts = jnp.asarray(class_counts)
    counts = jnp.maximum(counts.astype(jnp.promote_types(counts.dtype, jnp.float32)), 1)
    return largest * (counts / jnp.min(counts)) ** -0.25


def cosface(
    cosines: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: numerics.Number | Float[Array, " c"] = 0.35,
    scale: numerics.Number = 64.0,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy with a margin on the cosine to the own class.

        loss_i = logsumexp_c z_ic - z_{i,labels[i]}                           (nats)
        z_ic = scale (cos t_ic - margin [c = labels[i]])

    Also known as AM-Softmax.

    Args:
      cosines: cos t of n examples to c class vectors.
      labels: class of each example.
      where: classes that count; an example whose own class is masked drops out.
      weights: one non-negative weight per example.
      margin: taken off the own class; a number, or one per class (`class_margins`).
      scale: > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples; None gives [n].

    References:
      Wang et al. 2018, arXiv:1801.09414, eq. 4.

    Examples:
      >>> cosines = jnp.array([[0.75, 0.5]])
      >>> labels = jnp.array([0])
      >>> round(float(cosface(cosines, labels, margin=0.25, scale=1.0)), 4)
      0.6931
    """
    numerics.check_positive(scale=scale)
    numerics.check_finite(margin=margin)
    cosines, labels, where = check_classes(labels, where, weights, cosines=cosines)
    margin = numerics.per_column(margin, cosines.shape[1], cosines.dtype, "margin")
    margin = scale * jnp.take(margin, labels, mode="fill", fill_value=0)
    return class_cross_entropy(
        cosines, labels, where, weights, reduce_fn, scale, margin
    )


def normalized_softmax(
    cosines: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    temperature: numerics.Number = 0.05,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Cross entropy over cosines to the class vectors.

        loss_i = logsumexp_c cos t_ic / temperature - cos t_{i,labels[i]} / temperature
                                                                              (nats)

    Args:
      cosines: cos t of n examples to c class vectors.
      labels: class of each example.
      where: classes that count; an example whose own class is masked drops out.
      weights: one non-negative weight per example.
      temperature: > 0.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples; None gives [n].

    References:
      Zhai and Wu 2018, arXiv:1811.12649, section 3.

    Examples:
      >>> cosines = jnp.array([[0.5, 0.5]])
      >>> round(float(normalized_softmax(cosines, jnp.array([0]))), 4)
      0.6931
    """
    numerics.check_positive(temperature=temperature)
    cosines, labels, where = check_classes(labels, where, weights, cosines=cosines)
    return class_cross_entropy(
        cosines, labels, where, weights, reduce_fn, 1 / temperature
    )


def class_cross_entropy(
    logits: Float[Array, "n c"],
    labels: Integer[Array, " n"],
    where: Bool[Array, "n c"],
    weights: Float[Array, " n"] | None,
    reduce_fn: numerics.ReduceFn | None,
    scale: numerics.Number,
    margin: numerics.Number | Float[Array, " n"] = 0,
) -> Float[Array, "..."]:
    """Cross entropy of the labeled class among the classes that count."""
    logits, where, counts = numerics.labeled_rows(logits, labels, where)
    return numerics.safe_reduce(
        numerics.negative_log_softmax(
            logits, labels, where, scale=scale, margin=margin
        ),
        where=counts,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def check_classes(
    labels: Integer[Array, " n"],
    where: Bool[Array, "n c"] | None,
    weights: Float[Array, " n"] | None,
    **named: Array,
) -> tuple[Float[Array, "n c"], Integer[Array, " n"], Bool[Array, "n c"]]:
    """Checks one named [n, c] array, its labels and its mask."""
    ((name, x),) = named.items()
    numerics.check_shapes(
        **{name: (x, "n c")},
        labels=(labels, "n"),
        where=(where, "n c"),
        weights=(weights, "n"),
    )
    x, where = numerics.masked_logits(x, where, name)
    labels = numerics.check_columns(labels, x.shape[1], "labels")
    return x, labels, where
