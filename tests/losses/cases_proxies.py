"""Contract cases of losses/proxy.py."""

from contrastive_jax import losses, similarity

from .cases import Case


def cosines(rng, n):
    """Cosines of n examples to n + 2 classes, of which the last has no example."""
    return {
        "cosines": rng.uniform(-0.9, 0.9, size=(n, n + 2)),
        "labels": rng.integers(0, n + 1, n),
    }


def subcenters(rng, n):
    """Cosines to two vectors of each class."""
    given = cosines(rng, n)
    return {**given, "cosines": rng.uniform(-0.9, 0.9, size=(n, n + 2, 2))}


def logits(rng, n):
    inputs = cosines(rng, n)
    return {"logits": 3 * inputs["cosines"] - 3, "labels": inputs["labels"]}


def gathered(a, b, gather, rows):
    """A loss of the whole batch: every device computes all of it."""
    classes = gather(b)[:5]
    return {
        "cosines": similarity.cosine(gather(a), classes),
        "labels": gather(rows) % 5,
    }


COSINES = {"cosines": "n m", "labels": "n"}
LOGITS = {"logits": "n m", "labels": "n"}

HELPERS = ("class_margins",)

CASES = {
    "proxy_nca": Case(
        losses.proxy_nca,
        LOGITS,
        logits,
        ("logits",),
        corners=({"positive_in_denominator": True},),
        columns=("labels",),
        offset=("logits",),
    ),
    "proxy_anchor": Case(
        losses.proxy_anchor,
        COSINES,
        cosines,
        ("cosines",),
        reduces=False,
        options={"alpha": 8.0},
        gathered=gathered,
        columns=("labels",),
    ),
    "arcface": Case(
        losses.arcface,
        COSINES,
        cosines,
        ("cosines",),
        options={"scale": 8.0},
        corners=({"scale": 64.0, "margin": 3.0},),
        columns=("labels",),
    ),
    "subcenter_arcface": Case(
        losses.subcenter_arcface,
        {"cosines": "n m k", "labels": "n"},
        subcenters,
        ("cosines",),
        options={"scale": 8.0},
        columns=("labels",),
    ),
    "cosface": Case(
        losses.cosface,
        COSINES,
        cosines,
        ("cosines",),
        columns=("labels",),
        offset=("cosines",),
    ),
    "normalized_softmax": Case(
        losses.normalized_softmax,
        COSINES,
        cosines,
        ("cosines",),
        columns=("labels",),
        offset=("cosines",),
    ),
}
