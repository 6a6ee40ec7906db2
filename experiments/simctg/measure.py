"""Texts by every decoding rule, and what is measured of them and of a model."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import decoding, evaluation, losses, similarity
from contrastive_jax.models import decoding as reading
from contrastive_jax.tasks import language_models

BATCH = 16  # rows of text at a time


class Texts(NamedTuple):
    """Continuations of the prompts, as a model sees them.

    Attributes:
      tokens: [n, t].
      log_probs: of each token given those before, [n, t].
      features: mean of the last hidden states of a continuation, [n, d].
      penalties: largest cosine of a token with an earlier one, or one of the prompt,
        [n, t].
    """

    tokens: np.ndarray
    log_probs: np.ndarray
    features: np.ndarray
    penalties: np.ndarray


@functools.cache
def make_decoder(model, rule: str, settings):
    """`f(variables, prompts [n, s], keys [n], alpha) -> tokens [n, t]`, compiled.

    No token ends a text, as in the released code; alpha is of contrastive search.
    """
    new = settings.new_tokens

    def choose(out, text):
        if rule in ("top_k", "top_p"):
            return getattr(decoding, rule)(out.logits, getattr(settings, rule))
        return out.logits

    @jax.jit
    def run(variables, prompts, keys, alpha):
        text = decoding.Text(prompts, jnp.ones(prompts.shape, bool))
        read = reading.read_prompt(model, variables, text, prompts.shape[1] + new)
        if rule == "contrastive":
            reader = reading.make_reader(model, variables)
            options = dict(k=settings.k, alpha=alpha, max_new=new)
            return decoding.contrastive_search(
                reader, read.cache, read.hidden, text, **options
            ).tokens
        start = reading.make_step(model, variables), read.cache, read.out, text
        options = dict(choose=choose, max_new=new)
        if rule == "beam":
            beams = decoding.beam_search(*start, width=settings.beams, **options)
            return beams.tokens[:, 0]
        keys = keys if rule in ("top_k", "top_p") else None
        return decoding.generate(*start, keys=keys, **options).tokens

    return run


@functools.cache
def make_judge(model):
    """`f(variables, {prompts [n, s], tokens [n, t]}) -> Texts`, compiled."""

    @jax.jit
    def run(variables, rows):
        prompts, tokens = rows["prompts"], rows["tokens"]
        start = prompts.shape[1]
        last = model.apply(variables, jnp.concatenate([prompts, tokens], axis=1)).last
        logits = model.apply(variables, last[:, start - 1 : -1], method="logits")

        def penalty(hidden):
            """Each token against the earlier ones, as contrastive search sees them."""
            cosines = similarity.cosine(hidden, hidden)
            earlier = jnp.tril(jnp.ones(cosines.shape, bool), -1)
            return jnp.max(cosines, axis=1, where=earlier, initial=-1)[start:]

        return Texts(
            tokens,
            losses.token_log_probs(logits, tokens),
            jnp.mean(last[:, start:], axis=1),
            jax.vmap(penalty)(last),
        )

    return run


def judge(language, prompts, tokens) -> Texts:
    """Continuations as a model sees them."""
    run = functools.partial(make_judge(language.model), language.variables)
    rows = {"prompts": prompts, "tokens": np.asarray(tokens)}
    return language_models.in_batches(run, rows, min(BATCH, len(prompts)))


def decode(language, prompts, rule, settings, seed, alpha=None) -> Texts:
    """Continuations by a rule."""
    run = make_decoder(language.model, rule, settings)
    keys = jax.random.split(jax.random.key(seed), len(prompts))
    rows = {"prompts": prompts, "keys": keys}
    alpha = settings.alpha if alpha is None else alpha

    def of(rows):
        return run(language.variables, rows["prompts"], rows["keys"], alpha)

    tokens = language_models.in_batches(of, rows, min(2 * BATCH, len(prompts)))
    return judge(language, prompts, tokens)


def measures(texts: Texts, real: Texts, clusters: int, seed: int) -> dict[str, float]:
    """Repetition (%), diversity, coherence (nats per token) and MAUVE."""
    values = {
        f"rep_{n}": 100 * evaluation.repetition(texts.tokens, n) for n in (2, 3, 4)
    }
    values["diversity"] = evaluation.diversity(texts.tokens)
    values["coherence"] = evaluation.coherence(texts.log_probs)
    if texts is not real:
        values["mauve"] = evaluation.mauve(
            jax.random.key(seed), texts.features, real.features, k=clusters
        )
    return values


@functools.cache
def make_reading(model):
    """`f(variables, {tokens, where}) -> (nats, tokens, cosines of every layer)`."""

    @jax.jit
    def run(variables, rows):
        tokens, where = rows["tokens"][:, :-1], rows["where"]
        labels = jnp.where(where[:, 1:], rows["tokens"][:, 1:], -100)
        out = model.apply(variables, tokens, where=where[:, :-1])
        logits = model.apply(variables, out.last, method="logits")
        nats = losses.token_cross_entropy(logits, labels, reduce_fn=None)
        layers = jnp.stack([*out.hidden[:-1], out.last])

        def of_row(hidden, where):
            return evaluation.token_isotropy(hidden[None], where[None])

        over_layers = jax.vmap(of_row, (0, None))
        cosines = jax.vmap(over_layers, (1, 0))(layers, where[:, :-1])
        return nats, jnp.sum(where[:, 1:], axis=1), cosines

    return run


def read(language, rows) -> tuple[float, np.ndarray]:
    """Perplexity per token of rows of text, and the isotropy of every layer.

    The first layer is that of the embeddings, the last one is normalized.
    """
    run = functools.partial(make_reading(language.model), language.variables)
    size = min(BATCH, len(rows["tokens"]))
    nats, counts, cosines = language_models.in_batches(run, rows, size)
    total = evaluation.PairCosines(*(np.sum(x, axis=0) for x in cosines))
    perplexity = float(np.exp(np.sum(nats) / np.sum(counts)))
    return perplexity, np.asarray(total.isotropy())


def name_of(rule: str, **options: Any) -> str:
    """A rule with what differs from its settings."""
    return " ".join([rule, *(f"{key}={value:g}" for key, value in options.items())])
