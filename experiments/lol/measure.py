"""Scores of all answers by every rule, and what multiple choice says of them."""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import decoding, evaluation
from contrastive_jax.methods import lol
from contrastive_jax.models.pretrained import Pretrained
from contrastive_jax.tasks import language_models as lms

MASKS = (0.0, 0.1)  # of the plausibility mask, shown beside each other for ICD


class Read(NamedTuple):
    """What the readers say before each token of the answers.

    Attributes:
      logits: of each reader, [n, a, v].
      low: of the lower layers of the base and the amateurs, [j, n, a, v].
    """

    logits: Mapping[str, Any]
    low: Mapping[str, Any]


def alone(name):
    """What a reader says, as a rule."""
    return lambda read: jax.nn.log_softmax(read.logits[name], axis=-1)


def rules(config) -> dict[str, Any]:
    """Every rule by its name: from a `Read` to scores [n, a, v].

    Those of the first amateur have plain names; others end in "_by_prompt".
    """
    rule = config.rule
    alpha = rule.alpha
    found = {
        "base": alone("base"),
        "truth": alone("truth"),
        "cd": lambda r: decoding.contrast(
            r.logits["base"], r.logits["weak"], alpha=alpha
        ),
        "dola": lambda r: decoding.layer_contrast(
            r.logits["base"], r.low["base"], alpha=alpha
        ),
    }
    for j, layer in enumerate(rule.layers):
        found[f"early_{layer}"] = lambda r, j=j: jax.nn.log_softmax(
            r.low["base"][j], axis=-1
        )
    for i, amateur in enumerate(config.amateurs):
        end = f"_by_{amateur}" if i else ""
        found |= {f"{k}{end}": x for k, x in rules_of(amateur, rule).items()}
    return found


def rules_of(amateur: str, rule) -> dict[str, Any]:
    """Those of `rules` that contrast with an amateur."""
    alpha = rule.alpha

    def icd(read, alpha=alpha, weight=1.0):
        pair = read.logits["base"], read.logits[amateur]
        return decoding.contrast(*pair, alpha=alpha, weight=weight)

    def fused(read, lam, gamma=0.0, layer=None):
        """LOL at a layer, or where the base's lower layers differ most (DoLa)."""
        combine, low = lol.lol_dynamic_scores, (read.low["base"], read.low[amateur])
        if layer is not None:
            combine, low = lol.lol_scores, (x[layer] for x in low)
        base, false, truth = (read.logits[x] for x in ("base", amateur, "truth"))
        return combine(base, false, *low, truth, lam=lam, gamma=gamma, alpha=alpha)

    found = {"amateur": alone(amateur), "icd": icd}
    for mask in MASKS:
        found[f"icd_mask_{mask:g}"] = functools.partial(icd, alpha=mask)
    for lam in rule.lams:
        # The control: as much contrast, all of it at the last layer.
        found[f"icd_weight_{1 + lam:g}"] = functools.partial(icd, weight=1 + lam)
        for gamma in rule.gammas:
            name = f"lol_{lam:g}" + (f"_truth_{gamma:g}" if gamma else "")
            found[name] = functools.partial(fused, lam=lam, gamma=gamma)
    for j, layer in enumerate(rule.layers):
        found[f"lol_at_{layer}"] = functools.partial(fused, lam=1.0, layer=j)
    return found


class Scored(NamedTuple):
    """Scores of all answers of all questions.

    Attributes:
      by_rule: one array of each rule, true answers first, question after question.
      jsd: how much each lower layer differs from the last one, in nats, [n, j].
      sizes: numbers of true and of false answers of each question.
    """

    by_rule: dict[str, np.ndarray]
    jsd: np.ndarray
    sizes: list[tuple[int, int]]


def make_read(languages: Mapping[str, Pretrained], layers):
    """`read(variables by reader, forced by reader) -> Read`."""

    def read(variables, forced):
        said = {}
        for name in languages:
            below = () if name in ("truth", "weak") else layers
            model = languages[name].model
            said[name] = lms.read_answers(model, variables[name], forced[name], below)
        logits = {name: x.logits for name, x in said.items()}
        return Read(logits, {name: x.early for name, x in said.items()})

    return read


def score(config, languages: Mapping[str, Pretrained], questions) -> Scored:
    """The answers of every question, read after every prompt, by every rule."""
    encode = languages["base"].encode
    pairs = [(q.prompts, x) for q in questions for x in (*q.true, *q.false)]
    answers = [encode(f" {x}") for _, x in pairs]
    forced = {
        name: lms.force([encode(p[name]) for p, _ in pairs], answers)
        for name in languages
    }
    read, chosen = make_read(languages, config.rule.layers), rules(config)

    @jax.jit
    def by_rule(variables, forced):
        found = read(variables, forced)
        pair = found.logits["base"], found.low["base"]
        jsd = decoding.layer_divergences(*pair, reverse=False)
        where = forced["base"].where[None]
        mean = jnp.sum(jnp.where(where, jsd, 0), axis=-1) / jnp.sum(where, axis=-1)
        scores = {
            name: lms.answer_scores(rule(found), forced["base"])
            for name, rule in chosen.items()
        }
        return scores, mean.T

    variables = {name: one.variables for name, one in languages.items()}
    scores, jsd = lms.in_batches(
        functools.partial(by_rule, variables),
        jax.tree.map(np.asarray, forced),
        config.eval.batch_size,
    )
    return Scored(scores, jsd, [(len(q.true), len(q.false)) for q in questions])


def summary(scored: Scored) -> dict[str, float]:
    """MC1, MC2 and MC3 of every rule, in percent."""
    results = {}
    for name, scores in scored.by_rule.items():
        found, start = [], 0
        for true, false in scored.sizes:
            own = scores[start : start + true + false]
            found.append(evaluation.truthfulqa_mc(own[:true], own[true:]))
            start += true + false
        for measure, x in zip(
            ("mc1", "mc2", "mc3"), np.mean(found, axis=0), strict=True
        ):
            results[f"{name}/{measure}"] = 100 * float(x)
    return results


def contrast_by_token(config, languages, questions):
    """What amateur and lower layers change of each token of true and myth answers.

    Returns:
      for each answer its tokens as strings and LOL's score less the base's.
    """
    one = languages["base"]
    pairs = [(q.prompts, x) for q in questions for x in (q.true[0], q.false[0])]
    answers = [one.encode(f" {x}") for _, x in pairs]
    forced = {
        name: lms.force([one.encode(p[name]) for p, _ in pairs], answers)
        for name in languages
    }
    chosen = rules(config)
    name = f"lol_{config.rule.lams[0]:g}"

    @jax.jit
    def change(variables, forced):
        found = make_read(languages, config.rule.layers)(variables, forced)
        labels = forced["base"].labels[..., None]
        both = [
            jnp.take_along_axis(chosen[x](found), labels, axis=-1)[..., 0]
            for x in (name, "base")
        ]
        return both[0] - both[1]

    values = change({n: x.variables for n, x in languages.items()}, forced)
    values = np.nan_to_num(np.asarray(values), neginf=-20.0)
    return [
        (x, [one.decode([i]) for i in row], values[n, -len(row) :])
        for n, ((_, x), row) in enumerate(zip(pairs, answers, strict=True))
    ]
