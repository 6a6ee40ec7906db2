"""What is measured: scores of test images and of outsiders, AUROC, FPR95."""

from typing import NamedTuple

import numpy as np

from contrastive_jax import evaluation
from contrastive_jax.tasks import images
from experiments.palm import data


class Scores(NamedTuple):
    """One score of one method; higher is more in-distribution.

    Attributes:
      inside: of test images.
      outside: of the images of every other set, by its name.
      accuracy: of a kNN classifier on test images, in percent.
    """

    inside: np.ndarray
    outside: dict[str, np.ndarray]
    accuracy: float


def score_each(config, trained, encode, head):
    """{name: Scores}: "palm" is by Mahalanobis distance, "palm_knn" by neighbors.

    What cross entropy trained has besides "softmax", its confidence, and "energy".
    """
    (train, labels), (test, test_labels) = (
        data.inside(config, split, limit)
        for split, limit in (
            ("train", config.eval.train_limit),
            (config.eval.split, config.eval.test_limit),
        )
    )
    others = data.outside(config)
    scored = {}
    for name, (own, state) in trained.items():
        frozen = encode(own, state)
        features = images.encode_images(frozen, train)
        inside = images.encode_images(frozen, test)
        outside = {key: images.encode_images(frozen, x) for key, x in others.items()}
        nearest = evaluation.knn_classify(
            features,
            labels,
            inside,
            k=config.eval.k,
            num_classes=config.loss.num_classes,
        )
        accuracy = 100 * float(np.mean(np.asarray(nearest) == test_labels))

        def apart(score, inside=inside, outside=outside, accuracy=accuracy):
            rows = {key: score(x) for key, x in outside.items()}
            return Scores(score(inside), rows, accuracy)

        def distance(x, features=features):
            return evaluation.mahalanobis_scores(features, x)

        def neighbor(x, features=features):
            return evaluation.knn_scores(features, x, k=config.eval.neighbor)

        scored[name], scored[f"{name}_knn"] = apart(distance), apart(neighbor)
        if name == "cross_entropy":
            classify = head(own, state)
            inside = images.encode_images(classify, test)
            outside = {
                key: images.encode_images(classify, x) for key, x in others.items()
            }
            accuracy = 100 * float(np.mean(inside.argmax(axis=1) == test_labels))
            more = dict(inside=inside, outside=outside, accuracy=accuracy)
            scored["softmax"] = apart(evaluation.softmax_confidence, **more)
            scored["energy"] = apart(evaluation.energy_scores, **more)
    return scored


def evaluate(config, scored):
    """Measures in percent, "method/measure": their means over sets, then each set."""
    results = {}
    for name, scores in scored.items():
        measures = {
            key: evaluation.ood_metrics(scores.inside, x)
            for key, x in scores.outside.items()
        }
        for kind in ("auroc", "fpr95"):
            values = {key: 100 * x[kind] for key, x in measures.items()}
            results[f"{name}/{kind}"] = float(np.mean(list(values.values())))
            if len(values) > 1:
                results |= {f"{name}/{kind}_{key}": x for key, x in values.items()}
        results[f"{name}/accuracy"] = scores.accuracy
    return results
