"""Sentence encoders and cross-encoders from a folder, at work, and back to a folder.

    encoder = load_encoder("path/to/folder")
    vectors = encoder.encode(encoder.params, ["A sentence.", "Another."])   # [2, d]
    save_encoder(encoder, "path/to/new", params=trained)

A folder has Hugging Face's layout: config.json, *.safetensors (or model.onnx),
tokenizer.json; and, where sentence-transformers wrote it, modules.json with what comes
after the transformer. `embed` is the pure function in it, to be trained; `encode` takes
texts, sorts them by length and calls it with few shapes.
"""

import dataclasses
import functools
import json
import pathlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int, Key

from contrastive_jax import similarity
from contrastive_jax.models import pooling
from contrastive_jax.models.encoder import ACTIVATIONS, Encoder
from contrastive_jax.models.pretrained import encoder_names, onnx
from contrastive_jax.models.pretrained.loading import (
    Tensors,
    read_json,
    read_tokenizer,
)

# Tokens of a batch, padding included. On a CPU what a block computes has to stay in the
# cache of a core.
BATCH_TOKENS = {"cpu": 1024}
BATCH_TOKENS_ELSEWHERE = 32_768
DENSE: dict[str, Callable[[Array], Array]] = {
    "Tanh": jnp.tanh,
    "Identity": lambda x: x,
    "GELU": ACTIVATIONS["gelu"],
    "ReLU": jax.nn.relu,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is done with tokens, without the weights; a static argument of jit.

    Attributes:
      model: the transformer.
      pooling: names in `models.POOLERS`, whose vectors are put side by side.
      dense: activation of every linear layer after that, a key of DENSE.
      normalize: whether vectors get length 1.
    """

    model: Encoder
    pooling: tuple[str, ...] = ("mean",)
    dense: tuple[str, ...] = ()
    normalize: bool = True


class Tokenized(NamedTuple):
    """Texts, or pairs of texts, as tokens.

    Attributes:
      tokens: ids of each, special ones included.
      types: kind of segment of every token, 0 and, of the second of a pair, 1.
      cut: how many were longer than the model reads.
    """

    tokens: list[np.ndarray]
    types: list[np.ndarray]
    cut: int


@dataclasses.dataclass(frozen=True)
class TextEncoder:
    """A sentence encoder, or a cross-encoder, with its weights and tokenizer.

    Attributes:
      recipe: the transformer and what comes after it.
      params: "encoder" and, as far as there are any, "dense_0" and on, "pooler" (dense
        layer and tanh on the first token), "classifier" and "head" (`token_logits`).
      tokenizer: a `tokenizers.Tokenizer`.
      max_tokens: most tokens of a text, special ones included; longer ones are cut.
      prompt: put in front of every text.
    """

    recipe: Recipe
    params: Any
    tokenizer: Any
    max_tokens: int
    prompt: str = ""

    def embed(
        self,
        params: Any,
        tokens: Int[Array, "b t"],
        where: Bool[Array, "b t"],
        *,
        types: Int[Array, "b t"] | None = None,
        keys: Key[Array, "*keys"] | None = None,
    ) -> Float[Array, "b d"]:
        """Embeddings of padded tokens: pure, to be traced and differentiated.

        Args:
          params: as `self.params`.
          tokens: token ids.
          where: real tokens, at the left.
          types: kind of segment of every token; 0 when None.
          keys: of dropout, one per text; None for none.
        """
        return embed(self.recipe, params, tokens, where, types, keys)

    def tokenize(self, texts: Sequence[str] | Sequence[tuple[str, str]]) -> Tokenized:
        """Texts, or pairs of texts, as tokens of at most `max_tokens`.

        Raises:
          ValueError: texts without a character but spaces: how many, and the first.
        """
        return tokenize(self.tokenizer, texts, self.max_tokens, self.prompt)

    def encode(
        self,
        params: Any,
        texts: Sequence[str] | Tokenized,
        *,
        batch_tokens: int | None = None,
    ) -> Float[np.ndarray, "n d"]:
        """Embeddings of texts, in their order, float32.

        Batches hold texts of about the same length, and are padded to one of few
        shapes, each compiled once per process. Texts that are cut are counted in one
        UserWarning.

        Args:
          params: as `self.params`.
          texts: texts, or what `tokenize` made of them.
          batch_tokens: tokens of a batch, padding included; None for 1,024 on a CPU and
            32,768 elsewhere.

        Raises:
          ValueError: texts that are empty.
        """
        return self.run(embed_batch, params, texts, batch_tokens)

    def score(
        self,
        params: Any,
        pairs: Sequence[tuple[str, str]] | Tokenized,
        *,
        batch_tokens: int | None = None,
    ) -> Float[np.ndarray, "n c"]:
        """Logits of pairs of texts by the classifier of a cross-encoder, as `encode`.

        Raises:
          ValueError: no classifier, or a pair with an empty text.
        """
        if "classifier" not in params:
            raise ValueError("params: expected a classifier; this is no cross-encoder")
        return self.run(score_batch, params, pairs, batch_tokens)

    def run(self, compiled, params, texts, batch_tokens):
        """A compiled function of batches, put together in the order of the texts."""
        if isinstance(texts, str):
            raise TypeError("texts: expected a sequence of texts, got one text")
        if not isinstance(texts, Tokenized):
            texts = self.tokenize(texts)
            if texts.cut:
                warnings.warn(
                    f"{texts.cut} of {len(texts.tokens)} texts have more than "
                    f"{self.max_tokens} tokens; what is beyond was cut off",
                    stacklevel=3,
                )
        lengths = np.array([len(row) for row in texts.tokens], int)
        pairs = any(types.any() for types in texts.types)
        pending: list[tuple[np.ndarray, Any]] = []
        longest = self.recipe.model.max_length
        if batch_tokens is None:
            backend = jax.default_backend()
            batch_tokens = BATCH_TOKENS.get(backend, BATCH_TOKENS_ELSEWHERE)
        for rows, shape in batches(lengths, batch_tokens, longest):
            tokens = padded([texts.tokens[i] for i in rows], shape)
            types = padded([texts.types[i] for i in rows], shape) if pairs else None
            sizes = np.zeros(shape[0], np.int32)
            sizes[: len(rows)] = lengths[rows]
            # Dispatched, not waited for: the next batch is filled meanwhile.
            pending.append((rows, compiled(self.recipe, params, tokens, sizes, types)))
        if not pending:
            raise ValueError("texts: expected a text or more, got none")
        out = np.empty((len(lengths), pending[0][1].shape[1]), np.float32)
        for rows, values in pending:
            out[rows] = np.asarray(values)[: len(rows)]
        return out


def embed(recipe, params, tokens, where, types=None, keys=None):
    """See `TextEncoder.embed`."""
    variables = {"params": params["encoder"]}
    out = recipe.model.apply(variables, tokens, where=where, types=types, keys=keys)
    x = jnp.concatenate(
        [pooling.POOLERS[name](out.last, where) for name in recipe.pooling], axis=-1
    )
    for i, activation in enumerate(recipe.dense):
        x = DENSE[activation](linear(params[f"dense_{i}"], x))
    return similarity.l2_normalize(x) if recipe.normalize else x


def linear(layer: Any, x: Float[Array, "b d"]) -> Float[Array, "b f"]:
    """A linear layer, with a bias or without."""
    y = jnp.matmul(x, layer["kernel"], preferred_element_type=jnp.float32)
    return y + layer["bias"][None, :] if "bias" in layer else y


@functools.partial(jax.jit, static_argnums=0)
def embed_batch(recipe, params, tokens, sizes, types):
    """Embeddings of texts of given lengths."""
    where = jnp.arange(tokens.shape[1])[None, :] < sizes[:, None]
    return embed(recipe, params, tokens, where, types)


@functools.partial(jax.jit, static_argnums=0)
def score_batch(recipe, params, tokens, sizes, types):
    """Logits of pairs of given lengths: tanh of a dense layer, then the classifier."""
    where = jnp.arange(tokens.shape[1])[None, :] < sizes[:, None]
    variables = {"params": params["encoder"]}
    out = recipe.model.apply(variables, tokens, where=where, types=types)
    x = jnp.tanh(linear(params["pooler"], out.last[:, 0]))
    return linear(params["classifier"], x)


# Texts to batches


def tokenize(
    tokenizer: Any, texts: Sequence[Any], max_tokens: int, prompt: str = ""
) -> Tokenized:
    """See `TextEncoder.tokenize`."""
    texts = list(texts)
    empty = [
        i
        for i, text in enumerate(texts)
        if any(not t.strip() for t in ([text] if isinstance(text, str) else text))
    ]
    if empty:
        raise ValueError(
            f"texts: expected no empty text, got {len(empty)} of {len(texts)}, the "
            f"first at {empty[0]}"
        )
    if prompt:
        texts = [f"{prompt}{text}" for text in texts]
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    rows = tokenizer.encode_batch_fast(texts)
    return Tokenized(
        [np.asarray(row.ids, np.int32) for row in rows],
        [np.asarray(row.type_ids, np.int32) for row in rows],
        sum(bool(row.overflowing) for row in rows),
    )


def padded(rows: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """Rows of different lengths in a matrix, with 0 at the right and below."""
    out = np.zeros(shape, np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out


def batches(
    lengths: np.ndarray, batch_tokens: int, longest: int
) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Rows of every batch, the longest first, and the shape it is padded to.

    Lengths are rounded up, with 16 widths up to 256 tokens (`rounded`); as many rows as
    `batch_tokens` has room for, in powers of two.

    Examples:
      >>> found = batches(np.array([3, 9, 20]), 64, 512)
      >>> [(rows.tolist(), shape) for rows, shape in found]
      [([2, 1], (2, 24)), ([0], (1, 8))]
    """
    order = np.argsort(-lengths, kind="stable")
    start = 0
    while start < len(order):
        width = min(rounded(int(lengths[order[start]])), longest)
        most = 2 ** (max(batch_tokens // width, 1).bit_length() - 1)
        rows = order[start : start + most]
        yield rows, (min(most, 2 ** (len(rows) - 1).bit_length()), width)
        start += len(rows)


def rounded(length: int) -> int:
    """The next multiple of 8, above 64 of 16, above 128 of 32, and so on.

    Examples:
      >>> [rounded(n) for n in (1, 8, 9, 65, 100, 129)]
      [8, 8, 16, 80, 112, 160]
    """
    step = max(8, (1 << (length - 1).bit_length()) // 8)
    return -(-length // step) * step


# From a folder


def load_encoder(
    path: str | pathlib.Path,
    *,
    config: Mapping[str, Any] | None = None,
    dtype: DTypeLike = jnp.float32,
    param_dtype: DTypeLike = jnp.float32,
) -> TextEncoder:
    """A sentence encoder or cross-encoder from a folder in Hugging Face layout.

    Without modules.json, sentences are the mean of their tokens, with length 1.

    Args:
      path: a folder with config.json of a BERT (MiniLM too), RoBERTa or DeBERTa,
        *.safetensors or model.onnx, and tokenizer.json.
      config: in place of config.json, where there is none.
      dtype: type of computing; pooling and what is after it is float32.
      param_dtype: type of the weights: bfloat16 halves them, whatever computes.

    Raises:
      ValueError: in one line, naming the file: a kind of model or a setting that is not
        known (a DeBERTa's classifier among them), a damaged file, or all tensors that
        are missing, that have no place, and that have another shape.
    """
    path = pathlib.Path(path)
    if not path.is_dir():
        raise ValueError(f"path: expected a folder with config.json, got '{path}'")
    values = read_json(path / "config.json") if config is None else dict(config)
    kind, model = read_model(values, path / "config.json")
    source, params = read_weights(path, model, kind, values)
    if "classifier" in params and model.relative:
        raise ValueError(f"{source}: the classifier of a DeBERTa is not known")
    check_shapes(model, params["encoder"], source)
    recipe, extra, tokens, prompt = read_modules(path, model.clone(dtype=dtype))
    longest = model.max_length
    tokens = min(tokens or longest, longest)
    params = jax.tree.map(lambda x: jnp.asarray(x, param_dtype), params | extra)
    tokenizer = read_tokenizer(path / "tokenizer.json")
    return TextEncoder(recipe, params, tokenizer, tokens, prompt)


def read_model(values: Mapping[str, Any], file: pathlib.Path) -> tuple[str, Encoder]:
    """Kind and module of a config.json.

    Raises:
      ValueError: a kind or a setting that is not known, or one that is missing.
    """
    kinds = {
        "bert": bert_settings,
        "roberta": roberta_settings,
        "deberta": deberta_settings,
        "deberta-v2": deberta_settings,
    }
    kind = values.get("model_type", "")
    if kind not in kinds:
        raise ValueError(
            f"{file}: expected model_type {', '.join(kinds)}, got {kind!r}"
        )
    activation = values.get("hidden_act", "gelu")
    if activation not in ACTIVATIONS:
        raise ValueError(
            f"{file}: expected hidden_act {', '.join(ACTIVATIONS)}, got {activation!r}"
        )
    refused = {
        "position_embedding_type": ("absolute", None),
        "conv_kernel_size": (0, None),
        "embedding_size": (values.get("hidden_size"), None),
        "is_decoder": (False, None),
    }
    for name, known in refused.items():
        if values.get(name) not in known:
            raise ValueError(f"{file}: {name} {values[name]!r} is not known")
    try:
        model = Encoder(
            vocab_size=values["vocab_size"],
            width=values["hidden_size"],
            depth=values["num_hidden_layers"],
            heads=values["num_attention_heads"],
            mlp_width=values["intermediate_size"],
            activation=activation,
            dropout=values.get("hidden_dropout_prob", 0.1),
            attention_dropout=values.get("attention_probs_dropout_prob", 0.1),
            epsilon=values.get("layer_norm_eps", 1e-12),
            **kinds[kind](values),
        )
    except KeyError as e:
        raise ValueError(f"{file}: {e.args[0]!r} is missing") from e
    return kind, model


def bert_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is special to a BERT."""
    return dict(
        max_length=values["max_position_embeddings"],
        num_types=values.get("type_vocab_size", 2),
    )


def roberta_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is special to a RoBERTa: its positions begin after that of padding."""
    first = values.get("pad_token_id", 1) + 1
    return dict(
        max_length=values["max_position_embeddings"] - first,
        num_types=values.get("type_vocab_size", 1),
        first_position=first,
    )


def deberta_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is special to a DeBERTa of any version."""
    terms = values.get("pos_att_type") or []
    terms = terms.split("|") if isinstance(terms, str) else terms
    if not values.get("relative_attention"):
        terms = []
    span = values.get("max_relative_positions", -1)
    return dict(
        max_length=values["max_position_embeddings"],
        num_types=values.get("type_vocab_size", 0),
        positions=values.get("position_biased_input", True),
        content_to_position="c2p" in terms,
        position_to_content="p2c" in terms,
        span=max(span, 0),
        position_buckets=max(values.get("position_buckets", 0), 0),
        shared=values.get("share_att_key", False),
        distance_norm="layer_norm" in values.get("norm_rel_ebd", "none"),
    )


def read_weights(path, model, kind, values) -> tuple[pathlib.Path, dict[str, Any]]:
    """The file the weights are of, and the parameters."""
    file = path / "model.onnx"
    if any(path.glob("*.safetensors")) or not file.exists():
        with Tensors(path) as read:
            found = {name: read(name) for name in read.places}
        file = path
    else:
        found = onnx.tensors(file)
    if kind == "deberta":
        found = encoder_names.deberta_v2_tensors(found, model.heads)
        kind = "deberta-v2"
    return file, encoder_names.read_params(found, model, kind, file)


def check_shapes(model: Encoder, params: Any, path: pathlib.Path) -> None:
    """The parameters must have the shapes of the module's.

    Raises:
      ValueError: naming all that differ.
    """
    want = jax.eval_shape(
        lambda key: model.init(key, jnp.zeros((1, 1), jnp.int32)), jax.random.key(0)
    )["params"]
    flat = jax.tree_util.tree_leaves_with_path
    got = {jax.tree_util.keystr(k): x.shape for k, x in flat(params)}
    wrong = [
        f"{name} {got[name]} in place of {x.shape}"
        for k, x in flat(want)
        if got.get(name := jax.tree_util.keystr(k)) != x.shape
    ]
    if wrong:
        raise ValueError(
            f"{path}: other shapes than config.json has: {'; '.join(wrong)}"
        )


def read_modules(
    path: pathlib.Path, model: Encoder
) -> tuple[Recipe, dict[str, Any], int | None, str]:
    """What comes after the transformer, its weights, most tokens, and the prompt."""
    recipe, tokens = Recipe(model), None
    for name, key in (
        ("sentence_bert_config.json", "max_seq_length"),
        ("tokenizer_config.json", "model_max_length"),
    ):
        if tokens is None and (path / name).exists():
            tokens = read_json(path / name).get(key)
    prompt, file = "", path / "config_sentence_transformers.json"
    if file.exists():
        values = read_json(file)
        prompt = (values.get("prompts") or {}).get(values.get("default_prompt_name"))
    file = path / "modules.json"
    if not file.exists():
        return recipe, {}, tokens, prompt or ""
    params: dict[str, Any] = {}
    recipe = dataclasses.replace(recipe, normalize=False)
    for module in read_list(file):
        kind = str(module.get("type")).rpartition(".")[2]
        folder = path / str(module.get("path"))
        if kind == "Transformer":
            continue
        if recipe.normalize or (kind == "Pooling" and recipe.dense):
            raise ValueError(f"{file}: {kind} at an unknown place")
        if kind == "Normalize":
            recipe = dataclasses.replace(recipe, normalize=True)
        elif kind == "Pooling":
            recipe = dataclasses.replace(recipe, pooling=read_pooling(folder))
        elif kind == "Dense":
            activation, layer = read_dense(folder)
            params[f"dense_{len(recipe.dense)}"] = layer
            recipe = dataclasses.replace(recipe, dense=(*recipe.dense, activation))
        else:
            raise ValueError(
                f"{file}: expected Transformer, Pooling, Dense or Normalize, got {kind}"
            )
    return recipe, params, tokens, prompt or ""


def read_list(file: pathlib.Path) -> list[dict[str, Any]]:
    """A JSON list of objects."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ValueError(f"{file}: expected a JSON file ({e})") from e
    if not isinstance(value, list) or not all(isinstance(x, dict) for x in value):
        raise ValueError(f"{file}: expected a list of objects")
    return value


# In the order in which sentence-transformers puts vectors side by side.
POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "sqrt",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def read_pooling(folder: pathlib.Path) -> tuple[str, ...]:
    """Names of poolers by 1_Pooling/config.json, in old form or new."""
    values = read_json(folder / "config.json")
    modes = values.get("pooling_mode")
    if modes is None:
        modes = [name for key, name in POOLING_KEYS.items() if values.get(key)]
    modes = [modes] if isinstance(modes, str) else modes
    modes = tuple("sqrt" if m == "mean_sqrt_len_tokens" else m for m in modes)
    for mode in modes:
        if mode not in pooling.POOLERS:
            raise ValueError(
                f"{folder / 'config.json'}: expected pooling by "
                f"{', '.join(pooling.POOLERS)}, got {mode}"
            )
    return modes


def read_dense(folder: pathlib.Path) -> tuple[str, dict[str, np.ndarray]]:
    """Activation and weights of 2_Dense."""
    values = read_json(folder / "config.json")
    activation = str(values.get("activation_function", "Tanh")).rpartition(".")[2]
    if activation not in DENSE:
        raise ValueError(
            f"{folder / 'config.json'}: expected activation_function "
            f"{', '.join(DENSE)}, got {activation}"
        )
    with Tensors(folder) as read:
        layer = {"kernel": np.ascontiguousarray(read("linear.weight").T)}
        if values.get("bias", True):
            layer["bias"] = read("linear.bias")
    return activation, layer
