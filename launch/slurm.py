"""Submits one run to SLURM: a process per node, queued again until it is done.

    launch/slurm simclr:paper --nodes 4 --gpus-per-node 8 --time 4:00:00

Two minutes before the time is up, and at a preemption, all processes get SIGTERM: they
save the same step and end with 75, and the job goes back into the queue. Started again,
it goes on from there. The folder of the run has to be one that all nodes share.
"""

import argparse
import pathlib
import shlex
import subprocess
import sys
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Seconds before the end at which a run is asked to stop.
NOTICE = 120


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is for `launch/run`."""
    parser = argparse.ArgumentParser(
        prog="launch/slurm",
        usage="%(prog)s EXPERIMENT[:VARIANT] [options of launch/run] --nodes N [...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--nodes", type=int, default=1, help="how many (default: 1)")
    parser.add_argument("--gpus-per-node", type=int, default=0, help="0: none is asked")
    parser.add_argument("--time", default="4:00:00", help="limit (default: 4:00:00)")
    parser.add_argument("--partition")
    parser.add_argument("--account")
    parser.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="--WORD=VALUE",
        help="another option of sbatch, written --option=--WORD=VALUE",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print command and script, and stop"
    )
    args, words = parser.parse_known_args(argv)
    if not words or words[0].startswith("-"):
        parser.error("name an experiment first")
    if args.nodes < 1:
        parser.error(f"--nodes: expected 1 or more, got {args.nodes}")
    if args.gpus_per_node < 0:
        parser.error(f"--gpus-per-node: expected 0 or more, got {args.gpus_per_node}")
    return args, words


def sbatch(args: argparse.Namespace, experiment: str) -> list[str]:
    """The command, which reads the script."""
    options = {
        "job-name": experiment,
        "nodes": args.nodes,
        "ntasks-per-node": 1,
        "gpus-per-node": args.gpus_per_node or None,
        "time": args.time,
        "partition": args.partition,
        "account": args.account,
        "signal": f"TERM@{NOTICE}",
        "output": "slurm-%j.out",
        "open-mode": "append",
    }
    given = [f"--{name}={x}" for name, x in options.items() if x is not None]
    return ["sbatch", "--parsable", "--requeue", *given, *args.option]


def script(words: Sequence[str]) -> str:
    """What runs on the first node."""
    run = shlex.join([str(ROOT / "launch" / "run"), *words])
    return f"""#!/usr/bin/env bash
# Waits for the processes, which get the same signal and save.
trap : TERM
# Nodes do not import everything in the same time.
export CONTRASTIVE_JAX_TIMEOUT=${{CONTRASTIVE_JAX_TIMEOUT:-300}}
status=0
srun --kill-on-bad-exit=1 {run} || status=$?
if [ "$status" = 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args, words = parse_args(argv)
    command = sbatch(args, words[0])
    if args.dry_run:
        print(f"{shlex.join(command)} <<'EOF'\n{script(words)}EOF")
        return 0
    try:
        return subprocess.run(command, input=script(words), text=True).returncode
    except FileNotFoundError:
        print("launch/slurm: there is no sbatch on this machine", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
