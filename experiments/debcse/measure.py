"""What embeddings of texts know of meaning, and how much they go by looks."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from contrastive_jax import ebm, evaluation
from contrastive_jax.tasks import sentences
from experiments.debcse import data

CHUNK = 256
BINS = 10


def encoder(embed):
    """`encode(params, texts)`: embeddings [n, d] of `data.Texts`, without dropout."""
    compiled = jax.jit(embed)

    def encode(params, texts):
        out = []
        for i in range(0, len(texts.tokens), CHUNK):
            part = [x[i : i + CHUNK] for x in (texts.tokens, texts.where)]
            lacking = CHUNK - len(part[0])
            part = [np.pad(x, ((0, lacking), (0, 0)), mode="edge") for x in part]
            out.append(np.asarray(compiled(params, *part))[: CHUNK - lacking])
        return np.concatenate(out)

    return encode


def pairs(encode, params, own):
    """Measures of `data.Pairs`.

    "spearman" (%) of cosines with the grades; or, where topics are known, "retrieval"
    (%), how often the nearest text has the same topic. "overlap" and "length": rank
    correlation of cosines with the overlap of tokens and the gap of lengths, at fixed
    grade; 0 is without bias. And what tells of a collapse.
    """
    z = encode(params, own.texts)
    unit = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-9)
    cosines = np.sum(unit[own.first] * unit[own.second], axis=1)
    found = {}
    if own.texts.classes is None:
        found["spearman"] = 100 * evaluation.spearman(cosines, own.gold)
    else:
        topics, scores = own.texts.classes[:, 0], unit @ unit.T
        np.fill_diagonal(scores, -2)
        nearest = topics[np.argmax(scores, axis=1)]
        found["retrieval"] = 100 * float(np.mean(nearest == topics))
    return found | {
        "overlap": at_fixed_grade(cosines, own.overlap, own.gold),
        "length": at_fixed_grade(cosines, own.gap, own.gold),
        "mean_cosine": float(evaluation.average_cosine(unit)),
        "effective_rank": float(evaluation.effective_rank(unit)),
    }


def at_fixed_grade(cosines, looks, gold):
    """Mean rank correlation within tenths of the pairs by grade."""
    order = np.argsort(gold, kind="stable")
    parts = np.array_split(order, BINS) if np.ptp(gold) else [order]
    return float(np.mean([evaluation.spearman(cosines[i], looks[i]) for i in parts]))


def judged(encode, params, tokenizer, config):
    """Agreement with people on the sets and files of `eval`, in percent."""
    files = {pathlib.Path(f).stem: pathlib.Path(f).expanduser() for f in config.eval.sts}
    if tokenizer is None or not (config.eval.sets or files):
        return {}

    def of_texts(texts):
        return encode(params, data.as_rows(tokenizer, texts, config.data.length))

    return sentences.evaluate(of_texts, sets=config.eval.sets, files=files)


def drawn(config, own, log_probs):
    """What is drawn, by probabilities of up to 2,000 texts' candidates.

    Of each role the mean effective sample size, cosine under the reference and surface
    similarity; where they are known, how often a positive has the style or the topic of
    its text.
    """
    results = {}
    for role in data.drawn_roles(config):
        near = data.Candidates(*(x[:2000] for x in own.candidates[role]))
        where = jnp.asarray(near.rows >= 0)
        run = jax.jit(lambda a, b, c, role=role: log_probs(role, a, b, c))
        logs = run(near.semantic, near.surface, where)
        probs = np.exp(logs)
        sizes = jax.jit(ebm.effective_sample_size)(logs)
        results[f"{role}_sample_size"] = float(np.mean(sizes))
        means = {"semantic": near.semantic, "surface": near.surface}
        if own.train.classes is not None:
            same = own.train.classes[near.rows] == own.train.classes[:2000, None, :]
            means |= {"same_topic": same[..., 0], "same_style": same[..., 1]}
        for name, values in means.items():
            each = np.sum(probs * values, axis=1)
            results[f"{role}_{name}"] = float(np.mean(each))
    return results
