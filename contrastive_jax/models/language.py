"""Models of token sequences with a head: a language model and a sequence energy."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax.models.transformer import Blocks, Transformer


class NoiseEmbedding(nn.Module):
    """A vector from the noise level of a sequence: 256 sines, then a perceptron.

    Attributes:
      features: of the vector.
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
    """Tokens to scores of tokens: of the next one (causal) or of the clean one.

    Attributes:
      vocab_size: tokens, the mask included.
      width: features of a token.
      depth: blocks.
      heads: attention heads.
      causal: whether a position sees itself and earlier ones only.
      adaptive: whether the noise level steers the blocks (adaLN); 0 unless given.
      dropout: rate in the blocks.
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
        """Scores; `where` marks what is no padding."""
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


class SequenceEnergy(nn.Module):
    """One number for a whole sequence beside its partly masked form.

    Both are embedded by the same table and mixed; blocks, a mean over positions and a
    perceptron follow. `blocks` has the shape of those of a bidirectional
    `LanguageModel` that is not adaptive, so that a denoiser's weights can start it.

    Attributes:
      vocab_size: tokens, the mask included.
      width: features of a token.
      depth: blocks.
      heads: attention heads.
      dropout: rate in the blocks.
      dtype: compute type; parameters and energies are float32.

    References:
      Xu et al. 2024, arXiv:2410.21357 (EDLM-NCE) and its released code.
    """

    vocab_size: int
    width: int = 768
    depth: int = 12
    heads: int = 12
    dropout: float = 0.0
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "n t"],
        masked: Int[Array, "n t"],
        *,
        train: bool,
        where: Bool[Array, "n t"] | None = None,
    ) -> Float[Array, " n"]:
        """Energies of whole sequences; `where` marks what is no padding."""
        start = nn.initializers.normal(0.02)
        table = nn.Embed(
            self.vocab_size, self.width, embedding_init=start, name="token"
        )
        x = jnp.concatenate([table(masked), table(tokens)], axis=-1)
        x = nn.Dense(self.width, dtype=self.dtype, name="mix")(x)
        blocks = Blocks(
            self.depth,
            self.heads,
            rotary=True,
            use_bias=False,
            dropout=self.dropout,
            dtype=self.dtype,
            name="blocks",
        )
        x = blocks(x, where=where, train=train).last
        x = nn.Dense(self.width, dtype=self.dtype)(x).astype(jnp.float32)
        real = jnp.ones(tokens.shape) if where is None else where.astype(x.dtype)
        total = jnp.sum(x * real[..., None], axis=1)
        mean = total / jnp.maximum(jnp.sum(real, axis=1, keepdims=True), 1)
        x = nn.relu(nn.Dense(self.width, dtype=self.dtype)(mean))
        return nn.Dense(1, use_bias=False)(x)[:, 0].astype(jnp.float32)
