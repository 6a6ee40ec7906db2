"""Answers of a model and sets of them; scores of tokens, and what these find."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import decoding, evaluation, losses, models
from contrastive_jax.methods import cdpo
from contrastive_jax.models import decoding as reading
from experiments.cdpo import data

ROWS = 500  # decoded at a time


class Sets(NamedTuple):
    """What sampled traces are sorted into; all are whole sequences [n, t].

    Attributes:
      positive: one right trace of each question that has one.
      negative: traces of the wrong answers given most.
      chosen: a right trace of each question with both kinds.
      rejected: a trace of its most frequent wrong answer.
      truth: the right trace of that question.
    """

    positive: np.ndarray
    negative: np.ndarray
    chosen: np.ndarray
    rejected: np.ndarray
    truth: np.ndarray


def head_of(weights):
    """The head of a decoder's weights, one row per token."""
    if "head" in weights:
        return weights["head"]["kernel"].T
    return weights["embed"]["embedding"]


def hidden_states(model, weights, tokens):
    """Last states at all tokens but the last, for `losses.linear_log_probs`."""
    return model.apply({"params": weights}, tokens[:, :-1]).last


@functools.lru_cache
def make_decoder(model: models.Decoder, length: int, drawn: bool):
    """`decode(weights, prompts, keys)`: new tokens [n, length], greedy or drawn."""

    def decode(weights, prompts, keys):
        variables = {"params": weights}
        prompt = decoding.Text(prompts, jnp.ones(prompts.shape, bool))
        read = reading.read_prompt(model, variables, prompt, prompts.shape[1] + length)
        return decoding.generate(
            reading.make_step(model, variables),
            read.cache,
            read.out,
            prompt,
            choose=lambda out, _: out.logits,
            max_new=length,
            keys=keys if drawn else None,
        ).tokens

    return jax.jit(decode)


def traces(model, weights, chains, *, rng=None, samples=1):
    """Traces [n, samples, t] of a model: greedy, or drawn by a random key."""
    decode = make_decoder(model, chains.traces.shape[1], rng is not None)
    keys = jax.random.split(
        jax.random.key(0) if rng is None else rng, (samples, len(chains.prompts))
    )
    found = [
        [
            decode(weights, chains.prompts[i : i + ROWS], own[i : i + ROWS])
            for i in range(0, len(chains.prompts), ROWS)
        ]
        for own in keys
    ]
    return np.stack([np.concatenate(parts) for parts in found], axis=1)


def accuracy(model, weights, chains):
    """Share of greedy answers that are right, in [0, 1]."""
    given = data.answers(traces(model, weights, chains)[:, 0])
    return float(np.mean(given == data.answers(chains.traces)))


def sort(chains: data.Chains, traces: np.ndarray) -> Sets:
    """Sampled traces [n, samples, k + 3] by their answers, as the released code does.

    Negative: one trace of each wrong answer, the most frequent first, until half of the
    wrong traces are covered; an answer that came once only if there is no other.
    """
    found: dict[str, list[np.ndarray]] = {name: [] for name in Sets._fields}
    for prompt, truth, own in zip(*chains, traces, strict=True):
        given, right = data.answers(own), data.answers(truth)
        values, first, counts = np.unique(given, return_index=True, return_counts=True)
        known = dict(zip(values.tolist(), first.tolist(), strict=True))
        wrong = [
            i
            for i in np.argsort(-counts, kind="stable")
            if values[i] not in (-1, right)
        ]
        join = lambda trace, prompt=prompt: np.concatenate([prompt, trace])  # noqa: E731
        if int(right) in known:
            found["positive"].append(join(own[known[int(right)]]))
        taken, covered = 0, 0
        for i in wrong:
            if covered >= counts[wrong].sum() / 2 or (counts[i] == 1 and taken):
                break
            found["negative"].append(join(own[first[i]]))
            taken, covered = taken + 1, covered + counts[i]
        if int(right) in known and wrong:
            found["chosen"].append(join(own[known[int(right)]]))
            found["rejected"].append(join(own[first[wrong[0]]]))
            found["truth"].append(join(truth))
    return Sets(**{name: np.array(x) for name, x in found.items()})


@functools.lru_cache
def make_scorer(model: models.Decoder, beta: float, chunk: int):
    """`score(weights by name, tokens)`: by each detector, high where critical."""

    def score(weights, tokens):
        hidden = {k: hidden_states(model, w, tokens) for k, w in weights.items()}
        heads, labels = {k: head_of(w) for k, w in weights.items()}, tokens[:, 1:]
        log_p = {
            k: losses.linear_log_probs(hidden[k], heads[k], labels, chunk=chunk)
            for k in weights
        }
        s = cdpo.linear_contrastive_estimation_score(
            hidden["positive"],
            hidden["negative"],
            heads["positive"],
            heads["negative"],
            labels,
            beta=beta,
            chunk=chunk,
        )
        return {
            "contrast": 1 - s,
            "probability": 1 - jnp.exp(log_p["base"]),
            "log_ratio": log_p["negative"] - log_p["positive"],
        }

    return jax.jit(score)


def detectors(config, model, weights, tokens):
    """Scores [n, t - 1] of the labels of sequences by detector."""
    score = make_scorer(model, config.loss.contrast, config.loss.chunk)
    rows = config.eval.rows
    parts = [
        jax.device_get(score(weights, tokens[i : i + rows]))
        for i in range(0, len(tokens), rows)
    ]
    return {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}


def localization(scores, critical, response):
    """How well each score tells critical tokens from others of the response.

    auc: area under the ROC curve over all tokens, in [0, 1]. first: share of traces
    whose highest score is at a critical token.
    """
    found = {}
    for name, x in scores.items():
        others = x[response & ~critical]
        found[f"auc/{name}"] = evaluation.auroc(x[critical & response], others)
        top = np.argmax(np.where(response, x, -np.inf), axis=1)
        found[f"first/{name}"] = float(np.mean(critical[np.arange(len(x)), top]))
    return found


def first_wrong(rejected, truth):
    """The first label that differs from the right sequence, one-hot [n, t - 1]."""
    wrong = (rejected != truth)[:, 1:]
    return wrong & (np.cumsum(wrong, axis=1) == 1)


def token_weights(config, sets, scores):
    """Weights of the tokens of rejected traces by the scores of a detector."""
    tokens = sets.rejected
    weights = cdpo.cdpo_weights(
        1 - jnp.asarray(scores),
        jnp.asarray(data.response(config, tokens)),
        ends=jnp.asarray(tokens[:, 1:] == data.END),
    )
    return np.asarray(weights)
