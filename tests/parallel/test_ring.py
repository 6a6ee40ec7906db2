"""Ring losses on 1 to 8 devices against the plain losses on one, in every context."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, similarity
from contrastive_jax.parallel import ring
from tests.parallel import cases

AXIS = cases.AXIS
around = functools.partial(cases.device_loss, exchange="ring", tile=cases.TILE)


@pytest.mark.parametrize(
    ("name", "devices", "group_size"),
    [
        ("two_way", 8, 2),
        ("info_nce", 8, 4),
        ("nt_xent", 3, None),
        ("sigmoid", 4, 2),
        *[
            pytest.param(*numbers, marks=pytest.mark.experiments)
            for numbers in [
                ("two_way", 1, None),
                ("nt_xent", 2, None),
                ("nt_xent", 8, 2),
            ]
        ],
    ],
)
def test_any_number_of_devices_and_groups(name, devices, group_size):
    options = dict(exchange="ring", tile=cases.TILE, group_size=group_size)
    cases.check_inside([name], "vmap", devices, **options)


@pytest.mark.parametrize("context", ["vmap", "shard_map checked"])
def test_plain_gradients_inside_follow_the_table(context):
    """Exact where axes are checked; else N times the own share, exact in the mean."""

    def f(params, batch):
        return jax.grad(functools.partial(around, "sigmoid", batch=batch))(params)

    got = jax.jit(cases.mapped(f, context))(cases.PARAMS, cases.split(8))
    want = cases.wanted("sigmoid")[1]
    cases.assert_close(jax.tree.map(lambda x: jnp.mean(x, axis=0), got), want)
    spread = np.ptp(got["scale"]) / np.abs(want["scale"])
    assert spread < 1e-4 if context == "shard_map checked" else spread > 0.1


@pytest.mark.parametrize(
    ("name", "context"),
    [*[("two_way", context) for context in cases.CONTEXTS], ("sigmoid", "vmap")],
)
def test_gradients_outside_every_context(name, context):
    run = cases.mapped(functools.partial(around, name), context)
    f = jax.value_and_grad(lambda p: jnp.mean(run(p, cases.split(8))))
    value, grads = (f if context == "pmap" else jax.jit(f))(cases.PARAMS)
    cases.assert_close((value, grads), cases.wanted(name))


@pytest.mark.parametrize("name", ["nt_xent", "sigmoid"])
def test_rows_of_their_own(name):
    run = cases.mapped(functools.partial(around, name, reduce_fn=None), "vmap", 4)
    got = jax.jit(run)(cases.PARAMS, cases.split(4))
    batch = jax.tree.map(jnp.asarray, cases.BATCH)
    want = cases.plain_loss(
        name, jax.tree.map(jnp.asarray, cases.PARAMS), batch, reduce_fn=None
    )
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
        value = ring.two_way_info_nce(a, b, axis_name=AXIS, scale=20.0)
        return value + ring.nt_xent(jnp.concatenate([a, b]), axis_name=AXIS)

    text = compiled(loss, 64, 8).as_text()
    assert "collective-permute" in text
    assert "all-gather" not in text and "all-to-all" not in text


def test_scratch_memory_is_a_small_part_of_automatic_sharding():
    """B = 131,072, D = 512 on 8 devices, without allocating anything."""

    def ours(a, b):
        return ring.two_way_info_nce(a, b, axis_name=AXIS, scale=20.0)

    def plain(a, b):
        return losses.two_way_info_nce(20.0 * similarity.dot(a, b))

    rows, width = 131_072, 512
    small = compiled(ours, rows, width).memory_analysis().temp_size_in_bytes
    large = compiled(plain, rows, width, "jit").memory_analysis().temp_size_in_bytes
    print(f"scratch per device: ring {small:,}, automatic sharding {large:,} bytes")
    assert large / small > 150


def test_bad_input_is_named():
    x = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="axis_name: no device axis 'nodes'"):
        ring.two_way_info_nce(x, x, axis_name="nodes")
    for scale in (0.0, float("nan")):
        with pytest.raises(ValueError, match="scale: expected a finite number > 0"):
            views = functools.partial(ring.nt_xent, axis_name=AXIS, scale=scale)
            jax.vmap(views, axis_name=AXIS)(jnp.ones((4, 2, 2)))
    with pytest.raises(ValueError, match="group_size: expected a divisor of the 4"):
        jax.vmap(
            lambda x: ring.nt_xent(x, axis_name=AXIS, group_size=3), axis_name=AXIS
        )(jnp.ones((4, 2, 2)))
