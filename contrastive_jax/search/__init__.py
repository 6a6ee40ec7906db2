"""Search: the nearest rows of a set."""

from contrastive_jax.search.exact import nearest_neighbors

__all__ = ["nearest_neighbors"]
