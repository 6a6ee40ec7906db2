"""What experiments on sentences share: start, evaluation, hard negatives.

    results = evaluate(encode, sets=("lee", "glosses"))   # {"lee/spearman": 51.2, ...}

`encode` takes a list of texts and returns their embeddings, [n, d]:

    encoder = load(config.model)
    encode = functools.partial(encoder.encode, encoder.params)

Every set is read once per process, each of its texts is embedded once. Results are in
percent. `train_tokenizer` and `new_encoder` begin from scratch.
"""

import functools
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Int, Key

from contrastive_jax import evaluation, models, search
from contrastive_jax.data import sentences
from contrastive_jax.models import pretrained
from contrastive_jax.training.config import Section

Encode = Callable[[list[str]], np.ndarray]

PACKAGED = ("minilm", "reranker")
SCORED: dict[str, Callable[[], sentences.Scored]] = {
    "lee": sentences.lee,
    "wordsim353": functools.partial(sentences.word_pairs, "wordsim353"),
    "simlex999": functools.partial(sentences.word_pairs, "simlex999"),
}
# Retrieval is among as many documents as there are queries.
PAIRED: dict[str, Callable[[int], sentences.Paired]] = {
    "glosses": sentences.glosses,
    "verses": sentences.verses,
}


def model(**changes: Any) -> ml_collections.ConfigDict:
    """The section `model` of a pretrained encoder.

    `path` is "minilm" or "reranker" (packaged), or a folder in Hugging Face layout.
    """
    section = dict(path="minilm", dtype="float32", param_dtype="float32")
    return ml_collections.ConfigDict(section | changes)


def load(section: Section) -> pretrained.TextEncoder:
    """The encoder that a section `model` names, read once per process.

    Raises:
      DataMissing: a packaged one could not be fetched.
      ValueError: a path that holds none.
    """
    return load_path(section["path"], section["dtype"], section["param_dtype"])


@functools.cache
def load_path(path: str, dtype: str, param_dtype: str) -> pretrained.TextEncoder:
    """What `load` returns."""
    folder = sentences.model(path) if path in PACKAGED else path
    return pretrained.load_encoder(folder, dtype=dtype, param_dtype=param_dtype)


# From scratch

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def small(**changes: Any) -> ml_collections.ConfigDict:
    """The section of a small encoder that is trained from scratch."""
    section = dict(width=128, depth=2, heads=4, mlp_width=512, max_length=64)
    return ml_collections.ConfigDict(section | dict(dropout=0.1) | changes)


def train_tokenizer(texts: Iterable[str], vocab_size: int) -> Any:
    """A lower-casing WordPiece tokenizer as BERT has it, trained on texts.

    Args:
      texts: what it is trained on.
      vocab_size: most tokens, the five special ones included.

    References:
      Devlin et al. 2019, arXiv:1810.04805, section 3 (30,000 tokens, [CLS] and [SEP]).
    """
    import tokenizers
    from tokenizers import decoders, normalizers, pre_tokenizers, processors, trainers
    from tokenizers import models as kinds

    tokenizer = tokenizers.Tokenizer(kinds.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size, special_tokens=[*SPECIAL], show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=ends,
    )
    return tokenizer


def new_encoder(
    section: ml_collections.ConfigDict, tokenizer: Any, rng: Key[Array, ""]
) -> pretrained.TextEncoder:
    """A random encoder of the tokens of a tokenizer, with the head of a masked LM.

    Args:
      section: fields of `models.Encoder` but the size of the vocabulary, as `small`.
      tokenizer: a `tokenizers.Tokenizer`.
      rng: of its parameters.
    """
    encoder = models.Encoder(tokenizer.get_vocab_size(), **section.to_dict())
    first, second = jax.random.split(rng)
    tokens = jnp.zeros((1, 2), jnp.int32)
    params = {
        "encoder": jax.jit(encoder.init)(first, tokens)["params"],
        "head": models.token_head_init(second, encoder.vocab_size, encoder.width),
    }
    recipe = pretrained.Recipe(encoder)
    return pretrained.TextEncoder(recipe, params, tokenizer, encoder.max_length)


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
        "/pearson", "/spearman"), "glosses" (the word that WordNet defines so) and
        "verses" (the same verse in another translation): "/recall_at_1" and "/mrr".
      count: pairs of those to be retrieved, and so candidates; all when 0.
      files: judged pairs of the user by name, see `data.sentences.read_sts`.

    Raises:
      DataMissing: a set could not be fetched.
      ValueError: an unknown set, or a file that cannot be read.
    """
    own = {name: sentences.read_sts(file) for name, file in (files or {}).items()}
    results: dict[str, float] = {}
    for name in sets:
        if name in SCORED:
            found = correlations(encode, SCORED[name]())
        elif name in PAIRED:
            found = retrieval(encode, PAIRED[name](count))
        else:
            known = ", ".join([*SCORED, *PAIRED])
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
