"""Step-indexed batches: batch t depends on (seed, t) only, so a restart needs no state.

Grain shuffles by a keyed permutation of indices, in constant memory whatever the size
of the set, and builds batches ahead of time in a thread of its own.
"""

import itertools
from collections.abc import Callable, Iterator

import grain
import numpy as np

Batch = dict[str, np.ndarray]


def index_batches(
    num_examples: int, batch_size: int, seed: int, *, shuffle: bool = True
) -> grain.MapDataset:
    """Row numbers of every batch: `index_batches(...)[t]` is batch t, [batch_size].

    Epoch after epoch without end, each a new permutation in which every row comes
    exactly once; a batch may hold the end of one epoch and the start of the next.

    Raises:
      ValueError: no example, or a batch larger than the set.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(
            f"batch_size: expected 1 to {num_examples} (the examples there are), got "
            f"{batch_size}"
        )
    rows = grain.MapDataset.range(num_examples).seed(seed)
    rows = rows.shuffle() if shuffle else rows
    return rows.repeat().batch(batch_size)


def fetched_batches(
    fetch: Callable[[np.ndarray], Batch],
    num_examples: int,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    prefetch: int = 2,
    threads: int = 1,
) -> Iterator[Batch]:
    """Endless batches from `start_step` on, read ahead in the background.

    Args:
      fetch: reads the given rows and returns arrays [batch_size, ...] by name.
      num_examples: rows there are.
      batch_size: rows per batch, over all devices.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.
      prefetch: batches kept ready.
      threads: reading threads.

    Raises:
      ValueError: a batch larger than the set.
    """
    rows = index_batches(num_examples, batch_size, seed)
    ahead = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return iter(rows.map(fetch).slice(slice(start_step, None)).to_iter_dataset(ahead))


def array_batches(
    arrays: Batch, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """Endless shuffled batches of arrays in memory, from `start_step` on.

    Args:
      arrays: [num_examples, ...] by name.
      batch_size: rows per batch, over all devices.
      seed: seed of the order.
      start_step: number of the first batch.

    Raises:
      ValueError: arrays of different lengths, or a batch larger than the set.
    """
    lengths = {name: len(x) for name, x in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"arrays: expected one length, got {lengths}")
    return fetched_batches(
        lambda rows: {name: x[rows] for name, x in arrays.items()},
        next(iter(lengths.values())),
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
    )


def epoch_batches(
    arrays: Batch, *, batch_size: int, seed: int, start_step: int = 0
) -> Iterator[Batch]:
    """Endless shuffled batches of small rows in memory, made as they are asked for.

    What `array_batches` gives, for rows so small that choosing them one by one takes
    longer than the step. Each epoch is a new permutation whose last rows, too few for a
    batch, are left out.

    Args:
      arrays: [num_examples, ...] by name.
      batch_size: rows per batch, over all devices.
      seed: seed of the order.
      start_step: number of the first batch; batch t is the same wherever one starts.

    Raises:
      ValueError: arrays of different lengths, or a batch larger than the set.
    """
    lengths = {name: len(x) for name, x in arrays.items()}
    if len(set(lengths.values())) != 1:
        raise ValueError(f"arrays: expected one length, got {lengths}")
    number = next(iter(lengths.values()))
    if not 1 <= batch_size <= number:
        raise ValueError(
            f"batch_size: expected 1 to {number} (the examples there are), got "
            f"{batch_size}"
        )

    def make():
        last, order = None, np.arange(0)
        for step in itertools.count(start_step):
            epoch, i = divmod(step, number // batch_size)
            if epoch != last:
                order = np.random.default_rng((seed, epoch)).permutation(number)
                last = epoch
            rows = order[i * batch_size : (i + 1) * batch_size]
            yield {name: x[rows] for name, x in arrays.items()}

    return make()
