"""The encoder of a run as a folder of its own: weights or a program, with a model card.

    python -m launch.export runs/simclr/default-seed0 exported/simclr
    python -m launch.export runs/simclr/default-seed0 program --format stablehlo
    python -m launch.export runs/supcon/default-seed0 exported/supcon --method supcon

safetensors is in Hugging Face layout where there is one (sentence encoders; ResNet, ViT
and CLIP towers with the settings of the published ones), else all arrays by their paths
(`models.pretrained.load_arrays`). stablehlo is one program with its weights for any
number of rows, on CPU, CUDA and TPU (`models.pretrained.load_program`).

Exit codes: 0 done, 2 wrong input (one line says what).
"""

import argparse
import pathlib
import sys

WRONG_INPUT = 2


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m launch.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workdir", metavar="WORKDIR", type=pathlib.Path)
    parser.add_argument("out", metavar="FOLDER", type=pathlib.Path)
    parser.add_argument("--method", help="which of the run's trainings")
    parser.add_argument(
        "--format", default="safetensors", choices=("safetensors", "stablehlo")
    )
    parser.add_argument(
        "--shape",
        nargs=3,
        type=int,
        metavar=("H", "W", "C"),
        help="of an image, for stablehlo (default: that of the first training batch)",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    args = parse_args(argv)
    from contrastive_jax import load
    from contrastive_jax.data import packaged

    try:
        run = load.load_run(args.workdir, args.method)
        shape = None if args.shape is None else tuple(args.shape)
        written = run.save(args.out, args.format, shape=shape)
    except (load.LoadError, ValueError, OSError, packaged.DataMissing) as e:
        print(f"launch.export: {e}", file=sys.stderr)
        return WRONG_INPUT
    print(f"{args.out}: {written} (step {run.step} of {run.method})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
