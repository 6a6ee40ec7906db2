"""What is measured: class sizes from clusters, accuracies under one best match."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import evaluation
from contrastive_jax.methods import bacon
from contrastive_jax.tasks import images
from experiments.bacon import data


class Predicted(NamedTuple):
    """The test rows of one method after the best match of clusters and classes.

    Attributes:
      predicted: class of each row's cluster.
      label: true class of each row.
      parts: {name of a part: rows}.
      sizes: estimated and true size of each class, [2, k].
    """

    predicted: np.ndarray
    label: np.ndarray
    parts: dict[str, np.ndarray]
    sizes: np.ndarray


def clusters(config, encode, image):
    """As many clusters as classes, by the angle of the features."""
    x = images.encode_images(encode, image)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    rng = jax.random.key(config.seed)
    return evaluation.kmeans(rng, x, config.model.num_classes, restarts=5).assignments


def estimate(config, encode):
    """Class sizes by clusters of the training rows, [k] float32."""
    tail = data.long_tail(config)
    sizes = bacon.class_distribution(
        clusters(config, encode, tail.image),
        np.where(tail.labelled, tail.label, 0),
        tail.labelled,
        num_classes=config.model.num_classes,
        num_known=config.data.known,
    )
    return jnp.asarray(sizes, jnp.float32)


def predict_each(config, trained, encode, classify):
    """{name: Predicted}: by clusters of the features, and "name_classifier"."""
    image, label = data.asked_rows(config)
    tail = data.long_tail(config)
    thirds = np.array_split(np.argsort(-tail.sizes, kind="stable"), 3)
    parts = {
        "all": np.ones(len(label), bool),
        "known": label < config.data.known,
        "new": label >= config.data.known,
    }
    for name, classes in zip(("head", "medium", "tail"), thirds, strict=True):
        parts[name] = np.isin(label, classes)
    predicted = {}
    for name, (own, state) in trained.items():
        found = {name: clusters(own, encode(own, state), image)}
        if own.loss.pseudo:
            logits = images.encode_images(classify(own, state), image)
            found[f"{name}_classifier"] = logits.argmax(axis=1)
        sizes = np.stack([np.asarray(state.sizes), tail.sizes])
        for key, numbers in found.items():
            match = evaluation.match_clusters(numbers, label)
            predicted[key] = Predicted(match, label, parts, sizes)
    return predicted


def evaluate(predicted):
    """Accuracies in percent, "method/part"; how well class sizes were estimated."""
    results = {}
    for name, given in predicted.items():
        right = given.predicted == given.label
        for part, rows in given.parts.items():
            results[f"{name}/{part}"] = 100 * float(np.mean(right[rows]))
        results[f"{name}/size_correlation"] = evaluation.pearson(
            *map(jnp.asarray, given.sizes)
        )
    return results
