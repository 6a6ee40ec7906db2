"""Downloads a set of tensorflow-datasets into a folder of prepared sets.

    python -m launch.prepare cifar10 --data-dir ~/tensorflow_datasets

Needs a network and, for most sets, TensorFlow (the extra `tf`). Written as ArrayRecord;
experiments then read it by data.name=cifar10 data.data_dir=~/tensorflow_datasets.

Exit codes: 0 done, 2 wrong input (one line says what).
"""

import argparse
import logging
import sys

WRONG_INPUT = 2


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.prepare",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="as in the catalog of TFDS")
    parser.add_argument("--data-dir", default="~/tensorflow_datasets")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse_args(argv)
    from contrastive_jax.data import packaged, tfds_source

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # one line per retry
    try:
        print(tfds_source.prepare(args.name, args.data_dir))
    except packaged.DataMissing as e:
        print(f"launch.prepare: {e}", file=sys.stderr)
        return WRONG_INPUT
    return 0


if __name__ == "__main__":
    sys.exit(main())
