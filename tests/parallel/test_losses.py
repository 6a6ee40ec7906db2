"""Every public loss: all exchanges give the plain loss and its gradients, everywhere.

The rows that count, their weights and their positives are spread unevenly over devices.
"""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, parallel, similarity
from contrastive_jax.parallel import sums
from tests.parallel import cases

FUNCTIONS = {
    "info_nce": parallel.info_nce,
    "two_way_info_nce": parallel.two_way_info_nce,
    "nt_xent": parallel.nt_xent,
    "supervised_contrastive": parallel.supervised_contrastive,
    "pairwise_sigmoid": parallel.pairwise_sigmoid,
}


def test_each_has_the_name_of_its_plain_loss():
    assert set(FUNCTIONS) <= set(losses.__all__) & set(parallel.__all__)


def test_a_mean_over_devices_of_means_would_be_another_loss():
    """What the tests below could not see otherwise."""

    names = cases.NAMES + cases.VARIANTS

    @jax.jit
    @jax.vmap
    def local(rows):
        return {name: cases.plain_loss(name, cases.PARAMS, rows) for name in names}

    for name, values in local(cases.split(8)).items():
        value = cases.wanted(name)[0]
        assert abs(jnp.mean(values) - value) > 1e-2 * value
    same = cases.BATCH["class"][:, None] == cases.BATCH["class"][None, :]
    same &= cases.BATCH["segment"][:, None] == cases.BATCH["segment"][None, :]
    with_positive = (same.sum(1) > 1).reshape(8, -1).sum(1)
    assert len(set(with_positive)) > 1


# pmap in every session (shard_map in the tests below), the others with --experiments.
EXCHANGES = [
    pytest.param(
        context,
        exchange,
        marks=() if context == "pmap" else pytest.mark.experiments,
    )
    for context in cases.CONTEXTS
    for exchange in ("dense", "tiles", "ring")
]


@pytest.mark.parametrize(("context", "exchange"), EXCHANGES)
def test_devices_equal_one(context, exchange, monkeypatch):
    monkeypatch.setattr(sums, "KEPT_SCORES", 0)  # tiles at this size already
    tile = None if exchange == "dense" else cases.TILE
    cases.check_inside(cases.NAMES, context, exchange=exchange, tile=tile)


@pytest.mark.parametrize("exchange", ["dense", "tiles", "ring"])
def test_queues_and_the_other_form(exchange, monkeypatch):
    monkeypatch.setattr(sums, "KEPT_SCORES", 0)
    cases.check_inside(cases.VARIANTS, "shard_map checked", exchange=exchange)


def test_devices_equal_one_where_the_matrix_is_kept():
    names = cases.NAMES + cases.VARIANTS
    cases.check_inside(names, "shard_map checked", exchange="tiles")


@pytest.mark.parametrize("exchange", ["auto", "dense"])
def test_without_devices(exchange):
    batch, params = (jax.tree.map(jnp.asarray, x) for x in (cases.BATCH, cases.PARAMS))

    @jax.jit
    def run(params):
        return {
            name: jax.value_and_grad(
                functools.partial(
                    cases.device_loss,
                    name,
                    batch=batch,
                    axis_name=None,
                    exchange=exchange,
                )
            )(params)
            for name in cases.NAMES + cases.VARIANTS
        }

    got = run(params)
    for name in cases.NAMES + cases.VARIANTS:
        cases.assert_close(got[name], cases.wanted(name))


@pytest.mark.parametrize("exchange", ["dense", "tiles", "ring"])
def test_a_loss_per_row_and_their_sum(exchange):
    """Rows of all devices in order; the sum is that of all devices."""

    def f(params, batch):
        run = functools.partial(
            cases.device_loss, "sigmoid", params, batch, exchange=exchange
        )
        return run(reduce_fn=None), run(reduce_fn=jnp.sum)

    got, total = jax.jit(cases.mapped(f, "vmap"))(cases.PARAMS, cases.split(8))
    batch, params = (jax.tree.map(jnp.asarray, x) for x in (cases.BATCH, cases.PARAMS))
    want = cases.plain_loss("sigmoid", params, batch, reduce_fn=None)
    np.testing.assert_allclose(got.ravel(), want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(total, jnp.sum(want), rtol=1e-5)


def test_labels_point_at_rows_of_the_own_device():
    labels = jnp.array([[1, 0, 2], [2, 1, 0]])
    a, b = (jnp.asarray(x[:6].reshape(2, 3, -1)) for x in (cases.X, cases.Y))

    def run(exchange):
        f = functools.partial(parallel.info_nce, axis_name="data", exchange=exchange)
        return jax.jit(jax.vmap(f, axis_name="data"))(a, b, labels)

    logits = similarity.dot(a.reshape(6, -1), b.reshape(6, -1))
    want = losses.info_nce(logits, jnp.array([1, 0, 2, 5, 4, 3]))
    for exchange in ("dense", "tiles", "ring"):
        np.testing.assert_allclose(run(exchange), [want] * 2, rtol=1e-5)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_temperature_divides_and_a_scale_multiplies(name):
    loss = functools.partial(FUNCTIONS[name], exchange="dense")
    x = jnp.asarray(cases.X[:6])
    args = {
        "nt_xent": (x,),
        "supervised_contrastive": (x, jnp.array([0, 0, 0, 1, 1, 1])),
    }.get(name, (x, jnp.asarray(cases.Y[:6])))
    plain, cold = loss(*args), loss(*args, temperature=0.5)
    np.testing.assert_allclose(cold, loss(*args, scale=2.0), rtol=1e-6)
    np.testing.assert_allclose(plain, loss(*args, scale=1.0), rtol=1e-6)
    assert abs(cold - plain) > 1e-2
    slope = jax.grad(lambda t: loss(*args, temperature=t))(0.5)
    want = -4 * jax.grad(lambda s: loss(*args, scale=s))(2.0)
    np.testing.assert_allclose(slope, want, rtol=1e-4)
    with pytest.raises(ValueError, match="temperature, scale: expected at most one"):
        loss(*args, temperature=1.0, scale=1.0)
    with pytest.raises(ValueError, match="temperature: expected a finite number > 0"):
        loss(*args, temperature=0.0)


@pytest.mark.parametrize("memory, collective", [(16e9, "all-gather"), (1e4, "permute")])
def test_memory_decides(memory, collective):
    def loss(a, b):
        return parallel.two_way_info_nce(a, b, axis_name="data", memory=memory)

    shape = jax.ShapeDtypeStruct((8, 4, 6), jnp.float32)
    text = jax.pmap(loss, "data").lower(shape, shape).compile().as_text()
    assert collective in text
    assert ("permute" in text) == (collective == "permute")


def test_choice_of_the_exchange():
    # 131,072 x 1,024 x (2 + 4) bytes = 0.8 GB, against 5 % of 80 and of 8 GB.
    assert parallel.choose_exchange(131_072, 1024, 64, 80e9) == "tiles"
    assert parallel.choose_exchange(131_072, 1024, 64, 8e9) == "ring"
    assert parallel.choose_exchange(131_072, 1024, 1, 8e9) == "tiles"
    with pytest.raises(ValueError, match="do not split over 7"):
        parallel.choose_exchange(64, 8, 7, 1e9)


def test_the_dense_exchange_differentiates_twice():
    def loss(x):
        return parallel.nt_xent(x, exchange="dense")

    hessian = jax.jit(jax.hessian(loss))(jnp.asarray(cases.X[:4]))
    assert np.isfinite(hessian).all() and np.abs(hessian).max() > 0


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_an_exchange_cannot_do_is_named(name):
    # Without the type hooks of the test run, which would speak first.
    loss = inspect.unwrap(FUNCTIONS[name])
    x, ids = jnp.ones((4, 2)), jnp.arange(4)
    args = {"nt_xent": (x,), "supervised_contrastive": (x, ids)}.get(name, (x, x))
    for message, options in [
        ("exchange: expected auto, dense, tiles or ring", dict(exchange="gather")),
        ("tile: the dense exchange", dict(exchange="dense", tile=4)),
        ("group_size: the dense exchange", dict(exchange="dense", group_size=1)),
        ("group_size: the tiles exchange", dict(exchange="tiles", group_size=1)),
        ("group_size: expected a divisor of the 1", dict(group_size=2)),
        ("axis_name: no device axis 'nodes'", dict(axis_name="nodes")),
        ("memory: expected a finite number > 0", dict(memory=0.0)),
        ("scale: expected a finite number > 0", dict(scale=-1.0)),
    ]:
        with pytest.raises(ValueError, match=message):
            loss(*args, **options)
    assert np.isfinite(loss(*args, exchange="ring"))  # no axis: nothing to exchange
