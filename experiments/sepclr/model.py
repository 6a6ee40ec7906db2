"""Two encoders: of what both sets share, and of what the target set has alone.

`TwoEncoders` is the network of SepCLR. `Autoencoder` is the same one with a decoder,
trained by `negative_elbo`: the contrastive VAE (Abid & Zou 2019, arXiv:1902.04601).
"""

import math

import flax.linen as nn
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from contrastive_jax import models
from contrastive_jax.tasks import images


class Compressed(nn.Module):
    """A network whose features are mapped to `dim` numbers, the representation."""

    network: nn.Module
    dim: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Array:
        # A bias would vanish in the normalization of the head: its gradient is noise.
        return nn.Dense(self.dim, use_bias=False)(self.network(x, train=train))


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


class Autoencoder(nn.Module):
    """Both encoders and a decoder of what they say together.

    Representations are means of Gaussians, heads give the logarithms of the variances.
    """

    both: TwoEncoders
    decoder: nn.Module

    def __call__(
        self,
        x: Float[Array, "n h w c"],
        noise: Float[Array, "n both"] | None = None,
        is_target: Bool[Array, " n"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "n h w c"], Float[Array, "n both"], Float[Array, "n both"]]:
        """Logits of pixels, means, log variances; a background's salient side is 0."""
        networks = self.both.common, self.both.salient
        sides = [net.encoder(x, train=train) for net in networks]
        logs = [
            net.head(side, train=train)
            for net, side in zip(networks, sides, strict=True)
        ]
        mean, log_variance = (jnp.concatenate(x, axis=1) for x in (sides, logs))
        z = mean if noise is None else mean + jnp.exp(log_variance / 2) * noise
        if is_target is not None:
            z = z * counted(is_target, z.shape[1])
        logits = self.decoder(z, train=train).reshape(x.shape)
        return logits, mean, log_variance

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n both"]:
        """Both means side by side, the common one first."""
        return self.both.encode(x)


def counted(is_target: Bool[Array, " n"], width: int) -> Bool[Array, "n both"]:
    """Which numbers count: all of a target, the common half of a background."""
    return is_target[:, None] | (jnp.arange(width) < width // 2)[None, :]


def negative_elbo(
    logits: Float[Array, "n h w c"],
    image: Float[Array, "n h w c"],
    mean: Float[Array, "n both"],
    log_variance: Float[Array, "n both"],
    is_target: Bool[Array, " n"],
) -> Float[Array, ""]:
    """Cross entropy of the pixels and divergence of the codes that count (nats)."""
    pixels = jnp.sum(optax.sigmoid_binary_cross_entropy(logits, image), axis=(1, 2, 3))
    terms = (mean**2 + jnp.exp(log_variance) - 1 - log_variance) / 2
    codes = jnp.sum(terms * counted(is_target, mean.shape[1]), axis=1)
    return jnp.mean(pixels + codes)


def make_autoencoder(section, shape, axis_name: str | None = None) -> Autoencoder:
    """The network of `make` with a perceptron to images of a shape (h, w, c)."""
    widths = (*section.projection, math.prod(shape))
    decoder = models.Mlp(widths, batch_norm=True, axis_name=axis_name)
    return Autoencoder(make(section, axis_name), decoder)


def make(section, axis_name: str | None = None) -> TwoEncoders:
    """Both from the section `model` of a config; they share no weights."""

    def one():
        dim, widths = section.dim, (*section.projection, section.dim)
        made = images.make_model(section, axis_name, projection=widths)
        return models.EncoderWithHead(Compressed(made.encoder, dim), made.head)

    return TwoEncoders(one(), one())
