"""Embeddings of the lines of a text file, by a sentence encoder in a folder.

    python -m launch.encode path/to/folder texts.txt
    python -m launch.encode minilm texts.txt --out vectors.npy

FOLDER has Hugging Face's layout, as sentence-transformers writes it, or is minilm
(all-MiniLM-L6-v2, which a package brings along). FILE has a text per line, in UTF-8.
Row i of the result is the embedding of line i, float32, in numpy's format; the file is
read and written piece by piece and appears when it is whole.

Exit codes: 0 done, 2 wrong input (one line says what).
"""

import argparse
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Iterator

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
    parser.add_argument("file", metavar="FILE", type=pathlib.Path)
    parser.add_argument("--out", type=pathlib.Path, help="FILE with .npy by default")
    parser.add_argument("--piece", type=int, default=8192, help="lines at a time")
    parser.add_argument(
        "--dtype", default="float32", choices=("float32", "bfloat16"), help="computing"
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


def encode(args: argparse.Namespace) -> str:
    """Writes the embeddings; returns what is said of them."""
    out = args.out or args.file.with_suffix(".npy")
    if args.piece < 1:
        raise WrongInput(f"--piece: expected at least 1, got {args.piece}")
    if out.resolve() == args.file.resolve():
        raise WrongInput(f"--out: expected another file than {args.file}")
    if not out.parent.is_dir():
        raise WrongInput(f"--out: expected an existing folder, got '{out.parent}'")
    # All lines are looked at before anything is computed.
    total = sum(map(len, pieces(args.file, args.piece)))
    if not total:
        raise WrongInput(f"{args.file}: expected a line or more, got none")

    import numpy as np

    from contrastive_jax.data import packaged
    from contrastive_jax.tasks import text_encoders

    try:
        encoder = text_encoders.load_path(args.folder, args.dtype, "float32")
    except (ValueError, packaged.DataMissing) as e:
        raise WrongInput(f"FOLDER: {e}") from e
    start, done, cut, vectors = time.monotonic(), 0, 0, None
    temporary = out.with_name(f"{out.name}.{os.getpid()}.tmp")
    try:
        for piece in pieces(args.file, args.piece):
            tokenized = encoder.tokenize(piece)
            rows = encoder.encode(encoder.params, tokenized)
            if vectors is None:
                vectors = np.lib.format.open_memmap(
                    temporary, "w+", np.float32, (total, rows.shape[1])
                )
            vectors[done : done + len(rows)] = rows
            done, cut = done + len(rows), cut + tokenized.cut
        if vectors is None or done != total:
            raise WrongInput(f"{args.file}: changed while it was read")
        vectors.flush()
        os.replace(temporary, out)
    except OSError as e:
        raise WrongInput(f"{out}: {e}") from e
    finally:
        temporary.unlink(missing_ok=True)
    seconds = time.monotonic() - start
    said = f"{out}: {total:,} texts, {vectors.shape[1]} dimensions, "
    said += f"{total / seconds:,.0f} texts/s"
    if cut:
        said += f"; {cut:,} had more than {encoder.max_tokens} tokens and were cut"
    return said


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
