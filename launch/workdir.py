"""The folder of a run: held by one process, and the same run from start to end."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG, LOCK = "config.json", ".lock"


class WrongInput(Exception):
    """Something the user can mend; one line says what and how."""


def check_writable(workdir: pathlib.Path) -> None:
    """Checks that a folder is, or can be made, a place to write; makes nothing.

    Raises:
      WrongInput: it cannot, or is no local folder.
    """
    if "://" in str(workdir) or ":/" in str(workdir):
        raise WrongInput(f"--workdir {workdir}: expected a local or mounted folder")
    place = workdir
    while not place.exists() and place.parent != place:
        place = place.parent
    if not place.is_dir():
        raise WrongInput(f"--workdir {workdir}: {place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise WrongInput(f"--workdir {workdir}: {place} is not writable")


def lock(workdir: pathlib.Path):
    """Holds a workdir against a second run at the same time, until the process ends.

    Raises:
      WrongInput: another process holds it, or it cannot be made (seen only now where
        the owner of the process may write anywhere, as on a read-only system).
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = (workdir / LOCK).open("w")
    except OSError as e:
        raise WrongInput(f"--workdir {workdir} is not writable: {e.strerror}") from e
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        file.close()
        raise WrongInput(f"{workdir} is in use by another run") from e
    return file


@contextlib.contextmanager
def held(workdir: pathlib.Path) -> Iterator[None]:
    """Within it the workdir is locked; a run that was refused leaves nothing there.

    Raises:
      WrongInput: see `lock`.
    """
    made = [x for x in (workdir, *workdir.parents) if not x.exists()]
    new = not (workdir / LOCK).exists()
    file = lock(workdir)
    try:
        yield
    finally:
        if new and not (workdir / CONFIG).exists():
            (workdir / LOCK).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # what is not empty stays
                for folder in made:
                    folder.rmdir()
        file.close()


def code_of(experiment: str, root: pathlib.Path = ROOT) -> dict[str, str]:
    """Digests of the sources that a run depends on: the experiment and the package."""
    from contrastive_jax.report import record

    folders = (f"experiments/{experiment}", "contrastive_jax")
    return {folder: record.code_digest(root / folder) for folder in folders}


def read_record(workdir: pathlib.Path) -> dict[str, Any] | None:
    """config.json of a workdir; None where no run has begun.

    Raises:
      WrongInput: it cannot be read, or is missing among other files.
    """
    file = workdir / CONFIG
    if not file.exists():
        others = [x.name for x in workdir.glob("*") if x.name != LOCK]
        if others:
            raise WrongInput(
                f"{workdir} holds {others[0]} and no {CONFIG}: it is not the folder of "
                "a run; choose another --workdir"
            )
        return None
    try:
        old = json.loads(file.read_text(encoding="utf-8"))
        return {"experiment": old["experiment"], "config": dict(old["config"])} | old
    except (ValueError, KeyError, TypeError) as e:
        raise WrongInput(
            f"{file} cannot be read ({e}); choose another --workdir"
        ) from e


def read_metrics(workdir: pathlib.Path, experiment: str) -> dict[str, Any] | None:
    """The figures of a complete run; None where there are none.

    What is no record of this experiment is left aside with a warning.
    """
    file = workdir / "result.json"
    if not file.exists():
        return None
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        if found["experiment"] == experiment:
            return dict(found["metrics"])
        reason = f"it is of {found['experiment']}"
    except (ValueError, KeyError, TypeError) as e:
        reason = f"it cannot be read: {e!r}"
    print(f"warning: {file}: {reason}; evaluated once more", file=sys.stderr)
    return None


def changed_code(old: Mapping[str, Any], code: Mapping[str, str]) -> str:
    """The folders that changed since a record was made; "" when none did."""
    was = old.get("code", {})
    return " and ".join(folder for folder in code if was.get(folder) != code[folder])


def check_same(
    workdir: pathlib.Path,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    allowed: Sequence[str],
    complete: bool,
) -> None:
    """Checks that a workdir belongs to this experiment, config and code.

    What only evaluation reads, `eval`, may change until the run is complete.

    Args:
      workdir: the folder.
      old: what its config.json holds.
      new: the record of this run.
      allowed: keys that may differ, with all below them; "code" for the code.
      complete: whether it has figures.

    Raises:
      WrongInput: it does not; names the differences.
    """
    from contrastive_jax.training import config as configs

    if old["experiment"] != new["experiment"]:
        raise WrongInput(
            f"{workdir} belongs to another config (experiment is {old['experiment']} "
            f"there, {new['experiment']} here); choose another --workdir"
        )
    free = (*allowed, *(() if complete else ("eval",)))
    found = {
        key: text
        for key, text in configs.differences(old["config"], new["config"]).items()
        if not any(key == x or key.startswith(f"{x}.") for x in free)
    }
    if found:
        keys = " ".join(found)
        raise WrongInput(
            f"{workdir} belongs to another config ({', '.join(found.values())}); "
            f"--allow-change {keys} goes on with it, --anew starts over, --workdir "
            "goes elsewhere"
        )
    other = "" if "code" in allowed else changed_code(old, new["code"])
    if other and complete:
        raise WrongInput(
            f"{workdir} holds the figures of other code ({other} changed since); "
            "--anew starts over, --workdir goes elsewhere"
        )
    if other:
        raise WrongInput(
            f"{workdir} was begun by other code ({other} changed since); "
            "--allow-change code goes on with this one, --anew starts over"
        )


def check_removable(workdir: pathlib.Path) -> None:
    """Checks that `--anew` would remove a run and nothing else.

    Raises:
      WrongInput: the folder holds files, and none of them says that it is a run's.
    """
    files = [file for file in workdir.glob("*") if file.name != LOCK]
    if files and not (workdir / CONFIG).exists():
        raise WrongInput(
            f"--anew: {workdir} holds no run (no {CONFIG}), so nothing is removed"
        )


def remove_run(workdir: pathlib.Path) -> None:
    """Empties a workdir but for its lock; config.json, which tells a run, is last."""
    for file in sorted(workdir.glob("*"), key=lambda x: x.name == CONFIG):
        if file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        elif file.name != LOCK:
            file.unlink()
