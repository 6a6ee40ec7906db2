"""Moments, inverse roots and group whitening."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg
from jax.test_util import check_grads

from contrastive_jax import numerics, states

METHODS = ["eigh", "newton", "cholesky"]


def data(n=40, d=6, seed=0):
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 3)


def test_batch_moments_equal_numpy(x64, transform):
    x = data()
    got = transform(lambda x: states.batch_moments(x, ddof=1))(x)
    np.testing.assert_allclose(got.mean, np.mean(x, axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.covariance, np.cov(x.T), rtol=1e-10)


def test_masked_rows_are_as_if_absent(x64):
    x = data(10).at[3].set(1e6)
    where = jnp.arange(10) != 3
    got = states.batch_moments(x, where=where)
    want = states.batch_moments(x[where])
    np.testing.assert_allclose(got.covariance, want.covariance, rtol=1e-10)
    nothing = states.batch_moments(x, where=jnp.zeros(10, bool))
    assert jnp.all(nothing.covariance == 0) and jnp.all(nothing.mean == 0)


def test_running_moments_reach_those_of_the_data(x64):
    batch = states.batch_moments(data())
    moments = jax.tree.map(lambda m: m.astype(float), states.moments_init(6))
    for _ in range(200):
        moments = states.moments_update(moments, batch, decay=0.8)
    np.testing.assert_allclose(moments.covariance, batch.covariance, rtol=1e-6)
    np.testing.assert_allclose(moments.mean, batch.mean, rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_whitened_rows_have_covariance_one(x64, method):
    x = data()
    moments = states.batch_moments(x)
    matrix = states.whitening_matrix(moments.covariance, method=method, num_iters=40)
    y = (x - moments.mean[None, :]) @ matrix
    want = np.eye(6)
    np.testing.assert_allclose(states.batch_moments(y).covariance, want, atol=1e-6)


def test_inverse_roots_equal_scipy(x64):
    covariance = states.batch_moments(data()).covariance
    want = scipy.linalg.inv(scipy.linalg.sqrtm(covariance))
    for method in ("eigh", "newton"):
        got = states.whitening_matrix(covariance, method=method, num_iters=40)
        np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
    factor = scipy.linalg.cholesky(covariance, lower=True)
    got = states.whitening_matrix(covariance, method="cholesky")
    np.testing.assert_allclose(got, scipy.linalg.inv(factor).T, rtol=1e-6, atol=1e-8)


def test_one_newton_step_by_hand():
    # C = diag(1, 3), tr C = 4, P = (3 I - C / 4) / 2 = diag(1.375, 1.125), W = P / 2.
    got = states.whitening_matrix(
        jnp.diag(jnp.array([1.0, 3.0])), method="newton", num_iters=1
    )
    np.testing.assert_allclose(got, np.diag([0.6875, 0.5625]), rtol=1e-5)


def test_cholesky_equals_the_one_of_the_losses(x64):
    x = data()
    moments = states.batch_moments(x, ddof=1)
    matrix = states.whitening_matrix(
        0.9 * moments.covariance, method="cholesky", eps=0.1
    )
    want = numerics.cholesky_whiten(x, eps=0.1)
    np.testing.assert_allclose(
        (x - moments.mean[None, :]) @ matrix, want, rtol=1e-8, atol=1e-8
    )


@pytest.mark.parametrize("method", METHODS)
def test_gradient_against_finite_differences(x64, method):
    covariance = states.batch_moments(data(d=4)).covariance + jnp.eye(4)
    mix = jnp.asarray(np.random.default_rng(1).normal(size=(4, 4)))

    @jax.jit
    def value(c):
        c = jnp.asarray(c + c.T) / 2
        return jnp.sum(mix * states.whitening_matrix(c, method=method, num_iters=8))

    check_grads(value, (covariance,), order=1, modes=("rev", "fwd"), rtol=1e-5)


def test_gradient_at_equal_eigenvalues(x64):
    # d/dc of c^(-1/2) at c = 4 is -1 / (2 * 8).
    trace = jax.grad(lambda c: jnp.trace(states.whitening_matrix(c)))
    np.testing.assert_allclose(trace(4 * jnp.eye(3)), -np.eye(3) / 16, rtol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["zero", "identical", "one row", "few rows"])
def test_degenerate_batches_are_finite(method, kind):
    x = {
        "zero": jnp.zeros((8, 4)),
        "identical": jnp.ones((8, 4)) * 3,
        "one row": jnp.ones((1, 4)),
        "few rows": jax.random.normal(jax.random.key(0), (3, 4)),
    }[kind]

    def value(x):
        y = states.group_whiten(x, num_groups=2, method=method, stop_gradient=False)
        return jnp.sum(y**2)

    loss, grad = jax.jit(jax.value_and_grad(value))(x)
    assert jnp.isfinite(loss) and jnp.all(jnp.isfinite(grad))


def test_groups_are_whitened_apart_and_channels_return(x64, transform):
    x, order = data(), jnp.array([3, 0, 5, 1, 4, 2])
    got = transform(lambda x, p: states.group_whiten(x, p, num_groups=2))(x, order)
    for channels in (order[:3], order[3:]):
        part = x[:, channels] - jnp.mean(x[:, channels], axis=0, keepdims=True)
        covariance = part.T @ part / len(x)
        want = part @ scipy.linalg.inv(scipy.linalg.sqrtm(covariance))
        np.testing.assert_allclose(got[:, channels], want, rtol=1e-6, atol=1e-7)


def test_one_channel_per_group_is_standardization(x64):
    x = data()
    x = np.asarray(x)
    want = (x - x.mean(axis=0)) / x.std(axis=0)
    got = states.group_whiten(jnp.asarray(x), num_groups=6)
    np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-8)


def test_gradient_flows_through_the_matrix_only_on_request(x64):
    x, mix = data(), data(seed=1)

    @functools.partial(jax.jit, static_argnums=1)
    def value(x, cut):
        y = states.group_whiten(jnp.asarray(x), num_groups=2, stop_gradient=cut)
        return jnp.sum(mix * y)

    cut, whole = (jax.grad(value)(x, cut) for cut in (True, False))
    assert jnp.max(jnp.abs(cut - whole)) > 1e-3
    whole_value = functools.partial(value, cut=False)
    check_grads(whole_value, (x,), order=1, modes=("rev",), rtol=1e-4)


def test_views_have_their_own_order_and_statistics():
    views = jax.random.normal(jax.random.key(0), (2, 16, 8))
    orders = states.channel_permutations(jax.random.key(1), 2, 8)
    assert not jnp.all(orders[0] == orders[1])
    options = dict(num_groups=2, eps=0.1)
    whiten = jax.jit(functools.partial(states.group_whiten, **options))
    got = states.shuffled_group_whiten(views, orders, **options)
    for view, order, y in zip(views, orders, got, strict=True):
        want = whiten(view, order)
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def test_half_precision_is_computed_in_float32():
    x = data().astype(jnp.bfloat16)
    whiten = jax.jit(functools.partial(states.group_whiten, num_groups=2))
    got = whiten(x)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, whiten(x.astype(jnp.float32)), rtol=1e-4)


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="num_groups: expected a divisor of d = 6"):
        states.group_whiten(data(), num_groups=4)
    with pytest.raises((TypeError, ValueError), match="method"):
        states.whitening_matrix(jnp.eye(2), method="svd")
    with pytest.raises((TypeError, ValueError), match="covariance"):
        states.whitening_matrix(jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="eps: expected a number >= 0"):
        states.whitening_matrix(jnp.eye(2), eps=-1.0)


@pytest.mark.parametrize("method", METHODS)
def test_the_unit_of_the_covariance_does_not_matter(method):
    powers, unit = [-36, -24, -12, 0, 12, 36], np.diag([1.0, 0.25, 0.5])
    scaled = jnp.stack([jnp.asarray(unit * 10.0**p, jnp.float32) for p in powers])
    whiten = functools.partial(states.whitening_matrix, method=method, num_iters=12)
    for power, matrix in zip(powers, jax.jit(jax.vmap(whiten))(scaled), strict=True):
        got = np.asarray(matrix, np.float64) * 10.0 ** (power / 2)
        np.testing.assert_allclose(got.T @ unit @ got, np.eye(3), atol=2e-5)


def test_the_unit_of_the_rows_does_not_matter():
    powers, x = [-30, -20, -6, 6, 25], np.random.default_rng(0).normal(size=(30, 3))
    scaled = jnp.stack([jnp.asarray(x * 10.0**p, jnp.float32) for p in powers])

    @jax.jit
    @jax.vmap
    def whiten(x):
        group = functools.partial(states.group_whiten, ddof=1)
        cholesky = numerics.cholesky_whiten
        return cholesky(x), group(x), cholesky(x, eps=0.5), group(x, eps=0.5)

    cholesky, group, shrunk, lifted = whiten(scaled)
    for y in (*cholesky, *group):
        np.testing.assert_allclose(np.cov(np.asarray(y).T), np.eye(3), atol=1e-4)
    for i, power in enumerate(powers):  # eps is a variance, not a share of one
        variance = np.cov(x.T) * 10.0 ** (2 * power)
        factor = np.linalg.cholesky(0.5 * variance + 0.5 * np.eye(3))
        root = scipy.linalg.sqrtm(variance + 0.5 * np.eye(3))
        for y, divisor in ((shrunk[i], factor), (lifted[i], root)):
            matrix = np.linalg.inv(divisor)
            want = matrix @ variance @ matrix.T
            got = np.cov(np.asarray(y, np.float64).T)
            np.testing.assert_allclose(got, want, atol=1e-3 * np.abs(want).max())


def test_equal_rows_and_empty_channels_are_whitened_to_0():
    @jax.jit
    def whiten(x):
        def value(x):
            y = numerics.cholesky_whiten(x)
            return jnp.sum(y**2), y

        return jax.grad(value, has_aux=True)(x)

    rows = jnp.tile(jnp.array([[1.0, 2.0, 3.0]]), (5, 1)) / 7
    empty = jax.random.normal(jax.random.key(0), (5, 3)).at[:, 2].set(0.7)
    for x, variances in ((rows, [0.0, 0, 0]), (empty, [1.0, 1, 0])):
        grad, y = whiten(x)
        np.testing.assert_allclose(np.cov(y.T), np.diag(variances), atol=1e-4)
        assert np.isfinite(grad).all()


def test_an_order_with_a_channel_twice_is_refused():
    x, twice = jnp.ones((4, 3)), jnp.array([0, 1, 1])
    with pytest.raises(ValueError, match=r"^permutation: expected each of 0 to 2"):
        states.group_whiten(x, twice)
    with pytest.raises(ValueError, match=r"^permutations: expected each of 0 to 2"):
        states.shuffled_group_whiten(x[None], twice[None])
    with pytest.raises(ValueError, match=r"^permutation: expected each of 0 to 2"):
        states.group_whiten(x, jnp.array([0, 1, 3]))
