"""Values of losses/regression.py against loops over pairs."""

import cmath
import math

import jax.numpy as jnp
import numpy as np

from contrastive_jax import losses, pairs, similarity


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def f32(x):
    return jnp.asarray(x, jnp.float32)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def test_cosine_similarity_mse_by_hand(transform):
    a, b = f32([[3.0, 4.0], [1.0, 0.0]]), f32([[4.0, 3.0], [-2.0, 0.0]])
    # cosines 24 / 25 and -1
    loss = transform(losses.cosine_similarity_mse)
    close(loss(a, b, f32([0.5, 0.0])), (0.46**2 + 1) / 2)


def test_cosent_equals_a_loop():
    scores, targets = 3 * normal(5), np.array([0.1, 0.7, 0.4, 0.4, 0.9])
    total = 1 + sum(
        math.exp(scores[k] - scores[j])
        for k in range(5)
        for j in range(5)
        if targets[k] < targets[j]
    )
    close(losses.cosent(f32(scores), f32(targets)), math.log(total))


def test_cosent_of_equal_targets_is_zero():
    assert losses.cosent(f32(normal(4)), jnp.full(4, 0.3)) == 0


def test_angle_equals_complex_arithmetic():
    a, b, targets = normal((4, 6)), normal((4, 6), 1), normal(4, 2)
    x = a[:, :3] + 1j * a[:, 3:]
    y = b[:, :3] + 1j * b[:, 3:]
    lengths = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    z = x * y.conj() / lengths[:, None]
    scores = np.abs(np.sum(z.real + z.imag, axis=1))
    want = losses.cosent(f32(scores / 0.05), f32(targets))
    close(losses.angle_loss(f32(a), f32(b), f32(targets)), want)


def test_angle_score_of_one_complex_number_is_its_angle():
    # x conj(y) = e^(i t): the score is |cos t + sin t|; the other pair scores 1.
    t = 0.4
    x = cmath.exp(1j * t)
    a, b = f32([[x.real, x.imag], [1.0, 0.0]]), f32([[1.0, 0.0], [1.0, 0.0]])
    got = losses.angle_loss(a, b, f32([0.0, 1.0]), temperature=1.0)
    close(got, math.log(1 + math.exp(math.cos(t) + math.sin(t) - 1)))


def test_angle_of_an_odd_number_of_entries_ends_with_a_real_one():
    a, b, targets = f32(normal((4, 5))), f32(normal((4, 5), seed=1)), jnp.arange(4.0)
    wide = [jnp.concatenate([x, jnp.zeros((4, 1))], axis=1) for x in (a, b)]
    close(losses.angle_loss(a, b, targets), losses.angle_loss(*wide, targets))


def test_rank_n_contrast_equals_a_triple_loop():
    z, y = normal((6, 3)), np.array([1.0, 2.0, 2.0, 5.0, 3.0, 1.0])  # with ties
    s = -np.linalg.norm(z[:, None] - z[None, :], axis=-1) / 2
    gap = np.abs(y[:, None] - y[None, :])
    want = np.zeros((6, 6))
    for i in range(6):
        for k in range(6):
            far = [j for j in range(6) if j != i and gap[i, j] >= gap[i, k]]
            if k != i:
                want[i, k] = math.log(sum(math.exp(s[i, j]) for j in far)) - s[i, k]
    logits = similarity.euclidean(f32(z), f32(z)) / 2
    where = ~jnp.eye(6, dtype=bool)
    got = losses.rank_n_contrast(logits, f32(gap), where=where)
    close(got, want.sum() / 30)
    got = losses.rank_n_contrast(logits, f32(gap), where=where, reduce_fn=None)
    close(got, want.sum(axis=1))


def test_rank_n_contrast_of_equal_targets_is_one_softmax():
    logits = f32(normal((3, 5)))
    got = losses.rank_n_contrast(logits, jnp.ones((3, 5)))
    total = np.log(np.exp(np.asarray(logits)).sum(axis=1, keepdims=True))
    close(got, np.mean(total - np.asarray(logits)))


def test_weighted_supervised_contrastive_equals_a_loop():
    s, y = normal((4, 5)), np.array([1.0, 2.0, 2.5, 4.0])
    columns = np.array([1.2, 2.2, 9.0, 3.9, 2.6])
    positives = pairs.close_targets(f32(y), f32(columns), threshold=0.45)
    w = 1 + np.abs(y[:, None] - columns[None, :])
    want = []
    for i in range(4):
        total = math.log(sum(w[i, j] * math.exp(s[i, j]) for j in range(5)))
        own = [j for j in range(5) if abs(y[i] - columns[j]) <= 0.45]
        want.append(np.mean([total - s[i, j] for j in own]))
    got = losses.weighted_supervised_contrastive(
        f32(s), positives, f32(w), reduce_fn=None
    )
    close(got, want)


def test_weights_of_one_give_supervised_contrastive():
    s, labels = f32(normal((5, 5))), jnp.array([0, 1, 0, 1, 2])
    masks = {"positives": pairs.same_label(labels), "where": ~jnp.eye(5, dtype=bool)}
    want = losses.supervised_contrastive(s, **masks)
    close(losses.weighted_supervised_contrastive(s, **masks), want)
    ones = jnp.ones((5, 5))
    got = losses.weighted_supervised_contrastive(s, pair_weights=ones, **masks)
    close(got, want)


def test_weight_zero_is_as_if_masked_in_the_denominator():
    s = f32([[0.3, 0.1, 5.0]])
    positives = jnp.array([[True, False, False]])
    got = losses.weighted_supervised_contrastive(s, positives, f32([[1.0, 1.0, 0.0]]))
    close(got, math.log(1 + math.exp(0.1 - 0.3)))


def test_a_common_offset_costs_no_digits():
    # The logits themselves are exact at 2^23.
    s, t = f32([[0.0, 1.0, -2.0, 3.0]]), f32([[0.0, 1.0, 1.0, 2.0]])
    match = jnp.array([[True, False, True, False]])
    for loss, second in (
        (losses.rank_n_contrast, t),
        (losses.weighted_supervised_contrastive, match),
    ):
        close(loss(s + 2.0**23, second), loss(s, second))
