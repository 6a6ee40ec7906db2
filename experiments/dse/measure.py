"""Quality of a student's logits, and what scoring all pairs costs."""

import functools
import time
from typing import Any, NamedTuple

import jax
import ml_collections
import numpy as np

from contrastive_jax import evaluation
from contrastive_jax.methods import dse
from contrastive_jax.tasks import language_models
from experiments.dse import data, model

BATCH = 64  # texts at a time


class Student(NamedTuple):
    """A trained student.

    Attributes:
      config: of its training.
      embed: `embed(config, params, tokens, where)`.
      params: "encoder", "head" and, of standardized embeddings, "affine".
    """

    config: Any
    embed: Any
    params: Any

    def vectors(self, tokens, where) -> np.ndarray:
        """Embeddings of texts, [n, d]."""
        head = dict(layers=self.config.head.layers, combine=self.config.head.combine)
        own = dict(model=self.config.model.to_dict(), head=head)
        frozen = ml_collections.FrozenConfigDict(own)
        params = {k: x for k, x in self.params.items() if k != "head"}
        run = functools.partial(vectors, self.embed, frozen, params)
        rows = {"tokens": tokens, "where": where}
        return language_models.in_batches(run, rows, BATCH)

    def both(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """Embeddings of the first and of the second texts of pairs."""
        first, second = (
            self.vectors(rows[name], rows[f"{name}_where"])
            for name in ("first", "second")
        )
        return first, second

    def score(self, u, v) -> np.ndarray:
        """Logits of pairs, [n, c]."""
        return np.asarray(pairs(self.params["head"], u, v, self.config.head.features))

    def score_all(self, u, v, chunk) -> np.ndarray:
        """Logits of every first with every second text, [q, m, c]."""
        features = self.config.head.features
        return np.asarray(matrix(self.params["head"], u, v, features, chunk))


@functools.partial(jax.jit, static_argnums=(0, 1))
def vectors(embed, config, params, rows):
    """Embeddings of a batch of texts."""
    return embed(config, params, rows["tokens"], rows["where"])


@functools.partial(jax.jit, static_argnums=3)
def pairs(head, u, v, features):
    """`dse.siamese_head`, compiled."""
    return dse.siamese_head(head, u, v, features=features)


@functools.partial(jax.jit, static_argnums=(3, 4))
def matrix(head, u, v, features, chunk):
    """`dse.score_matrix`, compiled."""
    return dse.score_matrix(head, u, v, features=features, chunk=chunk)


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


def time_student(config, student, rows) -> float:
    """Seconds for all pairs of `eval.queries` and `eval.candidates` texts.

    From tokens to logits, compiled before; the texts are those of the evaluated pairs,
    repeated as far as needed.
    """
    e = config.eval

    def score():
        first, second = (
            student.vectors(*(np.resize(rows[key], (size, *rows[key].shape[1:]))
                              for key in (name, f"{name}_where")))
            for name, size in (("first", e.queries), ("second", e.candidates))
        )  # fmt: skip
        return student.score_all(first, second, e.chunk)

    score()
    began = time.perf_counter()
    score()
    return time.perf_counter() - began


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
