"""Prototypes by assignment and the running center."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import pairs, states


def start():
    return states.Prototypes(
        vectors=jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]),
        used=jnp.zeros(3, bool),
    )


def test_closed_form(transform):
    x = jnp.array([[0.0, 1.0], [0.0, 3.0], [2.0, 0.0]])
    weights = jnp.array([[3.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.0]])
    update = transform(
        lambda p, x, w: states.prototypes_update(p, x, w, decay=0.5, normalize=False)
    )
    got = update(start(), x, weights)
    # Weighted mean of the first: (3 * 1 + 1 * 3) / 4 = 1.5; the third has none.
    want = [[0.5, 0.75], [1.0, 0.5], [-1.0, 0.0]]
    np.testing.assert_allclose(got.vectors, want, rtol=1e-6)
    assert got.used.tolist() == [True, True, False]


def test_little_weight_moves_little():
    """eps 2 and a total of 0.5: the mean is a quarter of the feature."""
    x, weights = jnp.array([[4.0]]), jnp.array([[0.5]])
    means, some = states.assigned_means(x, weights, eps=2.0)
    assert means.tolist() == [[1.0]] and some.tolist() == [True]
    with pytest.raises(ValueError, match=r"^eps: expected"):
        states.assigned_means(x, weights, eps=-1.0)


def test_normalized():
    x = jax.random.normal(jax.random.key(0), (6, 2))
    weights = jax.random.uniform(jax.random.key(1), (6, 3))
    got = states.prototypes_update(start(), x, weights, decay=0.9)
    np.testing.assert_allclose(jnp.linalg.norm(got.vectors, axis=1), 1, rtol=1e-6)


def test_class_means_equal_numpy():
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    labels = np.arange(20) % 3
    mask = pairs.one_column(jnp.asarray(labels), 4)
    means, some = states.assigned_means(jnp.asarray(x), mask)
    want = [x[labels == c].mean(axis=0) for c in range(3)] + [np.zeros(4)]
    np.testing.assert_allclose(means, want, rtol=1e-5, atol=1e-6)
    assert some.tolist() == [True, True, True, False]


def test_gradient_only_on_request():
    x, weights = jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0, 0.0]])

    def value(x, **options):
        options = dict(decay=0.75, normalize=False, **options)
        return jnp.sum(states.prototypes_update(start(), x, weights, **options).vectors)

    assert jnp.all(jax.grad(value)(x) == 0)
    got = jax.grad(lambda x: value(x, stop_gradient=False))(x)
    np.testing.assert_allclose(got, [[0.25, 0.25]])


def test_wrong_input_is_named():
    with pytest.raises(ValueError, match="assignments: expected shape"):
        states.prototypes_update(start(), jnp.ones((2, 2)), jnp.ones((2, 4)), decay=0.5)


def test_center(transform):
    update = transform(lambda c, m: states.center_update(c, m, decay=0.9))
    center = update(states.center_init(2), jnp.array([1.0, -2.0]))
    center = update(center, jnp.array([1.0, 0.0]))
    np.testing.assert_allclose(center.value, [0.09 + 0.1, -0.18], rtol=1e-6)
    grad = jax.grad(lambda m: jnp.sum(update(center, m).value))(jnp.ones(2))
    assert jnp.all(grad == 0)
    with pytest.raises(ValueError, match="mean: expected shape"):
        states.center_update(center, jnp.ones(3), decay=0.9)
