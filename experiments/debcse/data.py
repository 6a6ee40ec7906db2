"""Texts to train on with their candidates; pairs of texts with graded similarity.

"wordnet": definitions of nouns, graded by how near the nouns are in WordNet. Other
names are files of a text a line, or with a column "text", or "controlled"
(`synthetic`), where topic and style of every text are known.
"""

import functools
import re
from typing import NamedTuple

import numpy as np

from contrastive_jax import search
from contrastive_jax.data import Rows, packaged, row_batches, sentences
from contrastive_jax.data.formats import tables
from contrastive_jax.tasks import text_encoders
from experiments.debcse import measure, model

SENSES = "usr/share/wordnet/data.noun"


class Texts(NamedTuple):
    """Tokens of texts, special ones included.

    Attributes:
      tokens: ids, [n, t] int32, 0 after the end.
      where: real tokens, [n, t].
      classes: [n, 2], topic and style; None where they are not known.
    """

    tokens: np.ndarray
    where: np.ndarray
    classes: np.ndarray | None = None


class Candidates(NamedTuple):
    """What may be drawn for each text of a corpus, [n, c].

    Attributes:
      rows: rows of the corpus.
      semantic: cosines under the reference.
      surface: how alike they look, in [0, 1].
    """

    rows: np.ndarray
    semantic: np.ndarray
    surface: np.ndarray


class Prepared(NamedTuple):
    """All that a run needs.

    Attributes:
      train: texts to train on.
      table: vectors of tokens [v, d], whose mean is the reference; None with another.
      candidates: of "positives" and of "negatives".
      validation: pairs to choose by.
      test: pairs to report.
      tokenizer: that of the texts; None for synthetic ones.
    """

    train: Texts
    table: np.ndarray | None
    candidates: dict[str, Candidates]
    validation: measure.Pairs | None
    test: measure.Pairs | None
    tokenizer: object


def prepared(config):
    """`Prepared` of a config, made once per process."""
    folder, path = config.model.path, config.reference.path
    sizes = model.vocab_size(config.model), config.reference.width
    return prepare(config.seed, sizes, tuple(config.data.items()), path, folder)


@functools.lru_cache(maxsize=2)
def prepare(seed, sizes, data, path, folder):
    """See `prepared`; paths are those of the reference and of the model."""
    own = dict(data)
    rng, tokenizer = np.random.default_rng(seed), None
    if own["name"] == "controlled":
        train, validation, test, table = synthetic(rng, own, sizes)
    else:
        texts, *graded = texts_of(rng, own)
        tokenizer = (
            text_encoders.load_path(folder, "float32", "float32").tokenizer
            if folder
            else text_encoders.train_tokenizer(texts, sizes[0])
        )
        cut = functools.partial(as_rows, tokenizer, length=own["length"])
        train = cut(texts)
        validation, test = (x and measure.as_pairs(cut(x[0]), *x[1:]) for x in graded)
        table = None if path else model.token_vectors(train, *sizes)
    if path:
        whole = text_encoders.load_path(path, "float32", "float32")
        vectors = whole.encode(whole.params, texts)
    else:
        vectors = model.averages(train, table)
    vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1), 1e-9)[:, None]
    n, c = len(vectors), own["candidates"]
    itself = np.arange(n)[:, None]
    _, near = search.nearest_neighbors(vectors, vectors, k=c, exclude=itself)
    others = (itself + rng.integers(1, n, (n, c))) % n  # any but itself
    candidates = {
        role: described(train, vectors, rows, own["surface"])
        for role, rows in (("positives", near), ("negatives", others))
    }
    return Prepared(train, table, candidates, validation, test, tokenizer)


def described(texts, vectors, rows, surface):
    """`Candidates` with their similarities to the texts whose they are."""
    rows = np.asarray(rows, np.int32)
    vectors = np.asarray(vectors, np.float32)
    semantic = np.stack(
        [vectors[near] @ x for x, near in zip(vectors, rows, strict=True)]
    )
    alike = model.surfaces(texts, np.arange(len(rows)), rows, surface)
    return Candidates(rows, semantic, alike)


# Texts


def texts_of(rng, own):
    """Texts to train on, and pairs to choose by and to report, of texts not seen."""
    if own["name"] != "wordnet":
        if not tables.kind_of(own["name"])[1].is_file():
            raise packaged.DataMissing(
                f"data.name: expected wordnet, controlled or a file with a text a "
                f"line, got {own['name']!r}"
            )
        rows = tables.read(own["name"], ["text"])
        return list(dict.fromkeys(text for (text,) in rows)), None, None
    texts, chains = nouns()
    order = rng.permutation(len(texts))
    parts = np.split(order, np.cumsum([own["count"], own["validation"]]))
    graded = (
        measure.graded_pairs(rng, texts, chains, part[:size])
        for part, size in zip(parts[1:], (own["validation"], own["test"]), strict=True)
    )
    return [texts[i] for i in parts[0]], *graded


@functools.cache
def nouns():
    """Different definitions of nouns, and of each its chain of hypernyms, root first.

    A noun with several hypernyms keeps the first.
    """
    lines = packaged.read_member("wordnet", SENSES).decode().splitlines()
    texts, parent = {}, {}
    for line in lines:
        if line[0] != " ":  # the license
            found = re.search(r" @i? (\d{8}) n", line)
            parent[line[:8]] = found and found[1]
            texts.setdefault(sentences.read_sense(line).definition, line[:8])

    def chain(noun):
        return (*chain(parent[noun]), noun) if noun else ()

    return list(texts), [chain(noun) for noun in texts.values()]


def as_rows(tokenizer, texts, length):
    """`Texts` of a list of texts."""
    return Texts(**text_encoders.rows(tokenizer, texts, length))


def synthetic(rng, own, sizes):
    """Training texts, pairs of other topics twice, and vectors of the tokens.

    Each text has 4 of the 15 words of its topic and 8 of the 15 words of its style, in
    any order; there are 20 topics and 20 styles. The vectors of the words of a topic or
    style have a common offset; those of topics are twice as long as those of styles.
    """
    kinds, words, width = 20, 15, sizes[1]
    offsets = np.repeat(rng.normal(size=(2 * kinds, width)), words, axis=0)
    table = offsets + rng.normal(size=(2 * kinds * words, width))
    scale = np.repeat([1.6, 0.8], kinds * words)[:, None]
    table = np.concatenate([np.zeros((1, width)), scale * table]).astype(np.float32)

    def draw(count):
        classes = rng.integers(kinds, size=(count, 2))
        picks = [
            rng.permuted(np.tile(np.arange(words), (count, 1)), axis=1)[:, :k]
            for k in (4, 8)
        ]
        topic = 1 + classes[:, :1] * words + picks[0]
        style = 1 + (kinds + classes[:, 1:]) * words + picks[1]
        tokens = rng.permuted(np.concatenate([topic, style], axis=1), axis=1)
        return Texts(tokens.astype(np.int32), np.ones(tokens.shape, bool), classes)

    def unrelated(count):
        texts = draw(count)
        first, second = rng.integers(count, size=(2, 10 * count))
        topics = np.asarray(texts.classes)[:, 0]
        other = topics[first] != topics[second]
        first, second = first[other], second[other]
        return measure.as_pairs(texts, first, second, np.zeros(len(first)))

    train = draw(own["count"])
    return train, unrelated(own["validation"]), unrelated(own["test"]), table


# Batches


def batches(config, start_step):
    """Shuffled texts with their candidates; batch t depends on (seed, t) only.

    tokens, where [n, t]; row [n]; and of each role that is drawn, as "positives_row"
    and so on, row, semantic, surface [n, c], tokens and where [n, c, t].
    """
    own = prepared(config)

    def read(rows):
        texts = own.train
        batch = {
            "tokens": texts.tokens[rows],
            "where": texts.where[rows],
            "row": rows.astype(np.int32),
        }
        for role in drawn_roles(config):
            near = Candidates(*(x[rows] for x in own.candidates[role]))
            batch |= {
                f"{role}_row": near.rows,
                f"{role}_semantic": near.semantic,
                f"{role}_surface": near.surface,
                f"{role}_tokens": texts.tokens[near.rows],
                f"{role}_where": texts.where[near.rows],
            }
        return batch

    return row_batches(
        Rows(len(own.train.tokens), read),
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def drawn_roles(config):
    """The roles whose candidates are drawn."""
    left_out = ("dropout", "none")
    roles = ("positives", "negatives")
    return [role for role in roles if config.loss[role] not in left_out]
