"""SupReMix: mixtures of embeddings as hard pairs for regression."""
