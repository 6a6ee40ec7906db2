"""Long tails: sizes by hand, rows without repetition, the same for a seed."""

import numpy as np
import pytest

from contrastive_jax import data


def test_sizes_fall_geometrically():
    sizes = data.long_tail_sizes(5, largest=1000, ratio=16)
    assert sizes.tolist() == [1000, 500, 250, 125, 62]
    assert data.long_tail_sizes(1, largest=7, ratio=9).tolist() == [7]
    assert data.long_tail_sizes(3, largest=4, ratio=1).tolist() == [4, 4, 4]
    assert data.long_tail_sizes(3, largest=2, ratio=100).min() == 1
    with pytest.raises(ValueError, match=r"^ratio: expected a number >= 1"):
        data.long_tail_sizes(3, largest=4, ratio=0.5)


def test_rows_are_drawn_without_repetition():
    labels = np.arange(60) % 3
    rows = data.long_tail_rows(labels, np.array([20, 5, 1]), seed=0)
    assert np.bincount(labels[rows]).tolist() == [20, 5, 1]
    assert len(set(rows)) == 26
    again = data.long_tail_rows(labels, np.array([20, 5, 1]), seed=0)
    np.testing.assert_array_equal(rows, again)
    other = data.long_tail_rows(labels, np.array([20, 5, 1]), seed=1)
    assert (rows != other).any()
    with pytest.raises(ValueError, match=r"^sizes: expected at most 20 of class 1"):
        data.long_tail_rows(labels, np.array([1, 21]), seed=0)
