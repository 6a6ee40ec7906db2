"""Objectives as pure functions: arrays in, nats out, one contract for all."""

from contrastive_jax.losses.nce import info_nce, nt_xent, sigmoid, two_way_info_nce
from contrastive_jax.losses.supervised import supervised_contrastive

__all__ = [
    "info_nce",
    "nt_xent",
    "sigmoid",
    "supervised_contrastive",
    "two_way_info_nce",
]
