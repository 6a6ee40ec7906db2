"""One run on all hosts of a Cloud TPU slice, by queued resources.

    launch/tpu_pod big simclr:paper --workdir /mnt/runs/simclr --type v5litepod-64 \\
        --zone us-central1-a

Asks for the slice NAME unless there is one, waits until it is active, copies the code
to each host, starts `launch/run` on all, and deletes the slice, also after an error,
unless `--keep`. The same command goes on from the newest checkpoint. The folder of the
run has to be one that all hosts mount.
"""

import argparse
import pathlib
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = ("contrastive_jax", "experiments", "launch", "pyproject.toml", "README.md")
FOLDER = "contrastive_jax_run"
# Seconds between looks at the queue.
PAUSE = 30
DEAD = ("FAILED", "SUSPENDED", "SUSPENDING", "DELETING")


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is for `launch/run`."""
    parser = argparse.ArgumentParser(
        prog="launch/tpu_pod",
        usage="%(prog)s NAME EXPERIMENT[:VARIANT] [options of launch/run] "
        "--type T --zone Z [...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="of the slice")
    parser.add_argument("--type", required=True, help="such as v5litepod-64")
    parser.add_argument("--zone", required=True)
    parser.add_argument(
        "--version", default="v2-alpha-tpuv5-lite", help="of the system"
    )
    parser.add_argument("--project")
    parser.add_argument("--spot", action="store_true", help="may be preempted")
    parser.add_argument("--keep", action="store_true", help="do not delete the slice")
    parser.add_argument(
        "--dry-run", action="store_true", help="print the commands, and stop"
    )
    args, words = parser.parse_known_args(argv)
    if not words or words[0].startswith("-"):
        parser.error("name an experiment after the slice")
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,61}[a-z0-9]", args.name):
        parser.error(f"NAME: expected small letters, digits and -, got {args.name!r}")
    return args, words


def commands(args: argparse.Namespace, words: Sequence[str]) -> dict[str, list[str]]:
    """The commands by what they do."""
    place = [f"--zone={args.zone}"]
    place += [f"--project={args.project}"] if args.project else []
    queue = ["gcloud", "compute", "tpus", "queued-resources"]
    hosts = ["gcloud", "compute", "tpus", "tpu-vm"]
    run = shlex.join(["launch/run", *words, "--coordinator", "auto"])
    steps = [
        f"cd {FOLDER}",
        "source launch/setup.sh",
        "setup experiments",
        "install 'jax[tpu]'",
        run,
    ]
    return {
        "create": [
            *queue,
            "create",
            args.name,
            f"--node-id={args.name}",
            f"--accelerator-type={args.type}",
            f"--runtime-version={args.version}",
            *place,
            *(["--spot"] if args.spot else []),
        ],
        "state": [*queue, "describe", args.name, *place, "--format=value(state.state)"],
        "folder": [
            *hosts,
            "ssh",
            args.name,
            "--worker=all",
            *place,
            f"--command=mkdir -p {FOLDER}",
        ],
        "copy": [
            *hosts,
            "scp",
            "--recurse",
            *(str(ROOT / part) for part in CODE),
            f"{args.name}:{FOLDER}/",
            "--worker=all",
            *place,
        ],
        "run": [
            *hosts,
            "ssh",
            args.name,
            "--worker=all",
            *place,
            f"--command={' && '.join(steps)}",
        ],
        "delete": [*queue, "delete", args.name, "--force", "--quiet", *place],
    }


def state(command: Sequence[str]) -> str:
    """Where the request stands; "" when there is none."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def acquire(planned: dict[str, list[str]]) -> bool:
    """Asks for the slice where there is none, and waits for it; whether it came."""
    found = state(planned["state"])
    if found in DEAD:
        subprocess.run(planned["delete"], check=True)
    if not found or found in DEAD:
        subprocess.run(planned["create"], check=True)
    shown = ""
    while (found := state(planned["state"])) != "ACTIVE":
        if found in DEAD:
            print(f"launch/tpu_pod: the request is {found}", file=sys.stderr)
            return False
        if found != shown:
            print(found or "unknown to the queue so far", flush=True)
            shown = found
        time.sleep(PAUSE)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code of the run."""
    args, words = parse_args(argv)
    planned = commands(args, words)
    if args.dry_run:
        for name, command in planned.items():
            if name != "delete" or not args.keep:
                print(shlex.join(command))
        return 0
    try:
        if not acquire(planned):
            return 1
        subprocess.run(planned["folder"], check=True)
        subprocess.run(planned["copy"], check=True)
        return subprocess.run(planned["run"]).returncode
    except FileNotFoundError:
        args.keep = True
        print("launch/tpu_pod: there is no gcloud on this machine", file=sys.stderr)
        return 2
    except subprocess.CalledProcessError as e:
        print(f"launch/tpu_pod: {shlex.join(e.cmd)} failed", file=sys.stderr)
        return 1
    finally:
        if not args.keep:
            subprocess.run(planned["delete"])


if __name__ == "__main__":
    sys.exit(main())
