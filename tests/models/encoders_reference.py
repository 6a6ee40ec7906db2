"""Writes encoders.npz: tiny random encoders by transformers, and what they return.

    ENVIRONMENT/bin/python tests/models/encoders_reference.py

Made with transformers 4.46.3 and torch on a CPU. For each name the file holds its
config.json, the shapes of its tensors (their values: `draw`), and the last hidden
states (for "pairs" and "masked" the logits) of the tokens; "buckets" are the log
buckets of DeBERTa's third version.
"""

import json
import pathlib
import zlib

import numpy as np

SIZES = dict(
    vocab_size=19,
    hidden_size=8,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=12,
    max_position_embeddings=16,
)
DEBERTA = SIZES | dict(relative_attention=True, type_vocab_size=0)
V3 = dict(
    position_biased_input=False,
    share_att_key=True,
    norm_rel_ebd="layer_norm",
    pos_att_type=["p2c", "c2p"],
    position_buckets=4,
)
CASES = {
    "bert": ("BertModel", SIZES),
    "roberta": (
        "RobertaModel",
        SIZES | dict(type_vocab_size=1, pad_token_id=1, layer_norm_eps=1e-5),
    ),
    "deberta": (
        "DebertaModel",
        DEBERTA | dict(pos_att_type=["c2p", "p2c"], max_relative_positions=3),
    ),
    "deberta_v2": (
        "DebertaV2Model",
        DEBERTA | dict(pos_att_type=["c2p"], max_relative_positions=-1),
    ),
    "deberta_v3": ("DebertaV2Model", DEBERTA | V3),
    "pairs": ("BertForSequenceClassification", SIZES | dict(num_labels=1)),
    "masked": ("BertForMaskedLM", SIZES),
}


def draw(name: str, shape) -> np.ndarray:
    """The values of a tensor, by its name."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    scale = name.endswith(("LayerNorm.weight", "layer_norm.weight"))
    return (rng.normal(0, 0.4, shape) + scale).astype(np.float32)


def main() -> None:
    """All cases into one file."""
    import torch
    import transformers
    from transformers.models.deberta_v2 import modeling_deberta_v2 as v2

    out = {}
    rng = np.random.default_rng(0)
    tokens = torch.tensor(rng.integers(2, 19, (3, 10)))
    where = torch.arange(10)[None, :] < torch.tensor([10, 7, 2])[:, None]
    types = torch.tensor(rng.integers(0, 2, (3, 10)))
    for name, (kind, sizes) in CASES.items():
        model = getattr(transformers, kind)
        model = model(model.config_class(**sizes)).eval()
        state = model.state_dict()
        for key, x in state.items():
            if "predictions.decoder" not in key and "position_ids" not in key:
                x.copy_(torch.tensor(draw(key, x.shape)))
        inputs = dict(input_ids=tokens, attention_mask=where.long())
        if name in ("bert", "pairs", "masked"):
            inputs["token_type_ids"] = types
        if name == "roberta":  # positions follow the padding token
            inputs["input_ids"] = torch.where(where, tokens, 1)
        with torch.inference_mode():
            result = model(**inputs)
        config = model.config.to_dict()
        kept = {k: config[k] for k in (*sizes, "model_type") if k in config}
        for k in ("layer_norm_eps", "pad_token_id", "hidden_act"):
            kept[k] = config[k]
        out[f"{name}/config"] = json.dumps(kept)
        shapes = {k: list(x.shape) for k, x in state.items() if "decoder" not in k}
        out[f"{name}/shapes"] = json.dumps(shapes)
        last = result["logits"] if "logits" in result else result["last_hidden_state"]
        out[f"{name}/out"] = last.numpy()
    out |= dict(tokens=tokens.numpy(), where=where.numpy(), types=types.numpy())
    distance = torch.arange(24)[:, None] - torch.arange(24)[None, :]
    out["buckets"] = v2.make_log_bucket_position(distance, 8, 24).numpy()
    file = pathlib.Path(__file__).with_name("encoders.npz")
    np.savez_compressed(file, **out)
    print(file.stat().st_size)


if __name__ == "__main__":
    main()
