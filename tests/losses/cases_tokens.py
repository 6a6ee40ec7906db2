"""Contract cases of losses/tokens.py and losses/preference.py."""

import numpy as np

from contrastive_jax import losses

from .cases import Case


def predicted(rng, n):
    """Scores of 5 tokens at n + 2 positions, and labels with one left out."""
    labels = rng.integers(5, size=(n, n + 2))
    labels[0, 0] = -100
    return {"logits": rng.normal(size=(n, n + 2, 5)), "labels": labels}


def without_labels(inputs):
    return {**inputs, "labels": np.full_like(inputs["labels"], -100)}


def judged(rng, n):
    shape = (n, n + 2)
    return {"logits": rng.normal(size=shape), "replaced": rng.random(shape) < 0.3}


def preferred(rng, n):
    names = ("chosen", "rejected", "reference_chosen", "reference_rejected")
    return {name: -3 * rng.random(n) for name in names}


def drifted(rng, n):
    drift = {name: 3 * rng.random(n) for name in ("chosen_kl", "rejected_kl")}
    return {**preferred(rng, n), **drift}


PREFERRED = {
    name: "n"
    for name in ("chosen", "rejected", "reference_chosen", "reference_rejected")
}

DRIFTED = PREFERRED | {"chosen_kl": "n", "rejected_kl": "n"}
HELPERS = ("token_log_probs", "implicit_rewards", "DenseRewards", "dense_rewards")

CASES = {
    "token_cross_entropy": Case(
        losses.token_cross_entropy,
        {"logits": "n m v", "labels": "n m"},
        predicted,
        ("logits",),
        without_positives=without_labels,
        columns=("labels",),
        offset=("logits",),
    ),
    "replaced_token_detection": Case(
        losses.replaced_token_detection,
        {"logits": "n m", "replaced": "n m"},
        judged,
        ("logits",),
    ),
    "dpo": Case(
        losses.dpo,
        PREFERRED,
        preferred,
        ("chosen", "rejected"),
        where="n",
        options={"label_smoothing": 0.1, "beta": 0.5},
        corners=({"beta": 1e-3}, {"beta": 1e3, "label_smoothing": 0.0}),
        offset=("chosen", "rejected"),
    ),
    "dpo/ipo": Case(
        losses.dpo,
        PREFERRED,
        preferred,
        ("chosen", "rejected"),
        where="n",
        options={"form": "ipo"},
        offset=("chosen", "rejected"),
    ),
    "token_dpo": Case(
        losses.token_dpo,
        DRIFTED,
        drifted,
        ("chosen", "rejected", "rejected_kl"),
        where="n",
        corners=({"beta": 1e-3}, {"beta": 1e3, "alpha": 0.0}),
        offset=("chosen", "rejected"),
    ),
    "token_dpo/tdpo1": Case(
        losses.token_dpo,
        DRIFTED,
        drifted,
        ("chosen", "rejected", "chosen_kl", "rejected_kl"),
        where="n",
        options={"form": "tdpo1"},
        offset=("chosen", "rejected"),
    ),
}
