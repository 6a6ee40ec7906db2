"""Texts whose labels have names, many of them rare, some never seen in training.

WordNet: the text is the definition of a noun, its label the noun that it is a kind of,
and the label's text the synonyms and definition of that. Without `data.names` words of
the label's name are taken out of its texts, so that none is found by its name. Labels
are numbered from the most frequent to the rarest; those for validation and those for
the test, which have no training text, come last.

Of the check of NCE: outcomes of contexts whose chances are known.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import epoch_batches, packaged, sentences, vocabulary
from contrastive_jax.data.formats import tables
from experiments.primer import model

PARTS = ("train", "validation", "test", "unseen_validation", "unseen_test")


class Raw(NamedTuple):
    """Texts and what their labels are called.

    Attributes:
      texts: (label, text) each.
      names: of each label, by which it is called.
      descriptions: of each label, a text that says what it is.
    """

    texts: list[tuple[str, str]]
    names: dict[str, str]
    descriptions: dict[str, str]


class Texts(NamedTuple):
    """Everything as numbers of words.

    Attributes:
      tokens: of each part, [n, t] int32, 0 where there is no word.
      labels: of each part, [n] int32.
      label_tokens: names and descriptions of all labels, [c, t].
      names: of all labels.
      seen: labels that have training texts come first, this many.
      counts: training texts of each of them.
      vocabulary: of training texts and of the seen labels.
    """

    tokens: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    label_tokens: np.ndarray
    names: list[str]
    seen: int
    counts: np.ndarray
    vocabulary: vocabulary.Vocabulary


@functools.cache
def wordnet() -> Raw:
    """All nouns of WordNet 3.0 whose definition is not that of a label, by hypernym.

    Raises:
      DataMissing: the package could not be fetched.
    """
    file = packaged.read_member("wordnet", "usr/share/wordnet/data.noun").decode()
    return by_hypernym(file.splitlines())


def by_hypernym(lines: list[str]) -> Raw:
    """The definitions of a WordNet data file, by the first hypernym of each."""
    senses, above = {}, {}
    for line in lines:
        if line and line[0] != " ":  # the license
            number, *fields = line.partition(" | ")[0].split()
            senses[number] = sentences.read_sense(line)
            pointers = fields[3 + 2 * int(fields[2], 16) :]
            kinds = [b for a, b in itertools.pairwise(pointers) if a == "@"]
            if kinds:
                above[number] = kinds[0]
    labels = set(above.values())
    texts = [(b, senses[a].definition) for a, b in above.items() if a not in labels]
    names = {a: ", ".join(senses[a].words) for a in labels}
    return Raw(texts, names, {a: senses[a].definition for a in labels})


def synthetic(labels: int = 20) -> Raw:
    """Labels with words of their own, of which texts and descriptions are made."""
    rng, texts, descriptions = np.random.default_rng(0), [], {}
    for label in range(labels):
        own = [f"w{label}x{i}" for i in range(8)]
        descriptions[f"n{label}"] = " ".join(own[:5])
        for _ in range(10 + 60 // (label + 1)):
            drawn = [*rng.choice(own, 3), *(f"c{i}" for i in rng.integers(9, size=3))]
            texts.append((f"n{label}", " ".join(drawn)))
    return Raw(texts, {name: name for name in descriptions}, descriptions)


def own_files(name: str) -> Raw:
    """Texts and labels of a user, see `formats.tables`.

    A folder with texts.tsv and labels.tsv, of a label and a text each; or one table
    with columns label and text, whose labels describe themselves.

    Raises:
      DataMissing: no such files, or a label without a text.
      ValueError: naming the line that is something else.
    """
    kind, place = tables.kind_of(name)
    files = {part: str(place / f"{part}.tsv") for part in ("texts", "labels")}
    if kind != "lines":
        files = {"texts": name}
    for file in files.values():
        if not tables.kind_of(file)[1].is_file():
            raise packaged.DataMissing(
                f"data.name: expected wordnet, synthetic, csv:FILE, jsonl:FILE or a "
                f"folder with texts.tsv and labels.tsv, got {name!r}"
            )
    rows = {part: tables.read(x, ("label", "text")) for part, x in files.items()}
    if kind != "lines":
        rows["labels"] = [(label, label) for label, _ in rows["texts"]]
    descriptions = dict(rows["labels"])
    unknown = {label for label, _ in rows["texts"]} - set(descriptions)
    if unknown:
        raise packaged.DataMissing(f"{name}: no description of {sorted(unknown)[:3]}")
    return Raw(rows["texts"], {name: name for name in descriptions}, descriptions)


def read_raw(name: str) -> Raw:
    """The texts of a set by its name."""
    sets = {"wordnet": wordnet, "synthetic": synthetic}
    return sets[name]() if name in sets else own_files(name)


def without(text: str, name: str) -> str:
    """A text without the words of a name, in singular or plural.

    Examples:
      >>> without("a tree of tropical trees", "tree")
      'a of tropical'
    """
    own = {word.removesuffix("s") for word in vocabulary.words(name)}
    words = vocabulary.words(text)
    return " ".join(word for word in words if word.removesuffix("s") not in own)


def texts_of(config) -> Texts:
    """The texts of a config, split by its seed: see the module."""
    d = config.data
    values = d.name, d.names, d.min_texts, d.unseen, d.vocab_size, d.length
    return split(*values, config.seed)


@functools.lru_cache(maxsize=2)
def split(
    name: str,
    names: bool,
    min_texts: int,
    unseen: float,
    vocab_size: int,
    length: int,
    seed: int,
) -> Texts:
    """Labels with `min_texts` texts or more, a share of them unseen, texts as numbers.

    Raises:
      ValueError: too few labels for a training set and two unseen ones.
    """
    raw, rng = read_raw(name), np.random.default_rng([seed, 7])
    groups: dict[str, list[str]] = {}
    for label, text in raw.texts:
        text = text if names else without(text, raw.names[label])
        groups.setdefault(label, []).append(text)
    groups = {label: rows for label, rows in groups.items() if len(rows) >= min_texts}
    order = [sorted(groups)[i] for i in rng.permutation(len(groups))]
    held = round(unseen * len(order))
    if held < 1 or 2 * held >= len(order):
        raise ValueError(
            f"data.min_texts: expected a value that leaves labels to hold out, got "
            f"{min_texts} and with it {len(order)} labels"
        )
    seen = sorted(order[2 * held :], key=lambda label: (-len(groups[label]), label))
    labels = [*seen, *order[: 2 * held]]
    rows: dict[str, list[tuple[str, int]]] = {part: [] for part in PARTS}
    for number, label in enumerate(labels):
        texts = [groups[label][i] for i in rng.permutation(len(groups[label]))]
        if number >= len(seen):
            part = PARTS[3 + (number - len(seen)) // held]
            rows[part] += [(text, number) for text in texts]
            continue
        fifth = max(1, round(0.2 * len(texts)))
        cuts = {"validation": texts[:fifth], "test": texts[fifth : 2 * fifth]}
        cuts["train"] = texts[2 * fifth :]
        for part, own in cuts.items():
            rows[part] += [(text, number) for text in own]
    described = [f"{raw.names[label]} {raw.descriptions[label]}" for label in labels]
    known = [*(text for text, _ in rows["train"]), *described[: len(seen)]]
    words = vocabulary.build_vocabulary(known, vocab_size)
    numbers = {p: np.array([x for _, x in r], np.int32) for p, r in rows.items()}

    def encode(texts):
        tokens = words.encode(texts, length)
        return np.where(tokens > vocabulary.END, tokens, vocabulary.PAD)

    return Texts(
        tokens={part: encode([text for text, _ in r]) for part, r in rows.items()},
        labels=numbers,
        label_tokens=encode(described),
        names=[raw.names[label] for label in labels],
        seen=len(seen),
        counts=np.bincount(numbers["train"], minlength=len(seen)),
        vocabulary=words,
    )


def batches(config, start_step):
    """Shuffled training texts and their labels, or contexts and drawn outcomes."""
    if config.data.name == "categorical":
        return outcomes(config, start_step)
    texts = texts_of(config)
    arrays = {"tokens": texts.tokens["train"], "label": texts.labels["train"]}
    size, seed = config.data.batch_size, config.seed
    return epoch_batches(arrays, batch_size=size, seed=seed, start_step=start_step)


def outcomes(config, start_step):
    """Endless contexts with outcomes drawn from the known model."""
    scores, size = model.truth_of(config).scores, config.data.batch_size
    step = start_step
    while True:
        rng = np.random.default_rng([config.seed, 13, step])
        context = rng.integers(len(scores), size=size).astype(np.int32)
        drawn = scores[context] + rng.gumbel(size=(size, scores.shape[1]))
        yield {"context": context, "label": drawn.argmax(axis=1).astype(np.int32)}
        step += 1
