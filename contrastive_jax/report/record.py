"""The record of a run: result.json, with config, versions, machine and metrics."""

import datetime
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

RESULT = "result.json"
# Of several processes of a run only the first writes; `launch/run` says so here.
WRITES = True
PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy")


def write_atomic(file: pathlib.Path, text: str) -> pathlib.Path:
    """Writes a text file, whole or not at all; nothing unless `WRITES`."""
    if not WRITES:
        return file
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(file.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, file)
    return file


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    packages = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {"python": platform.python_version()} | packages


def machine(devices: Sequence[Any]) -> dict[str, Any]:
    """Platform, kind and number of the devices (`jax.devices()`), and CPU cores."""
    processes = len({device.process_index for device in devices})
    return {
        "platform": devices[0].platform,
        "device": devices[0].device_kind,
        "devices": len(devices),
        **({"processes": processes} if processes > 1 else {}),
        "cpu_cores": len(os.sched_getaffinity(0)),
    }


def git_revision() -> str:
    """Commit of the source tree, with "+changes" when it differs; "" outside of git."""
    folder = pathlib.Path(__file__).resolve().parent

    def git(*args):
        return subprocess.run(
            ["git", *args], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return ""


def code_digest(folder: str | pathlib.Path) -> str:
    """Sixteen hex digits that change with any Python file of a folder."""
    digest = hashlib.sha256()
    for file in sorted(pathlib.Path(folder).rglob("*.py")):
        name = file.relative_to(folder).as_posix()
        digest.update(f"{name}\0{len(file.read_bytes())}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def write_result(
    workdir: str | pathlib.Path,
    *,
    experiment: str,
    variant: str,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    wall_seconds: float,
    devices: Sequence[Any],
    code: Mapping[str, str],
) -> pathlib.Path:
    """Writes result.json.

    Args:
      workdir: folder of the run.
      experiment: its name.
      variant: its variant, "" for the default.
      config: all values, plain.
      metrics: final metrics.
      wall_seconds: time of this call, restarts before it not counted.
      devices: the devices of the run.
      code: `code_digest` of each folder that the run is made of.
    """
    result = {
        "experiment": experiment,
        "variant": variant,
        "metrics": dict(metrics),
        "seed": config.get("seed"),
        "wall_seconds": round(wall_seconds, 1),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "git_revision": git_revision(),
        "code": dict(code),
        "versions": versions(),
        "machine": machine(devices),
        "config": dict(config),
    }
    text = json.dumps(result, indent=2, default=float) + "\n"
    return write_atomic(pathlib.Path(workdir) / RESULT, text)
