"""Embeddings of half precision: as good as the plain loss of the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, parallel, similarity
from contrastive_jax.parallel import sums

FORMS = ("info_nce", "two_way", "nt_xent", "out", "sigmoid")


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def form(name, a, b, labels, scale=10.0, **options):
    """A public loss of pairs (a_i, b_i) with classes."""
    options |= dict(scale=scale)
    if name == "info_nce":
        return parallel.info_nce(a, b, **options)
    if name == "two_way":
        return parallel.two_way_info_nce(a, b, **options)
    if name == "nt_xent":
        return parallel.nt_xent(jnp.concatenate([a, b]), **options)
    if name == "out":
        x, labels = jnp.concatenate([a, b]), jnp.concatenate([labels, labels])
        return parallel.supervised_contrastive(x, labels, **options)
    return parallel.pairwise_sigmoid(a, b, bias=-scale, **options)


def plain(name, a, b, labels, scale=10.0):
    """The same from the matrix of scores."""

    def logits(a, b):
        return similarity.dot(a, b) * scale

    x = jnp.concatenate([a, b])
    if name == "info_nce":
        return losses.info_nce(logits(a, b))
    if name == "two_way":
        return losses.two_way_info_nce(logits(a, b))
    if name == "nt_xent":
        return losses.nt_xent(logits(x, x))
    if name == "out":
        labels = jnp.concatenate([labels, labels])
        same = labels[:, None] == labels[None, :]
        others = ~jnp.eye(len(x), dtype=bool)
        return losses.supervised_contrastive(logits(x, x), same, where=others)
    return losses.pairwise_sigmoid(logits(a, b) - scale)


def data(n, dtype):
    rng = np.random.default_rng(n)
    a = unit(rng.normal(size=(n, 8)))
    b = unit(a + 0.1 * rng.normal(size=(n, 8)))
    return {"a": jnp.asarray(a, dtype), "b": jnp.asarray(b, dtype)}


def value_and_grad(f, name, x):
    labels = jnp.arange(len(x["a"])) // 3
    return jax.value_and_grad(lambda x: f(name, **x, labels=labels))(x)


def check(got, want, dtype):
    """The value of float32; a gradient within the rounding of its own type."""
    (value, grads), (want, want_grads) = got, want
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, want, rtol=1e-5, atol=1e-6)
    for key, exact in want_grads.items():
        assert grads[key].dtype == dtype
        rounding = jnp.linalg.norm(exact - exact.astype(dtype).astype(jnp.float32))
        error = jnp.linalg.norm(grads[key].astype(jnp.float32) - exact)
        assert error <= 1.1 * rounding + 1e-5 * jnp.linalg.norm(exact)


def compare(names, dtype, sizes):
    """All losses and sizes in one program."""
    inputs = {n: data(n, dtype) for n in sizes}

    @jax.jit
    def run(inputs):
        exact = jax.tree.map(lambda x: x.astype(jnp.float32), inputs)
        return [
            (value_and_grad(form, name, inputs[n]), value_and_grad(plain, name, x))
            for name in names
            for n, x in exact.items()
        ]

    for got, want in run(inputs):
        check(got, want, dtype)


on_demand = pytest.mark.slow
RUNS = [
    (jnp.bfloat16, (8,)),
    *[
        pytest.param(dtype, sizes, marks=on_demand)
        for dtype in (jnp.bfloat16, jnp.float16)
        for sizes in [(8, 100), (1, 2, 3), (17, 256, 300)]
    ],
]


@pytest.mark.parametrize(("dtype", "sizes"), RUNS)
def test_every_loss_of_every_size(dtype, sizes, monkeypatch):
    """In tiles, whose products a CPU cannot take of bfloat16."""
    monkeypatch.setattr(sums, "KEPT_SCORES", 0)
    compare(FORMS, dtype, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_where_the_matrix_is_kept(dtype):
    compare(FORMS, dtype, (8, 100))


def test_slopes_below_the_range_of_float16():
    """1,024 well separated pairs: a slope is a millionth."""
    compare(["two_way"], jnp.float16, (1024,))


def test_sums_beyond_the_range_of_float16(monkeypatch):
    """All anchors have one positive, whose gradient is divided by them at last."""
    monkeypatch.setattr(sums, "KEPT_SCORES", 0)
    n, scale = 1024, 100.0
    a = jnp.ones((n, 2), jnp.float16)
    b = jnp.asarray(np.tile([[1.0, -1.0], [2.0, 0.0]], (n // 2, 1)), jnp.float16)
    labels = jnp.zeros(n, int)

    @jax.jit
    @jax.grad
    def grad(b):
        return parallel.info_nce(a, b, labels, scale=scale)

    @jax.jit
    @jax.grad
    def want(b):
        return losses.info_nce(similarity.dot(a, b) * scale, labels)

    assert jnp.isfinite(grad(b)).all()
    np.testing.assert_allclose(grad(b)[0], want(b)[0], rtol=2e-3)
    assert abs(want(b)[0, 0]) * n > jnp.finfo(jnp.float16).max


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("name", ["two_way", "sigmoid"])
def test_the_ring(name, dtype):
    """Four devices against one, in a parameter that turns all rows."""
    x = data(64, dtype)
    turn = jnp.eye(8, dtype=dtype)

    def turned(f, turn, x, **options):
        labels = jnp.arange(len(x["a"]))
        return f(name, **jax.tree.map(lambda x: x @ turn, x), labels=labels, **options)

    def ring(turn, x):
        return turned(form, turn, x, axis_name="data", exchange="ring")

    split = jax.tree.map(lambda x: x.reshape(4, 16, -1), x)
    run = parallel.value_and_grad(ring, "data")
    value, grad = jax.pmap(run, "data", in_axes=(None, 0), devices=jax.devices()[:4])(
        turn, split
    )
    exact = jax.tree.map(lambda x: x.astype(jnp.float32), (turn, x))
    want, slope = jax.jit(jax.value_and_grad(lambda *x: turned(plain, *x)))(*exact)
    np.testing.assert_allclose(value, [want] * 4, rtol=1e-5)
    tolerance = 4 * jnp.finfo(dtype).eps * jnp.abs(slope).max()
    np.testing.assert_allclose(grad[0].astype(jnp.float32), slope, atol=tolerance)


def test_an_only_candidate_has_exactly_no_gradient(monkeypatch):
    """A row of one candidate is certain of it, to the bit."""
    monkeypatch.setattr(sums, "KEPT_SCORES", 0)
    x = jax.tree.map(lambda x: x[:, None], data(32, jnp.float32))

    @jax.jit
    def run(x):
        def each(x):
            return [value_and_grad(form, name, x) for name in FORMS[:4]]

        return jax.lax.map(each, x)

    for value, grads in run(x):
        assert not value.any()
        assert not any(g.any() for g in grads.values())
