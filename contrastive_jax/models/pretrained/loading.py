"""Reads a language model from disk: its settings, weights and tokenizer.

Nothing in a file is run, and what a file says of itself is checked: sizes and offsets
by the libraries that read it, names and shapes against the model it claims to be.
"""

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from contrastive_jax.models.decoder import Decoder
from contrastive_jax.models.pretrained import names


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """A language model with its weights.

    Attributes:
      model: the module.
      variables: what `model.apply` takes first.
      tokenizer: a `tokenizers.Tokenizer`, or None if the folder has none.
      stop: ids of the tokens that end a text.
    """

    model: Decoder
    variables: dict[str, Any]
    tokenizer: Any
    stop: tuple[int, ...]

    def encode(self, text: str) -> np.ndarray:
        """Token ids of a text, [t] int32; nothing is put in front."""
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return np.asarray(ids, np.int32)

    def decode(self, ids: Iterable[Any]) -> str:
        """The text of token ids, without special tokens."""
        return self.tokenizer.decode([int(i) for i in ids])


def load(path: str | pathlib.Path, *, dtype: DTypeLike = jnp.float32) -> Pretrained:
    """A language model from a folder in Hugging Face layout or from a GGUF file.

    Args:
      path: a folder with config.json (of a Llama or a GPT-2), *.safetensors and, for
        text, tokenizer.json; or a .gguf file of a Llama.
      dtype: type of the weights and of computing.

    Raises:
      ValueError: a path that is neither, a kind of model or quantization that is not
        known, a damaged file, a tensor that is missing or of another shape: in one
        line, naming the file.
    """
    path = pathlib.Path(path)
    if path.is_dir():
        model, params, tokenizer, stop = read_folder(path)
    elif path.suffix == ".gguf" and path.is_file():
        model, params, tokenizer, stop = read_gguf(path)
    else:
        raise ValueError(
            f"path: expected a folder with config.json or a .gguf file, got '{path}'"
        )
    model = model.clone(dtype=dtype)
    if "head" not in params:
        # The table once more, by columns: see `Decoder.tied`.
        params["head"] = {"kernel": params["embed"]["embedding"].T}
    check_params(model, params, path)
    variables = {"params": jax.tree.map(lambda x: jnp.asarray(x, dtype), params)}
    return Pretrained(model, variables, tokenizer, stop)


def check_params(model: Decoder, params: Any, path: pathlib.Path) -> None:
    """The parameters must be those of the model, by name and shape.

    Raises:
      ValueError: naming the file and the first parameter that differs.
    """
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    want = jax.eval_shape(
        lambda key, x: model.init(key, x, method=touch), jax.random.key(0), tokens
    )["params"]
    flat = jax.tree_util.tree_leaves_with_path
    shapes = {jax.tree_util.keystr(k): x.shape for k, x in flat(want)}
    got = {jax.tree_util.keystr(k): x.shape for k, x in flat(params)}
    for name in sorted(shapes.keys() | got.keys()):
        if shapes.get(name) != got.get(name):
            raise ValueError(
                f"{path}: expected parameter {name} of shape {shapes.get(name)}, got "
                f"{got.get(name)}"
            )


def touch(model: Decoder, tokens: Any) -> Any:
    """Every parameter of a model, the head's too."""
    return model.logits(model(tokens).last)


def read_folder(path: pathlib.Path) -> tuple[Decoder, dict, Any, tuple[int, ...]]:
    """Model, parameters, tokenizer and stop ids of a folder in Hugging Face layout."""
    config = read_json(path / "config.json")
    kinds = {"llama": (llama_model, "model."), "gpt2": (gpt2_model, "transformer.")}
    kind = config.get("model_type")
    if kind not in kinds:
        raise ValueError(
            f"{path / 'config.json'}: expected model_type llama or gpt2, got {kind!r}"
        )
    make, prefix = kinds[kind]
    try:
        model = make(config)
    except KeyError as e:
        raise ValueError(f"{path / 'config.json'}: {e.args[0]!r} is missing") from e
    with Tensors(path) as read:
        if kind == "llama":
            params = names.llama_params(read, model.depth)
        else:
            # The files of a bare model have no prefix.
            whole = prefix if read.has("transformer.wte.weight") else ""
            params = names.gpt2_params(lambda n: read(whole + n), model.depth)
        if read.has("lm_head.weight") and not config.get("tie_word_embeddings"):
            params["head"] = {"kernel": read("lm_head.weight").T}
    stop = config.get("eos_token_id")
    stop = stop if isinstance(stop, list) else [] if stop is None else [stop]
    tokenizer = path / "tokenizer.json"
    return (
        model,
        params,
        read_tokenizer(tokenizer) if tokenizer.exists() else None,
        tuple(stop),
    )


def llama_model(config: dict[str, Any]) -> Decoder:
    """The module of a Llama, by its config.json."""
    if config.get("hidden_act", "silu") != "silu" or config.get("rope_scaling"):
        raise ValueError(
            "config.json: expected hidden_act silu and no rope_scaling, got "
            f"{config.get('hidden_act')!r} and {config.get('rope_scaling')!r}"
        )
    rope = config.get("rope_parameters") or {}
    return Decoder(
        vocab_size=config["vocab_size"],
        width=config["hidden_size"],
        depth=config["num_hidden_layers"],
        heads=config["num_attention_heads"],
        kv_heads=config.get("num_key_value_heads"),
        mlp_width=config["intermediate_size"],
        max_length=config["max_position_embeddings"],
        rotary_base=config.get("rope_theta", rope.get("rope_theta", 10_000.0)),
        use_bias=config.get("attention_bias", False),
        tied=False,
        epsilon=config["rms_norm_eps"],
    )


def gpt2_model(config: dict[str, Any]) -> Decoder:
    """The module of a GPT-2, by its config.json."""
    return Decoder(
        vocab_size=config["vocab_size"],
        width=config["n_embd"],
        depth=config["n_layer"],
        heads=config["n_head"],
        mlp_width=config.get("n_inner") or 4 * config["n_embd"],
        max_length=config["n_positions"],
        norm="layer",
        positions="learned",
        gated=False,
        use_bias=True,
        tied=False,
        epsilon=config["layer_norm_epsilon"],
    )


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """A JSON object.

    Raises:
      ValueError: naming a file that is not there or holds something else.
    """
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ValueError(f"{file}: expected a JSON file ({e})") from e
    if not isinstance(value, dict):
        raise ValueError(f"{file}: expected an object, got {type(value).__name__}")
    return value


def read_tokenizer(file: pathlib.Path) -> Any:
    """A tokenizer.json."""
    import tokenizers

    try:
        return tokenizers.Tokenizer.from_file(str(file))
    except Exception as e:  # the library raises a plain Exception
        raise ValueError(f"{file}: expected a tokenizer ({e})") from e


class Tensors:
    """The tensors of the *.safetensors files of a folder, read where they are used.

    The library maps the files into memory and refuses headers that lie.

    Args:
      folder: where the files are.

    Raises:
      ValueError: no such file, or a damaged one, naming it.
    """

    def __init__(self, folder: pathlib.Path):
        import safetensors

        self.folder, self.places, self.files = folder, {}, []
        for file in sorted(folder.glob("*.safetensors")):
            try:
                opened = safetensors.safe_open(str(file), framework="flax")
            except (OSError, safetensors.SafetensorError) as e:
                raise ValueError(f"{file}: damaged ({e})") from e
            self.files.append(opened)
            self.places.update(dict.fromkeys(opened.keys(), opened))
        if not self.files:
            raise ValueError(f"{folder}: expected a *.safetensors file, got none")

    def __enter__(self) -> "Tensors":
        return self

    def __exit__(self, *_: Any) -> None:
        self.places, self.files = {}, []

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return name in self.places

    def __call__(self, name: str) -> np.ndarray:
        """One tensor by its name."""
        if name not in self.places:
            raise ValueError(f"{self.folder}: tensor {name!r} is missing")
        return np.asarray(self.places[name].get_tensor(name).astype(jnp.float32))


def read_gguf(path: pathlib.Path) -> tuple[Decoder, dict, Any, tuple[int, ...]]:
    """Model, parameters, tokenizer and stop ids of a GGUF file of a Llama."""
    import gguf

    try:
        file = gguf.GGUFReader(path)
    except Exception as e:  # anything, where sizes or offsets lie
        raise ValueError(f"{path}: damaged GGUF file ({e})") from e
    fields = {name: field.contents() for name, field in file.fields.items()}
    kind = fields.get("general.architecture")
    if kind != "llama":
        raise ValueError(f"{path}: expected architecture llama, got {kind!r}")
    tensors = {x.name: x for x in file.tensors}

    def stored(name):
        if name not in tensors:
            raise ValueError(f"{path}: tensor {name!r} is missing")
        tensor = tensors[name]
        try:
            return gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as e:
            raise ValueError(
                f"{path}: {name} has the unknown quantization {tensor.tensor_type.name}"
            ) from e

    try:
        model = gguf_model(fields)
        tokenizer = gguf_tokenizer(fields)
    except KeyError as e:
        raise ValueError(f"{path}: field {e.args[0]!r} is missing") from e
    except Exception as e:  # of the tokenizer
        raise ValueError(f"{path}: {e}") from e

    def read(name):
        matrix = stored(names.gguf_name(name))
        turned = {"q_proj": model.heads, "k_proj": model.kv_heads}
        for part, heads in turned.items():
            if part in name:
                matrix = names.halves(matrix, heads)
        return matrix

    params = names.llama_params(read, model.depth)
    if "output.weight" in tensors:
        params["head"] = {"kernel": read("lm_head.weight").T}
    stop = (fields["tokenizer.ggml.eos_token_id"],)
    return model, params, tokenizer, stop


def gguf_model(fields: dict[str, Any]) -> Decoder:
    """The module of a Llama, by the fields of a GGUF file."""
    return Decoder(
        vocab_size=len(fields["tokenizer.ggml.tokens"]),
        width=fields["llama.embedding_length"],
        depth=fields["llama.block_count"],
        heads=fields["llama.attention.head_count"],
        kv_heads=fields["llama.attention.head_count_kv"],
        mlp_width=fields["llama.feed_forward_length"],
        max_length=fields["llama.context_length"],
        rotary_base=fields["llama.rope.freq_base"],
        tied=False,
        epsilon=fields["llama.attention.layer_norm_rms_epsilon"],
    )


def gguf_tokenizer(fields: dict[str, Any]) -> Any:
    """The byte-level BPE of a GGUF file, digits one by one.

    Raises:
      ValueError: another kind of tokenizer.
    """
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    kind, split = fields["tokenizer.ggml.model"], fields["tokenizer.ggml.pre"]
    if (kind, split) != ("gpt2", "smollm"):
        raise ValueError(f"tokenizer: expected gpt2 with smollm, got {kind}, {split}")
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(m.split(" ", 1)) for m in fields["tokenizer.ggml.merges"]]
    bpe = models.BPE({token: i for i, token in enumerate(tokens)}, merges)
    tokenizer = tokenizers.Tokenizer(bpe)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = 3
    types = fields["tokenizer.ggml.token_type"]
    special = [t for t, x in zip(tokens, types, strict=True) if x == control]
    tokenizer.add_special_tokens(special)
    return tokenizer
