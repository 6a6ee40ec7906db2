"""Weights of Llama and GPT-2 files, by their names, as parameters of `models.Decoder`.

A file is a `read(name) -> array`. Matrices come as [in, out]; queries, keys and values
are one matrix, gate and up another.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Read = Callable[[str], np.ndarray]


def llama_params(read: Read, depth: int) -> dict[str, Any]:
    """Parameters of a Llama in Hugging Face names, the head not included."""
    params: dict[str, Any] = {
        "embed": {"embedding": read("model.embed_tokens.weight")},
        "norm": {"scale": read("model.norm.weight")},
    }

    def joined(prefix, *names):
        return {"kernel": np.concatenate([read(prefix + n).T for n in names], axis=1)}

    for i in range(depth):
        at = f"model.layers.{i}."
        projections = (f"self_attn.{x}_proj.weight" for x in "qkv")
        params[f"block_{i}"] = {
            "norm_1": {"scale": read(at + "input_layernorm.weight")},
            "norm_2": {"scale": read(at + "post_attention_layernorm.weight")},
            "attention": {
                "qkv": joined(at, *projections),
                "out": joined(at, "self_attn.o_proj.weight"),
            },
            "gate_up": joined(at, "mlp.gate_proj.weight", "mlp.up_proj.weight"),
            "down": joined(at, "mlp.down_proj.weight"),
        }
    return params


def gpt2_params(read: Read, depth: int) -> dict[str, Any]:
    """Parameters of a GPT-2 in Hugging Face names, the head not included.

    Its matrices are stored as [in, out].
    """

    def norm(name):
        return {"scale": read(f"{name}.weight"), "bias": read(f"{name}.bias")}

    def dense(name):
        return {"kernel": read(f"{name}.weight"), "bias": read(f"{name}.bias")}

    params: dict[str, Any] = {
        "embed": {"embedding": read("wte.weight")},
        "position": read("wpe.weight"),
        "norm": norm("ln_f"),
    }
    for i in range(depth):
        at = f"h.{i}."
        params[f"block_{i}"] = {
            "norm_1": norm(at + "ln_1"),
            "norm_2": norm(at + "ln_2"),
            "attention": {
                "qkv": dense(at + "attn.c_attn"),
                "out": dense(at + "attn.c_proj"),
            },
            "up": dense(at + "mlp.c_fc"),
            "down": dense(at + "mlp.c_proj"),
        }
    return params


# Hugging Face names of a Llama to those of a GGUF file.
GGUF_NAMES = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
GGUF_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def gguf_name(name: str) -> str:
    """The name in a GGUF file of a tensor of a Llama.

    Examples:
      >>> gguf_name("model.layers.3.mlp.up_proj.weight")
      'blk.3.ffn_up.weight'
    """
    if name in GGUF_NAMES:
        return GGUF_NAMES[name]
    _, _, block, part = name.split(".", 3)
    return f"blk.{block}.{GGUF_PARTS[part.removesuffix('.weight')]}.weight"


def halves(matrix: np.ndarray, heads: int) -> np.ndarray:
    """Rows of a query or key matrix [out, in], from neighbors as pairs to halves.

    GGUF files store the two coordinates that rotate together beside each other; here,
    as in Hugging Face layout, they are half a head apart.
    """
    out, width = matrix.shape
    pairs = matrix.reshape(heads, out // heads // 2, 2, width)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(out, width)
