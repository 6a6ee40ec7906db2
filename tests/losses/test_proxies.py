"""Values of losses/proxy.py against loops over examples and classes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import losses

COSINES = np.random.default_rng(0).uniform(-0.95, 0.95, size=(5, 4))
LABELS = np.array([0, 2, 2, 1, 0])


def inputs():
    return jnp.asarray(COSINES, jnp.float32), jnp.asarray(LABELS)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def cross_entropy(logits):
    return optax.softmax_cross_entropy_with_integer_labels(
        jnp.asarray(logits, jnp.float32), jnp.asarray(LABELS)
    )


def test_normalized_softmax_is_cross_entropy(transform):
    loss = transform(losses.normalized_softmax)
    close(loss(*inputs()), cross_entropy(COSINES / 0.05).mean())


def test_cosface_takes_the_margin_off_the_own_class():
    own = np.eye(4)[LABELS]
    want = cross_entropy(16 * (COSINES - 0.35 * own))
    close(losses.cosface(*inputs(), scale=16.0, reduce_fn=None), want)


@pytest.mark.parametrize("margin", [0.5, 2.5])
def test_arcface_adds_the_margin_to_the_angle(margin):
    shifted, beyond = COSINES.copy(), 0
    for i, c in enumerate(LABELS):
        angle = math.acos(COSINES[i, c])
        if angle <= math.pi - margin:
            shifted[i, c] = math.cos(angle + margin)
        else:
            beyond += 1
            shifted[i, c] = COSINES[i, c] - margin * math.sin(margin)
    assert 0 < beyond
    got = losses.arcface(*inputs(), margin=margin, scale=8.0, reduce_fn=None)
    close(got, cross_entropy(8 * shifted))


def test_arcface_is_finite_at_cosines_of_one():
    cosines = jnp.array([[1.0, -1.0], [1.0, -1.0]])
    labels = jnp.array([0, 1])
    value, gradient = jax.value_and_grad(losses.arcface)(cosines, labels)
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_proxy_nca_with_and_without_its_own_proxy():
    logits = 2 * COSINES - 2
    without = []
    for i, c in enumerate(LABELS):
        others = sum(math.exp(logits[i, k]) for k in range(4) if k != c)
        without.append(math.log(others) - logits[i, c])
    x, labels = jnp.asarray(logits, jnp.float32), jnp.asarray(LABELS)
    close(losses.proxy_nca(x, labels, reduce_fn=None), without)
    got = losses.proxy_nca(x, labels, positive_in_denominator=True, reduce_fn=None)
    close(got, cross_entropy(logits))


def test_proxy_nca_of_one_class_is_zero():
    x = jnp.ones((2, 1))
    value, gradient = jax.value_and_grad(losses.proxy_nca)(x, jnp.zeros(2, int))
    assert value == 0
    np.testing.assert_array_equal(gradient, np.zeros((2, 1)))


def test_proxy_anchor_equals_a_loop():
    pull, push = [], []
    for c in range(4):
        own = [i for i in range(5) if LABELS[i] == c]
        others = [i for i in range(5) if LABELS[i] != c]
        near = sum(math.exp(-8 * (COSINES[i, c] - 0.1)) for i in own)
        far = sum(math.exp(8 * (COSINES[i, c] + 0.1)) for i in others)
        if own:
            pull.append(math.log(1 + near))
        push.append(math.log(1 + far))
    assert len(pull) == 3 and len(push) == 4
    close(losses.proxy_anchor(*inputs(), alpha=8.0), np.mean(pull) + np.mean(push))
