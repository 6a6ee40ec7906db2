"""Values of similarity.py against scipy, and gradients where distances are 0."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from contrastive_jax import similarity

RNG = np.random.default_rng(0)
A, B = (jnp.asarray(RNG.normal(size=(n, 3)), jnp.float32) for n in (5, 4))
METRICS = {
    similarity.dot: lambda a, b: a @ b.T,
    similarity.cosine: lambda a, b: 1 - cdist(a, b, "cosine"),
    similarity.cosine_distance: lambda a, b: cdist(a, b, "cosine"),
    similarity.euclidean: lambda a, b: -cdist(a, b),
    similarity.euclidean_distance: cdist,
    similarity.squared_euclidean: lambda a, b: -cdist(a, b, "sqeuclidean"),
    similarity.squared_euclidean_distance: lambda a, b: cdist(a, b, "sqeuclidean"),
    similarity.manhattan_distance: lambda a, b: cdist(a, b, "cityblock"),
}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_equals_scipy(metric):
    np.testing.assert_allclose(
        metric(A, B), METRICS[metric](A, B), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)
def test_equal_and_zero_rows_have_finite_gradients(metric):
    x = jnp.zeros((3, 2)).at[:2].set(1.0)
    value, grad = jax.value_and_grad(lambda x: jnp.sum(metric(x, x)))(x)
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_csls_by_a_loop(transform):
    cosines = 1 - cdist(A, B, "cosine")
    want = np.empty((5, 4))
    for i in range(5):
        for j in range(4):
            row = np.mean(sorted(cosines[i])[-2:])
            column = np.mean(sorted(cosines[:, j])[-2:])
            want[i, j] = 2 * cosines[i, j] - row - column
    got = transform(lambda a, b: similarity.csls(a, b, k=2))(A, B)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="k: expected 1 to 4, got 5"):
        similarity.csls(A, B, k=5)


def test_csls_frees_neighbors_from_a_hub():
    # b_1 is near to all; each of a is nearest to it by cosine.
    a = jnp.array([[1.0, 0.5], [1.0, -0.5]])
    b = jnp.array([[1.0, 1.6], [1.0, 0.0], [1.0, -1.6]])
    assert jnp.argmax(similarity.cosine(a, b), axis=1).tolist() == [1, 1]
    assert jnp.argmax(similarity.csls(a, b, k=2), axis=1).tolist() == [0, 2]


def test_l2_normalize_keeps_zero_tiny_and_huge_rows_finite():
    x = jnp.array([[0.0, 0.0], [3e-20, 4e-20], [3e18, 4e18], [3.0, 4.0]])
    y = similarity.l2_normalize(x)
    np.testing.assert_allclose(y[2:], [[0.6, 0.8]] * 2, rtol=1e-6)
    np.testing.assert_array_equal(y[0], [0.0, 0.0])
    assert np.isfinite(jax.grad(lambda x: jnp.sum(similarity.l2_normalize(x)))(x)).all()


def test_bilinear_and_multi_head_are_einsums():
    weight = jnp.asarray(RNG.normal(size=(3, 3)), jnp.float32)
    got = similarity.bilinear(A, B, weight)
    np.testing.assert_allclose(got, A @ weight @ B.T, rtol=1e-5, atol=1e-5)
    a, b = RNG.normal(size=(5, 2, 3)), RNG.normal(size=(4, 2, 3))
    got = similarity.multi_head(
        jnp.asarray(a, jnp.float32), jnp.asarray(b, jnp.float32)
    )
    np.testing.assert_allclose(
        got, np.einsum("nkd,mkd->knm", a, b), rtol=1e-4, atol=1e-5
    )
