"""Two branches: an encoder with a projection head, an encoder with a classifier."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from contrastive_jax import models, similarity


class CosineClassifier(nn.Module):
    """Cosines of standardized features and class vectors.

    Pooled features behind a ReLU point in nearly one direction; not standardized, all
    rows have nearly the same cosines at first.

    Attributes:
      num_classes: number of classes.
      axis_name: device axis that batch statistics are shared over, or None.
      dtype: compute type; the cosines are of float32.
    """

    num_classes: int
    axis_name: str | None = None
    dtype: DTypeLike = "float32"

    @nn.compact
    def __call__(
        self, features: Float[Array, "n d"], *, train: bool
    ) -> Float[Array, "n k"]:
        norm = models.BatchNorm(self.axis_name, use_scale=False, use_bias=False)
        features = norm(features, train=train)
        shape = (self.num_classes, features.shape[1])
        vectors = self.param("vectors", jax.nn.initializers.normal(1.0), shape)
        return similarity.cosine(features, jnp.asarray(vectors))


class Branches(nn.Module):
    """The two branches; they share nothing, or one encoder.

    Attributes:
      encoder: images to features, of the contrastive branch; evaluated.
      head: features to embeddings.
      pseudo_encoder: that of the classifier; None: the same encoder.
      classifier: features to class scores.
    """

    encoder: nn.Module
    head: nn.Module
    pseudo_encoder: nn.Module | None
    classifier: nn.Module

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[Float[Array, "n k"], Float[Array, "n d"]]:
        features = self.encoder(x, train=train)
        z = similarity.l2_normalize(self.head(features, train=train))
        if self.pseudo_encoder is not None:
            features = self.pseudo_encoder(x, train=train)
        return self.classifier(features, train=train), z

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        """Features of the contrastive branch, for evaluation."""
        return self.encoder(x, train=False)

    def classify(self, x: Float[Array, "n h w c"]) -> Float[Array, "n k"]:
        """Class scores, for evaluation."""
        encoder = self.encoder if self.pseudo_encoder is None else self.pseudo_encoder
        return self.classifier(encoder(x, train=False), train=False)
