"""The networks of EDLM: a sequence energy, and all four of a run together."""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import ebm, losses
from contrastive_jax.methods import edlm
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


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["params"],
    meta_fields=["mdlm", "ar", "nce", "judge", "mask_id"],
)
@dataclasses.dataclass(frozen=True)
class Networks:
    """The four networks of a run; a pytree of their parameters.

    Attributes:
      params: parameters by name of the network.
      mdlm: denoiser; (masked tokens) to logits.
      ar: language model; (tokens) to logits of the next ones.
      nce: sequence energy; (tokens, masked tokens) to energies.
      judge: a language model.
      mask_id: the mask.
    """

    params: Any
    mdlm: nn.Module
    ar: nn.Module
    nce: nn.Module
    judge: nn.Module
    mask_id: int

    def apply(self, name: str, *inputs: Array) -> Array:
        """A network on its inputs."""
        return getattr(self, name).apply(
            {"params": self.params[name]}, *inputs, train=False
        )

    def denoise(self, tokens: Int[Array, "n t"]) -> Float[Array, "n t v"]:
        """Log-probabilities of clean tokens."""
        logits = self.apply("mdlm", tokens)
        return ebm.subs_log_probs(logits, tokens, mask_id=self.mask_id)

    def nll(self, name: str, tokens: Int[Array, "n t"]) -> Float[Array, " n"]:
        """Mean negative log-likelihood (nats) per token after the first."""
        logits, labels = self.apply(name, tokens)[:, :-1], tokens[:, 1:]
        return -jnp.mean(losses.token_log_probs(logits, labels), axis=-1)

    def energy(
        self,
        name: str,
        candidates: Int[Array, "n k t"],
        masked: Int[Array, "n t"],
        log_probs: Float[Array, "n t v"],
        *,
        carry_over: bool = False,
    ) -> Float[Array, "n k"]:
        """Energies of proposals, by "ar" or "nce"."""
        n, k, length = candidates.shape
        flat = candidates.reshape(n * k, length)
        if name == "nce":
            return self.apply("nce", flat, jnp.repeat(masked, k, axis=0)).reshape(n, k)
        logits = self.apply("ar", flat)[:, :-1].reshape(n, k, length - 1, -1)

        def one(logits, tokens):
            return edlm.autoregressive_energy(
                logits,
                log_probs,
                tokens,
                masked,
                mask_id=self.mask_id,
                carry_over=carry_over,
            )

        return jax.vmap(one, in_axes=1, out_axes=1)(logits, candidates)


@functools.partial(
    jax.jit,
    static_argnames=("energy", "steps", "proposals", "window", "temperature", "sign"),
)
def draw(
    nets: Networks,
    start: Int[Array, "n t"],
    keys: Array,
    *,
    energy: str,
    steps: int,
    proposals: int,
    window: float,
    temperature: float,
    sign: str,
) -> tuple[Int[Array, "n t"], edlm.SampleInfo]:
    """`edlm.diffusion_sample` from these networks; no energy when its name is ""."""
    return edlm.diffusion_sample(
        keys,
        start,
        nets.denoise,
        functools.partial(nets.energy, energy) if energy else None,
        num_steps=steps,
        mask_id=nets.mask_id,
        num_proposals=proposals,
        window=window,
        temperature=temperature,
        sign=sign,
    )
