"""Language models: a transformer with a linear head over the vocabulary."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax.models.transformer import Transformer


class NoiseEmbedding(nn.Module):
    """Embedding of the noise level: 128 sines and cosines each, then a two-layer MLP.

    Attributes:
      features: size of the embedding.
      dtype: compute type.
    """

    features: int = 128
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, sigma: Float[Array, " n"]) -> Float[Array, "n c"]:
        speeds = 10_000.0 ** (-jnp.arange(128) / 128)
        angles = sigma[:, None] * speeds[None, :]
        x = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)
        x = nn.silu(nn.Dense(self.features, dtype=self.dtype)(x))
        return nn.silu(nn.Dense(self.features, dtype=self.dtype)(x))


class LanguageModel(nn.Module):
    """Tokens to logits: of the next token (causal) or of the denoised one.

    Attributes:
      vocab_size: number of tokens, the mask included.
      width: features per token.
      depth: number of blocks.
      heads: attention heads.
      causal: whether attention is causal.
      adaptive: whether blocks are conditioned on the noise level `sigma` (adaLN), 0
        unless given.
      dropout: dropout rate of the blocks.
      dtype: compute type; parameters and logits are float32.

    References:
      Peebles and Xie 2022, arXiv:2212.09748 (adaptive blocks); Sahoo et al. 2024,
      arXiv:2406.07524 (their use for text).
    """

    vocab_size: int
    width: int = 768
    depth: int = 12
    heads: int = 12
    causal: bool = True
    adaptive: bool = False
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "n t"],
        *,
        train: bool,
        sigma: Float[Array, " n"] | None = None,
        where: Bool[Array, "n t"] | None = None,
    ) -> Float[Array, "n t v"]:
        """Logits; `where` is False at padding."""
        condition = None
        if self.adaptive:
            sigma = jnp.zeros(len(tokens)) if sigma is None else sigma
            condition = NoiseEmbedding(dtype=self.dtype)(sigma)
        trunk = Transformer(
            self.vocab_size,
            self.width,
            self.depth,
            self.heads,
            positions="rotary",
            causal=self.causal,
            use_bias=False,
            dropout=self.dropout,
            dtype=self.dtype,
            name="trunk",
        )
        out = trunk(tokens, where=where, condition=condition, train=train)
        start = nn.initializers.normal(0.02)
        head = nn.Dense(self.vocab_size, kernel_init=start, dtype=self.dtype)
        return head(out.last).astype(jnp.float32)
