"""Data: packaged sets, users' prepared sets, step-indexed batches, augmentation."""

from contrastive_jax.data.arrays import (
    array_batches,
    epoch_batches,
    fetched_batches,
    index_batches,
)
from contrastive_jax.data.augment_image import make_augment
from contrastive_jax.data.packaged import DataMissing, Images, images

__all__ = [
    "DataMissing",
    "Images",
    "array_batches",
    "epoch_batches",
    "fetched_batches",
    "images",
    "index_batches",
    "make_augment",
]
