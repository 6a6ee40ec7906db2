"""Ring buffers against a plain list."""

import collections

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import pairs, states


def keys(start, number, dim=2):
    """Rows whose values count upwards."""
    return jnp.repeat(jnp.arange(start, start + number, dtype=float)[:, None], dim, 1)


def test_starts_with_unit_rows():
    queue = states.queue_init(jax.random.key(0), 100, 8)
    np.testing.assert_allclose(jnp.linalg.norm(queue.keys, axis=1), 1, rtol=1e-5)
    assert jnp.linalg.norm(jnp.mean(queue.keys, axis=0)) < 0.3
    assert queue.head == 0 and queue.count == 0 and jnp.all(queue.labels == -1)
    assert not jnp.any(states.queue_filled(queue))


@pytest.mark.parametrize("size, batch", [(7, 3), (4, 4)])
def test_holds_the_last_keys(transform, size, batch):
    queue = states.queue_init(jax.random.key(0), size, 2)
    push = transform(states.queue_push)
    last = collections.deque(maxlen=size)
    for step in range(5):
        queue = push(queue, keys(step * batch, batch))
        last.extend(range(step * batch, (step + 1) * batch))
        filled = states.queue_filled(queue)
        assert sorted(queue.keys[filled, 0].tolist()) == sorted(last)
        assert queue.head == (step + 1) * batch % size
        assert queue.count == len(last) == jnp.sum(filled)
    oldest_first = jnp.roll(queue.keys[:, 0], -queue.head)
    assert oldest_first.tolist() == list(last)


def test_labels_travel_with_keys():
    queue = states.queue_init(jax.random.key(0), 3, 2)
    queue = states.queue_push(queue, keys(0, 2), jnp.array([7, 8]))
    queue = states.queue_push(queue, keys(2, 2), jnp.array([9, 10]))
    assert queue.labels.tolist() == [10, 8, 9]
    assert queue.keys[:, 0].tolist() == [3, 1, 2]
    assert states.queue_push(queue, keys(4, 1)).labels.tolist() == [10, -1, 9]


def test_rows_without_a_label_are_nobodys_positive():
    queue = states.queue_push(
        states.queue_init(jax.random.key(0), 5, 1),
        keys(0, 2, dim=1),
        jnp.array([7, -1]),
    )
    same = pairs.same_label(jnp.array([7, -1]), queue.labels)
    assert same.tolist() == [[True] + [False] * 4, [False] * 5]


def test_no_gradient_and_stored_type():
    queue = states.queue_init(jax.random.key(0), 4, 2, dtype=jnp.bfloat16)
    grad = jax.grad(lambda x: jnp.sum(states.queue_push(queue, x).keys * 1.0))
    assert jnp.all(grad(keys(0, 2)) == 0)
    assert states.queue_push(queue, keys(0, 2)).keys.dtype == jnp.bfloat16


def test_vmap_over_queues():
    queues = jax.vmap(lambda k: states.queue_init(k, 4, 2))(
        jax.random.split(jax.random.key(0), 3)
    )
    batch = jnp.stack([keys(10 * i, 2) for i in range(3)])
    got = jax.vmap(states.queue_push)(queues, batch)
    assert got.keys[:, :2, 0].tolist() == [[0, 1], [10, 11], [20, 21]]


def test_wrong_input_is_named():
    queue = states.queue_init(jax.random.key(0), 3, 2)
    with pytest.raises(ValueError, match="keys: 4 rows do not fit into a queue of 3"):
        states.queue_push(queue, keys(0, 4))
    with pytest.raises(ValueError, match=r"keys: expected shape \[b, d\] with d = 2"):
        states.queue_push(queue, keys(0, 2, dim=5))
    with pytest.raises(ValueError, match="size: expected a finite number > 0, got 0"):
        states.queue_init(jax.random.key(0), 0, 2)


def test_class_queue_holds_the_last_keys_of_each_class(transform):
    num_classes, size, batch = 3, 4, 9
    rng = np.random.default_rng(0)
    queue = states.class_queue_init(jax.random.key(0), num_classes, size, 2)
    last = [collections.deque(maxlen=size) for _ in range(num_classes)]
    push = transform(states.class_queue_push)
    for step in range(4):
        # -1 and 3 are no classes; one step has more keys of a class than fit.
        labels = rng.integers(-1, num_classes + 1, batch)
        labels[:6] = 1 if step == 2 else labels[:6]
        queue = push(queue, keys(step * batch, batch), jnp.asarray(labels))
        for i, label in enumerate(labels):
            if 0 <= label < num_classes:
                last[label].append(step * batch + i)
    filled = states.queue_filled(queue)
    for label in range(num_classes):
        held = queue.keys[label, :, 0]
        assert sorted(held[filled[label]].tolist()) == sorted(last[label])
        assert queue.count[label] == len(last[label])
        if len(last[label]) == size:
            assert jnp.roll(held, -queue.head[label]).tolist() == list(last[label])


def test_class_queue_has_no_gradient():
    queue = states.class_queue_init(jax.random.key(0), 2, 3, 2)

    def value(x):
        return jnp.sum(states.class_queue_push(queue, x, jnp.array([0, 1])).keys)

    assert jnp.all(jax.grad(value)(keys(0, 2)) == 0)
