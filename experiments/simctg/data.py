"""English as tokens: rows to train on, prompts with what really followed them."""

import functools
import re

import numpy as np

from contrastive_jax.data import packaged, streams
from contrastive_jax.data.batches import array_batches
from contrastive_jax.data.formats import tables
from contrastive_jax.tasks import language_models

SPLITS = ("train", "validation", "test")
SENTENCE = r"(?<=[.?!] )[A-Z]"


@functools.cache
def texts(name: str) -> dict[str, list[str]]:
    """Texts of each split: "brown", "synthetic", or files, see `formats.tables`.

    Of Brown, one text of ten is for validation and one for the test. Own files have
    "{split}" in their path and a text a line, or a column "text".

    Raises:
      packaged.DataMissing: they are not there and could not be fetched.
    """
    if name == "synthetic":
        made = streams.synthetic()
        return {split: [streams.decode(getattr(made, split))] for split in SPLITS}
    if name != "brown":
        if "{split}" not in name:
            raise packaged.DataMissing(
                f"data.name: expected brown, synthetic or a path with {{split}} to "
                f"files with a text a line, got {name!r}"
            )
        files = {s: tables.read(name.replace("{split}", s), ["text"]) for s in SPLITS}
        return {s: [text for (text,) in rows] for s, rows in files.items()}
    counts = streams.BROWN.items()
    names = [f"c{c}{i:02d}" for c, count in counts for i in range(1, count + 1)]
    files = packaged.read_members("brown", names)
    parts = {split: [] for split in SPLITS}
    for i, member in enumerate(names):
        pairs = files[member].decode("latin-1").split()  # word/tag
        split = {0: "test", 5: "validation"}.get(i % 10, "train")
        parts[split].append(written([pair.rpartition("/")[0] for pair in pairs]))
    return parts


def written(words: list[str]) -> str:
    """Words and signs as they are written.

    Examples:
      >>> written(["Well", ",", "``", "yes", "''", "?", "?"])
      'Well, "yes"?'
    """
    text = " ".join(words).replace("`` ", '"').replace(" ''", '"')
    text = re.sub(r"([?!;:]) \1", r"\1", text).replace("( ", "(")
    return re.sub(r" ([.,;:?!%)])", r"\1", text)


@functools.cache
def vocabulary(name: str, size: int):
    """Byte-level BPE of the training texts."""
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers, trainers

    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<pad>"], show_progress=False
    )
    bpe.train_from_iterator(texts(name)["train"], trainer)
    return bpe


def tokenizer(config):
    """That of the model to start from, else one of the training texts."""
    if config.start.path:
        section = dict(path=config.start.path, dtype="float32")
        return language_models.load(section).tokenizer
    return vocabulary(config.data.name, config.model.vocab_size)


@functools.cache
def cut(name: str, split: str, length: int, encoder) -> dict[str, np.ndarray]:
    """Texts in rows of tokens [n, length + 1], padded on the right by zeros."""
    width, rows = length + 1, []
    for encoded in encoder.encode_batch_fast(texts(name)[split]):
        ids = encoded.ids
        pieces = [ids[i : i + width] for i in range(0, len(ids), width)]
        rows += [piece for piece in pieces if len(piece) > 1]
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), width), np.int32)
    where = np.arange(width)[None, :] < lengths[:, None]
    tokens[where] = np.concatenate(rows)
    return {"tokens": tokens, "where": where}


def rows_of(config, split):
    """Rows of a split: tokens [n, length + 1] int32, where [n, length + 1]."""
    return cut(config.data.name, split, config.data.length, tokenizer(config))


def batches(config, start_step):
    """Shuffled rows; batch t depends on (seed, t) only."""
    return array_batches(
        rows_of(config, "train"),
        batch_size=config.data.batch_size,
        seed=config.seed,
        start_step=start_step,
    )


def passages(config, encode, settings):
    """Prompts [n, prefix] from random starts of sentences, what follows [n, new]."""
    rng, size = (
        np.random.default_rng(config.seed),
        settings.prefix + settings.new_tokens,
    )
    every = texts(config.data.name)[config.eval.split]
    room = 10 * size  # characters, more than so many tokens have
    places = []
    for i, text in enumerate(every):
        starts = [s.start() for s in re.finditer(SENTENCE, text)]
        starts = starts or [s.start() for s in re.finditer(r"\b\w", text)]
        places += [(i, at) for at in starts if at + room <= len(text)]
    chosen = rng.permutation(len(places))[: settings.prompts]
    texts_there = (every[i][at : at + room] for i, at in (places[j] for j in chosen))
    ids = np.stack([encode(text)[:size] for text in texts_there])
    return ids[:, : settings.prefix], ids[:, settings.prefix :]
