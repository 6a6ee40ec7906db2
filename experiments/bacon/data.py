"""A long-tailed set: labelled rows of known classes, and rows without a label."""

from typing import NamedTuple

import numpy as np

from contrastive_jax.data import array_batches, long_tail_rows, long_tail_sizes
from contrastive_jax.data import images as sets
from contrastive_jax.tasks import images


class Tail(NamedTuple):
    """The training rows.

    Attributes:
      image: [n, h, w, c] uint8.
      label: true class of each row; the known classes come first.
      labelled: rows whose class is told.
      sizes: rows of each class.
    """

    image: np.ndarray
    label: np.ndarray
    labelled: np.ndarray
    sizes: np.ndarray


def long_tail(config):
    """The rows of a config, the same for all seeds."""
    data, total = config.data, config.model.num_classes
    image, label = whole(config, "train")
    if label.min() < 0:
        images.num_classes(data)  # says that there are no labels
    tails = [
        long_tail_sizes(number, largest=data.largest, ratio=data.ratio)
        for number in (data.known, total - data.known)
    ]
    sizes = np.concatenate(tails)
    rows = long_tail_rows(label, sizes, seed=0)
    label = label[rows]
    # Of each known class the first rows: they were drawn in random order.
    place = np.concatenate([np.arange(size) for size in sizes])
    told = np.ceil(data.labelled * sizes[label])
    labelled = (label < data.known) & (place < told)
    return Tail(image[rows], label, labelled, sizes)


def batches(config, start_step):
    """As many labelled rows as others: image, and label (-1 where there is none)."""
    tail, size = long_tail(config), config.data.batch_size
    halves = []
    for told in (True, False):
        rows = tail.labelled == told
        label = np.where(tail.labelled, tail.label, -1)[rows].astype(np.int32)
        source = array_batches(
            {"image": tail.image[rows], "label": label},
            batch_size=min(size // 2, len(label)),
            seed=config.seed,
            start_step=start_step,
        )
        halves.append(source)
    for pair in zip(*halves, strict=True):
        # Beside each other, so that every device has some of both.
        yield {
            name: np.stack([half[name] for half in pair], axis=1).reshape(
                -1, *pair[0][name].shape[1:]
            )
            for name in pair[0]
        }


def asked_rows(config):
    """Images and classes of `eval.split`; the classes are of equal size."""
    split = config.eval.split
    split = config.data.test_split if split == "test" else split
    return whole(config, split, config.eval.rows)


def whole(config, split, limit=0):
    """Images and classes of a split, or of `limit` rows spread over it."""
    data = config.data
    parts = sets.one_pass(
        data.name,
        split,
        **images.place(data),
        size=data.size,
        held_out=data.held_out,
        batch_size=1000,
        limit=limit,
    )
    image, label = zip(*parts, strict=True)
    return np.concatenate(image), np.concatenate(label)
