"""Likelihood of unnormalised models through the logarithm of an expectation.

    p(x) = exp(f(x)) / Z,  log Z = log E_{z ~ q} [w(z)],  log w(z) = f(z) - log q(z)

with noise q that can be sampled and evaluated. `importance_nll` puts the mean of one
batch of noise in the place of the expectation (`methods.meco` a running estimate of Z).
`exponential_nce` is another contrast with noise, `ema_log` and `normalized_gradient`
are parts that such methods share. All in the log domain.

Data and noise are separate samples, [n] and [m]. A noise sample of zero probability
(log q = -inf) cannot have come from q: it is left out as if masked. A model that
gives a sample zero probability (f = -inf) gives it weight 0.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

from contrastive_jax import numerics

# Beyond this weight an exponential goes on as its tangent: float32 stays finite.
LARGEST = 1e26


def importance_log_weights(
    f: Float[Array, " m"],
    log_q: Float[Array, " m"],
    *,
    where: Bool[Array, " m"] | None = None,
) -> tuple[Float[Array, " m"], Bool[Array, " m"]]:
    """Log importance weights of noise samples, and which of them count.

        log_w_j = f_j - log q_j

    Args:
      f: unnormalised log-density of the model at the samples.
      log_q: log-density of the noise; a sample where it is -inf is left out.
      where: samples that count.

    Returns:
      log_w, 0 where the sample does not count, and the mask.

    Examples:
      >>> importance_log_weights(jnp.array([1.0, 2.0]), jnp.array([0.5, -jnp.inf]))
      (Array([0.5, 0. ], dtype=float32), Array([ True, False], dtype=bool))
    """
    numerics.check_shapes(f=(f, "m"), log_q=(log_q, "m"), where=(where, "m"))
    f = numerics.at_least_f32(f, "f")
    log_q = numerics.at_least_f32(log_q, "log_q")
    where = numerics.mask_or_all(where, f.shape) & (log_q != -jnp.inf)
    return jnp.where(where, f - jnp.where(where, log_q, 0), 0), where


def importance_log_mean(
    log_w: Float[Array, "*batch m"], *, where: Bool[Array, "*batch m"] | None = None
) -> Float[Array, "*batch"]:
    """log of the mean weight along the last axis: the estimate of log Z.

        logsumexp_j log_w_j - log m

    Where nothing counts it is `numerics.MASKED` with gradient 0. The mean over the
    noise of all devices is `parallel.log_mean_exp`, with the same result.

    Args:
      log_w: log importance weights; -inf is a weight of 0.
      where: samples that count; m is their number.

    Examples:
      >>> f"{importance_log_mean(jnp.array([1e4, -jnp.inf])):.3f}"
      '9999.307'
    """
    log_w = numerics.at_least_f32(log_w, "log_w")
    where = numerics.mask_or_all(where, log_w.shape)
    number = jnp.maximum(jnp.sum(where, axis=-1, dtype=log_w.dtype), 1)
    # A weight of 0 counts in the number but has no part in the sum.
    total = numerics.masked_logsumexp(log_w, where & (log_w != -jnp.inf))
    return jnp.maximum(total - jnp.log(number), numerics.MASKED)


def importance_nll(
    f_data: Float[Array, " n"],
    f_noise: Float[Array, " m"],
    *,
    log_q_noise: Float[Array, " m"],
    where: Bool[Array, " n"] | None = None,
    where_noise: Bool[Array, " m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Negative log-likelihood with log Z from one batch of noise (plug-in).

        loss_i = -f(x_i) + logsumexp_j (f(z_j) - log q(z_j)) - log m          (nats)

    Biased, for the logarithm of a mean is not the mean of logarithms; the running
    estimate of `methods.meco` takes most of that away. With one noise sample (m = 1)
    the gradient is that of f(z) - f(x), whatever q is. Without noise that counts the
    loss is 0. Over several devices hand in the noise of all (`parallel.all_gather`).

    Also known as Monte Carlo maximum likelihood.

    Args:
      f_data: unnormalised log-density of the model at the data.
      f_noise: the same at samples of the noise.
      log_q_noise: log-density of the noise at its samples.
      where: examples that count.
      where_noise: noise samples that count.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    References:
      Geyer 1994, On the convergence of Monte Carlo maximum likelihood calculations,
      section 1; the case gamma = 1 of Jiang et al. 2023, arXiv:2306.07485.

    Examples:
      >>> loss = importance_nll(
      ...     jnp.array([1.0]), jnp.array([0.5, 0.5]), log_q_noise=jnp.zeros(2)
      ... )
      >>> f"{loss:.4f}"
      '-0.5000'
    """
    f_data, where, _, where_noise = checked(
        f_data, f_noise, log_q_noise, where, where_noise, weights
    )
    # What all densities have in common goes first, so that it costs no digits.
    f_noise = numerics.at_least_f32(f_noise, "f_noise")
    origin = numerics.largest(f_noise, where_noise)[0]
    log_w, _ = importance_log_weights(f_noise - origin, log_q_noise, where=where_noise)
    log_z = importance_log_mean(log_w, where=where_noise)
    return numerics.safe_reduce(
        log_z - (f_data - origin),
        where=where & jnp.any(where_noise),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def exponential_nce(
    log_p_data: Float[Array, " n"],
    log_p_noise: Float[Array, " m"],
    *,
    log_q_data: Float[Array, " n"],
    log_q_noise: Float[Array, " m"],
    max_weight: numerics.Number = LARGEST,
    where: Bool[Array, " n"] | None = None,
    where_noise: Bool[Array, " m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Noise-contrastive estimation with the exponential loss.

        loss_i = exp(-h(x_i) / 2) / 2 + mean_j exp(h(z_j) / 2) / 2
        h(x) = log p(x) - log q(x)

    Meant for normalised gradient descent (`normalized_gradient`). Data that the noise
    cannot produce (log q = -inf) costs nothing. Without noise that counts the loss is
    0.

    Also known as eNCE.

    Args:
      log_p_data: log-density of the model at the data, its learned constant included.
      log_p_noise: the same at samples of the noise.
      log_q_data: log-density of the noise at the data.
      log_q_noise: the same at its own samples.
      max_weight: largest slope of the exponentials, > 0; beyond it they go on as
        straight lines. The default only keeps float32 finite.
      where: examples that count.
      where_noise: noise samples that count.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    References:
      Liu et al. 2022, arXiv:2110.11271, Analyzing and improving the optimization
      landscape of noise-contrastive estimation.

    Examples:
      >>> x = jnp.zeros(2)
      >>> f"{exponential_nce(x, x, log_q_data=x, log_q_noise=x):.1f}"
      '1.0'
    """
    numerics.check_positive(max_weight=max_weight)
    numerics.check_shapes(log_p_data=(log_p_data, "n"), log_q_data=(log_q_data, "n"))
    numerics.check_shapes(
        log_p_noise=(log_p_noise, "m"), log_q_noise=(log_q_noise, "m")
    )
    log_p_data, where, h_noise, where_noise = checked(
        log_p_data, log_p_noise, log_q_noise, where, where_noise, weights, "log_p"
    )
    h_data = log_p_data - numerics.at_least_f32(log_q_data, "log_q_data")
    h_data = jnp.where(where, h_data, 0)
    noise = noise_mean(capped_exp(h_noise / 2, max_weight), where_noise, reduce_fn)
    return numerics.safe_reduce(
        (capped_exp(-h_data / 2, max_weight) + noise) / 2,
        where=where & jnp.any(where_noise),
        weights=weights,
        reduce_fn=reduce_fn,
    )


def ema_log(
    log_mean: Float[Array, "*shape"],
    log_value: Float[Array, "*shape"],
    *,
    gamma: numerics.Number,
) -> Float[Array, "*shape"]:
    """Moving average of positive numbers that are known by their logarithms.

        log((1 - gamma) exp(log_mean) + gamma exp(log_value))

    Args:
      log_mean: log of the average so far.
      log_value: log of the new value.
      gamma: share of the new value, in [0, 1].

    Examples:
      >>> f"{ema_log(jnp.array(1000.0), jnp.array(1000.0), gamma=0.1):.1f}"
      '1000.0'
    """
    numerics.check_fraction(gamma=gamma)
    log_mean = numerics.at_least_f32(log_mean, "log_mean")
    log_rest, log_gamma = logs_of(gamma, log_mean.dtype)
    return jnp.logaddexp(log_rest + log_mean, log_gamma + log_value)


def normalized_gradient(grads: PyTree, *, eps: numerics.Number = 1e-12) -> PyTree:
    """A tree of gradients divided by its Euclidean norm: only the direction is left.

        g / max(||g||, eps)

    A gradient of 0 stays 0. The norm is taken of the tree relative to its largest
    entry, so that gradients of 1e26 do not overflow.

    Args:
      grads: gradients, a tree of arrays.
      eps: least divisor, > 0.

    References:
      Liu et al. 2022, arXiv:2110.11271, section 4 (normalised gradient descent).

    Examples:
      >>> normalized_gradient({"w": jnp.array([3.0, 4.0])})["w"].round(3).tolist()
      [0.6000000238418579, 0.800000011920929]
    """
    numerics.check_positive(eps=eps)
    leaves = [numerics.at_least_f32(g, "grads") for g in jax.tree.leaves(grads)]
    if not leaves:
        return grads
    top = jnp.maximum(jnp.max(jnp.stack([jnp.max(jnp.abs(g)) for g in leaves])), eps)
    norm = top * jnp.sqrt(sum(jnp.sum((g / top) ** 2) for g in leaves))
    return jax.tree.map(lambda g: g / jnp.maximum(norm, eps), grads)


def noise_mean(
    values: Float[Array, " m"],
    where: Bool[Array, " m"],
    reduce_fn: numerics.ReduceFn | None,
) -> Float[Array, ""]:
    """Mean over the noise that counts, over devices if the loss is one over them."""
    mean = reduce_fn if numerics.is_mean(reduce_fn) else jnp.mean
    return numerics.safe_reduce(values, where=where, reduce_fn=mean)


def capped_exp(
    x: Float[Array, "*shape"], largest: numerics.Number
) -> Float[Array, "*shape"]:
    """exp(x) up to the value `largest`, and from there on its tangent."""
    corner = jnp.log(jnp.asarray(largest, x.dtype))
    return jnp.exp(jnp.minimum(x, corner)) + largest * numerics.hinge(x - corner)


def logs_of(gamma: numerics.Number, dtype: jnp.dtype) -> tuple[Array, Array]:
    """log(1 - gamma) and log(gamma)."""
    gamma = jnp.asarray(gamma, dtype)
    return jnp.log1p(-gamma), jnp.log(gamma)


def checked(
    f_data: Array,
    f_noise: Array,
    log_q_noise: Array,
    where: Array | None,
    where_noise: Array | None,
    weights: Array | None,
    prefix: str = "f",
) -> tuple[
    Float[Array, " n"], Bool[Array, " n"], Float[Array, " m"], Bool[Array, " m"]
]:
    """Log-densities of the data, log weights of the noise, and what of both counts."""
    numerics.check_shapes(
        **{f"{prefix}_data": (f_data, "n")}, where=(where, "n"), weights=(weights, "n")
    )
    numerics.check_shapes(
        **{f"{prefix}_noise": (f_noise, "m")},
        log_q_noise=(log_q_noise, "m"),
        where_noise=(where_noise, "m"),
    )
    f_data = numerics.at_least_f32(f_data, f"{prefix}_data")
    f_noise = numerics.at_least_f32(f_noise, f"{prefix}_noise")
    log_q_noise = numerics.at_least_f32(log_q_noise, "log_q_noise")
    where = numerics.mask_or_all(where, f_data.shape)
    where_noise = numerics.mask_or_all(where_noise, f_noise.shape, "where_noise")
    log_w, where_noise = importance_log_weights(f_noise, log_q_noise, where=where_noise)
    return f_data, where, log_w, where_noise
