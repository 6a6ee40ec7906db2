"""pmap, shard_map and jit on 8 devices give what one device gives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, parallel, similarity

BATCH = {"x": np.random.default_rng(0).normal(size=(16, 6)).astype(np.float32)}


def make_step(axis_name=None):
    """SGD on InfoNCE between rows and their noisy copies, negatives of all devices."""

    def step(state, batch):
        rows = parallel.global_rows(batch["x"].shape[0], axis_name)
        keys = parallel.example_keys(
            state["rng"], state["step"], batch["x"].shape[0], axis_name
        )
        noisy = batch["x"] + 0.1 * jax.vmap(lambda k: jax.random.normal(k, (6,)))(keys)

        def loss_fn(w):
            a = similarity.l2_normalize(noisy @ w)
            b = parallel.gather(similarity.l2_normalize(batch["x"] @ w), axis_name)
            return losses.info_nce(similarity.dot(a, b) / 0.1, rows)

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state["w"])
        new = {**state, "w": state["w"] - 0.5 * grads, "step": state["step"] + 1}
        return new, {"loss": loss}

    return step


def init():
    return {"w": jnp.eye(6)[:, :4], "rng": jax.random.key(1), "step": jnp.array(0)}


@functools.cache
def three_steps(mapper, devices):
    step, state = parallel.data_parallel(make_step, mapper, devices=devices), init()
    for _ in range(3):
        state, metrics = step(state, BATCH)
    return np.asarray(state["w"]), float(metrics["loss"])


@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("mapper", parallel.MAPPERS)
def test_many_devices_equal_one(mapper, devices):
    want_w, want_loss = three_steps("jit", 1)
    got_w, got_loss = three_steps(mapper, devices)
    assert np.abs(want_w - np.asarray(init()["w"])).max() > 0.01  # the steps move
    np.testing.assert_allclose(got_loss, want_loss, rtol=1e-5)
    np.testing.assert_allclose(got_w, want_w, atol=1e-5 * np.abs(want_w).max())


def test_the_state_is_consumed():
    state = init()
    parallel.data_parallel(make_step, "pmap", devices=2)(state, BATCH)
    assert state["w"].is_deleted()


def test_bad_mapper_devices_and_batch_are_named():
    with pytest.raises(ValueError, match=r"mapper: expected one of pmap.*got 'pmpa'"):
        parallel.data_parallel(make_step, "pmpa")
    with pytest.raises(ValueError, match="devices: expected 0"):
        parallel.data_parallel(make_step, "pmap", devices=9)
    step = parallel.data_parallel(make_step, "pmap", devices=8)
    with pytest.raises(ValueError, match=r"batch\['x'\]: 5 rows do not split over 8"):
        step(init(), {"x": BATCH["x"][:5]})
