"""The public losses on local rows, the plain ones on all rows, and every mapper."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, similarity

AXIS = "data"
ROWS, D, TILE = 48, 4, 4  # 6 rows per device on 8: two tiles, the second one ragged
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2, ROWS, D)).astype(np.float32)
HARD = RNG.normal(size=(ROWS, D)).astype(np.float32)
QUEUE, SECOND = RNG.normal(size=(2, 7, D)).astype(np.float32)
BATCH = {
    "x": X,
    "y": Y,
    "hard": HARD,
    "label": RNG.integers(0, 5, size=ROWS),
    "where": RNG.random(ROWS) < 0.8,
    "weights": RNG.random(ROWS).astype(np.float32),
    "segment": RNG.integers(0, 2, size=ROWS),
}
# On the first device most rows have no positive.
BATCH["class"] = np.where(np.arange(ROWS) < 4, 10 + np.arange(ROWS), BATCH["label"])
PARAMS = {
    "w": RNG.normal(size=(D, D)).astype(np.float32),
    "scale": np.float32(0.7),
    "bias": np.float32(-0.3),
}
TABLE = RNG.normal(size=(5, 5)).astype(np.float32)  # log weights by class and class
NAMES = ("info_nce", "two_way", "nt_xent", "out", "sigmoid")  # one for each loss
VARIANTS = ("queue", "in")
CONTEXTS = ["pmap", "vmap", "shard_map", "shard_map checked"]


def encode(params, batch):
    return jnp.tanh(batch["x"] @ params["w"]), jnp.tanh(batch["y"] @ params["w"])


def device_loss(name, params, batch, axis_name=AXIS, **options):
    """A public loss of one device's rows, with masks, weights and all that it takes."""
    a, b = encode(params, batch)
    options |= dict(scale=params["scale"], axis_name=axis_name)
    where, weights, label = batch["where"], batch["weights"], batch["label"]
    segment, table = batch["segment"], jnp.asarray(TABLE)
    if name == "info_nce":
        return parallel.info_nce(a, b, where=where, weights=weights, **options)
    if name == "queue":
        options["log_weights"] = (label, jnp.concatenate([label, label]), table)
        options["extra"] = jnp.asarray(QUEUE)
        b = jnp.concatenate([b, batch["hard"]])
        return parallel.info_nce(a, b, where=where, weights=weights, **options)
    if name == "two_way":
        options["log_weights"] = (label, (label + 1) % 5, table)
        options |= dict(extra_a=jnp.asarray(SECOND), extra_b=jnp.asarray(QUEUE))
        return parallel.two_way_info_nce(
            a, b, where=where, weights=weights, exclude=label, **options
        )
    if name == "nt_xent":
        twice = jnp.concatenate([where, where]), jnp.concatenate([weights, weights])
        options["log_weights"] = (jnp.concatenate([label, label]), table)
        return parallel.nt_xent(
            jnp.concatenate([a, b]), where=twice[0], weights=twice[1], **options
        )
    if name in ("out", "in"):
        options |= dict(form=name, segments=segment, weights=weights)
        return parallel.supervised_contrastive(
            a, batch["class"], where=where, **options
        )
    options |= dict(bias=params["bias"], segments=(segment, segment))
    return parallel.pairwise_sigmoid(a, b, where=where, weights=weights, **options)


def plain_loss(name, params, batch, reduce_fn=jnp.mean):
    """The same from the score matrix of all rows."""
    a, b = encode(params, batch)
    where, weights, label = batch["where"], batch["weights"], batch["label"]
    options = dict(weights=weights, reduce_fn=reduce_fn)
    n, segment = len(a), batch["segment"]
    eye, table = jnp.eye(n, dtype=bool), jnp.asarray(TABLE)
    both = where[:, None] & where[None, :]
    together = segment[:, None] == segment[None, :]

    def scores(a, b):
        return similarity.dot(a, b) * params["scale"]

    def with_queue(a, b, queue, counts, extra):
        """One way, against all of b and a queue."""
        counts = jnp.pad(counts, [(0, 0), (0, len(queue))], constant_values=True)
        extra = jnp.pad(extra, [(0, 0), (0, len(queue))])
        logits = scores(a, jnp.concatenate([b, jnp.asarray(queue)]))
        return losses.info_nce(logits, where=counts, log_weights=extra, **options)

    if name == "info_nce":
        rows = where[:, None] & jnp.ones((1, n), bool)
        return losses.info_nce(scores(a, b), where=rows, **options)
    if name == "queue":
        b = jnp.concatenate([b, batch["hard"]])
        rows = where[:, None] & jnp.ones((1, len(b)), bool)
        extra = table[label][:, jnp.concatenate([label, label])]
        return with_queue(a, b, QUEUE, rows, extra)
    if name == "two_way":
        counts = both & (eye | (label[:, None] != label[None, :]))
        extra = table[label][:, (label + 1) % 5]
        there = with_queue(a, b, QUEUE, counts, extra)
        return (there + with_queue(b, a, SECOND, counts.T, extra.T)) / 2
    if name == "nt_xent":
        x = jnp.concatenate([a, b])
        options["weights"] = jnp.concatenate([weights, weights])
        extra = jnp.tile(table[label][:, label], (2, 2))
        other = jnp.eye(2 * n, dtype=bool) ^ jnp.tile(eye, (2, 2))
        logits = scores(x, x) + jnp.where(other, 0, extra)
        return losses.nt_xent(logits, where=jnp.tile(both, (2, 2)), **options)
    if name in ("out", "in"):
        same = batch["class"][:, None] == batch["class"][None, :]
        return losses.supervised_contrastive(
            scores(a, a), same, where=both & together & ~eye, form=name, **options
        )
    rows = where[:, None] & together
    return losses.pairwise_sigmoid(scores(a, b) + params["bias"], where=rows, **options)


@functools.cache
def wanted(name):
    """Value and gradients of the plain loss on one device."""
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


def check_inside(names, context, devices=8, **options):
    """Loss and gradients through `parallel.value_and_grad`, on every device."""

    def f(params, batch):
        return {
            name: parallel.value_and_grad(
                functools.partial(device_loss, name, batch=batch, **options), AXIS
            )(params)
            for name in names
        }

    run = mapped(f, context, devices)
    if context != "pmap":  # compiled quickly rather than well
        quick = {"xla_backend_optimization_level": 0}
        run = jax.jit(run, compiler_options=quick)
    got = run(PARAMS, split(devices))
    for name in names:
        for device in range(devices):
            one = jax.tree.map(lambda x, i=device: x[i], got[name])
            assert_close(one, wanted(name))
