"""Losses over prototypes: the arithmetic by hand, in numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

from contrastive_jax import losses

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_sinkhorn_by_hand(transform):
    scores = normal(4, 3)
    q = np.exp(np.asarray(scores) / 0.5)
    q /= q.sum()
    for _ in range(2):
        q /= q.sum(axis=0, keepdims=True) * 3
        q /= q.sum(axis=1, keepdims=True) * 4
    run = transform(lambda x: losses.sinkhorn(x, epsilon=0.5, num_iterations=2))
    close(run(scores), q * 4, 1e-4)


def test_sinkhorn_does_not_raise_what_is_below_eps():
    """A prototype of share 2e-5 with eps 1e-3: a fiftieth of the usual column."""
    scores = np.array([[0.0, np.log(2e-5)], [0.0, np.log(2e-5)]])
    q = np.exp(scores) / np.exp(scores).sum()
    q = q / np.maximum(q.sum(axis=0), 1e-3) / 2
    q = q / q.sum(axis=1, keepdims=True)
    run = jax.jit(lambda x: losses.sinkhorn(x, epsilon=1.0, num_iterations=1, eps=1e-3))
    close(run(jnp.asarray(scores, jnp.float32)), q)


def test_sinkhorn_uses_all_prototypes_equally():
    q = losses.sinkhorn(normal(8, 4), epsilon=0.5, num_iterations=100)
    close(q.sum(axis=1), np.ones(8))
    close(q.sum(axis=0), np.full(4, 2.0), 1e-2)


def test_sinkhorn_masked_rows_are_as_if_absent():
    scores, where = normal(5, 3), jnp.array([True, False, True, True, False])
    got = losses.sinkhorn(scores, where=where)
    close(got[where], losses.sinkhorn(scores[where]), 1e-4)
    assert not got[~where].any()


def test_sinkhorn_balances_with_queued_rows_that_count():
    scores, queued = normal(3, 4), normal(5, 4)
    where = jnp.array([True, True, False, True, False])
    got = losses.sinkhorn(scores, queued, where_queued=where)
    close(got, losses.sinkhorn(jnp.concatenate([queued[where], scores]))[-3:], 1e-4)
    alone = losses.sinkhorn(scores)
    assert np.abs(got - alone).max() > 0.1
    nothing = losses.sinkhorn(scores, queued * jnp.nan, where_queued=where & False)
    close(nothing, alone, 1e-4)


def test_sinkhorn_does_not_overflow():
    scores = jnp.array([[1e4, 0.0], [-1e4, 0.0]])
    assert np.isfinite(losses.sinkhorn(scores, epsilon=1e-3)).all()


def test_swav_pairs_assignments_with_all_other_crops():
    scores, targets = normal(3, 2, 4), jax.nn.softmax(normal(2, 2, 4))
    log_p = scipy.special.log_softmax(np.asarray(scores) / 0.2, axis=-1)

    def entropy(target, crop):
        return -(np.asarray(targets[target]) * log_p[crop]).sum(axis=-1)

    # Assignments 0 and 1 are of crops 2 and 0.
    pairs = [entropy(0, 0), entropy(0, 1), entropy(1, 1), entropy(1, 2)]
    got = losses.swav(scores, targets, crops=(2, 0), temperature=0.2, reduce_fn=None)
    close(got, np.mean(pairs, axis=0))


def test_swav_with_its_own_prediction_as_target_is_its_entropy():
    scores = jnp.tile(normal(1, 3, 4), (2, 1, 1))
    p = np.asarray(jax.nn.softmax(scores, axis=-1))
    got = losses.swav(scores, jnp.asarray(p), temperature=1.0)
    close(got, -(p[0] * np.log(p[0])).sum(axis=-1).mean())


def test_dino_by_hand():
    student, teacher, centre = normal(3, 2, 4), normal(2, 2, 4), normal(4)
    log_p = scipy.special.log_softmax(np.asarray(student) / 0.2, axis=-1)
    p = scipy.special.softmax(
        (np.asarray(teacher) - np.asarray(centre)) / 0.05, axis=-1
    )
    entropies = [
        -(p[a] * log_p[v]).sum(axis=-1) for a in (0, 1) for v in (0, 1, 2) if a != v
    ]
    got = losses.dino(
        student,
        teacher,
        centre,
        student_temperature=0.2,
        teacher_temperature=0.05,
        reduce_fn=None,
    )
    close(got, np.mean(entropies, axis=0))


def test_teachers_carry_no_gradient():
    student, teacher = normal(2, 3, 4), normal(2, 3, 4)
    for loss in (losses.dino, losses.swav):
        grad = jax.grad(loss, argnums=1)(student, jax.nn.softmax(teacher))
        assert not grad.any()


def test_crops_out_of_range_are_named():
    scores = normal(2, 3, 4)
    for crops in ((0, 2), (0,)):
        with pytest.raises(ValueError, match=r"^crops: expected 2 numbers below 2"):
            losses.swav(scores, scores, crops=crops)


INF = jnp.inf


def test_a_teacher_without_any_probability_drops_out():
    student, teacher = normal(2, 2, 3), normal(2, 2, 3)
    silent = teacher.at[0, 0].set(-INF)  # of the first image, only the second crop's
    options = dict(student_temperature=0.5, teacher_temperature=0.3, reduce_fn=None)
    got = losses.dino(student, silent, **options)
    p = scipy.special.softmax(np.float64(teacher[1, 0]) / 0.3)
    log_q = scipy.special.log_softmax(np.float64(student[0, 0]) / 0.5)
    close(got[0], -np.sum(p * log_q))
    close(got[1], losses.dino(student, teacher, **options)[1])
    nothing = silent.at[1, 0].set(-INF)
    value, grads = jax.value_and_grad(losses.dino)(student, nothing)
    assert np.isfinite(value) and np.isfinite(grads).all()
    assert not grads[:, 0].any() and grads[:, 1].any()


def test_prototypes_of_probability_zero():
    scores = jnp.array([[0.3, -INF, 0.1], [0.2, 0.4, -INF]])
    got = losses.sinkhorn(scores, epsilon=0.5, num_iterations=50)
    assert got[0, 1] == 0 and got[1, 2] == 0
    close(got.sum(axis=1), [1.0, 1.0])
    crops = jnp.stack([scores, scores])
    targets = jnp.where(crops == -INF, 0, 0.5)
    value, grads = jax.value_and_grad(losses.swav)(crops, targets)
    assert np.isfinite(value) and np.isfinite(grads).all()
    p = [
        scipy.special.log_softmax(np.float64(x) / 0.1) for x in ([0.3, 0.1], [0.2, 0.4])
    ]
    close(value, -np.mean([x.mean() for x in p]))


@pytest.mark.parametrize("offset", [1e4, 1e7])
def test_a_common_offset_costs_nothing(offset):
    scores = jnp.round(8 * normal(4, 3))
    want = losses.sinkhorn(scores, epsilon=3.0)
    close(losses.sinkhorn(scores + offset, epsilon=3.0), want)
    center, crops = 0.1 * normal(3), jnp.stack([scores, scores])
    want = losses.dino(crops, crops, center)
    close(losses.dino(crops + offset, crops + offset, center), want)
