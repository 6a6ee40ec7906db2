"""Captions as tokens: a vocabulary of words, fixed-length rows of numbers."""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterable, Sequence

import numpy as np

PAD, UNKNOWN, END = 0, 1, 2
SPECIAL = ("[pad]", "[unknown]", "[end]")


def words(caption: str) -> list[str]:
    """The lower-case words of a caption: runs of letters and digits.

    Examples:
      >>> words("Flag: Côte d'Ivoire")
      ['flag', 'côte', 'd', 'ivoire']
    """
    return re.findall(r"[^\W_]+", caption.lower())


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """Words by number; 0 is padding, 1 an unknown word, 2 the end of a caption.

    Attributes:
      words: all words, the three special ones first.
    """

    words: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.words)

    @functools.cached_property
    def numbers(self) -> dict[str, int]:
        """Number of every word."""
        return {word: i for i, word in enumerate(self.words)}

    def encode(self, captions: Sequence[str], length: int) -> np.ndarray:
        """Captions as [n, length] int32: words, END, padding; long ones are cut.

        Raises:
          ValueError: a length below 2.

        Examples:
          >>> vocabulary = build_vocabulary(["a red cat", "red"], 5)
          >>> vocabulary.words[3:]
          ('red', 'a')
          >>> vocabulary.encode(["red dog"], 4).tolist()
          [[3, 1, 2, 0]]
        """
        if length < 2:
            raise ValueError(f"length: expected at least 2 tokens, got {length}")
        rows = np.full((len(captions), length), PAD, np.int32)
        for row, caption in zip(rows, captions, strict=True):
            numbers = [self.numbers.get(w, UNKNOWN) for w in words(caption)]
            numbers = [*numbers[: length - 1], END]
            row[: len(numbers)] = numbers
        return rows


def build_vocabulary(captions: Iterable[str], size: int) -> Vocabulary:
    """The most frequent words of training captions, `size` numbers in all.

    Equally frequent words are in alphabetical order.

    Raises:
      ValueError: a size without room for a word.
    """
    if size <= len(SPECIAL):
        raise ValueError(f"size: expected at least {len(SPECIAL) + 1}, got {size}")
    counts = collections.Counter(w for caption in captions for w in words(caption))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return Vocabulary((*SPECIAL, *ordered[: size - len(SPECIAL)]))
