"""Token-level preferences and dense rewards: the arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses

from .test_tokens import GAPS, PAIR, close

DRIFT = dict(chosen_kl=jnp.array([1.0, 0.5]), rejected_kl=jnp.array([3.0, 0.0]))


def test_token_dpo_by_hand(transform):
    run = transform(lambda given: losses.token_dpo(**given, beta=0.2, reduce_fn=None))
    close(
        run(PAIR | DRIFT), np.log1p(np.exp(-0.2 * (GAPS - 0.5 * np.array([2.0, -0.5]))))
    )
    got = losses.token_dpo(**PAIR, **DRIFT, beta=0.2, form="tdpo1", reduce_fn=None)
    close(got, np.log1p(np.exp(-0.2 * (GAPS - np.array([2.0, -0.5])))))


def test_token_dpo_without_the_drift_is_dpo():
    close(losses.token_dpo(**PAIR, **DRIFT, alpha=0.0), losses.dpo(**PAIR))


def test_only_the_first_form_has_a_gradient_by_the_drift_of_the_chosen():
    for form, moved in (("tdpo1", True), ("tdpo2", False)):
        run = jax.grad(lambda given, form=form: losses.token_dpo(**given, form=form))
        grads = run(PAIR | DRIFT)
        assert bool(np.any(grads["chosen_kl"])) == moved
        assert np.all(grads["rejected_kl"] > 0)
        assert not np.any(grads["reference_chosen"])


def test_wrong_options_of_token_dpo_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^form: expected "):
        losses.token_dpo(**PAIR, **DRIFT, form="tdpo3")
    with pytest.raises(ValueError, match=r"^alpha: expected a finite number >= 0"):
        losses.token_dpo(**PAIR, **DRIFT, alpha=-0.1)


def test_dense_rewards_by_hand(transform):
    log_probs = jnp.array([[-1.0, -2.0, jnp.nan], [-1.0, -1.0, -1.0]])
    reference = jnp.array([[-2.0, -2.0, 0.0], [-1.0, -2.0, -3.0]])
    preferred = jnp.array([[-1.0, -9.0, 0.0], [-1.5, -2.0, -3.0]])
    where = jnp.array([[True, True, False], [True, True, True]])
    rewards = jnp.array([20.0, -1.0])

    def run(log_probs):
        return losses.dense_rewards(
            log_probs,
            reference,
            preferred,
            where=where,
            response_rewards=rewards,
            scale=0.5,
            clip=1.0,
            kl_weight=0.1,
        )

    got = transform(run)(log_probs)
    close(got.preferred, [[0.5, -1.0, 0.0], [-0.25, 0.0, 0.0]])
    close(got.drift, [[1.0, 0.0, 0.0], [0.0, 1.0, 2.0]])
    # The reward of a response is at its last token, at most 10.
    close(got.total, [[0.4, 9.0, 0.0], [-0.25, -0.1, -1.2]])


def test_dense_rewards_without_a_bound_or_a_reward_of_the_response():
    x = jnp.zeros((1, 2))
    got = losses.dense_rewards(x, x, x + 8, scale=1.0, clip=None)
    close(got.total, [[8.0, 8.0]])
    grads = jax.grad(lambda x: jnp.sum(losses.dense_rewards(x, x - 1, x + 8).total))(x)
    assert not np.any(grads)
