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


def test_equally_near_rows_share_a_vote():
    # All rows are one point: nothing tells the samples apart, whatever the order.
    ones = np.ones((5, 2))
    want = (4 / 9 + 4 / 9) / 2  # of the nine others four are of the own sample
    np.testing.assert_allclose(evaluation.nearest_neighbor_accuracy(ones, ones), want)


def test_a_common_offset_costs_no_digits():
    rng = np.random.default_rng(0)
    a, b = np.round(rng.normal(size=(2, 60, 3)) * 256) / 256
    want = evaluation.nearest_neighbor_accuracy(a, b)
    got = evaluation.nearest_neighbor_accuracy(a + 2.0**30, b + 2.0**30)
    assert got == want
    with pytest.raises(ValueError, match=r"^real: expected finite numbers"):
        evaluation.nearest_neighbor_accuracy(a, np.full((3, 3), np.nan))
