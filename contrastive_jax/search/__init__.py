"""Search: nearest neighbors in a set of embeddings."""

from contrastive_jax.search.exact import nearest_neighbors

__all__ = ["nearest_neighbors"]
