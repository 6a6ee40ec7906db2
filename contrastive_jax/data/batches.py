"""Step-indexed batches: batch t depends on (seed, t) only, so a restart needs no state.

A set is `Rows`: examples read by number, from memory or from files. `row_batches` draws
endless shuffled batches of them; `class_batches` as many examples of each of some
classes, `unique_batches` no text twice, `length_batches` texts of like length. Grain
shuffles by a keyed permutation of indices, in constant memory whatever the size of the
set, and builds batches ahead of time in threads of its own.

No batch holds a row twice, so no row is its own negative. Of several processes each
reads its own rows of a batch and no others (`parallel.own_rows`).
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import grain
import numpy as np

from contrastive_jax.parallel.distributed import own_rows

Batch = dict[str, np.ndarray]


class Rows(NamedTuple):
    """Random access to the examples of a set.

    Attributes:
      total: number of examples.
      read: numbers of examples, [n], to their arrays [n, ...] by name.
      threads: batches read at the same time, and as many kept ready; more than 1 where
        examples are decoded.
    """

    total: int
    read: Callable[[np.ndarray], Batch]
    threads: int = 1


def array_rows(arrays: Batch) -> Rows:
    """The rows of arrays in memory.

    Args:
      arrays: [num_examples, ...] by name.

    Raises:
      ValueError: arrays of different lengths.

    Examples:
      >>> array_rows({"x": np.array([5, 6, 7])}).read(np.array([2, 0]))
      {'x': array([7, 5])}
    """
    lengths = {name: len(x) for name, x in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"arrays: expected one length, got {lengths}")
    total = next(iter(lengths.values()))
    return Rows(total, lambda rows: {name: x[rows] for name, x in arrays.items()})


def some_rows(rows: Rows, indices: np.ndarray) -> Rows:
    """Some of the examples of a set, as a set.

    Examples:
      >>> rows = array_rows({"x": np.array([5, 6, 7])})
      >>> some_rows(rows, np.array([2, 0])).read(np.array([1]))
      {'x': array([5])}
    """
    return Rows(len(indices), lambda i: rows.read(indices[i]), rows.threads)


# Batches of an endless sequence: no run takes more.
ENDLESS = 2**48


def index_batches(
    num_examples: int, batch_size: int, seed: int, *, shuffle: bool = True
) -> grain.MapDataset:
    """Row numbers of every batch: `index_batches(...)[t]` is batch t, [batch_size].

    No row comes twice in a batch, and after any number of batches every row came as
    often as any other, up to one. Epoch after epoch is a new permutation; a batch may
    hold the end of one and the start of the next, which then begins with rows that are
    not among those. Of sets smaller than two batches it is the rows left out of each
    batch that are drawn so.

    Args:
      num_examples: size of the set.
      batch_size: rows per batch.
      seed: seed of the order.
      shuffle: whether to permute; else every epoch is 0, 1, 2, ...

    Raises:
      ValueError: no example, or a batch larger than the set.
    """
    check_batch_size(num_examples, batch_size)
    order = grain.MapDataset.range(num_examples).seed(seed)
    order = (order.shuffle() if shuffle else order).repeat()

    def drawn(start, count):
        return np.array([order[i] for i in range(start, start + count)], np.int64)

    if not shuffle:  # never twice within num_examples rows
        return grain.MapDataset.range(ENDLESS).map(
            lambda t: drawn(t * batch_size, batch_size)
        )
    pick = functools.partial(distinct, drawn, num_examples, batch_size)
    return grain.MapDataset.range(ENDLESS).map(pick)


def distinct(
    drawn: Callable[[int, int], np.ndarray], total: int, size: int, t: int
) -> np.ndarray:
    """Batch t without a row twice, see `index_batches`.

    Args:
      drawn: `drawn(start, count)`, that part of an endless sequence of permutations.
      total: length of a permutation.
      size: rows per batch.
      t: number of the batch.
    """
    if size < total < 2 * size:
        every = drawn(t * total, total)
        return every[~np.isin(every, distinct(drawn, total, total - size, t))]
    for first in (t - 1, t):  # this one or the one before holds the end of an epoch
        rest = total - first * size % total
        if first >= 0 and rest < size:
            pair = drawn(first * size, 2 * size)
            pair[rest : rest + size] = put_off(pair[:rest], pair[rest : rest + size])
            return pair[size:] if first < t else pair[:size]
    return drawn(t * size, size)


def put_off(last: np.ndarray, first: np.ndarray) -> np.ndarray:
    """The first rows of an epoch, so swapped that its part of a batch repeats no row.

    Args:
      last: the rows of the batch from the epoch before, [r].
      first: as many rows of the new epoch as a batch has; all but r are of this batch.

    Examples:
      >>> put_off(np.array([7]), np.array([7, 2, 3])).tolist()
      [3, 2, 7]
    """
    own, again = len(first) - len(last), np.isin(first, last)
    twice = np.flatnonzero(again[:own])
    spare = own + np.flatnonzero(~again[own:])[: len(twice)]
    swapped = first.copy()
    swapped[twice], swapped[spare] = first[spare], first[twice]
    return swapped


def row_batches(
    rows: Rows, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """Endless shuffled batches from `start_step` on, read ahead in the background.

    Args:
      rows: the set.
      batch_size: rows per batch, over all devices and processes.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.

    Raises:
      ValueError: a batch larger than the set.
    """
    return read_ahead(rows, index_batches(rows.total, batch_size, seed), start_step)


def read_ahead(
    rows: Rows, indices: grain.MapDataset, start_step: int
) -> Iterator[Batch]:
    """The rows of every batch of numbers, read in the background."""
    ahead = grain.ReadOptions(
        num_threads=rows.threads, prefetch_buffer_size=max(2, rows.threads)
    )
    batches = indices.map(lambda numbers: rows.read(own_rows(numbers)))
    batches = batches.slice(slice(start_step, None))
    return iter(batches.to_iter_dataset(ahead))


def class_batches(
    rows: Rows,
    labels: np.ndarray,
    *,
    num_classes: int,
    per_class: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Endless batches of `per_class` examples of each of `num_classes` classes.

    Batch t depends on (seed, t) only. The classes of the batches are drawn as
    `index_batches` draws rows, the examples of a class at random without repetition.
    Rows come class by class: those of the first class, then those of the second.

    Args:
      rows: the set.
      labels: class of every row, [num_examples]; classes with fewer than `per_class`
        rows are left out, and so are negative labels (no class).
      num_classes: classes per batch.
      per_class: examples of each.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.

    Raises:
      ValueError: labels that are not one per row, fewer than one example per class, or
        fewer classes with so many rows than a batch needs.

    Examples:
      >>> labels = np.array([0, 1, 0, 2, 1, 2])
      >>> source = class_batches(
      ...     array_rows({"y": labels}), labels, num_classes=2, per_class=2, seed=0
      ... )
      >>> next(source)["y"].tolist()
      [0, 0, 1, 1]
    """
    labels = np.asarray(labels)
    if labels.shape != (rows.total,):
        raise ValueError(
            f"labels: expected shape [{rows.total}], got {list(labels.shape)}"
        )
    if per_class < 1:
        raise ValueError(f"per_class: expected 1 or more, got {per_class}")
    # Rows sorted by class, and where each class begins and ends.
    by_class = np.argsort(labels, kind="stable")
    names, starts, counts = np.unique(
        labels[by_class], return_index=True, return_counts=True
    )
    large = (counts >= per_class) & (names >= 0)
    starts, counts = starts[large], counts[large]
    if not 1 <= num_classes <= len(starts):
        raise ValueError(
            f"num_classes: expected 1 to {len(starts)} (the classes with {per_class} "
            f"rows or more), got {num_classes}"
        )

    def permuted(start, count):
        epochs = range(start // len(starts), (start + count - 1) // len(starts) + 1)
        rngs = [np.random.default_rng((seed, 0, epoch)) for epoch in epochs]
        order = np.concatenate([rng.permutation(len(starts)) for rng in rngs])
        return order[start - epochs[0] * len(starts) :][:count]

    def numbers(t):
        rng = np.random.default_rng((seed, 1, t))
        chosen = [
            starts[c] + rng.choice(counts[c], per_class, replace=False)
            for c in distinct(permuted, len(starts), num_classes, t)
        ]
        return by_class[np.concatenate(chosen)]

    return read_ahead(rows, grain.MapDataset.range(ENDLESS).map(numbers), start_step)


def unique_batches(
    rows: Rows,
    texts: Sequence[Any] | np.ndarray,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Endless batches in which no text comes twice, so that none is its own negative.

    Batch t depends on (seed, t) only. An epoch is a new order of all rows; those left
    over by its batches, and copies of a text beyond one per batch, wait for another.

    Args:
      rows: the set.
      texts: what must not come twice: of every row a text or any other value, or
        several of them, [num_examples, c] (a pair, say), of which none may be one of
        another row's.
      batch_size: rows per batch.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.

    Raises:
      ValueError: texts that are not one row per example, or fewer different ones than
        rows in a batch.

    Examples:
      >>> texts = ["a", "b", "a", "c"]
      >>> source = unique_batches(
      ...     array_rows({"x": np.arange(4)}), texts, batch_size=2, seed=0
      ... )
      >>> [sorted({texts[i] for i in next(source)["x"]}) for _ in range(2)]
      [['a', 'b'], ['a', 'c']]
    """
    groups = same_text(texts)
    if len(groups) != rows.total:
        raise ValueError(f"texts: expected {rows.total} rows, got {len(groups)}")
    counts = np.bincount(groups)
    # As many batches as there are rows for when each takes a text once.
    total = rows.total // batch_size if batch_size > 0 else 0
    while total and np.minimum(counts, total).sum() // batch_size < total:
        total = int(np.minimum(counts, total).sum() // batch_size)
    if not total:
        raise ValueError(
            f"batch_size: expected 1 to {len(counts)} (the different texts), got "
            f"{batch_size}"
        )

    def plan(epoch):
        """Rows of every batch of an epoch, [total, batch_size].

        Rows lie text by text, texts in any order, and are dealt out like cards: copies
        of a text, which lie together, go to different batches.
        """
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(rows.total)
        text = rng.permutation(len(counts))[groups[order]]
        order = order[np.argsort(text, kind="stable")]
        text = np.sort(text)
        place = np.arange(len(order)) - np.searchsorted(text, text)
        order = order[place < total]
        spare = len(order) - total * batch_size
        order = np.delete(order, rng.permutation(len(order))[:spare])
        return order.reshape(batch_size, total).T[rng.permutation(total)]

    return epochs_ahead(rows, plan, total, start_step)


def same_text(texts: Sequence[Any] | np.ndarray) -> np.ndarray:
    """A number per row, the same for rows that share a text, themselves or by others.

    Examples:
      >>> same_text([["a", "b"], ["c", "d"], ["b", "e"]]).tolist()
      [0, 1, 0]
    """
    values = np.asarray(texts)
    _, ids = np.unique(values, return_inverse=True)
    ids = ids.reshape(len(values), -1)
    groups = np.arange(len(ids))
    while True:
        least = np.full(ids.max(initial=0) + 1, len(ids))
        np.minimum.at(least, ids, groups[:, None])
        joined = least[ids].min(axis=1)
        if np.array_equal(joined, groups):
            return np.unique(groups, return_inverse=True)[1]
        groups = joined


def length_batches(
    rows: Rows,
    lengths: np.ndarray,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    pool: int = 64,
) -> Iterator[Batch]:
    """Endless shuffled batches of rows of about the same length, for little padding.

    Batch t depends on (seed, t) only. Of a new order of all rows, those of every `pool`
    batches are sorted by length; the batches come in any order. An epoch leaves out the
    rows that are too few for a batch.

    Args:
      rows: the set.
      lengths: length of every row, [num_examples].
      batch_size: rows per batch.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.
      pool: batches sorted at a time, at least 1; with 1 batches are as any.

    Raises:
      ValueError: lengths that are not one per row, a batch larger than the set, a pool
        below 1.

    Examples:
      >>> lengths = np.array([9, 1, 8, 2])
      >>> source = length_batches(
      ...     array_rows({"n": lengths}), lengths, batch_size=2, seed=0
      ... )
      >>> sorted(sorted(next(source)["n"].tolist()) for _ in range(2))
      [[1, 2], [8, 9]]
    """
    lengths = np.asarray(lengths)
    if lengths.shape != (rows.total,):
        raise ValueError(
            f"lengths: expected shape [{rows.total}], got {list(lengths.shape)}"
        )
    check_batch_size(rows.total, batch_size)
    if pool < 1:
        raise ValueError(f"pool: expected at least 1, got {pool}")
    total = rows.total // batch_size

    def plan(epoch):
        rng = np.random.default_rng((seed, epoch))
        order = rng.permutation(rows.total)[: total * batch_size]
        of_pool = np.arange(len(order)) // (pool * batch_size)
        order = order[np.lexsort((lengths[order], of_pool))]
        return order.reshape(total, batch_size)[rng.permutation(total)]

    return epochs_ahead(rows, plan, total, start_step)


def epochs_ahead(
    rows: Rows, plan: Callable[[int], np.ndarray], total: int, start_step: int
) -> Iterator[Batch]:
    """Batches whose rows are planned an epoch at a time, read in the background.

    Args:
      rows: the set.
      plan: number of an epoch to the rows of its batches, [total, batch_size].
      total: batches per epoch.
      start_step: number of the first batch.
    """
    planned = functools.lru_cache(maxsize=2)(plan)
    indices = grain.MapDataset.range(ENDLESS).map(
        lambda t: planned(t // total)[t % total]
    )
    return read_ahead(rows, indices, start_step)


def array_batches(
    arrays: Batch, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """`row_batches` of arrays in memory, [num_examples, ...] by name.

    Raises:
      ValueError: arrays of different lengths, or a batch larger than the set.
    """
    rows = array_rows(arrays)
    return row_batches(rows, batch_size=batch_size, seed=seed, start_step=start_step)


def epoch_batches(
    arrays: Batch, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """Endless shuffled batches of small rows in memory, indexed a batch at a time.

    As `array_batches`, for rows so small that fetching them one by one takes longer
    than the step, in memory for one permutation. Each epoch is a new one; its last
    rows, too few for a batch, are left out of it, so that no batch holds a row twice.

    Raises:
      ValueError: arrays of different lengths, or a batch larger than the set.
    """
    rows = array_rows(arrays)
    check_batch_size(rows.total, batch_size)

    def make():
        last, order = None, np.arange(0)
        for step in itertools.count(start_step):
            epoch, i = divmod(step, rows.total // batch_size)
            if epoch != last:
                order = np.random.default_rng((seed, epoch)).permutation(rows.total)
                last = epoch
            yield rows.read(own_rows(order[i * batch_size : (i + 1) * batch_size]))

    return make()


def check_batch_size(num_examples: int, batch_size: int) -> None:
    """Raises ValueError unless the batch size is between 1 and the size of the set."""
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size: expected 1 to {num_examples} (the examples there are), got "
            f"{batch_size}"
        )
