"""The running center of teacher outputs (DINO)."""

import dataclasses

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import numerics
from contrastive_jax.states import ema


@chex.dataclass(frozen=True)
class Center:
    """A running mean.

    Attributes:
      value: what is subtracted from the teacher's outputs.
    """

    value: Float[Array, " k"]


def center_init(dim: int) -> Center:
    """A center at 0.

    Args:
      dim: number of outputs k.

    Examples:
      >>> center_init(2).value
      Array([0., 0.], dtype=float32)
    """
    numerics.check_positive(dim=dim)
    return Center(value=jnp.zeros(dim))


def center_update(
    center: Center, mean: Float[Array, " k"], *, decay: float | Array
) -> Center:
    """Moving average of the center towards the mean of a batch.

        value <- decay value + (1 - decay) mean

    The loss of a step uses the center from before this step's update.

    Args:
      center: the center before.
      mean: mean of the teacher's outputs over the batch, before the softmax.
      decay: in [0, 1]; 1 keeps the center.

    Examples:
      >>> center_update(center_init(2), jnp.array([1.0, 2.0]), decay=0.5).value
      Array([0.5, 1. ], dtype=float32)

    References:
      Caron et al. 2021, arXiv:2104.14294, eq. 4.
    """
    numerics.check_shapes(center=(center.value, "k"), mean=(mean, "k"))
    mean = numerics.at_least_f32(mean, "mean")
    return dataclasses.replace(
        center, value=ema.ema_update(center.value, mean, decay=decay)
    )
