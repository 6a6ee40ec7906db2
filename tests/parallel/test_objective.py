"""The objective over devices that have unequally many rows: value and gradient of one.

Four devices with four rows each; a loss is compared with itself on all 16 rows.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, parallel, similarity
from contrastive_jax.parallel import Mean
from tests.parallel import cases

AXIS, DEVICES = cases.AXIS, 4
RNG = np.random.default_rng(0)
ROWS = 16
BATCH = {
    "x": RNG.normal(size=(ROWS, 3)).astype(np.float32),
    "weights": np.linspace(0, 2, ROWS, dtype=np.float32),
    "where": np.arange(ROWS) % 4 < np.repeat([4, 0, 1, 2], 4),  # none on the second
    "labels": np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 6, 7, 8, 8, 9, 9], np.int32),
}
PARAMS = {"w": (np.eye(3) + 0.1).astype(np.float32), "bias": np.float32(0.3)}


def scores(params, batch, axis_name=None):
    """Scores of own rows against those of all devices, and own columns."""
    own = jnp.tanh(batch["x"] @ params["w"]) + params["bias"]
    rows = parallel.global_rows(len(own), axis_name)
    return similarity.dot(own, parallel.all_gather(own, axis_name)), rows


def weighted(params, batch, axis_name=None, reduce_fn=jnp.mean):
    logits, rows = scores(params, batch, axis_name)
    return losses.info_nce(logits, rows, weights=batch["weights"], reduce_fn=reduce_fn)


def labeled(params, batch, axis_name=None, reduce_fn=jnp.mean):
    """Anchors without a positive: all of the second device."""
    logits, rows = scores(params, batch, axis_name)
    labels = parallel.all_gather(batch["labels"], axis_name)
    positives = batch["labels"][:, None] == labels[None, :]
    others = rows[:, None] != jnp.arange(len(labels))[None, :]
    return losses.supervised_contrastive(
        logits, positives, where=others, reduce_fn=reduce_fn
    )


def masked(params, batch, axis_name=None, reduce_fn=jnp.mean):
    logits, rows = scores(params, batch, axis_name)
    where = batch["where"][:, None] & jnp.ones(logits.shape, bool)
    return losses.info_nce(logits, rows, where=where, reduce_fn=reduce_fn)


LOSSES = (weighted, labeled, masked)
QUICK = ("pmap",)


def summed(params, batch, axis_name=None, **options):
    return sum(loss(params, batch, axis_name, **options) for loss in LOSSES)


def one_device(loss, batch=BATCH):
    """Value and gradient of a loss of all rows."""
    batch, params = jax.tree.map(jnp.asarray, (batch, PARAMS))
    return jax.jit(jax.value_and_grad(functools.partial(loss, batch=batch)))(params)


def many_devices(loss, context="vmap", batch=BATCH, **options):
    """What every device gets from `parallel.value_and_grad`."""

    def run(params, batch):
        return parallel.value_and_grad(loss, AXIS, **options)(params, batch)

    run = cases.mapped(run, context, DEVICES)
    run = run if context == "pmap" else jax.jit(run)
    return run(jax.tree.map(jnp.asarray, PARAMS), shards(batch))


def shards(batch):
    return jax.tree.map(lambda x: x.reshape(DEVICES, -1, *x.shape[1:]), batch)


def assert_each_is(got, want):
    """Every device has what one has."""
    for i in range(DEVICES):
        cases.assert_close(jax.tree.map(lambda x, i=i: x[i], got), want)


def check(loss, context="vmap", batch=BATCH, **options):
    """`loss(params, batch, axis_name)` over devices against one with all rows."""
    over = functools.partial(loss, axis_name=AXIS, **options)
    assert_each_is(many_devices(over, context, batch), one_device(loss, batch))


# pmap in every session; the others with --experiments.
in_every_context = pytest.mark.parametrize(
    "context",
    [
        pytest.param(c, marks=() if c in QUICK else pytest.mark.experiments)
        for c in cases.CONTEXTS
    ],
)


def test_a_mean_of_means_would_be_another_loss():
    def each(params, batch):
        return jnp.stack([loss(params, batch) for loss in LOSSES])

    local = jax.jit(jax.vmap(each, (None, 0)))(PARAMS, shards(BATCH))
    whole = jax.jit(each)(PARAMS, BATCH)
    assert (jnp.abs(jnp.mean(local, axis=0) - whole) > 0.01 * whole).all()


@in_every_context
@pytest.mark.parametrize("reduce_fn", [jnp.mean, parallel.mean(AXIS)])
def test_losses_with_unequal_counts(reduce_fn, context):
    check(summed, context, reduce_fn=reduce_fn)


@in_every_context
def test_values_per_row_means_and_aux(context):
    """Rows all count; a `Mean` is counted; arrays in aux stay each device's own."""

    def loss(params, batch, axis_name=None):
        each = weighted(params, batch, axis_name, reduce_fn=None)
        logits, _ = scores(params, batch, axis_name)
        aux = {
            "mean": Mean(each, batch["where"]),
            "hits": Mean(jnp.argmax(logits, axis=1) == batch["labels"]),
            "size": params["bias"] * 2,
            "rows": each,
            "step": jnp.int32(7),
        }
        return each, aux

    (value, aux), grads = many_devices(
        functools.partial(loss, axis_name=AXIS), context, has_aux=True
    )
    rows, want = jax.jit(loss)(PARAMS, BATCH)
    scalar = one_device(lambda params, batch: jnp.mean(loss(params, batch)[0]))
    assert_each_is((value, grads), scalar)
    np.testing.assert_allclose(aux["rows"].ravel(), rows, rtol=1e-5)
    where = BATCH["where"]
    np.testing.assert_allclose(aux["mean"], [np.mean(rows[where])] * 4, rtol=1e-5)
    np.testing.assert_allclose(aux["hits"], [np.mean(want["hits"].values)] * 4)
    np.testing.assert_allclose(aux["size"], [0.6] * 4, rtol=1e-6)
    np.testing.assert_array_equal(aux["step"], [7] * 4)


def test_a_weighted_mean_of_rows_as_the_loss():
    def loss(params, batch, axis_name=None):
        return Mean(jnp.sum(batch["x"] @ params["w"], axis=1), batch["where"])

    def whole(params, batch):
        values, where = loss(params, batch)
        return jnp.sum(jnp.where(where, values, 0)) / jnp.sum(where)

    assert_each_is(many_devices(loss), one_device(whole))


WRAPPED = {
    "jit in jit": lambda f: jax.jit(lambda *x: jax.jit(f, donate_argnums=1)(*x)),
    "checkpoint": jax.checkpoint,
    "jit in checkpoint": lambda f: jax.checkpoint(
        jax.jit(f), policy=jax.checkpoint_policies.dots_saveable
    ),
    "two equal": lambda f: lambda *x: (f(*x) + f(*x)) / 2,
    "a function of it": lambda f: lambda *x: jnp.log(1 + f(*x)) ** 2,
    "tree": lambda f: lambda *x: jax.tree.map(jnp.exp, {"a": f(*x)})["a"],
}


@pytest.mark.parametrize("name", WRAPPED)
def test_a_loss_inside_of(name):
    def loss(params, batch, axis_name=None):
        run = functools.partial(weighted, axis_name=axis_name)
        return WRAPPED[name](run)(params, batch)

    check(loss)


@in_every_context
def test_a_checkpointed_loss_in(context):
    def loss(params, batch, axis_name=None):
        run = functools.partial(summed, axis_name=axis_name)
        return jax.checkpoint(run)(params, batch)

    check(loss, context)


def test_models_with_state_scans_and_rules_of_their_own():
    @jax.custom_vjp
    def double(x):
        return 2 * x

    double.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))

    class Model(nn.Module):
        axis_name: str | None

        @nn.compact
        def __call__(self, x):
            layer = nn.scan(
                nn.remat(Layer),
                variable_broadcast="params",
                split_rngs={"params": False},
                length=2,
            )
            x, _ = layer()(x, None)
            return nn.BatchNorm(False, axis_name=self.axis_name)(double(x))

    class Layer(nn.Module):
        @nn.compact
        def __call__(self, x, _):
            return nn.gelu(nn.Dense(3)(x)), None

    x = jnp.asarray(BATCH["x"])
    variables = Model(None).init(jax.random.key(0), x)

    def loss(params, batch, axis_name=None):
        model, rest = Model(axis_name), {"batch_stats": variables["batch_stats"]}
        x, state = model.apply(
            {"params": params} | rest, batch["x"], mutable=["batch_stats"]
        )
        x = jax.lax.cond(
            params["Dense" if "Dense" in params else "BatchNorm_0"]["bias"][0] >= 0,
            lambda x: x,
            jnp.negative,
            x,
        )
        rows = parallel.global_rows(len(x), axis_name)
        logits = similarity.dot(x, parallel.all_gather(x, axis_name))
        value = losses.info_nce(logits, rows, weights=batch["weights"])
        keys = jax.random.split(jax.random.key(1), 2)
        return value, (state, keys, keys[0], None, {}, True)

    def run(loss, params, batch):
        (value, (state, *_)), grads = loss(params, batch)
        return value, state, grads

    over = functools.partial(loss, axis_name=AXIS)
    over = functools.partial(run, parallel.value_and_grad(over, AXIS, has_aux=True))
    got = jax.jit(cases.mapped(over, "vmap", DEVICES))(
        variables["params"], shards(BATCH)
    )
    alone = jax.jit(functools.partial(run, jax.value_and_grad(loss, has_aux=True)))
    assert_each_is(got, alone(variables["params"], BATCH))


def test_counts_that_are_zero():
    """On one device nothing counts; on all of them: 0 with gradient 0."""
    nothing = BATCH | {"weights": 0 * BATCH["weights"]}
    value, grads = many_devices(
        functools.partial(weighted, axis_name=AXIS), batch=nothing
    )
    for x in jax.tree.leaves((value, grads)):
        np.testing.assert_array_equal(x, np.zeros_like(x))
    first = BATCH | {"weights": np.where(np.arange(ROWS) < 4, 0, 1).astype(np.float32)}
    check(weighted, batch=first)


@pytest.mark.experiments
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision(dtype):
    """Counted in float32: 300 rows of weight 1 are not 256 of bfloat16."""

    def loss(w, x):
        return Mean((w * x).astype(dtype), jnp.ones(x.shape, dtype))

    x = jnp.ones((2, 300))
    run = parallel.value_and_grad(loss, AXIS)
    value, grad = jax.vmap(run, (None, 0), axis_name=AXIS)(jnp.float32(3), x)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, [3, 3])
    np.testing.assert_allclose(grad, [1, 1], rtol=1e-2)


def test_float64_and_what_is_no_array(x64):
    """Arguments that are no arrays stay what they are; nothing need be an argument."""
    x = jnp.asarray(BATCH["x"].reshape(DEVICES, 4, 3), jnp.float64)

    def run(x):
        def loss(w, train, name):
            assert train and name == "out"
            return jnp.mean(jax.nn.softplus(w * x))

        return parallel.value_and_grad(loss, AXIS)(jnp.float64(2), True, "out")

    value, grad = jax.vmap(run, axis_name=AXIS)(x)
    want = jax.value_and_grad(lambda w: jnp.mean(jax.nn.softplus(w * x)))(2.0)
    assert value.dtype == grad.dtype == jnp.float64
    np.testing.assert_allclose(value, [want[0]] * 4, rtol=1e-12)
    np.testing.assert_allclose(grad, [want[1]] * 4, rtol=1e-12)

    def constant(params):
        return jnp.float32(3.0)

    run = parallel.value_and_grad(constant, AXIS)
    value, grads = jax.vmap(lambda _: run({}), axis_name=AXIS)(x)
    assert grads == {} and (value == 3).all()


def test_what_is_the_same_on_all_devices_may_be_divided_by():
    """Parameters, schedules, sums over devices, counts without a mask."""

    def loss(params, batch, axis_name=None):
        each = jnp.sum(batch["x"] @ params["w"], axis=1)
        count = parallel.psum(jnp.sum(batch["where"]), axis_name)
        total = parallel.psum(jnp.sum(jnp.where(batch["where"], each, 0)), axis_name)
        devices = parallel.axis_size(axis_name)
        return total / count / params["bias"] + jnp.sum(each) / (ROWS / devices)

    check(loss)

    def scheduled(step):
        def one(x):
            def loss(w):
                temperature = 1 / (1 + step)
                return jnp.mean(losses.info_nce(w * x / temperature))

            return parallel.value_and_grad(loss, AXIS)(1.0)[0]

        return jax.vmap(one, axis_name=AXIS)(jnp.ones((2, 3, 3)))

    np.testing.assert_allclose(jax.jit(scheduled)(2), np.log([3, 3]), rtol=1e-6)


def row_losses(params, batch):
    return jnp.sum(batch["x"] @ params["w"], axis=1)


def by_hand(params, batch):
    each, where = row_losses(params, batch), batch["where"]
    return jnp.sum(jnp.where(where, each, 0)) / jnp.maximum(jnp.sum(where), 1)


def normalized_weights(params, batch):
    weights = batch["weights"]
    return jnp.sum(row_losses(params, batch) * (weights / jnp.sum(weights)))


def by_a_power(params, batch):
    return jnp.sum(row_losses(params, batch)) * jnp.sum(batch["weights"]) ** -1


def numpy_mean(params, batch):
    return jnp.mean(row_losses(params, batch), where=batch["where"])


def average(params, batch):
    return jnp.average(row_losses(params, batch), weights=batch["weights"])


def in_a_scan(params, batch):
    def one(total, scale):
        return total + scale * weighted(params, batch), None

    return jax.lax.scan(one, 0.0, jnp.arange(3.0))[0]


def in_a_branch(params, batch):
    return jax.lax.cond(params["bias"] > 0, weighted, masked, params, batch)


def with_a_rule(params, batch):
    run = jax.custom_jvp(lambda params: weighted(params, batch))
    run.defjvp(lambda x, dx: (run(*x), jnp.float32(0)))
    return run(params)


def with_an_inner_gradient(params, batch):
    grads = jax.grad(weighted)(params, batch)
    return sum(jnp.sum(x**2) for x in jax.tree.leaves(grads))


REFUSED = {
    "divides by a number": [
        by_hand,
        normalized_weights,
        by_a_power,
        numpy_mean,
        average,
        with_an_inner_gradient,
        lambda params, batch: (jnp.mean(batch["x"]), {"aux": by_hand(params, batch)}),
    ],
    "reduced by jnp.mean inside of": [in_a_scan, in_a_branch, with_a_rule],
    "weights: expected shape": [
        lambda params, batch: Mean(row_losses(params, batch), jnp.ones(3))
    ],
    "got dict": [lambda params, batch: {"loss": params["bias"]}],
    "got tuple": [lambda params, batch: (params["bias"], batch["x"])],
}


@pytest.mark.parametrize(
    ("match", "loss"),
    [(match, loss) for match, every in REFUSED.items() for loss in every],
)
def test_what_cannot_be_right_is_refused(match, loss):
    with pytest.raises(ValueError, match=match):
        many_devices(loss, has_aux=loss.__name__ == "<lambda>" and "div" in match)


def test_a_count_from_outside_is_refused():
    def run(params, batch):
        count = jnp.sum(batch["where"])

        def loss(params):
            return (
                jnp.sum(jnp.where(batch["where"], row_losses(params, batch), 0)) / count
            )

        return parallel.value_and_grad(loss, AXIS)(params)

    with pytest.raises(ValueError, match="divides by a number"):
        jax.jit(cases.mapped(run, "vmap", DEVICES))(PARAMS, shards(BATCH))
