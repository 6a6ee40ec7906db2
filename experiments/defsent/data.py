"""WordNet as a dictionary: entries to learn, and entries that are held out.

An entry is a word, or several, with all its definitions. No definition of a held-out
entry is among those to learn, also not under another word.
"""

import functools
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import DataMissing, array_batches, sentences
from contrastive_jax.data.formats import tables
from contrastive_jax.tasks import text_encoders

SPLITS = ("test", "validation")


class Dictionary(NamedTuple):
    """Senses, and the entries of each part.

    Attributes:
      senses: all of them.
      kinds: rows of the senses that each is a kind of.
      parts: {part: {word: rows of its senses}}; "train", "test" and "validation".
    """

    senses: tuple[sentences.Definition, ...]
    kinds: tuple[tuple[int, ...], ...]
    parts: dict[str, dict[str, list[int]]]


@functools.cache
def dictionary(name: str, held_out: int, least: int, most: int) -> Dictionary:
    """The same for all seeds; of `least` to `most` definitions to an entry.

    Raises:
      DataMissing: WordNet could not be fetched.
      ValueError: too few words to hold out so many.
    """
    if name == "wordnet":
        senses, kinds = sentences.definitions(), sentences.hypernyms()
    else:
        senses, kinds = synthetic() if name == "synthetic" else read(name)
    words: dict[str, list[int]] = {}
    for row, sense in enumerate(senses):
        for word in dict.fromkeys(x.lower() for x in sense.words):
            words.setdefault(word, []).append(row)
    several = [w for w, rows in words.items() if 2 <= len(rows) <= most]
    if len(several) < 2 * held_out:
        raise ValueError(
            f"data.held_out: expected at most {len(several) // 2}, got {held_out}"
        )
    rng = np.random.default_rng(0)
    order = rng.permutation(len(several))
    parts = {
        split: {several[j]: words[several[j]] for j in order[i::2][:held_out]}
        for i, split in enumerate(SPLITS)
    }
    hidden = {r for part in parts.values() for rows in part.values() for r in rows}
    every = [*words]
    left = {
        every[i]: [row for row in words[every[i]] if row not in hidden]
        for i in rng.permutation(len(every))
    }
    train = {word: rows for word, rows in left.items() if least <= len(rows) <= most}
    return Dictionary(senses, kinds, {"train": train} | parts)


def synthetic() -> tuple[tuple[sentences.Definition, ...], tuple[tuple[int, ...], ...]]:
    """Made-up senses, each called as its first word, below twelve topics and a root."""
    texts = sentences.synthetic(480)
    topics = sentences.TOPICS
    heads = [
        sentences.Definition((f"kind {i}",), text, ())
        for i, text in enumerate(texts[: topics + 1])
    ]
    senses = [sentences.Definition((x.split()[0],), x, ()) for x in texts]
    kinds = [(), *((0,) for _ in range(topics))]
    kinds += [(1 + i % topics,) for i in range(len(texts))]
    return (*heads, *senses), tuple(kinds)


def read(path: str) -> tuple[tuple[sentences.Definition, ...], tuple[tuple, ...]]:
    """Senses of a user's table with columns word and definition; no tree.

    A .tsv file has them without a header, see `formats.tables`.

    Raises:
      DataMissing: the file is not there.
      ValueError: naming the line that is something else.
    """
    if not tables.kind_of(path)[1].is_file():
        raise DataMissing(
            f"data.name: expected wordnet, synthetic or a file, got '{path}'"
        )
    rows = tables.read(path, ("word", "definition"))
    senses = tuple(sentences.Definition((word,), text, ()) for word, text in rows)
    return senses, ((),) * len(senses)


def from_config(config) -> Dictionary:
    """The dictionary of a config."""
    d = config.data
    return dictionary(d.name, d.held_out, d.least, d.most)


def entries(config) -> dict[str, list[int]]:
    """The entries to learn: {word: rows of its senses}.

    Raises:
      ValueError: fewer than `data.entries`.
    """
    train = from_config(config).parts["train"]
    if len(train) < config.data.entries:
        raise ValueError(
            f"data.entries: expected at most {len(train)}, got {config.data.entries}"
        )
    return dict(list(train.items())[: config.data.entries])


def token_entries(config, tokenizer) -> dict[str, list[int]]:
    """Of all entries to learn, those that are one token: DefSent's."""
    train = from_config(config).parts["train"]
    ids = tokenizer.get_vocab()
    return {word: rows for word, rows in train.items() if word in ids}


def learn_rows(config, tokenizer) -> dict[str, np.ndarray]:
    """A row per definition of an entry: tokens and where [n, t], labels [n].

    Labels are numbers of entries or, at the stage "words", of tokens.
    """
    if config.stage == "words":
        chosen, ids = token_entries(config, tokenizer), tokenizer.get_vocab()
        numbers = [ids[word] for word in chosen]
    else:
        chosen = entries(config)
        numbers = list(range(len(chosen)))
    senses = from_config(config).senses
    texts = [senses[row].definition for rows in chosen.values() for row in rows]
    counts = [len(rows) for rows in chosen.values()]
    labels = np.repeat(np.asarray(numbers, np.int32), counts)
    rows = text_encoders.rows(tokenizer, texts, config.data.length)
    return {**rows, "labels": labels}


def batches(config, start_step, arrays=None):
    """Shuffled definitions; batch t depends on (seed, t) only."""
    if arrays is None:
        arrays = learn_rows(config, text_encoders.make_tokenizer(config))
    return array_batches(
        arrays,
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


# Held-out entries


def other_definitions(config, split, count=0) -> sentences.Paired:
    """Two definitions of each held-out entry, every text once; all when 0."""
    found = from_config(config)
    rng, seen, first, second = np.random.default_rng(1), set(), [], []
    for rows in found.parts[split].values():
        pair = [found.senses[row].definition for row in rng.permutation(rows)[:2]]
        if pair[0] != pair[1] and not seen & set(pair):
            seen |= set(pair)
            first.append(pair[0])
            second.append(pair[1])
    count = count or len(first)
    return sentences.Paired(first[:count], second[:count])


def path_pairs(config, split) -> sentences.Scored:
    """Held-out definitions of things with the similarity of their places in the tree.

    Every second pair is the closest of 50 drawn; no pair where there is no tree.
    """
    found = from_config(config)
    place = functools.cache(lambda row: ancestors(found.kinds, row))
    rows = {row for own in found.parts[split].values() for row in own}
    if not any(found.kinds):
        return sentences.Scored([], [], np.zeros(0))
    root = found.kinds.index(())  # all things are kinds of it
    rows = [row for row in sorted(rows) if root in place(row)]
    rng, pairs = np.random.default_rng(2), {}
    while len(pairs) < config.eval.pairs:
        drawn = rng.choice(rows, (50 if len(pairs) % 2 else 1, 2)).tolist()
        own = [(path_similarity(place(a), place(b)), a, b) for a, b in drawn if a != b]
        score, a, b = max(own, default=(0.0, 0, 0))
        first, second = (found.senses[row].definition for row in (a, b))
        if score and first != second:
            pairs[min(a, b), max(a, b)] = first, second, score
    first, second, scores = zip(*pairs.values(), strict=True)
    return sentences.Scored([*first], [*second], np.array(scores))


def ancestors(kinds: tuple[tuple[int, ...], ...], row: int) -> dict[int, int]:
    """Steps from a sense up to every sense that it is a kind of, itself included."""
    steps, level, distance = {}, [row], 0
    while level:
        steps |= {r: distance for r in level if r not in steps}
        above = {up for r in level for up in kinds[r]}
        level, distance = [r for r in above if r not in steps], distance + 1
    return steps


def path_similarity(first: dict[int, int], second: dict[int, int]) -> float:
    """1 / (1 + steps on the shortest way over a common ancestor); 0 without one.

    References:
      Pedersen et al. 2004, WordNet::Similarity (path).

    Examples:
      >>> kinds = ((), (0,), (1,), (0,))
      >>> path_similarity(ancestors(kinds, 2), ancestors(kinds, 3))
      0.25
    """
    common = first.keys() & second.keys()
    steps = min((first[r] + second[r] for r in common), default=None)
    return 0.0 if steps is None else 1 / (1 + steps)
