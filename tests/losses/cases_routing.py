"""Contract cases of losses/routing.py and losses/adversarial.py."""

from contrastive_jax import losses

from .cases import Case


def routed(rng, n):
    return {"router_logits": rng.normal(size=(n, 3))}


def routed_tasks(rng, n):
    """More tasks than rows."""
    return {**routed(rng, n), "tasks": rng.integers(0, 9, n)}


def gathered_routes(a, b, gather, rows):
    return {"router_logits": gather(a)}


def gathered_tasks(a, b, gather, rows):
    return {"router_logits": gather(a), "tasks": gather(rows) % 3}


def judged(rng, n):
    return {name: rng.normal(size=(n, 2)) for name in ("real_scores", "fake_scores")}


def judged_fakes(rng, n):
    return {"fake_scores": rng.normal(size=(n, 2))}


CASES = {
    "load_balancing": Case(
        losses.load_balancing,
        {"router_logits": "n e"},
        routed,
        ("router_logits",),
        where="n",
        reduces=False,
        gathered=gathered_routes,
        offset=("router_logits",),
    ),
    "router_mutual_information": Case(
        losses.router_mutual_information,
        {"router_logits": "n e", "tasks": "n"},
        routed_tasks,
        ("router_logits",),
        where="n",
        reduces=False,
        options={"num_tasks": 9},
        corners=({"eps": 1e-12}, {"top_k": 2}),
        gathered=gathered_tasks,
        columns=("tasks",),
        offset=("router_logits",),
    ),
    "least_squares_generator": Case(
        losses.least_squares_generator,
        {"fake_scores": "n k"},
        judged_fakes,
        ("fake_scores",),
        where="n",
    ),
    "least_squares_discriminator": Case(
        losses.least_squares_discriminator,
        {"real_scores": "n k", "fake_scores": "n k"},
        judged,
        ("real_scores", "fake_scores"),
        where="n",
    ),
}
