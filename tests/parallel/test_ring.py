"""Ring losses on 1 to 8 devices against the plain losses on one, in every context."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, similarity

AXIS = "data"
ROWS, D, TILE = 48, 4, 4  # 6 rows per device on 8: two tiles, the second one ragged
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, ROWS, D)).astype(np.float32)
HARD = RNG.normal(size=(ROWS, D)).astype(np.float32)
QUEUE = RNG.normal(size=(7, D)).astype(np.float32)
BATCH = {
    "x": X,
    "y": Y,
    "hard": HARD,
    "label": RNG.integers(0, 5, size=ROWS),
    "where": RNG.random(ROWS) < 0.8,
    "weights": RNG.random(ROWS).astype(np.float32),
}
PARAMS = {
    "w": RNG.normal(size=(D, D)).astype(np.float32),
    "scale": np.float32(0.7),
    "bias": np.float32(-0.3),
}
TABLE = RNG.normal(size=(5, 5)).astype(np.float32)  # log weights by class and class
CONTEXTS = ["pmap", "vmap", "shard_map", "shard_map checked"]


def encode(params, batch):
    return jnp.tanh(batch["x"] @ params["w"]), jnp.tanh(batch["y"] @ params["w"])


# Each loss on the local rows, and the plain loss on all rows of all devices.


def ring_loss(name, params, batch, reduce_fn=jnp.mean, **options):
    a, b = encode(params, batch)
    options = dict(
        scale=params["scale"], reduce_fn=reduce_fn, tile=TILE, axis_name=AXIS, **options
    )
    where, weights, label = batch["where"], batch["weights"], batch["label"]
    table = jnp.asarray(TABLE)
    if name == "info_nce":
        b = jnp.concatenate([b, batch["hard"]])
        options["log_weights"] = (label, jnp.concatenate([label, label]), table)
        extra = jnp.asarray(QUEUE)
        return parallel.ring_info_nce(
            a, b, where=where, weights=weights, extra=extra, **options
        )
    if name == "two_way":
        return parallel.ring_two_way_info_nce(
            a, b, where=where, weights=weights, exclude=label, **options
        )
    if name == "nt_xent":
        twice = jnp.concatenate([where, where]), jnp.concatenate([weights, weights])
        options["log_weights"] = (jnp.concatenate([label, label]), table)
        return parallel.ring_nt_xent(
            jnp.concatenate([a, b]), where=twice[0], weights=twice[1], **options
        )
    if name in ("out", "in"):
        return parallel.ring_supervised_contrastive(
            a, label, where=where, weights=weights, form=name, **options
        )
    return parallel.ring_sigmoid(
        a, b, where=where, weights=weights, bias=params["bias"], **options
    )


def plain_loss(name, params, batch, reduce_fn=jnp.mean):
    a, b = encode(params, batch)
    where, weights, label = batch["where"], batch["weights"], batch["label"]
    options = dict(weights=weights, reduce_fn=reduce_fn)
    n = len(a)
    eye, table = jnp.eye(n, dtype=bool), jnp.asarray(TABLE)
    both = where[:, None] & where[None, :]
    if name == "info_nce":
        b = jnp.concatenate([b, batch["hard"], jnp.asarray(QUEUE)])
        rows = where[:, None] & jnp.ones((1, len(b)), bool)
        logits = similarity.dot(a, b) * params["scale"]
        extra = table[label][:, jnp.concatenate([label, label])]
        extra = jnp.pad(extra, [(0, 0), (0, len(QUEUE))])
        return losses.info_nce(logits, where=rows, log_weights=extra, **options)
    if name == "two_way":
        kept = both & (eye | (label[:, None] != label[None, :]))
        logits = similarity.dot(a, b) * params["scale"]
        return losses.two_way_info_nce(logits, where=kept, **options)
    if name == "nt_xent":
        x = jnp.concatenate([a, b])
        options["weights"] = jnp.concatenate([weights, weights])
        logits = similarity.dot(x, x) * params["scale"]
        extra = jnp.tile(table[label][:, label], (2, 2))
        other = jnp.eye(2 * n, dtype=bool) ^ jnp.tile(eye, (2, 2))
        logits = logits + jnp.where(other, 0, extra)
        return losses.nt_xent(logits, where=jnp.tile(both, (2, 2)), **options)
    if name in ("out", "in"):
        logits = similarity.dot(a, a) * params["scale"]
        same = label[:, None] == label[None, :]
        return losses.supervised_contrastive(
            logits, same, where=both & ~eye, form=name, **options
        )
    logits = similarity.dot(a, b) * params["scale"] + params["bias"]
    rows = where[:, None] & jnp.ones((1, n), bool)
    return losses.pairwise_sigmoid(logits, where=rows, **options)


@functools.cache
def wanted(name):
    batch = jax.tree.map(jnp.asarray, BATCH)
    f = functools.partial(plain_loss, name)
    return jax.jit(jax.value_and_grad(f))(jax.tree.map(jnp.asarray, PARAMS), batch)


def split(devices):
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), BATCH)


def mapped(f, context, devices=8):
    """f(params, local batch) over devices; every device's result, stacked."""
    if context == "pmap":
        return jax.pmap(f, AXIS, in_axes=(None, 0), devices=jax.devices()[:devices])
    if context == "vmap":
        # Jitted by the callers: a rule with collectives must be differentiated before.
        return jax.vmap(f, in_axes=(None, 0), axis_name=AXIS)
    one = PartitionSpec(AXIS)

    def local(params, batch):
        out = f(params, jax.tree.map(lambda x: x[0], batch))
        return jax.tree.map(lambda x: x[None], out)

    return jax.shard_map(
        local,
        mesh=parallel.make_mesh(jax.devices()[:devices]),
        in_specs=(PartitionSpec(), one),
        out_specs=one,
        check_vma=context == "shard_map checked",
    )


def assert_close(got, want):
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5 * (1e-2 + np.abs(y).max()))


def check_inside(name, context, devices=8, **options):
    """Loss and gradients through `parallel.value_and_grad`, on every device."""

    def f(params, batch):
        loss = functools.partial(ring_loss, name, batch=batch, **options)
        return parallel.value_and_grad(loss, AXIS)(params)

    run = mapped(f, context, devices)
    got = (run if context == "pmap" else jax.jit(run))(PARAMS, split(devices))
    for device in range(devices):
        assert_close(jax.tree.map(lambda x, i=device: x[i], got), wanted(name))


@pytest.mark.parametrize("context", CONTEXTS)
def test_gradients_inside_every_context(context):
    check_inside("two_way", context)


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("info_nce", "shard_map checked"),
        ("nt_xent", "pmap"),
        ("in", "shard_map checked"),
        ("out", "shard_map"),
        ("sigmoid", "shard_map checked"),
    ],
)
def test_gradients_inside_every_loss(name, context):
    check_inside(name, context)


@pytest.mark.parametrize(
    ("name", "devices", "group_size"),
    [
        ("two_way", 1, None),
        ("two_way", 8, 2),
        ("info_nce", 8, 4),
        ("nt_xent", 2, None),
        ("nt_xent", 3, None),
        ("nt_xent", 8, 2),
        ("sigmoid", 4, 2),
    ],
)
def test_any_number_of_devices_and_groups(name, devices, group_size):
    check_inside(name, "vmap", devices, group_size=group_size)


@pytest.mark.parametrize("context", ["vmap", "shard_map checked"])
def test_plain_gradients_inside_follow_the_table(context):
    """Exact where axes are checked; else N times the own share, exact in the mean."""

    def f(params, batch):
        return jax.grad(functools.partial(ring_loss, "sigmoid", batch=batch))(params)

    got = jax.jit(mapped(f, context))(PARAMS, split(8))
    want = wanted("sigmoid")[1]
    assert_close(jax.tree.map(lambda x: jnp.mean(x, axis=0), got), want)
    spread = np.ptp(got["scale"]) / np.abs(want["scale"])
    assert spread < 1e-4 if context == "shard_map checked" else spread > 0.1


@pytest.mark.parametrize(
    ("name", "context"),
    [*[("two_way", context) for context in CONTEXTS], ("sigmoid", "vmap")],
)
def test_gradients_outside_every_context(name, context):
    run = mapped(functools.partial(ring_loss, name), context)
    f = jax.value_and_grad(lambda p: jnp.mean(run(p, split(8))))
    value, grads = (f if context == "pmap" else jax.jit(f))(PARAMS)
    assert_close((value, grads), wanted(name))


@pytest.mark.parametrize("name", ["nt_xent", "sigmoid"])
def test_rows_of_their_own(name):
    run = mapped(functools.partial(ring_loss, name, reduce_fn=None), "vmap", 4)
    got = jax.jit(run)(PARAMS, split(4))
    batch = jax.tree.map(jnp.asarray, BATCH)
    want = plain_loss(name, jax.tree.map(jnp.asarray, PARAMS), batch, reduce_fn=None)
    if name == "nt_xent":  # two views per device, against two views of all
        got = np.swapaxes(got.reshape(4, 2, -1), 0, 1)
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-5, atol=1e-5)


def compiled(loss, rows, width, context="shard_map"):
    """The program of loss and gradient at 8 devices; nothing is allocated."""
    mesh = parallel.make_mesh(jax.devices())
    spec = PartitionSpec(AXIS)
    x = jax.ShapeDtypeStruct(
        (rows, width), jnp.float32, sharding=jax.NamedSharding(mesh, spec)
    )
    f = jax.value_and_grad(loss, (0, 1))
    if context == "shard_map":
        grads = (PartitionSpec(), (spec, spec))
        f = jax.shard_map(f, mesh=mesh, in_specs=spec, out_specs=grads)
    return jax.jit(f).lower(x, x).compile()


def test_the_program_gathers_nothing():
    def loss(a, b):
        value = parallel.ring_two_way_info_nce(a, b, AXIS, scale=20.0)
        return value + parallel.ring_nt_xent(jnp.concatenate([a, b]), AXIS)

    text = compiled(loss, 64, 8).as_text()
    assert "collective-permute" in text
    assert "all-gather" not in text and "all-to-all" not in text


def test_scratch_memory_is_a_small_part_of_automatic_sharding():
    """B = 131,072, D = 512 on 8 devices, without allocating anything."""

    def ring(a, b):
        return parallel.ring_two_way_info_nce(a, b, AXIS, scale=20.0)

    def plain(a, b):
        return losses.two_way_info_nce(20.0 * similarity.dot(a, b))

    rows, width = 131_072, 512
    small = compiled(ring, rows, width).memory_analysis().temp_size_in_bytes
    large = compiled(plain, rows, width, "jit").memory_analysis().temp_size_in_bytes
    print(f"scratch per device: ring {small:,}, automatic sharding {large:,} bytes")
    assert large / small > 150


def test_choice_of_the_exchange_and_bad_input():
    # 131,072 x 1,024 x (2 + 4) bytes = 0.8 GB, against 5 % of 80 and of 8 GB.
    assert parallel.choose_exchange(131_072, 1024, 64, 80e9) == "gather"
    assert parallel.choose_exchange(131_072, 1024, 64, 8e9) == "ring"
    assert parallel.choose_exchange(131_072, 1024, 1, 8e9) == "gather"
    with pytest.raises(ValueError, match="do not split over 7"):
        parallel.choose_exchange(64, 8, 7, 1e9)
    x = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="axis_name: no device axis 'nodes'"):
        parallel.ring_two_way_info_nce(x, x, "nodes")
    for scale in (0.0, float("nan")):
        with pytest.raises(ValueError, match="scale: expected a finite number > 0"):
            ring = functools.partial(parallel.ring_nt_xent, axis_name=AXIS, scale=scale)
            jax.vmap(ring, axis_name=AXIS)(jnp.ones((4, 2, 2)))
    with pytest.raises(ValueError, match="group_size: expected a divisor of the 4"):
        jax.vmap(
            lambda x: parallel.ring_nt_xent(x, AXIS, group_size=3), axis_name=AXIS
        )(jnp.ones((4, 2, 2)))
