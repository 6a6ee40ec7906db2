"""Small generators: centered, of one scale, repeatable."""

import numpy as np
import pytest

from contrastive_jax.data import synthetic


@pytest.mark.parametrize("name", synthetic.PLANE)
def test_planar_densities_are_centered_and_fresh_for_every_seed(name):
    a, b = (synthetic.plane_points(name, 1000, seed) for seed in (0, 1))
    assert np.abs(a.mean(axis=0)).max() < 0.15 and np.abs(a).max() < 4
    assert not np.array_equal(a, b)
    np.testing.assert_array_equal(a, synthetic.plane_points(name, 1000, 0))
