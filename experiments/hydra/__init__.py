"""Hydra: any two classes as a positive pair, in a subspace that a gate selects."""
