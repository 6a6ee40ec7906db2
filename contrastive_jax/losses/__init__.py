"""Objectives as pure functions: arrays in, nats out, one contract for all.

- Arrays come first, at most three by position; masks, weights and numbers follow by
  keyword. Shapes are in the annotations, ranges of numbers in the docstrings.
- Scores are [n, m], n anchors against m candidates, with the temperature applied.
  `labels` is the column of each anchor's positive, `positives` a mask of many.
- `where` marks what counts: a masked candidate is as if absent, a masked anchor leaves
  the mean. Where nothing counts the value is 0 and so is the gradient.
- `weights` are one non-negative number per anchor: the mean becomes the weighted mean,
  a sum has weighted terms.
- `reduce_fn` is `jnp.mean` or `jnp.sum` over what counts. None gives one value per
  anchor, 0 where it does not count; a loss of several terms per anchor gives their sum.
- float16 and bfloat16 are computed in float32, float64 stays. Values and gradients are
  finite for zero rows, equal rows and huge scores; a NaN is never hidden.
- A wrong argument raises before anything compiles, in one line that names it: TypeError
  for an array of the wrong dtype; ValueError for shapes that do not fit together, no
  rows, labels that are no columns (where values are known), a number outside of its
  range, an option that is not among those of the annotation. A function's Raises lists
  what it checks besides.
- No loss communicates, compiles, or looks at a configuration: over several devices hand
  in candidates that `parallel.all_gather` gathered.
"""

from contrastive_jax.losses import catalogue
from contrastive_jax.losses.adversarial import (
    least_squares_discriminator,
    least_squares_generator,
)
from contrastive_jax.losses.distillation import (
    clip_distillation,
    distillation_kl,
    logit_mse,
    margin_mse,
    relational_angle,
    relational_distance,
)
from contrastive_jax.losses.fused import (
    linear_cross_entropy,
    linear_kl,
    linear_log_probs,
)
from contrastive_jax.losses.graded import (
    angle_loss,
    cosent,
    cosine_similarity_mse,
    rank_n_contrast,
    weighted_supervised_contrastive,
)
from contrastive_jax.losses.heatmaps import heatmap_entropy, heatmap_kl, heatmap_mse
from contrastive_jax.losses.in_batch import (
    all_direction_info_nce,
    clip_temperature,
    debiased_info_nce,
    decoupled_info_nce,
    decoupled_weights,
    hard_negative_info_nce,
    hardness_log_weights,
    info_nce,
    matryoshka,
    nearest_positives,
    nt_xent,
    pairwise_sigmoid,
    soft_target_cross_entropy,
    two_way_info_nce,
)
from contrastive_jax.losses.listwise import (
    approx_ndcg,
    extend_lists,
    gaussian_wasserstein,
    lambda_loss,
    list_mle,
    list_softmax,
    listnet,
    listwise_kl,
    neural_ndcg,
    wasserstein,
)
from contrastive_jax.losses.metric import (
    angular_loss,
    circle_loss,
    contrastive_margin,
    fast_ap,
    generalized_lifted_structure,
    intra_pair_variance,
    lifted_structure,
    mega_batch_margin,
    multi_similarity,
    n_pairs,
    nca,
    online_contrastive,
    pair_margin,
    triplet,
    triplet_batch_all,
    triplet_batch_hard,
    triplet_semi_hard,
    tuplet_margin,
)
from contrastive_jax.losses.noncontrastive import (
    alignment,
    barlow_twins,
    byol,
    koleo,
    simsiam,
    uniformity,
    vicreg,
    w_mse,
)
from contrastive_jax.losses.preference import (
    DenseRewards,
    dense_rewards,
    dpo,
    implicit_rewards,
    token_dpo,
)
from contrastive_jax.losses.prototypes import dino, sinkhorn, swav
from contrastive_jax.losses.proxies import (
    arcface,
    class_margins,
    cosface,
    normalized_softmax,
    proxy_anchor,
    proxy_nca,
    subcenter_arcface,
)
from contrastive_jax.losses.routing import (
    load_balancing,
    router_mutual_information,
)
from contrastive_jax.losses.supervised import (
    cross_entropy_supervised_contrastive,
    logit_adjustment,
    multi_positive_info_nce,
    supervised_contrastive,
)
from contrastive_jax.losses.tokens import (
    replaced_token_detection,
    token_cross_entropy,
    token_log_probs,
)

__all__ = [
    "DenseRewards",
    "alignment",
    "all_direction_info_nce",
    "angle_loss",
    "angular_loss",
    "approx_ndcg",
    "arcface",
    "barlow_twins",
    "byol",
    "catalogue",
    "circle_loss",
    "class_margins",
    "clip_distillation",
    "clip_temperature",
    "contrastive_margin",
    "cosent",
    "cosface",
    "cosine_similarity_mse",
    "cross_entropy_supervised_contrastive",
    "debiased_info_nce",
    "decoupled_info_nce",
    "decoupled_weights",
    "dense_rewards",
    "dino",
    "distillation_kl",
    "dpo",
    "extend_lists",
    "fast_ap",
    "gaussian_wasserstein",
    "generalized_lifted_structure",
    "hard_negative_info_nce",
    "hardness_log_weights",
    "heatmap_entropy",
    "heatmap_kl",
    "heatmap_mse",
    "implicit_rewards",
    "info_nce",
    "intra_pair_variance",
    "koleo",
    "lambda_loss",
    "least_squares_discriminator",
    "least_squares_generator",
    "lifted_structure",
    "linear_cross_entropy",
    "linear_kl",
    "linear_log_probs",
    "list_mle",
    "list_softmax",
    "listnet",
    "listwise_kl",
    "load_balancing",
    "logit_adjustment",
    "logit_mse",
    "margin_mse",
    "matryoshka",
    "mega_batch_margin",
    "multi_positive_info_nce",
    "multi_similarity",
    "n_pairs",
    "nca",
    "nearest_positives",
    "neural_ndcg",
    "normalized_softmax",
    "nt_xent",
    "online_contrastive",
    "pair_margin",
    "pairwise_sigmoid",
    "proxy_anchor",
    "proxy_nca",
    "rank_n_contrast",
    "relational_angle",
    "relational_distance",
    "replaced_token_detection",
    "router_mutual_information",
    "simsiam",
    "sinkhorn",
    "soft_target_cross_entropy",
    "subcenter_arcface",
    "supervised_contrastive",
    "swav",
    "token_cross_entropy",
    "token_dpo",
    "token_log_probs",
    "triplet",
    "triplet_batch_all",
    "triplet_batch_hard",
    "triplet_semi_hard",
    "tuplet_margin",
    "two_way_info_nce",
    "uniformity",
    "vicreg",
    "w_mse",
    "wasserstein",
    "weighted_supervised_contrastive",
]
