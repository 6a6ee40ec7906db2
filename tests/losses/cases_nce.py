"""Contract cases of losses/nce.py."""

import jax.numpy as jnp

from contrastive_jax import losses, similarity

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
        "rows": rng.permutation(n + 1)[:n],
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
    return {"logits": logits, "rows": rows}


def gathered_diagonal(a, b, gather, rows):
    logits = similarity.dot(a, gather(b))
    return {"logits": logits, "positives": rows[:, None] == jnp.arange(logits.shape[1])}


COLUMNS = {"logits": "n m", "labels": "n"}

CASES = {
    "info_nce": Case(
        losses.info_nce, COLUMNS, columns, ("logits",), gathered=gathered_columns
    ),
    "two_way_info_nce": Case(
        losses.two_way_info_nce,
        {**COLUMNS, "reverse_logits": "n m"},
        two_way,
        ("logits", "reverse_logits"),
        where=None,
        gathered=gathered_two_way,
    ),
    "nt_xent": Case(
        losses.nt_xent,
        {"logits": "2n 2m", "rows": "n"},
        two_views,
        ("logits",),
        where="2n 2m",
        gathered=gathered_views,
    ),
    "sigmoid": Case(
        losses.sigmoid,
        {"logits": "n m", "positives": "n m"},
        pair_mask,
        ("logits",),
        gathered=gathered_diagonal,
    ),
}
