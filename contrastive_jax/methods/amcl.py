"""AMCL (Wang et al. 2024): a temperature for every pair and head, learned and bounded.

One head at a time: the objective is the sum over heads, e.g. by `jax.vmap`. A pair that
looks uncertain takes a large temperature and pulls (or pushes) less; the regularizer,
which the normalization of a Gaussian of that variance asks for, keeps it from growing.
"""

from collections.abc import Mapping
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from contrastive_jax import numerics, similarity
from contrastive_jax.losses import noncontrastive

__all__ = [
    "amcl_barlow_twins",
    "amcl_info_nce",
    "amcl_simsiam",
    "pair_temperatures_concat",
    "pair_temperatures_dot",
    "temperature_regularizer",
]

# The weights of a perceptron of one hidden layer.
Params = Mapping[str, Array]
# Traced temperatures below this count as this: 1 / t has no bound.
SMALLEST = 1e-6


def temperature_regularizer(
    temperatures: Float[Array, "*shape"], *, feature_dim: numerics.Number
) -> Float[Array, "*shape"]:
    """Negative log density of a Gaussian between two equal unit vectors, up to 1/t.

        omega(t) = (d / 2) log t + 1 / t                                 (nats)

    Since -log N(y; x, t I) = omega(t) - cos(x, y) / t + constant for unit vectors. Its
    minimum lies at t = 2 / d.

    Args:
      temperatures: t, above 0.
      feature_dim: d, the number of dimensions.

    References:
      Wang et al. 2024, arXiv:2310.05615, the table of adapted losses.

    Examples:
      >>> temperature_regularizer(jnp.array([1.0, 0.5]), feature_dim=4).round(4)
      Array([1.    , 0.6137], dtype=float32)
    """
    numerics.check_positive(feature_dim=feature_dim)
    t = positive_numbers(temperatures, "temperatures")
    return feature_dim / 2 * jnp.log(t) + 1 / t


def positive_numbers(x: Array, name: str) -> Array:
    """Temperatures in at least float32; known ones are checked, traced ones bounded."""
    x = numerics.at_least_f32(x, name)
    numerics.check_positive(**{name: x})
    return jnp.maximum(x, SMALLEST)


def pair_temperatures_concat(
    params: Params,
    anchors: Float[Array, "n d"],
    others: Float[Array, "m d"],
    *,
    lower: numerics.Number,
    upper: numerics.Number,
) -> Float[Array, "n m"]:
    """Temperature of every pair, by a perceptron on both embeddings side by side.

        t_ij = lower + (upper - lower) sigmoid(s_ij)
        s_ij = v . relu(W [a_i; b_j] + w) + c

    Args:
      params: hidden_kernel W [2d, h], hidden_bias w [h], kernel v [h], bias c [].
      anchors: a.
      others: b.
      lower: least temperature, above 0.
      upper: greatest temperature.

    References:
      Wang et al. 2024, arXiv:2310.05615, and its code.

    Deviations:
      The code takes matched pairs only, of which it makes a wrong shape.
    """
    numerics.check_shapes(anchors=(anchors, "n d"), others=(others, "m d"))
    a = numerics.at_least_f32(anchors, "anchors")
    b = numerics.at_least_f32(others, "others")
    # W [a; b] is a sum, so that no array [n, m, 2d] is needed.
    for_a, for_b = jnp.split(params["hidden_kernel"], 2)
    left = similarity.matmul(a, for_a.T) + params["hidden_bias"][None]
    right = similarity.matmul(b, for_b.T)
    hidden = jax.nn.relu(left[:, None] + right[None, :])
    return bounded(hidden @ params["kernel"] + params["bias"], lower, upper)


def pair_temperatures_dot(
    params: Params,
    anchors: Float[Array, "n d"],
    others: Float[Array, "m d"],
    *,
    lower: numerics.Number,
    upper: numerics.Number,
) -> Float[Array, "n m"]:
    """Temperature of every pair, by the dot product of what a perceptron makes of each.

        t_ij = lower + (upper - lower) sigmoid(f(a_i) . f(b_j) + c)
        f(x) = V relu(W x + w)

    Args:
      params: hidden_kernel W [d, h], hidden_bias w [h], kernel V [h, e], bias c [].
      anchors: a.
      others: b.
      lower: least temperature, above 0.
      upper: greatest temperature.

    References:
      Wang et al. 2024, arXiv:2310.05615, as its text has it; c is ours.
    """
    numerics.check_shapes(anchors=(anchors, "n d"), others=(others, "m d"))

    def embed(x, name):
        x = similarity.matmul(numerics.at_least_f32(x, name), params["hidden_kernel"].T)
        hidden = jax.nn.relu(x + params["hidden_bias"][None])
        return similarity.matmul(hidden, params["kernel"].T)

    scores = similarity.dot(embed(anchors, "anchors"), embed(others, "others"))
    return bounded(scores + params["bias"], lower, upper)


def bounded(scores: Array, lower: numerics.Number, upper: numerics.Number) -> Array:
    """Scores as temperatures between two bounds."""
    numerics.check_positive(lower=lower, upper=upper)
    return lower + (upper - lower) * jax.nn.sigmoid(scores)


def amcl_info_nce(
    positive_cosines: Float[Array, " n"],
    positive_temperatures: Float[Array, " n"],
    negative_cosines: Float[Array, "n k"],
    negative_temperatures: Float[Array, "n k"],
    *,
    feature_dim: numerics.Number,
    beta: numerics.Number = 0.1,
    aggregation: Literal["max", "logsumexp"] = "max",
    where: Bool[Array, "n k"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """InfoNCE with a temperature for every pair: the form for SimCLR and MoCo.

        max:       loss_i = u_ik* - u_i+,  k* = argmax_k cos_ik
        logsumexp: loss_i = log( e^u_i+ + sum_k e^u_ik ) - u_i+          (nats)
        u = cos / t - beta omega(t)

    with omega the `temperature_regularizer`. With constant temperatures and beta = 0
    "logsumexp" is InfoNCE. An anchor without a negative drops out.

    Args:
      positive_cosines: cosine of each anchor and its positive.
      positive_temperatures: their temperatures, above 0.
      negative_cosines: cosines of each anchor and k negatives.
      negative_temperatures: their temperatures, above 0.
      feature_dim: dimensions of the embeddings, in omega.
      beta: weight of the regularizer, >= 0.
      aggregation: "max", the most similar negative alone, or "logsumexp".
      where: negatives that count.
      weights: one non-negative weight per anchor.
      reduce_fn: `jnp.mean` or `jnp.sum` over anchors; None gives [n].

    References:
      Wang et al. 2024, arXiv:2310.05615, eq. 2.1 ("max").

    Deviations:
      "logsumexp" is ours: the table of adapted losses has the maximum only. The form
      for LGP and CAN (eq. 2.4) is "max" with the positive among the negatives.

    Examples:
      >>> loss = amcl_info_nce(
      ...     jnp.array([0.8]), jnp.array([0.5]), jnp.array([[0.2, 0.4]]),
      ...     jnp.array([[1.0, 0.8]]), feature_dim=2, beta=0.0,
      ... )
      >>> f"{loss:.2f}"
      '-1.10'
    """
    numerics.check_shapes(
        positive_cosines=(positive_cosines, "n"),
        positive_temperatures=(positive_temperatures, "n"),
        negative_cosines=(negative_cosines, "n k"),
        negative_temperatures=(negative_temperatures, "n k"),
        where=(where, "n k"),
        weights=(weights, "n"),
    )
    numerics.check_nonnegative(beta=beta)
    positive = numerics.at_least_f32(positive_cosines, "positive_cosines")
    cosines = numerics.at_least_f32(negative_cosines, "negative_cosines")
    t = positive_numbers(positive_temperatures, "positive_temperatures")
    t_negative = positive_numbers(negative_temperatures, "negative_temperatures")
    where = numerics.mask_or_all(where, cosines.shape)
    cosines, t_negative = jnp.where(where, cosines, 0), jnp.where(where, t_negative, 1)

    def regularized(cosines, t):
        return cosines / t - beta * temperature_regularizer(t, feature_dim=feature_dim)

    u, v = regularized(positive, t), regularized(cosines, t_negative)
    if aggregation == "max":
        ranked = jnp.where(where, jax.lax.stop_gradient(cosines), -jnp.inf)
        loss = numerics.at_columns(v, jnp.argmax(ranked, axis=1)) - u
    elif aggregation == "logsumexp":
        loss = jax.nn.softplus(numerics.masked_logsumexp(v - u[:, None], where))
    else:
        raise ValueError(
            f'aggregation: expected "max" or "logsumexp", got {aggregation!r}'
        )
    return numerics.safe_reduce(
        loss, where=jnp.any(where, axis=1), weights=weights, reduce_fn=reduce_fn
    )


def amcl_simsiam(
    predictions: Float[Array, "n d"],
    targets: Float[Array, "n d"],
    temperatures: Float[Array, " n"],
    *,
    feature_dim: numerics.Number,
    beta: numerics.Number = 0.1,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """SimSiam with a temperature for every pair, one direction of the two.

        loss_i = -cos(predictions_i, targets_i) / (2 t_i) + beta omega(t_i)

    The objective is the sum of this over the two directions and over heads.

    Args:
      predictions: output of a head for one view.
      targets: of the other view, without gradient; the same for all heads.
      temperatures: t, above 0.
      feature_dim: dimensions of the embeddings, in omega.
      beta: weight of the regularizer, >= 0.
      where: rows that count.
      weights: one non-negative weight per row.
      reduce_fn: `jnp.mean` or `jnp.sum` over rows that count; None gives [n].

    References:
      Wang et al. 2024, arXiv:2310.05615, eq. 2.2.

    Examples:
      >>> p, z = jnp.array([[3.0, 0.0]]), jnp.array([[2.0, 0.0]])
      >>> f"{amcl_simsiam(p, z, jnp.array([0.5]), feature_dim=2, beta=0.0):.1f}"
      '-1.0'
    """
    numerics.check_nonnegative(beta=beta)
    numerics.check_shapes(
        predictions=(predictions, "n d"), temperatures=(temperatures, "n")
    )
    cosines = noncontrastive.pair_cosines(predictions, targets, where, weights, True)
    t = positive_numbers(temperatures, "temperatures")
    t = jnp.where(numerics.mask_or_all(where, t.shape), t, 1)
    omega = temperature_regularizer(t, feature_dim=feature_dim)
    loss = -cosines / (2 * t) + beta * omega
    return noncontrastive.reduce_rows(loss, where, weights, reduce_fn)


def amcl_barlow_twins(
    a: Float[Array, "n d"],
    b: Float[Array, "n d"],
    temperatures: Float[Array, "d d"],
    *,
    feature_dim: numerics.Number,
    off_diagonal: numerics.Number = 0.0051,
    beta: numerics.Number = 0.1,
    eps: numerics.Number = 1e-5,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """Barlow Twins with a temperature for every pair of features.

        loss = sum_l (1 - C_ll / t_ll)^2 + off_diagonal sum_{l != m} C_lm^2 / t_lm
               + beta ( sum_l omega(t_ll) - sum_{l != m} omega(t_lm) )

    where C is the cross-correlation, of features scaled by their unbiased deviations.

    Args:
      a: embeddings of the first view.
      b: embeddings of the second view.
      temperatures: t, above 0.
      feature_dim: dimensions in omega.
      off_diagonal: weight of the terms off the diagonal.
      beta: weight of the regularizer, >= 0.
      eps: added to the (biased) variances.
      where: rows that count.

    References:
      Wang et al. 2024, arXiv:2310.05615, eq. 2.3.

    Examples:
      >>> x = jnp.array([[1.0, 1.0], [-1.0, -1.0]])
      >>> t = jnp.full((2, 2), 0.5)
      >>> options = dict(feature_dim=2, off_diagonal=0.5, beta=0.0, eps=0.0)
      >>> f"{amcl_barlow_twins(x, x, t, **options):.2f}"
      '0.50'
    """
    numerics.check_nonnegative(off_diagonal=off_diagonal, beta=beta, eps=eps)
    numerics.check_shapes(a=(a, "n d"), temperatures=(temperatures, "d d"))
    a, b, where = noncontrastive.two_views(a, b, where)
    a = noncontrastive.standardise(a, where, eps)
    b = noncontrastive.standardise(b, where, eps)
    count = jnp.maximum(jnp.sum(where), 1)
    correlation = similarity.matmul(a.T, b.T) * (count - 1) / count**2
    t = positive_numbers(temperatures, "temperatures")
    omega = beta * temperature_regularizer(t, feature_dim=feature_dim)
    on = (1 - correlation / t) ** 2 + omega
    off = off_diagonal * correlation**2 / t - omega
    terms = jnp.where(jnp.eye(a.shape[1], dtype=bool), on, off)
    return jnp.where(jnp.any(where), jnp.sum(terms), 0)
