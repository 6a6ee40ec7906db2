"""Measures of what was learned: probes, neighbours, retrieval, similarity, geometry."""

from contrastive_jax.evaluation.classification import (
    BestF1,
    best_f1,
    binary_f1,
    macro_f1,
)
from contrastive_jax.evaluation.clustering import (
    Clusters,
    adjusted_rand_index,
    hungarian_accuracy,
    kmeans,
    match_clusters,
    normalized_mutual_information,
    split_cluster_accuracy,
)
from contrastive_jax.evaluation.continual import continual_metrics
from contrastive_jax.evaluation.embeddings import (
    alignment,
    average_cosine,
    collapse_std,
    effective_rank,
    isotropy,
    numerical_rank,
    plane,
    uniformity,
)
from contrastive_jax.evaluation.generation import pass_at_k, unigram_entropy
from contrastive_jax.evaluation.knn import knn_classify
from contrastive_jax.evaluation.ood import (
    aupr_in,
    aupr_out,
    auroc,
    fpr_at_tpr,
    mahalanobis_scores,
    ood_metrics,
)
from contrastive_jax.evaluation.pose import argmax_keypoints, mpjpe, pck, pck_auc
from contrastive_jax.evaluation.probe import ProbeResult, linear_probe, ridge_probe
from contrastive_jax.evaluation.ranking import (
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
    "BestF1",
    "Clusters",
    "ProbeResult",
    "adjusted_rand_index",
    "alignment",
    "argmax_keypoints",
    "aupr_in",
    "aupr_out",
    "auroc",
    "average_cosine",
    "average_precision",
    "average_ranks",
    "best_f1",
    "binary_f1",
    "collapse_std",
    "continual_metrics",
    "dcg",
    "effective_rank",
    "fpr_at_tpr",
    "gold_ranks",
    "hit_rate",
    "hungarian_accuracy",
    "isotropy",
    "judged_lists",
    "kmeans",
    "knn_classify",
    "linear_probe",
    "macro_f1",
    "mahalanobis_scores",
    "match_clusters",
    "mpjpe",
    "ndcg",
    "normalized_mutual_information",
    "numerical_rank",
    "ood_metrics",
    "pass_at_k",
    "pck",
    "pck_auc",
    "pearson",
    "plane",
    "precision",
    "recall",
    "reciprocal_rank",
    "ridge_probe",
    "spearman",
    "split_cluster_accuracy",
    "sts_correlations",
    "uniformity",
    "unigram_entropy",
]
