"""The models of MECO: an energy network, and a 1-D Gaussian with an unknown constant.

The 1-D problem: data N(m, 1), noise N(0, s^2),

    log p(x) = theta x - x^2 / 2 - c - log sqrt(2 pi)

NCE and eNCE learn theta and c (optimum m and m^2 / 2); likelihood methods learn theta,
and c is whatever normalises. "mle" is the population likelihood, to which "meco" and
"plug-in" are stochastic approximations. Population losses need float64
(`jax.enable_x64`).
"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from contrastive_jax import ebm, numerics


class Energy(nn.Module):
    """A small energy network: 3 x 3 convolutions for images, dense layers, swish.

    The last layer starts at 0, so the model starts as the noise it is relative to.

    Attributes:
      channels: of the 3 x 3 convolutions; all but the first halve the resolution.
      widths: of the dense layers.
    """

    channels: Sequence[int]
    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
        if x.ndim == 4:
            for i, channels in enumerate(self.channels):
                x = nn.swish(nn.Conv(channels, (3, 3), strides=2 if i else 1)(x))
        x = x.reshape(len(x), -1)
        for width in self.widths:
            x = nn.swish(nn.Dense(width)(x))
        return nn.Dense(1, kernel_init=nn.initializers.zeros_init())(x)[:, 0]


# The parameters "theta" and "c".
Params = dict[str, Array]


SQRT_2_PI = np.sqrt(2 * np.pi)


def normalized(theta: float | Array) -> Params:
    """The parameters of the normalised model with this mean."""
    return {"theta": jnp.asarray(theta), "c": jnp.asarray(theta) ** 2 / 2}


def log_p(params: Params, x: Float[Array, " n"]) -> Float[Array, " n"]:
    """Log-density of the model with its learned constant."""
    return params["theta"] * x - x**2 / 2 - params["c"] - jnp.log(SQRT_2_PI)


def log_normal(
    x: Float[Array, " n"], mean: float | Array = 0.0, std: float | Array = 1.0
) -> Float[Array, " n"]:
    """Log-density of a Gaussian."""
    return -(((x - mean) / std) ** 2) / 2 - jnp.log(std * SQRT_2_PI)


def unpaired_nce(
    log_ratio_data: Float[Array, " n"],
    log_ratio_noise: Float[Array, " m"],
    *,
    nu: float = 1.0,
    weights: tuple[Array | None, Array | None] = (None, None),
    reduce_fn: numerics.ReduceFn = jnp.mean,
) -> Float[Array, ""]:
    """NCE of samples that are not paired, log_ratio = log p - log q.

    mean_data softplus(log nu - log_ratio) + nu mean_noise softplus(log_ratio - log nu):
    telling noise from data is `ebm.binary_nce` with the signs swapped.
    """
    shift, total = float(np.log(nu)), 0.0
    for scores, sign, factor, weight in (
        (log_ratio_data, 1, 1.0, weights[0]),
        (-log_ratio_noise, -1, nu, weights[1]),
    ):
        none = jnp.zeros((len(scores), 0), scores.dtype)
        total += factor * ebm.binary_nce(
            scores, none, shift=sign * shift, weights=weight, reduce_fn=reduce_fn
        )
    return total


def population_loss(
    name: str,
    params: Params,
    *,
    data_mean: float | Array,
    noise_mean: float | Array = 0.0,
    num: int = 2001,
) -> Float[Array, ""]:
    """Exact expected loss: "nce" and "ence" with weights 1/2, "mle" less the entropy.

    The trapezoidal rule on [-30, 50]; at 2,001 points it has the digits of 40,001
    (a test says so).
    """
    x = jnp.linspace(-30.0, 50.0, num)
    dx = x[1] - x[0]
    log_data, log_q = log_normal(x, data_mean), log_normal(x, noise_mean)
    mass = jnp.exp(log_data) * dx
    shared = dict(weights=mass, reduce_fn=jnp.sum)
    if name == "nce":
        ratio = log_p(params, x) - log_q
        both = (mass, jnp.exp(log_q) * dx)
        return unpaired_nce(ratio, ratio, weights=both, reduce_fn=jnp.sum) / 2
    if name == "ence":
        # A weight on a noise point is a shift of twice its logarithm: exp(h / 2).
        return ebm.exponential_nce(
            log_p(params, x),
            log_p(params, x) + 2 * (log_q + jnp.log(dx * num)),
            log_q_data=log_q,
            log_q_noise=log_q,
            max_weight=1e100,
            **shared,
        )
    if name == "mle":
        f = params["theta"] * x - x**2 / 2
        uniform = jnp.full(num, -jnp.log(dx * num))  # the grid as noise
        nll = ebm.importance_nll(f, f, log_q_noise=uniform, **shared)
        return nll - (jnp.log(2 * jnp.pi) + 1) / 2
    raise ValueError(f'name: expected "nce", "ence" or "mle", got {name!r}')
