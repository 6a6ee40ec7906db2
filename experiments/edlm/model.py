"""The sequence energy of EDLM-NCE."""

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax.models.transformer import Blocks


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
