"""Batches are functions of (seed, step); every epoch holds every row once."""

import itertools

import numpy as np
import pytest

from contrastive_jax import data


def take(iterator, n):
    return [batch["x"] for batch in itertools.islice(iterator, n)]


ROWS = {"x": np.arange(10), "y": np.arange(10) * 2}


def test_every_epoch_holds_every_row_once():
    batches = take(data.array_batches(ROWS, batch_size=4, seed=0), 15)
    stream = np.concatenate(batches)
    epochs = stream.reshape(6, 10)
    assert (np.sort(epochs, axis=1) == np.arange(10)).all()
    assert len({tuple(epoch) for epoch in epochs}) == 6  # each shuffled anew


@pytest.mark.parametrize("start", range(8))
def test_a_restart_at_any_step_goes_on_exactly(start):
    whole = take(data.array_batches(ROWS, batch_size=4, seed=3), 12)
    rest = take(
        data.array_batches(ROWS, batch_size=4, seed=3, start_step=start), 12 - start
    )
    np.testing.assert_array_equal(rest, whole[start:])


def test_seeds_differ_and_arrays_stay_aligned():
    a = take(data.array_batches(ROWS, batch_size=4, seed=0), 3)
    b = take(data.array_batches(ROWS, batch_size=4, seed=1), 3)
    assert not np.array_equal(a, b)
    batch = next(data.array_batches(ROWS, batch_size=4, seed=0))
    np.testing.assert_array_equal(batch["y"], batch["x"] * 2)


def test_a_huge_set_needs_no_permutation_in_memory():
    batches = data.index_batches(10**11, 4, seed=0)
    assert len(set(batches[0]) | set(batches[10**9])) == 8


def test_wrong_input():
    with pytest.raises(ValueError, match=r"batch_size: expected 1 to 10 .* got 11"):
        data.array_batches(ROWS, batch_size=11, seed=0)
    with pytest.raises(ValueError, match="arrays: expected one length"):
        data.array_batches({"x": np.zeros(3), "y": np.zeros(4)}, batch_size=2, seed=0)


def test_epoch_batches_cover_every_epoch_and_start_anywhere():
    arrays = {"x": np.arange(11), "y": 2 * np.arange(11)}
    batches = [*itertools.islice(data.epoch_batches(arrays, batch_size=3, seed=5), 9)]
    rows = np.stack([batch["x"] for batch in batches])
    np.testing.assert_array_equal(np.stack([b["y"] for b in batches]), 2 * rows)
    epochs = rows.reshape(3, 9)
    assert all(len(set(epoch)) == 9 for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3
    later = take(data.epoch_batches(arrays, batch_size=3, seed=5, start_step=4), 5)
    np.testing.assert_array_equal(later, rows[4:])
    with pytest.raises(ValueError, match=r"batch_size: expected 1 to 11 .* got 12"):
        data.epoch_batches(arrays, batch_size=12, seed=0)
    with pytest.raises(ValueError, match="arrays: expected one length"):
        data.epoch_batches({**arrays, "z": np.arange(3)}, batch_size=2, seed=0)
