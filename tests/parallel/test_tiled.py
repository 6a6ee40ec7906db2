"""Tiled losses against the plain ones: values, gradients, masks, digits, memory."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import losses, parallel, similarity
from contrastive_jax.parallel import sums, tiled, tiles

TILE = 16  # 37 rows: three tiles, the last one ragged
N, M, D = 37, 53, 5
RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(N, D)), RNG.normal(size=(M, D))
IDS = RNG.integers(0, 6, size=M)  # classes, duplicates or segments
WHERE, WHERE_B = RNG.random(N) < 0.8, RNG.random(M) < 0.8
WEIGHTS = RNG.random(N)
LABELS = RNG.integers(0, M, size=N)
TABLE = RNG.normal(size=(6, 6))  # log weights of negatives, by class and class
QUEUE, QUEUE_IDS = RNG.normal(size=(29, D)), RNG.integers(0, 6, size=29)


def same(x, y):
    return jnp.asarray(x)[:, None] == jnp.asarray(y)[None, :]


def by_class(rows, cols, dtype):
    """Log weights of pairs: as a matrix, and as ids and a table."""
    rows, cols, table = jnp.asarray(rows), jnp.asarray(cols), jnp.asarray(TABLE, dtype)
    return table[rows][:, cols], (rows, cols, table)


# Every case: (tiled, plain), both functions of (a [N, D], b [M, D], scale, bias) and of
# reduce_fn. The plain one writes all masks as matrices.


def scores(a, b, scale):
    return similarity.dot(a, b) * scale


def info_nce(masked, bounded=False):
    where = jnp.asarray(WHERE)[:, None] & jnp.asarray(WHERE_B)[None, :]
    where &= same(LABELS, np.arange(M)) | ~same(IDS[:N], IDS)
    where &= same(IDS[:N] // 3, IDS // 3)

    def fast(a, b, scale, bias, mode, reduce_fn):
        options = dict(
            where=jnp.asarray(WHERE),
            where_candidates=jnp.asarray(WHERE_B),
            exclude=(jnp.asarray(IDS[:N]), jnp.asarray(IDS)),
            segments=(jnp.asarray(IDS[:N] // 3), jnp.asarray(IDS // 3)),
            weights=jnp.asarray(WEIGHTS, a.dtype),
        )
        if not bounded:
            options["log_weights"] = by_class(IDS[:N], IDS, a.dtype)[1]
        return tiled.info_nce(
            a,
            b,
            jnp.asarray(LABELS),
            bounded=bounded,
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    def plain(a, b, scale, bias, reduce_fn):
        options = dict(where=where, weights=jnp.asarray(WEIGHTS, a.dtype))
        if not bounded:
            options["log_weights"] = by_class(IDS[:N], IDS, a.dtype)[0]
        return losses.info_nce(
            scores(a, b, scale),
            jnp.asarray(LABELS),
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    return fast, plain


def two_way(masked, bounded=False):
    keep, ids = jnp.asarray(WHERE), jnp.asarray(IDS[:N])
    where = keep[:, None] & keep[None, :] & (~same(ids, ids) | jnp.eye(N, dtype=bool))

    def fast(a, b, scale, bias, mode, reduce_fn):
        options = dict(where=keep, exclude=ids, weights=jnp.asarray(WEIGHTS, a.dtype))
        return tiled.two_way_info_nce(
            a,
            b[:N],
            bounded=bounded,
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    def plain(a, b, scale, bias, reduce_fn):
        options = dict(where=where, weights=jnp.asarray(WEIGHTS, a.dtype))
        return losses.two_way_info_nce(
            scores(a, b[:N], scale),
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    return fast, plain


def two_way_weighted():
    """A weight for each pair of classes, not symmetric."""

    def fast(a, b, scale, bias, mode, reduce_fn):
        return tiled.two_way_info_nce(
            a,
            b[:N],
            log_weights=by_class(IDS[:N], LABELS % 6, a.dtype)[1],
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
        )

    def plain(a, b, scale, bias, reduce_fn):
        logits = scores(a, b[:N], scale)
        extra = by_class(IDS[:N], LABELS % 6, a.dtype)[0]
        there = losses.info_nce(logits, log_weights=extra, reduce_fn=reduce_fn)
        back = losses.info_nce(logits.T, log_weights=extra.T, reduce_fn=reduce_fn)
        return (there + back) / 2

    return fast, plain


def two_way_extra():
    """Queues on both sides; one of them half empty."""
    full = jnp.arange(29) < 20

    def fast(a, b, scale, bias, mode, reduce_fn):
        queue = jnp.asarray(QUEUE, a.dtype)
        return tiled.two_way_info_nce(
            a,
            b[:N],
            extra_a=parallel.Side(queue, where=full),
            extra_b=b[N:],
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
        )

    def plain(a, b, scale, bias, reduce_fn):
        queue = jnp.asarray(QUEUE, a.dtype)[:20]
        forward = losses.info_nce(scores(a, b, scale), reduce_fn=reduce_fn)
        back = scores(b[:N], jnp.concatenate([a, queue]), scale)
        return (forward + losses.info_nce(back, reduce_fn=reduce_fn)) / 2

    return fast, plain


def nt_xent(masked, bounded=False):
    n = N - 1  # 2 x 18 rows
    keep, ids = jnp.asarray(WHERE[:n]), jnp.asarray(IDS[:n])
    other = (jnp.arange(n) + n // 2) % n
    where = (
        keep[:, None] & keep[None, :] & (~same(ids, ids) | same(other, np.arange(n)))
    )

    def fast(a, b, scale, bias, mode, reduce_fn):
        options = dict(
            where=keep, exclude=ids, weights=jnp.asarray(WEIGHTS[:n], a.dtype)
        )
        return tiled.nt_xent(
            a[:n],
            bounded=bounded,
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    def plain(a, b, scale, bias, reduce_fn):
        options = dict(where=where, weights=jnp.asarray(WEIGHTS[:n], a.dtype))
        return losses.nt_xent(
            scores(a[:n], a[:n], scale),
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    return fast, plain


def nt_xent_weighted():
    n = N - 1

    def fast(a, b, scale, bias, mode, reduce_fn):
        ids, _, table = by_class(IDS[:n], IDS[:n], a.dtype)[1]
        return tiled.nt_xent(
            a[:n],
            log_weights=(ids, table),
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
        )

    def plain(a, b, scale, bias, reduce_fn):
        return losses.info_nce(
            scores(a[:n], a[:n], scale),
            (jnp.arange(n) + n // 2) % n,
            where=~jnp.eye(n, dtype=bool),
            log_weights=by_class(IDS[:n], IDS[:n], a.dtype)[0],
            reduce_fn=reduce_fn,
        )

    return fast, plain


def nt_xent_extra():
    def fast(a, b, scale, bias, mode, reduce_fn):
        return tiled.nt_xent(
            a[:36], extra=b, scale=scale, tile=TILE, mode=mode, reduce_fn=reduce_fn
        )

    def plain(a, b, scale, bias, reduce_fn):
        logits = scores(a[:36], jnp.concatenate([a[:36], b]), scale)
        where = ~same(np.arange(36), np.arange(36 + M))
        labels = (jnp.arange(36) + 18) % 36
        return losses.info_nce(logits, labels, where=where, reduce_fn=reduce_fn)

    return fast, plain


def supervised(form, masked, bounded=False):
    ids, keep = jnp.asarray(IDS[:N]), jnp.asarray(WHERE)
    segments = jnp.asarray(LABELS % 2)
    others = ~jnp.eye(N, dtype=bool)
    some = others & keep[:, None] & keep[None, :] & same(segments, segments)

    def fast(a, b, scale, bias, mode, reduce_fn):
        options = dict(
            where=keep, segments=segments, weights=jnp.asarray(WEIGHTS, a.dtype)
        )
        return tiled.supervised_contrastive(
            a,
            ids,
            form=form,
            bounded=bounded,
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    def plain(a, b, scale, bias, reduce_fn):
        return losses.supervised_contrastive(
            scores(a, a, scale),
            same(ids, ids),
            where=some if masked else others,
            weights=jnp.asarray(WEIGHTS, a.dtype) if masked else None,
            form=form,
            reduce_fn=reduce_fn,
        )

    return fast, plain


def supervised_extra(form):
    ids, queue_ids = jnp.asarray(IDS[:N]), jnp.asarray(QUEUE_IDS)

    def fast(a, b, scale, bias, mode, reduce_fn):
        return tiled.supervised_contrastive(
            a,
            ids,
            extra=parallel.Side(b[:29], label=queue_ids),
            form=form,
            scale=scale,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
        )

    def plain(a, b, scale, bias, reduce_fn):
        return losses.supervised_contrastive(
            scores(a, jnp.concatenate([a, b[:29]]), scale),
            same(ids, jnp.concatenate([ids, queue_ids])),
            where=~same(np.arange(N), np.arange(N + 29)),
            form=form,
            reduce_fn=reduce_fn,
        )

    return fast, plain


def sigmoid(masked):
    where = jnp.asarray(WHERE)[:, None] & jnp.asarray(WHERE_B)[None, :]

    def fast(a, b, scale, bias, mode, reduce_fn):
        options = dict(
            where=jnp.asarray(WHERE),
            where_candidates=jnp.asarray(WHERE_B),
            labels=(jnp.asarray(IDS[:N]), jnp.asarray(IDS)),
            weights=jnp.asarray(WEIGHTS, a.dtype),
        )
        return tiled.pairwise_sigmoid(
            a,
            b,
            scale=scale,
            bias=bias,
            tile=TILE,
            mode=mode,
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    def plain(a, b, scale, bias, reduce_fn):
        options = dict(
            positives=same(IDS[:N], IDS),
            where=where,
            weights=jnp.asarray(WEIGHTS, a.dtype),
        )
        return losses.pairwise_sigmoid(
            scores(a, b, scale) + bias,
            reduce_fn=reduce_fn,
            **(options if masked else {}),
        )

    return fast, plain


def logsumexp(masked):
    where = jnp.asarray(WHERE_B)[None, :] & ~same(IDS[:N], IDS)

    def fast(a, b, scale, bias, mode, reduce_fn):
        options = dict(
            where_candidates=jnp.asarray(WHERE_B),
            exclude=(jnp.asarray(IDS[:N]), jnp.asarray(IDS)),
            log_weights=by_class(LABELS % 6, IDS, a.dtype)[1],
        )
        y = parallel.tiled_logsumexp(
            a, b, scale=scale, tile=TILE, mode=mode, **(options if masked else {})
        )
        return y if reduce_fn is None else reduce_fn(y)

    def plain(a, b, scale, bias, reduce_fn):
        x = scores(a, b, scale)
        x = x + by_class(LABELS % 6, IDS, a.dtype)[0] if masked else x
        y = jax.nn.logsumexp(x, axis=1, where=where if masked else None)
        return y if reduce_fn is None else reduce_fn(y)

    return fast, plain


CASES = {
    "info_nce": info_nce(False),
    "info_nce masked": info_nce(True),
    "two_way": two_way(False),
    "two_way masked": two_way(True),
    "two_way weighted": two_way_weighted(),
    "two_way extra": two_way_extra(),
    "nt_xent": nt_xent(False),
    "nt_xent masked": nt_xent(True),
    "nt_xent weighted": nt_xent_weighted(),
    "nt_xent extra": nt_xent_extra(),
    "out": supervised("out", False),
    "out masked": supervised("out", True),
    "out extra": supervised_extra("out"),
    "in": supervised("in", False),
    "in masked": supervised("in", True),
    "in extra": supervised_extra("in"),
    "sigmoid": sigmoid(False),
    "sigmoid masked": sigmoid(True),
    "logsumexp": logsumexp(False),
    "logsumexp masked": logsumexp(True),
}


def jitted(f):
    """Compiled quickly rather than well."""
    return jax.jit(f, compiler_options={"xla_backend_optimization_level": 0})


def value_and_gradients(f, dtype, reduce_fn, scale=1.7, **options):
    """The loss and its gradients in a, b, scale and bias.

    A loss per row is weighted with numbers of both signs before it is differentiated.
    """

    def total(a, b, scale, bias):
        y = f(a, b, scale, bias, reduce_fn=reduce_fn, **options)
        mix = jnp.cos(jnp.arange(y.size, dtype=y.dtype)) if y.ndim else 1
        return jnp.sum(mix * y), y

    args = [jnp.asarray(x, dtype) for x in (A, B, scale, -0.4)]
    run = jitted(jax.value_and_grad(total, (0, 1, 2, 3), has_aux=True))
    (_, y), grads = run(*args)
    return y, grads


def assert_close(got, want, tolerance):
    """Every array within tolerance of the largest entry of the wanted one."""
    for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_allclose(x, y, atol=tolerance * (1e-3 + np.abs(y).max()))


# Rows with cotangents of both signs take another path where the gradient is formed in
# the forward pass; the others share one.
PER_ROW = ["info_nce masked", "sigmoid masked", "in masked", "logsumexp"]
UNMASKED = ("info_nce", "two_way", "nt_xent", "out", "sigmoid")  # in float32 below
FLOAT64 = [(name, jnp.mean) for name in CASES if name not in UNMASKED]
FLOAT64 += [(name, None) for name in PER_ROW]


@pytest.mark.parametrize(("name", "reduce_fn"), FLOAT64)
def test_equals_the_plain_loss_in_float64(name, reduce_fn, x64):
    """In tiles, and with the matrix kept, which so few scores take by themselves."""
    fast, plain = CASES[name]
    want = value_and_gradients(plain, jnp.float64, reduce_fn)
    assert np.abs(want[1][0]).max() > 1e-3
    for mode in ("tiled", "auto"):
        got = value_and_gradients(fast, jnp.float64, reduce_fn, mode=mode)
        assert_close(got, want, 1e-12)


@pytest.mark.experiments
@pytest.mark.parametrize("name", UNMASKED)
def test_equals_the_plain_loss_in_float32(name):
    fast, plain = CASES[name]
    want = value_and_gradients(plain, jnp.float32, jnp.sum)
    for mode in ("tiled", "dense"):
        got = value_and_gradients(fast, jnp.float32, jnp.sum, mode=mode)
        assert_close(got, want, 1e-5)


BOUNDED = {
    "info_nce": info_nce(True, bounded=True),
    "two_way": two_way(True, bounded=True),
    "nt_xent": nt_xent(True, bounded=True),
    "in": supervised("in", True, bounded=True),
}


@pytest.mark.parametrize(
    ("name", "scale"),
    [*[(name, 1.7) for name in BOUNDED], ("two_way", 6.0), ("info_nce", 6.0)],
)
def test_bounded_form_and_its_fallback_in_float64(name, scale, x64):
    """At scale 6 the bound does not hold, and the general form must take over."""
    a = parallel.Side(jnp.asarray(A), scale=jnp.full(N, scale))
    assert sums.within_bound(a, parallel.Side(jnp.asarray(B))) == (scale < 2)
    fast, plain = BOUNDED[name]
    want = value_and_gradients(plain, jnp.float64, jnp.mean, scale)
    for mode in ("tiled", "auto"):
        got = value_and_gradients(fast, jnp.float64, jnp.mean, scale, mode=mode)
        assert_close(got, want, 1e-12)


@pytest.mark.parametrize("mode", ["tiled", "auto"])
@pytest.mark.parametrize("check_vma", [True, False])
def test_each_device_looks_at_its_own_bound(check_vma, mode):
    """Inside of `shard_map`, where some devices take one form and some the other."""
    x = (
        jnp.asarray(A[:36], jnp.float32)
        * jnp.repeat(jnp.array([1.0, 5.0]), 18)[:, None]
    )
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("data",))
    held = [
        bool(sums.within_bound(parallel.Side(x[i : i + 18]), None)) for i in (0, 18)
    ]
    assert held == [True, False]

    def loss(x):
        return tiled.nt_xent(x, tile=TILE, mode=mode)

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec("data"),
        check_vma=check_vma,
    )
    def mapped(x):
        value, grad = jax.value_and_grad(loss)(x)
        return value[None], grad

    values, grads = mapped(x)
    for i in range(2):
        rows = slice(18 * i, 18 * i + 18)
        want = jax.value_and_grad(loss)(x[rows])
        assert_close((values[i], grads[rows]), want, 1e-6)


def test_where_the_matrix_is_kept_the_bound_is_looked_at_once(monkeypatch):
    """A second look could see other roundings, and take scores for exponentials."""
    looks = []
    real = sums.within_bound
    monkeypatch.setattr(sums, "within_bound", lambda *x: looks.append(1) or real(*x))
    a = jnp.asarray(A, jnp.float32)
    jax.make_jaxpr(jax.grad(lambda a: tiled.two_way_info_nce(a, a)))(a)
    assert len(looks) == 1


def test_bounded_form_takes_one_exponential_per_score():
    """Whatever the tile does besides, [tile, tile] arrays go through exp once."""

    def exponentials(bounded):
        plan = sums.Plan(("negatives",), TILE, True, bounded=bounded)
        side = parallel.Side(jnp.ones((TILE, D)))
        one = sums.RowSums((jnp.ones(TILE),))
        known = sums.Known(side, one, one)

        def both(x):
            run = sums.start(x, TILE, plan)
            out = sums.sums_tile(plan, side)(
                side, run, tiles.slab(tiles.split(run, 16), 0)
            )
            grads = jnp.zeros((TILE, D)), jnp.zeros((1, D, TILE))
            return out, sums.gradient_tile(plan, known)(known, *grads)

        text = str(jax.make_jaxpr(both)(side.x))
        return text.count(f"f32[{TILE},{TILE}] = exp ")

    assert exponentials(True) == 2 and exponentials(False) == 4


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize(
    "mode", ["tiled", pytest.param("auto", marks=pytest.mark.experiments)]
)
# The bounded form, and the general one.
@pytest.mark.parametrize(("scale", "most"), [(40.0, 1e-9), (50.0, 1e-12)])
@pytest.mark.parametrize("loss", ["info_nce", "two_way_info_nce", "nt_xent"])
def test_a_saturated_batch_keeps_its_gradient(loss, scale, most, mode, x64):
    """Loss near 1e-12 and 1e-15: float32 against float64, at most 1e-4 apart."""
    x = unit(np.random.default_rng(1).normal(size=(128, 128)))
    y = unit(x + 0.03 * np.random.default_rng(2).normal(size=x.shape))

    def f(dtype):
        # A little shorter than one, for rounding not to exceed the bound.
        a, b = (jnp.asarray(np.float32(v * 0.999), dtype) for v in (x, y))
        args = (jnp.concatenate([a, b]),) if loss == "nt_xent" else (a, b)

        def run(*args):
            return getattr(tiled, loss)(*args, scale=scale, tile=48, mode=mode)

        return jitted(jax.value_and_grad(run))(*args)

    (want, want_grad), (got, got_grad) = f(jnp.float64), f(jnp.float32)
    assert 1e-17 < want < most
    np.testing.assert_allclose(got, want, rtol=1e-4)
    error = np.linalg.norm(got_grad - want_grad) / np.linalg.norm(want_grad)
    assert error < 1e-4


def test_half_precision_operands():
    """Products of bfloat16 with float32 sums: float32 loss, bfloat16 gradients."""
    a, b = (jnp.asarray(unit(x), jnp.bfloat16) for x in (A, B[:N]))

    def f(a, b):
        return tiled.two_way_info_nce(a, b, scale=10.0, tile=16, mode="tiled")

    f = jitted(jax.value_and_grad(f, (0, 1)))
    got, grads = f(a, b)
    exact = [x.astype(jnp.float32) for x in (a, b)]
    want, want_grads = f(*exact)
    assert got.dtype == jnp.float32 and grads[0].dtype == jnp.bfloat16
    np.testing.assert_allclose(got, want, rtol=2e-2)
    for x, y in zip(grads, want_grads, strict=True):
        assert np.abs(x.astype(jnp.float32) - y).max() < 2e-2 * np.abs(y).max()


@pytest.mark.parametrize("loss", ["two_way_info_nce", "pairwise_sigmoid"])
def test_nothing_counts_gives_zero_and_zero_gradient(loss):
    def f(a):
        none = jnp.zeros(N, bool)
        b = jnp.asarray(B[:N], jnp.float32)
        return getattr(tiled, loss)(a, b, where=none, tile=16, mode="tiled")

    value, grad = jitted(jax.value_and_grad(f))(jnp.asarray(A, jnp.float32))
    assert value == 0
    np.testing.assert_array_equal(grad, 0)


@pytest.mark.parametrize("mode", ["tiled", "auto"])
def test_an_anchor_without_a_positive_drops_out(mode):
    """A label that does not exist, and cannot be looked at inside of jit."""
    a, b = (jnp.asarray(x, jnp.float32) for x in (A, B))

    def f(labels, a):
        return tiled.info_nce(a, b, labels, tile=TILE, mode=mode)

    labels = jnp.asarray(LABELS).at[3].set(M).at[5].set(-1)
    value, grad = jitted(jax.value_and_grad(f, 1))(labels, a)
    kept = np.delete(np.arange(N), [3, 5])
    want = f(labels[kept], a[kept])
    np.testing.assert_allclose(value, want, rtol=1e-6)
    np.testing.assert_array_equal(grad[jnp.array([3, 5])], 0)


SIDES = (jnp.asarray(A[:6], jnp.float32), jnp.asarray(B[:6], jnp.float32))


def two_sets(name):
    """A tiled loss of two sets, also of those that take one."""
    if name == "nt_xent":
        return lambda a, b, **o: tiled.nt_xent(jnp.concatenate([a, b]), **o)
    if name == "supervised_contrastive":
        return lambda a, b, **o: tiled.supervised_contrastive(
            a, jnp.arange(6) // 2, **o
        )
    return getattr(tiled, name)


@pytest.mark.parametrize(
    "name",
    [
        "info_nce",
        "two_way_info_nce",
        "nt_xent",
        "supervised_contrastive",
        "pairwise_sigmoid",
    ],
)
def test_a_traced_scale_may_be_zero_or_negative(name):
    """The slope in the scale is that of ordinary differentiation, not 0 / 0."""
    loss = two_sets(name)

    @jitted
    def slopes(scale):
        grads = {
            mode: jax.value_and_grad(lambda s, m=mode: loss(*SIDES, scale=s, mode=m))
            for mode in ("tiled", "auto", "dense")
        }
        return {mode: grad(scale) for mode, grad in grads.items()}

    for scale in (0.0, -0.5, 0.7):
        got = slopes(scale)
        assert abs(got["dense"][1]) > 1e-2
        for mode in ("tiled", "auto"):
            np.testing.assert_allclose(got[mode], got["dense"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.int32])
def test_labels_of_narrow_types(dtype, without_type_hooks):
    """300 columns, of which 255 fit into a byte; no label is taken for another."""
    a, b = (jnp.asarray(RNG.normal(size=(n, 4)), jnp.float32) for n in (3, 300))
    labels = np.array([0, 5, 100])
    want = losses.info_nce(scores(a, b, 1.0), jnp.asarray(labels), reduce_fn=None)
    each = functools.partial(parallel.info_nce, reduce_fn=None)
    for f in (each, jitted(each)):
        got = f(a, b, jnp.asarray(labels, dtype))
        np.testing.assert_allclose(got, want, rtol=1e-5)
    split = jax.pmap(
        lambda a, b, labels: parallel.info_nce(
            a, b, labels, axis_name="data", exchange="ring", reduce_fn=None
        ),
        "data",
    )
    got = split(a[None], b[None], jnp.asarray(labels, dtype)[None])
    np.testing.assert_allclose(got[0], want, rtol=1e-5)


@pytest.mark.parametrize("exchange", ["dense", "tiles", "ring"])
def test_labels_out_of_range(exchange, without_type_hooks):
    """Static: refused. Traced: the anchor drops out, also next to another device."""
    a, b = (x[:4].reshape(2, 2, -1) for x in SIDES)

    def run(labels, a):
        f = functools.partial(parallel.info_nce, axis_name="data", exchange=exchange)
        return jax.vmap(f, axis_name="data")(a, b, labels)

    labels = jnp.array([[1, 2], [-1, 0]])  # 2 is no row of the first device
    value, slope = jax.jit(jax.value_and_grad(lambda labels, a: run(labels, a)[0], 1))(
        labels, a
    )
    logits = scores(a.reshape(4, -1), b.reshape(4, -1), 1.0)
    want = losses.info_nce(logits[jnp.array([0, 3])], jnp.array([1, 2]))
    np.testing.assert_allclose(value, want, rtol=1e-5)
    np.testing.assert_array_equal(slope[0, 1], 0)
    np.testing.assert_array_equal(slope[1, 0], 0)
    with pytest.raises(ValueError, match=r"labels: expected numbers in \[0, 2\)"):
        parallel.info_nce(a[0], b[0], np.array([0, 2]))


@pytest.mark.parametrize("exchange", ["dense", "tiles", "ring"])
def test_rows_without_a_label_have_no_positive(exchange):
    """Neither among themselves nor in a queue; one device of three rows, and two."""
    x, queue = SIDES[0], SIDES[1][:3]
    labels, later = jnp.array([0, -1, 0, -1, -1, -2]), jnp.array([-1, 0, -(2**31)])
    every = jnp.concatenate([labels, later])
    same = (labels[:, None] == every[None, :]) & (labels >= 0)[:, None]
    same &= ~jnp.eye(6, 9, dtype=bool)
    logits = scores(x, jnp.concatenate([x, queue]), 1.0)
    others = ~jnp.eye(6, 9, dtype=bool)
    want = losses.supervised_contrastive(logits, same, where=others, reduce_fn=None)
    match = (labels[:, None] == labels[None, :]) & (labels >= 0)[:, None]
    each = losses.pairwise_sigmoid(logits[:, :6], match, reduce_fn=None)

    def run(x, labels):
        options = dict(axis_name="data", exchange=exchange, reduce_fn=None)
        side = parallel.Side(queue, label=later)
        return (
            parallel.supervised_contrastive(x, labels, extra=side, **options),
            parallel.pairwise_sigmoid(x, x, (labels, labels), **options),
        )

    halves = x.reshape(2, 3, -1), labels.reshape(2, 3)
    got = jax.jit(jax.vmap(run, axis_name="data"))(*halves)
    for values, exact in zip(got, (want, each), strict=True):
        np.testing.assert_allclose(values.ravel(), exact, rtol=1e-5, atol=1e-5)


def test_ids_that_do_not_fit_and_groups_that_do_not_exist(without_type_hooks):
    a, b = SIDES
    ids, large = np.arange(6), np.arange(6) + 2**32
    for options in (
        dict(exclude=(ids, large)),
        dict(segments=(large, ids)),
        dict(log_weights=(ids, large, jnp.zeros((6, 6)))),
    ):
        with pytest.raises(ValueError, match="expected integers that fit into 32 bits"):
            parallel.info_nce(a, b, **options)
    with pytest.raises(ValueError, match="labels of columns: expected integers that"):
        parallel.pairwise_sigmoid(a, b, (ids, large))
    with pytest.raises(ValueError, match="labels: expected integers that fit"):
        parallel.supervised_contrastive(a, large)
    table = jnp.ones((2, 2))
    with pytest.raises(ValueError, match=r"log_weights of rows: expected numbers in"):
        parallel.info_nce(a, b, log_weights=(ids, ids % 2, table))
    with pytest.raises(ValueError, match="scale: expected one number, got shape"):
        parallel.info_nce(a, b, scale=jnp.ones(6))

    @jitted
    def traced(groups):  # a group that does not exist has no weight
        return parallel.info_nce(a, b, log_weights=(groups, ids % 2, table))

    logits, eye = scores(a, b, 1.0), jnp.eye(6)
    extra = jnp.where(jnp.arange(6)[:, None] < 2, 1.0, 0.0) * (1 - eye)
    np.testing.assert_allclose(traced(ids), losses.info_nce(logits + extra), rtol=1e-5)


def test_not_a_number_is_not_hidden():
    a = jnp.asarray(A, jnp.float32).at[3, 1].set(jnp.nan)
    b = jnp.asarray(B[:N], jnp.float32)

    def f(a):
        return tiled.two_way_info_nce(a, b, tile=16, mode="tiled")

    value, grad = jitted(jax.value_and_grad(f))(a)
    assert jnp.isnan(value) and jnp.isnan(grad[3]).all()


def scratch_bytes(loss, *shapes, **options):
    """Scratch memory of the compiled loss and gradient; nothing is allocated."""
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    f = jax.grad(lambda *args: loss(*args, **options), tuple(range(len(args))))
    return jax.jit(f).lower(*args).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(
    ("loss", "sides", "limit"),
    [
        ("two_way_info_nce", 2, 6),
        ("nt_xent", 1, 8),
        ("pairwise_sigmoid", 2, 6),
        ("info_nce", 2, 60),
    ],
)
def test_scratch_memory_is_a_few_tiles(loss, sides, limit):
    """In MiB; one score matrix would take 1,024."""
    got = scratch_bytes(getattr(tiled, loss), *[(16384, 16)] * sides)
    assert got < limit * 2**20


def test_small_batches_keep_the_matrix_and_dense_mode_differentiates_twice(
    monkeypatch,
):
    monkeypatch.setattr(sums, "KEPT_SCORES", 4 * 30 * 30)

    def f(a, mode):
        return tiled.nt_xent(a, tile=16, mode=mode)

    a = jnp.asarray(A[:36], jnp.float32)

    def program(mode, rows):
        return str(jax.make_jaxpr(jax.grad(lambda a: f(a, mode)))(a[:rows]))

    def loops(mode, rows):
        return "scan" in program(mode, rows) or "while" in program(mode, rows)

    assert loops("tiled", 30) and loops("auto", 32)
    assert not loops("auto", 30) and not loops("dense", 36)
    assert sums.choose_form("auto", 60, 60) == "kept"  # two sets: four times as many
    assert sums.choose_form("auto", 60, 61) == "tiled"
    hessian = jax.jit(jax.hessian(lambda a: f(a, "dense")))(a[:4])
    assert np.isfinite(hessian).all() and np.abs(hessian).max() > 0


def test_bad_input_is_named():
    # Without the type hooks of the test run, which would speak first.
    one = inspect.unwrap(tiled.info_nce)
    two = inspect.unwrap(tiled.two_way_info_nce)
    views = inspect.unwrap(tiled.nt_xent)
    classes = inspect.unwrap(tiled.supervised_contrastive)
    a, b, ids = jnp.zeros((4, 3)), jnp.zeros((5, 3)), jnp.arange(4)
    for error, message, call in [
        (ValueError, r"b: expected shape \[n, d\]", lambda: two(a, b)),
        (ValueError, "b: expected .* d = 3", lambda: one(a, jnp.zeros((5, 2)))),
        (ValueError, "scale: expected a finite", lambda: one(a, b, scale=0.0)),
        (ValueError, "scale: expected a finite", lambda: one(a, b, scale=-1.0)),
        (ValueError, "scale: expected a finite", lambda: one(a, b, scale=np.nan)),
        (ValueError, "labels: needed", lambda: one(b, a)),
        (ValueError, 'mode: expected "auto"', lambda: one(a, b, mode="fast")),
        (ValueError, "tile: expected", lambda: one(a, b, tile=0)),
        (ValueError, "labels: expected shape", lambda: one(a, b, ids[:3])),
        (
            ValueError,
            r"labels: expected .* \[0, 5\), got 2 to 5",
            lambda: one(a, b, ids + 2),
        ),
        (ValueError, "log_weights: expected", lambda: one(a, b, log_weights=ids)),
        (
            ValueError,
            r"log_weights of rows: expected shape \[4\]",
            lambda: one(a, b, log_weights=(ids[:3], jnp.arange(5), jnp.eye(5))),
        ),
        (
            ValueError,
            r"table: expected shape \[c, c\]",
            lambda: views(a, log_weights=(ids, jnp.ones((4, 3)))),
        ),
        (ValueError, "exclude of columns", lambda: one(a, b, exclude=(ids, ids))),
        (ValueError, "even number", lambda: views(b)),
        (ValueError, 'form: expected "out"', lambda: classes(a, ids, form="both")),
        (TypeError, "a: expected floating", lambda: one(ids[:, None], ids[:, None])),
        (TypeError, "segments: expected integers", lambda: views(a, segments=a[:, 0])),
        (TypeError, "where: expected booleans", lambda: two(a, a, where=ids)),
    ]:
        with pytest.raises(error, match=message):
            call()
