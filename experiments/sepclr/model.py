"""Two encoders: of what both sets share, and of what the target set has alone."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import models
from contrastive_jax.tasks import images


class Compressed(nn.Module):
    """A network whose features are mapped to `dim` numbers, the representation."""

    network: nn.Module
    dim: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Array:
        return nn.Dense(self.dim)(self.network(x, train=train))


class TwoEncoders(nn.Module):
    """A common and a salient encoder, each with a projection that its losses see."""

    common: nn.Module
    salient: nn.Module

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[Float[Array, "n d"], Float[Array, "n d"]]:
        return self.common(x, train=train), self.salient(x, train=train)

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n both"]:
        """Both representations side by side, the common one first."""
        return jnp.concatenate([self.common.encode(x), self.salient.encode(x)], axis=1)


def make(section, axis_name: str | None = None) -> TwoEncoders:
    """Both from the section `model` of a config; they share no weights."""

    def one():
        dim, widths = section.dim, (*section.projection, section.dim)
        made = images.make_model(section, axis_name, projection=widths)
        return models.EncoderWithHead(Compressed(made.encoder, dim), made.head)

    return TwoEncoders(one(), one())
