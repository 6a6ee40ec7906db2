"""Chunked encoding against the whole batch: gradients, dropout, devices, memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, similarity
from contrastive_jax.parallel import tiled

ROWS, D = 32, 6
RNG = np.random.default_rng(0)
PARAMS = {
    "image": {
        "in": jnp.asarray(RNG.normal(size=(D, 16)), jnp.float32),
        "out": jnp.asarray(RNG.normal(size=(16, 4)), jnp.float32),
    },
    "text": jnp.asarray(RNG.normal(size=(9, 4)), jnp.float32),
    "scale": jnp.float32(1.3),
}
INPUTS = {
    "image": jnp.asarray(RNG.normal(size=(ROWS, D)), jnp.float32),
    "text": {
        "tokens": jnp.asarray(RNG.integers(0, 9, size=(ROWS, 5))),
        "keys": jax.random.split(jax.random.key(1), ROWS),
    },
}


def image(params, x):
    return jnp.tanh(x @ params["image"]["in"]) @ params["image"]["out"]


def text(params, inputs):
    """Mean of token embeddings with dropout, one key per example."""
    x = jnp.mean(params["text"][inputs["tokens"]], axis=1)
    kept = jax.vmap(lambda k: jax.random.bernoulli(k, 0.7, (4,)))(inputs["keys"])
    return jnp.where(kept, x, 0)


TOWERS = {"image": image, "text": text}


def clip(params, embeddings):
    return tiled.two_way_info_nce(
        embeddings["image"],
        embeddings["text"],
        scale=params["scale"],
        tile=8,
        mode="tiled",
    )


def plain_clip(params, inputs):
    """The loss of the whole batch, without chunks, tiles or devices."""
    logits = similarity.dot(
        image(params, inputs["image"]), text(params, inputs["text"])
    )
    return losses.two_way_info_nce(logits * params["scale"])


def assert_close(got, want, tolerance=1e-6):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, atol=tolerance * (1 + np.abs(y).max()))


@functools.cache
def wanted():
    return jax.jit(jax.value_and_grad(plain_clip))(PARAMS, INPUTS)


@pytest.mark.parametrize("chunk", [1, 8, ROWS])
def test_two_towers_with_dropout_equal_the_whole_batch(chunk):
    run = parallel.cached_value_and_grad(TOWERS, clip, None, chunk=chunk)
    assert_close(jax.jit(run)(PARAMS, INPUTS), wanted())


def test_one_tower_shared_by_two_views():
    def loss(params, z):
        return losses.two_way_info_nce(similarity.dot(z["a"], z["b"]))

    def whole(params, inputs):
        return loss(params, {name: image(params, x) for name, x in inputs.items()})

    inputs = {"a": INPUTS["image"], "b": INPUTS["image"][::-1] + 0.1}
    run = parallel.cached_value_and_grad({"a": image, "b": image}, loss, None, chunk=4)
    want = jax.value_and_grad(whole)(PARAMS, inputs)
    assert_close(jax.jit(run)(PARAMS, inputs), want)


def test_one_function_any_pytree_of_embeddings_and_aux():
    def encode(params, x):
        z = image(params, x)
        return {"pooled": z, "square": z**2}

    def loss(params, z):
        return parallel.nt_xent(z["pooled"]) + jnp.mean(z["square"]), {
            "n": jnp.array(3.0)
        }

    def whole(params, x):
        return loss(params, encode(params, x))

    run = parallel.cached_value_and_grad(encode, loss, None, chunk=8, has_aux=True)
    want = jax.value_and_grad(whole, has_aux=True)(PARAMS, INPUTS["image"])
    assert_close(jax.jit(run)(PARAMS, INPUTS["image"]), want)


@pytest.mark.parametrize("exchange", ["tiles", "ring"])
@pytest.mark.parametrize(
    "context",
    [
        "pmap",
        *[
            pytest.param(c, marks=pytest.mark.experiments)
            for c in ("vmap", "shard_map", "shard_map checked")
        ],
    ],
)
def test_many_devices_equal_one(context, exchange):
    def loss(params, z):
        options = dict(scale=params["scale"], tile=4, exchange=exchange)
        return parallel.two_way_info_nce(
            z["image"], z["text"], axis_name="data", **options
        )

    run = parallel.cached_value_and_grad(TOWERS, loss, "data", chunk=2)
    split = jax.tree.map(lambda x: x.reshape(8, -1, *x.shape[1:]), INPUTS)
    if context == "pmap":
        got = jax.pmap(run, "data", in_axes=(None, 0))(PARAMS, split)
    elif context == "vmap":
        mapped = jax.vmap(run, in_axes=(None, 0), axis_name="data")
        got = jax.jit(mapped)(PARAMS, split)
    else:
        spec = PartitionSpec("data")
        mapped = jax.shard_map(
            lambda p, x: jax.tree.map(lambda a: a[None], run(p, x)),
            mesh=parallel.make_mesh(jax.devices()),
            in_specs=(PartitionSpec(), spec),
            out_specs=spec,
            check_vma=context == "shard_map checked",
        )
        got = jax.jit(mapped)(PARAMS, INPUTS)
    for device in range(8):
        assert_close(jax.tree.map(lambda x, i=device: x[i], got), wanted(), 2e-6)


def test_a_key_per_chunk_is_replayed():
    """Both passes must see one key, or the gradient belongs to no function."""

    def encode(params, x, key):
        return x * jax.random.bernoulli(key, 0.5, x.shape) @ params

    def loss(params, z):
        return jnp.sum(z**3)

    run = jax.jit(parallel.cached_value_and_grad(encode, loss, None, chunk=8))
    rng, w = jax.random.key(5), PARAMS["image"]["in"]
    value, grad = run(w, INPUTS["image"], rng)
    step = 1e-3 * grad / jnp.linalg.norm(grad)
    slope = (run(w + step, INPUTS["image"], rng)[0] - value) / 1e-3
    np.testing.assert_allclose(slope, jnp.linalg.norm(grad), rtol=1e-2)
    other = run(w, INPUTS["image"], jax.random.key(6))[0]
    assert abs(other - value) > 1e-3 * abs(value)


def test_scratch_memory_follows_the_chunk_not_the_batch():
    """Compiled only. Activations of 4,096 examples would take 8 x 4 MiB."""

    def encode(params, x):
        for w in params:
            x = jnp.tanh(x @ w)
        return x

    def loss(params, z):
        return jnp.mean(z**2)

    def scratch(f):
        shape = jax.ShapeDtypeStruct
        params = [shape((256, 256), jnp.float32)] * 8
        x = shape((4096, 256), jnp.float32)
        return jax.jit(f).lower(params, x).compile().memory_analysis()

    whole = jax.value_and_grad(lambda p, x: loss(p, encode(p, x)))
    chunks = parallel.cached_value_and_grad(encode, loss, None, chunk=64)
    large = scratch(whole).temp_size_in_bytes
    assert large > 28 * 2**20
    # What remains: embeddings and their gradient (4 MiB each), two sets of parameters.
    assert scratch(chunks).temp_size_in_bytes < 14 * 2**20


def test_bad_encoders_are_named():
    x = INPUTS["image"]

    def normalised(params, x):
        return (x - x.mean(0, keepdims=True)) @ params

    def stateful(params, x):
        return x @ params, {"batch_stats": x.mean(0)}

    w = PARAMS["image"]["in"]
    parallel.check_encoders(lambda w, x: x @ w, w, x)
    with pytest.raises(ValueError, match=r"encode_fns\['key'\]: an embedding depends"):
        fns = {"query": lambda w, x: x @ w, "key": normalised}
        parallel.check_encoders(fns, w, {"query": x, "key": x})

    def run(encode, x=x, chunk=4):
        return parallel.cached_value_and_grad(
            encode, lambda p, z: jnp.sum(z), None, chunk=chunk
        )(w, x)

    with pytest.raises(ValueError, match=r"encode_fns\['encode'\].*batch statistics"):
        run(stateful)
    with pytest.raises(
        ValueError, match=r"encode_fns\['encode'\].*one row per example"
    ):
        run(lambda w, x: jnp.mean(x @ w, axis=0))
    with pytest.raises(ValueError, match="does not split into chunks of 5"):
        run(lambda w, x: x @ w, chunk=5)
    with pytest.raises(ValueError, match="chunk: expected at least 1"):
        run(lambda w, x: x @ w, chunk=0)
    with pytest.raises(
        ValueError, match=r"inputs: expected a dict of \['image', 'text'"
    ):
        parallel.cached_value_and_grad(TOWERS, clip, None, chunk=4)(PARAMS, x)


def test_under_jit_every_device_encodes_its_share_of_each_chunk():
    """Compiled only: operations per device fall with their number, nothing gathered."""

    def encode(params, x):
        return jnp.tanh(x @ params) @ params.T

    def loss(params, z):
        return jnp.mean(z**2)

    run = parallel.cached_value_and_grad(encode, loss, None, chunk=64)

    def compiled(devices):
        mesh = parallel.make_mesh(jax.devices()[:devices])
        spec = (PartitionSpec(), PartitionSpec("data"))
        shardings = [jax.sharding.NamedSharding(mesh, s) for s in spec]
        shapes = jnp.zeros((64, 64)), jnp.zeros((1024, 64))
        return jax.jit(run, in_shardings=shardings).lower(*shapes).compile()

    one, eight = compiled(1), compiled(8)
    flops = [c.cost_analysis()["flops"] for c in (one, eight)]
    assert 7 < flops[0] / flops[1] < 9
    assert "all-gather" not in eight.as_text()
