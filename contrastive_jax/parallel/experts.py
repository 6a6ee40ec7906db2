"""Experts that are spread over devices: each holds some, all rows visit all of them."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import numerics
from contrastive_jax.parallel.collectives import AxisName, all_gather, axis_size


def spread_experts(
    expert_fn: Callable[[Any, Array], Array],
    params: Any,
    x: Float[Array, "m d"],
    weights: Float[Array, "m e"],
    axis_name: AxisName = None,
) -> Float[Array, "m d"]:
    """Outputs of experts, weighted and added up, where each device holds some of them.

        y_i = sum_k weights_ik expert_k(x_i)

    Device q holds experts q e / devices to (q + 1) e / devices - 1. The rows of all
    devices are gathered, each device adds up what its own experts make of them, and the
    sums go back to the device that has the row. Value and gradient are those of one
    device. For the gradient of parameters that are spread, differentiate a function
    that holds the `shard_map`: inside it, each device has its own experts' gradient.

    Args:
      expert_fn: function of one expert's parameters and rows [m, d].
      params: of the experts of this device, stacked on a first axis.
      x: rows of this device.
      weights: of all experts for each row, 0 where one is not asked.
      axis_name: device axis; None where this device holds all experts.

    Raises:
      ValueError: weights of another number of experts than all devices hold.

    References:
      Lepikhin et al. 2021, arXiv:2006.16668, section 3.2 (experts over devices).

    Examples:
      >>> scale = lambda factor, x: factor * x
      >>> x, weights = jnp.ones((2, 1)), jnp.array([[1.0, 0.0], [0.5, 0.5]])
      >>> spread_experts(scale, jnp.array([2.0, 4.0]), x, weights).tolist()
      [[2.0], [3.0]]
    """
    numerics.check_shapes(x=(x, "m d"), weights=(weights, "m e"))
    local = jax.tree.leaves(params)[0].shape[0]
    experts = local * axis_size(axis_name)
    if weights.shape[1] != experts:
        raise ValueError(
            f"weights: expected {experts} columns (the experts of all devices), got "
            f"shape {list(weights.shape)}"
        )
    x, weights = all_gather((x, weights), axis_name)
    if axis_name is not None:
        first = local * jax.lax.axis_index(axis_name)
        weights = jax.lax.dynamic_slice_in_dim(weights, first, local, axis=1)
    outputs = jax.vmap(expert_fn, in_axes=(0, None))(params, x)
    y = jnp.einsum("me,emd->md", weights.astype(outputs.dtype), outputs)
    if axis_name is None:
        return y
    return jax.lax.psum_scatter(y, axis_name, tiled=True)
