"""First-in first-out queues of past keys: one queue, or one per class or language."""

import dataclasses

import chex
import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray

from contrastive_jax import numerics, similarity


@chex.dataclass(frozen=True)
class Queue:
    """The last k keys.

    Attributes:
      keys: a ring buffer, the oldest row at `head`.
      labels: label of each row, -1 where none was given (nobody's positive).
      head: row that the next key overwrites.
      count: number of pushed keys in the queue, 0 to k: the first `count` rows.
    """

    keys: Float[Array, "k d"]
    labels: Integer[Array, " k"]
    head: Integer[Array, ""]
    count: Integer[Array, ""]


@chex.dataclass(frozen=True)
class ClassQueue:
    """The last k keys of each of c classes (or languages, or domains).

    Attributes:
      keys: one ring buffer per class.
      head: row that the next key of each class overwrites.
      count: number of pushed keys of each class: its first `count` rows.
    """

    keys: Float[Array, "c k d"]
    head: Integer[Array, " c"]
    count: Integer[Array, " c"]


def queue_init(rng: PRNGKeyArray, size: int, dim: int, *, dtype=jnp.float32) -> Queue:
    """A queue of random directions, as MoCo starts.

    The rows are normalized Gaussian vectors. They serve as negatives from the first
    step on; `queue_filled` is False at them.

    Args:
      rng: random key.
      size: number of rows k.
      dim: size d of a key.
      dtype: type of the rows.

    Examples:
      >>> queue_init(jax.random.key(0), 8, 4).keys.shape
      (8, 4)

    References:
      He et al. 2020, arXiv:1911.05722, section 3.2.
    """
    numerics.check_positive(size=size, dim=dim)
    return Queue(
        keys=_random_directions(rng, (size, dim), dtype),
        labels=jnp.full(size, -1, jnp.int32),
        head=jnp.zeros((), jnp.int32),
        count=jnp.zeros((), jnp.int32),
    )


def queue_push(
    queue: Queue, keys: Float[Array, "b d"], labels: Integer[Array, " b"] | None = None
) -> Queue:
    """Replaces the b oldest keys of the queue by new ones.

    The size need not be a multiple of b.

    Args:
      queue: the queue before.
      keys: new keys, at most k.
      labels: their labels; -1 when None.

    Raises:
      ValueError: more keys than rows, labels beyond 2^31 as far as they are known.

    Examples:
      >>> queue = queue_init(jax.random.key(0), 3, 1)
      >>> queue = queue_push(queue, jnp.array([[1.0], [2.0]]))
      >>> queue_push(queue, jnp.array([[3.0], [4.0]])).keys[:, 0]
      Array([4., 2., 3.], dtype=float32)

    References:
      He et al. 2020, arXiv:1911.05722, algorithm 1.
    """
    sizes = numerics.check_shapes(
        queue=(queue.keys, "k d"), keys=(keys, "b d"), labels=(labels, "b")
    )
    b, k = sizes["b"], sizes["k"]
    if b > k:
        raise ValueError(f"keys: {b} rows do not fit into a queue of {k}")
    if labels is None:
        labels = jnp.full(b, -1)
    labels = numerics.check_signed(labels, "labels")
    rows = (queue.head + jnp.arange(b)) % k
    keys = jax.lax.stop_gradient(keys)
    return dataclasses.replace(
        queue,
        keys=queue.keys.at[rows].set(
            keys.astype(queue.keys.dtype), unique_indices=True
        ),
        labels=queue.labels.at[rows].set(
            labels.astype(queue.labels.dtype), unique_indices=True
        ),
        head=(queue.head + b) % k,
        count=jnp.minimum(queue.count + b, k),
    )


def queue_filled(queue: Queue | ClassQueue) -> Bool[Array, "..."]:
    """Mask of the rows that hold pushed keys, [k] or [c, k].

    Examples:
      >>> queue = queue_init(jax.random.key(0), 3, 1)
      >>> queue_filled(queue_push(queue, jnp.array([[1.0], [2.0]])))
      Array([ True,  True, False], dtype=bool)
    """
    shape = queue.keys.shape[:-1]
    place = jax.lax.broadcasted_iota(queue.count.dtype, shape, len(shape) - 1)
    return place < queue.count[..., None]


def class_queue_init(
    rng: PRNGKeyArray, num_classes: int, size: int, dim: int, *, dtype=jnp.float32
) -> ClassQueue:
    """One queue of `size` random directions for each class.

    Args:
      rng: random key.
      num_classes: number of queues c.
      size: rows k of each.
      dim: size d of a key.
      dtype: type of the rows.

    Examples:
      >>> class_queue_init(jax.random.key(0), 5, 8, 4).keys.shape
      (5, 8, 4)
    """
    numerics.check_positive(num_classes=num_classes, size=size, dim=dim)
    return ClassQueue(
        keys=_random_directions(rng, (num_classes, size, dim), dtype),
        head=jnp.zeros(num_classes, jnp.int32),
        count=jnp.zeros(num_classes, jnp.int32),
    )


def class_queue_push(
    queue: ClassQueue, keys: Float[Array, "b d"], labels: Integer[Array, " b"]
) -> ClassQueue:
    """Pushes each key into the queue of its class, in the order of the batch.

    Of a class with more than k new keys the last k stay. A key whose label is not a
    class (below 0, or c and above) is dropped.

    Args:
      queue: the queues before.
      keys: new keys.
      labels: class of each.

    Examples:
      >>> queue = class_queue_init(jax.random.key(0), 2, 2, 1)
      >>> keys = jnp.array([[1.0], [2.0], [3.0]])
      >>> queue_filled(class_queue_push(queue, keys, jnp.array([1, 0, 1])))
      Array([[ True, False],
             [ True,  True]], dtype=bool)
    """
    sizes = numerics.check_shapes(
        queue=(queue.keys, "c k d"), keys=(keys, "b d"), labels=(labels, "b")
    )
    c, k, b = sizes["c"], sizes["k"], sizes["b"]
    labels = numerics.check_signed(labels, "labels")
    valid = (labels >= 0) & (labels < c)
    same = (labels[:, None] == labels[None, :]) & valid[:, None]
    earlier = jnp.arange(b)[None, :] < jnp.arange(b)[:, None]
    rank = jnp.sum(same & earlier, axis=-1)  # place among the keys of its class
    total = jnp.sum(same, axis=-1)
    stays = valid & (rank >= total - k)
    ring = jnp.where(stays, labels, c)  # row c does not exist: dropped
    slot = (queue.head[jnp.where(valid, labels, 0)] + rank) % k
    pushed = jnp.sum(labels[:, None] == jnp.arange(c)[None, :], axis=0)
    keys = jax.lax.stop_gradient(keys).astype(queue.keys.dtype)
    return dataclasses.replace(
        queue,
        keys=queue.keys.at[ring, slot].set(keys, mode="drop"),
        head=(queue.head + pushed.astype(jnp.int32)) % k,
        count=jnp.minimum(queue.count + pushed.astype(jnp.int32), k),
    )


def _random_directions(rng, shape, dtype):
    """Unit vectors along the last axis."""
    return similarity.l2_normalize(jax.random.normal(rng, shape)).astype(dtype)
