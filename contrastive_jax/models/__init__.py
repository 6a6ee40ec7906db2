"""Encoders and heads as flax linen modules: no loss, no optimizer, no head inside."""

from contrastive_jax.models import decoding
from contrastive_jax.models.decoder import Cache, Decoder
from contrastive_jax.models.encoder import (
    Encoder,
    EncoderBlock,
    token_head_init,
    token_logits,
)
from contrastive_jax.models.experts import (
    gelu_expert,
    glu_expert,
    moe_enforced,
    moe_sentence_switch,
    moe_sentence_top_k,
    moe_token_top_k,
    upcycle_experts,
)
from contrastive_jax.models.language import LanguageModel
from contrastive_jax.models.layers import BatchNorm, GroupNorm, Mlp
from contrastive_jax.models.lora import lora_init, lora_merge
from contrastive_jax.models.pooling import (
    POOLERS,
    last_layers,
    pool_cls,
    pool_last,
    pool_layers,
    pool_mask,
    pool_max,
    pool_mean,
    pool_sqrt,
    pool_sum,
)
from contrastive_jax.models.pretext import PretextHead
from contrastive_jax.models.resnet import DEPTHS, Resnet
from contrastive_jax.models.scattering import (
    FilterBank,
    morlet_filter_bank,
    scattering_2d,
    scattering_paths,
)
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
    "POOLERS",
    "BatchNorm",
    "Blocks",
    "Cache",
    "Decoder",
    "Encoder",
    "EncoderBlock",
    "EncoderWithHead",
    "FilterBank",
    "GroupNorm",
    "LanguageModel",
    "Mlp",
    "PretextHead",
    "Resnet",
    "TextTower",
    "Transformer",
    "TransformerBlock",
    "TransformerOutput",
    "TwoTowers",
    "Vit",
    "decoding",
    "gelu_expert",
    "glu_expert",
    "last_layers",
    "lora_init",
    "lora_merge",
    "make_towers",
    "moe_enforced",
    "moe_sentence_switch",
    "moe_sentence_top_k",
    "moe_token_top_k",
    "morlet_filter_bank",
    "pool_cls",
    "pool_last",
    "pool_layers",
    "pool_mask",
    "pool_max",
    "pool_mean",
    "pool_sqrt",
    "pool_sum",
    "rotate",
    "scattering_2d",
    "scattering_paths",
    "token_head_init",
    "token_logits",
    "upcycle_experts",
]
