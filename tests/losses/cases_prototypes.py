"""Contract cases of losses/prototype.py."""

import jax.numpy as jnp

from contrastive_jax import losses

from .cases import Case


def assigned(rng, n):
    """Scores of three crops and assignments of the first two, for three prototypes."""
    targets = rng.random((2, n, 3))
    targets /= targets.sum(axis=-1, keepdims=True)
    return {"scores": rng.normal(size=(3, n, 3)), "assignments": targets}


def taught(rng, n):
    """Outputs of three crops by the student and of two by the teacher."""
    return {
        "student": rng.normal(size=(3, n, 3)),
        "teacher": rng.normal(size=(2, n, 3)),
        "center": rng.normal(size=3),
    }


def gathered_assignments(a, b, gather, rows):
    """Balanced over the rows of all devices."""
    every = jnp.stack([losses.sinkhorn(gather(x), epsilon=0.5) for x in (a, b)])
    return {"scores": jnp.stack([a, b]), "assignments": every[:, rows]}


def crops(a, b, gather, rows):
    both = jnp.stack([a, b])
    return {"student": both, "teacher": both}


HELPERS = ("sinkhorn",)

CASES = {
    "swav": Case(
        losses.swav,
        {"scores": "v n k", "assignments": "a n k"},
        assigned,
        ("scores",),
        where="n",
        gathered=gathered_assignments,
        offset=("scores",),
    ),
    "dino": Case(
        losses.dino,
        {"student": "v n k", "teacher": "a n k", "center": "k"},
        taught,
        ("student",),
        where="n",
        corners=({"student_temperature": 1e-3, "teacher_temperature": 1e-3},),
        gathered=crops,
        offset=("student", "teacher"),
    ),
}
