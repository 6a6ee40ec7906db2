"""Image classification sets by name: packaged ones, or any in a user's TFDS folder.

`name` alone means a packaged set (see `packaged.images`); with `data_dir` it is a set
prepared there by tensorflow-datasets. Sets with `size` = 0 are held in memory; with a
size, images are read from disk as they are needed and cut to size x size squares.
"""

from collections.abc import Iterator

import numpy as np

from contrastive_jax.data import arrays, packaged, tfds_source


def load(name: str, data_dir: str = "") -> packaged.Images:
    """All images of a set that fits in memory.

    Raises:
      packaged.DataMissing: it is not there; the message says what to run.
      ValueError: no such set.
    """
    return tfds_source.images(name, data_dir) if data_dir else packaged.images(name)


def class_names(name: str, data_dir: str = "") -> tuple[str, ...]:
    """The names of a set's classes."""
    if not data_dir:
        return packaged.images(name).class_names
    builder = tfds_source.open_builder(name, data_dir)
    return tuple(builder.info.features["label"].names)


def batches(
    name: str,
    *,
    data_dir: str = "",
    size: int = 0,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[arrays.Batch]:
    """Endless shuffled training batches; batch t is a function of (seed, t).

    Yields:
      image: [batch_size, h, w, c] uint8.
      label: [batch_size] int32.

    Raises:
      packaged.DataMissing: it is not there; the message says what to run.
      ValueError: no such set, or a batch larger than it.
    """
    order = dict(batch_size=batch_size, seed=seed, start_step=start_step)
    if size:
        return tfds_source.image_batches(name, data_dir, size=size, **order)
    found = load(name, data_dir)
    rows = {"image": found.train_image, "label": found.train_label}
    return arrays.array_batches(rows, **order)


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
      name: the set.
      split: "train" or "test"; with `data_dir` any split the set has.
      data_dir: see the module.
      size: see the module.
      batch_size: rows per batch.
      limit: only so many rows, spread evenly over the split; 0 for all.
    """
    if size:
        builder = tfds_source.open_builder(name, data_dir)
        source = tfds_source.open_split(builder, split)
        total = len(source)
    else:
        found = load(name, data_dir)
        image = getattr(found, f"{split}_image")
        label = getattr(found, f"{split}_label")
        total = len(label)
    rows = np.arange(total)
    if 0 < limit < total:
        rows = np.arange(limit) * total // limit
    for start in range(0, len(rows), batch_size):
        part = rows[start : start + batch_size]
        if size:
            yield tfds_source.read_rows(source, part, size)
        else:
            yield image[part], label[part]
