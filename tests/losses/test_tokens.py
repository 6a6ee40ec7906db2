"""Losses on tokens and on preferences: optax, and the arithmetic by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from contrastive_jax import losses

RNG = np.random.default_rng(0)


def normal(*shape):
    return jnp.asarray(RNG.normal(size=shape), jnp.float32)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


LOGITS = normal(2, 4, 5)
LABELS = jnp.array([[-100, 3, 0, 4], [1, -100, -100, -100]])


def test_token_cross_entropy_equals_optax(transform):
    known = LABELS != -100
    each = optax.softmax_cross_entropy_with_integer_labels(
        LOGITS, jnp.where(known, LABELS, 0)
    )
    each = jnp.where(known, each, 0)
    run = transform(losses.token_cross_entropy)
    close(run(LOGITS, LABELS), each.sum() / 4)  # of tokens, not of sequences
    close(losses.token_cross_entropy(LOGITS, LABELS, reduce_fn=None), each.sum(axis=1))
    close(losses.token_log_probs(LOGITS, LABELS), -each)


def test_another_index_to_ignore_and_a_mask():
    labels = jnp.where(LABELS == -100, 0, LABELS)
    where = jnp.ones((2, 4), bool).at[:, 3].set(False)
    got = losses.token_cross_entropy(LOGITS, labels, ignore_index=0, where=where)
    # What is left: label 3 in the first sequence and 1 in the second.
    log_p = jax.nn.log_softmax(LOGITS)
    close(got, -(log_p[0, 1, 3] + log_p[1, 0, 1]) / 2)


def test_a_label_outside_of_the_vocabulary_is_named():
    with pytest.raises(ValueError, match=r"^labels: expected numbers in \[0, 5\)"):
        losses.token_cross_entropy(LOGITS, LABELS.at[0, 1].set(5))


def test_replaced_token_detection_equals_optax(transform):
    logits, replaced = normal(2, 3), jnp.array([[True, False, False]] * 2)
    where = jnp.array([[True, True, True], [True, False, False]])
    run = transform(lambda x: losses.replaced_token_detection(x, replaced, where=where))
    each = optax.sigmoid_binary_cross_entropy(logits, replaced.astype(jnp.float32))
    close(run(logits), each[where].mean())


# Log-probabilities under the model and under the reference.
PAIR = dict(
    chosen=jnp.array([-4.0, -2.0]),
    rejected=jnp.array([-5.0, -1.0]),
    reference_chosen=jnp.array([-4.5, -2.5]),
    reference_rejected=jnp.array([-4.0, -1.0]),
)
# (0.5) - (-1) and (0.5) - (0).
GAPS = np.array([1.5, 0.5])


def test_dpo_by_hand(transform):
    run = transform(lambda given: losses.dpo(**given, beta=0.2, reduce_fn=None))
    right, wrong = np.log1p(np.exp(-0.2 * GAPS)), np.log1p(np.exp(0.2 * GAPS))
    close(run(PAIR), right)
    got = losses.dpo(**PAIR, beta=0.2, label_smoothing=0.1, reduce_fn=None)
    close(got, 0.9 * right + 0.1 * wrong)


def test_ipo_by_hand(without_type_hooks):
    got = losses.dpo(**PAIR, beta=0.2, form="ipo", reduce_fn=None)
    close(got, (GAPS - 2.5) ** 2)
    with pytest.raises(ValueError, match=r"^label_smoothing: "):
        losses.dpo(**PAIR, form="ipo", label_smoothing=0.1)
    with pytest.raises(ValueError, match=r"^form: "):
        losses.dpo(**PAIR, form="hinge")


def test_the_gap_of_implicit_rewards_is_the_logit_of_dpo():
    chosen, rejected = (
        losses.implicit_rewards(PAIR[k], PAIR[f"reference_{k}"], beta=0.2)
        for k in ("chosen", "rejected")
    )
    close(chosen - rejected, 0.2 * GAPS)
    loss = losses.dpo(**PAIR, beta=0.2, reduce_fn=None)
    close(loss, -jax.nn.log_sigmoid(chosen - rejected))


def test_the_reference_carries_no_gradient():
    grads = jax.grad(lambda given: losses.dpo(**given))(PAIR)
    assert not np.any(grads["reference_chosen"])
    assert not np.any(grads["reference_rejected"])
    assert np.all(grads["chosen"] < 0) and np.all(grads["rejected"] > 0)


def test_a_traced_label_outside_of_the_vocabulary_does_not_count(without_type_hooks):
    run = jax.jit(jax.value_and_grad(losses.token_cross_entropy))
    want = run(LOGITS, LABELS.at[0, 1].set(-100))
    for label in (-1, 5, 2**30):
        jax.tree.map(close, run(LOGITS, LABELS.at[0, 1].set(label)), want)
        got = jax.jit(losses.token_log_probs)(LOGITS, LABELS.at[0, 1].set(label))
        assert got[0, 1] == 0 and np.isfinite(got).all()
    narrow = jnp.where(LABELS == -100, 7, LABELS).astype(jnp.uint8)
    got = jax.jit(losses.token_cross_entropy)(LOGITS, narrow)  # -100 fits into none
    close(got, losses.token_cross_entropy(LOGITS, LABELS))
