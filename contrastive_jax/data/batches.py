"""Step-indexed batches: batch t depends on (seed, t) only, so a restart needs no state.

A set is `Rows`: examples read by number, from memory or from files. `row_batches` draws
endless shuffled batches of them. Grain shuffles by a keyed permutation of indices, in
constant memory whatever the size of the set, and builds batches ahead of time in
threads of its own.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import grain
import numpy as np

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


def index_batches(
    num_examples: int, batch_size: int, seed: int, *, shuffle: bool = True
) -> grain.MapDataset:
    """Row numbers of every batch: `index_batches(...)[t]` is batch t, [batch_size].

    Epoch after epoch without end, each a new permutation in which every row comes
    exactly once; a batch may hold the end of one epoch and the start of the next.

    Raises:
      ValueError: no example, or a batch larger than the set.
    """
    check_batch_size(num_examples, batch_size)
    rows = grain.MapDataset.range(num_examples).seed(seed)
    rows = rows.shuffle() if shuffle else rows
    return rows.repeat().batch(batch_size)


def row_batches(
    rows: Rows, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """Endless shuffled batches from `start_step` on, read ahead in the background.

    Args:
      rows: the set.
      batch_size: rows per batch, over all devices.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.

    Raises:
      ValueError: a batch larger than the set.
    """
    indices = index_batches(rows.total, batch_size, seed)
    ahead = grain.ReadOptions(
        num_threads=rows.threads, prefetch_buffer_size=max(2, rows.threads)
    )
    batches = indices.map(rows.read).slice(slice(start_step, None))
    return iter(batches.to_iter_dataset(ahead))


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
    than the step. Each epoch is a new permutation; its last rows, too few for a batch,
    are left out.

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
            yield rows.read(order[i * batch_size : (i + 1) * batch_size])

    return make()


def check_batch_size(num_examples: int, batch_size: int) -> None:
    """Raises ValueError unless the batch size is between 1 and the size of the set."""
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size: expected 1 to {num_examples} (the examples there are), got "
            f"{batch_size}"
        )
