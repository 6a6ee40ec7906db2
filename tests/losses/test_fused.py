"""Losses from hidden states equal those of whole logits; their memory does not grow."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, PartitionSpec

from contrastive_jax import losses

from .test_memory import scratch

RNG = np.random.default_rng(0)
N, T, V, D = 2, 7, 11, 4
HIDDEN, HEAD = RNG.normal(size=(N, T, D)), RNG.normal(size=(V, D))
OTHER, OTHER_HEAD = RNG.normal(size=(N, T, 3)), RNG.normal(size=(V, 3))
LABELS = jnp.asarray(RNG.integers(V, size=(N, T)), jnp.int32).at[0, :2].set(-100)
WHERE = jnp.ones((N, T), bool).at[1, 3].set(False)
SLOPES = RNG.normal(size=(N, T))


def logits(hidden, head):
    hidden, head = (x.astype(jnp.promote_types(x.dtype, "f4")) for x in (hidden, head))
    return jnp.einsum("ntd,vd->ntv", hidden, head, precision="highest")


def fused_log_probs(hidden, head, chunk):
    return losses.linear_log_probs(hidden, head, LABELS, where=WHERE, chunk=chunk)


def plain_log_probs(hidden, head):
    return losses.token_log_probs(logits(hidden, head), LABELS, where=WHERE)


def fused_kl(hidden, head, chunk):
    other = [jnp.asarray(x, hidden.dtype) for x in (OTHER, OTHER_HEAD)]
    return losses.linear_kl(hidden, head, *other, where=WHERE, chunk=chunk)


def plain_kl(hidden, head):
    other = logits(*(jnp.asarray(x, hidden.dtype) for x in (OTHER, OTHER_HEAD)))
    pair = (x.reshape(-1, V) for x in (logits(hidden, head), other))
    kl = losses.distillation_kl(*pair, reduce_fn=None)
    return jnp.where(WHERE, kl.reshape(N, T), 0)


def with_gradient(f):
    """Values of all tokens and the gradient of their weighted sum."""

    def total(hidden, head):
        each = f(hidden, head)
        return jnp.sum(jnp.asarray(SLOPES, each.dtype) * each), each

    return jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))


@pytest.mark.parametrize(
    "pair", [(fused_log_probs, plain_log_probs), (fused_kl, plain_kl)]
)
@pytest.mark.parametrize(
    ("dtype", "rtol"), [("f4", 1e-5), ("f8", 1e-12), ("bfloat16", 1e-2)]
)
def test_value_and_gradient_equal_those_of_whole_logits(pair, dtype, rtol):
    with jax.enable_x64(dtype == "f8"):
        args = [jnp.asarray(x, dtype) for x in (HIDDEN, HEAD)]
        (_, each), grads = with_gradient(functools.partial(pair[0], chunk=4))(*args)
        (_, want), want_grads = with_gradient(pair[1])(*args)
        assert each.dtype == want.dtype and grads[0].dtype == args[0].dtype
        # Both sum exact products of bfloat16 in float32.
        close = functools.partial(np.testing.assert_allclose, atol=rtol)
        close(each, want, rtol=min(rtol, 1e-5))
        for got, x in zip(grads, want_grads, strict=True):
            close(np.float64(got), np.float64(x), rtol=rtol)


@pytest.mark.parametrize("chunk", [1, 3, N * T, 1000])
def test_the_chunk_does_not_change_the_value(chunk):
    args = [jnp.asarray(x, jnp.float32) for x in (HIDDEN, HEAD)]
    got = with_gradient(functools.partial(fused_log_probs, chunk=chunk))(*args)
    want = with_gradient(functools.partial(fused_log_probs, chunk=4))(*args)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), got, want
    )


def test_cross_entropy_is_the_mean_over_tokens_that_count():
    args = [jnp.asarray(x, jnp.float32) for x in (HIDDEN, HEAD)]
    weights = jnp.array([1.0, 3.0])
    for options in ({}, {"reduce_fn": None}, {"weights": weights}):
        got = losses.linear_cross_entropy(*args, LABELS, where=WHERE, **options)
        want = losses.token_cross_entropy(logits(*args), LABELS, where=WHERE, **options)
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_what_does_not_count_leaves_no_trace(without_type_hooks):
    args = [jnp.asarray(x, jnp.float32) for x in (HIDDEN, HEAD)]
    want = with_gradient(functools.partial(fused_log_probs, chunk=4))(*args)
    spoiled = args[0].at[1, 3].set(jnp.nan).at[0, 0].set(jnp.inf)
    got = with_gradient(functools.partial(fused_log_probs, chunk=4))(spoiled, args[1])
    jax.tree.map(np.testing.assert_array_equal, got, want)
    # A traced label that is no column drops out, as one that is ignored.
    run = jax.jit(lambda y: losses.linear_log_probs(*args, y))
    for label in (-1, V, 2**30):
        np.testing.assert_array_equal(
            run(LABELS.at[1, 0].set(label)), run(LABELS.at[1, 0].set(-100))
        )


def test_a_sure_token_keeps_its_digits():
    head = jnp.array([[1.0], [0.0]])
    hidden = jnp.full((1, 1, 1), 30.0)
    run = jax.value_and_grad(
        lambda h: losses.linear_log_probs(h, head, jnp.array([[0]]))[0, 0]
    )
    value, grad = run(hidden)
    np.testing.assert_allclose(
        [value, grad[0, 0, 0]], [-np.exp(-30), np.exp(-30)], rtol=1e-5
    )


@pytest.mark.parametrize("check_vma", [True, False])
def test_devices_with_rows_of_their_own_and_one_head(check_vma):
    mesh = Mesh(np.array(jax.devices()[:2]), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    args = [jnp.asarray(x, jnp.float32) for x in (HIDDEN, HEAD)]
    labels = LABELS

    def loss(hidden, head, labels):
        def local(head):
            each = losses.linear_log_probs(hidden, head, labels, chunk=4)
            return jax.lax.psum(jnp.sum(each), "data")

        return local(head)

    run = jax.shard_map(
        loss,
        mesh=mesh,
        in_specs=(spec, PartitionSpec(), spec),
        out_specs=PartitionSpec(),
        check_vma=check_vma,
    )
    got = jax.jit(jax.value_and_grad(run, (0, 1)))(*args, labels)
    want = jax.value_and_grad(
        lambda h, w: jnp.sum(losses.linear_log_probs(h, w, labels)), (0, 1)
    )(*args)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), got, want
    )


@pytest.mark.parametrize("name", ["linear_cross_entropy", "linear_kl"])
def test_scratch_does_not_grow_with_the_tokens(name):
    v, d, chunk = 4096, 32, 64

    def needed(tokens):
        shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
        hidden, head = shape((1, tokens, d)), shape((v, d))
        labels = jax.ShapeDtypeStruct((1, tokens), jnp.int32)

        def loss(hidden, head, labels):
            if name == "linear_kl":
                return jnp.sum(
                    losses.linear_kl(hidden, head, -hidden, head, chunk=chunk)
                )
            return losses.linear_cross_entropy(hidden, head, labels, chunk=chunk)

        return scratch(jax.value_and_grad(loss, (0, 1)), hidden, head, labels)

    few, many = needed(256), needed(1024)
    of_chunk, of_head, of_states = 4 * chunk * v, 4 * v * d, 4 * 1024 * d
    # All logits would be 16 chunks.
    assert many <= 4 * of_chunk + 4 * of_head + 8 * of_states
    assert many - few <= 8 * of_states


def test_wrong_arguments_are_named(without_type_hooks):
    hidden, head = jnp.zeros((1, 2, 3)), jnp.zeros((4, 3))
    labels = jnp.zeros((1, 2), jnp.int32)
    with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 4\)"):
        losses.linear_log_probs(hidden, head, labels + 4)
    with pytest.raises(ValueError, match=r"^head: expected shape \[v, d\] with d = 3"):
        losses.linear_log_probs(hidden, head[:, :2], labels)
    with pytest.raises(ValueError, match=r"^reference_head: expected shape \[v, e\]"):
        losses.linear_kl(hidden, head, hidden, head[:3])
    with pytest.raises(TypeError, match=r"^hidden: expected floating point"):
        losses.linear_log_probs(hidden.astype(int), head, labels)
    for chunk, error in ((0, ValueError), (2.0, TypeError)):
        with pytest.raises(error, match=r"^chunk: expected "):
            losses.linear_cross_entropy(hidden, head, labels, chunk=chunk)
