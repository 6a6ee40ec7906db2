"""The gate of a pair of classes."""

from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Integer

from contrastive_jax import models


class ClassPairGate(nn.Module):
    """Which dimensions two classes share: numbers in (0, 1), the same for (y, x).

        mean:    g = sigmoid( f( (E[y1] + E[y2]) / 2 ) )
        product: g = sigmoid( f(E[y1]) ) sigmoid( f(E[y2]) )

    where f is ReLU, BatchNorm, Linear, ReLU, BatchNorm, Linear.

    Attributes:
      num_classes: rows of the table E.
      dim: dimensions that are gated.
      embedding: dimensions of E.
      hidden: hidden units of f.
      fuse: "mean" or "product"; the latter normalizes twice in a step.
      axis_name: device axis that batch statistics are shared over.
      epsilon: of the normalizations.
      dtype: compute type.
    """

    num_classes: int
    dim: int
    embedding: int = 512
    hidden: int = 1024
    fuse: Literal["mean", "product"] = "mean"
    axis_name: str | None = None
    epsilon: float = 1e-5
    dtype: DTypeLike = jnp.float32

    def setup(self):
        shape = (self.num_classes, self.embedding)
        self.table = self.param("table", nn.initializers.normal(1.0), shape)
        shared = dict(dtype=self.dtype)
        norm = dict(axis_name=self.axis_name, epsilon=self.epsilon, **shared)
        self.first_norm, self.second_norm = (models.BatchNorm(**norm) for _ in "12")
        self.first = nn.Dense(self.hidden, **shared)
        self.second = nn.Dense(self.dim, **shared)

    def __call__(
        self, y1: Integer[Array, " n"], y2: Integer[Array, " n"], *, train: bool
    ) -> Float[Array, "n dim"]:
        first, second = self.table[y1], self.table[y2]
        if self.fuse == "mean":
            return self.gate((first + second) / 2, train)
        return self.gate(first, train) * self.gate(second, train)

    def gate(self, x: Float[Array, "n embedding"], train: bool) -> Array:
        """sigmoid of f."""
        x = self.first(self.first_norm(nn.relu(x), train=train))
        x = self.second(self.second_norm(nn.relu(x), train=train))
        return nn.sigmoid(x)


class GatedEncoder(nn.Module):
    """An encoder, its head with a layer norm behind it, and the gate of a pair.

    Attributes:
      encoder: images to features; evaluated.
      head: features to embeddings.
      gate: the gate, or None for a gate of ones.
    """

    encoder: nn.Module
    head: nn.Module
    gate: ClassPairGate | None

    def setup(self):
        self.norm = nn.LayerNorm()

    def __call__(
        self,
        x: Float[Array, "n h w c"],
        labels: Integer[Array, " m"] | None = None,
        pair_labels: Integer[Array, " m"] | None = None,
        *,
        train: bool,
    ) -> tuple[Float[Array, "n d"], Float[Array, "m d"]]:
        """Embeddings of images, and the gates of pairs of classes."""
        z = self.norm(self.head(self.encoder(x, train=train), train=train))
        if labels is None or pair_labels is None:
            labels = pair_labels = jnp.zeros(len(x), jnp.int32)
        if self.gate is None:
            return z, jnp.ones((len(labels), z.shape[1]))
        return z, self.gate(labels, pair_labels, train=train)

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        """Features for evaluation."""
        return self.encoder(x, train=False)
