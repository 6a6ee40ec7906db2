"""The nearest-neighbor two-sample test."""

import numpy as np
import pytest

from contrastive_jax import evaluation


def test_two_samples_of_one_distribution_cannot_be_told_apart():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 400, 3))
    accuracy = evaluation.nearest_neighbor_accuracy
    assert abs(accuracy(a, b) - 0.5) < 0.06
    assert accuracy(a, b + 9) == 1.0
    assert accuracy(a, a + 1e-9) == 0.0  # copies


def test_two_samples_of_different_sizes_are_refused(without_type_hooks):
    with pytest.raises(ValueError, match=r"^real: "):
        evaluation.nearest_neighbor_accuracy(np.ones((3, 2)), np.ones((3, 1)))
