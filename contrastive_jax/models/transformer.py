"""Transformers over tokens: pre-norm blocks, causal or not, conditioned or not.

`Blocks` maps [batch, tokens, width] to the same shape; `Transformer` puts a table of
token embeddings (and, if asked, of positions) in front. Neither has a head: a language
model adds one `Dense`, a text tower picks a token of `last`. `where` marks real tokens;
the others are not attended to, so padding never changes the output at real tokens. With
a `condition` every block is shifted, scaled and gated by it (adaLN-zero).
"""

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import numerics
from contrastive_jax.models.layers import ACTIVATIONS, Activation


class TransformerOutput(NamedTuple):
    """Output of a transformer, in float32; undefined at padding.

    Attributes:
      last: tokens after the last normalization.
      hidden: the input of the first block and the output of each, before that.
    """

    last: Float[Array, "b t d"]
    hidden: tuple[Float[Array, "b t d"], ...]


def rotate(
    x: Float[Array, "b t h d"], *, base: float = 10_000.0
) -> Float[Array, "b t h d"]:
    """Rotary position embedding: inner products depend on relative positions only.

        (x_i, x_{i + d/2}) turned by the angle  t base^(-2 i / d)

    Args:
      x: queries or keys of every head; d is even.
      base: base of the frequencies; larger values lengthen the longest period.

    Raises:
      ValueError: an odd d.

    References:
      Su et al. 2021, arXiv:2104.09864, eq. 34, with halves in place of neighbors.

    Examples:
      >>> turned = rotate(jnp.ones((1, 2, 1, 2)))[0, :, 0]
      >>> [f"{a:.2f} {b:.2f}" for a, b in turned.tolist()]
      ['1.00 1.00', '-0.30 1.38']
    """
    length, width = x.shape[1], x.shape[-1]
    if width % 2:
        raise ValueError(f"x: expected an even last axis, got shape {list(x.shape)}")
    speeds = base ** (-jnp.arange(0, width, 2, dtype=jnp.float32) / width)
    angles = jnp.arange(length, dtype=jnp.float32)[:, None] * speeds[None, :]
    cos, sin = (f(angles)[None, :, None, :].astype(x.dtype) for f in (jnp.cos, jnp.sin))
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)


def modulate(
    x: Float[Array, "b t d"], shift: Float[Array, "b d"], scale: Float[Array, "b d"]
) -> Float[Array, "b t d"]:
    """x (1 + scale) + shift, the same at every position (adaLN)."""
    return x * (1 + scale[:, None]) + shift[:, None]


class Attention(nn.Module):
    """Multi-head self-attention with one matrix for queries, keys and values.

    Attributes:
      heads: number of heads; divides the width.
      causal: whether attention is causal.
      rotary: whether queries and keys are rotated by their position.
      use_bias: whether both matrices have a bias.
      dtype: compute type.
    """

    heads: int
    causal: bool = False
    rotary: bool = False
    use_bias: bool = True
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "b t d"], where: Bool[Array, "b t"] | None
    ) -> Float[Array, "b t d"]:
        width = x.shape[-1]
        if width % self.heads:
            raise ValueError(f"heads: {self.heads} does not divide width {width}")
        dense: dict[str, Any] = dict(use_bias=self.use_bias, dtype=self.dtype)
        qkv = nn.Dense(3 * width, **dense)(x)
        q, k, v = (
            y.reshape(*y.shape[:2], self.heads, -1) for y in jnp.split(qkv, 3, axis=-1)
        )
        if self.rotary:
            q, k = rotate(q), rotate(k)
        mask = None if where is None else where[:, None, None, :]
        y = jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=self.causal)
        return nn.Dense(width, **dense)(y.reshape(x.shape))


class TransformerBlock(nn.Module):
    """Pre-norm block: self-attention and a two-layer MLP, each with a residual.

    Attributes:
      heads: number of heads.
      mlp_ratio: width of the MLP's hidden layer over that of the block.
      causal: whether attention is causal.
      rotary: whether queries and keys are rotated by their position.
      use_bias: whether attention and normalizations have biases.
      dropout: dropout rate of each residual branch.
      dtype: compute type.
      activation: that of the MLP.
      epsilon: added to the variance by normalizations.
    """

    heads: int
    mlp_ratio: int | float = 4
    causal: bool = False
    rotary: bool = False
    use_bias: bool = True
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    activation: Activation = "gelu_new"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        where: Bool[Array, "b t"] | None = None,
        condition: Float[Array, "b c"] | None = None,
        train: bool,
    ) -> Float[Array, "b t d"]:
        width, dtype = x.shape[-1], self.dtype
        drop = nn.Dropout(self.dropout, deterministic=not train)

        def norm(y, shift, scale):
            plain = condition is None
            use_bias = self.use_bias and plain
            y = nn.LayerNorm(self.epsilon, use_bias=use_bias, dtype=dtype)(y)
            return y if plain else modulate(y, shift, scale)

        def add(x, y, gate):
            return x + drop(y if gate is None else gate[:, None] * y)

        parts = [None] * 6
        if condition is not None:
            parts = jnp.split(conditioned(condition, 6 * width, dtype), 6, axis=-1)
        attention = Attention(
            self.heads, self.causal, self.rotary, self.use_bias, dtype=dtype
        )
        x = add(x, attention(norm(x, *parts[:2]), where), parts[2])
        y = nn.Dense(round(self.mlp_ratio * width), dtype=dtype)(norm(x, *parts[3:5]))
        y = nn.Dense(width, dtype=dtype)(ACTIVATIONS[self.activation](y))
        return add(x, y, parts[5])


def conditioned(
    condition: Float[Array, "b c"], features: int, dtype: DTypeLike
) -> Float[Array, "b f"]:
    """Dense layer with zero initial kernel; to be called inside a compact module."""
    zeros = nn.initializers.zeros_init()
    return nn.Dense(features, kernel_init=zeros, dtype=dtype)(condition)


class Blocks(nn.Module):
    """Transformer blocks and a last normalization over given embeddings.

    Attributes:
      depth: number of blocks.
      heads: heads of each.
      mlp_ratio: width of the MLPs' hidden layer over that of the block.
      causal: whether attention is causal.
      rotary: whether queries and keys are rotated by their position.
      use_bias: whether attention and normalizations have biases.
      dropout: dropout rate of each residual branch.
      dtype: compute type; parameters and outputs are float32.
      activation: that of the MLPs.
      epsilon: added to the variance by normalizations.

    References:
      Vaswani et al. 2017, arXiv:1706.03762; Peebles and Xie 2022, arXiv:2212.09748,
      section 3.2 (adaLN-zero).
    """

    depth: int = 6
    heads: int = 8
    mlp_ratio: int | float = 4
    causal: bool = False
    rotary: bool = False
    use_bias: bool = True
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    activation: Activation = "gelu_new"
    epsilon: float = 1e-6

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "b t d"],
        *,
        where: Bool[Array, "b t"] | None = None,
        condition: Float[Array, "b c"] | None = None,
        train: bool,
    ) -> TransformerOutput:
        numerics.check_shapes(
            x=(x, "b t d"), where=(where, "b t"), condition=(condition, "b c")
        )
        x = x.astype(self.dtype)
        hidden = [x]
        for _ in range(self.depth):
            block = TransformerBlock(
                self.heads,
                self.mlp_ratio,
                self.causal,
                self.rotary,
                self.use_bias,
                self.dropout,
                self.dtype,
                self.activation,
                self.epsilon,
            )
            hidden.append(
                block(hidden[-1], where=where, condition=condition, train=train)
            )
        plain = condition is None
        use_bias = self.use_bias and plain
        norm = nn.LayerNorm(self.epsilon, use_bias=use_bias, dtype=self.dtype)
        last = norm(hidden[-1])
        if not plain:
            parts = conditioned(condition, 2 * x.shape[-1], self.dtype)
            last = modulate(last, *jnp.split(parts, 2, axis=-1))
        return TransformerOutput(
            last.astype(jnp.float32), tuple(h.astype(jnp.float32) for h in hidden)
        )


class Transformer(nn.Module):
    """Tokens to contextual embeddings.

    Attributes:
      vocab_size: number of tokens.
      width: size of the embeddings.
      depth: number of blocks.
      heads: heads of each; divides the width.
      positions: "rotary", or "learned" for a table of `max_length` embeddings.
      max_length: longest sequence with learned positions.
      mlp_ratio: width of the MLPs' hidden layer over that of the block.
      causal: whether attention is causal.
      use_bias: whether attention and normalizations have biases.
      dropout: dropout rate of each residual branch.
      dtype: compute type; parameters and outputs are float32.
      activation: that of the MLPs.
      epsilon: added to the variance by normalizations.
    """

    vocab_size: int
    width: int = 512
    depth: int = 6
    heads: int = 8
    positions: Literal["rotary", "learned"] = "learned"
    max_length: int = 512
    mlp_ratio: int | float = 4
    causal: bool = False
    use_bias: bool = True
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32
    activation: Activation = "gelu_new"
    epsilon: float = 1e-6

    def setup(self):
        if self.positions not in ("rotary", "learned"):
            raise ValueError(
                f'positions: expected "rotary" or "learned", got {self.positions!r}'
            )
        init = nn.initializers.normal(0.02)
        self.token = nn.Embed(self.vocab_size, self.width, embedding_init=init)
        if self.positions == "learned":
            self.position = self.param("position", init, (self.max_length, self.width))
        self.blocks = Blocks(
            self.depth,
            self.heads,
            self.mlp_ratio,
            self.causal,
            self.positions == "rotary",
            self.use_bias,
            self.dropout,
            self.dtype,
            self.activation,
            self.epsilon,
        )

    def __call__(
        self,
        tokens: Int[Array, "b t"],
        *,
        where: Bool[Array, "b t"] | None = None,
        condition: Float[Array, "b c"] | None = None,
        train: bool,
    ) -> TransformerOutput:
        x = self.embed(tokens)
        return self.blocks(x, where=where, condition=condition, train=train)

    def embed(self, tokens: Int[Array, "b t"]) -> Float[Array, "b t d"]:
        """Input of the first block."""
        numerics.check_shapes(tokens=(tokens, "b t"))
        x = self.token(numerics.check_integer(tokens, "tokens"))
        if self.positions == "rotary":
            return x
        length = tokens.shape[1]
        if length > self.max_length:
            raise ValueError(
                f"tokens: expected at most max_length = {self.max_length} positions, "
                f"got shape {list(tokens.shape)}"
            )
        return x + self.position[None, :length]
