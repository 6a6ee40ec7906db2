"""Transformer encoders with one output vector: of an image, of a caption.

The defaults are a CLIP that is trained here; the published ones (CLIP, SigLIP, ViT)
differ in the options that `models.pretrained.load_vision` sets.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from contrastive_jax.models.layers import ACTIVATIONS, Activation
from contrastive_jax.models.transformer import Blocks, Transformer


class Vit(nn.Module):
    """Vision transformer: images to one vector of features.

    Attributes:
      patch: side of the square patches.
      width: features per token.
      depth: number of blocks.
      heads: attention heads.
      dtype: compute type; parameters and features are float32.
      pool: "class" (the output at a class token) or "attention" (one query that is
        learned attends to all patches, and an MLP; no class token).
      pre_norm: whether there is a normalization before the first block.
      patch_bias: whether the embedding of patches has a bias.
      mlp_ratio: width of the MLPs' hidden layer over that of the block.
      activation: that of the MLPs.
      epsilon: added to the variance by normalizations.

    References:
      Dosovitskiy et al. 2020, arXiv:2010.11929 (pre_norm False, patch_bias True,
      activation "gelu", epsilon 1e-12); Radford et al. 2021, arXiv:2103.00020, section
      2.4 (the defaults; OpenAI's weights: "quick_gelu", 1e-5); Zhai et al. 2023,
      arXiv:2303.15343 (pool "attention", pre_norm False, patch_bias True).
    """

    patch: int = 16
    width: int = 768
    depth: int = 12
    heads: int = 12
    dtype: DTypeLike = jnp.float32
    pool: Literal["class", "attention"] = "class"
    pre_norm: bool = True
    patch_bias: bool = False
    mlp_ratio: int | float = 4
    activation: Activation = "gelu_new"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n d"]:
        if x.shape[1] % self.patch or x.shape[2] % self.patch:
            raise ValueError(
                f"patch: images of {x.shape[1]} x {x.shape[2]} do not split into "
                f"patches of {self.patch}"
            )
        if self.pool not in ("class", "attention"):
            raise ValueError(
                f'pool: expected "class" or "attention", got {self.pool!r}'
            )
        side, count = (self.patch, self.patch), x.shape[0]
        embed = nn.Conv(
            self.width, side, side, use_bias=self.patch_bias, dtype=self.dtype
        )
        x = embed(x).reshape(count, -1, self.width)
        start = nn.initializers.normal(self.width**-0.5)
        if self.pool == "class":
            token = self.param("class_token", start, (1, 1, self.width))
            token = jnp.broadcast_to(token, (count, 1, self.width))
            x = jnp.concatenate([token.astype(x.dtype), x], axis=1)
        place = self.param("place", start, (1, x.shape[1], self.width))
        x = x + place.astype(x.dtype)
        if self.pre_norm:
            x = nn.LayerNorm(self.epsilon, dtype=self.dtype)(x)
        shared: dict[str, Any] = dict(
            mlp_ratio=self.mlp_ratio,
            activation=self.activation,
            epsilon=self.epsilon,
            dtype=self.dtype,
        )
        x = Blocks(self.depth, self.heads, **shared)(x, train=train).last
        if self.pool == "class":
            return x[:, 0]
        return AttentionPool(self.heads, **shared)(x)


class AttentionPool(nn.Module):
    """One learned query that attends to all tokens, and an MLP with a residual.

    Attributes:
      heads: attention heads.
      mlp_ratio: width of the MLP's hidden layer over that of the tokens.
      activation: that of the MLP.
      epsilon: added to the variance by the normalization.
      dtype: compute type.

    References:
      Zhai et al. 2022, arXiv:2106.04560, section 3.2 (a head of multi-head attention).
    """

    heads: int
    mlp_ratio: int | float = 4
    activation: Activation = "gelu_new"
    epsilon: float = 1e-6
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "n t d"]) -> Float[Array, "n d"]:
        n, _, width = x.shape
        start = nn.initializers.xavier_uniform()
        probe = self.param("probe", start, (1, 1, width)).astype(x.dtype)
        rows = jnp.concatenate([jnp.broadcast_to(probe, (n, 1, width)), x], axis=1)
        qkv = nn.Dense(3 * width, dtype=self.dtype, name="qkv")(rows)
        q, k, v = (
            y.reshape(*y.shape[:2], self.heads, -1) for y in jnp.split(qkv, 3, axis=-1)
        )
        y = jax.nn.dot_product_attention(q[:, :1], k[:, 1:], v[:, 1:])
        x = nn.Dense(width, dtype=self.dtype, name="out")(y.reshape(n, width))
        y = nn.LayerNorm(self.epsilon, dtype=self.dtype, name="norm")(x)
        y = nn.Dense(round(self.mlp_ratio * width), dtype=self.dtype, name="up")(y)
        y = ACTIVATIONS[self.activation](y)
        y = nn.Dense(width, dtype=self.dtype, name="down")(y)
        return (x + y).astype(jnp.float32)


class TextTower(nn.Module):
    """Text transformer: tokens to one feature vector; padding is masked.

    Attributes:
      vocabulary: number of tokens.
      width: features per token.
      depth: number of blocks.
      heads: attention heads.
      causal: whether attention is causal.
      pool: "end" (the output at the end token), "last" (at the last of the row) or
        "mean" (over all but padding).
      pad: id of padding; None for rows whose padding is not masked.
      end: id of the end token.
      dtype: compute type; parameters and features are float32.
      max_length: longest row; None for the length of the first.
      mlp_ratio: width of the MLPs' hidden layer over that of the block.
      activation: that of the MLPs.
      epsilon: added to the variance by normalizations.

    References:
      Radford et al. 2021, arXiv:2103.00020, section 2.4 (causal, "end"); Zhai et al.
      2023, arXiv:2303.15343 (not causal, "last", padding not masked).
    """

    vocabulary: int
    width: int = 512
    depth: int = 12
    heads: int = 8
    causal: bool = True
    pool: Literal["end", "last", "mean"] = "end"
    pad: int | None = 0
    end: int = 2
    dtype: DTypeLike = jnp.float32
    max_length: int | None = None
    mlp_ratio: int | float = 4
    activation: Activation = "gelu_new"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "n t"], *, train: bool
    ) -> Float[Array, "n d"]:
        if self.pool not in ("end", "last", "mean"):
            raise ValueError(
                f'pool: expected "end", "last" or "mean", got {self.pool!r}'
            )
        where = None if self.pad is None else tokens != self.pad
        encoder = Transformer(
            self.vocabulary,
            self.width,
            self.depth,
            self.heads,
            max_length=self.max_length or tokens.shape[1],
            mlp_ratio=self.mlp_ratio,
            causal=self.causal,
            dtype=self.dtype,
            activation=self.activation,
            epsilon=self.epsilon,
        )
        x = encoder(tokens, where=where, train=train).last
        if self.pool == "end":
            last = jnp.argmax(tokens == self.end, axis=1)
            return jax.vmap(lambda row, i: row[i])(x, last)
        if self.pool == "last":
            return x[:, -1]
        if where is None:
            return jnp.mean(x, axis=1)
        total = jnp.sum(x * where[..., None], axis=1)
        return total / jnp.maximum(jnp.sum(where, axis=1, keepdims=True), 1)
