"""Composed encoders: an encoder with a head, two towers with a shared space."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int

from contrastive_jax import similarity
from contrastive_jax.models.resnet import Resnet
from contrastive_jax.models.vit import TextTower, Vit


class TwoTowers(nn.Module):
    """An image and a text encoder, each with a linear map into one space.

    Attributes:
      image: images [n, h, w, c] in [0, 1] to features.
      text: tokens [n, t] to features.
      dim: size of the shared embeddings, which have norm 1.
      map_image: whether features of images are mapped; where not, `dim` is their size.
      text_bias: whether the map of texts has a bias.

    References:
      Radford et al. 2021, arXiv:2103.00020, section 2.3; Zhai et al. 2023,
      arXiv:2303.15343 (released weights: map_image False, text_bias True).
    """

    image: nn.Module
    text: nn.Module
    dim: int
    map_image: bool = True
    text_bias: bool = False

    def setup(self):
        if self.map_image:
            self.image_map = nn.Dense(self.dim, use_bias=False)
        self.text_map = nn.Dense(self.dim, use_bias=self.text_bias)

    def __call__(
        self, image: Float[Array, "n h w c"], tokens: Int[Array, "n t"]
    ) -> tuple[Float[Array, "n dim"], Float[Array, "n dim"]]:
        return self.encode_image(image), self.encode_text(tokens)

    def encode_image(self, image: Float[Array, "n h w c"]) -> Float[Array, "n dim"]:
        """Embeddings of images."""
        features = self.image(image, train=True)
        features = self.image_map(features) if self.map_image else features
        return similarity.l2_normalize(features)

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n dim"]:
        """`encode_image`: what evaluation of image encoders calls."""
        return self.encode_image(x)

    def encode_text(self, tokens: Int[Array, "n t"]) -> Float[Array, "n dim"]:
        """Embeddings of captions."""
        return similarity.l2_normalize(self.text_map(self.text(tokens, train=True)))


def make_towers(
    image: Mapping[str, Any],
    text: Mapping[str, Any],
    *,
    dim: int,
    vocabulary: int,
    dtype: DTypeLike,
) -> TwoTowers:
    """`TwoTowers` from the section `model` of a config.

    Args:
      image: tower ("resnet" or "vit") and the fields of that model.
      text: fields of `TextTower`.
      dim: size of the embeddings.
      vocabulary: number of tokens.
      dtype: compute type.

    Raises:
      ValueError: an unknown tower, or a normalization over the batch.
    """
    settings = dict(image)
    name = settings.pop("tower")
    if name == "vit":
        tower = Vit(**settings, dtype=dtype)
    elif name == "resnet":
        if settings["norm"] == "batch":
            raise ValueError(
                "model.image.norm: batch normalization ties an embedding to the other "
                "rows of its batch; set it to group"
            )
        tower = Resnet(**settings, dtype=dtype)
    else:
        raise ValueError(f"model.image.tower: expected resnet or vit, got {name!r}")
    captions = TextTower(vocabulary, **text, dtype=dtype)
    return TwoTowers(tower, captions, dim)


class EncoderWithHead(nn.Module):
    """An image encoder and the heads that its objective sees.

    Attributes:
      encoder: images to features; evaluated.
      head: features to embeddings (or class scores); used in training only.
      predictor: embeddings to predictions of another view's, or None.
    """

    encoder: nn.Module
    head: nn.Module
    predictor: nn.Module | None = None

    def __call__(self, x: Float[Array, "n h w c"], *, train: bool) -> Array:
        z = self.project(x, train=train)
        return z if self.predictor is None else self.predictor(z, train=train)

    def project(self, x: Float[Array, "n h w c"], *, train: bool) -> Array:
        """Embeddings before the predictor."""
        return self.head(self.encoder(x, train=train), train=train)

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        """Features for evaluation."""
        return self.encoder(x, train=False)
