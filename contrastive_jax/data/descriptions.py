"""What Debian's packages say of themselves, and which are named together.

`described` are the packages of Debian 12 with their descriptions; `named_together`
pairs those that a third one suggests or recommends, as papers that a third one cites.
"""

import functools
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from contrastive_jax.data import packaged


class Described(NamedTuple):
    """A package.

    Attributes:
      name: its name.
      section: the part of the archive it is in, as "games".
      source: what it is built from; packages of one source share paragraphs.
      text: its synopsis and its description, one paragraph.
      named: packages that it suggests or recommends, in order.
    """

    name: str
    section: str
    source: str
    text: str
    named: tuple[str, ...]


@functools.cache
def described() -> tuple[Described, ...]:
    """The packages of Debian 12 that have an English description.

    Raises:
      DataMissing: the lists could not be fetched, or are of another point release.
    """
    lists = (
        packaged.path(f"debian-{part}").read_text(encoding="utf-8")
        for part in ("packages", "descriptions")
    )
    return read_lists(*lists)


@functools.cache
def texts() -> tuple[str, ...]:
    """The descriptions in an order of chance, the same every time."""
    every = described()
    order = np.random.default_rng(0).permutation(len(every))
    return tuple(every[i].text for i in order)


def read_lists(packages: str, descriptions: str) -> tuple[Described, ...]:
    """The packages of two lists of apt, in the order of the first.

    Examples:
      >>> read_lists(
      ...     "Package: a\\nSection: text\\nSuggests: b (>= 2) | c, d",
      ...     "Package: a\\nDescription-en: An A\\n It is\\n .\\n the first.",
      ... )[0].text
      'An A. It is the first.'
    """
    texts = {
        name: plain(description)
        for name, description in re.findall(
            r"^Package: (.*)\n(?:[^\n]+\n)*?Description-en: (.*(?:\n .*)*)",
            descriptions,
            re.MULTILINE,
        )
    }
    found: dict[str, Described] = {}
    for stanza in packages.split("\n\n"):
        own = dict(re.findall(FIELDS, stanza, re.MULTILINE))
        name = own.get("Package", "")
        if name not in texts:
            continue
        named = ",".join(own.get(kind, "") for kind in ("Suggests", "Recommends"))
        # Of alternatives the first; without a version or an architecture.
        first = (re.split(r"[\s(|:\[]", x.strip())[0] for x in named.split(","))
        found[name] = Described(
            name,
            own.get("Section", ""),
            own.get("Source", name).split()[0],
            texts[name],
            tuple(dict.fromkeys(x for x in first if x)),
        )
    return tuple(found.values())


FIELDS = r"^(Package|Section|Source|Suggests|Recommends): (.*)$"


def plain(description: str) -> str:
    """A description as one paragraph, after its synopsis.

    Examples:
      >>> plain("Simple editor\\n Edits\\n  - files\\n .\\n well.")
      'Simple editor. Edits - files well.'
    """
    synopsis, _, rest = description.partition("\n")
    lines = (line.strip() for line in rest.split("\n"))
    return " ".join([f"{synopsis}.", *(x for x in lines if x and x != ".")])


def named_together(
    packages: Sequence[Described], *, most: int
) -> Int[np.ndarray, "p 2"]:
    """Pairs of packages that a third one names, both of one section; each pair once.

    Packages of one source, or with the same text, are no pair.

    Args:
      packages: all of them.
      most: packages of a section that one may name; of those that name more, as some
        collections name hundreds, nothing is taken.

    Returns:
      rows of `packages`, the smaller first.
    """
    place = {package.name: i for i, package in enumerate(packages)}
    pairs = set()
    for package in packages:
        groups: dict[str, list[int]] = {}
        for name in package.named:
            if name in place:
                groups.setdefault(packages[place[name]].section, []).append(place[name])
        for rows in groups.values():
            if len(rows) <= most:
                rows = sorted(rows)
                pairs |= {(a, b) for i, a in enumerate(rows) for b in rows[i + 1 :]}

    def differ(a: Described, b: Described) -> bool:
        return a.source != b.source and a.text != b.text

    kept = [pair for pair in sorted(pairs) if differ(*(packages[i] for i in pair))]
    return np.array(kept, np.int64).reshape(-1, 2)
