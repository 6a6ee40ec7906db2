"""The reductions and roots of numerics.py at their edges."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from contrastive_jax import numerics, parallel

INF = jnp.inf


def test_masked_logsumexp_of_nothing_has_no_gradient():
    x = jnp.array([[1.0, 2.0], [-INF, -INF], [3.0, -INF]])
    where = jnp.array([[True, True], [False, False], [True, False]])
    got = numerics.masked_logsumexp(x, where)
    np.testing.assert_allclose(got[0], np.logaddexp(1.0, 2.0), rtol=1e-6)
    assert got[1] == numerics.MASKED and got[2] == 3.0
    grads = jax.grad(lambda x: jnp.sum(numerics.masked_logsumexp(x, where)))(x)
    np.testing.assert_allclose(grads.sum(axis=1), [1.0, 0.0, 1.0], rtol=1e-6)


def test_minus_infinity_is_as_if_masked():
    logits = jnp.array([[1.0, -INF], [jnp.nan, 2.0]])
    got, where = numerics.masked_logits(logits, None)
    np.testing.assert_array_equal(where, [[True, False], [True, True]])
    assert got[0, 1] == 0 and jnp.isnan(got[1, 0])


@pytest.mark.parametrize("reduce_fn", [jnp.mean, jnp.sum, None])
def test_nothing_to_reduce_gives_zero(reduce_fn):
    values, where = jnp.array([jnp.nan, 5.0]), jnp.zeros(2, bool)
    for weights in (None, jnp.ones(2)):

        def reduced(values, weights=weights):
            options = dict(where=where, weights=weights, reduce_fn=reduce_fn)
            return jnp.sum(numerics.safe_reduce(values, **options))

        value, grad = jax.value_and_grad(reduced)(values)
        assert value == 0 and not grad.any()


def test_weighted_mean_divides_by_the_weights_that_count():
    values, weights = jnp.array([1.0, 2.0, 9.0]), jnp.array([1, 3, 100])
    where = jnp.array([True, True, False])
    got = numerics.safe_reduce(values, where=where, weights=weights)
    np.testing.assert_allclose(got, 7 / 4)
    assert numerics.safe_reduce(values, weights=jnp.zeros(3)) == 0


@pytest.mark.parametrize("root", [numerics.safe_sqrt, numerics.safe_log])
def test_roots_and_logarithms_are_flat_at_zero_and_show_nan(root):
    value, grad = jax.vmap(jax.value_and_grad(root))(
        jnp.array([0.0, -1.0, 4.0, jnp.nan])
    )
    assert np.isfinite(value[:3]).all() and np.isnan(value[3])
    np.testing.assert_array_equal(grad[:2], [0.0, 0.0])
    assert grad[2] > 0 and np.isnan(grad[3])


def test_log_subtract_exp():
    a, b = jnp.array([2.0, 2.0, 1.0, 300.0]), jnp.array([1.0, 2.0, 2.0, 299.0])
    got = numerics.log_subtract_exp(a, b)
    want = np.log(np.e**2 - np.e)
    np.testing.assert_allclose(got[jnp.array([0, 3])], [want, 298 + want], rtol=1e-6)
    assert (got[1:3] == numerics.MASKED).all()
    grads = jax.grad(lambda a: jnp.sum(numerics.log_subtract_exp(a, b)))(a)
    assert np.isfinite(grads).all()


def test_columns_that_are_known_are_checked():
    with pytest.raises(ValueError, match=r"^labels: .* got -1 to 2"):
        numerics.check_columns(jnp.array([-1, 2]), 3, "labels")
    with pytest.raises(TypeError, match=r"^labels: "):
        numerics.check_columns(jnp.array([0.5]), 3, "labels")


def test_safe_abs_is_the_modulus_and_flat_at_zero(transform):
    z = jnp.array([3.0 - 4.0j, 0.0, -2.0j])
    np.testing.assert_allclose(transform(numerics.safe_abs)(z), [5, 0, 2], rtol=1e-6)
    grads = jax.grad(lambda z: jnp.sum(numerics.safe_abs(z)))(z)
    # JAX gives the conjugate of the direction of steepest ascent.
    np.testing.assert_allclose(grads, [0.6 + 0.8j, 0, 1j], rtol=1e-6)
    x = jnp.array([-2.0, 0.0])
    np.testing.assert_allclose(numerics.safe_abs(x), [2, 0])
    grads = jax.grad(lambda x: jnp.sum(numerics.safe_abs(x)))(x)
    np.testing.assert_allclose(grads, [-1, 0])


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.uint8, jnp.uint32, jnp.int32])
def test_traced_columns_of_any_width_that_are_none_become_the_size(dtype):
    run = jax.jit(lambda x: numerics.check_columns(x, 300, "x", ignore=2))
    x = jnp.array([0, 100, 2, 127]).astype(dtype)
    np.testing.assert_array_equal(run(x), [0, 100, 300, 127])
    beyond = jnp.array([-1]).astype(dtype)  # the greatest number without a sign
    want = 255 if dtype == jnp.uint8 else 300
    np.testing.assert_array_equal(run(beyond), [want])


def test_orders_that_are_no_permutation_raise_or_are_marked():
    orders = np.array([[2, 0, 1], [1, 1, 0], [0, 1, 3]])
    got, right = jax.jit(lambda x: numerics.check_orders(x, "order"))(orders)
    np.testing.assert_array_equal(right, [True, False, False])
    np.testing.assert_array_equal(got, [[2, 0, 1], [0, 1, 2], [0, 1, 2]])
    for row in orders[1:]:
        with pytest.raises(ValueError, match=r"^order: expected"):
            numerics.check_orders(row[None], "order")


def test_numbers_are_named_with_what_was_expected():
    with pytest.raises(ValueError, match=r"^margin: expected a finite number, got nan"):
        numerics.check_finite(margin=np.nan)
    with pytest.raises(ValueError, match=r"^beta: expected a finite number >= 0"):
        numerics.check_nonnegative(beta=jnp.array(-1.0))
    with pytest.raises(TypeError, match=r"^beta: expected a number, got 'a'"):
        numerics.check_positive(beta="a")
    jax.jit(lambda x: numerics.check_positive(x=x))(-1.0)
    with pytest.raises(ValueError, match=r"^margin: .* shape \[3\], got shape \[2\]"):
        numerics.per_column(np.ones(2), 3, jnp.float32, "margin")


@pytest.mark.parametrize("offset", [1e4, 1e7, -1e7, 3e37])
def test_log_softmax_of_a_common_offset_equals_float64(offset):
    x = np.float32([[0.0, 1.0, 4.0, 9.0]]) + np.float32(offset)
    where, exact = jnp.array([[True, True, True, False]]), np.float64(x[:, :3])
    exact = (exact - exact.max()) / 0.3
    want = exact - np.log(np.exp(exact).sum())
    got = numerics.masked_log_softmax(jnp.asarray(x), where, temperature=0.3)
    np.testing.assert_allclose(got[:, :3], want, rtol=1e-6, atol=1e-6)
    assert got[0, 3] == 0


def test_gelu_has_the_derivatives_of_jax_also_over_devices():
    x = jnp.linspace(-6, 6, 16)
    mesh = parallel.make_mesh(parallel.choose_devices(8))
    spec = PartitionSpec(mesh.axis_names[0])
    got, want = numerics.gelu, functools.partial(jax.nn.gelu, approximate=False)
    for _ in range(3):
        np.testing.assert_allclose(got(x), want(x), atol=1e-6)
        split = jax.shard_map(got, mesh=mesh, in_specs=spec, out_specs=spec)
        np.testing.assert_allclose(jax.jit(split)(x), got(x), atol=1e-6)
        got, want = derivative(got), derivative(want)
    assert numerics.gelu(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def derivative(function):
    return jax.grad(lambda x: jnp.sum(function(x)))
