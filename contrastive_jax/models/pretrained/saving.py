"""Sentence encoders to a folder that sentence-transformers and transformers load.

    save_encoder(encoder, "path/to/folder", params=trained, record=workdir)

The record of a run (result.json) becomes the model card.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from contrastive_jax.models.encoder import Encoder
from contrastive_jax.models.pooling import POOLERS
from contrastive_jax.models.pretrained import encoder_names, folders
from contrastive_jax.models.pretrained.encoders import POOLING_KEYS, TextEncoder

SPECIAL = {
    "unk_token": ("[UNK]", "<unk>"),
    "sep_token": ("[SEP]", "</s>"),
    "pad_token": ("[PAD]", "<pad>"),
    "cls_token": ("[CLS]", "<s>"),
    "mask_token": ("[MASK]", "<mask>"),
}
CLASSES = {"bert": "Bert", "roberta": "Roberta", "deberta-v2": "DebertaV2"}
ACTIVATION = {
    "Tanh": "torch.nn.modules.activation.Tanh",
    "GELU": "torch.nn.modules.activation.GELU",
    "ReLU": "torch.nn.modules.activation.ReLU",
    "Identity": "torch.nn.modules.linear.Identity",
}


def save_encoder(
    encoder: TextEncoder,
    folder: str | pathlib.Path,
    *,
    params: Any = None,
    record: str | pathlib.Path | Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes an encoder: weights, settings, tokenizer, modules and a model card.

    The folder appears whole or not at all. A tokenizer that has been given a padding or
    a length loses them.

    Args:
      encoder: the encoder.
      folder: where to; it must not be there, or be empty.
      params: weights in place of the encoder's, of the same structure.
      record: of the run that made them: result.json, the folder it lies in, or its
        content. None for a card without.

    Raises:
      ValueError: a folder with something in it; params with other names or shapes; a
        setting that the layout cannot hold.
    """
    folder = folders.check_new(folder)
    params = encoder.params if params is None else params
    check_alike(params, encoder.params)
    recipe, model = encoder.recipe, encoder.recipe.model
    kind = kind_of(model)
    files: dict[str, Any] = {
        "config.json": config_of(model, kind, params),
        "tokenizer_config.json": tokenizer_config(encoder),
    }
    tensors = {"": encoder_names.write_tensors(params, model, kind)}
    width = model.width * len(recipe.pooling)
    if "classifier" not in params:  # else a cross-encoder, which is one module
        width = add_modules(encoder, params, width, files, tensors)
    card = model_card(folder.name, encoder, params, width, folders.read_record(record))

    def add_tokenizer(place):
        encoder.tokenizer.no_padding()
        encoder.tokenizer.no_truncation()
        encoder.tokenizer.save(str(place / "tokenizer.json"))

    folders.write_folder(folder, files, tensors, card, add_tokenizer)
    return folder


def add_modules(encoder, params, width, files, tensors) -> int:
    """Adds what sentence-transformers reads; returns the width of an embedding."""
    recipe = encoder.recipe
    files |= {
        "sentence_bert_config.json": {
            "max_seq_length": encoder.max_tokens,
            "do_lower_case": False,
        },
        "config_sentence_transformers.json": {
            "__version__": {},
            "prompts": {"default": encoder.prompt} if encoder.prompt else {},
            "default_prompt_name": "default" if encoder.prompt else None,
            "similarity_fn_name": "cosine" if recipe.normalize else None,
        },
    }
    modules = [("Transformer", ""), ("Pooling", "1_Pooling")]
    files["1_Pooling/config.json"] = {
        "word_embedding_dimension": recipe.model.width,
        **pooling_config(recipe.pooling),
    }
    for i, activation in enumerate(recipe.dense):
        place, layer = f"{len(modules)}_Dense", params[f"dense_{i}"]
        modules.append(("Dense", place))
        kernel = np.asarray(layer["kernel"])
        tensors[place] = {"linear.weight": np.ascontiguousarray(kernel.T)}
        if "bias" in layer:
            tensors[place]["linear.bias"] = np.asarray(layer["bias"])
        files[f"{place}/config.json"] = {
            "in_features": kernel.shape[0],
            "out_features": kernel.shape[1],
            "bias": "bias" in layer,
            "activation_function": ACTIVATION[activation],
        }
        width = kernel.shape[1]
    if recipe.normalize:
        modules.append(("Normalize", f"{len(modules)}_Normalize"))
        files[f"{modules[-1][1]}/config.json"] = {}
    files["modules.json"] = [
        dict(
            idx=i, name=str(i), path=place, type=f"sentence_transformers.models.{name}"
        )
        for i, (name, place) in enumerate(modules)
    ]
    return width


def pooling_config(names: tuple[str, ...]) -> dict[str, Any]:
    """1_Pooling/config.json: which poolers, in the form that all versions read.

    That form has one order of several poolers; another one needs version 6.
    """
    keys = {key: name for key, name in POOLING_KEYS.items() if name in POOLERS}
    if names == tuple(name for name in keys.values() if name in names):
        return {key: name in names for key, name in keys.items()}
    modes = ["mean_sqrt_len_tokens" if name == "sqrt" else name for name in names]
    return {"pooling_mode": modes}


def check_alike(params: Any, like: Any) -> None:
    """Raises ValueError, naming all parameters that differ in name or shape."""
    flat = jax.tree_util.tree_leaves_with_path
    got = {jax.tree_util.keystr(k): x.shape for k, x in flat(params)}
    want = {jax.tree_util.keystr(k): x.shape for k, x in flat(like)}
    names = got.keys() | want.keys()
    wrong = [n for n in sorted(names) if got.get(n) != want.get(n)]
    if wrong:
        raise ValueError(
            "params: expected those of the encoder; other are "
            + ", ".join(f"{n} {got.get(n)} ({want.get(n)})" for n in wrong)
        )


def kind_of(model: Encoder) -> str:
    """The model_type that a module is.

    Raises:
      ValueError: a module that none of them is.
    """
    if model.relative:
        if model.first_position:
            raise ValueError("first_position: expected 0 with attention to distances")
        return "deberta-v2"
    if not model.positions:
        raise ValueError("positions: expected them without attention to distances")
    return "roberta" if model.first_position else "bert"


def config_of(model: Encoder, kind: str, params: Any) -> dict[str, Any]:
    """config.json of a module."""
    role = "Model"
    if "head" in params:
        role = "ForMaskedLM"
    if "classifier" in params:
        role = "ForSequenceClassification"
    config: dict[str, Any] = dict(
        model_type=kind,
        architectures=[f"{CLASSES[kind]}{role}"],
        vocab_size=model.vocab_size,
        hidden_size=model.width,
        num_hidden_layers=model.depth,
        num_attention_heads=model.heads,
        intermediate_size=model.mlp_width,
        hidden_act=model.activation,
        hidden_dropout_prob=model.dropout,
        attention_probs_dropout_prob=model.attention_dropout,
        layer_norm_eps=model.epsilon,
        max_position_embeddings=model.max_length + model.first_position,
        type_vocab_size=model.num_types,
        pad_token_id=max(model.first_position - 1, 0),
        initializer_range=0.02,
        torch_dtype="float32",
    )
    if "classifier" in params:
        count = params["classifier"]["bias"].shape[0]
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(count)}
        config["label2id"] = {f"LABEL_{i}": i for i in range(count)}
        # Logits, where sentence-transformers would take their sigmoid.
        config["sentence_transformers"] = {"activation_fn": ACTIVATION["Identity"]}
    if kind != "deberta-v2":
        return config | dict(position_embedding_type="absolute")
    terms = ["c2p"] * model.content_to_position + ["p2c"] * model.position_to_content
    return config | dict(
        relative_attention=True,
        pos_att_type=terms,
        max_relative_positions=model.span or -1,
        position_buckets=model.position_buckets or -1,
        share_att_key=model.shared,
        norm_rel_ebd="layer_norm" if model.distance_norm else "none",
        position_biased_input=model.positions,
        pooler_hidden_act="gelu",
        pooler_hidden_size=model.width,
        pooler_dropout=0,
    )


def tokenizer_config(encoder: TextEncoder) -> dict[str, Any]:
    """tokenizer_config.json: which tokens are the special ones."""
    vocabulary = encoder.tokenizer.get_vocab()
    special = {
        role: next((name for name in names if name in vocabulary), None)
        for role, names in SPECIAL.items()
    }
    inputs = ["input_ids", "attention_mask"]
    if encoder.recipe.model.num_types > 1:
        inputs.insert(1, "token_type_ids")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": encoder.max_tokens,
        "model_input_names": inputs,
        **{role: name for role, name in special.items() if name},
    }


def model_card(
    name: str,
    encoder: TextEncoder,
    params: Any,
    width: int,
    record: Mapping[str, Any],
) -> str:
    """The README.md of a model: how to use it, how it was made, what it reached."""
    recipe, pairs = encoder.recipe, "classifier" in params
    blocks = f"{recipe.model.depth} blocks of width {recipe.model.width}"
    limit = f"of at most {encoder.max_tokens} tokens"
    if pairs:
        task, loader, method = "text-ranking", "CrossEncoder", "predict"
        about = f"Scores pairs of texts {limit} together: {blocks}."
        call, texts = "score", '[("A question?", "An answer.")]'
    else:
        task, loader, method = "sentence-similarity", "SentenceTransformer", "encode"
        parts = [*recipe.pooling, *(f"dense ({a})" for a in recipe.dense)]
        parts += ["length 1"] * recipe.normalize
        about = f"Embeds sentences {limit} in {width} dimensions: {blocks}, then "
        about += f"{', '.join(parts)}."
        call, texts = "encode", '["A sentence."]'
    header = {
        "library_name": "sentence-transformers",
        "pipeline_tag": task,
        "tags": "[sentence-transformers]",
    }
    theirs = (
        f"from sentence_transformers import {loader}\n\n"
        f'out = {loader}("FOLDER").{method}({texts})'
    )
    ours = (
        "from contrastive_jax.models import pretrained\n\n"
        'encoder = pretrained.load_encoder("FOLDER")\n'
        f"out = encoder.{call}(encoder.params, {texts})"
    )
    return folders.model_card(name, about, [theirs, ours], record, header)
