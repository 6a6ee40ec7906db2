"""Digests of the files of a checkpoint, in the form of `sha256sum -c`.

Beside the folder STEP lies STEP.sha256, written once the checkpoint is whole. Arrays
are stored without checksums of their own: a flipped bit would be restored as a number.
"""

import hashlib
import pathlib

from contrastive_jax.report import record


def file_of(folder: pathlib.Path) -> pathlib.Path:
    """Where the digests of a folder lie."""
    return folder.with_name(f"{folder.name}.sha256")


def digest(file: pathlib.Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def write(folder: pathlib.Path) -> None:
    """Writes the digests of the files of a folder; removes those of lost folders."""
    parent, target = folder.parent, file_of(folder)
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    lines = [f"{digest(x)}  {x.relative_to(parent).as_posix()}\n" for x in files]
    record.write_atomic(target, "".join(lines))
    for other in parent.glob("*.sha256"):
        if not other.with_suffix("").exists():
            other.unlink(missing_ok=True)


def mismatch(folder: pathlib.Path) -> str:
    """What is not as it was written; "" when all is, or when there are no digests.

    Raises:
      OSError: a file that is there cannot be read.
    """
    noted = file_of(folder)
    if not noted.exists():
        return ""
    for line in noted.read_text(encoding="utf-8", errors="replace").splitlines():
        wanted, _, name = line.partition("  ")
        file = folder.parent / name
        if len(wanted) != 64 or folder not in file.parents:
            return f"{noted.name} is damaged"
        if not file.is_file():
            return f"{name} is missing"
        if digest(file) != wanted:
            return f"{name} is not what was written"
    return ""
