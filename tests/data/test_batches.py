"""Batches are functions of (seed, step), hold no row twice, and all rows as often."""

import itertools

import numpy as np
import pytest

from contrastive_jax import data
from contrastive_jax.data import batches as batching


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


def test_no_row_is_twice_in_a_batch_and_all_come_as_often():
    """Every size of set and batch; where an epoch ends only there rows are swapped."""

    def drawn(start, count, total):
        epochs = range(start // total, (start + count - 1) // total + 1)
        rows = [np.random.default_rng(e).permutation(total) for e in epochs]
        return np.concatenate(rows)[start % total :][:count]

    repeated = 0
    for total, size in itertools.product(range(1, 14), range(1, 14)):
        if size > total:
            continue
        counts = np.zeros(total, int)
        for t in range(3 * total):
            rows = batching.distinct(
                lambda start, count, n=total: drawn(start, count, n), total, size, t
            )
            assert len(rows) == size == len(set(rows.tolist()))
            counts += np.bincount(rows, minlength=total)
            assert np.ptp(counts) <= 1, (total, size, t)
            plain = drawn(t * size, size, total)
            repeated += len(set(plain.tolist())) < size
            if total % size == 0:
                np.testing.assert_array_equal(rows, plain)
    assert repeated > 100  # what is left of the sequence has them


@pytest.mark.parametrize(("total", "size"), [(3, 2), (3, 1), (10, 4), (7, 5)])
def test_array_batches_hold_no_row_twice(total, size):
    rows = {"x": np.arange(total)}
    batches = take(data.array_batches(rows, batch_size=size, seed=0), 12)
    assert all(len(set(batch.tolist())) == size for batch in batches)
    assert np.ptp(np.bincount(np.concatenate(batches))) <= 1
    again = next(data.array_batches(rows, batch_size=size, seed=0, start_step=7))
    np.testing.assert_array_equal(again["x"], batches[7])


LABELS = np.random.default_rng(0).permutation([*range(5)] * 6 + [5, 5, -1, -1, -1, -1])


def per_class(num_classes, start_step=0, seed=0, **options):
    rows = data.array_rows({"x": np.arange(len(LABELS)), "y": LABELS})
    sizes = dict(num_classes=num_classes, per_class=3) | options
    return data.class_batches(rows, LABELS, seed=seed, start_step=start_step, **sizes)


@pytest.mark.parametrize("num_classes", [1, 2, 4, 5])
def test_class_batches_hold_as_many_of_each_class(num_classes):
    batches = [*itertools.islice(per_class(num_classes), 20)]
    seen = np.zeros(5, int)
    for batch in batches:
        assert len(set(batch["x"].tolist())) == 3 * num_classes
        classes = batch["y"].reshape(num_classes, 3)
        assert (classes == classes[:, :1]).all()
        assert set(classes[:, 0]) <= set(range(5)) and len(set(classes[:, 0])) == (
            num_classes
        )
        np.testing.assert_array_equal(LABELS[batch["x"]], batch["y"])
        seen[classes[:, 0]] += 1
        assert np.ptp(seen) <= 1
    later = next(per_class(num_classes, start_step=9))
    np.testing.assert_array_equal(later["x"], batches[9]["x"])
    other = next(per_class(num_classes, seed=1))
    assert not np.array_equal(other["x"], batches[0]["x"])
    pool = np.concatenate([batch["x"] for batch in batches])
    assert len(set(pool.tolist())) == 30 or num_classes == 1  # every example


def test_class_batches_say_what_does_not_fit():
    with pytest.raises(ValueError, match=r"num_classes: expected 1 to 5 .* got 6"):
        per_class(6)
    with pytest.raises(ValueError, match="per_class: expected 1 or more, got 0"):
        per_class(2, per_class=0)
    rows = data.array_rows({"x": np.arange(4)})
    with pytest.raises(ValueError, match=r"labels: expected shape \[4\], got \[3\]"):
        data.class_batches(rows, np.zeros(3), num_classes=1, per_class=1, seed=0)


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


TEXTS = np.array([0, 1, 0, 2, 3, 0, 4, 5, 6, 1])


@pytest.mark.parametrize("batch_size", [2, 3, 4, 7])
def test_no_text_comes_twice(batch_size):
    source = data.unique_batches(
        data.array_rows(ROWS), TEXTS, batch_size=batch_size, seed=0
    )
    batches = take(source, 60)
    for rows in batches:
        assert len(set(TEXTS[rows])) == batch_size == len(set(rows))
    counts = np.bincount(np.concatenate(batches), minlength=10)
    # Texts as often as the batches allow, those that stand alone the most.
    assert counts.min() > 0
    if batch_size < 4:  # all rows fit
        assert counts.max() - counts.min() <= 0.35 * counts.max()


def test_texts_of_a_pair_are_nobody_elses():
    pairs = [["a", "b"], ["b", "c"], ["d", "e"], ["c", "f"], ["g", "h"]]
    assert batching.same_text(pairs).tolist() == [0, 0, 1, 0, 2]
    rows = data.array_rows({"x": np.arange(5)})
    for batch in take(data.unique_batches(rows, pairs, batch_size=3, seed=1), 9):
        assert {2, 4} < set(batch)


def test_batches_of_like_length():
    lengths = np.random.default_rng(0).integers(1, 100, 200)
    rows = data.array_rows({"x": np.arange(200)})
    options = dict(batch_size=10, seed=0)
    sorted_ones = take(data.length_batches(rows, lengths, **options), 40)
    for epoch in (sorted_ones[:20], sorted_ones[20:]):
        assert sorted(np.concatenate(epoch)) == list(range(200))
    any_ones = take(data.length_batches(rows, lengths, pool=1, **options), 40)

    def padding(batches):
        return np.mean([lengths[b].max() / lengths[b].mean() for b in batches])

    assert padding(sorted_ones) < 1.15 < 1.6 < padding(any_ones)
    means = [lengths[b].mean() for b in sorted_ones[:20]]
    assert np.any(np.diff(means) < 0) and np.any(np.diff(means) > 0)


@pytest.mark.parametrize("kind", ["unique_batches", "length_batches"])
def test_batches_of_texts_depend_on_seed_and_step_only(kind):
    def source(**options):
        rows = data.array_rows(ROWS)
        return getattr(data, kind)(rows, TEXTS, batch_size=3, **options)

    whole = take(source(seed=3), 14)
    for start in (0, 2, 5, 9):
        np.testing.assert_array_equal(
            take(source(seed=3, start_step=start), 4), whole[start : start + 4]
        )
    assert not np.array_equal(take(source(seed=4), 14), whole)


@pytest.mark.parametrize(
    ("kind", "values", "options", "message"),
    [
        (
            "unique_batches",
            TEXTS,
            dict(batch_size=8),
            r"1 to 7 \(the different texts\)",
        ),
        ("unique_batches", TEXTS, dict(batch_size=0), "batch_size: expected 1 to 7"),
        ("unique_batches", TEXTS[1:], dict(batch_size=2), "texts: expected 10 rows"),
        ("length_batches", TEXTS[1:], dict(batch_size=2), r"lengths: expected shape"),
        ("length_batches", TEXTS, dict(batch_size=11), "batch_size: expected 1 to 10"),
        (
            "length_batches",
            TEXTS,
            dict(batch_size=2, pool=0),
            "pool: expected at least",
        ),
    ],
)
def test_batches_of_texts_refuse(kind, values, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(data, kind)(data.array_rows(ROWS), values, seed=0, **options)
