"""The running centre of teacher outputs (DINO)."""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import numerics
from contrastive_jax.states import ema


@chex.dataclass(frozen=True)
class Centre:
    """A running mean.

    Attributes:
      value: what is subtracted from the teacher's outputs.
    """

    value: Float[Array, " k"]


def centre_init(dim: int) -> Centre:
    """A centre at 0.

    Args:
      dim: number of outputs k.

    Raises:
      ValueError: a dim below 1.

    Examples:
      >>> centre_init(2).value
      Array([0., 0.], dtype=float32)
    """
    numerics.check_positive(dim=dim)
    return Centre(value=jnp.zeros(dim))


def centre_update(centre: Centre, mean: Float[Array, " k"], *, decay: float) -> Centre:
    """The centre moved towards the mean of a batch.

        value <- decay value + (1 - decay) mean

    The loss of a step uses the centre from before this step's update. With data
    parallelism hand in the mean over all devices. No gradient passes.

    Args:
      centre: the centre before.
      mean: mean of the teacher's outputs over the batch, before the softmax.
      decay: in [0, 1].

    Raises:
      ValueError: a mean of another size, a decay outside of [0, 1].

    Examples:
      >>> centre_update(centre_init(2), jnp.array([1.0, 2.0]), decay=0.5).value
      Array([0.5, 1. ], dtype=float32)

    References:
      Caron et al. 2021, arXiv:2104.14294, eq. 4.
    """
    numerics.check_shapes(centre=(centre.value, "k"), mean=(mean, "k"))
    numerics.at_least_f32(mean, "mean")
    return centre.replace(value=ema.ema_update(centre.value, mean, decay=decay))
