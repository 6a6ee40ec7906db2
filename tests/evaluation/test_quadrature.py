"""Midpoint rule in the plane and the nearest-neighbor two-sample test."""

import jax.numpy as jnp
import numpy as np
import pytest

from contrastive_jax.data import synthetic
from contrastive_jax.evaluation import quadrature, two_sample


def test_midpoint_rule_integrates_a_gaussian():
    x, area = quadrature.square_grid(60, 6.0)
    total = area * jnp.sum(jnp.exp(-jnp.sum(x**2, axis=1) / 2))
    np.testing.assert_allclose(total, 2 * np.pi, rtol=1e-5)
    with pytest.raises(ValueError, match=r"^cells: "):
        quadrature.square_grid(0, 1.0)


def test_two_samples_of_one_distribution_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 3))
    accuracy = two_sample.nearest_neighbor_accuracy
    assert abs(accuracy(a, b) - 0.5) < 0.06
    assert accuracy(a, b + 9) == 1.0
    assert accuracy(a, a + 1e-9) == 0.0  # copies


def test_two_samples_of_different_sizes_are_refused(without_type_hooks):
    with pytest.raises(ValueError, match=r"^made: "):
        two_sample.nearest_neighbor_accuracy(np.ones((3, 2)), np.ones((3, 1)))


@pytest.mark.parametrize("name", synthetic.PLANE)
def test_planar_densities_are_centered_and_fresh_for_every_seed(name):
    a, b = (synthetic.plane_points(name, 1000, seed) for seed in (0, 1))
    assert np.abs(a.mean(axis=0)).max() < 0.15 and np.abs(a).max() < 4
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a, synthetic.plane_points(name, 1000, 0))
