"""What Hydra's report shows: embeddings behind the head, their spectrum, the gates."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax.evaluation import effective_rank, knn
from contrastive_jax.tasks import images


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Embeddings z of a model by its variables; equal models compile once."""

    model: nn.Module

    def __call__(self, variables: Any, image: jax.Array) -> Any:
        return self.model.apply(variables, image, train=False)[0]


def splits(config, state, model) -> tuple[images.Split, images.Split]:
    """z of training rows with labels and of test rows."""
    params, model_state = jax.device_get((state.params, state.model_state))
    variables = {"params": params, "batch_stats": model_state}
    run = jax.tree_util.Partial(Embeddings(model), variables)
    limits = config.eval.train_limit, config.eval.test_limit
    pairs = zip(("train", "test"), limits, strict=True)
    train, test = (
        images.encode_split(run, config.data, split, limit=limit)
        for split, limit in pairs
    )
    return train, test


def embeddings(config, state, model) -> dict[str, float]:
    """kNN accuracy (%) on z, and how many dimensions z has."""
    train, test = splits(config, state, model)
    classes, k = int(train.label.max()) + 1, config.eval.k
    nearest = knn.knn_classify(
        train.features, train.label, test.features, k=k, num_classes=classes
    )
    rank = effective_rank(test.features - test.features.mean(axis=0))
    right = np.asarray(nearest) == test.label
    return {"z_knn": 100 * float(np.mean(right)), "z_rank": float(rank)}


def spectrum(features: np.ndarray) -> np.ndarray:
    """Singular values of centered rows, as shares of the largest.

    Without the last one, which the layer norm makes 0.
    """
    values = np.linalg.svd(features - features.mean(axis=0), compute_uv=False)
    return values[:-1] / values[0]


def gates(config, state, model, classes: int) -> np.ndarray:
    """The gate of every pair of classes, [classes, classes, d]."""
    params, model_state = jax.device_get((state.params, state.model_state))
    variables = {"params": params["gate"], "batch_stats": model_state["gate"]}
    first, second = (x.ravel() for x in np.indices((classes, classes)))
    run = jax.jit(lambda v, a, b: model.gate.apply(v, a, b, train=False))
    found = run(variables, jnp.asarray(first), jnp.asarray(second))
    return np.asarray(found).reshape(classes, classes, -1)


def relations(gate: np.ndarray) -> np.ndarray:
    """Correlation between the gates of two classes, each paired with itself."""
    own = gate[np.arange(len(gate)), np.arange(len(gate))]
    return np.corrcoef(own - own.mean(axis=0))
