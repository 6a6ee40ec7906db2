"""Contract cases of losses/distill.py."""

from contrastive_jax import losses, similarity

from .cases import Case


def taught(rng, n):
    """Scores of student and teacher against n + 2 candidates."""
    scores = {name: rng.normal(size=(n, n + 2)) for name in ("logits", "teacher")}
    return scores


def taught_both_ways(rng, n):
    names = ("logits", "teacher", "reverse_logits", "reverse_teacher")
    return {name: rng.normal(size=(n, n + 2)) for name in names}


def taught_square(rng, n):
    return {name: rng.normal(size=(n, n)) for name in ("logits", "teacher")}


def margins(rng, n):
    return {
        "positive_logits": rng.normal(size=n),
        "negative_logits": rng.normal(size=(n, n + 2)),
        "teacher_margins": rng.normal(size=(n, n + 2)),
    }


def embedded(rng, n):
    return {"student": rng.normal(size=(n, 3)), "teacher": rng.normal(size=(n, 2))}


def gathered_scores(a, b, gather, rows):
    return {
        "logits": similarity.dot(a, gather(b)),
        "teacher": 2 * similarity.cosine(a, gather(b)),
    }


def gathered_both_ways(a, b, gather, rows):
    back = gathered_scores(b, a, gather, rows)
    return {
        **gathered_scores(a, b, gather, rows),
        **{f"reverse_{name}": scores for name, scores in back.items()},
    }


def gathered_rows(a, b, gather, rows):
    return {"student": gather(a), "teacher": gather(b)}


TAUGHT = {"logits": "n m", "teacher": "n m"}
BOTH_WAYS = {**TAUGHT, "reverse_logits": "n m", "reverse_teacher": "n m"}
SQUARE = {"logits": "n n", "teacher": "n n"}
EMBEDDED = {"student": "n d", "teacher": "n e"}

CASES = {
    "logit_mse": Case(
        losses.logit_mse,
        TAUGHT,
        taught,
        ("logits",),
        gathered=gathered_scores,
        offset=("logits", "teacher"),
    ),
    "logit_mse/sum": Case(
        losses.logit_mse,
        TAUGHT,
        taught,
        ("logits",),
        options={"candidates": "sum"},
        offset=("logits", "teacher"),
    ),
    "distillation_kl": Case(
        losses.distillation_kl,
        TAUGHT,
        taught,
        ("logits",),
        options={"temperature": 2.0},
        gathered=gathered_scores,
        offset=("logits", "teacher"),
    ),
    "margin_mse": Case(
        losses.margin_mse,
        {"positive_logits": "n", "negative_logits": "n m", "teacher_margins": "n m"},
        margins,
        ("positive_logits", "negative_logits"),
        offset=("positive_logits", "negative_logits"),
    ),
    "clip_distillation": Case(
        losses.clip_distillation,
        BOTH_WAYS,
        taught_both_ways,
        ("logits", "reverse_logits"),
        where=None,
        gathered=gathered_both_ways,
        offset=("logits", "teacher", "reverse_logits", "reverse_teacher"),
    ),
    "clip_distillation/square": Case(
        losses.clip_distillation,
        SQUARE,
        taught_square,
        ("logits",),
        where="n n",
        offset=("logits", "teacher"),
    ),
    "relational_distance": Case(
        losses.relational_distance,
        EMBEDDED,
        embedded,
        ("student",),
        where="n",
        gathered=gathered_rows,
    ),
    "relational_angle": Case(
        losses.relational_angle,
        EMBEDDED,
        embedded,
        ("student",),
        where="n",
        gathered=gathered_rows,
    ),
}
