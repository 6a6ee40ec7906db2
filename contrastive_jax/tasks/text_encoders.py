"""What experiments that train a text encoder share: its start, its rows, its views.

    start = text_encoders.start(config, workdir)  # a TextEncoder, to be trained on
    rows = text_encoders.rows(start.tokenizer, texts, 32)  # tokens, where [n, t]
    z = text_encoders.views(recipe, params, tokens, where, keys)  # [2, n, d]
    encode = text_encoders.encoder(recipe, params, tokenizer, 32)  # texts to [n, d]

The section `model` names a packaged encoder or a folder (`packaged`), or has the sizes
of one from scratch (`small`). That one is first trained as a masked language model on
real sentences, by the section `start`: contrastive learning of random weights shows
little of a method. The tokenizer is trained on the same sentences.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key

from contrastive_jax import losses, models, parallel, randomness, training
from contrastive_jax.data import array_batches, descriptions, sentences
from contrastive_jax.data.augment.text import mask_tokens
from contrastive_jax.models import pretrained
from contrastive_jax.models.pretrained import encoders
from contrastive_jax.training.config import Section

PACKAGED = ("minilm", "reranker")
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MASK = SPECIAL.index("[MASK]")
TEXTS: dict[str, Callable[[], Sequence[str]]] = {
    "brown": sentences.brown_sentences,
    "corpus": sentences.corpus_sentences,
    "definitions": lambda: [d.definition for d in sentences.definitions()],
    "packages": descriptions.texts,
    "synthetic": sentences.synthetic,
    "verses": lambda: [text for side in sentences.verses() for text in side],
}
POSITIVE = (
    "depth",
    "heads",
    "mlp_width",
    "max_length",
    "vocab_size",
    "start.count",
    "start.length",
)
RANGES = {
    "dropout": "[0, 1)",
    "model.layers": "[0, inf)",
    "start.num_steps": "[0, inf)",
    "start.rate": "(0, 1]",
}
CHOICES = {"start.texts": tuple(TEXTS), "model.pooling": tuple(models.POOLERS)}
FREE = ("model.path",)


# Presets: sections of a config


def packaged(**changes: Any) -> ml_collections.ConfigDict:
    """The section `model` of a pretrained encoder.

    `path` is "minilm" or "reranker" (packaged), or a folder in Hugging Face layout;
    `layers` is how many of its blocks are kept, from the first on, 0 for all.
    """
    section = dict(path="minilm", layers=0, dtype="float32", param_dtype="float32")
    return ml_collections.ConfigDict(section | changes)


def small(**changes: Any) -> ml_collections.ConfigDict:
    """The section `model` of a small encoder that is trained from scratch."""
    sizes = dict(vocab_size=8000, width=128, depth=2, heads=4, mlp_width=512)
    section = dict(path="", **sizes, max_length=64, dropout=0.1, pooling="mean")
    return ml_collections.ConfigDict(section | dict(dtype="float32") | changes)


def starting(**changes: Any) -> ml_collections.ConfigDict:
    """The section `start`: training of a masked language model before all methods."""
    section = dict(
        texts="brown",  # a key of TEXTS; the tokenizer is trained on them too
        count=60_000,  # the first of them
        length=32,  # tokens of a row; longer sentences are cut
        rate=0.15,  # share of the tokens that is masked
        num_steps=600,
        learning_rate=1e-3,
        vectors=False,  # whether tokens begin as `token_vectors`
    )
    return ml_collections.ConfigDict(section | changes)


# Encoders from disk


def load(section: Section) -> pretrained.TextEncoder:
    """The encoder that a section `model` names, read once per process.

    Raises:
      DataMissing: a packaged one could not be fetched.
      ValueError: a path that holds none, or more layers than it has.
    """
    types = section["dtype"], section.get("param_dtype", "float32")
    whole = load_path(section["path"], *types)
    return first_layers(whole, section.get("layers", 0))


@functools.cache
def load_path(path: str, dtype: str, param_dtype: str) -> pretrained.TextEncoder:
    """What `load` returns, with all layers."""
    own = pathlib.Path(path).expanduser()
    folder = sentences.model(path) if path in PACKAGED else own
    with jax.ensure_compile_time_eval():  # arrays, also where a program is traced
        return pretrained.load_encoder(folder, dtype=dtype, param_dtype=param_dtype)


def first_layers(
    encoder: pretrained.TextEncoder, layers: int
) -> pretrained.TextEncoder:
    """An encoder with its first so many blocks and nothing after pooling; 0 for all.

    Raises:
      ValueError: more layers than it has.
    """
    if not layers:
        return encoder
    recipe, params = encoder.recipe, encoder.params["encoder"]
    depth = recipe.model.depth
    if not 0 < layers <= depth:
        raise ValueError(f"layers: expected 0 to {depth} (the encoder's), got {layers}")
    cut = {f"block_{i}" for i in range(layers, depth)}
    return dataclasses.replace(
        encoder,
        recipe=dataclasses.replace(
            recipe, model=recipe.model.clone(depth=layers), dense=()
        ),
        params={"encoder": {k: v for k, v in params.items() if k not in cut}},
    )


# Encoders from scratch


def make_recipe(section: Section) -> pretrained.Recipe:
    """What a section `model` does with tokens: that on disk, or of its sizes."""
    if section["path"]:
        return load(section).recipe
    sizes = {k: v for k, v in section.items() if k not in ("path", "pooling", "dtype")}
    # One rate for all; a type of segment is for pairs only.
    sizes |= dict(attention_dropout=section["dropout"])
    model = models.Encoder(**sizes, dtype=jnp.dtype(section["dtype"]))
    return pretrained.Recipe(model, (section["pooling"],), normalize=False)


def init_params(recipe: pretrained.Recipe, rng: Key[Array, ""]) -> Any:
    """Random parameters of a recipe: "encoder", and "head" of a masked LM."""
    model, (first, second) = recipe.model, jax.random.split(rng)
    tokens = jnp.zeros((1, 2), jnp.int32)
    return {
        "encoder": jax.jit(model.init)(first, tokens)["params"],
        "head": models.token_head_init(second, model.vocab_size, model.width),
    }


def make_tokenizer(config: Any) -> Any:
    """The tokenizer of a config: that on disk, or one trained on `start.texts`."""
    if config.model.path:
        return load(config.model).tokenizer
    return trained_tokenizer(
        config.start.texts, config.start.count, config.model.vocab_size
    )


@functools.cache
def trained_tokenizer(texts: str, count: int, vocab_size: int) -> Any:
    """What `make_tokenizer` trains, once per process."""
    return train_tokenizer(TEXTS[texts]()[:count], vocab_size)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A lower-casing WordPiece tokenizer as BERT has it, the same in every process.

    The pieces are those of byte-pair encoding; the trainer for WordPiece itself numbers
    them differently each time it is called.

    Args:
      texts: what it is trained on.
      vocab_size: most tokens, the five special ones included.

    References:
      Devlin et al. 2019, arXiv:1810.04805, section 3 (30,000 tokens, [CLS] and [SEP]);
      Sennrich et al. 2016, arXiv:1508.07909 (byte-pair encoding).
    """
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import models as kinds

    normalizer = normalizers.BertNormalizer(lowercase=True)
    splitter = pre_tokenizers.BertPreTokenizer()
    pairs = tokenizers.Tokenizer(kinds.BPE())
    pairs.normalizer = normalizer
    # A mark before every word, and none before what continues it.
    start = pre_tokenizers.Metaspace()
    pairs.pre_tokenizer = pre_tokenizers.Sequence([splitter, start])
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, show_progress=False)
    pairs.train_from_iterator(texts, trainer)
    found = pairs.get_vocab()
    pieces = sorted(found, key=lambda piece: found[piece])
    mark = start.replacement
    alone = [p for p in pieces if len(p) == 1 and p != mark]
    names = [p[1:] if p[0] == mark else f"##{p}" for p in pieces if p != mark]
    names = list(dict.fromkeys([*SPECIAL, *alone, *names]))[:vocab_size]
    ids = {name: i for i, name in enumerate(names)}
    tokenizer = tokenizers.Tokenizer(kinds.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizer, splitter
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(SPECIAL))
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=ends,
    )
    return tokenizer


# Rows and views


def rows(tokenizer: Any, texts: Sequence[str], length: int) -> dict[str, np.ndarray]:
    """Texts as rows of one length: tokens [n, t] int32, where [n, t].

    Raises:
      ValueError: a text without a character but spaces.
    """
    found = encoders.tokenize(tokenizer, texts, length).tokens
    sizes = np.array([len(row) for row in found])
    tokens = encoders.padded(found, (len(found), length))
    return {"tokens": tokens, "where": np.arange(length)[None, :] < sizes[:, None]}


def views(
    recipe: pretrained.Recipe,
    params: Any,
    tokens: Int[Array, "n t"],
    where: Bool[Array, "n t"],
    keys: Key[Array, " n"],
    count: int = 2,
) -> Float[Array, "v n d"]:
    """Embeddings of texts under so many draws of dropout.

    Args:
      recipe: what is done with tokens.
      params: its parameters.
      tokens: token ids.
      where: real tokens, at the left.
      keys: one per text.
      count: number of views v.

    References:
      Gao et al. 2021, arXiv:2104.08821, section 3.
    """
    several = jnp.concatenate([randomness.fold_keys(keys, i) for i in range(count)])
    tokens, where = (jnp.tile(x, (count, 1)) for x in (tokens, where))
    out = encoders.embed(recipe, params, tokens, where, keys=several)
    return out.reshape(count, -1, out.shape[-1])


def encoder(
    recipe: pretrained.Recipe, params: Any, tokenizer: Any, length: int
) -> Callable[[Sequence[str]], np.ndarray]:
    """Texts to embeddings, for `tasks.sentences`; longer ones are cut in silence."""
    whole = pretrained.TextEncoder(recipe, params, tokenizer, length)
    return lambda texts: whole.encode(params, whole.tokenize(texts))


# The masked language model


def start(config: Any, workdir: str | pathlib.Path) -> pretrained.TextEncoder:
    """Where all methods of an experiment begin: an encoder from disk, or trained here.

    Trained from the newest checkpoint in workdir / "start" on.

    Args:
      config: with `model` (`packaged` or `small`), `start` and what `training.defaults`
        makes.
      workdir: folder of the run.
    """
    if config.model.path:
        return load(config.model)
    tokenizer, recipe = make_tokenizer(config), make_recipe(config.model)
    own = start_config(config)
    if own.train.num_steps:
        print("start:", flush=True)
        parts = start_init, start_step, start_batches
        state = training.train(own, pathlib.Path(workdir) / "start", *parts)
        params = jax.device_get(state.params)
    else:
        params = start_params(own)
    return pretrained.TextEncoder(recipe, params, tokenizer, recipe.model.max_length)


def start_config(config: Any) -> Any:
    """The config of the masked language model's training."""
    steps, rate = config.start.num_steps, config.start.learning_rate
    copy = training.changed(config, {"optim.learning_rate": rate})
    copy.train.num_steps = steps
    return copy


def start_params(config: Any) -> Any:
    """Random parameters; with `start.vectors` that says more of tokens than of places.

    The vectors get five times the size of the other embeddings, and what is added to
    them in a block a fifth of its own, so that a text begins as the mean of its tokens.
    """
    params = init_params(make_recipe(config.model), jax.random.key(config.seed))
    if not config.start.vectors:
        return params
    own, model = config.start, config.model
    arrays = sentence_rows(own.texts, own.count, own.length, make_tokenizer(config))
    size = model.vocab_size, model.width
    found = token_vectors(arrays["tokens"], arrays["where"], *size, seed=config.seed)
    encoder = params["encoder"]
    known = np.any(found != 0, axis=1, keepdims=True)
    scale = 0.1 / np.std(found[known[:, 0]])
    table = np.where(known, scale * found, 5 * encoder["token"]["embedding"])
    encoder["token"]["embedding"] = jnp.asarray(table, jnp.float32)
    for i in range(model.depth):
        block = encoder[f"block_{i}"]
        for layer in (block["attention"]["out"], block["down"]):
            layer["kernel"] = layer["kernel"] / 5
    return params


def token_vectors(
    tokens: Int[np.ndarray, "n t"],
    where: Bool[np.ndarray, "n t"],
    vocab_size: int,
    width: int,
    *,
    window: int = 8,
    seed: int = 0,
) -> Float[np.ndarray, "v w"]:
    """Vectors of tokens by the tokens near them: factors of their mutual information.

        M_ab = max(0, log( N_ab / (N_a q_b) )),  q_b = N_b^0.75 / sum_c N_c^0.75

    with N_ab how often b stands within the window of a, M = U S V^T and the vectors
    U S^(1/2). In seconds it gives what a masked language model learns in hours: which
    tokens are like each other.

    Args:
      tokens: ids; special ones do not count.
      where: real tokens.
      vocab_size: number of ids.
      width: size of the vectors.
      window: how far a neighbor may be, in tokens.
      seed: of the factorization.

    Returns:
      a row for every id; zeros where it does not occur.

    References:
      Levy et al. 2015, Improving distributional similarity with lessons learned from
      word embeddings (smoothing by 0.75, the root of S).
    """
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    where = where & (tokens >= len(SPECIAL))
    shape = (vocab_size, vocab_size)
    counts = sparse.csr_matrix(shape)
    for distance in range(1, min(window, tokens.shape[1] - 1) + 1):
        both = where[:, distance:] & where[:, :-distance]
        pair = tokens[:, :-distance][both], tokens[:, distance:][both]
        counts += sparse.csr_matrix((np.ones(len(pair[0])), pair), shape)
    counts = (counts + counts.T).tocoo()
    own = np.asarray(counts.sum(axis=1)).ravel()
    shares = own**0.75 / max(np.sum(own**0.75), 1)
    information = np.log(counts.data / (own[counts.row] * shares[counts.col]))
    kept = information > 0
    places = counts.row[kept], counts.col[kept]
    matrix = sparse.csr_matrix((information[kept], places), shape)
    options: Any = dict(n_iter=3, random_state=seed)
    u, s, _ = randomized_svd(matrix, width, **options)
    return np.where(own[:, None] > 0, u * np.sqrt(s)[None], 0)


def start_init(config: Any) -> training.TrainState:
    """The state at step 0."""
    params = start_params(config)
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return training.TrainState(**training.init_fields(config.seed, params, tx))


def start_step(config: Any, axis_name: str | None = None) -> Callable[..., Any]:
    """`step(state, batch) -> (state, metrics)`: masked tokens predicted."""
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    model, rate = make_recipe(config.model).model, config.start.rate

    def step(state, batch):
        tokens, where = batch["tokens"], batch["where"]
        count = len(tokens)
        keys = parallel.example_keys(state.rng, state.step, count, axis_name)
        hidden = mask_tokens(
            randomness.fold_keys(keys, 0),
            tokens,
            where & (tokens >= len(SPECIAL)),
            mask=MASK,
            vocab_size=model.vocab_size,
            rate=rate,
        )

        def loss_fn(params):
            out: Any = model.apply(
                {"params": params["encoder"]},
                hidden.tokens,
                where=where,
                keys=randomness.fold_keys(keys, 1),
            )
            at = jnp.take_along_axis(out.last, hidden.places[:, :, None], axis=1)
            table = params["encoder"]["token"]["embedding"]
            return losses.token_cross_entropy(
                models.token_logits(params["head"], table, at),
                hidden.labels,
                where=hidden.where,
                reduce_fn=parallel.mean(axis_name),
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        state = training.apply_gradients(state, grads, tx)
        return state, {"loss": loss, "grad_norm": training.global_norm(grads)}

    return step


def start_batches(config: Any, start_step: int) -> Any:
    """Shuffled sentences as tokens; batch t depends on (seed, t) only."""
    own = config.start
    tokenizer = make_tokenizer(config)
    arrays = sentence_rows(own.texts, own.count, own.length, tokenizer)
    return array_batches(
        arrays,
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


@functools.cache
def sentence_rows(
    texts: str, count: int, length: int, tokenizer: Any
) -> dict[str, np.ndarray]:
    """`rows` of the sentences to start from, made once per process."""
    return rows(tokenizer, TEXTS[texts]()[:count], length)
