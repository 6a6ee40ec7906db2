"""Encoders and heads as flax linen modules: no loss, no optimiser, no head inside."""

from contrastive_jax.models.language import LanguageModel
from contrastive_jax.models.layers import BatchNorm, GroupNorm, Mlp
from contrastive_jax.models.resnet import DEPTHS, Resnet
from contrastive_jax.models.towers import EncoderWithHead, TwoTowers, make_towers
from contrastive_jax.models.transformer import (
    Blocks,
    Transformer,
    TransformerBlock,
    TransformerOutput,
    rotate,
)
from contrastive_jax.models.vit import TextTower, Vit

__all__ = [
    "DEPTHS",
    "BatchNorm",
    "Blocks",
    "EncoderWithHead",
    "GroupNorm",
    "LanguageModel",
    "Mlp",
    "Resnet",
    "TextTower",
    "Transformer",
    "TransformerBlock",
    "TransformerOutput",
    "TwoTowers",
    "Vit",
    "make_towers",
    "rotate",
]
