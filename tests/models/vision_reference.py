"""Writes vision.npz: tiny random models of images by transformers, and their outputs.

    ENVIRONMENT/bin/python tests/models/vision_reference.py
    ENVIRONMENT/bin/python tests/models/vision_reference.py FOLDER ...

Made with transformers 5.24.0 and torch 2.13.0 on a CPU. For each name the file holds
its config.json, the shapes of its tensors as they are saved (their values: `draw`), and
the features of the images (`IMAGES`): of two towers the embeddings of images and of
texts, and the logits. With folders it writes nothing and prints what transformers makes
of those.
"""

import json
import pathlib
import sys
import tempfile
import zlib

import numpy as np

SIZES = dict(
    hidden_size=8, intermediate_size=12, num_hidden_layers=2, num_attention_heads=2
)
IMAGE = SIZES | dict(image_size=8, patch_size=4)
TEXT = SIZES | dict(vocab_size=20, max_position_embeddings=6, bos_token_id=None)
NO_END = dict(eos_token_id=None, pad_token_id=None)
SMALL = dict(embedding_size=4, layer_type="basic", hidden_sizes=[4, 8], depths=[1, 2])
DEEP = SMALL | dict(layer_type="bottleneck", hidden_sizes=[16, 32])
CASES = {
    "vit": ("ViTModel", IMAGE),
    "resnet_basic": ("ResNetModel", SMALL),
    "resnet": ("ResNetModel", DEEP),
    "clip": (
        "CLIPModel",
        dict(
            text_config=TEXT | dict(eos_token_id=18, pad_token_id=19),
            vision_config=IMAGE,
            projection_dim=6,
        ),
    ),
    "clip_legacy": (
        "CLIPModel",
        dict(
            text_config=TEXT | dict(eos_token_id=2, pad_token_id=1, hidden_act="gelu"),
            vision_config=IMAGE,
            projection_dim=6,
        ),
    ),
    "siglip": ("SiglipModel", dict(text_config=TEXT | NO_END, vision_config=IMAGE)),
}
RNG = np.random.default_rng(0)
IMAGES = {
    side: RNG.uniform(size=(3, side, side, 3)).astype(np.float32) for side in (8, 32)
}
# The end is 18, and the largest id of a row 19.
TOKENS = np.array([[3, 5, 18, 19, 19, 19], [4, 6, 7, 8, 18, 19], [9, 18, 19, 1, 1, 1]])


def draw(name: str, shape) -> np.ndarray:
    """The values of a tensor, by its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    x = rng.normal(0, 0.4, shape)
    if name.endswith("running_var"):
        x = 0.5 + np.abs(x)
    elif "norm" in name and name.endswith("weight"):
        x = 1 + x
    return np.asarray(x, np.float32)


def outputs(model, kind: str) -> list[np.ndarray]:
    """What a model of transformers returns for the images and tokens."""
    import torch

    side = 32 if kind == "ResNetModel" else 8
    pixels = torch.tensor(IMAGES[side].transpose(0, 3, 1, 2))
    with torch.no_grad():
        if kind == "ViTModel":
            return [model(pixels).last_hidden_state[:, 0].numpy()]
        if kind == "ResNetModel":
            return [model(pixels).pooler_output[:, :, 0, 0].numpy()]
        out = model(input_ids=torch.tensor(TOKENS), pixel_values=pixels)
    found = out.image_embeds, out.text_embeds, out.logits_per_image
    return [x.numpy() for x in found]


def main() -> None:
    """All cases into one file, or what is made of folders to stdout."""
    import transformers
    from safetensors.numpy import load_file, save_file

    if sys.argv[1:]:
        found = []
        for folder in sys.argv[1:]:
            about = json.loads((pathlib.Path(folder) / "config.json").read_text())
            kind = about["architectures"][0]
            model, loading = getattr(transformers, kind).from_pretrained(
                folder, output_loading_info=True
            )
            lacking = [k for k in loading["missing_keys"] if "pooler" not in k]
            assert not lacking and not loading["unexpected_keys"], loading
            found.append([x.tolist() for x in outputs(model.eval(), kind)])
        print(json.dumps(found))
        return
    out = {}
    for name, (kind, sizes) in CASES.items():
        model = getattr(transformers, kind)
        with tempfile.TemporaryDirectory() as folder:
            # Names in a file are not always those in a module.
            model(model.config_class(**sizes)).save_pretrained(folder)
            place = pathlib.Path(folder)
            file = place / "model.safetensors"
            kept = {k: x for k, x in load_file(file).items() if x.dtype == np.float32}
            shapes = {k: list(x.shape) for k, x in sorted(kept.items())}
            save_file({k: draw(k, tuple(s)) for k, s in shapes.items()}, file)
            out[f"{name}/config"] = (place / "config.json").read_text()
            out[f"{name}/shapes"] = json.dumps(shapes)
            model = model.from_pretrained(folder).eval()
        for i, x in enumerate(outputs(model, kind)):
            out[f"{name}/{i}"] = x
    file = pathlib.Path(__file__).with_name("vision.npz")
    np.savez_compressed(file, **out)
    print(file.stat().st_size)


if __name__ == "__main__":
    main()
