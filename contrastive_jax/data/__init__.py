"""Data sets, packaged or the user's own, step-indexed batches and augmentation."""

from contrastive_jax.data import images, sentences
from contrastive_jax.data.augment.image import make_augment
from contrastive_jax.data.batches import (
    Rows,
    array_batches,
    array_rows,
    class_batches,
    epoch_batches,
    index_batches,
    length_batches,
    row_batches,
    some_rows,
    unique_batches,
)
from contrastive_jax.data.long_tail import long_tail_rows, long_tail_sizes
from contrastive_jax.data.packaged import DataMissing, Images

__all__ = [
    "DataMissing",
    "Images",
    "Rows",
    "array_batches",
    "array_rows",
    "class_batches",
    "epoch_batches",
    "images",
    "index_batches",
    "length_batches",
    "long_tail_rows",
    "long_tail_sizes",
    "make_augment",
    "row_batches",
    "sentences",
    "some_rows",
    "unique_batches",
]
