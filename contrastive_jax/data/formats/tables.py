"""Tables of texts: CSV, TSV, JSON lines, or a text a line, in UTF-8.

    read("jsonl:notes.jsonl", ("text",))
    read("pairs.csv", ("image", "caption"))

A prefix or the ending of the file says which it is; of another ending, a line is a
text. Everything is checked before anything is returned, and what is wrong is named with
its file and line.
"""

import csv
import json
import pathlib
from collections.abc import Iterator, Sequence

from contrastive_jax.data.packaged import DataMissing

KINDS = ("csv", "tsv", "jsonl", "lines")


def kind_of(name: str) -> tuple[str, pathlib.Path]:
    """The kind, one of KINDS, and the file.

    Examples:
      >>> kind_of("csv:a/b.txt")
      ('csv', PosixPath('a/b.txt'))
      >>> kind_of("a/b.jsonl")[0], kind_of("a/b.txt")[0]
      ('jsonl', 'lines')
    """
    prefix, colon, rest = name.partition(":")
    if colon and prefix in KINDS:
        return prefix, pathlib.Path(rest).expanduser()
    file = pathlib.Path(name).expanduser()
    ending = file.suffix[1:].lower()
    return ending if ending in KINDS[:-1] else "lines", file


def read(
    name: str, columns: Sequence[str], optional: Sequence[str] = ()
) -> list[tuple[str, ...]]:
    """The rows of a table, without those that are blank.

    A TSV file whose first line does not name the columns has them in this order.

    Args:
      name: path of the file, with a prefix such as "csv:" where its ending does not
        say what it is.
      columns: names of the columns to be read; no cell may be empty.
      optional: further ones, which may be missing or empty; "" then.

    Raises:
      DataMissing: no such file.
      ValueError: a missing column, an empty cell, a malformed line, or no row at all.
    """
    kind, file = kind_of(name)
    if not file.is_file():
        raise DataMissing(f"{file} is not there: expected a file of {kind}")
    text = decode(file)
    every = [*columns, *optional]
    if kind == "lines" and len(columns) != 1:
        raise ValueError(
            f"{file}: expected .csv, .tsv or .jsonl with columns {', '.join(columns)}"
        )
    if kind == "lines":
        found = ((i, [x]) for i, x in enumerate(text.split("\n"), 1) if x.strip())
    elif kind == "jsonl":
        found = json_rows(file, text, every, len(columns))
    else:
        found = csv_rows(file, text, every, len(columns), tabs=kind == "tsv")
    rows = []
    for number, cells in found:
        cells = [x.strip() for x in cells]
        for column, cell in zip(columns, cells, strict=False):
            if not cell:
                raise ValueError(f"{file}:{number}: expected a {column}, got none")
        rows.append(tuple(cells))
    if not rows:
        raise ValueError(f"{file}: expected a row or more, got none")
    return rows


def read_lines(name: str) -> list[tuple[str, ...]]:
    """The lines of a file of any ending, without those that are blank.

    Raises:
      DataMissing: no such file.
      ValueError: no line, or not UTF-8.
    """
    return read(f"lines:{name}", ["text"])


def number(cell: str, where: str) -> float:
    """The number in a cell.

    Raises:
      ValueError: it is none; says where.
    """
    try:
        return float(cell)
    except ValueError as e:
        raise ValueError(f"{where}: expected a number, got {cell!r}") from e


def decode(file: pathlib.Path) -> str:
    """A file as text.

    Raises:
      ValueError: it is not UTF-8; names the line.
    """
    data = file.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        number = data[: e.start].count(b"\n") + 1
        raise ValueError(f"{file}:{number}: expected UTF-8 ({e.reason})") from e


def json_rows(
    file: pathlib.Path, text: str, columns: Sequence[str], needed: int
) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of every line with a JSON object; the first `needed` must be."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as e:
            raise ValueError(f"{file}:{number}: expected JSON ({e})") from e
        if not isinstance(row, dict):
            raise ValueError(f"{file}:{number}: expected a JSON object, got {line:.40}")
        for column in columns[:needed]:
            if column not in row:
                raise ValueError(
                    f"{file}:{number}: expected a column {column!r}, got "
                    f"{', '.join(sorted(row)) or 'none'}"
                )
        cells = [row.get(column) for column in columns]
        for column, cell in zip(columns, cells, strict=True):
            if isinstance(cell, dict | list):
                raise ValueError(
                    f"{file}:{number}: expected a text as {column!r}, got {cell!r:.40}"
                )
        yield number, ["" if cell is None else str(cell) for cell in cells]


def csv_rows(
    file: pathlib.Path, text: str, columns: Sequence[str], needed: int, *, tabs: bool
) -> Iterator[tuple[int, list[str]]]:
    """Number and cells of every row; the first `needed` columns must be there."""
    quoting = csv.QUOTE_NONE if tabs else csv.QUOTE_MINIMAL
    lines = text.splitlines(keepends=True) if not tabs else text.split("\n")
    reader = csv.reader(
        lines, delimiter="\t" if tabs else ",", quoting=quoting, strict=True
    )
    places: list[int] | None = None
    width = 0
    while True:
        try:
            row = next(reader, None)
        except csv.Error as e:
            raise ValueError(f"{file}:{reader.line_num}: malformed ({e})") from e
        if row is None:
            return
        if not any(cell.strip() for cell in row):
            continue
        if places is None:
            names, width = [x.strip() for x in row], len(row)
            places = [names.index(x) if x in names else -1 for x in columns]
            missing = [
                x for x, i in zip(columns, places[:needed], strict=False) if i < 0
            ]
            if not missing:
                continue
            if not tabs or len(missing) < needed or not needed <= width <= len(columns):
                raise ValueError(
                    f"{file}:{reader.line_num}: expected a column {missing[0]!r}, got "
                    f"{', '.join(names)}"
                )
            places = [i if i < width else -1 for i in range(len(columns))]
        if len(row) != width:
            raise ValueError(
                f"{file}:{reader.line_num}: expected {width} columns, got {len(row)}"
            )
        yield reader.line_num, [row[i] if i >= 0 else "" for i in places]
