"""States stay equal copies when steps gather rows or means first."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import pairs, parallel, states


def step(state, batch, axis_name=None):
    """One update of every state from the rows of all devices."""
    x = parallel.all_gather(batch["x"], axis_name)
    labels = parallel.all_gather(batch["labels"], axis_name)
    mean = parallel.pmean(jnp.mean(batch["x"], axis=0), axis_name)
    return {
        "queue": states.queue_push(state["queue"], x, labels),
        "rings": states.class_queue_push(state["rings"], x, labels),
        "bank": states.bank_update(state["bank"], labels, x, decay=0.5),
        "prototypes": states.prototypes_update(
            state["prototypes"], x, pairs.one_column(labels, 3), decay=0.9
        ),
        "center": states.center_update(state["center"], mean, decay=0.9),
        "moments": states.moments_update(
            state["moments"], states.batch_moments(x), decay=0.9
        ),
    }


def test_eight_devices_equal_one():
    rng = jax.random.key(0)
    state = {
        "queue": states.queue_init(rng, 21, 4),
        "rings": states.class_queue_init(rng, 3, 4, 4),
        "bank": states.bank_init(rng, 5, 4),
        "prototypes": states.prototypes_init(rng, 3, 4),
        "center": states.center_init(4),
        "moments": states.moments_init(4),
    }
    batch = {
        "x": jax.random.normal(jax.random.key(1), (16, 4)),
        "labels": jax.random.randint(jax.random.key(2), (16,), 0, 3),
    }
    want = jax.jit(step)(state, batch)
    split = jax.tree.map(lambda x: x.reshape(8, 2, *x.shape[1:]), batch)
    mapped = functools.partial(step, axis_name="batch")
    got = jax.pmap(mapped, "batch", in_axes=(None, 0), out_axes=0)(state, split)
    for device in range(8):  # every copy, not only the first
        jax.tree.map(
            lambda a, b, device=device: np.testing.assert_allclose(
                a[device], b, rtol=1e-5, atol=1e-6
            ),
            got,
            want,
        )
