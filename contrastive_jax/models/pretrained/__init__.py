"""Models with weights: folders in Hugging Face layout, ONNX and GGUF files.

    language = load("path/to/folder")      # config.json, *.safetensors, tokenizer.json
    language = load("path/to/model.gguf")  # Llama, any quantization that gguf reads
    ids = language.encode("The capital of France is")

    encoder = load_encoder("path/to/folder")    # BERT, MiniLM, RoBERTa, DeBERTa
    vectors = encoder.encode(encoder.params, ["A sentence.", "Another one."])
    save_encoder(encoder, "path/to/new", params=trained)    # sentence-transformers' too

`names` maps the tensors of language models to the parameters of `models.Decoder`,
`encoder_names` those of encoders to `models.Encoder` and back.
"""

from contrastive_jax.models.pretrained.encoders import (
    Recipe,
    TextEncoder,
    Tokenized,
    load_encoder,
)
from contrastive_jax.models.pretrained.loading import Pretrained, load
from contrastive_jax.models.pretrained.saving import save_encoder

__all__ = [
    "Pretrained",
    "Recipe",
    "TextEncoder",
    "Tokenized",
    "load",
    "load_encoder",
    "save_encoder",
]
