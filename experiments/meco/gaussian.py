"""The mean of a 1-D Gaussian: landscapes by quadrature, descent on them, and SGD.

    data N(m, 1), noise N(0, s^2), log p(x) = theta x - x^2 / 2 - c - log sqrt(2 pi)

NCE and eNCE learn theta and c (optimum m and m^2 / 2); likelihood methods learn theta,
and c is whatever normalises. "mle" is the population likelihood, to which "meco" and
"plug-in" are stochastic approximations. Population losses need float64
(`jax.enable_x64`).
"""

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from contrastive_jax import ebm, numerics
from contrastive_jax.methods import meco
from contrastive_jax.states import ema_update

# The parameters "theta" and "c".
Params = dict[str, Array]
SQRT_2_PI = np.sqrt(2 * np.pi)
# Where descent may start: no mean, a normalised model.
START = {"theta": 0.0, "c": 0.0}
DESCENTS = {  # loss, learning rate, normalised gradient
    "MLE, GD 0.1": ("mle", 0.1, False),
    "NCE, GD 1.0": ("nce", 1.0, False),
    "NCE, NGD 0.1": ("nce", 0.1, True),
    "eNCE, NGD 0.1": ("ence", 0.1, True),
}


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


@functools.partial(jax.jit, static_argnames=("name", "normalize", "max_steps"))
def descend(
    name: str,
    data_mean: float | Array,
    *,
    learning_rate: float | Array,
    normalize: bool,
    max_steps: int = 5000,
    tolerance: float | Array = 0.05,
) -> tuple[Array, Array]:
    """Gradient descent on a population loss until |theta - m| < tolerance.

    Returns:
      the number of steps, and the path (theta, c) [max_steps + 1, 2], NaN after it.
    """

    def moving(carry):
        step, params, _ = carry
        far = jnp.abs(params["theta"] - data_mean) >= tolerance
        return far & (step < max_steps)

    def move(carry):
        step, params, path = carry
        grads = jax.grad(lambda p: population_loss(name, p, data_mean=data_mean))(
            params
        )
        if normalize:
            grads = ebm.normalized_gradient(grads)
        params = jax.tree.map(lambda p, g: p - learning_rate * g, params, grads)
        if name == "mle":
            params = normalized(params["theta"])
        place = jnp.stack([params["theta"], params["c"]])
        return step + 1, params, path.at[step + 1].set(place)

    start = jax.tree.map(jnp.asarray, START)
    path = jnp.full((max_steps + 1, 2), jnp.nan).at[0].set(0.0)
    step, _, path = jax.lax.while_loop(moving, move, (jnp.array(0), start, path))
    return step, path


def landscape(
    means: tuple[float, ...],
    methods: Mapping[str, tuple[str, float, bool]],
    max_steps: int,
) -> dict[str, dict[float, tuple[int, np.ndarray]]]:
    """Steps and path of every method at every distance; see `descend`.

    Args:
      means: means of the data; the noise is at 0.
      methods: {name: (loss, learning rate, whether the gradient is normalised)}.
      max_steps: where a descent that has not arrived is given up.
    """
    found: dict[str, dict[float, tuple[int, np.ndarray]]] = {}
    with jax.enable_x64(True):
        for method, (name, rate, normalize) in methods.items():
            found[method] = {}
            for m in means:
                step, path = descend(
                    name,
                    m,
                    learning_rate=rate,
                    normalize=normalize,
                    max_steps=max_steps,
                )
                path = np.asarray(path)[: int(step) + 1]
                found[method][m] = (int(step), path)
    return found


@functools.partial(jax.jit, static_argnames=("name", "batch", "num_steps"))
def stochastic(
    rng: Array,
    name: str,
    *,
    data_mean: float | Array,
    noise_std: float | Array,
    learning_rate: float | Array,
    gamma: float | Array = 0.1,
    beta: float | Array = 0.1,
    batch: int = 256,
    num_steps: int = 1000,
) -> tuple[Float[Array, " t"], Float[Array, " t"]]:
    """SGD with step size learning_rate / (1 + t / 500), fresh samples at every step.

    Args:
      rng: random key.
      name: "meco" (moving average), "storm", "plug-in" or "nce" (weights 1/2).
      data_mean: m.
      noise_std: s.
      learning_rate: step size at the start.
      gamma: share of a batch in the running estimate; the plug-in has 1.
      beta: share of a gradient in the momentum of "meco" and "storm".
      batch: samples of data and of noise.
      num_steps: steps.

    Returns:
      squared error of theta, and effective sample size of the noise, after each step.
    """
    gamma = 1.0 if name == "plug-in" else gamma
    beta = beta if name in ("meco", "storm") else 1.0

    def log_mean(theta, z, log_q):
        return ebm.importance_log_mean(theta * z - z**2 / 2 - log_q)

    def step(carry, t):
        params, before, inner, velocity = carry
        x, z = jax.random.normal(jax.random.fold_in(rng, t), (2, batch))
        x, z = x + data_mean, z * noise_std
        log_q = log_normal(z, 0.0, noise_std)
        theta = params["theta"]
        if name != "nce":
            previous = log_mean(before, z, log_q) if name == "storm" else None
            inner = meco.meco_update(
                inner, log_mean(theta, z, log_q), gamma=gamma, log_mean_prev=previous
            )

        def loss(params):
            if name == "nce":
                ratio_data = log_p(params, x) - log_normal(x, 0.0, noise_std)
                return unpaired_nce(ratio_data, log_p(params, z) - log_q) / 2
            f_data, f_noise = (params["theta"] * y - y**2 / 2 for y in (x, z))
            return meco.meco(f_data, f_noise, log_q_noise=log_q, log_u=inner.log_u)

        grads = jax.grad(loss)(params)
        decay = jnp.where(t == 0, 0.0, 1 - beta)
        velocity = ema_update(velocity, grads, decay=decay)
        rate = learning_rate / (1 + t / 500)
        params = jax.tree.map(lambda p, v: p - rate * v, params, velocity)
        size = ebm.effective_sample_size(theta * z - z**2 / 2 - log_q)
        error = (params["theta"] - data_mean) ** 2
        return (params, theta, inner, velocity), (error, size)

    start = jax.tree.map(jnp.asarray, START)
    zero = jax.tree.map(jnp.zeros_like, start)
    carry = (start, start["theta"], meco.meco_init(), zero)
    return jax.lax.scan(step, carry, jnp.arange(num_steps))[1]


def mean_squared_error(
    rng: Array, num_seeds: int, name: str, **problem: float | int
) -> tuple[np.ndarray, np.ndarray]:
    """Squared errors [seeds, steps] and effective sample sizes of `stochastic`."""
    seeds = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(rng, jnp.arange(num_seeds))
    run = functools.partial(stochastic, name=name, **problem)
    return jax.tree.map(np.asarray, jax.vmap(run)(seeds))
