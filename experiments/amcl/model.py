"""The encoder with several heads, and the temperatures of pairs of their outputs."""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from contrastive_jax import models, similarity
from contrastive_jax.methods import amcl


class Heads(nn.Module):
    """An encoder, C heads of equal shape, and a temperature for each pair and head.

    Attributes:
      encoder: images to features; evaluated.
      projector: features to the space of the targets, or None (features as they are).
      widths: layers of a head.
      heads: C, how many.
      adaptive: whether temperatures are learned; else they are all `temperature`.
      score: how a temperature is made of a pair: "concat", a perceptron for each head,
        or "dot", one for all heads.
      score_width: hidden units of that perceptron.
      lower: least temperature.
      upper: greatest temperature.
      temperature: the one that learned ones begin at.
      dtype: compute type.
    """

    encoder: nn.Module
    projector: nn.Module | None
    widths: tuple[int, ...]
    heads: int
    adaptive: bool
    score: Literal["concat", "dot"]
    score_width: int
    lower: float
    upper: float
    temperature: float
    dtype: DTypeLike = jnp.float32

    def setup(self):
        self.branches = [
            models.Mlp(self.widths, dtype=self.dtype) for _ in range(self.heads)
        ]
        if self.adaptive:
            self.params = self.score_params()

    def score_params(self) -> dict[str, Any]:
        """Weights of the perceptron; the last ones small, so that all begin alike."""
        dim, hidden = self.widths[-1], self.score_width
        share = (self.temperature - self.lower) / (self.upper - self.lower)
        start = float(np.log(share / (1 - share)))
        lecun, normal = nn.initializers.lecun_normal(), nn.initializers.normal(0.1)
        zeros, begin = nn.initializers.zeros, nn.initializers.constant(start)
        dot = self.score == "dot"
        lead = () if dot else (self.heads,)
        shapes = {
            "hidden_kernel": (lecun, (*lead, dim if dot else 2 * dim, hidden)),
            "hidden_bias": (zeros, (*lead, hidden)),
            "kernel": (normal, (hidden, dim) if dot else (*lead, hidden)),
            "bias": (begin, lead),
        }
        return {name: self.param(name, *args) for name, args in shapes.items()}

    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[Float[Array, "n f"], Float[Array, "n heads d"]]:
        """Targets, and the outputs of all heads with length 1."""
        out = self.encoder(x, train=train)
        if self.projector is not None:
            out = self.projector(out, train=train)
        z = jnp.stack([head(out, train=train) for head in self.branches], axis=1)
        z = similarity.l2_normalize(z)
        self.temperatures(z, z)  # makes their weights
        return out, z

    def temperatures(
        self,
        a: Float[Array, "n heads d"],
        b: Float[Array, "m heads d"],
        *,
        train: bool = True,
    ) -> Float[Array, "heads n m"]:
        """Temperatures of all pairs, head by head."""
        if not self.adaptive:
            return jnp.full((self.heads, len(a), len(b)), self.temperature)
        bounds = dict(lower=self.lower, upper=self.upper)
        pair = {
            "concat": (amcl.pair_temperatures_concat, 0),
            "dot": (amcl.pair_temperatures_dot, None),
        }
        function, axis = pair[self.score]
        run = jax.vmap(lambda p, x, y: function(p, x, y, **bounds), (axis, 1, 1))
        return run(self.params, a, b)

    def encode(self, x: Float[Array, "n h w c"]) -> Float[Array, "n d"]:
        """Features for evaluation."""
        return self.encoder(x, train=False)
