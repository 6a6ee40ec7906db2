"""Backgrounds and targets: two sets of images that share a factor; one has another.

In "layers" (and the paper's "cifar_mnist") a background is a picture at half its
brightness and a target has a digit over it; in "solar" backgrounds are intact cells,
targets have defects.
"""

import functools
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import array_batches, images


class Split(NamedTuple):
    """Images of both sets.

    Attributes:
      image: [n, h, w, c] uint8.
      is_target: [n] bool.
      common: class of the factor that both sets have, [n].
      salient: class of the factor that only targets have, [n]; 0 for backgrounds.
    """

    image: np.ndarray
    is_target: np.ndarray
    common: np.ndarray
    salient: np.ndarray


class Sets(NamedTuple):
    """Three splits, and what the two factors are called."""

    train: Split
    held_out: Split
    test: Split
    common: str
    salient: str


def rows_of(split: Split, rows: np.ndarray | slice) -> Split:
    """Some rows of a split, by number, mask or slice."""
    return Split(*(x[rows] for x in split))


@functools.cache
def load(name: str, data_dir: str, rows_of_a_set: int, held_out: float) -> Sets:
    """A pair of sets by name.

    Raises:
      DataMissing: it is not there and cannot be fetched.
      ValueError: no such pair.
    """
    if name not in READERS:
        raise ValueError(
            f"data.sets: expected names of {', '.join(sorted(READERS))}, got {name!r}"
        )
    read, common, salient = READERS[name]
    train, test = read(data_dir, rows_of_a_set)
    order = np.random.default_rng(0).permutation(len(train.image))
    cut = round(held_out * len(order))
    parts = (rows_of(train, x) for x in (order[cut:], order[:cut]))
    return Sets(*parts, test, common, salient)


def of(config) -> Sets:
    """The first of the pairs that the config names; all of them have to be there."""
    d = config.data
    first, *_ = [load(x, d.data_dir, d.rows_of_a_set, d.held_out) for x in d.sets]
    return first


def shape_of(config) -> tuple[int, ...]:
    """Shape of an image of the first pair."""
    if config.data.sets[0] == "cifar_mnist":
        return (32, 32, 3)
    return of(config).train.image.shape[1:]


def batches(config, start_step):
    """Batches of image and is_target; batch t depends on (seed, t) only."""
    train = of(config).train
    return array_batches(
        {"image": train.image, "is_target": train.is_target},
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def layered(below, above, number: int, seed: int) -> Split:
    """As many backgrounds as targets, `number` at most of each, out of two sets.

    Args:
      below: images and labels of the factor that both have.
      above: images (at most as large) and labels of the one that targets have.
      number: rows of each at most; no picture below is in both.
      seed: of which meets which.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(below[0]))[: 2 * number]
    order = order[: len(order) // 2 * 2]
    image, common = (x[order] for x in below)
    is_target = np.arange(len(order)) >= len(order) // 2
    chosen = rng.integers(0, len(above[0]), len(order))
    pad = [(0, 0)] + [
        ((a - b) // 2, -(-(a - b) // 2))
        for a, b in zip(image.shape[1:3], above[0].shape[1:3], strict=True)
    ]
    over = np.pad(above[0][chosen], [*pad, (0, 0)]) * is_target[:, None, None, None]
    mixed = (image.astype(np.uint16) + over) // 2
    return Split(
        mixed.astype(np.uint8),
        is_target,
        common.astype(np.int32),
        np.where(is_target, above[1][chosen], 0).astype(np.int32),
    )


def both_splits(below, above, number: int) -> tuple[Split, Split]:
    """`layered` training and test rows of two image sets."""

    def part(found, split):
        return getattr(found, f"{split}_image"), getattr(found, f"{split}_label")

    train = layered(part(below, "train"), part(above, "train"), number, seed=0)
    return train, layered(part(below, "test"), part(above, "test"), 1000, seed=1)


def read_layers(data_dir: str, number: int) -> tuple[Split, Split]:
    """Clothes of Fashion-MNIST, and digits of MNIST over them."""
    return both_splits(images.load("fashion"), images.load("mnist5k"), number)


def read_digits(data_dir: str, number: int) -> tuple[Split, Split]:
    """Digits of 8 x 8 pixels, and others, turned by a right angle, over them."""
    found = images.load("digits")

    def turned(image):
        return np.rot90(image, axes=(1, 2))

    def part(split, turn):
        image, label = (getattr(found, f"{split}_{x}") for x in ("image", "label"))
        # Each scan below twice, since there are few: once plain, once under another.
        return turn(np.repeat(image, 3, axis=0)), np.repeat(label, 3)

    train, test = (
        layered(part(split, lambda x: x), part(split, turned), number, seed)
        for seed, split in enumerate(("train", "test"))
    )
    return train, test


def read_solar(data_dir: str, number: int) -> tuple[Split, Split]:
    """Solar cells, 32 x 32: intact ones, and ones with a defect, mild or severe.

    Both are of one crystal or of many. Severe is a probability of 1, mild 1/3 or 2/3.
    """
    cells = images.solar_cells(32)
    order = np.random.default_rng(0).permutation(len(cells.defect))
    every = rows_of(
        Split(
            cells.image,
            cells.defect > 0,
            cells.poly.astype(np.int32),
            (cells.defect == 1).astype(np.int32),
        ),
        order,
    )
    cut = len(order) // 4
    train, test = rows_of(every, slice(cut, None)), rows_of(every, slice(cut))
    return rows_of(train, slice(2 * number)), test


def read_cifar_mnist(data_dir: str, number: int) -> tuple[Split, Split]:
    """CIFAR-10 under MNIST, both prepared by TFDS."""
    return both_splits(
        images.load("cifar10", data_dir), images.load("mnist", data_dir), number
    )


# How a pair is read, and the names of its factors.
READERS = {
    "layers": (read_layers, "clothes", "digit"),
    "solar": (read_solar, "crystals", "severity"),
    "digits": (read_digits, "digit below", "digit above"),
    "cifar_mnist": (read_cifar_mnist, "object", "digit"),
}
