"""Where data crosses devices: gather, mean, sum, global rows, example keys.

Every function takes `axis_name`: the device axis of the mapper, or None for no device
axis, when the function sees the whole batch and does the plain operation. Plain losses
never communicate; a step calls these functions and hands results in. The losses of
`parallel` communicate by themselves and return the mean over the rows of all devices,
which is the same on each. How a step's objective is reduced and differentiated stands
in `objective`.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, Key

from contrastive_jax import numerics

AxisName = str | None


def all_gather(x: Any, axis_name: AxisName) -> Any:
    """Rows of all devices, in device order: [n, ...] becomes [devices * n, ...].

    Gradients travel back to the device that owns the row. Takes a pytree.

    Examples:
      >>> x = jnp.arange(4.0).reshape(2, 2)  # two devices with two rows each
      >>> print(jax.vmap(lambda x: all_gather(x, "data"), axis_name="data")(x))
      [[0. 1. 2. 3.]
       [0. 1. 2. 3.]]
    """
    if axis_name is None:
        return x
    return jax.tree.map(lambda a: jax.lax.all_gather(a, axis_name, tiled=True), x)


def pmean(x: Any, axis_name: AxisName) -> Any:
    """Mean over devices of every leaf; the identity without a device axis.

    Examples:
      >>> x = jnp.array([1.0, 3.0])  # two devices
      >>> print(jax.vmap(lambda x: pmean(x, "data"), axis_name="data")(x))
      [2. 2.]
    """
    return x if axis_name is None else jax.lax.pmean(x, axis_name)


def psum(x: Any, axis_name: AxisName) -> Any:
    """Sum over devices of every leaf; the identity without a device axis.

    Examples:
      >>> x = jnp.array([1.0, 3.0])  # two devices
      >>> print(jax.vmap(lambda x: psum(x, "data"), axis_name="data")(x))
      [4. 4.]
    """
    return x if axis_name is None else jax.lax.psum(x, axis_name)


def log_mean_exp(
    log_w: Float[Array, " n"],
    axis_name: AxisName = None,
    *,
    where: Bool[Array, " n"] | None = None,
) -> Float[Array, ""]:
    """log of the mean of exp(log_w) over all entries of all devices, max-shifted.

    `where` marks the entries that count; -inf is a value of 0. `numerics.MASKED` where
    nothing counts, or all values are 0.

    Examples:
      >>> print(f"{log_mean_exp(jnp.log(jnp.array([1.0, 3.0]))):.4f}")  # log 2
      0.6931
    """
    where = numerics.mask_or_all(where, log_w.shape)
    positive = where & (log_w != -jnp.inf)
    log_w = jnp.where(positive, log_w, numerics.MASKED)
    top = jax.lax.stop_gradient(jnp.max(log_w))
    if axis_name is not None:
        top = jax.lax.pmax(top, axis_name)
    values = jnp.where(positive, jnp.exp(jnp.where(positive, log_w - top, -1)), 0)
    total, number = psum(
        (jnp.sum(values), jnp.sum(where, dtype=log_w.dtype)), axis_name
    )
    mean = top + numerics.safe_log(total) - jnp.log(jnp.maximum(number, 1))
    return jnp.maximum(mean, numerics.MASKED)


def axis_size(axis_name: AxisName) -> int:
    """Number of devices on the axis; 1 without one.

    Examples:
      >>> axis_size(None)
      1
    """
    return 1 if axis_name is None else jax.lax.axis_size(axis_name)


def global_rows(num_local: int, axis_name: AxisName) -> Integer[Array, " n"]:
    """Row numbers of this device's examples in the batch of all devices.

    Examples:
      >>> number = lambda x: global_rows(len(x), "data")
      >>> print(jax.vmap(number, axis_name="data")(jnp.zeros((2, 3))))  # two devices
      [[0 1 2]
       [3 4 5]]
    """
    rows = jnp.arange(num_local)
    if axis_name is None:
        return rows
    return rows + num_local * jax.lax.axis_index(axis_name)


def example_keys(
    rng: Key[Array, ""], step: Integer[Array, ""], num_local: int, axis_name: AxisName
) -> Key[Array, " n"]:
    """One random key per example, the same however the batch is split over devices.

    key_i = fold_in(fold_in(rng, step), global row of example i)

    Examples:
      >>> rng, step = jax.random.key(0), jnp.array(7)
      >>> whole = example_keys(rng, step, 4, None)
      >>> keys = lambda x: example_keys(rng, step, len(x), "data")
      >>> split = jax.vmap(keys, axis_name="data")(jnp.zeros((2, 2)))  # two devices
      >>> bool(jnp.all(split.reshape(4) == whole))
      True
    """
    at_step = jax.random.fold_in(rng, step)
    rows = global_rows(num_local, axis_name)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(at_step, rows)
