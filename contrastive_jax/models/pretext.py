"""Heads of pretext tasks: which transformation was an image given?"""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Key

from contrastive_jax import randomness


def dropout(
    rng: Key[Array, " n"], x: Float[Array, "n ..."], rate: float
) -> Float[Array, "n ..."]:
    """Zeroes entries with a chance and scales the rest; one key for each row.

    So what is dropped does not depend on the devices that a batch is split over.
    """
    keep = randomness.bernoulli(rng, jnp.full(x.shape, 1 - rate))
    return jnp.where(keep, x / (1 - rate), 0)


class PretextHead(nn.Module):
    """Features of an example's pieces to the scores of the transformations.

    One layer for each piece alone, the same for all; then layers for all of them
    together. ReLU and dropout follow all but the last. Of a turned image there is one
    piece, of a shuffled one there are nine.

    Attributes:
      widths: of the layer for a piece, of those behind it, and the number of classes.
      rate: chance that dropout zeroes an entry, in [0, 1).
      dtype: compute type.

    References:
      Kinakh et al. 2021, arXiv:2108.13939, the released code: (512, 128, 4) for
      rotation, (512, 4096, 35) for the jigsaw.
    """

    widths: Sequence[int]
    rate: float = 0.5
    dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "n pieces d"],
        rng: Key[Array, " n"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "n classes"]:
        """Scores; `rng` has one key for each example, needed in training."""
        for i, width in enumerate(self.widths):
            x = nn.Dense(width, dtype=self.dtype)(x)
            if i == len(self.widths) - 1:
                continue
            x = nn.relu(x)
            if train and self.rate:
                if rng is None:
                    raise ValueError("rng: expected a key for each example, got None")
                x = dropout(randomness.fold_keys(rng, i), x, self.rate)
            if i == 0:
                x = x.reshape(len(x), -1)
        return x
