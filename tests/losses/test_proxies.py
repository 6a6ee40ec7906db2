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


MARGINS = np.array([0.1, 0.7, 2.0, 0.4])


def test_margins_by_class_are_those_of_the_own_class(transform, without_type_hooks):
    by_class = transform(
        lambda loss_margins: losses.arcface(
            *inputs(), margin=loss_margins, scale=8.0, reduce_fn=None
        )
    )(jnp.asarray(MARGINS, jnp.float32))
    for i, c in enumerate(LABELS):
        alone = losses.arcface(
            *inputs(), margin=float(MARGINS[c]), scale=8.0, reduce_fn=None
        )
        close(by_class[i], alone[i])
    own = np.eye(4)[LABELS]
    want = cross_entropy(8 * (COSINES - MARGINS * own))
    margins = jnp.asarray(MARGINS, jnp.float32)
    close(losses.cosface(*inputs(), margin=margins, scale=8.0, reduce_fn=None), want)
    for loss in (losses.arcface, losses.cosface, losses.proxy_anchor):
        with pytest.raises(ValueError, match=r"^margin: "):
            loss(*inputs(), margin=jnp.ones(5))


def test_proxy_anchor_with_margins_by_class_equals_a_loop():
    pull, push = [], []
    for c in range(4):
        own = [i for i in range(5) if LABELS[i] == c]
        others = [i for i in range(5) if LABELS[i] != c]
        near = sum(math.exp(-8 * (COSINES[i, c] - MARGINS[c])) for i in own)
        far = sum(math.exp(8 * (COSINES[i, c] + MARGINS[c])) for i in others)
        if own:
            pull.append(math.log(1 + near))
        push.append(math.log(1 + far))
    got = losses.proxy_anchor(*inputs(), margin=jnp.asarray(MARGINS), alpha=8.0)
    close(got, np.mean(pull) + np.mean(push))


def test_class_margins_follow_the_fourth_root():
    counts = np.array([10**10, 5, 80, 0])  # more than 32 bits hold
    want = 0.4 * np.maximum(counts, 1.0) ** -0.25
    close(losses.class_margins(counts, largest=0.4), want)
    with pytest.raises(ValueError, match=r"^class_counts: "):
        losses.class_margins(np.array([-1, 2]))


def test_subcenter_arcface_is_arcface_of_the_nearest(transform):
    cosines = np.random.default_rng(2).uniform(-0.95, 0.95, size=(5, 4, 3))
    x, labels = jnp.asarray(cosines, jnp.float32), jnp.asarray(LABELS)
    run = transform(lambda x: losses.subcenter_arcface(x, labels, scale=8.0))
    nearest = jnp.asarray(cosines.max(axis=2), jnp.float32)
    close(run(x), losses.arcface(nearest, labels, scale=8.0))
    grads = jax.grad(losses.subcenter_arcface)(x, labels)
    assert not grads[cosines < cosines.max(axis=2, keepdims=True)].any()
    # A class may have fewer vectors.
    fewer = x.at[:, 1, 2].set(-jnp.inf)
    nearest = nearest.at[:, 1].set(x[:, 1, :2].max(axis=1))
    close(run(fewer), losses.arcface(nearest, labels, scale=8.0))
