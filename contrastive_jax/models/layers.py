"""Layers that models share: activations, normalizations and projection heads.

Flax's normalizations under one call, `(x, train=)`, so that a model can swap them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from contrastive_jax import numerics

# By the names that published configs have for them.
Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu"]


def quick_gelu(x: Array) -> Array:
    """x sigmoid(1.702 x), the approximation of GELU in OpenAI's CLIP."""
    return x * jax.nn.sigmoid(1.702 * x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "gelu": numerics.gelu,
    "gelu_new": nn.gelu,
    "gelu_pytorch_tanh": nn.gelu,
    "quick_gelu": quick_gelu,
    "relu": nn.relu,
}


class BatchNorm(nn.Module):
    """Batch normalization with statistics shared over the devices of `axis_name`.

    Attributes:
      axis_name: device axis whose batches are normalized as one; None for this
        device's rows (under the jit mapper those are the whole batch).
      momentum: decay of the running statistics.
      epsilon: added to the variance.
      use_scale: whether there is a learned scale.
      use_bias: whether there is a learned bias.
      zero_scale: initial scale 0, so that a residual block starts as the identity.
      dtype: compute type; statistics are float32 all the same.
    """

    axis_name: str | None = None
    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True
    zero_scale: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *rest"], *, train: bool
    ) -> Float[Array, "b *rest"]:
        zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
        return nn.BatchNorm(
            use_running_average=not train,
            axis_name=self.axis_name,
            momentum=self.momentum,
            epsilon=self.epsilon,
            use_scale=self.use_scale,
            use_bias=self.use_bias,
            scale_init=zeros if self.zero_scale else ones,
            dtype=self.dtype,
        )(x)


class GroupNorm(nn.Module):
    """Group normalization: no dependence between the examples of a batch.

    Attributes:
      group: channels per group, or the largest divisor of it that fits them.
      zero_scale: initial scale 0.
      dtype: compute type.

    References:
      Wu and He 2018, arXiv:1803.08494, table 3 (16 channels per group).
    """

    group: int = 16
    zero_scale: bool = False
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b *rest"], *, train: bool
    ) -> Float[Array, "b *rest"]:
        zeros, ones = nn.initializers.zeros_init(), nn.initializers.ones_init()
        return nn.GroupNorm(
            num_groups=None,
            group_size=math.gcd(self.group, x.shape[-1]),
            scale_init=zeros if self.zero_scale else ones,
            dtype=self.dtype,
        )(x)


class Mlp(nn.Module):
    """Multilayer perceptron with ReLU: a projection, prediction or probe head.

    Attributes:
      widths: output width of each layer.
      batch_norm: batch normalization after every layer but the last.
      last_batch_norm: batch normalization after the last layer.
      last_affine: whether that last normalization has a learned scale and bias.
      use_bias: whether layers without a normalization have a bias.
      axis_name: device axis over which batch statistics are shared.
      dtype: compute type.
    """

    widths: Sequence[int]
    batch_norm: bool = False
    last_batch_norm: bool = False
    last_affine: bool = True
    use_bias: bool = True
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch d_in"], *, train: bool
    ) -> Float[Array, "batch d_out"]:
        for i, width in enumerate(self.widths):
            last = i == len(self.widths) - 1
            normalized = self.last_batch_norm if last else self.batch_norm
            x = nn.Dense(
                width, use_bias=self.use_bias and not normalized, dtype=self.dtype
            )(x)
            if normalized:
                x = BatchNorm(
                    axis_name=self.axis_name,
                    use_scale=not last or self.last_affine,
                    use_bias=not last or self.last_affine,
                    dtype=self.dtype,
                )(x, train=train)
            if not last:
                x = nn.relu(x)
        return x
