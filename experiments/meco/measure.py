"""What is measured: models f = log q + g as functions of points, and the 1-D problem.

Of a model the normaliser, test likelihood, scores of outsiders and Langevin chains; in
one dimension descents on exact landscapes, and SGD.
"""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from contrastive_jax import ebm, evaluation
from contrastive_jax.methods import meco
from contrastive_jax.states import ema_update
from experiments.meco import data
from experiments.meco.model import (
    log_normal,
    log_p,
    normalized,
    population_loss,
    unpaired_nce,
)

Energy = Callable[[Float[Array, "n ..."]], Float[Array, " n"]]


def log_normalizer(config, f: Energy, g: Energy) -> tuple[float, float]:
    """log Z: by quadrature in the plane, else by a large sample of the noise (and its
    effective sample size)."""
    if len(data.shape_of(config.data.name)) == 1:
        x, cell = data.square_grid(config.eval.grid, data.HALF_WIDTH)
        log_f = jnp.concatenate([f(part) for part in jnp.array_split(x, 10)])
        return float(jax.nn.logsumexp(log_f) + np.log(cell)), np.nan
    keys = jax.random.split(jax.random.key(1), config.eval.samples)
    draw = jax.jit(data.make_noise(config).sample)
    log_w = jnp.concatenate([g(draw(part)) for part in jnp.array_split(keys, 10)])
    size = float(ebm.effective_sample_size(log_w))
    return float(ebm.importance_log_mean(log_w)), size


def generate(
    config, f: Energy, num: int
) -> tuple[Float[Array, "n ..."], ebm.LangevinInfo]:
    """Langevin chains on f from samples of the noise, and their diagnostics."""
    keys = jax.random.split(jax.random.key(2), config.eval.generated)[:num]
    start = ebm.langevin_init(data.make_noise(config).sample(keys))
    run = functools.partial(
        ebm.langevin,
        log_density=f,
        num_steps=config.eval.langevin_steps,
        step_size=config.eval.langevin_step_size,
        adjusted=True,
    )
    chains, info = jax.jit(run)(keys, start)
    return chains.x, info


def evaluate(config, f: Energy, g: Energy) -> dict[str, float]:
    """Test NLL (nats), and for images AUROC per outside set and two-sample accuracy."""
    name = config.data.name
    split = data.load(name, config.eval.held_out, config.data.data_dir)
    rows = len(split.test)
    test = data.to_points(
        jnp.asarray(split.test), name, jax.random.split(jax.random.key(3), rows)
    )
    log_z, size = log_normalizer(config, f, g)
    found = {"nll": log_z - float(jnp.mean(f(test)))}
    if not split.outside:
        return found
    found["normalizer_sample_size"] = size
    inside = np.asarray(f(data.to_points(jnp.asarray(split.test), name, None)))
    for outside, x in split.outside.items():
        scores = np.asarray(f(data.to_points(jnp.asarray(x), name, None)))
        found[f"auroc_{outside}"] = 100 * evaluation.auroc(inside, scores)
    made, info = generate(config, f, config.eval.generated)
    rows = [np.asarray(x).reshape(len(x), -1) for x in (made, test)]
    found["two_sample"] = 100 * evaluation.nearest_neighbor_accuracy(*rows)
    found["accepted"] = 100 * float(jnp.mean(info.accepted))
    return found


# Where descent may start: no mean, a normalised model.
START = {"theta": 0.0, "c": 0.0}


DESCENTS = {  # loss, learning rate, normalised gradient
    "MLE, GD 0.1": ("mle", 0.1, False),
    "NCE, GD 1.0": ("nce", 1.0, False),
    "NCE, NGD 0.1": ("nce", 0.1, True),
    "eNCE, NGD 0.1": ("ence", 0.1, True),
}


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
