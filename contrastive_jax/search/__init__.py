"""Search: nearest neighbors in a set of embeddings, hard negatives of a corpus."""

from contrastive_jax.search.exact import nearest_neighbors
from contrastive_jax.search.mining import hard_negatives

__all__ = ["hard_negatives", "nearest_neighbors"]
