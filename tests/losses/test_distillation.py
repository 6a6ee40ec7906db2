"""Losses against a teacher: the arithmetic by hand, and scipy and optax."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.spatial
import scipy.special

from contrastive_jax import losses

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_logit_mse_by_hand(transform):
    run = transform(lambda a, b: losses.logit_mse(a, b, reduce_fn=None))
    got = run(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[0.0, 2.0, 5.0]]))
    close(got, [(1 + 0 + 4) / 3])


def test_logit_mse_summed_over_candidates_by_hand(without_type_hooks):
    student, teacher = jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[0.0, 2.0, 5.0]])
    where = jnp.array([[True, True, False]])
    close(losses.logit_mse(student, teacher, candidates="sum"), 1 + 0 + 4)
    close(losses.logit_mse(student, teacher, candidates="sum", where=where), 1)
    with pytest.raises(ValueError, match=r"^candidates: "):
        losses.logit_mse(student, teacher, candidates="all")


def test_distillation_kl_equals_scipy():
    student, teacher = normal(3, 4), normal(3, 4)
    p = scipy.special.softmax(np.asarray(teacher) / 2, axis=1)
    q = scipy.special.softmax(np.asarray(student) / 2, axis=1)
    want = 4 * scipy.special.rel_entr(p, q).sum(axis=1)
    got = losses.distillation_kl(student, teacher, temperature=2.0, reduce_fn=None)
    close(got, want, 1e-4)


def test_a_student_equal_to_its_teacher_costs_nothing():
    scores, x = normal(4, 4), normal(4, 3)
    for loss in (losses.logit_mse, losses.distillation_kl):
        close(loss(scores, scores), 0)
    for loss in (losses.relational_distance, losses.relational_angle):
        close(loss(x, x), 0)
        assert loss(x, normal(4, 3)) > 0.01


def test_margin_mse_by_hand():
    got = losses.margin_mse(
        jnp.array([3.0]), jnp.array([[1.0, 2.0]]), jnp.array([[1.5, 3.0]])
    )
    # Margins 2 and 1 against 1.5 and 3.
    close(got, (0.5**2 + 2**2) / 2)


def test_clip_distillation_is_soft_cross_entropy_both_ways():
    student, teacher = normal(3, 3), normal(3, 3)
    rows = optax.softmax_cross_entropy(student, jax.nn.softmax(teacher))
    columns = optax.softmax_cross_entropy(student.T, jax.nn.softmax(teacher.T))
    got = losses.clip_distillation(student, teacher, reduce_fn=None)
    close(got, (rows + columns) / 2)


def test_clip_distillation_takes_both_reversed_scores_or_none():
    x = normal(3, 3)
    with pytest.raises(ValueError, match=r"^reverse_teacher: "):
        losses.clip_distillation(x, x, reverse_logits=x)


def huber(x):
    return np.where(np.abs(x) < 1, x**2 / 2, np.abs(x) - 0.5)


def test_relational_distance_equals_scipy():
    student, teacher = normal(5, 2), normal(5, 3)
    student = student.at[0].multiply(9.0)
    a, b = (scipy.spatial.distance.pdist(x) for x in (student, teacher))
    gaps = a / a.mean() - b / b.mean()
    assert np.abs(gaps).max() > 1, "the linear part is not tried"
    close(losses.relational_distance(student, teacher), huber(gaps).mean(), 1e-4)


def test_relational_angle_by_hand():
    student, teacher = np.asarray(normal(4, 2)), np.asarray(normal(4, 3))

    def angle(x, i, j, k):
        return 1 - scipy.spatial.distance.cosine(x[j] - x[i], x[k] - x[i])

    triples = [
        (i, j, k)
        for i in range(4)
        for j in range(4)
        for k in range(4)
        if len({i, j, k}) == 3
    ]
    gaps = [angle(student, *t) - angle(teacher, *t) for t in triples]
    got = losses.relational_angle(jnp.asarray(student), jnp.asarray(teacher))
    close(got, huber(np.array(gaps)).mean(), 1e-4)


def test_teachers_carry_no_gradient():
    for loss in (
        losses.logit_mse,
        losses.distillation_kl,
        losses.clip_distillation,
        losses.relational_distance,
        losses.relational_angle,
    ):
        student, teacher = normal(3, 3), normal(3, 3)
        by_student, by_teacher = jax.grad(loss, argnums=(0, 1))(student, teacher)
        assert by_student.any() and not by_teacher.any()


INF = jnp.inf


def test_a_teacher_without_any_probability_drops_the_anchor(transform):
    student = jnp.array([[1.0, 2.0, 0.5], [0.3, 0.1, 0.9], [0.2, 0.4, 0.1]])
    teacher = jnp.array([[-INF] * 3, [1.0, -INF, 0.2], [2.0, 0.0, 1.0]])
    back = dict(reverse_logits=student, reverse_teacher=teacher)
    for loss in (
        losses.distillation_kl,
        losses.listwise_kl,
        losses.listnet,
        lambda x, t, **options: losses.clip_distillation(x, t, **back, **options),
    ):
        each = transform(functools.partial(loss, reduce_fn=None))(student, teacher)
        assert each[0] == 0 and np.isfinite(each).all() and each[1] > 0
        value, grads = jax.value_and_grad(loss)(student, teacher)
        close(value, (each[1] + each[2]) / 2)
        assert np.isfinite(grads).all() and not grads[0].any()
    p = scipy.special.softmax([1.0, 0.2])
    log_q = scipy.special.log_softmax([0.3, 0.1, 0.9])[[0, 2]]
    got = losses.distillation_kl(student, teacher, reduce_fn=None)[1]
    close(got, np.sum(p * (np.log(p) - log_q)))


def test_regression_leaves_out_what_the_teacher_excludes():
    student, teacher = jnp.array([[1.0, 2.0]]), jnp.array([[0.0, -INF]])
    value, grads = jax.value_and_grad(losses.logit_mse)(student, teacher)
    close(value, 1.0)
    close(grads, [[2.0, 0.0]])
    margins, negatives = jnp.array([[1.0, INF, 0.0]]), jnp.array([[1.0, 0.0, -INF]])
    close(losses.margin_mse(jnp.array([4.0]), negatives, margins), (3.0 - 1.0) ** 2)


@pytest.mark.parametrize("offset", [1e4, 1e7])
def test_equal_logits_cost_nothing_whatever_their_size(offset):
    x, zero = jnp.full((1, 3), offset), jnp.zeros((1, 3))
    for temperature in (0.07, 1.0, 3.0):
        for pair in ((x, x), (x, zero), (zero, x)):
            got = losses.distillation_kl(*pair, temperature=temperature)
            np.testing.assert_allclose(got, 0, atol=1e-6)
