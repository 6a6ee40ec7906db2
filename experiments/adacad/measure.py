"""Decodes the answers by every rule, and measures them."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import decoding
from contrastive_jax.methods import adacad
from contrastive_jax.models import decoding as reading
from contrastive_jax.models.pretrained import Pretrained
from contrastive_jax.tasks import language_models as lms
from experiments.adacad import data


def rules(decode):
    """Every rule by its name: from logits with the context and without to scores."""
    found = {
        "greedy": lambda a, b: a,  # with the context
        "memory": lambda a, b: b,  # without
    }
    for alpha in decode.strengths:
        found[f"cad_{alpha:g}"] = functools.partial(decoding.context_aware, alpha=alpha)
    found["coiecd"] = functools.partial(
        decoding.entropy_constrained, ratio=decode.ratio
    )
    for name, base in (("adacad", math.e), ("adacad_bits", 2.0)):
        found[name] = functools.partial(
            adacad.adacad_logits, min_alpha=decode.min_alpha, base=base
        )
    return found


def padded(language: Pretrained, texts, length: int) -> decoding.Text:
    """Prompts of at most so many tokens, as arrays of one length."""
    text = reading.pad_left([*map(language.encode, texts), np.zeros(length, np.int32)])
    return decoding.Text(np.asarray(text.tokens)[:-1], np.asarray(text.where)[:-1])


def longest(language: Pretrained, texts) -> int:
    """The most tokens of a prompt."""
    return max(len(language.encode(text)) for text in texts)


def make_decode(language: Pretrained, chosen, max_new: int):
    """`decode(context, alone) -> (tokens [n, rules, t], JSD of the first token [n])`.

    Both prompts are read once; every rule decodes from there.
    """
    model = language.model

    @jax.jit
    def decode(variables, context, alone):
        step = reading.make_step(model, variables)
        reads = [
            reading.read_prompt(model, variables, text, text.tokens.shape[1] + max_new)
            for text in (context, alone)
        ]
        state, out = (tuple(getattr(r, x) for r in reads) for x in ("cache", "out"))

        def by_rule(which):
            def choose(out, text):
                pair = [x.logits for x in out]
                return jax.lax.switch(which, list(chosen), *pair)

            found = decoding.generate(
                decoding.two_streams(step, step),
                state,
                out,
                decoding.Text(*context),
                choose=choose,
                max_new=max_new,
                stop=language.stop,
            )
            return found.tokens

        tokens = jax.lax.map(by_rule, jnp.arange(len(chosen)))
        divergence = decoding.js_divergence(*(x.logits for x in out))
        return jnp.swapaxes(tokens, 0, 1), divergence

    return functools.partial(decode, language.variables)


def known_facts(config, language: Pretrained):
    """The first facts, by the order of the seed, that the model knows by heart."""
    size, new = config.decode.batch_size, config.decode.max_new
    ordered = data.candidates(config.seed, language.encode, new)
    length, model = longest(language, map(data.alone, ordered)), language.model

    @jax.jit
    def greedy(variables, text):
        read = reading.read_prompt(model, variables, text, length + new)
        found = decoding.generate(
            reading.make_step(model, variables),
            read.cache,
            read.out,
            text,
            choose=lambda out, text: out.logits,
            max_new=new,
            stop=language.stop,
        )
        return found.tokens

    known = []
    for start in range(0, len(ordered), size):
        some = ordered[start : start + size]
        text = padded(language, map(data.alone, some), length)
        compiled = functools.partial(greedy, language.variables)
        tokens = lms.in_batches(compiled, text, size)
        for fact, row in zip(some, tokens, strict=True):
            if data.is_right(language.decode(row), fact.answer):
                known.append(fact)
        if len(known) >= config.data.queries:
            break
    return known[: config.data.queries]


class Answers(NamedTuple):
    """What was decoded.

    Attributes:
      right: by rule, whether each query was answered rightly, [n].
      texts: by rule, the answers.
      divergence: JSD with and without the context before the first token, in nats, [n].
    """

    right: dict[str, np.ndarray]
    texts: dict[str, list[str]]
    divergence: np.ndarray


def answer(config, language: Pretrained, queries) -> Answers:
    """Every query by every rule."""
    chosen = rules(config.decode)
    decode = make_decode(language, chosen.values(), config.decode.max_new)
    sides = [[getattr(q, side) for q in queries] for side in ("context", "alone")]
    texts = [padded(language, side, longest(language, side)) for side in sides]
    tokens, divergence = lms.in_batches(
        lambda pair: decode(*pair), texts, config.decode.batch_size
    )
    decoded = {
        name: [language.decode(row) for row in tokens[:, i]]
        for i, name in enumerate(chosen)
    }
    right = {
        name: np.array(
            [data.is_right(t, q.answer) for t, q in zip(found, queries, strict=True)]
        )
        for name, found in decoded.items()
    }
    return Answers(right, decoded, divergence)


def summary(queries, answers: Answers) -> dict[str, float]:
    """Accuracy (%) of each rule on each kind and their mean; mean JSD (nats)."""
    kind_of, results = np.array([q.kind for q in queries]), {}
    kinds = [kind for kind in data.KINDS if (kind_of == kind).any()]
    for name, right in answers.right.items():
        shares = [100 * float(right[kind_of == kind].mean()) for kind in kinds]
        results |= {f"{name}/{k}": x for k, x in zip(kinds, shares, strict=True)}
        results[f"{name}/mean"] = float(np.mean(shares))
    for kind in kinds:
        mean = float(answers.divergence[kind_of == kind].mean())
        results[f"divergence/{kind}"] = mean
    return results


def divergence_by_token(language: Pretrained, queries, texts):
    """JSD with and without the context before each token of given texts, in nats.

    Returns:
      for each text, its tokens as strings and their numbers.
    """
    ids = [language.encode(text) for text in texts]

    @jax.jit
    def read(forced):
        return lms.read_answers(language.model, language.variables, forced).logits

    logits = []
    for side in ("context", "alone"):
        prompts = [language.encode(getattr(q, side)) for q in queries]
        logits.append(read(lms.force(prompts, ids)))
    found = np.asarray(decoding.js_divergence(*logits))
    return [
        ([language.decode([i]) for i in row], found[n, -len(row) :])
        for n, row in enumerate(ids)
    ]
