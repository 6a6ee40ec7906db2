"""MECO (Jiang et al. 2023): likelihood with a running estimate of the normaliser."""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from contrastive_jax import numerics
from contrastive_jax.ebm.importance import (
    LARGEST,
    capped_exp,
    checked,
    ema_log,
    logs_of,
    noise_mean,
)

__all__ = [
    "MecoState",
    "meco",
    "meco_init",
    "meco_update",
]


def meco(
    f_data: Float[Array, " n"],
    f_noise: Float[Array, " m"],
    *,
    log_q_noise: Float[Array, " m"],
    log_u: numerics.Number,
    max_weight: numerics.Number = LARGEST,
    where: Bool[Array, " n"] | None = None,
    where_noise: Bool[Array, " m"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Negative log-likelihood with log Z linearised at a running estimate u.

        loss_i = -f(x_i) + log u + mean_j w_j / u - 1,  log w_j = f(z_j) - log q(z_j)
                                                                              (nats)

    For a fixed u the expected loss is at least the negative log-likelihood (log Z <=
    log u + Z / u - 1), with equality at u = Z. Its gradient is the method's estimator,
    -mean grad f(x_i) + mean_j (w_j / u) grad f(z_j). With u the mean weight of this
    very batch it equals `importance_nll`. No gradient flows to log_u.

    Without noise that counts the loss is 0. With data parallelism log_u has to be the
    same on every device (`parallel.log_mean_exp` before `meco_update`), and each device
    has noise of its own.

    Args:
      f_data: unnormalised log-density of the model at the data. The model has no
        normalising constant of its own: the loss would not see it.
      f_noise: the same at samples of the noise.
      log_q_noise: log-density of the noise at its samples.
      log_u: log of the running estimate, this batch included (`meco_update`): then
        w / u is at most m / gamma.
      max_weight: largest w / u, > 0; a larger one enters the gradient as this. The
        default only keeps float32 finite.
      where: examples that count.
      where_noise: noise samples that count.
      weights: one non-negative weight per example.
      reduce_fn: `jnp.mean` or `jnp.sum` over examples that count; None gives [n].

    References:
      Jiang et al. 2023, arXiv:2306.07485 (the objective; the linearised form has the
      same gradient).

    Examples:
      >>> loss = meco(
      ...     jnp.array([1.0]), jnp.array([0.5]), log_q_noise=jnp.zeros(1), log_u=0.5
      ... )
      >>> f"{loss:.4f}"
      '-0.5000'
    """
    numerics.check_positive(max_weight=max_weight)
    numerics.check_finite(log_u=log_u)
    numerics.check_shapes(log_u=(jnp.asarray(log_u), ""))
    # Taken off first: what all densities and log u have in common costs no digits.
    f_data = numerics.at_least_f32(f_data, "f_data")
    f_noise = numerics.at_least_f32(f_noise, "f_noise")
    log_u = jax.lax.stop_gradient(jnp.asarray(log_u, f_data.dtype))
    f_data, where, log_w, where_noise = checked(
        f_data - log_u, f_noise - log_u, log_q_noise, where, where_noise, weights
    )
    ratio = noise_mean(capped_exp(log_w, max_weight), where_noise, reduce_fn)
    return numerics.safe_reduce(
        ratio - 1 - f_data,
        where=where & jnp.any(where_noise),
        weights=weights,
        reduce_fn=reduce_fn,
    )


@chex.dataclass(frozen=True)
class MecoState:
    """The running estimate of the normaliser.

    Attributes:
      log_u: its logarithm; 0 before the first update.
      step: how many batches of noise it has seen.
    """

    log_u: Float[Array, ""]
    step: Integer[Array, ""]


def meco_init() -> MecoState:
    """An estimate that its first update replaces.

    Examples:
      >>> meco_init().step
      Array(0, dtype=int32)
    """
    return MecoState(log_u=jnp.zeros(()), step=jnp.zeros((), jnp.int32))


def meco_update(
    state: MecoState,
    log_mean: Float[Array, ""],
    *,
    gamma: numerics.Number,
    log_mean_prev: Float[Array, ""] | None = None,
) -> MecoState:
    """The running estimate after one batch of noise; no gradient passes.

        moving average:  u <- (1 - gamma) u + gamma g
        STORM:           u <- g + (1 - gamma) (u - g_prev),  at least gamma g

    g is the mean weight of the batch, g_prev that of the same batch under the
    parameters before the last step. The first batch sets u = g. A batch without noise
    that counts (log_mean is `numerics.MASKED`), or all of weight 0, changes nothing.

    Args:
      state: the estimate before.
      log_mean: log g, `importance_log_mean` or, over devices, `parallel.log_mean_exp`.
      gamma: in [0, 1]; 1 turns the running estimate off (the plug-in).
      log_mean_prev: log g_prev, which makes it STORM.

    References:
      Jiang et al. 2023, arXiv:2306.07485; Wang et al. 2017, Stochastic compositional
      gradient descent, algorithm 1; Cutkosky and Orabona 2019, arXiv:1905.10018
      (STORM).

    Examples:
      >>> state = meco_update(meco_init(), jnp.log(2.0), gamma=0.25)
      >>> state = meco_update(state, jnp.log(6.0), gamma=0.25)
      >>> f"{jnp.exp(state.log_u):.4f}"
      '3.0000'
    """
    numerics.check_fraction(gamma=gamma)
    log_mean = jax.lax.stop_gradient(jnp.asarray(log_mean, state.log_u.dtype))
    if log_mean_prev is None:
        log_u = ema_log(state.log_u, log_mean, gamma=gamma)
    else:
        log_rest, log_gamma = logs_of(gamma, log_mean.dtype)
        log_prev = jax.lax.stop_gradient(jnp.asarray(log_mean_prev, log_mean.dtype))
        log_u = jnp.maximum(
            numerics.log_subtract_exp(
                jnp.logaddexp(log_mean, log_rest + state.log_u), log_rest + log_prev
            ),
            log_gamma + log_mean,
        )
    log_u = jnp.where(state.step == 0, log_mean, log_u)
    empty = log_mean <= numerics.MASKED  # NaN is not, and stays
    return MecoState(
        log_u=jnp.where(empty, state.log_u, log_u),
        step=jnp.where(empty, state.step, state.step + 1),
    )
