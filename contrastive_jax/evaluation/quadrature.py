"""Integrals over a square by the midpoint rule, for densities in the plane."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from contrastive_jax import numerics


def square_grid(cells: int, half_width: float) -> tuple[Float[Array, "k 2"], float]:
    """Centers of cells x cells squares around the origin, and the area of one.

        integral of p over the square ~ area sum_k p(x_k)

    Rows go from low to high in the second coordinate, then in the first, as an image
    with its origin below shows them.

    Args:
      cells: squares a side.
      half_width: half the side of the whole, > 0.

    Raises:
      ValueError: a number not above 0.

    Examples:
      >>> points, area = square_grid(2, 1.0)
      >>> points.tolist(), area
      ([[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]], 1.0)
    """
    numerics.check_positive(cells=cells, half_width=half_width)
    side = 2 * half_width / cells
    centers = (jnp.arange(cells) + 0.5) * side - half_width
    x, y = jnp.meshgrid(centers, centers)
    return jnp.stack([x.ravel(), y.ravel()], axis=1), side**2
