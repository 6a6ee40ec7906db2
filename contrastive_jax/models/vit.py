"""Transformer encoders with one output vector: of an image, of a caption."""

from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from contrastive_jax.models.transformer import Blocks, Transformer


class Vit(nn.Module):
    """Vision transformer: images to the output at the class token.

    Attributes:
      patch: side of the square patches.
      width: features per token.
      depth: number of blocks.
      heads: attention heads.
      dtype: compute type; parameters and features are float32.

    References:
      Dosovitskiy et al. 2020, arXiv:2010.11929; with the normalization before the first
      block of Radford et al. 2021, arXiv:2103.00020, section 2.4.
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n d"]:
        if x.shape[1] % self.patch or x.shape[2] % self.patch:
            raise ValueError(
                f"patch: images of {x.shape[1]} x {x.shape[2]} do not split into "
                f"patches of {self.patch}"
            )
        side = (self.patch, self.patch)
        x = nn.Conv(self.width, side, side, use_bias=False, dtype=self.dtype)(x)
        x = x.reshape(len(x), -1, self.width)
        start = nn.initializers.normal(self.width**-0.5)
        token = self.param("class_token", start, (1, 1, self.width))
        place = self.param("place", start, (1, x.shape[1] + 1, self.width))
        token = jnp.broadcast_to(token, (len(x), 1, self.width))
        x = jnp.concatenate([token.astype(x.dtype), x], axis=1)
        x = nn.LayerNorm(dtype=self.dtype)(x + place.astype(x.dtype))
        blocks = Blocks(self.depth, self.heads, dtype=self.dtype)
        return blocks(x, train=train).last[:, 0]


class TextTower(nn.Module):
    """Text transformer: tokens to one feature vector; padding is masked.

    Attributes:
      vocabulary: number of tokens.
      width: features per token.
      depth: number of blocks.
      heads: attention heads.
      causal: whether attention is causal.
      pool: "end" (the output at the end token) or "mean" (over all but padding).
      pad: id of padding.
      end: id of the end token.
      dtype: compute type; parameters and features are float32.

    References:
      Radford et al. 2021, arXiv:2103.00020, section 2.4 (causal, "end").
    """

    vocabulary: int
    width: int = 512
    depth: int = 12
    heads: int = 8
    causal: bool = True
    pool: Literal["end", "mean"] = "end"
    pad: int = 0
    end: int = 2
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "n t"], *, train: bool
    ) -> Float[Array, "n d"]:
        where = tokens != self.pad
        encoder = Transformer(
            self.vocabulary,
            self.width,
            self.depth,
            self.heads,
            max_length=tokens.shape[1],
            causal=self.causal,
            dtype=self.dtype,
        )
        x = encoder(tokens, where=where, train=train).last
        if self.pool == "end":
            last = jnp.argmax(tokens == self.end, axis=1)
            return jax.vmap(lambda row, i: row[i])(x, last)
        if self.pool == "mean":
            total = jnp.sum(x * where[..., None], axis=1)
            return total / jnp.maximum(jnp.sum(where, axis=1, keepdims=True), 1)
        raise ValueError(f'pool: expected "end" or "mean", got {self.pool!r}')
