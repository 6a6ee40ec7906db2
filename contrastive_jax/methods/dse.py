"""DSE (Barkan et al. 2020): sentences embedded alone learn what a pair's reader says.

A teacher reads two texts together; the student embeds each alone and scores a pair by a
small head on features of both embeddings (`siamese_head`). It learns labels and the
teacher's raw logits (`distilled_objective`). n queries and m candidates then cost n + m
passes of the encoder, and a head per pair (`score_matrix`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Real

from contrastive_jax import losses, numerics

__all__ = [
    "binary_teacher_logit",
    "distilled_objective",
    "pair_features",
    "score_matrix",
    "siamese_head",
]

# Layers of a head, the first one first: {"kernel": [in, out], "bias": [out]}.
Layers = Sequence[Mapping[str, Any]]
Features = Literal["concat", "dot"]
TASKS = ("multiclass", "binary", "regression")


def pair_features(
    u: Float[Array, "*n d"], v: Float[Array, "*n d"], *, features: Features = "concat"
) -> Float[Array, "*n f"]:
    """What a head sees of two embeddings.

        concat: [u, v, u * v, |u - v|]  (f = 4 d)        dot: sum_k u_k v_k  (f = 1)

    The first depends on the order of the two texts.

    Args:
      u: embeddings of the first texts.
      v: embeddings of the second texts.
      features: "concat" or "dot".

    Raises:
      ValueError: another word, or embeddings of different shapes.

    References:
      Barkan et al. 2020, arXiv:1908.05161, section 3.

    Examples:
      >>> pair_features(jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 1.0]])).tolist()
      [[1.0, 2.0, 3.0, 1.0, 3.0, 2.0, 2.0, 1.0]]
    """
    if u.shape != v.shape:
        raise ValueError(
            f"v: expected shape {list(u.shape)}, that of u, got {list(v.shape)}"
        )
    u, v = numerics.at_least_f32(u, "u"), numerics.at_least_f32(v, "v")
    check_features(features)
    if features == "dot":
        return jnp.sum(u * v, axis=-1, keepdims=True)
    return jnp.concatenate([u, v, u * v, jnp.abs(u - v)], axis=-1)


def siamese_head(
    layers: Layers,
    u: Float[Array, "*n d"],
    v: Float[Array, "*n d"],
    *,
    features: Features = "concat",
) -> Float[Array, "*n c"]:
    """Logits of pairs: linear layers on `pair_features`, ReLU between them.

    Args:
      layers: of the head; without any, its output are the features.
      u: embeddings of the first texts.
      v: embeddings of the second texts.
      features: "concat" or "dot".

    Raises:
      ValueError: as `pair_features`.

    References:
      Barkan et al. 2020, arXiv:1908.05161, section 3.

    Examples:
      >>> layer = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([-1.0])}
      >>> u, v = jnp.array([[1.0, 2.0]]), jnp.array([[3.0, 1.0]])
      >>> siamese_head([layer], u, v, features="dot")
      Array([[9.]], dtype=float32)
    """
    return upper_layers(layers, pair_features(u, v, features=features))


def distilled_objective(
    logits: Float[Array, "n c"],
    labels: Real[Array, " n"],
    teacher: Float[Array, "n c"],
    *,
    task: Literal["multiclass", "binary", "regression"],
    coeff: numerics.Number | Float[Array, " n"] = 0.5,
    where: Bool[Array, " n"] | None = None,
    weights: Float[Array, " n"] | None = None,
    reduce_fn: numerics.ReduceFn | None = jnp.mean,
) -> Float[Array, "..."]:
    """Loss of the labels and squared distance from the teacher's raw logits, weighed.

        loss_i = (1 - coeff_i) task_i + coeff_i sum_c (logits[i, c] - teacher[i, c])^2

        multiclass: task_i = logsumexp_c logits[i, c] - logits[i, labels[i]]      (nats)
        binary:     task_i = softplus(logits[i, 0]) - labels[i] logits[i, 0]      (nats)
        regression: task_i = (logits[i, 0] - labels[i])^2

    The teacher carries no gradient. A logit of -inf is as if masked; a pair with none
    left drops out.

    Args:
      logits: of the student for n pairs; c = 1 but for "multiclass".
      labels: classes (integers); or 0. and 1. (and between them); or any numbers.
      teacher: its logits; of two classes the difference, `binary_teacher_logit`.
      task: what the labels are.
      coeff: share of the teacher, lambda, in [0, 1]; a number, or one per pair: 1 for
        pairs whose label is not known.
      where: pairs that count, [n]; all when None.
      weights: one non-negative weight per pair.
      reduce_fn: `jnp.mean` or `jnp.sum` over pairs that count; None gives [n].

    Raises:
      TypeError: labels that are integers where they have to be floats, or the reverse.
      ValueError: another task, labels or coeff out of range, more than one logit for
        "binary" or "regression".

    References:
      Barkan et al. 2020, arXiv:1908.05161, section 3 (lambda = 0.5; squares summed over
      classes by its code).

    Examples:
      >>> logits, teacher = jnp.array([[0.0]]), jnp.array([[2.0]])
      >>> loss = distilled_objective(logits, jnp.array([1.0]), teacher, task="binary")
      >>> f"{loss:.4f}"
      '2.3466'
    """
    numerics.check_shapes(
        logits=(logits, "n c"),
        labels=(labels, "n"),
        teacher=(teacher, "n c"),
        where=(where, "n"),
        weights=(weights, "n"),
    )
    if task not in TASKS:
        raise ValueError(f"task: expected one of {', '.join(TASKS)}, got {task!r}")
    if task != "multiclass" and logits.shape[1] != 1:
        raise ValueError(
            f"logits: expected one column for {task}, got shape {list(logits.shape)}"
        )
    numerics.check_fraction(coeff=coeff)
    where = numerics.mask_or_all(where, logits.shape[:1])
    where = jnp.broadcast_to(where[:, None], logits.shape)
    logits, where = numerics.masked_logits(logits, where)
    if task == "multiclass":
        labels = numerics.check_columns(labels, logits.shape[1], "labels")
        logits, where, counts = numerics.labeled_rows(logits, labels, where)
        of_labels = losses.info_nce(logits, labels, where=where, reduce_fn=None)
    else:
        counts, y = where[:, 0], logits[:, 0]
        if task == "binary":
            numerics.check_fraction(labels=labels)
        labels = numerics.at_least_f32(labels, "labels")
        labels = jnp.where(counts, labels.astype(y.dtype), 0)
        of_labels = jax.nn.softplus(y) - labels * y
        if task == "regression":
            of_labels = jnp.square(y - labels)
    of_teacher = losses.logit_mse(
        logits, teacher, where=where, candidates="sum", reduce_fn=None
    )
    coeff = numerics.per_column(coeff, len(logits), logits.dtype, "coeff")
    return numerics.safe_reduce(
        (1 - coeff) * of_labels + coeff * of_teacher,
        where=counts,
        weights=weights,
        reduce_fn=reduce_fn,
    )


def binary_teacher_logit(two_logits: Float[Array, "n 2"]) -> Float[Array, "n 1"]:
    """The one logit of a teacher with two classes: that of class 1 less that of 0.

    Raises:
      ValueError: other than two columns.

    References:
      Barkan et al. 2020, arXiv:1908.05161, released code.

    Examples:
      >>> binary_teacher_logit(jnp.array([[1.0, 4.0]]))
      Array([[3.]], dtype=float32)
    """
    numerics.check_shapes(two_logits=(two_logits, "n 2"))
    two_logits = numerics.at_least_f32(two_logits, "two_logits")
    return two_logits[:, 1:] - two_logits[:, :1]


def score_matrix(
    layers: Layers,
    queries: Float[Array, "q d"],
    candidates: Float[Array, "m d"],
    *,
    features: Features = "concat",
    chunk: int = 32,
) -> Float[Array, "q m c"]:
    """`siamese_head` of every query (first text) with every candidate (second text).

    Dot products are one matrix product. Of the concatenation, what the first layer
    makes of u and of v alone is computed once per text and only u * v and |u - v| per
    pair: half the work.

    Args:
      layers: of the head.
      queries: embeddings of the first texts.
      candidates: embeddings of the second texts.
      features: "concat" or "dot".
      chunk: candidates at a time, at least 1; memory grows with q * chunk * d.

    Raises:
      ValueError: chunk below 1, another word for features, no layer with "concat".

    References:
      Barkan et al. 2020, arXiv:1908.05161, section 1 (what it is for).

    Examples:
      >>> layer = {"kernel": jnp.array([[2.0]]), "bias": jnp.array([0.0])}
      >>> u, v = jnp.array([[1.0], [2.0]]), jnp.array([[3.0], [4.0]])
      >>> score_matrix([layer], u, v, features="dot")[..., 0].tolist()
      [[6.0, 8.0], [12.0, 16.0]]
    """
    numerics.check_shapes(queries=(queries, "q d"), candidates=(candidates, "m d"))
    if chunk < 1:
        raise ValueError(f"chunk: expected 1 or more, got {chunk}")
    check_features(features)
    u = numerics.at_least_f32(queries, "queries")
    v = numerics.at_least_f32(candidates, "candidates")
    if features == "dot":
        return upper_layers(layers, (u @ v.T)[..., None])
    if not layers:
        raise ValueError("layers: expected one or more, got none")
    first, *rest = layers
    of_u, of_v, of_product, of_distance = jnp.split(first["kernel"], 4)
    left = (u @ of_u + first["bias"][None, :])[:, None, :]

    def score(v):
        pairs = (u[:, None] * v[None]) @ of_product
        pairs += jnp.abs(u[:, None] - v[None]) @ of_distance
        x = left + (v @ of_v)[None] + pairs
        return upper_layers(rest, jax.nn.relu(x)) if rest else x

    size, m = min(chunk, len(v)), len(v)
    v = jnp.pad(v, ((0, -m % size), (0, 0))).reshape(-1, size, v.shape[1])
    tiles = jax.lax.map(score, v)
    return jnp.moveaxis(tiles, 0, 1).reshape(len(u), -1, tiles.shape[-1])[:, :m]


def upper_layers(layers: Layers, x: Float[Array, "*n f"]) -> Float[Array, "*n c"]:
    """Linear layers with ReLU between them."""
    for i, layer in enumerate(layers):
        x = jax.nn.relu(x) if i else x
        bias = layer["bias"].reshape((1,) * (x.ndim - 1) + (-1,))
        x = jnp.matmul(x, layer["kernel"], preferred_element_type=x.dtype) + bias
    return x


def check_features(features: str) -> None:
    """Raises ValueError for an unknown word."""
    if features not in ("concat", "dot"):
        raise ValueError(f'features: expected "concat" or "dot", got {features!r}')
