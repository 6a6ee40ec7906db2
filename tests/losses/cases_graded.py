"""Contract cases of losses/regression.py."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, pairs, similarity

from .cases import Case
from .cases_in_batch import pair_mask, without_positives


def given_pairs(rng, n):
    return {
        "a": rng.normal(size=(n, 4)),
        "b": rng.normal(size=(n, 4)),
        "targets": rng.uniform(-1, 1, size=n),
    }


def scored_pairs(rng, n):
    return {"logits": rng.normal(size=n), "targets": rng.uniform(size=n)}


def target_distances(rng, n):
    """Scores and distances of targets, some of which tie."""
    return {
        "logits": rng.normal(size=(n, n + 2)),
        "target_distances": np.round(rng.uniform(0, 3, size=(n, n + 2))),
    }


def weighted(rng, n):
    weights = rng.uniform(0.5, 2, size=(n, n + 2))
    return {**pair_mask(rng, n), "pair_weights": weights}


def gathered_given_pairs(a, b, gather, rows):
    return {"a": gather(a), "b": gather(b), "targets": jnp.cos(3.0 * gather(rows))}


def gathered_scored_pairs(a, b, gather, rows):
    scores = jnp.diagonal(similarity.dot(gather(a), gather(b)))
    return {"logits": scores, "targets": jnp.cos(3.0 * gather(rows))}


def gathered_distances(a, b, gather, rows):
    targets, everyone = jnp.cos(1.0 * rows), jnp.cos(1.0 * gather(rows))
    return {
        "logits": similarity.euclidean(a, gather(a)) / 2,
        "target_distances": jnp.abs(targets[:, None] - everyone[None, :]),
        "where": ~pairs.one_column(rows, everyone.shape[0]),
    }


def gathered_weighted(a, b, gather, rows):
    gap = jnp.abs(rows[:, None] - gather(rows)[None, :]) // 2
    return {
        "logits": similarity.dot(a, gather(b)),
        "positives": gap == 0,
        "pair_weights": 1.0 + gap,
    }


CASES = {
    "cosine_similarity_mse": Case(
        losses.cosine_similarity_mse,
        {"a": "n d", "b": "n d", "targets": "n"},
        given_pairs,
        ("a", "b"),
        where="n",
    ),
    "cosent": Case(
        losses.cosent,
        {"logits": "n", "targets": "n"},
        scored_pairs,
        ("logits",),
        where="n",
        reduces=False,
        gathered=gathered_scored_pairs,
    ),
    "angle_loss": Case(
        losses.angle_loss,
        {"a": "n d", "b": "n d", "targets": "n"},
        given_pairs,
        ("a", "b"),
        where="n",
        reduces=False,
        options={"temperature": 0.5},
    ),
    "rank_n_contrast": Case(
        losses.rank_n_contrast,
        {"logits": "n m", "target_distances": "n m"},
        target_distances,
        ("logits",),
        gathered=gathered_distances,
    ),
    "weighted_supervised_contrastive": Case(
        losses.weighted_supervised_contrastive,
        {"logits": "n m", "positives": "n m", "pair_weights": "n m"},
        weighted,
        ("logits", "pair_weights"),
        without_positives=without_positives,
        gathered=gathered_weighted,
    ),
}
