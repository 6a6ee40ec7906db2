"""Sentences, and pairs with a hard negative each, as rows of tokens.

Verses of two translations are the pairs: those of the test (`tasks.sentences`) are
taken out, some are held out to choose by, the others train.
"""

import pathlib

import numpy as np

from contrastive_jax.data import sentences
from contrastive_jax.tasks import sentences as tasks
from contrastive_jax.tasks import text_encoders


def pairs(config):
    """Pairs to train on, and held-out ones; none of them is in the test.

    Made-up sentences about one topic where `data.texts` is "synthetic".
    """
    count = config.eval.pairs
    if config.data.texts == "synthetic":
        found = sentences.Paired(*(sentences.synthetic(seed=seed) for seed in (2, 3)))
    else:
        tested = sentences.verses(config.eval.count)
        taken = {*tested.queries, *tested.documents}
        found = sentences.verses()
        kept = [
            pair for pair in zip(*found, strict=True) if not taken.intersection(pair)
        ]
        order = np.random.default_rng(0).permutation(len(kept))
        found = sentences.Paired(*zip(*(kept[i] for i in order), strict=True))
    held_out = sentences.Paired(*(list(side[:count]) for side in found))
    training = sentences.Paired(*(list(side[count:]) for side in found))
    return training, held_out


def columns(config, encode=None):
    """Texts to train on: one, two (a pair) or three (and a hard negative) of each.

    Args:
      config: all settings.
      encode: texts to embeddings, to mine hard negatives with.
    """
    data = config.data
    if data.file:
        text = pathlib.Path(data.file).expanduser().read_text(encoding="utf-8")
        lines = dict.fromkeys(line for line in text.splitlines() if line.strip())
        return [*zip(*(line.split("\t") for line in [*lines][: data.count]), strict=True)]
    if data.kind == "sentences" and data.texts != "verses":
        # No text twice: it would be its own negative.
        return [[*dict.fromkeys(text_encoders.TEXTS[data.texts]())][: data.count]]
    queries, documents = (side[: data.count] for side in pairs(config)[0])
    if data.kind == "sentences":
        return [queries]
    if data.kind == "pairs":
        return [queries, documents]
    mined = tasks.mine(encode, queries, documents, documents, k=1, margin=data.margin)
    own = np.flatnonzero(mined[:, 0] >= 0)
    negatives = [documents[i] for i in mined[own, 0]]
    return [[queries[i] for i in own], [documents[i] for i in own], negatives]


def rows_of(config, encode=None):
    """Rows of a batch: tokens [n, s, t] int32 and where [n, s, t], s texts each."""
    tokenizer = text_encoders.make_tokenizer(config)
    parts = [
        text_encoders.rows(tokenizer, texts, config.data.length)
        for texts in columns(config, encode)
    ]
    return {name: np.stack([part[name] for part in parts], axis=1) for name in parts[0]}
