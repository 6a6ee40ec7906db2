"""Examples against one learnable vector per class: proxies and margin softmax.

All take scores of n examples against c classes and the class of each example. Cosines
come in without a scale: the functions apply their own margin and scale.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics, pairs


def proxy_nca(
    logits: Float[Array, "n c"],
    labels: Int[Array, " n"],
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
    others = where & ~pairs.one_column(labels, logits.shape[1])
    counts = numerics.at_columns(where, labels)
    if positive_in_denominator:
        loss = numerics.negative_log_softmax(logits, labels, where)
    else:
        own = jnp.take_along_axis(logits, labels[:, None], axis=1)
        loss = numerics.masked_logsumexp(logits - own, others)
        counts = counts & jnp.any(others, axis=1)
    return numerics.safe_reduce(
        loss, where=counts, weights=weights, reduce_fn=reduce_fn
    )


def proxy_anchor(
    cosines: Float[Array, "n c"],
    labels: Int[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    margin: float = 0.1,
    alpha: float = 32.0,
) -> Float[Array, ""]:
    """Each proxy pulls its hardest examples and pushes the hardest others.

        loss = mean_{c in C+} log(1 + sum_{i in X(c)} exp(-alpha (s_ic - margin)))
             + mean_{c in C} log(1 + sum_{i not in X(c)} exp(alpha (s_ic + margin)))

    C are all classes, X(c) the examples of class c, C+ the classes that have one.

    Args:
      cosines: of n examples to c proxies.
      labels: class of each example.
      where: pairs that count; a class without any leaves the means.
      margin: added to negatives, taken off positives.
      alpha: sharpness, > 0.

    References:
      Kim et al. 2020, arXiv:2003.13911, section 3.

    Examples:
      >>> cosines = jnp.array([[0.1, -0.1]])
      >>> round(float(proxy_anchor(cosines, jnp.array([0]))), 4)  # log 2 + log(2) / 2
      1.0397
    """
    numerics.check_positive(alpha=alpha)
    cosines, labels, where = check_classes(labels, where, None, cosines=cosines)
    own = pairs.one_column(labels, cosines.shape[1])
    positives, negatives = where & own, where & ~own
    pull = numerics.masked_logsumexp(alpha * (margin - cosines), positives, axis=0)
    push = numerics.masked_logsumexp(alpha * (margin + cosines), negatives, axis=0)
    pull = numerics.safe_reduce(jax.nn.softplus(pull), where=jnp.any(positives, axis=0))
    push = numerics.safe_reduce(jax.nn.softplus(push), where=jnp.any(where, axis=0))
    return pull + push


def arcface(
    cosines: Float[Array, "n c"],
    labels: Int[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: float = 0.5,
    scale: float = 64.0,
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
      margin: in radians, in [0, pi).
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
    cosines, labels, where = check_classes(labels, where, weights, cosines=cosines)
    eased = jnp.where(
        cosines >= -math.cos(margin),
        numerics.add_angle(cosines, margin),
        cosines - margin * math.sin(margin),
    )
    return class_cross_entropy(
        scale * own_class(labels, eased, cosines), labels, where, weights, reduce_fn
    )


def cosface(
    cosines: Float[Array, "n c"],
    labels: Int[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    margin: float = 0.35,
    scale: float = 64.0,
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
      margin: taken off the own class.
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
    cosines, labels, where = check_classes(labels, where, weights, cosines=cosines)
    logits = scale * own_class(labels, cosines - margin, cosines)
    return class_cross_entropy(logits, labels, where, weights, reduce_fn)


def normalized_softmax(
    cosines: Float[Array, "n c"],
    labels: Int[Array, " n"],
    *,
    where: Bool[Array, "n c"] | None = None,
    weights: Float[Array, " n"] | None = None,
    temperature: float | Float[Array, ""] = 0.05,
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
    logits = cosines / temperature
    return class_cross_entropy(logits, labels, where, weights, reduce_fn)


def own_class(
    labels: Int[Array, " n"], own: Float[Array, "n c"], others: Float[Array, "n c"]
) -> Float[Array, "n c"]:
    """One array at each example's class, another one everywhere else."""
    return jnp.where(pairs.one_column(labels, others.shape[1]), own, others)


def class_cross_entropy(
    logits: Float[Array, "n c"],
    labels: Int[Array, " n"],
    where: Bool[Array, "n c"],
    weights: Float[Array, " n"] | None,
    reduce_fn: numerics.ReduceFn | None,
) -> Float[Array, "..."]:
    """Cross entropy of the labelled class among the classes that count."""
    return numerics.safe_reduce(
        numerics.negative_log_softmax(logits, labels, where),
        where=numerics.at_columns(where, labels),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def check_classes(
    labels: Int[Array, " n"],
    where: Bool[Array, "n c"] | None,
    weights: Float[Array, " n"] | None,
    **named: Array,
) -> tuple[Float[Array, "n c"], Int[Array, " n"], Bool[Array, "n c"]]:
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
