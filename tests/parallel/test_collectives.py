"""Collectives under pmap, shard_map and vmap against the plain operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import parallel

ROWS = np.random.default_rng(0).normal(size=(16, 3)).astype(np.float32)


def over_devices(f, name, x):
    """Runs f(local rows) on 8 devices under the named transformation."""
    split = x.reshape(8, -1, *x.shape[1:])
    if name == "pmap":
        return jax.pmap(f, "data")(split)
    if name == "vmap":
        return jax.vmap(f, axis_name="data")(split)
    mesh = parallel.make_mesh(jax.devices())
    spec = PartitionSpec("data")
    mapped = jax.shard_map(
        lambda x: jax.tree.map(lambda a: a[None], f(x)),
        mesh=mesh,
        in_specs=spec,
        out_specs=spec,
        check_vma=name == "shard_map checked",
    )
    return jax.jit(mapped)(x)


CONTEXTS = ["pmap", "vmap", "shard_map", "shard_map checked"]


@pytest.mark.parametrize("context", CONTEXTS)
def test_gather_mean_sum_rows(context):
    def f(x):
        return {
            "all": parallel.all_gather(x, "data"),
            "mean": parallel.pmean(jnp.mean(x), "data"),
            "sum": parallel.psum(jnp.sum(x), "data"),
            "rows": parallel.global_rows(2, "data"),
            "lme": parallel.log_mean_exp(50 * x[:, 0], "data"),
        }

    got = over_devices(f, context, ROWS)
    for device in range(8):
        np.testing.assert_array_equal(got["all"][device], ROWS)
        np.testing.assert_allclose(got["mean"][device], ROWS.mean(), rtol=1e-5)
        np.testing.assert_allclose(got["sum"][device], ROWS.sum(), rtol=1e-5)
        np.testing.assert_array_equal(got["rows"][device], [2 * device, 2 * device + 1])
        np.testing.assert_allclose(
            got["lme"][device], parallel.log_mean_exp(jnp.array(50 * ROWS[:, 0])), 1e-5
        )


def test_log_mean_exp_closed_form():
    got = parallel.log_mean_exp(jnp.log(jnp.array([1.0, 2.0, 3.0])) + 500)
    np.testing.assert_allclose(got, 500 + np.log(2.0), rtol=1e-6)


@pytest.mark.parametrize("context", CONTEXTS)
def test_value_and_grad_equals_the_whole_batch(context):
    """Gathered negatives: the gradient is neither 8 times nor 1/8 of the true one."""
    w = jnp.eye(3) + 0.1

    def loss(w, x, axis_name):
        own = x @ w
        scores = own @ parallel.all_gather(own, axis_name).T
        return jnp.mean(jax.nn.logsumexp(scores, axis=-1))

    want, want_grad = jax.value_and_grad(lambda w: loss(w, jnp.asarray(ROWS), None))(w)
    f = parallel.value_and_grad(lambda w, x: loss(w, x, "data"), "data")
    got, got_grad = over_devices(lambda x: f(w, x), context, ROWS)
    for device in range(8):
        np.testing.assert_allclose(got[device], want, rtol=1e-5)
        np.testing.assert_allclose(got_grad[device], want_grad, rtol=1e-5, atol=1e-6)


def test_example_keys_do_not_depend_on_the_split():
    rng, step = jax.random.key(3), jnp.array(5)
    whole = jax.random.key_data(parallel.example_keys(rng, step, 16, None))

    def f(x):
        keys = parallel.example_keys(rng, step, x.shape[0], "data")
        return jax.random.key_data(keys)

    split = over_devices(f, "pmap", ROWS).reshape(whole.shape)
    np.testing.assert_array_equal(split, whole)
    assert len(np.unique(whole, axis=0)) == 16
    later = jax.random.key_data(parallel.example_keys(rng, step + 1, 16, None))
    assert not np.array_equal(whole, later)


def test_without_an_axis_everything_is_plain():
    x = jnp.asarray(ROWS)
    assert parallel.all_gather(x, None) is x
    assert parallel.pmean(x, None) is x
    assert parallel.axis_size(None) == 1
