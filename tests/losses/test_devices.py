"""The equality law: on many devices a loss is what it is on one, value and gradient.

Rows that count, their weights and their positives are spread unevenly over devices, so
that a mean of means would be another number. Asked are the global form of every loss
that has one, and every other loss whose rows meet no other rows, by splitting them.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import parallel

from .battery import assert_close, make
from .cases import all_cases, all_groups

CASES, GROUPS = all_cases(), all_groups()
AXIS, ROWS = "data", 16
WEIGHTS = np.linspace(0, 2, ROWS, dtype=np.float32)
WHERE = np.arange(ROWS) % 3 != 0
WHERE[2:6] = False  # nothing on one of eight devices
PARAMS = np.eye(3, dtype=np.float32) + 0.1
REDUCTIONS = {"default": lambda _: jnp.mean, "parallel.mean": parallel.mean}

# Statistics of a batch, not means over its rows: they are gathered (docs/which.md).
OF_A_BATCH = {"importance_nll", "exponential_nce", "meco", "w_mse", "w_mse/plain"}


def of_rows(case):
    """Whether the loss is a mean over rows that can be split."""
    leading = {axes.split()[0] for axes in case.axes.values()}
    return case.reduces and "n" in leading and case.where != "n n"


GATHERED = [name for name, case in CASES.items() if case.gathered]
SPLIT = [
    name
    for name, case in CASES.items()
    if not case.gathered and of_rows(case) and name not in OF_A_BATCH
]


def batch_of(name):
    """Rows to be split over devices, and what all of them have."""
    case, rng = CASES[name], np.random.default_rng(5)
    rows = {"weights": WEIGHTS, "where": WHERE}
    if name in GATHERED:
        a, b = rng.normal(size=(2, ROWS, 3)).astype(np.float32)
        return {"own": rows | {"a": a, "b": b}, "all": {}}
    inputs, shared = make(case, n=ROWS), {}
    for key, axes in case.axes.items():
        if axes.split()[0] == "n":
            rows[key] = inputs[key]
        else:
            shared[key] = inputs[key]
    return {"own": rows, "all": shared}


def loss_of(name, params, batch, axis_name, reduce_fn):
    """The loss of this device's rows, some of them masked and all of them weighted."""
    case, own = CASES[name], dict(batch["own"])
    extras = {key: own.pop(key) for key in ("weights", "where")}
    gather = functools.partial(parallel.all_gather, axis_name=axis_name)
    if name in GATHERED:
        inputs, views = inputs_of(case, params, own, axis_name), views_of(name)
    else:
        inputs, views = own | batch["all"], 1
        inputs |= {key: inputs[key] * params[0, 0] for key in case.grads}
    sizes = sizes_of(case, inputs)
    if sizes["n"] != views * len(extras["where"]):  # all rows on every device
        extras = gather(extras)
    rows, weights = (jnp.tile(extras[k], views) for k in ("where", "weights"))
    options = dict(weights=weights, reduce_fn=reduce_fn) if case.reduces else {}
    if case.where:
        shape = [sizes[word.removeprefix("2")] for word in case.where.split()]
        where = inputs.pop("where", jnp.ones(shape, bool))
        options["where"] = where & rows.reshape(-1, *[1] * (len(shape) - 1))
        if case.where == "n n":
            options["where"] &= rows[None, :]
    return case.loss(**inputs, **options, **case.options)


def inputs_of(case, params, own, axis_name=None):
    """The global form: embeddings of own rows, and of those of all devices."""
    a, b = (jnp.tanh(own[key] @ params) for key in ("a", "b"))
    gather = functools.partial(parallel.all_gather, axis_name=axis_name)
    return case.gathered(a, b, gather, parallel.global_rows(len(a), axis_name))


def views_of(name):
    """Anchors per row in the global form."""
    make_inputs = functools.partial(inputs_of, CASES[name])
    shapes = jax.eval_shape(make_inputs, PARAMS, batch_of(name)["own"])
    return sizes_of(CASES[name], shapes)["n"] // ROWS


def sizes_of(case, inputs):
    """The size of every axis; of two views, all rows."""
    sizes = {}
    for key in set(case.axes) & set(inputs):
        for word, size in zip(case.axes[key].split(), inputs[key].shape, strict=True):
            plain = word.removeprefix("2")
            sizes[plain] = max(size, sizes.get(plain, 0))
    return sizes


def run(names, reduction, axis_name, params, batches):
    """Value and gradient of many losses, compiled together."""
    reduce_fn = REDUCTIONS[reduction](axis_name)
    return {
        name: parallel.value_and_grad(
            lambda p, name=name: loss_of(name, p, batches[name], axis_name, reduce_fn),
            axis_name,
        )(params)
        for name in names
    }


@functools.cache
def on_one(names):
    out = jax.jit(functools.partial(run, names, "default", None))(
        PARAMS, batches(names)
    )
    return jax.tree.map(np.asarray, out)


def batches(names):
    return {name: batch_of(name) for name in names}


@functools.cache
def on_many(names, reduction, context, count):
    """The same on `count` devices; what each of them has."""
    split = {
        name: {
            "own": jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), x["own"]),
            "all": x["all"],
        }
        for name, x in batches(names).items()
    }
    f = functools.partial(run, names, reduction, AXIS)
    axes = {name: {"own": 0, "all": None} for name in names}
    if context == "pmap":
        f = jax.pmap(f, AXIS, in_axes=(None, axes), devices=jax.devices()[:count])
        return jax.tree.map(np.asarray, f(PARAMS, split))
    if context == "vmap":
        f = jax.vmap(f, in_axes=(None, axes), axis_name=AXIS)
    else:
        f = sharded(f, axes, count, check_vma=context == "shard_map checked")
    return jax.tree.map(np.asarray, jax.jit(f)(PARAMS, split))


def sharded(f, axes, count, check_vma):
    own, everywhere = PartitionSpec(AXIS), PartitionSpec()

    def local(params, batch):
        mine = {
            name: {"own": jax.tree.map(lambda x: x[0], x["own"]), "all": x["all"]}
            for name, x in batch.items()
        }
        return jax.tree.map(lambda x: x[None], f(params, mine))

    specs = jax.tree.map(
        lambda axis: everywhere if axis is None else own,
        axes,
        is_leaf=lambda axis: axis is None,
    )
    return jax.shard_map(
        local,
        mesh=parallel.make_mesh(jax.devices()[:count]),
        in_specs=(everywhere, specs),
        out_specs=own,
        check_vma=check_vma,
    )


# Compiled together, as in the contract.
TOGETHER = {
    group: tuple(name for name in names if name in GATHERED + SPLIT)
    for group, names in GROUPS.items()
}
TOGETHER = {group: names for group, names in TOGETHER.items() if names}
# Of the usual run some groups in every session and all with --experiments; all other
# mappers and numbers of devices with --slow.
USUAL = ("default", "pmap", 8)
QUICK_GROUPS = ("cases_supervised", "cases_tokens", "cases_routing")


def mark_of(group, run):
    if run != USUAL:
        return pytest.mark.slow
    return () if group.endswith(QUICK_GROUPS) else pytest.mark.experiments


RUNS = [
    pytest.param(group, *run, marks=mark_of(group, run))
    for group in TOGETHER
    for run in itertools.product(
        REDUCTIONS, ("pmap", "vmap", "shard_map", "shard_map checked"), (2, 4, 8)
    )
]


@pytest.mark.parametrize(("group", "reduction", "context", "count"), RUNS)
def test_many_devices_equal_one(group, reduction, context, count):
    names, unequal = TOGETHER[group], {}
    got = on_many(names, reduction, context, count)
    for name, want in on_one(names).items():
        assert np.abs(want[1]).max() > 0, name
        for device in range(count):
            try:
                assert_close(jax.tree.map(lambda x, i=device: x[i], got[name]), want)
            except AssertionError as error:
                unequal[name] = error
    assert not unequal


def test_most_means_of_means_would_be_other_losses():
    """What the test above could not see otherwise."""
    names = tuple(name for name in TOGETHER["tests.losses.cases_supervised"])
    values = {}
    for name in names:
        batch = batch_of(name)
        halves = [
            {
                "own": jax.tree.map(lambda x, i=i: x[8 * i : 8 * i + 8], batch["own"]),
                "all": batch["all"],
            }
            for i in (0, 1)
        ]
        if name in SPLIT:
            parts = [
                jax.jit(
                    functools.partial(loss_of, name, PARAMS), static_argnums=(1, 2)
                )(half, None, jnp.mean)
                for half in halves
            ]
            values[name] = np.mean(parts), on_one(names)[name][0]
    assert values
    for local, whole in values.values():
        assert abs(local - whole) > 1e-2 * abs(whole)


def test_every_mean_over_rows_is_asked():
    """What is neither split nor gathered is a statistic of a whole batch."""
    rest = set(CASES) - set(GATHERED) - set(SPLIT) - OF_A_BATCH
    assert not {name for name in rest if of_rows(CASES[name])}
