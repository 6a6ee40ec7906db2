"""Measures of what was learned: probes, neighbours, retrieval, similarity, geometry."""

from contrastive_jax.evaluation.knn import knn_classify, nearest_neighbours
from contrastive_jax.evaluation.probe import ProbeResult, linear_probe, ridge_probe

__all__ = [
    "ProbeResult",
    "knn_classify",
    "linear_probe",
    "nearest_neighbours",
    "ridge_probe",
]
