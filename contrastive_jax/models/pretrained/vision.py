"""Image encoders and pairs of towers from a folder in Hugging Face layout, and back.

    vision = load_vision("path/to/folder")    # ViT, ResNet, CLIP, SigLIP
    features = vision.model.apply(vision.variables, images, train=False)
    save_vision(vision.model, trained, "path/to/new", record="runs/mine")

Of CLIP and SigLIP the model is a `TwoTowers` (`encode_image`, `encode_text`) and `loss`
holds what its loss has learned. Images are [n, h, w, c], scaled as the file's
preprocessor_config.json says; those of models that were trained here are in [0, 1].
"""

import math
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from contrastive_jax.models.layers import ACTIVATIONS
from contrastive_jax.models.pretrained import encoder_names, folders, vision_names
from contrastive_jax.models.pretrained.loading import Tensors, read_json
from contrastive_jax.models.resnet import Resnet
from contrastive_jax.models.towers import TwoTowers
from contrastive_jax.models.vit import TextTower, Vit

PREFIXES = {"vit": "vit.", "resnet": "resnet.", "clip": "", "siglip": ""}
ARCHITECTURES = {
    "vit": "ViTModel",
    "resnet": "ResNetModel",
    "clip": "CLIPModel",
    "siglip": "SiglipModel",
}
# A published config leaves out what has these values.
TOWER = dict(num_hidden_layers=12, patch_size=16, image_size=224, num_channels=3)
TOWER |= dict(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
DEFAULTS: dict[str, dict[str, Any]] = {
    "vit": TOWER | dict(hidden_act="gelu", layer_norm_eps=1e-12, qkv_bias=True),
    "resnet": dict(
        embedding_size=64,
        hidden_sizes=[256, 512, 1024, 2048],
        depths=[3, 4, 6, 3],
        layer_type="bottleneck",
        hidden_act="relu",
        num_channels=3,
        downsample_in_first_stage=False,
        downsample_in_bottleneck=False,
    ),
}
CLIP = dict(hidden_act="quick_gelu", layer_norm_eps=1e-5)
SIGLIP = dict(hidden_act="gelu_pytorch_tanh", layer_norm_eps=1e-6)
IMAGE: dict[str, dict[str, Any]] = {
    "clip": TOWER | CLIP | dict(patch_size=32),
    "siglip": TOWER | SIGLIP | dict(vision_use_head=True),
}
TEXT: dict[str, dict[str, Any]] = {
    "clip": TOWER
    | CLIP
    | dict(hidden_size=512, intermediate_size=2048, num_attention_heads=8)
    | dict(vocab_size=49_408, max_position_embeddings=77, eos_token_id=49_407),
    "siglip": TOWER | SIGLIP | dict(vocab_size=32_000, max_position_embeddings=64),
}
# Of OpenAI's CLIP: its config names this end, its files have the largest id instead.
LEGACY_END = 2


class Vision(NamedTuple):
    """A model of images, or of images and texts, with its weights.

    Attributes:
      model: `Vit`, `Resnet` or `TwoTowers`.
      variables: "params" and, of a ResNet, "batch_stats".
      loss: of two towers "log_scale" and, of SigLIP, "bias"; {} otherwise.
      image_shape: (height, width, channels) that it was trained on; (0, 0, channels)
        for a ResNet, which takes any.
    """

    model: Any
    variables: dict[str, Any]
    loss: dict[str, Any]
    image_shape: tuple[int, int, int]


# From a folder


def load_vision(path: str | pathlib.Path, *, dtype: DTypeLike = jnp.float32) -> Vision:
    """A ViT, ResNet, CLIP or SigLIP from a folder: config.json and *.safetensors.

    Heads that classify, and the pooler of a ViT, are left out.

    Args:
      path: the folder.
      dtype: type of computing; parameters are float32.

    Raises:
      ValueError: in one line, naming the file: a kind of model or a setting that is not
        known, or all tensors that are missing, in excess, or of another shape.
    """
    path = pathlib.Path(path)
    file = path / "config.json"
    config = read_json(file)
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        raise ValueError(f"{file}: expected model_type {known}, got {kind!r}")
    try:
        model, shape = make_model(config, kind, jnp.dtype(dtype))
    except (KeyError, TypeError, ZeroDivisionError) as e:
        raise ValueError(f"{file}: a setting is missing or wrong ({e})") from e
    except ValueError as e:
        raise ValueError(f"{file}: {e}") from e
    places = places_of(model, kind)
    with Tensors(path) as tensors:
        names = {n.removeprefix(PREFIXES[kind]): n for n in tensors.places}
        names = {k: n for k, n in names.items() if not k.endswith(COUNTER)}
        ignored = vision_names.IGNORED[kind]
        encoder_names.check_names(names, places, ignored, path)
        arrays = {n: np.asarray(tensors(n), np.float32) for n in names.values()}
        flat = encoder_names.gather(arrays, names, places)
    tree = encoder_names.nest(with_shapes(flat, model, shape, path))
    loss = tree.pop(vision_names.LOSS, {})
    return Vision(model, tree, loss, shape)


COUNTER = "num_batches_tracked"


def make_model(
    config: Mapping[str, Any], kind: str, dtype: Any
) -> tuple[nn.Module, tuple[int, int, int]]:
    """The module of a config.json, and the shape of its images."""
    if kind == "resnet":
        return make_resnet(DEFAULTS[kind] | dict(config), dtype)
    if kind == "vit":
        own = DEFAULTS[kind] | dict(config)
        if not own["qkv_bias"]:
            raise ValueError("expected qkv_bias true")
        return make_vit(own, dtype, pre_norm=False, patch_bias=True)
    image = IMAGE[kind] | dict(config.get("vision_config") or {})
    text = TEXT[kind] | dict(config.get("text_config") or {})
    own = dict(pre_norm=True, patch_bias=False)
    if kind == "siglip":
        own = dict(pre_norm=False, patch_bias=True, pool="attention")
        if not image["vision_use_head"]:
            raise ValueError("expected vision_use_head true")
    tower, shape = make_vit(image, dtype, **own)
    end: Any = 0  # of no meaning without pool "end"
    if kind == "clip":
        end = text["eos_token_id"]
        end = text["vocab_size"] - 1 if end == LEGACY_END else end
    words = TextTower(
        vocabulary=text["vocab_size"],
        causal=kind == "clip",
        pool="end" if kind == "clip" else "last",
        pad=None,
        end=end,
        max_length=text["max_position_embeddings"],
        **shared_fields(text, dtype),
    )
    if kind == "clip":
        return TwoTowers(tower, words, config.get("projection_dim", 512)), shape
    dim = text.get("projection_size", words.width)
    return TwoTowers(tower, words, dim, map_image=False, text_bias=True), shape


def make_vit(own: Mapping[str, Any], dtype: Any, **fields: Any):
    """A vision transformer and the shape of its images."""
    side = own["image_size"]
    if not isinstance(side, int) or side % own["patch_size"]:
        raise ValueError(
            f"expected an image_size that patch_size {own['patch_size']} divides, got "
            f"{side!r}"
        )
    model = Vit(patch=own["patch_size"], **shared_fields(own, dtype), **fields)
    return model, (side, side, own["num_channels"])


def shared_fields(own: Mapping[str, Any], dtype: Any) -> dict[str, Any]:
    """Fields of `Vit` and `TextTower` that stand in a config alike."""
    if own["hidden_act"] not in ACTIVATIONS:
        raise ValueError(
            f"expected hidden_act {', '.join(ACTIVATIONS)}, got {own['hidden_act']!r}"
        )
    ratio = own["intermediate_size"] / own["hidden_size"]
    return dict(
        width=own["hidden_size"],
        depth=own["num_hidden_layers"],
        heads=own["num_attention_heads"],
        mlp_ratio=int(ratio) if ratio == int(ratio) else ratio,
        activation=own["hidden_act"],
        epsilon=own["layer_norm_eps"],
        dtype=dtype,
    )


def make_resnet(own: Mapping[str, Any], dtype: Any):
    """A residual network; its images may have any size."""
    block, width = own["layer_type"], own["embedding_size"]
    widening = {"basic": 1, "bottleneck": 4}.get(block)
    if widening is None:
        raise ValueError(f"expected layer_type basic or bottleneck, got {block!r}")
    sizes = tuple(own["depths"])
    wanted = [widening * width * 2**i for i in range(len(sizes))]
    for key, value in {
        "hidden_sizes": wanted,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": False,
    }.items():
        if own[key] != value:
            raise ValueError(f"expected {key} {value}, got {own[key]}")
    model = Resnet(sizes, width, block, "imagenet", dtype=dtype)
    return model, (0, 0, own["num_channels"])


def places_of(model: Any, kind: str) -> encoder_names.Places:
    """Where each tensor of a file has its place."""
    if kind == "vit":
        return vision_names.vit_places(model)
    if kind == "resnet":
        return vision_names.resnet_places(model)
    return vision_names.towers_places(model, kind)


def with_shapes(flat, model, shape, path) -> dict[tuple[str, ...], np.ndarray]:
    """Arrays in the shapes that the module has for them.

    Raises:
      ValueError: naming all that have another number of elements, or axes in another
        order.
    """
    side = shape[0] or 64
    inputs: list[Any] = [jnp.zeros((1, side, side, shape[2]))]
    options: dict[str, Any] = {"train": False}
    if isinstance(model, TwoTowers):
        inputs, options = [*inputs, jnp.zeros((1, 1), jnp.int32)], {}
    tree = jax.eval_shape(lambda: model.init(jax.random.key(0), *inputs, **options))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    want = {tuple(key.key for key in keys): x.shape for keys, x in leaves}
    out, wrong = {}, []
    for keys, x in flat.items():
        wanted = want.get(keys, ())
        if [n for n in wanted if n > 1] != [n for n in x.shape if n > 1]:
            wrong.append(f"{'/'.join(keys)} {list(x.shape)} ({list(wanted)})")
        else:
            out[keys] = x.reshape(wanted)
    if wrong:
        raise ValueError(
            f"{path}: expected the shapes of config.json; other are {', '.join(wrong)}"
        )
    return out


# To a folder


def save_vision(
    model: nn.Module,
    variables: Mapping[str, Any],
    folder: str | pathlib.Path,
    *,
    loss: Mapping[str, Any] | None = None,
    record: str | pathlib.Path | Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes a model in Hugging Face layout: weights, config.json and a model card.

    The folder appears whole or not at all.

    Args:
      model: `Vit`, `Resnet` or `TwoTowers`.
      variables: its variables.
      folder: where to; it must not be there, or be empty.
      loss: of two towers "log_scale" and "bias", as far as there are any.
      record: of the run that made it: result.json, the folder it lies in, or its
        content. None for a card without.

    Raises:
      ValueError: a folder with something in it; a setting that no published layout has;
        variables that are not the model's.
    """
    folder = folders.check_new(folder)
    kind = kind_of(model)
    places = places_of(model, kind)
    tree = {**variables}
    if isinstance(model, TwoTowers):
        tree[vision_names.LOSS] = {"log_scale": 0.0, "bias": 0.0, **(loss or {})}
    try:
        taken = {n: encoder_names.take(tree, p) for n, p in places.items()}
    except (KeyError, TypeError, ValueError) as e:
        raise ValueError(f"variables: expected those of the model ({e})") from e
    tensors: dict[str, np.ndarray] = {
        n: np.asarray(x, np.float32) for n, x in taken.items()
    }
    for name in [n for n in tensors if n.endswith(".running_mean")]:
        counter = f"{name.removesuffix('running_mean')}{COUNTER}"
        tensors[counter] = np.zeros((), np.int64)
    config = config_of(model, kind, tensors)
    files = {"config.json": config, "preprocessor_config.json": PREPROCESSOR}
    card = vision_card(folder.name, kind, config, folders.read_record(record))
    folders.write_folder(folder, files, {"": tensors}, card)
    return folder


# Images in [0, 1], as models here are trained on.
PREPROCESSOR = dict(
    image_processor_type="ViTImageProcessor",
    do_resize=False,
    do_rescale=True,
    rescale_factor=1 / 255,
    do_normalize=False,
)


def kind_of(model: Any) -> str:
    """The model_type that a module is.

    Raises:
      ValueError: naming the setting that none of them has.
    """
    kind, wanted = "", {}
    if isinstance(model, Resnet):
        kind, wanted = "resnet", dict(stem="imagenet", norm="batch", grid=1)
    elif isinstance(model, Vit):
        kind = "vit"
        wanted = dict(pool="class", pre_norm=False, patch_bias=True)
    elif isinstance(model, TwoTowers) and isinstance(model.image, Vit):
        kind = "clip" if model.map_image else "siglip"
        check_fields(model, dict(text_bias=kind == "siglip"), "")
        own = dict(pool="class", pre_norm=True, patch_bias=False)
        words: dict[str, Any] = dict(causal=True, pool="end")
        if kind == "siglip":
            own = dict(pool="attention", pre_norm=False, patch_bias=True)
            words = dict(causal=False, pool="last", pad=None)
        check_fields(model.image, own, "image.")
        check_fields(model.text, words, "text.")
        if kind == "clip" and model.text.end == LEGACY_END:
            raise ValueError(
                f"text.end: expected another id than {LEGACY_END}, which published "
                "configs have for the largest of a row"
            )
    else:
        raise ValueError(
            "model: expected a Vit, a Resnet or a TwoTowers with a Vit, got "
            f"{type(model).__name__}"
        )
    check_fields(model, wanted, "")
    return kind


def check_fields(model: Any, wanted: Mapping[str, Any], prefix: str) -> None:
    """Raises ValueError for the first field with another value."""
    for name, value in wanted.items():
        got = getattr(model, name)
        if got != value:
            raise ValueError(
                f"{prefix}{name}: expected {value!r} (what the published layout has), "
                f"got {got!r}"
            )


def config_of(model: Any, kind: str, tensors: Mapping[str, Any]) -> dict[str, Any]:
    """config.json of a module; sizes of images are read off its tensors."""
    about = dict(model_type=kind, architectures=[ARCHITECTURES[kind]])
    about["torch_dtype"] = "float32"
    if kind == "resnet":
        widening = {"basic": 1, "bottleneck": 4}[model.block]
        stages = range(len(model.stage_sizes))
        return about | dict(
            embedding_size=model.width,
            hidden_sizes=[widening * model.width * 2**i for i in stages],
            depths=list(model.stage_sizes),
            layer_type=model.block,
            hidden_act="relu",
            num_channels=tensors["embedder.embedder.convolution.weight"].shape[1],
            downsample_in_first_stage=False,
            downsample_in_bottleneck=False,
        )
    if kind == "vit":
        names = "patch_embeddings.projection.weight", "position_embeddings"
        return about | image_config(model, tensors, "embeddings.", names)
    names = "patch_embedding.weight", "position_embedding.weight"
    image = image_config(model.image, tensors, "vision_model.embeddings.", names)
    positions = tensors["text_model.embeddings.position_embedding.weight"]
    text = block_config(model.text) | dict(
        vocab_size=model.text.vocabulary,
        max_position_embeddings=len(positions),
        bos_token_id=None,
    )
    if kind == "siglip":
        image["vision_use_head"] = True
        text["projection_size"] = model.dim
        return about | dict(text_config=text, vision_config=image)
    text |= dict(eos_token_id=model.text.end, pad_token_id=model.text.pad)
    text["projection_dim"] = image["projection_dim"] = model.dim
    return about | dict(text_config=text, vision_config=image, projection_dim=model.dim)


def image_config(model: Vit, tensors, top: str, names: tuple[str, str]):
    """The part of a config that says what a vision transformer is."""
    patches, places = (tensors[top + name] for name in names)
    count = places.size // model.width - (model.pool == "class")
    side = math.isqrt(count)
    if side**2 != count:
        raise ValueError(f"place: expected those of a square image, got {count}")
    return block_config(model) | dict(
        patch_size=model.patch,
        image_size=side * model.patch,
        num_channels=patches.shape[1],
    )


def block_config(model: Any) -> dict[str, Any]:
    """The part of a config that says what blocks are."""
    names = {"gelu_new": "gelu_pytorch_tanh"}
    return dict(
        hidden_size=model.width,
        num_hidden_layers=model.depth,
        num_attention_heads=model.heads,
        intermediate_size=round(model.mlp_ratio * model.width),
        hidden_act=names.get(model.activation, model.activation),
        layer_norm_eps=model.epsilon,
    )


def vision_card(name: str, kind: str, config: Any, record: Mapping[str, Any]) -> str:
    """The README.md of a model of images."""
    own = config.get("vision_config", config)
    shape = f"{own['num_channels']} channels"
    if "image_size" in own:
        shape = f"{own['image_size']} x {own['image_size']} pixels and {shape}"
    towers = kind in ("clip", "siglip")
    task = "zero-shot-image-classification" if towers else "image-feature-extraction"
    about = f"{ARCHITECTURES[kind]} for images of {shape}, values in [0, 1]."
    ours = "from contrastive_jax.models import pretrained\n\n"
    ours += 'vision = pretrained.load_vision("FOLDER")\n'
    call = 'images, method="encode_image"' if towers else "images, train=False"
    ours += f"out = vision.model.apply(vision.variables, {call})"
    theirs = "from transformers import AutoModel\n\n"
    theirs += 'model = AutoModel.from_pretrained("FOLDER")'
    header = {"library_name": "transformers", "pipeline_tag": task}
    return folders.model_card(name, about, [theirs, ours], record, header)
