"""Losses that pick how rows meet: all ways give the plain loss and its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, parallel, similarity

RNG = np.random.default_rng(0)
A, B = jnp.asarray(RNG.normal(size=(2, 32, 6)), jnp.float32)
PARAMS = {
    "w": jnp.asarray(RNG.normal(size=(6, 4)), jnp.float32),
    "scale": jnp.array(2.0),
}
LOSSES = {
    "clip": (parallel.two_way_info_nce, losses.two_way_info_nce, {}),
    "siglip": (parallel.sigmoid, losses.pairwise_sigmoid, {"bias": -1.0}),
}


def plain(name, params):
    _, loss, extra = LOSSES[name]
    logits = similarity.dot(A @ params["w"], B @ params["w"]) * params["scale"]
    return loss(logits + extra.get("bias", 0.0))


def ours(name, axis_name, exchange, params, a, b):
    loss, _, extra = LOSSES[name]
    options = dict(scale=params["scale"], exchange=exchange, **extra)
    return loss(a @ params["w"], b @ params["w"], axis_name, **options)


def assert_same(got, want):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, rtol=2e-5, atol=2e-5 * np.abs(y).max())


@pytest.mark.parametrize("name", LOSSES)
def test_without_devices(name):
    want = jax.value_and_grad(functools.partial(plain, name))(PARAMS)
    f = functools.partial(ours, name, None, "auto")
    assert_same(jax.value_and_grad(f)(PARAMS, A, B), want)


@pytest.mark.parametrize("exchange", ["gather", "ring"])
@pytest.mark.parametrize("name", LOSSES)
def test_over_devices(name, exchange):
    want = jax.value_and_grad(functools.partial(plain, name))(PARAMS)
    f = functools.partial(ours, name, "data", exchange)
    run = jax.pmap(parallel.value_and_grad(f, "data"), "data", in_axes=(None, 0, 0))
    split = (x.reshape(8, -1, 6) for x in (A, B))
    got = run(PARAMS, *split)
    assert_same(jax.tree.map(lambda x: x[5], got), want)


@pytest.mark.parametrize("memory, collective", [(16e9, "all-gather"), (1e4, "permute")])
def test_memory_decides(memory, collective):
    def loss(a, b):
        return parallel.two_way_info_nce(a, b, "data", memory=memory)

    shape = jax.ShapeDtypeStruct((8, 4, 6), jnp.float32)
    text = jax.pmap(loss, "data").lower(shape, shape).compile().as_text()
    assert collective in text
    assert ("permute" in text) == (collective == "permute")


def test_an_unknown_exchange_is_named():
    with pytest.raises((ValueError, TypeError), match="exchange"):
        parallel.two_way_info_nce(A, B, None, exchange="rign")
