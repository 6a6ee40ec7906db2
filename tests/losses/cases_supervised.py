"""Contract cases of losses/supervised.py."""

import jax.numpy as jnp

from contrastive_jax import losses, pairs, similarity

from .cases import Case
from .cases_in_batch import pair_mask, without_positives


def gathered_classes(a, b, gather, rows):
    """Anchors and candidates are both views; four examples share a class."""
    classes = jnp.concatenate([rows, rows]) // 4
    own = jnp.concatenate([rows, rows + gather(a).shape[0]])
    candidates = jnp.concatenate([gather(a), gather(b)])
    all_classes = jnp.tile(gather(rows) // 4, 2)
    others = own[:, None] != jnp.arange(candidates.shape[0])[None, :]
    return {
        "logits": similarity.dot(jnp.concatenate([a, b]), candidates),
        "positives": pairs.same_label(classes, all_classes) & others,
        "where": others,
    }


def classified(rng, n):
    """Class scores besides scores and positives; more classes than examples."""
    return {
        "class_logits": rng.normal(size=(n, 9)),
        "labels": rng.integers(0, 9, n),
        **pair_mask(rng, n),
    }


def gathered_classified(a, b, gather, rows):
    both = jnp.concatenate([a, b])
    labels = jnp.concatenate([rows, rows]) % 3
    return {
        "class_logits": both,
        "labels": labels,
        **gathered_classes(a, b, gather, rows),
    }


PAIRS = {"logits": "n m", "positives": "n m"}

HELPERS = ("logit_adjustment",)

CASES = {
    "supervised_contrastive": Case(
        losses.supervised_contrastive,
        PAIRS,
        pair_mask,
        ("logits",),
        without_positives=without_positives,
        gathered=gathered_classes,
        offset=("logits",),
    ),
    "supervised_contrastive/in": Case(
        losses.supervised_contrastive,
        PAIRS,
        pair_mask,
        ("logits",),
        options={"form": "in"},
        without_positives=without_positives,
        offset=("logits",),
    ),
    "supervised_contrastive/released": Case(
        losses.supervised_contrastive,
        PAIRS,
        pair_mask,
        ("logits",),
        options={"denominator": "own", "scale": 0.5, "count_all": True},
        without_positives=without_positives,
        offset=("logits",),
    ),
    "multi_positive_info_nce": Case(
        losses.multi_positive_info_nce,
        PAIRS,
        pair_mask,
        ("logits",),
        without_positives=without_positives,
        gathered=gathered_classes,
        offset=("logits",),
    ),
    "multi_positive_info_nce/pairs": Case(
        losses.multi_positive_info_nce,
        PAIRS,
        pair_mask,
        ("logits",),
        options={"over": "pairs"},
        without_positives=without_positives,
        gathered=gathered_classes,
        offset=("logits",),
    ),
    "cross_entropy_supervised_contrastive": Case(
        losses.cross_entropy_supervised_contrastive,
        {"class_logits": "n c", "labels": "n", **PAIRS},
        classified,
        ("class_logits", "logits"),
        gathered=gathered_classified,
        columns=("labels",),
        offset=("class_logits", "logits"),
    ),
}
