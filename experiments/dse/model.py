"""Teacher and student: logits of a cross-encoder, kept; embeddings and their head."""

import functools
import hashlib
import os
import pathlib
import re
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from sklearn.linear_model import LogisticRegression

from contrastive_jax import models, parallel, randomness
from contrastive_jax.methods import dse
from contrastive_jax.models import encoder as encoders
from contrastive_jax.tasks import language_models, text_encoders

BATCH = 64  # texts at a time
BLOCK = 256  # pairs that are read between two writings of the logits


# The teacher


def words_of(text: str) -> list[str]:
    """Words in lower case.

    Examples:
      >>> words_of("The LORD's day, 2")
      ['the', 'lord', 's', 'day']
    """
    return re.findall(r"[a-z]+", text.lower())


def overlap(first, second) -> np.ndarray:
    """Share of common words among all words of two texts, in [-1, 1], [n].

    Stands in for a teacher where there must be none, and is the baseline of words.
    """
    both = [
        (set(words_of(a)), set(words_of(b))) for a, b in zip(first, second, strict=True)
    ]
    return np.array([2 * len(a & b) / max(len(a | b), 1) - 1 for a, b in both])


def teach(config, pairs, file=None) -> np.ndarray:
    """The teacher's logits [n, c] of pairs, in their order.

    They are written to a file block by block, each time whole or not at all, and are
    not computed again by a run that was cut off.

    Args:
      config: with `teacher`; path "overlap" is `overlap`, else `text_encoders.load`.
      pairs: n pairs, `data.Pairs`.
      file: where the logits are kept, .npz; None for nowhere.
    """
    section = config.teacher
    if section.path == "overlap":
        return 4 * overlap(pairs.first, pairs.second)[:, None]
    encoder = text_encoders.load(section)
    both = list(zip(pairs.first, pairs.second, strict=True))
    digest = hashlib.sha256(
        repr((section.path, section.dtype, both)).encode()
    ).hexdigest()
    done = np.zeros((0, 1), np.float32)
    if file is not None and file.exists():
        with np.load(file) as kept:
            if kept["digest"] == digest:  # of these pairs, in this order
                done = kept["logits"]
    if len(done) < len(both):
        print(f"teacher: {len(both) - len(done)} pairs", flush=True)
    blocks = [done] if len(done) else []
    for start in range(len(done), len(both), BLOCK):
        here = encoder.tokenize(both[start : start + BLOCK])
        blocks.append(encoder.score(encoder.params, here))
        if file is not None:
            write(file, digest=digest, logits=np.concatenate(blocks))
    return np.concatenate(blocks)


def write(file: pathlib.Path, **arrays) -> None:
    """An .npz file, whole or not at all; by the first process alone."""
    if not parallel.is_first():
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name("tmp-" + file.name)
    np.savez(temporary, **arrays)
    os.replace(temporary, file)


def task_logits(config, logits) -> np.ndarray:
    """The teacher's logits in the form of the student's: two classes become one."""
    if config.loss.task == "binary" and logits.shape[1] == 2:
        logits = np.asarray(dse.binary_teacher_logit(jnp.asarray(logits)))
    if logits.shape[1] != config.head.classes:
        raise ValueError(
            f"head.classes: expected {logits.shape[1]} (the teacher's logits), got "
            f"{config.head.classes}"
        )
    return logits


def calibrate(logits, labels) -> tuple[float, float]:
    """Scale a and offset b so that sigmoid(a logit + b) fits labels 0 and 1.

    By logistic regression on one feature: a teacher that was made for another task says
    which pairs are better, but not from where on they are right.
    """
    mean, std = np.mean(logits), max(float(np.std(logits)), 1e-12)
    scaled = (np.reshape(logits, (-1, 1)) - mean) / std
    fit = LogisticRegression(C=1.0).fit(scaled, labels > 0.5)
    slope = float(fit.coef_[0, 0]) / std
    return slope, float(fit.intercept_[0] - slope * mean)


# The student


def embed(config, params, tokens, where, keys=None):
    """Embeddings [n, d] of texts; with dropout by `keys`, one per text."""
    recipe = text_encoders.make_recipe(config.model)
    variables = {"params": params["encoder"]}
    hidden = recipe.model.apply(variables, tokens, where=where, keys=keys).hidden
    pooled = models.pool_layers(
        hidden,
        where,
        k=config.head.layers,
        combine=config.head.combine,
        pooler=recipe.pooling[0],
    )
    if "affine" in params:
        affine = params["affine"]
        pooled = pooled * affine["scale"][None] + affine["shift"][None]
    own = None if keys is None else randomness.fold_keys(keys, recipe.model.depth + 1)
    return encoders.drop(pooled, own, recipe.model.dropout, 0)


def embedding_size(config) -> int:
    """Width of the embeddings: of all pooled layers, or of their mean."""
    layers = config.head.layers if config.head.combine == "concat" else 1
    return layers * text_encoders.make_recipe(config.model).model.width


def init_head(config, rng):
    """Layers of the head: two on the concatenation, a scale and an offset on u . v."""
    h, size = config.head, embedding_size(config)
    if h.features == "dot":
        kernel = jnp.full((1, h.classes), size**-0.5)
        return [{"kernel": kernel, "bias": jnp.zeros(h.classes)}]
    sizes = ((4 * size, h.width), (h.width, h.classes))
    keys = jax.random.split(rng, len(sizes))
    return [
        {
            "kernel": jax.random.normal(key, shape) / shape[0] ** 0.5,
            "bias": jnp.zeros(b),
        }
        for key, shape, (_, b) in zip(keys, sizes, sizes, strict=True)
    ]


def fitted(config, params, rows):
    """What is known before training: spread of the embeddings, a fit of dot products.

    Returns:
      "affine", by which the coordinates of embeddings have mean 0 and variance 1, and
      "head" by `model.calibrate`, where the config has them.
    """
    u, v = Student(config, params).both(rows)
    found = {}
    if config.head.standardize:
        both = np.concatenate([u, v])
        scale = 1 / np.maximum(both.std(axis=0), 1e-6)
        shift = -both.mean(axis=0) * scale
        u, v = (x * scale + shift for x in (u, v))
        found["affine"] = {"scale": jnp.asarray(scale), "shift": jnp.asarray(shift)}
    if config.head.features == "dot" and config.loss.task == "binary":
        scale, offset = calibrate(np.sum(u * v, axis=1), rows["label"])
        found["head"] = [
            {"kernel": jnp.full((1, 1), scale), "bias": jnp.full(1, offset)}
        ]
    return found


class Student(NamedTuple):
    """A trained student.

    Attributes:
      config: of its training.
      params: "encoder", "head" and, of standardized embeddings, "affine".
    """

    config: Any
    params: Any

    def vectors(self, tokens, where) -> np.ndarray:
        """Embeddings of texts, [n, d]."""
        head = dict(layers=self.config.head.layers, combine=self.config.head.combine)
        own = dict(model=self.config.model.to_dict(), head=head)
        frozen = ml_collections.FrozenConfigDict(own)
        params = {k: x for k, x in self.params.items() if k != "head"}
        run = functools.partial(vectors, frozen, params)
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


@functools.partial(jax.jit, static_argnums=0)
def vectors(config, params, rows):
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
