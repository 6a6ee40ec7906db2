"""Losses with many positives: the arithmetic by hand, and what equals what."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax import losses, pairs

E = np.exp
LOGITS = jnp.array([[1.0, 2.0, 3.0, 4.0], [0.5, 0.0, -1.0, 2.0]])
POSITIVES = jnp.array([[True, True, False, False], [False, False, False, False]])
TOTAL = np.log(E(1) + E(2) + E(3) + E(4))


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def test_out_averages_outside_of_the_logarithm(transform):
    run = transform(lambda x: losses.supervised_contrastive(x, POSITIVES))
    close(run(LOGITS), ((TOTAL - 1) + (TOTAL - 2)) / 2)


def test_in_averages_inside_of_the_logarithm():
    got = losses.supervised_contrastive(LOGITS, POSITIVES, form="in")
    close(got, TOTAL - np.log((E(1) + E(2)) / 2))


def test_with_one_positive_both_forms_are_info_nce():
    positives = pairs.one_column(jnp.array([2, 0]), 4)
    want = losses.info_nce(LOGITS, jnp.array([2, 0]))
    for form in ("in", "out"):
        got = losses.supervised_contrastive(LOGITS, positives, form=form)
        close(got, want)


def test_denominators_by_hand():
    negatives = E(3) + E(4)
    own = [np.log(E(1) + negatives) - 1, np.log(E(2) + negatives) - 2]
    got = losses.supervised_contrastive(LOGITS, POSITIVES, denominator="own")
    close(got, np.mean(own))
    got = losses.supervised_contrastive(LOGITS, POSITIVES, denominator="negatives")
    close(got, np.log(negatives) - 1.5)


def test_released_code_counts_all_anchors_and_scales():
    plain = losses.supervised_contrastive(LOGITS, POSITIVES)
    every = losses.supervised_contrastive(LOGITS, POSITIVES, count_all=True)
    close(every, plain / 2)
    scaled = losses.supervised_contrastive(LOGITS, POSITIVES, scale=0.1 / 0.07)
    close(scaled, plain * 0.1 / 0.07)


def test_count_all_weighs_anchors_without_positives_too():
    weights = jnp.array([1.0, 3.0])
    got = losses.supervised_contrastive(
        LOGITS, POSITIVES, weights=weights, count_all=True
    )
    close(got, losses.supervised_contrastive(LOGITS, POSITIVES) / 4)


def test_multi_positive_sums_over_positives():
    negatives = E(3) + E(4)
    want = np.log(1 + negatives / E(1)) + np.log(1 + negatives / E(2))
    close(losses.multi_positive_info_nce(LOGITS, POSITIVES), want)
    got = losses.multi_positive_info_nce(LOGITS, POSITIVES, denominator="all")
    close(got, (TOTAL - 1) + (TOTAL - 2))


def test_multi_positive_over_pairs_divides_by_the_number_of_pairs():
    positives = jnp.array([[True, True, False, False], [True, False, False, False]])
    sums = losses.multi_positive_info_nce(LOGITS, positives, reduce_fn=None)
    got = losses.multi_positive_info_nce(LOGITS, positives, over="pairs")
    close(got, (sums[0] + sums[1]) / 3)


def test_cross_entropy_and_supervised_contrastive_by_hand():
    class_logits = jnp.array([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
    labels = jnp.array([0, 0, 1])
    logits = jnp.array([[9.0, 1.0, 2.0], [3.0, 9.0, 4.0], [5.0, 6.0, 9.0]])
    got = losses.cross_entropy_supervised_contrastive(
        class_logits, labels, logits, ratio=0.7
    )
    entropy = [np.log1p(E(-1)), np.log1p(E(2)), np.log(2)]
    # The third example has no other of its class.
    contrast = [np.log(E(1) + E(2)) - 1, np.log(E(3) + E(4)) - 3]
    close(got, 0.3 * np.mean(entropy) + 0.7 * np.mean(contrast))


def test_unknown_words_are_named():
    for option in ("form", "denominator"):
        with pytest.raises((ValueError, TypeError), match=option):
            losses.supervised_contrastive(LOGITS, POSITIVES, **{option: "both"})
    with pytest.raises(ValueError, match="denominator"):
        losses.supervised_contrastive(LOGITS, POSITIVES, form="in", denominator="own")
    with pytest.raises((ValueError, TypeError), match="over"):
        losses.multi_positive_info_nce(LOGITS, POSITIVES, over="rows")


def test_a_traced_label_that_is_no_class_drops_out_of_both_parts():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    labels, weights = jnp.array([0, 0, 1, 1]), jnp.array([1.0, 1.0, 0.0, 0.0])

    @jax.jit
    def run(x, labels, weights=None):
        loss = losses.cross_entropy_supervised_contrastive
        return jax.value_and_grad(
            lambda x: loss(x, labels, x, weights=weights, ratio=0.5)
        )(x)

    # Two of them are no positives of each other.
    got = run(x, labels.at[2:].set(jnp.array([-1, 7])))
    jax.tree.map(close, got, run(x, labels, weights))


def test_class_counts_may_be_large_and_zero():
    counts = np.array([2**40, 2**40, 0])
    got = losses.logit_adjustment(counts, eps=1e-9)
    close(got, [np.log(0.5), np.log(0.5), np.log(1e-9)])
    grad = jax.grad(lambda k: jnp.sum(losses.logit_adjustment(counts, kappa=k)))(2.0)
    close(grad, 2 * np.log(0.5))
