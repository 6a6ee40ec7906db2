"""Contract cases of losses/heatmap.py."""

from contrastive_jax import losses

from .cases import Case


def maps(rng, n):
    """Maps of n + 2 keypoints, 2 by 3 cells each."""
    return {"logits": rng.normal(size=(n, n + 2, 2, 3))}


def drawn(rng, n):
    return {**maps(rng, n), "targets": rng.random((n, n + 2, 2, 3))}


def predicted(rng, n):
    given = drawn(rng, n)
    return {"heatmaps": given["logits"], "targets": given["targets"]}


def without_targets(inputs):
    return {**inputs, "targets": 0 * inputs["targets"]}


CASES = {
    "heatmap_mse": Case(
        losses.heatmap_mse,
        {"heatmaps": "n m h w", "targets": "n m h w"},
        predicted,
        ("heatmaps",),
        corners=({"average": "all"},),
    ),
    "heatmap_kl": Case(
        losses.heatmap_kl,
        {"logits": "n m h w", "targets": "n m h w"},
        drawn,
        ("logits",),
        without_positives=without_targets,
        corners=({"eps": 1.0}, {"average": "all"}),
        offset=("logits",),
    ),
    "heatmap_entropy": Case(
        losses.heatmap_entropy,
        {"logits": "n m h w"},
        maps,
        ("logits",),
        corners=({"unit": "cells"}, {"average": "all"}),
        offset=("logits",),
    ),
}
