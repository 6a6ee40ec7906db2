"""Losses on heat maps: loops and scipy."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from contrastive_jax import losses

RNG = np.random.default_rng(0)
MAPS = jnp.asarray(RNG.normal(size=(2, 3, 4, 5)), jnp.float32)
TARGETS = jnp.asarray(RNG.random((2, 3, 4, 5)), jnp.float32)
WHERE = jnp.array([[True, False, True], [False, False, True]])
SOFT = scipy.special.softmax(np.asarray(MAPS, "f8").reshape(2, 3, -1), axis=2)
DRAWN = np.asarray(TARGETS, "f8").reshape(2, 3, -1)


def close(got, want, rtol=1e-5):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=1e-6)


def check_means(loss, each, **options):
    """Means over what counts and over all, and the sums of the examples."""
    counted = np.where(WHERE, each, 0)
    close(loss(**options), each.mean())
    close(loss(**options, where=WHERE), counted.sum() / 3)
    close(loss(**options, where=WHERE, average="all"), counted.sum() / 6)
    close(loss(**options, where=WHERE, reduce_fn=None), counted.sum(axis=1))


def test_mse_by_hand():
    each = 0.5 * np.mean(np.square(MAPS - TARGETS), axis=(2, 3))
    check_means(lambda **o: losses.heatmap_mse(MAPS, TARGETS, **o), each)
    close(losses.heatmap_mse(MAPS, TARGETS, scale=1.0), 2 * each.mean())


@pytest.mark.parametrize("eps", [0.0, 0.5])
def test_kl_equals_scipy(eps):
    each = scipy.stats.entropy(DRAWN + eps, SOFT, axis=2)
    check_means(lambda **o: losses.heatmap_kl(MAPS, TARGETS, **o), each, eps=eps)


def test_a_map_without_a_target_drops_out_of_the_kl():
    targets = TARGETS.at[0, 1].set(0)
    each = scipy.stats.entropy(DRAWN, SOFT, axis=2)
    got = losses.heatmap_kl(MAPS, targets)
    close(got, (each.sum() - each[0, 1]) / 5)


@pytest.mark.parametrize(
    "unit, u", [("uniform", np.log(20)), ("cells", 20), ("nats", 1)]
)
def test_entropy_equals_scipy(unit, u):
    each = scipy.stats.entropy(SOFT, axis=2) / u
    check_means(lambda **o: losses.heatmap_entropy(MAPS, **o), each, unit=unit)


def test_under_jit(transform):
    run = transform(lambda x: losses.heatmap_kl(x, TARGETS, where=WHERE))
    close(run(MAPS), losses.heatmap_kl(MAPS, TARGETS, where=WHERE))


def test_unknown_words_are_named(without_type_hooks):
    with pytest.raises(ValueError, match=r"^average: "):
        losses.heatmap_mse(MAPS, TARGETS, average="visible")
    with pytest.raises(ValueError, match=r"^unit: "):
        losses.heatmap_entropy(MAPS, unit="bits")
    with pytest.raises(ValueError, match=r"^eps: "):
        losses.heatmap_kl(MAPS, TARGETS, eps=-1.0)
