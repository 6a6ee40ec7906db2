"""Models with weights: folders in Hugging Face layout, ONNX and GGUF files.

    language = load("path/to/folder")      # config.json, *.safetensors, tokenizer.json
    language = load("path/to/model.gguf")  # Llama, any quantization that gguf reads
    ids = language.encode("The capital of France is")

    encoder = load_encoder("path/to/folder")    # BERT, MiniLM, RoBERTa, DeBERTa
    vectors = encoder.encode(encoder.params, ["A sentence.", "Another one."])
    save_encoder(encoder, "path/to/new", params=trained)    # sentence-transformers' too

    vision = load_vision("path/to/folder")  # ViT, ResNet, CLIP, SigLIP
    features = vision.model.apply(vision.variables, images, train=False)
    save_vision(vision.model, vision.variables, "path/to/new")

    save_arrays(tree, "path/to/folder", config={})         # any tree, as safetensors
    save_program(function, {"x": ("b, 8", "float32")}, "path/to/folder")   # StableHLO

`names` maps the tensors of language models to the parameters of `models.Decoder`,
`encoder_names` those of encoders to `models.Encoder`, and `vision_names` those of
models of images to `models.Vit`, `Resnet` and `TwoTowers`, and back.
"""

from contrastive_jax.models.pretrained.arrays import load_arrays, save_arrays
from contrastive_jax.models.pretrained.encoders import (
    Recipe,
    TextEncoder,
    Tokenized,
    load_encoder,
)
from contrastive_jax.models.pretrained.loading import Pretrained, load
from contrastive_jax.models.pretrained.programs import load_program, save_program
from contrastive_jax.models.pretrained.saving import save_encoder
from contrastive_jax.models.pretrained.vision import Vision, load_vision, save_vision

__all__ = [
    "Pretrained",
    "Recipe",
    "TextEncoder",
    "Tokenized",
    "Vision",
    "load",
    "load_arrays",
    "load_encoder",
    "load_program",
    "load_vision",
    "save_arrays",
    "save_encoder",
    "save_program",
    "save_vision",
]
