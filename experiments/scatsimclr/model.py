"""The adapter behind a scattering transform, and an encoder with two heads."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from contrastive_jax import models
from contrastive_jax.models.resnet import Block, ConvNorm


def pool(x: Float[Array, "n h w c"], grid: int) -> Float[Array, "n g g c"]:
    """Means over grid x grid cells, which overlap where grid does not divide a side."""

    def cells(size):
        """Rows of weights; cell i is from floor(i size / grid) to a ceil."""
        i, at = np.arange(grid)[:, None], np.arange(size)
        inside = (at >= i * size // grid) & (at < -(-(i + 1) * size // grid))
        return jnp.asarray(inside / inside.sum(axis=1, keepdims=True), x.dtype)

    _, h, w, _ = x.shape
    return jnp.einsum("nhwc,gh,kw->ngkc", x, cells(h), cells(w), precision="highest")


def coefficients(
    image: Float[Array, "n h w c"], **sizes: int
) -> Float[Array, "n h2 w2 d"]:
    """`models.scattering_2d` of every channel, paths of the first channel first."""
    s = models.scattering_2d(jnp.moveaxis(image, -1, 1), **sizes)
    n, c, paths, h, w = s.shape
    return jnp.moveaxis(s.reshape(n, c * paths, h, w), 1, -1)


def log_coefficients(
    image: Float[Array, "n h w c"], *, grid: int, **sizes: int
) -> Float[Array, "n d"]:
    """Features without anything learned: log(S + 0.001), pooled."""
    return pool(jnp.log(coefficients(image, **sizes) + 1e-3), grid).reshape(
        len(image), -1
    )


class ScatteringEncoder(nn.Module):
    """Images to features: scattering, a convolution, residual blocks, pooling.

    Attributes:
      scales: scales of the scattering transform.
      angles: its angles.
      max_order: its order, 1 or 2.
      chunk: images (or channels) that it transforms at a time; 0 for all.
      normalize: whether its coefficients are batch-normalized.
      width: channels of the first convolution.
      blocks: channels of each residual block, none of which has a stride.
      grid: features are means over grid x grid cells.
      axis_name: device axis over which batch statistics are shared.
      dtype: compute type of what is learned; the scattering is at least float32.
    """

    scales: int
    angles: int
    max_order: int
    chunk: int
    normalize: bool
    width: int
    blocks: Sequence[int]
    grid: int
    axis_name: str | None = None
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n d"]:
        shared = dict(axis_name=self.axis_name, dtype=self.dtype)
        names = ("scales", "angles", "max_order", "chunk")
        x = coefficients(x, **{name: getattr(self, name) for name in names})
        if self.normalize:
            x = models.BatchNorm(**shared)(x, train=train)
        x = ConvNorm(self.width, 3, **shared)(x, train=train)
        for width in self.blocks:
            x = Block(width, "basic", **shared)(x, train=train)
        return pool(x.astype(jnp.float32), self.grid).reshape(len(x), -1)


class EncoderWithPretext(nn.Module):
    """An encoder, its projection head, and (if asked) the head of a pretext task.

    Attributes:
      encoder: images to features; evaluated.
      head: features to embeddings.
      pretext: features of pieces to scores of transformations, or None.
      num_pieces: pieces that an example of the pretext task has.
    """

    encoder: nn.Module
    head: nn.Module
    pretext: nn.Module | None = None
    num_pieces: int = 1

    def __call__(
        self,
        x: Float[Array, "n h w c"],
        pieces: Float[Array, "m pieces h w c"] | None = None,
        rng: Key[Array, " m"] | None = None,
        *,
        train: bool,
    ) -> tuple[Array, Array | None]:
        """Embeddings of images, and scores of the transformations of others."""
        if pieces is None and self.is_initializing():
            pieces = jnp.repeat(x[:, None], self.num_pieces, axis=1)
        if self.pretext is None:
            return self.head(self.encoder(x, train=train), train=train), None
        m, p, *shape = jnp.shape(pieces)
        both = jnp.concatenate([x, pieces.reshape(m * p, *shape)])
        h = self.encoder(both, train=train)
        z = self.head(h[: len(x)], train=train)
        return z, self.pretext(h[len(x) :].reshape(m, p, -1), rng, train=train)

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        """Features for evaluation."""
        return self.encoder(x, train=False)
