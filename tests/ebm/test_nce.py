"""Estimation by noise contrast: the arithmetic by hand, and what it estimates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import ebm, losses

E = np.exp
POSITIVE, NEGATIVE = jnp.array([1.0, -0.5]), jnp.array([[0.5, 2.0], [0.0, -1.0]])
LOG_P = jnp.log(jnp.array([0.5, 0.25]))
LOG_N = jnp.log(jnp.array([[0.1, 0.2], [0.3, 0.4]]))


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_binary_nce_by_hand(transform):
    run = transform(lambda p, n: ebm.binary_nce(p, n, shift=0.5, reduce_fn=None))
    first = np.log1p(E(-0.5)) + np.log1p(E(0.0)) + np.log1p(E(1.5))
    second = np.log1p(E(1.0)) + np.log1p(E(-0.5)) + np.log1p(E(-1.5))
    close(run(POSITIVE, NEGATIVE), [first, second])


def test_binary_nce_with_noise_compares_to_k_times_the_noise():
    got = ebm.binary_nce(
        POSITIVE,
        NEGATIVE,
        positive_log_noise=LOG_P,
        negative_log_noise=LOG_N,
        reduce_fn=None,
    )

    def data(score, noise):
        return E(score) / (E(score) + 2 * noise)

    first = (
        -np.log(data(1, 0.5)) - np.log(1 - data(0.5, 0.1)) - np.log(1 - data(2, 0.2))
    )
    close(got[0], first)


def test_binary_nce_counts_the_negatives_that_are_left():
    options = dict(positive_log_noise=LOG_P, reduce_fn=None)
    got = ebm.binary_nce(
        POSITIVE,
        NEGATIVE,
        negative_log_noise=LOG_N,
        negatives=jnp.array([[True, False]] * 2),
        **options,
    )
    want = ebm.binary_nce(
        POSITIVE, NEGATIVE[:, :1], negative_log_noise=LOG_N[:, :1], **options
    )
    close(got, want)


def test_negative_sampling_is_binary_nce_without_correction():
    close(ebm.negative_sampling(POSITIVE, NEGATIVE), ebm.binary_nce(POSITIVE, NEGATIVE))


def test_ranking_nce_by_hand():
    got = ebm.ranking_nce(POSITIVE, NEGATIVE, reduce_fn=None)
    close(got[0], np.log(E(1) + E(0.5) + E(2)) - 1)
    got = ebm.ranking_nce(
        POSITIVE,
        NEGATIVE,
        positive_log_noise=LOG_P,
        negative_log_noise=LOG_N,
        reduce_fn=None,
    )
    total = E(1) / 0.5 + E(0.5) / 0.1 + E(2) / 0.2
    close(got[0], -np.log(E(1) / 0.5 / total))


def test_without_negatives_ranking_is_zero_and_binary_keeps_the_positive():
    none = jnp.zeros((2, 0))
    assert ebm.ranking_nce(POSITIVE, none) == 0
    grad = jax.grad(lambda p: ebm.ranking_nce(p, none))(POSITIVE)
    assert not grad.any()
    close(ebm.binary_nce(POSITIVE, none), np.mean([np.log1p(E(-1)), np.log1p(E(0.5))]))


def test_one_noise_probability_without_the_other_is_refused():
    with pytest.raises(ValueError, match=r"^negative_log_noise: expected together"):
        ebm.binary_nce(POSITIVE, NEGATIVE, positive_log_noise=LOG_P)


def test_input_label_matching_averages_over_pairs():
    scores = jnp.array([[2.0, -1.0, 9.0], [0.5, 9.0, 9.0]])
    positives = jnp.array([[True, False, True], [False, True, True]])
    where = jnp.array([[True, True, False], [True, False, False]])
    want = [np.log1p(E(-2)), np.log1p(E(-1)), np.log1p(E(0.5))]
    got = ebm.input_label_matching(scores, positives, where=where)
    close(got, np.mean(want))
    each = ebm.input_label_matching(scores, positives, where=where, reduce_fn=None)
    close(each, [want[0] + want[1], want[2]])


def test_energy_hinge_takes_the_lowest_energy():
    positive, negative = jnp.array([1.0, 1.0]), jnp.array([[3.0, 1.5], [9.0, 8.0]])
    got = ebm.energy_hinge(positive, negative, margin=1.0, reduce_fn=None)
    close(got, [1 + 1 - 1.5, 0])


def test_info_nce_bound_is_log_m_less_the_loss():
    scores = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    close(ebm.info_nce_bound(scores), np.log(4) - losses.info_nce(scores))


def test_info_nce_bound_with_the_true_critic_stays_below_the_information():
    # Correlated Gaussians hold -log(1 - rho^2) / 2 nats.
    rng, rho, n = np.random.default_rng(0), 0.8, 512
    x = rng.normal(size=n)
    y = rho * x + np.sqrt(1 - rho**2) * rng.normal(size=n)
    scores = -((y[None, :] - rho * x[:, None]) ** 2) / (2 * (1 - rho**2))
    bound = ebm.info_nce_bound(jnp.asarray(scores, jnp.float32))
    truth = -np.log(1 - rho**2) / 2
    assert 0.9 * truth < bound < 1.1 * truth


def test_ranking_recovers_log_ratios_where_scores_are_not_normalised():
    # Expectation over all pairs of a positive from p and a negative from noise q, with
    # scores off by a constant: the gradient vanishes for ranking, not for binary.
    p, q = np.array([0.6, 0.3, 0.1]), np.array([0.2, 0.3, 0.5])
    log_q = jnp.log(jnp.asarray(q, jnp.float32))
    weights = jnp.asarray(np.outer(p, q).ravel(), jnp.float32)
    i, j = np.divmod(np.arange(9), 3)

    def expected(loss, scores):
        return loss(
            scores[i],
            scores[j][:, None],
            positive_log_noise=log_q[i],
            negative_log_noise=log_q[j][:, None],
            weights=weights,
        )

    scores = jnp.log(jnp.asarray(p, jnp.float32)) + 1.0
    ranking = jax.grad(lambda s: expected(ebm.ranking_nce, s))(scores)
    binary = jax.grad(lambda s: expected(ebm.binary_nce, s))(scores)
    np.testing.assert_allclose(ranking, np.zeros(3), atol=1e-6)
    assert np.abs(binary).max() > 0.01
