"""Folders of models: written whole or not at all, with a card made of the run's record.

What `save_encoder`, `save_vision`, `save_arrays` and `save_program` share.
"""

import json
import os
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

WEIGHTS = "model.safetensors"


def check_new(folder: str | pathlib.Path) -> pathlib.Path:
    """A folder that is not there yet, or empty.

    Raises:
      ValueError: there is something in it.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"folder: expected a new or empty one, got '{folder}'")
    return folder


def write_folder(
    folder: pathlib.Path,
    files: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, np.ndarray]],
    card: str,
    more: Callable[[pathlib.Path], None] = lambda place: None,
) -> None:
    """All files, in a folder beside it that is renamed.

    Args:
      folder: a new or an empty one.
      files: what is written as JSON, by name.
      tensors: arrays by name, by the place of their model.safetensors.
      card: README.md.
      more: writes what else there is into the folder that it is given.
    """
    from safetensors.numpy import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = pathlib.Path(tempfile.mkdtemp(dir=folder.parent))
    try:
        for name, value in files.items():
            file = temporary / name
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        for place, arrays in tensors.items():
            file = temporary / place / WEIGHTS
            save_file(dict(arrays), str(file), metadata={"format": "pt"})
        more(temporary)
        (temporary / "README.md").write_text(card, encoding="utf-8")
        temporary.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def read_record(record: Any) -> dict[str, Any]:
    """The content of a result.json.

    Raises:
      ValueError: a path at which there is none.
    """
    if record is None:
        return {}
    if isinstance(record, Mapping):
        return dict(record)
    file = pathlib.Path(record)
    file = file / "result.json" if file.is_dir() else file
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ValueError(f"record: expected result.json of a run ({e})") from e


def model_card(
    name: str,
    about: str,
    usage: Sequence[str],
    record: Mapping[str, Any],
    header: Mapping[str, str],
) -> str:
    """The README.md of a model: what it is, how to use it, how it was made.

    Args:
      name: title.
      about: a sentence on the model.
      usage: pieces of Python that use it.
      record: of the run that made it; {} for none.
      header: keys of the card that the hub reads.
    """
    lines = ["---", *(f"{k}: {v}" for k, v in header.items()), "---"]
    lines += ["", f"# {name}", "", about]
    for code in usage:
        lines += ["", "```python", code, "```"]
    return "\n".join([*lines, *record_lines(record)]) + "\n"


def record_lines(record: Mapping[str, Any]) -> list[str]:
    """The sections Training, Results and Settings of a card; none without a record."""
    if not record:
        return []
    variant = record.get("variant") or "default"
    seed = record.get("seed", (record.get("config") or {}).get("seed"))
    made = f"`launch/run {record.get('experiment', '?')}:{variant}`, seed {seed}"
    if record.get("method"):
        made += f", training `{record['method']}`, {record.get('step')} steps"
    lines = ["", "## Training", ""]
    if "metrics" in record:
        lines += [
            f"{made}, {record.get('wall_seconds', '?')} s on "
            f"{(record.get('machine') or {}).get('device', '?')}; code "
            f"`{record.get('git_revision') or '?'}`.",
            "",
            *table("version", "", record.get("versions") or {}),
            "",
            "## Results",
            "",
            *table("measure", "value", record["metrics"]),
        ]
    else:
        lines.append(f"{made}. The run was not over, so that nothing was measured.")
    settings = json.dumps(record.get("config") or {}, indent=2)
    return [*lines, "", "## Settings", "", "```json", settings, "```"]


def table(left: str, right: str, rows: Mapping[str, Any]) -> list[str]:
    """A table of two columns."""
    head = [f"| {left} | {right} |".replace("|  |", "| |"), "| --- | --- |"]
    return [*head, *(f"| {k} | {shown(v)} |" for k, v in rows.items())]


def shown(value: Any) -> str:
    """A number with four digits after the point, anything else as it is.

    Examples:
      >>> shown(0.123456), shown("x")
      ('0.1235', 'x')
    """
    return f"{value:.4f}" if isinstance(value, float) else str(value)
