"""What embeddings of texts know of meaning, and how much they go by looks."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from contrastive_jax import evaluation
from contrastive_jax.tasks import sentences
from experiments.debcse import model

CHUNK = 256
BINS = 10
MOST = 2000


class Pairs(NamedTuple):
    """Texts with graded pairs of them.

    Attributes:
      texts: `data.Texts`.
      first: rows of the first texts of pairs, [p].
      second: rows of the second ones.
      gold: graded similarity; a constant where pairs are unrelated.
      overlap: share of their tokens that both have (`debcse.jaccard`).
      gap: how many more tokens the longer one has.
    """

    texts: Any
    first: np.ndarray
    second: np.ndarray
    gold: np.ndarray
    overlap: np.ndarray
    gap: np.ndarray


def graded_pairs(rng, texts, chains, rows):
    """A pair for each of the rows: with any other one below a hypernym of its chain.

    Graded by Wu and Palmer 1994: depth of what both are, over the mean of their depths.
    """
    below, pairs, gold = {}, [], []
    for i in rows:
        for noun in chains[i]:
            below.setdefault(noun, []).append(i)
    for i in rows:
        near = below[chains[i][rng.integers(len(chains[i]))]]
        j = near[rng.integers(len(near))]
        if i != j:
            both = sum(a == b for a, b in zip(chains[i], chains[j], strict=False))
            pairs.append((i, j))
            gold.append(2 * both / (len(chains[i]) + len(chains[j])))
    used, places = np.unique(pairs, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    return [texts[i] for i in used], first, second, np.array(gold)


def as_pairs(texts, first, second, gold):
    """`Pairs`, with how alike they look."""
    overlap = model.surfaces(texts, first, second[:, None], "jaccard")[:, 0]
    sizes = texts.where.sum(axis=1)
    gap = np.abs(sizes[first] - sizes[second])
    return Pairs(texts, first, second, gold, overlap, gap)


# Embeddings


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
    grade; 0 is without bias; "overlap_linear" is Pearson's. And signs of a collapse.
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
        "overlap_linear": at_fixed_grade(
            cosines, own.overlap, own.gold, evaluation.pearson
        ),
        "mean_cosine": float(evaluation.average_cosine(unit)),
        "effective_rank": float(evaluation.effective_rank(unit)),
    }


def at_fixed_grade(cosines, looks, gold, correlation=evaluation.spearman):
    """Mean correlation within tenths of the pairs by grade."""
    order = np.argsort(gold, kind="stable")
    parts = np.array_split(order, BINS) if np.ptp(gold) else [order]
    return float(np.mean([correlation(cosines[i], looks[i]) for i in parts]))


def judged(encode, params, as_rows, config):
    """Agreement with people on the sets and files of `eval`, in percent."""
    files = {
        pathlib.Path(f).stem: pathlib.Path(f).expanduser() for f in config.eval.sts
    }
    if not (config.eval.sets or files):
        return {}
    return sentences.evaluate(
        lambda texts: encode(params, as_rows(texts)), sets=config.eval.sets, files=files
    )


def chances(near, log_probs):
    """Probabilities of the candidates of up to 2,000 texts, [n, c].

    Args:
      near: `data.Candidates`.
      log_probs: function of their semantic and surface similarity and a mask.
    """
    rows, semantic, surface = (x[:MOST] for x in near)
    return np.exp(jax.jit(log_probs)(semantic, surface, rows >= 0))


def drawn(own, role, probs):
    """What is drawn with these probabilities, on average over the texts.

    Effective sample size, cosine under the reference and surface similarity; where they
    are known, how often a candidate has the topic and the style of its text.
    """
    near = own.candidates[role]
    means = {"semantic": near.semantic, "surface": near.surface}
    if own.train.classes is not None:
        classes = own.train.classes
        same = classes[near.rows[: len(probs)]] == classes[: len(probs), None, :]
        means |= {"same_topic": same[..., 0], "same_style": same[..., 1]}
    means = {
        name: float(np.mean(np.sum(probs * values[: len(probs)], axis=1)))
        for name, values in means.items()
    }
    size = float(np.mean(1 / np.sum(probs**2, axis=1)))
    return {f"{role}_{k}": x for k, x in ({"sample_size": size} | means).items()}
