"""Losses of routers and discriminators, and adjustment: loops and the hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_load_balancing_by_a_loop(transform):
    logits = normal(7, 3)
    probabilities = np.asarray(jax.nn.softmax(logits))
    want = 0
    for k in range(3):
        share = np.mean([row.argmax() == k for row in probabilities])
        want += 3 * share * np.mean(probabilities[:, k])
    close(transform(losses.load_balancing)(logits), want)


def test_load_balancing_lies_between_one_and_the_number_of_experts():
    close(losses.load_balancing(20 * jnp.eye(4)), 1)
    close(losses.load_balancing(20 * jnp.eye(4)[jnp.zeros(4, int)]), 4)


def test_router_mutual_information_by_a_loop(transform):
    logits, tasks = normal(6, 3), jnp.array([0, 0, 1, 3, 3, 3])
    probabilities = np.asarray(jax.nn.softmax(logits), np.float64)
    joint = np.zeros((4, 3))
    for row, task in zip(probabilities, np.asarray(tasks), strict=True):
        joint[task] += row / 6
    by_task, experts = joint.sum(axis=1), joint.sum(axis=0)
    want = 0
    for t in range(4):
        for k in range(3):
            if joint[t, k] > 0:
                want -= joint[t, k] * np.log(joint[t, k] / (by_task[t] * experts[k]))
    run = transform(
        lambda x: losses.router_mutual_information(x, tasks, num_tasks=4, eps=1e-9)
    )
    close(run(logits), want)


def test_router_mutual_information_is_least_with_experts_of_their_own():
    tasks = jnp.array([0, 0, 1, 1])
    options = dict(num_tasks=2, eps=1e-9)
    own = losses.router_mutual_information(30 * jnp.eye(2)[tasks], tasks, **options)
    close(own, -np.log(2))
    close(losses.router_mutual_information(jnp.zeros((4, 2)), tasks, **options), 0)


def test_teaching_a_router_is_info_nce():
    layers, labels = normal(2, 5, 3), jnp.array([0, 2, 1, 1, 0])
    log_p = jax.nn.log_softmax(layers.mean(axis=0))
    got = losses.info_nce(layers.mean(axis=0), labels)
    close(got, -np.mean([log_p[i, k] for i, k in enumerate(labels)]))


def test_least_squares_by_hand(transform):
    real, fake = jnp.array([[1.5, 0.0]]), jnp.array([[-1.0, 2.0]])
    run = transform(losses.least_squares_discriminator)
    close(run(real, fake), 0.5 * (0.25 + 1 + 1 + 4))
    close(losses.least_squares_generator(fake), 0.5 * (4 + 1))
    close(losses.least_squares_generator(fake, scale=1.0), 4 + 1)


def test_the_best_discriminator_is_the_share_of_real_examples():
    # At a point where 3 of 4 examples are real: 3 (D - 1)^2 + D^2 is least at 3 / 4.
    def loss(output):
        real = jnp.array([[output], [output], [output], [1.0]])
        fake = jnp.array([[0.0], [0.0], [0.0], [output]])
        return losses.least_squares_discriminator(real, fake)

    close(jax.grad(loss)(0.75), 0)
    assert abs(jax.grad(loss)(0.5)) > 0.1


def test_logit_adjustment_by_hand():
    close(losses.logit_adjustment(jnp.array([30, 10])), np.log([0.75, 0.25]))
    got = losses.logit_adjustment(jnp.array([0.5, 0.5, 1.0]), kappa=0.5)
    close(got, 0.5 * np.log([0.25, 0.25, 0.5]))
    close(losses.logit_adjustment(jnp.array([3, 1]), kappa=0.0), [0, 0])
    assert np.all(np.isfinite(losses.logit_adjustment(jnp.array([0, 5]))))
    assert np.all(np.isfinite(losses.logit_adjustment(jnp.zeros(2))))
    with pytest.raises(ValueError, match=r"^class_counts: "):
        losses.logit_adjustment(jnp.array([1, -1]))


def test_scores_with_logit_adjustment_equal_priors_times_likelihoods():
    counts, likelihoods = jnp.array([6, 3, 1]), jnp.array([0.2, 0.5, 0.9])
    scores = jnp.log(likelihoods) + losses.logit_adjustment(counts)
    joint = likelihoods * counts
    close(jax.nn.softmax(scores), joint / joint.sum())
