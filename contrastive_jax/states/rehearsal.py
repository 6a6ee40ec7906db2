"""Rehearsal memory of continual learning: exemplars of earlier classes.

`herd_*` select the exemplars on the host, class by class in rising order of the label
and the best first, so that a smaller quota later keeps the first ones; a row with a
feature that is not finite is never one. `Rehearsal` is the memory itself, arrays of
fixed shape with a count for each class.
"""

import dataclasses

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, Key, PyTree

from contrastive_jax import numerics


@chex.dataclass(frozen=True)
class Rehearsal:
    """Up to m examples for each of c classes, the best first.

    Attributes:
      examples: arrays [c, m, ...].
      counts: how many of the m rows of each class hold an example.
    """

    examples: PyTree
    counts: Integer[Array, " c"]


def rehearsal_init(num_classes: int, size: int, example: PyTree) -> Rehearsal:
    """An empty memory.

    Args:
      num_classes: number of classes c, later ones included.
      size: examples m that a class can have at most.
      example: one example: an array, or a tree of arrays, that gives shapes and types.

    Examples:
      >>> memory = rehearsal_init(10, 3, {"image": np.zeros((8, 8), np.uint8)})
      >>> memory.examples["image"].shape
      (10, 3, 8, 8)
    """
    numerics.check_positive(num_classes=num_classes, size=size)
    return Rehearsal(
        examples=jax.tree.map(
            lambda x: jnp.zeros(
                (num_classes, size, *np.shape(x)), jnp.asarray(x).dtype
            ),
            example,
        ),
        counts=jnp.zeros(num_classes, jnp.int32),
    )


def rehearsal_store(
    memory: Rehearsal, examples: PyTree, labels: Integer[Array, " b"]
) -> Rehearsal:
    """Replaces the exemplars of the classes in a batch.

    Classes without a row in the batch keep theirs. Rows come best first: of a class
    with more than m rows the first m stay. A row whose label is not a class is dropped.

    Args:
      memory: the memory before.
      examples: arrays [b, ...] in the layout of the memory.
      labels: class of each row.

    Examples:
      >>> memory = rehearsal_init(3, 2, np.zeros(1, np.float32))
      >>> x = jnp.array([[5.0], [6.0], [7.0], [8.0]])
      >>> memory = rehearsal_store(memory, x, jnp.array([2, 0, 2, 2]))
      >>> memory.counts, memory.examples[2, :, 0]
      (Array([1, 0, 2], dtype=int32), Array([5., 7.], dtype=float32))
    """
    labels = numerics.check_signed(labels, "labels")
    b = numerics.check_shapes(labels=(labels, "b"))["b"]
    c = memory.counts.shape[0]
    m = jax.tree.leaves(memory.examples)[0].shape[1]
    valid = (labels >= 0) & (labels < c)
    same = (labels[:, None] == labels[None, :]) & valid[:, None]
    rank = jnp.sum(jnp.tril(same, -1), axis=1)  # rows of its class before it
    home = jnp.where(valid & (rank < m), labels, c)  # class c does not exist: dropped

    def store(old, new):
        new = jnp.asarray(new)
        if new.shape != (b, *old.shape[2:]):
            raise ValueError(
                f"examples: expected shape {[b, *old.shape[2:]]}, got shape "
                f"{list(new.shape)}"
            )
        return old.at[home, rank].set(new.astype(old.dtype), mode="drop")

    new_counts = jnp.sum(labels[:, None] == jnp.arange(c)[None, :], axis=0)
    counts = jnp.minimum(new_counts, m).astype(memory.counts.dtype)
    return dataclasses.replace(
        memory,
        examples=jax.tree.map(store, memory.examples, examples),
        counts=jnp.where(new_counts > 0, counts, memory.counts),
    )


def rehearsal_trim(memory: Rehearsal, quota: int | Integer[Array, ""]) -> Rehearsal:
    """Cuts the memory to the `quota` best exemplars of each class.

    Examples:
      >>> memory = rehearsal_init(2, 3, np.zeros(1, np.float32))
      >>> memory = rehearsal_store(memory, jnp.ones((3, 1)), jnp.array([1, 1, 1]))
      >>> rehearsal_trim(memory, 2).counts
      Array([0, 2], dtype=int32)
    """
    return dataclasses.replace(memory, counts=jnp.minimum(memory.counts, quota))


def rehearsal_rows(
    memory: Rehearsal,
) -> tuple[PyTree, Integer[Array, " k"], Bool[Array, " k"]]:
    """The memory as one batch.

    Returns:
      The examples, arrays [c * m, ...]; their labels; and a mask of the filled rows.

    Examples:
      >>> memory = rehearsal_init(2, 2, np.zeros(1, np.float32))
      >>> memory = rehearsal_store(memory, jnp.ones((1, 1)), jnp.array([1]))
      >>> _, labels, filled = rehearsal_rows(memory)
      >>> labels[filled]
      Array([1], dtype=int32)
    """
    c = memory.counts.shape[0]
    m = jax.tree.leaves(memory.examples)[0].shape[1]
    rows = jax.tree.map(lambda x: x.reshape(c * m, *x.shape[2:]), memory.examples)
    filled = jnp.arange(m)[None, :] < memory.counts[:, None]
    return rows, jnp.repeat(jnp.arange(c), m), filled.reshape(-1)


def rehearsal_quota(
    size: int, *, seen_classes: int, total_classes: int | None = None
) -> int:
    """Exemplars per class of a memory of `size` exemplars in all.

        size // total_classes, or size // seen_classes when None

    Args:
      size: exemplars in the memory.
      seen_classes: classes up to now.
      total_classes: classes in the end, for a quota that is fixed from the first task
        on.

    Examples:
      >>> rehearsal_quota(30, seen_classes=4)
      7
      >>> rehearsal_quota(30, seen_classes=4, total_classes=10)
      3

    References:
      Rebuffi et al. 2017, arXiv:1611.07725, section 2 (the quota shrinks).
    """
    classes = seen_classes if total_classes is None else total_classes
    numerics.check_positive(size=size, seen_classes=seen_classes, total_classes=classes)
    return size // classes


def herd_random(
    rng: Key[Array, ""], labels: Integer[Array | np.ndarray, " n"], *, per_class: int
) -> np.ndarray:
    """Exemplars drawn at random within each class, as row numbers.

    Args:
      rng: random key.
      labels: class of each row.
      per_class: exemplars per class; all rows of a class with fewer.

    Examples:
      >>> labels = np.array([7, 3, 7, 7])
      >>> labels[herd_random(jax.random.key(0), labels, per_class=2)]
      array([3, 7, 7])
    """
    numerics.check_positive(per_class=per_class)
    labels = class_labels(labels)
    order = np.asarray(jax.random.permutation(rng, len(labels)))
    rows = [order[labels[order] == c][:per_class] for c in np.unique(labels)]
    return np.concatenate(rows)


def herd_nearest(
    features: Float[Array | np.ndarray, "n d"],
    labels: Integer[Array | np.ndarray, " n"],
    *,
    per_class: int,
) -> np.ndarray:
    """Exemplars nearest to the mean of their class, as row numbers, nearest first.

    Args:
      features: features of each row, not normalized here.
      labels: class of each row.
      per_class: exemplars per class; all rows of a class with fewer.

    Examples:
      >>> x = np.array([[0.0], [1.0], [5.0]])
      >>> herd_nearest(x, np.array([0, 0, 0]), per_class=2)
      array([1, 0])

    References:
      Rebuffi et al. 2017, arXiv:1611.07725 (the baseline of its herding).
    """
    exemplars = [np.zeros(0, int)]
    for rows, x in classes(features, labels, per_class):
        gaps = np.sum((x - np.mean(x, axis=0)) ** 2, axis=1)
        exemplars.append(rows[np.argsort(gaps, kind="stable")[:per_class]])
    return np.concatenate(exemplars)


def herd_barycenter(
    features: Float[Array | np.ndarray, "n d"],
    labels: Integer[Array | np.ndarray, " n"],
    *,
    per_class: int,
    normalize: bool = True,
) -> np.ndarray:
    """Exemplars by herding (iCaRL), as row numbers: greedy, to match the class mean.

        p_k = argmin_x || mean - (x + p_1 + ... + p_{k-1}) / k ||

    Args:
      features: features of each row.
      labels: class of each row.
      per_class: exemplars per class; all rows of a class with fewer.
      normalize: whether features are scaled to length 1 first.

    Examples:
      >>> x = np.array([[0.0], [3.0], [4.0], [9.0]])
      >>> herd_barycenter(x, np.zeros(4, int), per_class=3, normalize=False)
      array([2, 1, 3])

    References:
      Rebuffi et al. 2017, arXiv:1611.07725, algorithm 4.
    """
    exemplars = []
    for rows, x in classes(features, labels, per_class):
        if normalize:
            norm = np.linalg.norm(x, axis=1, keepdims=True)
            x = x / np.where(norm > 0, norm, 1)
        mean, total = np.mean(x, axis=0), np.zeros(x.shape[1])
        selected = np.zeros(len(x), bool)
        for k in range(1, min(per_class, len(x)) + 1):
            gaps = np.sum((mean - (x + total) / k) ** 2, axis=1)
            best = int(np.argmin(np.where(selected, np.inf, gaps)))
            selected[best] = True
            total = total + x[best]
            exemplars.append(rows[best])
    return np.array(exemplars, int)


def classes(
    features: Array | np.ndarray, labels: Array | np.ndarray, per_class: int
) -> list[tuple[np.ndarray, np.ndarray]]:
    """The finite rows of each class, and their features in float64."""
    numerics.check_shapes(features=(features, "n d"), labels=(labels, "n"))
    numerics.check_positive(per_class=per_class)
    labels = class_labels(labels)
    numerics.at_least_f32(features[:1], "features")
    x = np.asarray(features, np.float64)
    finite = np.all(np.isfinite(x), axis=1)
    parts = [np.flatnonzero((labels == c) & finite) for c in np.unique(labels[finite])]
    return [(rows, x[rows]) for rows in parts]


def class_labels(labels: Array | np.ndarray) -> np.ndarray:
    """Labels on the host, where 64 bits are kept.

    Raises:
      TypeError: labels that are no integers.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, got {labels.dtype}")
    return labels
