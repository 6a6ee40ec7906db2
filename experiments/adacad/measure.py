"""What every rule answers: right ones counted, some written out.

Greedy decoding by a rule begins with given tokens just when each of them is the rule's
first choice after those before it. So one reading of all answers counts for all rules;
the loop itself (`make_decode`) writes the examples of the report.
"""

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


def force_pair(language: Pretrained, queries, answers):
    """Both prompts of each query with the same answer, as token ids, behind them."""
    return [
        lms.force([language.encode(getattr(q, side)) for q in queries], answers)
        for side in ("context", "alone")
    ]


def first_choices(scores, forced):
    """Whether every token of an answer is the first choice, [n]."""
    right = jnp.argmax(scores, axis=-1) == forced.labels
    return jnp.all(right | ~forced.where, axis=1)


def known_facts(config, language: Pretrained):
    """The first facts, by the order of the seed, that the model knows by heart."""
    model, size = language.model, config.decode.batch_size
    ordered = data.candidates(config.seed, language.encode, config.decode.max_new)
    forced = lms.force(
        [language.encode(data.alone(f)) for f in ordered],
        [language.encode(f" {f.answer}") for f in ordered],
    )

    @jax.jit
    def knows(variables, forced):
        said = lms.read_answers(model, variables, forced)
        return first_choices(said.logits, forced)

    known = []
    for start in range(0, len(ordered), size):
        here = slice(start, start + size)
        rows = jax.tree.map(lambda x, here=here: np.asarray(x)[here], forced)
        compiled = functools.partial(knows, language.variables)
        found = lms.in_batches(compiled, rows, size)
        known += [f for f, yes in zip(ordered[start:], found, strict=False) if yes]
        if len(known) >= config.data.queries:
            break
    return known[: config.data.queries]


class Answers(NamedTuple):
    """What the rules make of the queries.

    Attributes:
      right: by rule, whether each query is answered rightly, [n].
      divergence: JSD with and without the context before the first token, in nats, [n].
    """

    right: dict[str, np.ndarray]
    divergence: np.ndarray


def answer(config, language: Pretrained, queries) -> Answers:
    """Every query by every rule."""
    chosen, model = rules(config.decode), language.model
    answers = [language.encode(f" {q.answer}") for q in queries]
    forced = force_pair(language, queries, answers)

    @jax.jit
    def by_rule(variables, forced):
        both = [lms.read_answers(model, variables, x).logits for x in forced]
        right = {
            name: first_choices(rule(*both), forced[0]) for name, rule in chosen.items()
        }
        first = jnp.argmax(forced[0].where, axis=1)[:, None]
        jsd = decoding.js_divergence(*both)
        return right, jnp.take_along_axis(jsd, first, axis=1)[:, 0]

    found = lms.in_batches(
        functools.partial(by_rule, language.variables),
        jax.tree.map(np.asarray, forced),
        config.decode.batch_size,
    )
    return Answers(*found)


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


def make_decode(language: Pretrained, chosen, max_new: int):
    """`decode(context, alone) -> tokens [n, rules, t]`.

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
                return jax.lax.switch(which, list(chosen), *(x.logits for x in out))

            found = decoding.generate(
                decoding.two_streams(step, step),
                state,
                out,
                context,
                choose=choose,
                max_new=max_new,
                stop=language.stop,
            )
            return found.tokens

        return jnp.swapaxes(jax.lax.map(by_rule, jnp.arange(len(chosen))), 0, 1)

    return functools.partial(decode, language.variables)


def examples(config, language: Pretrained, queries) -> dict[str, list[str]]:
    """What every rule writes, by rule."""
    chosen = rules(config.decode)
    texts = [
        reading.pad_left([language.encode(getattr(q, side)) for q in queries])
        for side in ("context", "alone")
    ]
    decode = make_decode(language, chosen.values(), config.decode.max_new)
    tokens = np.asarray(decode(*texts))
    return {
        name: [language.decode(row) for row in tokens[:, i]]
        for i, name in enumerate(chosen)
    }


def divergence_by_token(language: Pretrained, queries, texts):
    """JSD with and without the context before each token of given texts, in nats.

    Returns:
      for each text, its tokens as strings and their numbers.
    """
    ids, model = [language.encode(text) for text in texts], language.model

    @jax.jit
    def read(variables, forced):
        both = [lms.read_answers(model, variables, x).logits for x in forced]
        return decoding.js_divergence(*both)

    found = np.asarray(read(language.variables, force_pair(language, queries, ids)))
    return [
        ([language.decode([i]) for i in row], found[n, -len(row) :])
        for n, row in enumerate(ids)
    ]
