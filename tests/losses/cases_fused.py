"""Contract cases of losses/fused.py."""

from contrastive_jax import losses

from .cases import Case
from .cases_tokens import without_labels


def states(rng, n):
    """Hidden states of n + 2 positions, a head of 5 tokens, one label left out."""
    labels = rng.integers(5, size=(n, n + 2))
    labels[0, 0] = -100
    return {
        "hidden": rng.normal(size=(n, n + 2, 3)),
        "head": rng.normal(size=(5, 3)),
        "labels": labels,
    }


HELPERS = ("linear_log_probs", "linear_kl")

CASES = {
    "linear_cross_entropy": Case(
        losses.linear_cross_entropy,
        {"hidden": "n m d", "head": "v d", "labels": "n m"},
        states,
        ("hidden", "head"),
        options={"chunk": 4},
        without_positives=without_labels,
        columns=("labels",),
    ),
}
