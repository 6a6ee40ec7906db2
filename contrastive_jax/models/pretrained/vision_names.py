"""Weights of ViT, ResNet, CLIP and SigLIP files, by name, as variables of our modules.

One table says where each tensor of a file has its place, so that what is read is what
is written. Paths begin with the collection: "params", "batch_stats", or "loss" for the
scale and bias that a loss has learned beside the towers.
"""

from collections.abc import Mapping
from typing import Any

from contrastive_jax.models.pretrained.encoder_names import Place, Places, dense, norm
from contrastive_jax.models.resnet import Resnet
from contrastive_jax.models.towers import TwoTowers
from contrastive_jax.models.vit import TextTower, Vit

PARAMS, STATS, LOSS = "params", "batch_stats", "loss"
# What such files hold besides, and no encoder needs.
IGNORED = {
    "vit": (
        "pooler.dense.weight",
        "pooler.dense.bias",
        "classifier.weight",
        "classifier.bias",
    ),
    "resnet": ("classifier.1.weight", "classifier.1.bias"),
    "clip": (
        "text_model.embeddings.position_ids",
        "vision_model.embeddings.position_ids",
    ),
    "siglip": (
        "text_model.embeddings.position_ids",
        "vision_model.embeddings.position_ids",
    ),
}


def moved(places: Places, *path: str) -> Places:
    """Places with names in front of their paths."""
    return {k: p._replace(path=(*path, *p.path)) for k, p in places.items()}


def block_places(at: str, names: Mapping[str, str], *path: str) -> Places:
    """Places of a block of `TransformerBlock`.

    Args:
      at: what names in the file begin with.
      names: those of query, key, value, out, norm_1, norm_2, up and down.
      *path: of the block.
    """
    own = (*path, "Attention_0")
    places: Places = {}
    for part, name in enumerate(("query", "key", "value")):
        places |= dense(at + names[name], *own, "Dense_0", part=part, parts=3)
    places |= dense(at + names["out"], *own, "Dense_1")
    places |= norm(at + names["norm_1"], *path, "LayerNorm_0")
    places |= norm(at + names["norm_2"], *path, "LayerNorm_1")
    places |= dense(at + names["up"], *path, "Dense_0")
    return places | dense(at + names["down"], *path, "Dense_1")


VIT = {
    "query": "attention.attention.query",
    "key": "attention.attention.key",
    "value": "attention.attention.value",
    "out": "attention.output.dense",
    "norm_1": "layernorm_before",
    "norm_2": "layernorm_after",
    "up": "intermediate.dense",
    "down": "output.dense",
}
CLIP = {
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "norm_1": "layer_norm1",
    "norm_2": "layer_norm2",
    "up": "mlp.fc1",
    "down": "mlp.fc2",
}


def vit_places(model: Vit) -> Places:
    """Places of a ViT's tensors."""
    patch = "embeddings.patch_embeddings.projection"
    places = {
        "embeddings.cls_token": Place(("class_token",)),
        "embeddings.position_embeddings": Place(("place",)),
        f"{patch}.weight": Place(("Conv_0", "kernel"), matrix=True),
        f"{patch}.bias": Place(("Conv_0", "bias")),
    }
    for i in range(model.depth):
        at = f"encoder.layer.{i}."
        places |= block_places(at, VIT, "Blocks_0", f"TransformerBlock_{i}")
    places |= norm("layernorm", "Blocks_0", "LayerNorm_0")
    return moved(places, PARAMS)


def resnet_places(model: Resnet) -> Places:
    """Places of a ResNet's tensors; statistics have a collection of their own."""
    places = conv_places("embedder.embedder", "ConvNorm_0")
    count, features = 0, model.width
    layers = {"basic": 2, "bottleneck": 3}[model.block]
    widening = {"basic": 1, "bottleneck": 4}[model.block]
    for stage, size in enumerate(model.stage_sizes):
        width = widening * model.width * 2**stage
        for i in range(size):
            at, block = f"encoder.stages.{stage}.layers.{i}", f"Block_{count}"
            for k in range(layers):
                places |= conv_places(f"{at}.layer.{k}", block, f"ConvNorm_{k}")
            if features != width:
                shortcut = f"ConvNorm_{layers}"
                places |= conv_places(f"{at}.shortcut", block, shortcut)
            count, features = count + 1, width
    return places


def conv_places(name: str, *path: str) -> Places:
    """Places of a convolution and its batch normalization."""
    inner = (*path, "BatchNorm_0", "BatchNorm_0")
    places = norm(f"{name}.normalization", PARAMS, *inner)
    kernel = (PARAMS, *path, "Conv_0", "kernel")
    return places | {
        f"{name}.convolution.weight": Place(kernel, matrix=True),
        f"{name}.normalization.running_mean": Place((STATS, *inner, "mean")),
        f"{name}.normalization.running_var": Place((STATS, *inner, "var")),
    }


def towers_places(model: TwoTowers, kind: str) -> Places:
    """Places of the tensors of a CLIP or SigLIP.

    Args:
      model: the module.
      kind: "clip" or "siglip".
    """
    image: Any = model.image
    text: Any = model.text
    places = moved(image_places(image), PARAMS, "image")
    places |= moved(text_places(text), PARAMS, "text")
    if kind == "clip":
        for name, of in {"visual": "image", "text": "text"}.items():
            kernel = (PARAMS, f"{of}_map", "kernel")
            places[f"{name}_projection.weight"] = Place(kernel, matrix=True)
        return places | {"logit_scale": Place((LOSS, "log_scale"))}
    places |= dense("text_model.head", PARAMS, "text_map")
    for name, own in {"logit_scale": "log_scale", "logit_bias": "bias"}.items():
        places[name] = Place((LOSS, own), shape=(1,))
    return places


def image_places(model: Vit) -> Places:
    """Places of an image tower's tensors."""
    top, inside = "vision_model.", "vision_model.embeddings."
    places = {
        f"{inside}patch_embedding.weight": Place(("Conv_0", "kernel"), matrix=True),
        f"{inside}position_embedding.weight": Place(
            ("place",), shape=(-1, model.width)
        ),
    }
    if model.patch_bias:
        places[f"{inside}patch_embedding.bias"] = Place(("Conv_0", "bias"))
    if model.pool == "class":
        shape = (model.width,)
        places[f"{inside}class_embedding"] = Place(("class_token",), shape=shape)
    if model.pre_norm:
        places |= norm(f"{top}pre_layrnorm", "LayerNorm_0")
    for i in range(model.depth):
        at = f"{top}encoder.layers.{i}."
        places |= block_places(at, CLIP, "Blocks_0", f"TransformerBlock_{i}")
    places |= norm(f"{top}post_layernorm", "Blocks_0", "LayerNorm_0")
    if model.pool == "attention":
        head, pool = f"{top}head.", "AttentionPool_0"
        places[f"{head}probe"] = Place((pool, "probe"))
        inner = f"{head}attention.in_proj_"
        places[f"{inner}weight"] = Place((pool, "qkv", "kernel"), matrix=True)
        places[f"{inner}bias"] = Place((pool, "qkv", "bias"))
        places |= dense(f"{head}attention.out_proj", pool, "out")
        places |= norm(f"{head}layernorm", pool, "norm")
        places |= dense(f"{head}mlp.fc1", pool, "up")
        places |= dense(f"{head}mlp.fc2", pool, "down")
    return places


def text_places(model: TextTower) -> Places:
    """Places of a text tower's tensors."""
    top, inside = "text_model.", "text_model.embeddings."
    places = {
        f"{inside}token_embedding.weight": Place(("token", "embedding")),
        f"{inside}position_embedding.weight": Place(("position",)),
    }
    for i in range(model.depth):
        at = f"{top}encoder.layers.{i}."
        places |= block_places(at, CLIP, "blocks", f"TransformerBlock_{i}")
    places |= norm(f"{top}final_layer_norm", "blocks", "LayerNorm_0")
    return moved(places, "Transformer_0")
