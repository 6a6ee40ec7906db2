"""Residual networks for images, [batch, height, width, channels] to pooled features.

`Resnet` is the encoder of He et al. 2015 (arXiv:1512.03385) with its two usual stems:
"imagenet" (7 x 7, stride 2, max pool) and "cifar" (3 x 3, no pooling). Padding is
explicit, as in PyTorch, so published weights can be mapped one to one.
"""

from collections.abc import Sequence
from typing import Any, Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from contrastive_jax.models.layers import BatchNorm, GroupNorm

# Blocks per stage and block kind of the published depths.
DEPTHS = {
    18: ((2, 2, 2, 2), "basic"),
    34: ((3, 4, 6, 3), "basic"),
    50: ((3, 4, 6, 3), "bottleneck"),
    101: ((3, 4, 23, 3), "bottleneck"),
    152: ((3, 8, 36, 3), "bottleneck"),
}


class ConvNorm(nn.Module):
    """A convolution without bias, a normalization and (if asked) ReLU.

    Attributes:
      features: output channels.
      kernel: side of the square kernel.
      stride: stride in both directions.
      relu: whether a ReLU follows.
      zero_scale: initial scale 0 of the normalization.
      norm: "batch" or "group".
      axis_name: device axis over which batch statistics are shared.
      dtype: compute type.
    """

    features: int
    kernel: int
    stride: int = 1
    relu: bool = True
    zero_scale: bool = False
    norm: Literal["batch", "group"] = "batch"
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 c2"]:
        pad = self.kernel // 2
        x = nn.Conv(
            self.features,
            (self.kernel, self.kernel),
            strides=self.stride,
            padding=((pad, pad), (pad, pad)),
            use_bias=False,
            kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
            dtype=self.dtype,
        )(x)
        shared: dict[str, Any] = dict(zero_scale=self.zero_scale, dtype=self.dtype)
        if self.norm == "batch":
            x = BatchNorm(axis_name=self.axis_name, **shared)(x, train=train)
        elif self.norm == "group":
            x = GroupNorm(**shared)(x, train=train)
        else:
            raise ValueError(f'norm: expected "batch" or "group", got {self.norm!r}')
        return nn.relu(x) if self.relu else x


class Block(nn.Module):
    """A residual block: two 3 x 3 layers ("basic") or 1-3-1 with 4 times the width.

    Attributes:
      features: width of the block; a bottleneck returns 4 times as many channels.
      block: "basic" or "bottleneck".
      stride: stride of the first 3 x 3 layer.
      norm: "batch" or "group".
      axis_name: device axis over which batch statistics are shared.
      dtype: compute type.
    """

    features: int
    block: Literal["basic", "bottleneck"]
    stride: int = 1
    norm: Literal["batch", "group"] = "batch"
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 c2"]:
        shared: dict[str, Any] = dict(
            norm=self.norm, axis_name=self.axis_name, dtype=self.dtype
        )
        last: dict[str, Any] = dict(relu=False, zero_scale=True, **shared)
        if self.block == "bottleneck":
            width = 4 * self.features
            y = ConvNorm(self.features, 1, **shared)(x, train=train)
            y = ConvNorm(self.features, 3, self.stride, **shared)(y, train=train)
            y = ConvNorm(width, 1, **last)(y, train=train)
        elif self.block == "basic":
            width = self.features
            y = ConvNorm(width, 3, self.stride, **shared)(x, train=train)
            y = ConvNorm(width, 3, **last)(y, train=train)
        else:
            raise ValueError(
                f'block: expected "basic" or "bottleneck", got {self.block!r}'
            )
        if x.shape != y.shape:
            x = ConvNorm(width, 1, self.stride, relu=False, **shared)(x, train=train)
        return nn.relu(x + y)


class Resnet(nn.Module):
    """Images to features: stem, stages of residual blocks, mean over positions.

    Every stage but the first halves the resolution and doubles the width.

    Attributes:
      stage_sizes: residual blocks per stage; see `DEPTHS` for the published ones.
      width: channels of the first stage.
      block: "basic" or "bottleneck" blocks.
      stem: "imagenet" or "cifar".
      stem_stride: stride of the "cifar" stem; 2 quarters the cost of all later layers.
      norm: "batch" or "group".
      grid: average pooling to grid x grid cells; 1 for global average pooling. More
        cells keep the layout of aligned images (clothes, digits).
      axis_name: device axis over which batch statistics are shared.
      dtype: compute type; parameters and pooled features are float32.
    """

    stage_sizes: Sequence[int] = (2, 2, 2, 2)
    width: int = 64
    block: Literal["basic", "bottleneck"] = "basic"
    stem: Literal["imagenet", "cifar"] = "cifar"
    stem_stride: int = 1
    norm: Literal["batch", "group"] = "batch"
    grid: int = 1
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n d"]:
        shared: dict[str, Any] = dict(
            norm=self.norm, axis_name=self.axis_name, dtype=self.dtype
        )
        if self.stem == "imagenet":
            x = ConvNorm(self.width, 7, 2, **shared)(x, train=train)
            padding: Any = ((1, 1), (1, 1))  # flax declares a str
            x = nn.max_pool(x, (3, 3), (2, 2), padding=padding)
        elif self.stem == "cifar":
            x = ConvNorm(self.width, 3, self.stem_stride, **shared)(x, train=train)
        else:
            raise ValueError(f'stem: expected "imagenet" or "cifar", got {self.stem!r}')
        for stage, size in enumerate(self.stage_sizes):
            for block in range(size):
                stride = 2 if stage > 0 and block == 0 else 1
                features = self.width * 2**stage
                x = Block(features, self.block, stride, **shared)(x, train=train)
        n, h, w, c = x.shape
        if h % self.grid or w % self.grid:
            raise ValueError(f"grid: {h} x {w} positions do not split by {self.grid}")
        cells = (n, self.grid, h // self.grid, self.grid, w // self.grid, c)
        return jnp.mean(x.reshape(cells), axis=(2, 4), dtype=jnp.float32).reshape(n, -1)
