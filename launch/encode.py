"""Features of texts or images, by the encoder of a run or by one in a folder.

    python -m launch.encode runs/simclr/default-seed0 pictures/
    python -m launch.encode runs/simclr/default-seed0 images.npy --out features.npy
    python -m launch.encode runs/simcse/default-seed0 texts.txt --method simcse
    python -m launch.encode minilm texts.txt --out vectors.npy

FOLDER is the folder of a run, over or going on; or of a sentence encoder in Hugging
Face's layout, as sentence-transformers writes it; or minilm (all-MiniLM-L6-v2, which a
package brings along). INPUT is for texts a file with one per line, in UTF-8; for images
a folder of them, or an array [n, h, w, c] in .npy or .npz ("image"), uint8 or floats in
[0, 1]. Pictures of a folder are cut to the middle square and resized to what the run
was trained on; their names are written to OUT with .names.txt.

Row i of the result is the vector of line, image or name i, float32, in numpy's format;
it is written piece by piece and appears when it is whole.

Exit codes: 0 done, 2 wrong input (one line says what).
"""

import argparse
import dataclasses
import itertools
import json
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

WRONG_INPUT = 2


class WrongInput(Exception):
    """Something the user can mend; one line says what and how."""


def parse_args(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.encode",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", metavar="FOLDER")
    parser.add_argument("file", metavar="INPUT", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="INPUT with .npy by default")
    parser.add_argument("--method", help="which of the run's trainings")
    parser.add_argument("--piece", type=int, default=8192, help="rows at a time")
    parser.add_argument(
        "--dtype",
        default="float32",
        choices=("float32", "bfloat16"),
        help="computing, of a sentence encoder",
    )
    return parser.parse_args(argv)


def pieces(file: pathlib.Path, size: int) -> Iterator[list[str]]:
    """The lines of a file, so many at a time.

    Raises:
      WrongInput: a file that cannot be read, or a line without a character but spaces.
    """
    try:
        with file.open(encoding="utf-8") as lines:
            for start in itertools.count(0, size):
                piece = [x.rstrip("\r\n") for x in itertools.islice(lines, size)]
                if not piece:
                    return
                for number, text in enumerate(piece, start=start + 1):
                    if not text.strip():
                        raise WrongInput(f"{file}:{number}: expected a text, got none")
                yield piece
    except (OSError, UnicodeDecodeError) as e:
        raise WrongInput(f"{file}: expected a text file in UTF-8 ({e})") from e


@dataclasses.dataclass(frozen=True)
class Source:
    """What is encoded, and how.

    Attributes:
      pieces: gives the rows piece by piece, each time from the first on.
      encode: a piece to vectors [n, d] and how many of its rows were cut.
      noun: what a row is.
      limit: what is said where rows were cut.
      names: of the rows, to be written beside the vectors; () for none.
    """

    pieces: Callable[[], Iterator[Any]]
    encode: Callable[[Any], tuple[Any, int]]
    noun: str
    limit: str = ""
    names: tuple[str, ...] = ()


def texts(encoder: Any, args: argparse.Namespace) -> Source:
    """The lines of a file, by a `TextEncoder`."""

    def embed(piece):
        tokenized = encoder.tokenize(piece)
        return encoder.encode(encoder.params, tokenized), tokenized.cut

    limit = f"had more than {encoder.max_tokens} tokens and were cut"
    return Source(lambda: pieces(args.file, args.piece), embed, "texts", limit)


def array(file: pathlib.Path) -> Any:
    """The images of an .npy or .npz file.

    Raises:
      WrongInput: a file that cannot be read, or one of several arrays without "image".
    """
    import numpy as np

    try:
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray):
            return found
        with found:
            names = [n for n in found.files if n in ("image", "images")] or found.files
            if len(names) != 1:
                raise WrongInput(
                    f"{file}: expected an array 'image', got {found.files}"
                )
            return found[names[0]]
    except (OSError, ValueError, EOFError) as e:
        raise WrongInput(f"{file}: expected an array of images ({e})") from e


def pictures(
    folder: pathlib.Path, shape: tuple[int, int, int]
) -> tuple[list[str], Callable[[list[str]], Any]]:
    """Names of the pictures of a folder, and what reads some of them.

    Raises:
      WrongInput: no picture.
    """
    import numpy as np

    from contrastive_jax.data.formats import pictures as files

    names = sorted(
        file.relative_to(folder).as_posix()
        for file in folder.rglob("*")
        if file.suffix.lower() in files.SUFFIXES and file.is_file()
    )
    if not names:
        raise WrongInput(f"{folder}: expected pictures, got none")

    def read(name):
        source = files.Source(str(folder / name), folder / name)
        return files.resize_square(files.decode(source, shape[2]), shape[0])

    return names, lambda chosen: np.stack(files.parallel_map(read, chosen))


def images(run: Any, args: argparse.Namespace) -> Source:
    """The pictures of a folder or the rows of an array, by the encoder of a run.

    Raises:
      WrongInput: no pictures, or no array of images.
    """
    from contrastive_jax.data import packaged

    def embed(piece):
        return run.encode(piece), 0

    def split(rows):
        return lambda: (
            rows[i : i + args.piece] for i in range(0, len(rows), args.piece)
        )

    if args.file.is_dir():
        try:
            names, read = pictures(args.file, run.image_shape())
        except (ValueError, packaged.DataMissing) as e:
            raise WrongInput(f"FOLDER: {e}") from e
        parts = split(names)
        return Source(
            parts, lambda piece: embed(read(piece)), "images", names=tuple(names)
        )
    rows = array(args.file)
    if rows.ndim != 4:
        raise WrongInput(
            f"{args.file}: expected images [n, h, w, c], got {list(rows.shape)}"
        )
    return Source(split(rows), embed, "images")


def is_run(folder: str) -> bool:
    """Whether a folder is that of a run: its config.json names an experiment."""
    try:
        file = pathlib.Path(folder) / "config.json"
        return "experiment" in json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def open_source(args: argparse.Namespace) -> Source:
    """What the command line says is encoded by what.

    Raises:
      WrongInput: a folder that is neither of a run nor of an encoder.
    """
    from contrastive_jax import load
    from contrastive_jax.data import packaged
    from contrastive_jax.models import pretrained
    from contrastive_jax.tasks import text_encoders

    try:
        if not is_run(args.folder):
            encoder = text_encoders.load_path(args.folder, args.dtype, "float32")
            return texts(encoder, args)
        run = load.load_run(args.folder, args.method)
    except (ValueError, load.LoadError, packaged.DataMissing) as e:
        raise WrongInput(f"FOLDER: {e}") from e
    if run.encoder is None:
        name = run.record["experiment"]
        raise WrongInput(f"FOLDER: experiment {name} has no encoder")
    if isinstance(run.encoder, pretrained.TextEncoder):
        return texts(run.encoder, args)
    return images(run, args)


def encode(args: argparse.Namespace) -> str:
    """Writes the vectors; returns what is said of them."""
    out = args.out or args.file.with_suffix(".npy")
    if args.piece < 1:
        raise WrongInput(f"--piece: expected at least 1, got {args.piece}")
    if out.resolve() == args.file.resolve():
        raise WrongInput(f"--out: expected another file than {args.file}")
    if not out.parent.is_dir():
        raise WrongInput(f"--out: expected an existing folder, got '{out.parent}'")
    # All lines are looked at before anything is computed.
    run = is_run(args.folder)
    total = 0 if run else sum(map(len, pieces(args.file, args.piece)))
    if not (run or total):
        raise WrongInput(f"{args.file}: expected a line or more, got none")
    source = open_source(args)
    total = total or sum(map(len, source.pieces()))
    if not total:
        raise WrongInput(f"{args.file}: expected {source.noun}, got none")

    import numpy as np

    start, done, cut, vectors = time.monotonic(), 0, 0, None
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        for piece in source.pieces():
            try:
                rows, cut_here = source.encode(piece)
            except ValueError as e:
                named = str(e).startswith(str(args.file))
                raise WrongInput(str(e) if named else f"{args.file}: {e}") from e
            if vectors is None:
                vectors = np.lib.format.open_memmap(
                    temporary, "w+", np.float32, (total, rows.shape[1])
                )
            vectors[done : done + len(rows)] = rows
            done, cut = done + len(rows), cut + cut_here
        if vectors is None or done != total:
            raise WrongInput(f"{args.file}: changed while it was read")
        vectors.flush()
        if source.names:
            lines = "".join(f"{name}\n" for name in source.names)
            out.with_suffix(".names.txt").write_text(lines, encoding="utf-8")
        os.replace(temporary, out)
    except OSError as e:
        raise WrongInput(f"{out}: {e}") from e
    finally:
        temporary.unlink(missing_ok=True)
    seconds = time.monotonic() - start
    said = f"{out}: {total:,} {source.noun}, {vectors.shape[1]} dimensions, "
    said += f"{total / seconds:,.0f} {source.noun}/s"
    return said + (f"; {cut:,} {source.limit}" if cut else "")


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parse_args(sys.argv[1:] if argv is None else argv)
    try:
        print(encode(args))
    except WrongInput as e:
        print(f"launch.encode: {e}", file=sys.stderr)
        return WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
