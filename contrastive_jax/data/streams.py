"""Streams of tokens and windows of them: letters of packaged English, or own files.

Letters are 0 for the space and 1 to 26 for a to z, as in text8. A window begins with a
chosen token (the space, an end of text), so that its first token is always the same.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Iterator

import numpy as np

from contrastive_jax.data import packaged
from contrastive_jax.data.batches import Batch, Rows, row_batches

ALPHABET = " abcdefghijklmnopqrstuvwxyz"
SPACE = 0

# Texts of each category of the Brown corpus, a (news) to r (humor).
COUNTS = (44, 27, 17, 17, 36, 48, 75, 30, 80, 29, 24, 6, 29, 29, 9)
BROWN = dict(zip("abcdefghjklmnpr", COUNTS, strict=True))


@dataclasses.dataclass(frozen=True)
class Streams:
    """Streams of tokens, [n] unsigned, one per split; no text is in two splits.

    Attributes:
      train: for training.
      validation: for model selection.
      test: for reporting.
    """

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def encode(text: str) -> np.ndarray:
    """Text as tokens; each run of other characters than letters becomes one space.

    Examples:
      >>> encode("Ab, c.").tolist()
      [1, 2, 0, 3, 0]
    """
    plain = re.sub("[^a-z]+", " ", text.lower()).encode()
    codes = np.frombuffer(plain, np.uint8)
    return np.where(codes == ord(" "), SPACE, codes - ord("a") + 1).astype(np.uint8)


def decode(tokens: np.ndarray) -> str:
    """Tokens as text; tokens other than letters and space become underscores.

    Examples:
      >>> decode(np.array([1, 2, 0, 99]))
      'ab _'
    """
    return "".join(ALPHABET[t] if t < len(ALPHABET) else "_" for t in map(int, tokens))


@functools.cache
def brown() -> Streams:
    """The Brown corpus; one text of ten is for validation and one for the test.

    Raises:
      packaged.DataMissing: it is not in the cache and could not be fetched.
    """
    names = [f"c{c}{i:02d}" for c, count in BROWN.items() for i in range(1, count + 1)]
    files = packaged.read_members("brown", names)
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for i, name in enumerate(names):
        pairs = files[name].decode("latin-1").split()  # word/tag
        text = " ".join(pair.rpartition("/")[0] for pair in pairs)
        part = {0: "test", 5: "validation"}.get(i % 10, "train")
        parts[part].append(encode(f" {text}"))
    return Streams(**{part: np.concatenate(x) for part, x in parts.items()})


def synthetic(seed: int = 0, words: int = 4000) -> Streams:
    """A Markov chain over 24 made-up words, for tests; needs no download."""
    rng = np.random.default_rng(seed)
    vocabulary = [
        "".join(rng.choice(list(ALPHABET[1:9]), n)) for n in rng.integers(2, 6, 24)
    ]
    size = len(vocabulary)
    transitions = rng.dirichlet(np.full(size, 0.1), size=size)

    def stream(count):
        word, text = 0, []
        for _ in range(count):
            word = rng.choice(size, p=transitions[word])
            text.append(vocabulary[word])
        return encode(" " + " ".join(text))

    return Streams(stream(words), stream(words // 8), stream(words // 8))


def own_files(pattern: str) -> Streams:
    """Streams in `.npy` files, memory-mapped.

    Args:
      pattern: path with "{split}" for train, validation and test; without a file for
        the test the validation serves.

    Raises:
      packaged.DataMissing: a file is not there.
    """

    def open_part(split):
        file = pathlib.Path(pattern.replace("{split}", split)).expanduser()
        if not file.exists():
            if split == "test":
                return open_part("validation")
            raise packaged.DataMissing(
                f"data.name: {file} is not there; write the tokens of the split "
                f"{split!r} to it as a one-dimensional unsigned array (numpy.save)"
            )
        return np.load(file, mmap_mode="r")

    return Streams(*map(open_part, ("train", "validation", "test")))


def load(name: str) -> Streams:
    """Streams by name: "brown", "synthetic", or a path with "{split}" for own files.

    Raises:
      packaged.DataMissing: it is not there, or could not be fetched.
      ValueError: no such text.
    """
    if "{split}" in name:
        return own_files(name)
    readers = {"brown": brown, "synthetic": synthetic}
    if name not in readers:
        raise ValueError(
            f"data.name: expected {', '.join(sorted(readers))} or a path with "
            f"{{split}}, got {name!r}"
        )
    return readers[name]()


def window_starts(stream: np.ndarray, length: int, first: int = SPACE) -> np.ndarray:
    """Positions of the token `first` at which a whole window begins.

    Raises:
      ValueError: the stream is shorter than a window.

    Examples:
      >>> window_starts(encode(" ab cd ef"), 4)
      array([0, 3])
    """
    starts = np.flatnonzero(stream[: max(len(stream) - length + 1, 0)] == first)
    if not len(starts):
        raise ValueError(
            f"length: no window of {length} tokens that begins with token {first} in a "
            f"stream of {len(stream)}"
        )
    return starts


def windows(
    stream: np.ndarray, length: int, count: int, first: int = SPACE
) -> np.ndarray:
    """`count` windows spread evenly over a stream, [count, length] int32."""
    starts = window_starts(stream, length, first)
    chosen = starts[np.arange(count) * len(starts) // count]
    return stream[chosen[:, None] + np.arange(length)].astype(np.int32)


def window_batches(
    stream: np.ndarray,
    length: int,
    *,
    first: int = SPACE,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Endless shuffled batches of windows; batch t is a function of (seed, t).

    Yields:
      tokens: [batch_size, length] int32.

    Raises:
      ValueError: a stream without a window, or a batch larger than the windows.
    """
    starts = window_starts(stream, length, first)

    def read(rows):
        positions = starts[rows][:, None] + np.arange(length)
        return {"tokens": stream[positions].astype(np.int32)}

    rows = Rows(len(starts), read)
    return row_batches(rows, batch_size=batch_size, seed=seed, start_step=start_step)
