"""Measures of what was learned: probes, neighbours, retrieval, similarity, geometry."""

from contrastive_jax.evaluation.clustering import (
    adjusted_rand_index,
    hungarian_accuracy,
    match_clusters,
    normalized_mutual_information,
)
from contrastive_jax.evaluation.geometry import (
    alignment,
    average_cosine,
    collapse_std,
    effective_rank,
    isotropy,
    numerical_rank,
    uniformity,
)
from contrastive_jax.evaluation.knn import knn_classify, nearest_neighbours
from contrastive_jax.evaluation.ood import (
    aupr_in,
    aupr_out,
    auroc,
    fpr_at_tpr,
    ood_metrics,
)
from contrastive_jax.evaluation.probe import ProbeResult, linear_probe, ridge_probe
from contrastive_jax.evaluation.retrieval import (
    average_precision,
    dcg,
    gold_ranks,
    hit_rate,
    judged_lists,
    ndcg,
    precision,
    recall,
    reciprocal_rank,
)
from contrastive_jax.evaluation.sts import (
    average_ranks,
    pearson,
    spearman,
    sts_correlations,
)

__all__ = [
    "ProbeResult",
    "adjusted_rand_index",
    "alignment",
    "aupr_in",
    "aupr_out",
    "auroc",
    "average_cosine",
    "average_precision",
    "average_ranks",
    "collapse_std",
    "dcg",
    "effective_rank",
    "fpr_at_tpr",
    "gold_ranks",
    "hit_rate",
    "hungarian_accuracy",
    "isotropy",
    "judged_lists",
    "knn_classify",
    "linear_probe",
    "match_clusters",
    "ndcg",
    "nearest_neighbours",
    "normalized_mutual_information",
    "numerical_rank",
    "ood_metrics",
    "pearson",
    "precision",
    "recall",
    "reciprocal_rank",
    "ridge_probe",
    "spearman",
    "sts_correlations",
    "uniformity",
]
