"""Networks that give one number per input: unnormalised log-densities."""

from collections.abc import Sequence

import flax.linen as nn
from jaxtyping import Array, Float


class Energy(nn.Module):
    """Convolutions where inputs are images, dense layers, one number; swish between.

    The last layer starts at 0, so the model starts as the noise it is relative to.

    Attributes:
      channels: of the 3 x 3 convolutions; all but the first halve the resolution.
      widths: of the dense layers.
    """

    channels: Sequence[int]
    widths: Sequence[int]

    @nn.compact
    def __call__(self, x: Float[Array, "n ..."]) -> Float[Array, " n"]:
        if x.ndim == 4:
            for i, channels in enumerate(self.channels):
                x = nn.swish(nn.Conv(channels, (3, 3), strides=2 if i else 1)(x))
        x = x.reshape(len(x), -1)
        for width in self.widths:
            x = nn.swish(nn.Dense(width)(x))
        return nn.Dense(1, kernel_init=nn.initializers.zeros_init())(x)[:, 0]
