"""Measures: classification, clusters, retrieval, similarity, detection, embeddings.

Predictions (scores, clusters, keypoints) come before targets and labels. Measures of
whole test sets are plain functions of arrays. `token_isotropy` and those of `ranking`,
`knn`, `pose` and `embeddings` are computed by jax; all others on the host, in float64
and int64, by scikit-learn and scipy where these have them (the extra `experiments`
brings both).
"""

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
from contrastive_jax.evaluation.multiple_choice import truthfulqa_mc
from contrastive_jax.evaluation.ood import (
    aupr_in,
    aupr_out,
    auroc,
    energy_scores,
    fpr_at_tpr,
    knn_scores,
    mahalanobis_scores,
    ood_metrics,
    softmax_confidence,
)
from contrastive_jax.evaluation.pose import argmax_keypoints, mpjpe, pck, pck_auc
from contrastive_jax.evaluation.probe import ProbeResult, linear_probe, ridge_probe
from contrastive_jax.evaluation.ranking import (
    average_precision,
    dcg,
    gold_ranks,
    hit_rate,
    judged_lists,
    map_at_r,
    ndcg,
    precision,
    r_precision,
    recall,
    reciprocal_rank,
)
from contrastive_jax.evaluation.sts import (
    pearson,
    spearman,
    sts_correlations,
)
from contrastive_jax.evaluation.text import (
    PairCosines,
    coherence,
    diversity,
    mauve,
    repetition,
    token_isotropy,
)
from contrastive_jax.evaluation.two_sample import nearest_neighbor_accuracy

__all__ = [
    "BestF1",
    "Clusters",
    "PairCosines",
    "ProbeResult",
    "adjusted_rand_index",
    "alignment",
    "argmax_keypoints",
    "aupr_in",
    "aupr_out",
    "auroc",
    "average_cosine",
    "average_precision",
    "best_f1",
    "binary_f1",
    "coherence",
    "collapse_std",
    "continual_metrics",
    "dcg",
    "diversity",
    "effective_rank",
    "energy_scores",
    "fpr_at_tpr",
    "gold_ranks",
    "hit_rate",
    "hungarian_accuracy",
    "isotropy",
    "judged_lists",
    "kmeans",
    "knn_classify",
    "knn_scores",
    "linear_probe",
    "macro_f1",
    "mahalanobis_scores",
    "map_at_r",
    "match_clusters",
    "mauve",
    "mpjpe",
    "ndcg",
    "nearest_neighbor_accuracy",
    "normalized_mutual_information",
    "numerical_rank",
    "ood_metrics",
    "pass_at_k",
    "pck",
    "pck_auc",
    "pearson",
    "plane",
    "precision",
    "r_precision",
    "recall",
    "reciprocal_rank",
    "repetition",
    "ridge_probe",
    "softmax_confidence",
    "spearman",
    "split_cluster_accuracy",
    "sts_correlations",
    "token_isotropy",
    "truthfulqa_mc",
    "uniformity",
    "unigram_entropy",
]
