"""Energy-based models: estimation by noise contrast, sampling, composition."""

from contrastive_jax.ebm.nce import (
    binary_nce,
    energy_hinge,
    info_nce_bound,
    input_label_matching,
    negative_sampling,
    ranking_nce,
)

__all__ = [
    "binary_nce",
    "energy_hinge",
    "info_nce_bound",
    "input_label_matching",
    "negative_sampling",
    "ranking_nce",
]
