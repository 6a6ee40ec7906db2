"""Data: packaged sets, users' prepared sets, step-indexed batches, augmentation."""

from contrastive_jax.data import images
from contrastive_jax.data.augment.image import make_augment
from contrastive_jax.data.batches import (
    array_batches,
    epoch_batches,
    fetched_batches,
    index_batches,
)
from contrastive_jax.data.packaged import DataMissing, Images

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
