"""Adapters of BaCon: losses of both branches, sampling, estimate of class sizes."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import evaluation, losses, pairs, similarity
from contrastive_jax.methods import bacon

GIVEN = "sampled_per_class"


def views_in_front(features):
    """[n, v, d] as rows, all of the first view first."""
    return jnp.concatenate(list(features.swapaxes(0, 1)))


def others(n):
    return ~jnp.eye(n, dtype=bool)


def info_nce_two_view(inputs, args):
    z = similarity.l2_normalize(inputs["features"])
    return {"loss": losses.nt_xent(similarity.dot(z, z) / args["temperature"])}


def supervised_contrastive(inputs, args):
    features = inputs["features"]
    x, views = views_in_front(features), features.shape[1]
    same = pairs.same_label(jnp.tile(inputs["labels"], views))
    loss = losses.supervised_contrastive(
        similarity.dot(x, x) / args["temperature"],
        same,
        where=others(len(x)),
        scale=args["temperature"] / args["base_temperature"],
        count_all=True,
    )
    return {"loss": loss}


def soft_contrastive(inputs, args):
    features, mask = inputs["features"], inputs["soft_mask"]
    x = views_in_front(features)
    if len(mask) < len(x):
        mask = jnp.tile(mask, (features.shape[1],) * 2)
    logits = similarity.dot(x, x) / args["temperature"]
    loss = bacon.soft_contrastive(logits, mask, where=others(len(x)))
    return {"loss": args["temperature"] / args["base_temperature"] * loss}


def cross_view_self_distillation(inputs, args):
    both = jnp.stack(jnp.split(inputs["student_logits"], 2))
    temperature = bacon.teacher_temperature(
        args["epoch"],
        warmup_epochs=args["warmup_epochs"],
        start=args["warmup_teacher_temp"],
        final=args["teacher_temp"],
    )
    loss = losses.dino(
        both,
        both,
        student_temperature=args["student_temp"],
        teacher_temperature=temperature,
    )
    return {"loss": loss}


def distribution_regulariser(inputs, args):
    loss = bacon.distribution_regularizer(
        inputs["logits"],
        inputs["class_counts"],
        power=args["power"],
        temperature=args["student_temp"],
    )
    return {"loss": loss}


def logit_adjustment(inputs, args):
    counts = inputs["class_counts"]
    return {"adjustment": losses.logit_adjustment(counts, **args)}


def soft_contrastive_with_sampling(inputs, args):
    """The numbers of kept rows are given; the mask lists those rows alone."""
    counts, labelled = inputs["class_counts"], inputs["labelled_mask"]
    given = inputs[GIVEN].astype(int)
    logits = jnp.stack(jnp.split(inputs["student_logits"], 2), axis=1)
    adjustment = losses.logit_adjustment(counts, kappa=args["kappa"])
    soft = bacon.debiased_labels(logits, adjustment, temperature=args["student_temp"])
    kept = bacon.confident_rows(soft, given, where=~labelled)
    sizes = int(np.sum(np.asarray(labelled))), int(np.sum(np.asarray(inputs[GIVEN])))
    rows = jnp.concatenate(
        [
            jnp.flatnonzero(mask, size=size)
            for mask, size in zip((labelled, kept), sizes, strict=True)
        ]
    )
    known = jnp.any(pairs.one_column(inputs["labels"], len(counts)), axis=0)
    every, z = bacon.soft_label_weights(soft), inputs["projections"]
    counted = jnp.tile(labelled | kept, 2)
    loss = bacon.soft_contrastive(
        similarity.dot(z, z) / args["temperature"],
        jnp.tile(every, (2, 2)),
        where=others(len(z)) & counted[:, None] & counted[None, :],
    )
    return {
        "loss": loss,
        "soft_labels": soft,
        "sampling_rate": bacon.sampling_rates(
            counts, known, alpha=args["alpha"], beta=args["beta"]
        ),
        "soft_mask": every[rows][:, rows],
        "num_rows": sum(sizes),
    }


def estimate_class_distribution(inputs, args):
    """On the host."""
    counts = bacon.class_distribution(
        np.asarray(inputs["cluster_ids"]),
        np.asarray(inputs["labels"]),
        np.asarray(inputs["labelled_mask"]),
        num_classes=args["num_classes"],
        num_known=args["num_labelled_classes"],
    )
    return {"class_counts": counts}


def split_cluster_accuracy(inputs, args):
    """In percent."""
    parts = evaluation.split_cluster_accuracy(
        inputs["cluster_ids"], inputs["labels"], inputs["old_mask"]
    )
    return {name: 100 * value for name, value in parts.items()}


ADAPTERS = {
    "info_nce_two_view": info_nce_two_view,
    "supervised_contrastive": supervised_contrastive,
    "soft_contrastive": soft_contrastive,
    "cross_view_self_distillation": cross_view_self_distillation,
    "distribution_regulariser": distribution_regulariser,
    "logit_adjustment": logit_adjustment,
    "soft_contrastive_with_sampling": soft_contrastive_with_sampling,
    "estimate_class_distribution": estimate_class_distribution,
    "split_cluster_accuracy": split_cluster_accuracy,
}
