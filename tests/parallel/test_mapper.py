"""pmap, shard_map and jit on 8 devices give what one device gives."""

import functools
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, similarity


@chex.dataclass(frozen=True)
class State:
    """A state with parameters and an optimiser, as experiments have."""

    params: chex.ArrayTree
    opt_state: chex.ArrayTree
    rng: jax.Array


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
            b = parallel.all_gather(similarity.l2_normalize(batch["x"] @ w), axis_name)
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


@pytest.mark.parametrize("mapper", [*parallel.MAPPERS, parallel.SHARDED])
def test_one_trace_and_the_state_is_consumed(mapper):
    traces = 0

    def counting(axis_name=None):
        step = make_step(axis_name)

        def count(state, batch):
            nonlocal traces
            traces += 1
            return step(state, batch)

        return count

    step = parallel.data_parallel(counting, mapper, devices=2)
    first, _ = step(init(), BATCH)
    second, _ = step(first, BATCH)
    step(second, BATCH)
    assert traces == 1
    assert first["w"].is_deleted()


def test_bad_mapper_devices_and_batch_are_named():
    with pytest.raises(ValueError, match=r"mapper: expected one of pmap.*got 'pmpa'"):
        parallel.data_parallel(make_step, "pmpa")
    with pytest.raises(ValueError, match="devices: expected 0"):
        parallel.data_parallel(make_step, "pmap", devices=9)
    step = parallel.data_parallel(make_step, "pmap", devices=8)
    with pytest.raises(ValueError, match=r"batch\['x'\]: 5 rows do not split over 8"):
        step(init(), {"x": BATCH["x"][:5]})


WIDE = {"x": np.random.default_rng(1).normal(size=(16, 64)).astype(np.float32)}


def make_adam_step(axis_name=None):
    """Adam on a two-layer encoder."""
    tx = optax.adam(1e-2)

    def step(state, batch):
        def loss_fn(params):
            z = (
                jnp.tanh(batch["x"] @ params["in"]) @ params["out"]
                + params["bias"][None]
            )
            z = similarity.l2_normalize(z)
            other = similarity.l2_normalize(batch["x"] @ params["other"])
            scores = similarity.dot(z, parallel.all_gather(other, axis_name))
            rows = parallel.global_rows(len(z), axis_name)
            return losses.info_nce(scores / 0.1, rows)

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        updates, opt_state = tx.update(grads, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        return state.replace(params=params, opt_state=opt_state), {"loss": loss}

    return step


def wide_state():
    shapes = {"in": (64, 512), "out": (512, 32), "other": (64, 32), "bias": (32,)}
    rng = np.random.default_rng(2)
    params = {
        name: jnp.asarray(rng.normal(size=shape) / 8, jnp.float32)
        for name, shape in shapes.items()
    }
    opt_state = optax.adam(1e-2).init(params)
    return State(params=params, opt_state=opt_state, rng=jax.random.key(0))


def bytes_on_first_device(tree):
    first = jax.devices()[0]
    return sum(
        shard.data.nbytes
        for x in jax.tree.leaves(tree)
        if not jnp.issubdtype(x.dtype, jax.dtypes.prng_key)
        for shard in x.addressable_shards
        if shard.device == first
    )


def test_a_spread_state_gives_the_same_and_takes_an_eighth():
    found = {}
    for mapper in ("jit", parallel.SHARDED):
        step, state = parallel.data_parallel(make_adam_step, mapper), wide_state()
        for _ in range(3):
            state, metrics = step(state, WIDE)
        compiled = step.lower(jax.eval_shape(wide_state), WIDE).compile()
        found[mapper] = state, metrics, compiled
    (whole, want, plain), (spread, got, small) = found.values()
    np.testing.assert_allclose(got["loss"], want["loss"], rtol=1e-6)
    for a, b in zip(
        jax.tree.leaves((spread.params, spread.opt_state)),
        jax.tree.leaves((whole.params, whole.opt_state)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())
    kernel = spread.params["in"]
    assert kernel.sharding.spec == PartitionSpec(None, "data")
    assert spread.params["bias"].sharding.is_fully_replicated
    assert bytes_on_first_device(spread) < 0.13 * bytes_on_first_device(whole)
    kept = [c.memory_analysis().argument_size_in_bytes for c in (plain, small)]
    assert kept[1] < 0.14 * kept[0]
    assert "all-gather" in small.as_text()  # of the parameters, where they are used


@pytest.mark.parametrize("mapper", [*parallel.MAPPERS, parallel.SHARDED])
def test_lowering_for_devices_that_do_not_exist(mapper):
    batch = {"x": jax.ShapeDtypeStruct((512, 64), jnp.float32)}
    options = dict(state=jax.eval_shape(wide_state), batch=batch)
    lowered = parallel.lower_abstract(make_adam_step, mapper, **options, devices=256)
    text = lowered.as_text()
    assert "num_partitions = 256" in text
    kernel = re.search(r"%arg\d+: tensor<64x512xf32> \{sdy.sharding = (.*?)>[,}]", text)
    assert ('{"data"}' in kernel[1]) == (mapper == parallel.SHARDED)
    with pytest.raises(ValueError, match="512 rows do not split over 96 devices"):
        parallel.lower_abstract(make_adam_step, mapper, **options, devices=96)
