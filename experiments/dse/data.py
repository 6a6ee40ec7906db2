"""Pairs of texts with labels, the teacher's logits of them, and rows of tokens."""

import collections
import functools
import pathlib
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import packaged, sentences
from contrastive_jax.data.batches import array_batches
from contrastive_jax.tasks import sentences as tasks
from contrastive_jax.tasks import text_encoders
from experiments.dse import model

PARTS = ("train", "validation", "test")


class Pairs(NamedTuple):
    """Pairs of texts.

    Attributes:
      first: texts.
      second: as many texts.
      labels: what is to be said of each pair, [n] float64.
    """

    first: list[str]
    second: list[str]
    labels: np.ndarray


def read(config) -> dict[str, Pairs]:
    """Pairs of "train" (labeled ones first), "validation" and "test".

    Raises:
      DataMissing: a package could not be fetched, or a file is not there.
      ValueError: fewer pairs than the config asks for.
    """
    d = config.data
    sizes = {
        "train": d.labeled + d.unlabeled,
        "validation": d.validation,
        "test": d.test,
    }
    if d.name in ("verses", "synthetic"):
        if d.name == "verses":
            sides = [
                verses(side, n, d.words, d.pool, d.negatives, config.seed)
                for side, n in enumerate((sizes["train"] + d.validation, d.test))
            ]
        else:
            made = sentences.synthetic_pairs(sum(sizes.values()))
            sides = [Pairs(*made), Pairs(*(x[-d.test :] for x in made))]
        middle, end = sizes["train"], sizes["train"] + d.validation
        ranges = ((0, 0, middle), (0, middle, end), (1, 0, d.test))
        return {
            part: Pairs(*(x[start:stop] for x in sides[i]))
            for part, (i, start, stop) in zip(PARTS, ranges, strict=True)
        }
    found = {}
    for part, size in sizes.items():
        file = pathlib.Path(d.name.replace("{split}", part)).expanduser()
        if "{split}" not in d.name or not file.exists():
            raise packaged.DataMissing(
                f"data.name: expected verses, synthetic or a path with {{split}} to "
                f"files with columns sentence1, sentence2 and label, got {d.name!r} "
                f"({file} is not there)"
            )
        whole = sentences.read_sts(file)
        if len(whole.first) < size:
            raise ValueError(f"{file}: expected {size} pairs, got {len(whole.first)}")
        found[part] = Pairs(*(x[:size] for x in whole))
    return found


@functools.cache
def verses(side, count, words, pool, negatives, seed) -> Pairs:
    """Modern verses, each with its old translation (1) and with a wrong one (0).

    The wrong one is drawn from the nearest by `bag_of_words`. Both sides have verses of
    their own, whatever the seed, as queries and as answers.

    Args:
      side: 0 for training, 1 for the test.
      count: pairs.
      words: most words of a text.
      pool: verses of a side.
      negatives: so many nearest to draw from.
      seed: of the verses that are queries, and of the wrong ones.
    """
    whole = sentences.verses()
    short = [
        (new, old)
        for new, old in zip(*whole, strict=True)
        if all(4 <= len(text.split()) <= words for text in (new, old))
    ]
    if 2 * pool > len(short) or count > 2 * pool:
        raise ValueError(
            f"data.pool: expected {-(-count // 2)} (half of the pairs) to "
            f"{len(short) // 2} (half of the verses of at most {words} words), got "
            f"{pool}"
        )
    order = np.random.default_rng(0).permutation(len(short))
    new, old = zip(*(short[i] for i in order[side * pool :][:pool]), strict=True)
    rng = np.random.default_rng((seed, side))
    rows = rng.permutation(pool)[: -(-count // 2)]
    asked, right = [new[i] for i in rows], [old[i] for i in rows]
    near = tasks.mine(bag_of_words([*new, *old]), asked, right, old, k=negatives)
    wrong = near[np.arange(len(rows)), rng.integers(negatives, size=len(rows))]
    second = [
        text for i, j in zip(rows, wrong, strict=True) for text in (old[i], old[j])
    ]
    first = [text for text in asked for _ in range(2)]
    labels = np.tile([1.0, 0.0], len(rows))
    return Pairs(first[:count], second[:count], labels[:count])


def bag_of_words(texts, width=512):
    """Texts to sums of a random direction per word, weighed by its rarity in `texts`.

    Returns:
      a function of a list of texts, to [n, width] float32.
    """
    # In the order of the texts; that of a set differs from process to process.
    counts = collections.Counter(
        word for text in texts for word in dict.fromkeys(model.words_of(text))
    )
    column = {word: i for i, word in enumerate(counts)}
    rarity = np.log(len(texts) / np.array([*counts.values()]))
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (len(column), width))
    vectors = (rarity[:, None] * signs).astype(np.float32)

    def encode(texts):
        rows = [[column[w] for w in model.words_of(t) if w in column] for t in texts]
        return np.stack([vectors[row].sum(axis=0) for row in rows])

    return encode


# Rows


def arrays(config, workdir=None) -> dict[str, dict[str, np.ndarray]]:
    """Rows of each part: tokens, labels and the teacher's logits.

    Args:
      config: of the experiment.
      workdir: where the teacher's logits are kept; without it `overlap` stands in for
        the teacher, which only gives a batch its shape.
    """
    parts = read(config)
    own = config
    if workdir is None:
        own = config.copy_and_resolve_references()
        own.teacher.path = "overlap"
    folder = None if workdir is None else pathlib.Path(workdir) / "teacher"
    logits = {
        part: model.teach(own, pairs, folder and folder / f"{part}.npz")
        for part, pairs in parts.items()
    }
    if workdir is not None:
        logits = {part: model.task_logits(config, x) for part, x in logits.items()}
    if config.teacher.calibrate:
        few = slice(0, config.data.labeled)
        scale, offset = model.calibrate(
            logits["train"][few], parts["train"].labels[few]
        )
        logits = {part: scale * x + offset for part, x in logits.items()}
    tokenizer = text_encoders.make_tokenizer(config)
    return {
        part: rows(config, tokenizer, pairs, logits[part])
        for part, pairs in parts.items()
    }


def rows(config, tokenizer, pairs: Pairs, teacher) -> dict[str, np.ndarray]:
    """Pairs as rows: first, second [n, t] and where they are real, label, teacher."""
    whole = config.loss.task == "multiclass"
    out = {"label": pairs.labels.astype(np.int32 if whole else np.float32)}
    for name, texts in (("first", pairs.first), ("second", pairs.second)):
        found = text_encoders.rows(tokenizer, texts, config.data.length)
        out |= {name: found["tokens"], f"{name}_where": found["where"]}
    teacher = np.broadcast_to(teacher, (len(teacher), config.head.classes))
    labeled = np.arange(len(teacher)) < config.data.labeled
    return out | {"teacher": teacher.astype(np.float32), "labeled": labeled}


def batches(config, start_step, arrays_of=None):
    """Shuffled rows of training; without the teacher those with a label alone."""
    own = (arrays(config) if arrays_of is None else arrays_of)["train"]
    if config.loss.coeff == 0 or not config.loss.unlabeled:
        own = {name: x[: config.data.labeled] for name, x in own.items()}
    return array_batches(
        own,
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )
