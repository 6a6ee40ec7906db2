"""Contract cases of losses/listwise.py."""

import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses

from .cases import Case


def lists(rng, n):
    """Scores and graded labels of n lists of n + 3 items; the last one is relevant."""
    relevance = np.round(rng.uniform(0, 3, size=(n, n + 3)))
    relevance[:, -1] = 2.0
    relevance[:, 0] = 3.0
    relevance[:, 1] = 0.0
    return {"logits": rng.normal(size=(n, n + 3)), "relevance": relevance}


def values(rng, n):
    return {name: rng.normal(size=(n, n + 3)) for name in ("values", "targets")}


def without_relevance(inputs):
    return {**inputs, "relevance": jnp.zeros_like(inputs["relevance"])}


LISTS = {"logits": "n m", "relevance": "n m"}


def of_lists(loss, **options):
    return Case(loss, LISTS, lists, ("logits",), **options)


HELPERS = ("extend_lists",)

CASES = {
    "list_softmax": of_lists(
        losses.list_softmax,
        without_positives=without_relevance,
        offset=("logits",),
    ),
    "listnet": of_lists(
        losses.listnet,
        offset=("logits",),
    ),
    "list_mle": of_lists(
        losses.list_mle,
        offset=("logits",),
    ),
    "listwise_kl": of_lists(
        losses.listwise_kl,
        offset=("logits",),
    ),
    "approx_ndcg": of_lists(
        losses.approx_ndcg,
        without_positives=without_relevance,
        offset=("logits",),
    ),
    "neural_ndcg": of_lists(
        losses.neural_ndcg,
        options={"num_iterations": 3},
        without_positives=without_relevance,
        corners=({"k": 2},),
        offset=("logits",),
    ),
    "lambda_loss": of_lists(
        losses.lambda_loss,
        options={"scheme": "ndcg2++"},
        without_positives=without_relevance,
        corners=tuple(
            {"scheme": scheme, "k": k, "over": over}
            for scheme, k, over in (
                ("ranknet", None, "pairs"),
                ("ranknet_gap", None, "pairs"),
                ("ranknet_square", 3, "lists"),
                ("ndcg1", 2, "lists"),
                ("ndcg2", 9, "lists"),
                ("lambdarank", 1, "pairs"),
            )
        ),
        offset=("logits",),
    ),
    "gaussian_wasserstein": Case(
        losses.gaussian_wasserstein,
        {"values": "n k", "targets": "n k"},
        values,
        ("values", "targets"),
        where="n",
        reduces=False,
        corners=({"ddof": 0},),
        large=1e3,
        offset=("values", "targets"),
    ),
    "wasserstein": Case(
        losses.wasserstein,
        {"values": "n m", "targets": "n m"},
        values,
        ("values", "targets"),
        corners=({"power": 2.0}, {"power": 1.5}),
        offset=("values", "targets"),
    ),
}
