"""Images in columns: Arrow files of Hugging Face's `datasets`, or Parquet.

Reads what `save_to_disk` and `to_parquet` of that package write, without it. Arrow
files are mapped into memory. Parquet has no fast access to a row: up to `IN_MEMORY`
bytes of it are read at once, more of it is rewritten once as Arrow, in the cache.
"""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from contrastive_jax.data import packaged
from contrastive_jax.data.formats.pictures import (
    TEST,
    Budget,
    ImageSet,
    Source,
    encoded_set,
)

IN_MEMORY = 2**30


def read(path: str, features: Sequence[str], budget: Budget) -> ImageSet:
    """The images of a folder, or of one file.

    Args:
      path: a folder that `save_to_disk` wrote, or one with .parquet or .arrow files,
        whose names begin with that of their part, as in train-00000.parquet.
      features: names of the columns of images and of labels.
      budget: of unreadable images.

    Raises:
      DataMissing: it is not there.
      ValueError: other files or columns; images that cannot be read.
    """
    root = pathlib.Path(path).expanduser()
    if not root.exists():
        raise packaged.DataMissing(f"data.name: expected hf:PATH, {root} is not there")
    image_name, label_name = features
    sources, labels = {}, {}
    names: dict[Any, str] = {}
    tables = {part: open_table(files) for part, files in data_files(root).items()}
    train = tables["train"]
    if label_name in train.column_names:
        names = classes(train, label_name)
    labelled = len(names) > 1  # a single class tells nothing
    for part, table in tables.items():
        if image_name not in table.column_names:
            raise ValueError(
                f"{root} ({part}): expected a column {image_name!r}, got "
                f"{', '.join(table.column_names)} (data.features names it)"
            )
        where = f"{root} ({part})"
        labels[part] = np.full(table.num_rows, -1, np.int32)
        if labelled:
            labels[part] = read_labels(where, table, label_name, names)
        column = table[image_name]
        sources[part] = lambda i, column=column, where=where: cell(where, column, i)
    known = tuple(names.values()) if labelled else ()
    return encoded_set(sources, labels, known, budget)


def data_files(root: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The files of "train" and, where there is one, of "test"."""
    if root.is_file():
        return {"train": [root]}
    files = sorted(root.rglob("*.arrow")) or sorted(root.rglob("*.parquet"))
    files = [x for x in files if not x.name.startswith("cache-")]
    if not files:
        raise ValueError(f"{root}: expected .arrow or .parquet files, got none")
    found: dict[str, list[pathlib.Path]] = {}
    for file in files:
        inside = file.relative_to(root)
        words = [inside.name.partition("-")[0].partition(".")[0], *inside.parts[:-1]]
        part = next((x for x in words if x in ("train", *TEST)), "")
        found.setdefault(part, []).append(file)
    if "train" not in found:
        return {"train": files}
    test = next((x for x in TEST if x in found), None)
    return {"train": found["train"]} | ({"test": found[test]} if test else {})


def open_table(files: Sequence[pathlib.Path]) -> Any:
    """The rows of some files, as one table.

    Raises:
      ValueError: one that cannot be read; names it.
    """
    import pyarrow as pa
    from pyarrow import parquet

    size = sum(x.stat().st_size for x in files)
    if files[0].suffix == ".parquet" and size > IN_MEMORY:
        files = [as_arrow(files)]
    tables = []
    for file in files:
        try:
            if file.suffix == ".parquet":
                tables.append(parquet.ParquetFile(file).read())
            else:
                tables.append(pa.ipc.open_stream(pa.memory_map(str(file))).read_all())
        except (pa.ArrowException, OSError) as e:
            line = str(e).partition("\n")[0]
            raise ValueError(f"{file}: expected {file.suffix[1:]} ({line})") from e
    try:
        return pa.concat_tables(tables)
    except pa.ArrowException as e:
        raise ValueError(f"{files[0]}: other columns than in {files[-1]}") from e


def as_arrow(files: Sequence[pathlib.Path]) -> pathlib.Path:
    """Parquet files rewritten as one Arrow file in the cache, if it is not there."""
    import pyarrow as pa
    from pyarrow import parquet

    facts = [(str(x.resolve()), x.stat().st_size, x.stat().st_mtime_ns) for x in files]
    key = hashlib.sha256(repr(facts).encode()).hexdigest()[:16]
    target = packaged.cache_dir() / f"parquet-{key}.arrow"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_suffix(f".{os.getpid()}.tmp")
    schema = parquet.read_schema(files[0])
    try:
        with pa.ipc.new_stream(str(temporary), schema) as writer:
            for file in files:
                for batch in parquet.ParquetFile(file).iter_batches(1000):
                    writer.write_batch(batch)
        os.replace(temporary, target)  # atomic: whole or not at all
    except (pa.ArrowException, OSError) as e:
        temporary.unlink(missing_ok=True)
        line = str(e).partition("\n")[0]
        raise ValueError(f"{files[0]}: cannot be rewritten in {target} ({line})") from e
    return target


def cell(where: str, column: Any, row: int) -> Source:
    """The encoded image of a row: bytes, or what `datasets` makes of an image."""
    value = column[row].as_py()
    name = f"{where}, row {row}"
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            value = pathlib.Path(value)
    if not isinstance(value, bytes | pathlib.Path):
        value = b""
    return Source(name, value)


def classes(table: Any, column: str) -> dict[Any, str]:
    """The name of each class by its value: as `datasets` notes them, or the values."""
    noted = (table.schema.metadata or {}).get(b"huggingface", b"{}")
    try:
        feature = json.loads(noted)["info"]["features"][column]
        if feature["_type"] == "ClassLabel":
            return dict(enumerate(feature["names"]))
    except (ValueError, KeyError, TypeError):
        pass
    values = {x for x in table[column].unique().to_pylist() if x is not None}
    numbers = all(isinstance(x, int) for x in values)
    return {x: str(x) for x in sorted(values, key=int if numbers else str)}


def read_labels(
    where: str, table: Any, column: str, names: Mapping[Any, str]
) -> np.ndarray:
    """Numbers of the classes of all rows, [n] int32.

    Raises:
      ValueError: a row without one, or with one that is no class; names it.
    """
    if column not in table.column_names:
        raise ValueError(f"{where}: expected a column {column!r}")
    numbers = {value: i for i, value in enumerate(names)}
    values = table[column].to_pylist()
    for row, value in enumerate(values):
        if value not in numbers:
            raise ValueError(
                f"{where}, row {row}: expected one of {len(names)} classes in "
                f"{column!r}, got {value!r}"
            )
    return np.array([numbers[value] for value in values], np.int32)
