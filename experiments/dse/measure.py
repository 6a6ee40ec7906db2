"""Quality of a student's logits, and what scoring all pairs costs."""

import time

import numpy as np

from contrastive_jax import evaluation
from experiments.dse import data, model

# Quality


def quality(logits, labels, teacher, task) -> dict[str, float]:
    """Accuracy (and F1 where there are two classes) in percent; "spearman" in [-1, 1].

    The correlation is that of all logits with the teacher's. For numbers as labels,
    "pearson" with them stands in place of the accuracy.
    """
    found = {"spearman": evaluation.spearman(np.ravel(logits), np.ravel(teacher))}
    if task == "regression":
        return found | {"pearson": evaluation.pearson(logits[:, 0], labels)}
    if task == "multiclass":
        right = np.mean(np.argmax(logits, axis=1) == labels)
        return found | {"accuracy": 100 * float(right)}
    said, true = logits[:, 0] > 0, labels > 0.5
    return found | {
        "accuracy": 100 * float(np.mean(said == true)),
        "f1": 100 * evaluation.binary_f1(said, true),
    }


def look(config, one, rows) -> tuple[np.ndarray, dict[str, float]]:
    """Logits of a student for pairs; their quality, and signs of collapse."""
    u, v = one.both(rows)
    logits = one.score(u, v)
    found = quality(logits, rows["label"], rows["teacher"], config.loss.task)
    return logits, found | collapse(u)


def collapse(u) -> dict[str, float]:
    """Effective rank of embeddings, and their mean cosine."""
    return {
        "rank": float(evaluation.effective_rank(u)),
        "cosine": float(evaluation.average_cosine(u)),
    }


def common_words(config, parts) -> np.ndarray:
    """Logits [n, 1] of the evaluated pairs by the share of their common words alone.

    Scale and offset are fitted to the labeled pairs.
    """
    train, test = parts["train"], parts[config.eval.split]
    few = slice(0, config.data.labeled)
    share = model.overlap(train.first[few], train.second[few])
    scale, offset = model.calibrate(share, train.labels[few])
    return (scale * model.overlap(test.first, test.second) + offset)[:, None]


# Cost


def time_student(config, one, rows) -> float:
    """Seconds for all pairs of `eval.queries` and `eval.candidates` texts.

    From tokens to logits, compiled before; the texts are those of the evaluated pairs,
    repeated as far as needed.
    """
    e = config.eval
    sizes = {"first": e.queries, "second": e.candidates}
    own = {
        key: np.resize(rows[key], (size, *rows[key].shape[1:]))
        for name, size in sizes.items()
        for key in (name, f"{name}_where")
    }
    began = time.perf_counter()
    embedded = [one.vectors(own[name], own[f"{name}_where"]) for name in sizes]
    seconds = time.perf_counter() - began
    one.score_all(*embedded, e.chunk)
    began = time.perf_counter()
    one.score_all(*embedded, e.chunk)
    return seconds + time.perf_counter() - began


def time_teacher(config, parts) -> float:
    """Seconds that the teacher would take for the same pairs.

    Measured on the first `eval.teacher_pairs` of the evaluated ones, compiled before,
    and multiplied.
    """
    e, test = config.eval, parts[config.eval.split]
    some = data.Pairs(*(x[: e.teacher_pairs] for x in test))
    model.teach(config, some)
    began = time.perf_counter()
    model.teach(config, some)
    seconds = time.perf_counter() - began
    return seconds / len(some.first) * e.queries * e.candidates
