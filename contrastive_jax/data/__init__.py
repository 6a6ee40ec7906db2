"""Data sets, packaged or the user's own, step-indexed batches and augmentation."""

from contrastive_jax.data import images
from contrastive_jax.data.augment.image import make_augment
from contrastive_jax.data.batches import (
    Rows,
    array_batches,
    array_rows,
    class_batches,
    epoch_batches,
    index_batches,
    row_batches,
    some_rows,
)
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
    "make_augment",
    "row_batches",
    "some_rows",
]
