"""Encoders and heads as flax linen modules: no loss, no optimiser, no head inside."""

from contrastive_jax.models.layers import BatchNorm, GroupNorm, Mlp
from contrastive_jax.models.resnet import DEPTHS, Resnet

__all__ = ["DEPTHS", "BatchNorm", "GroupNorm", "Mlp", "Resnet"]
