"""Language models with weights: a folder in Hugging Face layout, or a GGUF file.

    language = load("path/to/folder")      # config.json, *.safetensors, tokenizer.json
    language = load("path/to/model.gguf")  # Llama, any quantization that gguf reads
    ids = language.encode("The capital of France is")

`names` maps the tensors of both layouts to the parameters of `models.Decoder`.
"""

from contrastive_jax.models.pretrained.loading import Pretrained, load

__all__ = ["Pretrained", "load"]
