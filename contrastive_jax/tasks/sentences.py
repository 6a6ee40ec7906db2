"""What experiments on sentences share: evaluation, hard negatives.

    results = evaluate(encode, sets=("lee", "glosses"))   # {"lee/spearman": 51.2, ...}

`encode` takes a list of texts and returns their embeddings, [n, d], as
`text_encoders.encoder` makes it. Every set is read once per process, each of its texts
is embedded once. Results are in percent.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from contrastive_jax import evaluation, search
from contrastive_jax.data import sentences

Encode = Callable[[list[str]], np.ndarray]

SCORED: dict[str, Callable[[], sentences.Scored]] = {
    "lee": sentences.lee,
    "wordsim353": functools.partial(sentences.word_pairs, "wordsim353"),
    "simlex999": functools.partial(sentences.word_pairs, "simlex999"),
}
MADE_UP = {"synthetic": sentences.synthetic_pairs}
# Retrieval is among as many documents as there are queries.
PAIRED: dict[str, Callable[[int], sentences.Paired]] = {
    "glosses": sentences.glosses,
    "verses": sentences.verses,
}


# Evaluation


def evaluate(
    encode: Encode,
    *,
    sets: Iterable[str] = (*SCORED, *PAIRED),
    count: int = 2000,
    files: Mapping[str, str | pathlib.Path] | None = None,
) -> dict[str, float]:
    """Agreement with human judgments, and retrieval, in percent.

    Args:
      encode: texts to embeddings.
      sets: "lee", "wordsim353", "simlex999" (correlations of cosines with judgments:
        "/pearson", "/spearman"), "synthetic" (the same, made up for tests), "glosses"
        (the word that WordNet defines so) and "verses" (the same verse in another
        translation): "/recall_at_1" and "/mrr".
      count: pairs of those to be retrieved, and so candidates; all when 0.
      files: judged pairs of the user by name, see `data.sentences.read_sts`.

    Raises:
      DataMissing: a set could not be fetched.
      ValueError: an unknown set, or a file that cannot be read.
    """
    own = {name: sentences.read_sts(file) for name, file in (files or {}).items()}
    results: dict[str, float] = {}
    for name in sets:
        if name in SCORED or name in MADE_UP:
            found = correlations(encode, (SCORED | MADE_UP)[name]())
        elif name in PAIRED:
            found = retrieval(encode, PAIRED[name](count))
        else:
            known = ", ".join([*SCORED, *MADE_UP, *PAIRED])
            raise ValueError(f"sets: expected some of {known}, got {name!r}")
        results |= {f"{name}/{key}": value for key, value in found.items()}
    for name, scored in own.items():
        found = correlations(encode, scored)
        results |= {f"{name}/{key}": value for key, value in found.items()}
    return results


def correlations(encode: Encode, scored: sentences.Scored) -> dict[str, float]:
    """Correlations, in percent, of cosines with judgments: "spearman" and "pearson"."""
    texts = list(dict.fromkeys([*scored.first, *scored.second]))
    place = {text: i for i, text in enumerate(texts)}
    vectors = np.asarray(encode(texts))
    a, b = (vectors[[place[t] for t in side]] for side in (scored.first, scored.second))
    found = evaluation.sts_correlations(a, b, scored.scores)
    return {name: 100 * value for name, value in found.items()}


def retrieval(encode: Encode, paired: sentences.Paired) -> dict[str, float]:
    """How well queries find their documents among all, in percent, by cosine.

    Returns:
      "recall_at_1" and "mrr", the mean reciprocal rank; documents of equal score count
      by their expected rank.
    """
    queries, documents = (unit(encode(texts)) for texts in paired)
    ranks = evaluation.gold_ranks(queries, documents, np.arange(len(queries)))
    ranks = np.asarray(ranks, np.float64)
    return {
        "recall_at_1": 100 * float(np.mean(ranks <= 1)),
        "mrr": 100 * float(np.mean(1 / ranks)),
    }


def geometry(encode: Encode, paired: sentences.Paired) -> dict[str, float]:
    """Where texts lie on the unit sphere, by pairs that mean the same.

    Returns:
      "alignment" of the pairs and "uniformity" of all texts (nats), lower is better in
      both; "effective_rank" and "mean_cosine" of all texts, which show a collapse;
      "mrr" as `retrieval`, in percent.

    References:
      Wang and Isola 2020, arXiv:2005.10242; Gao et al. 2021, arXiv:2104.08821,
      section 5.
    """
    a, b = np.split(unit(encode([*paired.queries, *paired.documents])), 2)
    return {name: float(value) for name, value in measures(a, b).items()}


@jax.jit
def measures(a: Float[Array, "n d"], b: Float[Array, "n d"]) -> dict[str, Array]:
    """`geometry` as one program."""
    both = jnp.concatenate([a, b])
    ranks = evaluation.gold_ranks(a, b, jnp.arange(len(a)))
    return {
        "alignment": evaluation.alignment(a, b),
        "uniformity": evaluation.uniformity(both),
        "effective_rank": evaluation.effective_rank(both),
        "mean_cosine": evaluation.average_cosine(both),
        "mrr": 100 * jnp.mean(1 / ranks),
    }


def unit(vectors: np.ndarray) -> np.ndarray:
    """Rows of length 1, in float32; rows of zeros stay."""
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, 1e-12)


# Hard negatives


def mine(
    encode: Encode,
    queries: Sequence[str],
    positives: Sequence[str],
    corpus: Sequence[str],
    *,
    k: int,
    **limits: Any,
) -> Int[np.ndarray, "q k"]:
    """Texts of a corpus that are close to a query and not its answer, hardest first.

    No copy of a query or of its answer is returned, and of equal texts the first only.

    Args:
      encode: texts to embeddings, compared by cosine.
      queries: texts.
      positives: the answer of each, a text of the corpus.
      corpus: texts.
      k: negatives per query, at most the different texts.
      **limits: `margin`, `relative_margin`, `skip` and `within` of
        `search.hard_negatives`, against negatives that nobody has labeled.

    Returns:
      rows of the corpus; -1 where the limits leave fewer than k.

    Raises:
      ValueError: not as many positives as queries, or some that are not in the corpus;
        k or a limit out of range.
    """
    if len(queries) != len(positives):
        raise ValueError(
            f"positives: expected {len(queries)} (the queries), got {len(positives)}"
        )
    texts = list(dict.fromkeys(corpus))
    place = {text: i for i, text in enumerate(texts)}
    lost = [text for text in positives if text not in place]
    if lost:
        raise ValueError(
            f"positives: expected texts of the corpus, got {len(lost)} others, the "
            f"first {lost[0][:60]!r}"
        )
    own = [
        [place[p], place.get(q, -1)] for q, p in zip(queries, positives, strict=True)
    ]
    _, found = search.hard_negatives(
        unit(encode(list(queries))), unit(encode(texts)), np.asarray(own), k=k, **limits
    )
    first = {text: row for row, text in reversed(list(enumerate(corpus)))}
    rows = np.array([*(first[text] for text in texts), -1])
    return rows[np.asarray(found)].astype(np.int32)
