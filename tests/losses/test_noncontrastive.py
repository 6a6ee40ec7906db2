"""Losses without negatives: the arithmetic by hand, in numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses

RNG = np.random.default_rng(0)
A = RNG.normal(size=(6, 3)).astype(np.float32)
B = RNG.normal(size=(6, 3)).astype(np.float32)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-5)


def cosines(a, b):
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / norms


def on_jax(loss, *arrays, **options):
    return loss(*(jnp.asarray(x) for x in arrays), **options)


def test_byol_and_simsiam_are_cosines(transform):
    byol = transform(lambda a, b: losses.byol(a, b, reduce_fn=None))
    close(on_jax(byol, A, B), 2 - 2 * cosines(A, B))
    close(on_jax(losses.simsiam, A, B), -cosines(A, B).mean())


def test_targets_carry_a_gradient_only_when_asked():
    for loss in (losses.byol, losses.simsiam):
        for stop in (True, False):
            grad = jax.grad(functools.partial(loss, stop_targets=stop), argnums=1)
            assert (np.abs(on_jax(grad, A, B)).max() == 0) == stop


def test_barlow_twins_by_hand():
    a = (A - A.mean(axis=0)) / np.sqrt(A.var(axis=0) + 1e-5)
    b = (B - B.mean(axis=0)) / np.sqrt(B.var(axis=0) + 1e-5)
    c = a.T @ b / 6
    on = ((1 - np.diag(c)) ** 2).sum()
    off = (c**2).sum() - (np.diag(c) ** 2).sum()
    close(on_jax(losses.barlow_twins, A, B, off_diagonal=0.3), on + 0.3 * off)


def test_vicreg_by_hand():
    def spread(x):
        return np.maximum(0, 1 - np.sqrt(x.var(axis=0, ddof=1) + 1e-4)).mean()

    def overlap(x):
        c = np.cov(x.T)
        return ((c**2).sum() - (np.diag(c) ** 2).sum()) / 3

    a, b = 0.5 * A, 0.5 * B
    want = (
        2 * ((a - b) ** 2).mean()
        + 3 * (spread(a) + spread(b)) / 2
        + 4 * (overlap(a) + overlap(b))
    )
    assert spread(a) > 0.1
    options = dict(invariance=2.0, variance=3.0, covariance=4.0)
    close(on_jax(losses.vicreg, a, b, **options), want)


def whitened(x, eps):
    c = (1 - eps) * np.cov(x.T) + eps * np.eye(x.shape[1])
    return (x - x.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(c)).T


def test_w_mse_by_hand():
    a, b = whitened(A, 0.1), whitened(B, 0.1)
    close(on_jax(losses.w_mse, A, B, eps=0.1), 2 - 2 * cosines(a, b).mean(), 1e-4)
    plain = on_jax(losses.w_mse, A, B, eps=0.1, normalize=False)
    close(plain, ((a - b) ** 2).mean(), 1e-4)


def test_w_mse_whitens_groups_of_permutations():
    orders = np.array([[0, 2, 4, 1, 3, 5], [5, 4, 3, 2, 1, 0]])
    want = []
    for order in orders:
        for group in (order[:3], order[3:]):
            a, b = whitened(A[group], 0.2), whitened(B[group], 0.2)
            want.append(2 - 2 * cosines(a, b).mean())
    got = on_jax(
        losses.w_mse, A, B, permutations=jnp.asarray(orders), group_size=3, eps=0.2
    )
    close(got, np.mean(want), 1e-4)


def test_w_mse_needs_groups_of_equal_size():
    with pytest.raises(ValueError, match=r"^group_size: expected a divisor"):
        on_jax(losses.w_mse, A, B, group_size=4)


def test_alignment_by_hand():
    distances = np.linalg.norm(A - B, axis=1)
    for alpha in (1.0, 2.0, 3.0):
        got = on_jax(losses.alignment, A, B, alpha=alpha, reduce_fn=None)
        close(got, distances**alpha)


def test_uniformity_by_hand():
    terms = [
        np.exp(-3 * ((A[i] - A[j]) ** 2).sum()) for i in range(6) for j in range(i)
    ]
    close(on_jax(losses.uniformity, A, t=3.0), np.log(np.mean(terms)))


def test_collapse_is_worst_for_uniformity():
    assert on_jax(losses.uniformity, np.ones((4, 2), np.float32)) == 0
    assert on_jax(losses.uniformity, A) < 0


def test_koleo_by_hand(transform):
    unit = A / np.linalg.norm(A, axis=1, keepdims=True)
    gaps = np.linalg.norm(unit[:, None] - unit[None], axis=-1) + 9 * np.eye(6)
    loss = transform(lambda x: losses.koleo(x, reduce_fn=None))
    close(on_jax(loss, A), -np.log(gaps.min(axis=1)))
    where = np.arange(6) != gaps[0].argmin()
    left = np.where(where[None, :], gaps, 9).min(axis=1)
    got = on_jax(losses.koleo, A, where=jnp.asarray(where))
    close(got, -np.log(left[where]).mean())


def test_koleo_moves_near_duplicates_apart():
    # Their inner product is 1 to seven digits; their distance is not 0.
    x = np.array([[1.0, 0.0], [1.0, 1e-4], [-1.0, 0.0]], np.float32)
    value, grad = jax.value_and_grad(lambda x: losses.koleo(x, reduce_fn=jnp.sum))(x)
    close(value, -2 * np.log(1e-4 + 1e-8) - np.log(2))
    np.testing.assert_allclose(grad[:2, 1], [2e4, -2e4], rtol=1e-3)


def test_w_mse_of_equal_rows_is_finite():
    loss = jax.jit(jax.value_and_grad(functools.partial(losses.w_mse, eps=0.0)))
    value, grad = loss(jnp.ones((4, 2)), jnp.asarray(B[:4, :2]))
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_w_mse_refuses_an_order_with_a_row_twice():
    for wrong in ([[0, 1, 2, 3, 4, 4]], [[0, 1, 2, 3, 4, 6]]):
        with pytest.raises(ValueError, match=r"^permutations: expected"):
            on_jax(losses.w_mse, A, B, permutations=jnp.array(wrong))


def test_a_traced_power_is_as_a_plain_one():
    for alpha in (1.0, 2.0, 3.0):
        got = jax.jit(lambda alpha: on_jax(losses.alignment, A, B, alpha=alpha))(alpha)
        close(got, on_jax(losses.alignment, A, B, alpha=alpha))
