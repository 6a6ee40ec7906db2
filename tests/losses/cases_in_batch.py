"""Contract cases of losses/nce.py."""

import jax
import jax.numpy as jnp

from contrastive_jax import losses, pairs, similarity

from .cases import Case


def columns(rng, n):
    """n anchors against n + 2 candidates, one labelled column each."""
    return {
        "logits": 3 * rng.normal(size=(n, n + 2)),
        "labels": rng.integers(0, n + 1, n),
    }


def two_way(rng, n):
    """Scores in both directions against n + 2 candidates."""
    return {**columns(rng, n), "reverse_logits": 3 * rng.normal(size=(n, n + 2))}


def two_views(rng, n):
    """Scores between two views of n anchors and of n + 2 candidates."""
    return {
        "logits": 3 * rng.normal(size=(2 * n, 2 * n + 4)),
        "labels": rng.permutation(n + 1)[:n],
    }


def pair_mask(rng, n):
    """Scores and a mask of positives in which every anchor has one."""
    positives = rng.random((n, n + 2)) < 0.3
    positives[:, 0] = True
    return {"logits": 3 * rng.normal(size=(n, n + 2)), "positives": positives}


def without_positives(inputs):
    """The same inputs with an empty mask of positives."""
    return {**inputs, "positives": jnp.zeros_like(inputs["positives"])}


def gathered_columns(a, b, gather, rows):
    return {"logits": similarity.dot(a, gather(b)), "labels": rows}


def gathered_two_way(a, b, gather, rows):
    reverse = similarity.dot(b, gather(a))
    return {**gathered_columns(a, b, gather, rows), "reverse_logits": reverse}


def gathered_views(a, b, gather, rows):
    candidates = jnp.concatenate([gather(a), gather(b)])
    logits = similarity.dot(jnp.concatenate([a, b]), candidates)
    return {"logits": logits, "labels": rows}


def gathered_diagonal(a, b, gather, rows):
    logits = similarity.dot(a, gather(b))
    return {"logits": logits, "positives": pairs.one_column(rows, logits.shape[1])}


def directions(rng, n):
    """Scores of all four directions against n + 2 candidates."""
    blocks = ("reverse_logits", "query_logits", "document_logits")
    scores = {name: 3 * rng.normal(size=(n, n + 2)) for name in blocks}
    return {**columns(rng, n), **scores}


def gathered_directions(a, b, gather, rows):
    return {
        **gathered_two_way(a, b, gather, rows),
        "query_logits": similarity.dot(a, gather(a)),
        "document_logits": similarity.dot(b, gather(b)),
    }


def soft_targets(rng, n):
    targets = rng.random((n, n + 2))
    targets /= targets.sum(axis=1, keepdims=True)
    return {"logits": 3 * rng.normal(size=(n, n + 2)), "targets": targets}


def gathered_soft_targets(a, b, gather, rows):
    logits = similarity.dot(a, gather(b))
    return {"logits": logits, "targets": jax.nn.softmax(similarity.dot(b, gather(a)))}


def weighted(rng, n):
    """Scores with a log-weight of every candidate."""
    return {**columns(rng, n), "log_weights": rng.normal(size=(n, n + 2))}


def gathered_weights(a, b, gather, rows):
    cosines = similarity.cosine(gather(a), gather(b)).diagonal()
    every = losses.decoupled_weights(cosines)
    return {**gathered_columns(a, b, gather, rows), "positive_weights": every[rows]}


COLUMNS = {"logits": "n m", "labels": "n"}

HELPERS = (
    "catalogue",
    "clip_temperature",
    "decoupled_weights",
    "hardness_log_weights",
    "matryoshka",
    "nearest_positives",
)

CASES = {
    "info_nce": Case(
        losses.info_nce,
        COLUMNS,
        columns,
        ("logits",),
        gathered=gathered_columns,
        columns=("labels",),
        offset=("logits",),
    ),
    "two_way_info_nce": Case(
        losses.two_way_info_nce,
        {**COLUMNS, "reverse_logits": "n m"},
        two_way,
        ("logits", "reverse_logits"),
        where=None,
        gathered=gathered_two_way,
        columns=("labels",),
        offset=("logits", "reverse_logits"),
    ),
    "info_nce/smooth": Case(
        losses.info_nce,
        {**COLUMNS, "log_weights": "n m"},
        weighted,
        ("logits", "log_weights"),
        options={"margin": 0.3, "label_smoothing": 0.2},
        columns=("labels",),
        offset=("logits",),
    ),
    "all_direction_info_nce": Case(
        losses.all_direction_info_nce,
        {
            **COLUMNS,
            "reverse_logits": "n m",
            "query_logits": "n m",
            "document_logits": "n m",
        },
        directions,
        ("logits", "reverse_logits", "query_logits", "document_logits"),
        gathered=gathered_directions,
        columns=("labels",),
        offset=("logits", "reverse_logits", "query_logits", "document_logits"),
    ),
    "nt_xent": Case(
        losses.nt_xent,
        {"logits": "2n 2m", "labels": "n"},
        two_views,
        ("logits",),
        where="2n 2m",
        gathered=gathered_views,
        columns=("labels",),
        offset=("logits",),
    ),
    "decoupled_info_nce": Case(
        losses.decoupled_info_nce,
        COLUMNS,
        columns,
        ("logits",),
        gathered=gathered_columns,
        columns=("labels",),
        offset=("logits",),
    ),
    "decoupled_info_nce/weighted": Case(
        losses.decoupled_info_nce,
        {**COLUMNS, "positive_weights": "n"},
        lambda rng, n: {**columns(rng, n), "positive_weights": rng.random(n)},
        ("logits", "positive_weights"),
        gathered=gathered_weights,
        columns=("labels",),
    ),
    "debiased_info_nce": Case(
        losses.debiased_info_nce,
        COLUMNS,
        columns,
        ("logits",),
        gathered=gathered_columns,
        columns=("labels",),
    ),
    "hard_negative_info_nce": Case(
        losses.hard_negative_info_nce,
        COLUMNS,
        columns,
        ("logits",),
        gathered=gathered_columns,
        columns=("labels",),
    ),
    "soft_target_cross_entropy": Case(
        losses.soft_target_cross_entropy,
        {"logits": "n m", "targets": "n m"},
        soft_targets,
        ("logits", "targets"),
        without_positives=lambda x: {**x, "targets": 0 * x["targets"]},
        gathered=gathered_soft_targets,
        offset=("logits",),
    ),
    "pairwise_sigmoid": Case(
        losses.pairwise_sigmoid,
        {"logits": "n m", "positives": "n m"},
        pair_mask,
        ("logits",),
        gathered=gathered_diagonal,
    ),
}
