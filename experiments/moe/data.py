"""Texts of several fields and the pairs among them: packages, tokens, a user's files.

Every source is a `Corpus`. A pair is two texts of one field that a third one names;
what is no known pair is a negative. Texts are for training, validation or the test.
"""

import csv
import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax import parallel
from contrastive_jax.data import array_batches, descriptions, packaged, sentences
from contrastive_jax.tasks import text_encoders

SPLITS = ("train", "validation", "test")
CLS = text_encoders.SPECIAL.index("[CLS]")
SPLIT, PAIRS, DRAW = range(3)  # streams of random numbers


class Corpus(NamedTuple):
    """Texts and their pairs.

    Attributes:
      texts: all of them; of the pilot, a token each.
      field: number of each one's field, [n].
      pairs: rows of pairs, [p, 2]; both of one field and one split.
      split: number of each pair's split in `SPLITS`, [p].
      related: [n, n], whether two texts are no negatives of each other.
    """

    texts: tuple[str, ...]
    field: np.ndarray
    pairs: np.ndarray
    split: np.ndarray
    related: np.ndarray


def corpus(config: Any) -> Corpus:
    """The texts of a config, read once per process."""
    d, p = config.data, config.pilot
    return read(d.name, tuple(d.fields), d.most, d.test, p.tokens, p.clusters)


@functools.cache
def read(name, fields, most, test, tokens, clusters) -> Corpus:
    """What `corpus` returns."""
    if name == "pilot":
        return pilot(len(fields), tokens, clusters)
    if name == "synthetic":
        texts, field, pairs = made(len(fields))
    elif name == "debian":
        texts, field, pairs = packages(fields, most)
    else:
        return from_files(pathlib.Path(name).expanduser(), fields)
    # By text, the same for every seed.
    share = np.random.default_rng(SPLIT).uniform(size=len(texts))
    of_text = np.select([share < test, share < 1.8 * test], [2, 1], 0)
    same = of_text[pairs[:, 0]] == of_text[pairs[:, 1]]
    pairs = pairs[same]
    return whole(texts, field, pairs, of_text[pairs[:, 0]])


def whole(texts, field, pairs, split) -> Corpus:
    """With what is related: pairs, and texts with themselves."""
    related = np.eye(len(texts), dtype=bool)
    related[pairs[:, 0], pairs[:, 1]] = related[pairs[:, 1], pairs[:, 0]] = True
    return Corpus(tuple(texts), np.asarray(field, np.int32), pairs, split, related)


def packages(fields, most):
    """Descriptions of the packages of sections that are named together."""
    every = descriptions.described()
    pairs = descriptions.named_together(every, most=most)
    section = np.array([package.section for package in every])
    pairs = pairs[np.isin(section[pairs[:, 0]], fields)]
    rows, pairs = np.unique(pairs, return_inverse=True)
    field = [fields.index(section[i]) for i in rows]
    return [every[i].text for i in rows], field, pairs.reshape(-1, 2)


def made(fields):
    """Made-up sentences of 12 topics; every field has its own pairs of topics."""
    texts = sentences.synthetic(120 * fields)
    field = np.arange(len(texts)) // 120
    topic = np.arange(len(texts)) % 12
    order = np.tile(np.arange(12), (fields, 1))
    order = np.random.default_rng(PAIRS).permuted(order, axis=1)
    kind = order[field, topic] // 2
    i, j = np.triu_indices(len(texts), 1)
    same = (field[i] == field[j]) & (kind[i] == kind[j])
    return texts, field, np.stack([i, j], axis=1)[same]


def pilot(fields, tokens, clusters) -> Corpus:
    """Lone tokens, which every field divides into clusters of its own.

    Text k is token k % tokens in field k // tokens; its string is the token's number.
    """
    rng = np.random.default_rng(PAIRS)
    field = np.repeat(np.arange(fields), tokens)
    each = np.arange(tokens) % clusters
    cluster = np.concatenate([rng.permutation(each) for _ in range(fields)])
    i, j = np.triu_indices(len(field), 1)
    same = (field[i] == field[j]) & (cluster[i] == cluster[j])
    pairs = np.stack([i, j], axis=1)[same]
    texts = [str(k % tokens) for k in range(len(field))]
    return whole(texts, field, pairs, np.full(len(pairs), -1))  # all splits


def from_files(folder, fields) -> Corpus:
    """FIELD/{train,validation,test}.csv with columns a, b and label (1: a pair)."""
    place: dict[tuple[int, str], int] = {}
    pairs, split = [], []
    for k, name in enumerate(fields):
        for s, part in enumerate(SPLITS):
            file = folder / name / f"{part}.csv"
            if part == "validation" and not file.exists():
                continue
            if not file.exists():
                raise packaged.DataMissing(
                    f"data.name: expected debian, synthetic, pilot or a folder with "
                    f"FIELD/train.csv and test.csv, got {folder} ({file} is not there)"
                )
            with file.open(encoding="utf-8", newline="") as lines:
                for row in csv.DictReader(lines):
                    if float(row.get("label") or 1) > 0:
                        own = [place.setdefault((k, row[c]), len(place)) for c in "ab"]
                        pairs.append(own)
                        split.append(s)
    field, texts = zip(*place, strict=True)
    return whole(texts, field, np.array(pairs), np.array(split))


def shown(config, c: Corpus) -> list[int]:
    """Numbers of the fields that a method sees: all, or a specialist's own."""
    names = tuple(config.data.fields)
    return [names.index(config.data.only)] if config.data.only else [*range(len(names))]


def rows(config, c: Corpus) -> dict[str, np.ndarray]:
    """Tokens and masks of all texts, [n, t]."""
    if config.data.name == "pilot":
        # The last numbers of the vocabulary are left for the special tokens.
        own = np.array([int(x) + len(text_encoders.SPECIAL) for x in c.texts], np.int32)
        tokens = np.stack([np.full_like(own, CLS), own], axis=1)
        return {"tokens": tokens, "where": np.ones(tokens.shape, bool)}
    return text_rows(c.texts, config.data.length, text_encoders.make_tokenizer(config))


@functools.cache
def text_rows(texts, length, tokenizer):
    """`text_encoders.rows`, made once per process."""
    return text_encoders.rows(tokenizer, texts, length)


def batches(config, start_step):
    """Random pairs, as many of each field, those of one field not next to each other.

    a_tokens, b_tokens [n, t] int32, a_where, b_where [n, t], field [n] int32, apart
    [n, n]: whether a text and another pair's are no pair. Batch t depends on (seed, t)
    only.
    """
    c, own = corpus(config), rows(config, corpus(config))
    fields = shown(config, c)
    size = config.data.batch_size // len(fields)
    if size * len(fields) != config.data.batch_size:
        raise ValueError(
            f"data.batch_size: expected a multiple of {len(fields)} (the fields), got "
            f"{config.data.batch_size}"
        )
    # For the test, what is for validation is trained on too.
    last = SPLITS.index(config.eval.split)
    used = c.pairs[c.split < last]
    by_field = [used[c.field[used[:, 0]] == k] for k in fields]
    step = start_step
    while True:
        rng = np.random.default_rng([config.seed, DRAW, step])
        drawn = [x[rng.choice(len(x), size, replace=False)] for x in by_field]
        pairs = rng.permuted(np.stack(drawn, axis=1).reshape(-1, 2), axis=1)
        a, b = pairs.T
        batch = {
            f"{s}_{k}": x[i]
            for s, i in zip("ab", (a, b), strict=True)
            for k, x in own.items()
        }
        apart = ~(c.related[np.ix_(a, b)] | c.related[np.ix_(a, a)])
        batch |= {"field": c.field[a], "apart": apart}
        yield parallel.own_rows(batch)
        step += 1


def start_batches(config, start_step):
    """Both parts of texts that are in no pair (`halves`), as pairs of `batches`."""
    own, size = config.start, config.data.batch_size
    c, tokenizer = corpus(config), text_encoders.make_tokenizer(config)
    seen, every = set(c.texts), text_encoders.TEXTS[own.texts]()[: own.count]
    parts = [halves(text) for text in every if text not in seen]
    parts = [(a, b) for a, b in parts if a and b]
    sides = [
        text_rows(side, config.data.length, tokenizer)
        for side in zip(*parts, strict=True)
    ]
    arrays = {
        f"{s}_{k}": x
        for s, rows in zip("ab", sides, strict=True)
        for k, x in rows.items()
    }
    more = {"field": np.zeros(size, np.int32), "apart": ~np.eye(size, dtype=bool)}
    for batch in array_batches(
        arrays, batch_size=size, seed=config.seed, start_step=start_step
    ):
        yield batch | parallel.own_rows(more)


def halves(text: str) -> tuple[str, str]:
    """A text's first sentence and what follows; of one sentence, both its halves.

    Examples:
      >>> halves("An editor. It edits. Well."), halves("one two three")
      (('An editor', 'It edits. Well.'), ('one', 'two three'))
    """
    first, _, rest = text.strip().partition(". ")
    if rest:
        return first, rest
    words = text.split()
    cut = len(words) // 2
    return " ".join(words[:cut]), " ".join(words[cut:])


def tested(config, field):
    """Pairs of a field to tell apart [m, 2], the first half positive; for all seeds."""
    c = corpus(config)
    mine = c.pairs[c.field[c.pairs[:, 0]] == field]
    split = c.split[c.field[c.pairs[:, 0]] == field]
    mine = mine[(split == SPLITS.index(config.eval.split)) | (split < 0)]
    rng = np.random.default_rng([PAIRS, field])
    count = min(config.eval.pairs // 2, len(mine))
    positive = mine[np.sort(rng.choice(len(mine), count, replace=False))]
    every = np.unique(mine)
    i, j = np.triu_indices(len(every), 1)
    other = np.stack([every[i], every[j]], axis=1)
    other = other[~c.related[other[:, 0], other[:, 1]]]
    count = min(count, len(other))
    negative = other[np.sort(rng.choice(len(other), count, replace=False))]
    return np.concatenate([positive[:count], negative]), np.arange(2 * count) < count
