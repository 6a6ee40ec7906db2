"""What is measured of a model f = log q + g, as functions of points.

The normaliser, test likelihood, scores of outsiders and Langevin chains.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from contrastive_jax import ebm, evaluation, numerics
from experiments.meco import data

Energy = Callable[[Float[Array, "n ..."]], Float[Array, " n"]]


def square_grid(cells: int, half_width: float) -> tuple[Float[Array, "k 2"], float]:
    """Midpoint rule on a square around the origin: points, and the area of a cell.

        integral of p over the square ~ area sum_k p(x_k)

    Rows go from low to high in the second coordinate, then in the first, as an image
    with its origin below shows them.

    Args:
      cells: cells per side.
      half_width: half the side of the whole, > 0.

    Raises:
      ValueError: a number not above 0.

    Examples:
      >>> points, area = square_grid(2, 1.0)
      >>> points.tolist(), area
      ([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]], 1.0)
    """
    numerics.check_positive(cells=cells, half_width=half_width)
    side = 2 * half_width / cells
    centers = (jnp.arange(cells) + 0.5) * side - half_width
    x, y = jnp.meshgrid(centers, centers)
    return jnp.stack([x.ravel(), y.ravel()], axis=1), side**2


def log_normalizer(config, f: Energy, g: Energy) -> tuple[float, float]:
    """log Z: by quadrature in the plane, else by a large sample of the noise (and its
    effective sample size)."""
    if len(data.shape_of(config.data.name)) == 1:
        x, cell = square_grid(config.eval.grid, data.HALF_WIDTH)
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
