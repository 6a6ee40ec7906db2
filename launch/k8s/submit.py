"""One run on Kubernetes as a JobSet, a pod per host.

    launch/k8s/submit big simclr:paper --image REGISTRY/contrastive_jax:1 --hosts 4 \\
        --device nvidia.com/gpu=8 --claim runs

The image has the project, installed, in its working directory. The claim is a volume
that all pods can write (ReadWriteMany); the run lies in its folder NAME. When a pod
fails or is evicted, all are started again and go on from the newest checkpoint, up to
`--restarts` times. The cluster needs JobSet (jobset.x-k8s.io/v1alpha2).
"""

import argparse
import json
import pathlib
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Sequence

TEMPLATE = pathlib.Path(__file__).parent / "jobset.yaml"
PORT = 8476


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not (key and equals and value):
        raise argparse.ArgumentTypeError(f"expected KEY=VALUE, got {text!r}")
    return key, value


def parse_args(argv: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and what of it is for `launch/run`."""
    parser = argparse.ArgumentParser(
        prog="launch/k8s/submit",
        usage="%(prog)s NAME EXPERIMENT[:VARIANT] [options of launch/run] "
        "--image I --claim C [...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help="of the JobSet")
    parser.add_argument("--image", required=True, help="with the project in it")
    parser.add_argument("--claim", required=True, help="volume that all pods write")
    parser.add_argument("--hosts", type=int, default=1, help="pods (default: 1)")
    parser.add_argument(
        "--device",
        type=pair,
        metavar="KEY=COUNT",
        help="accelerators per pod, such as nvidia.com/gpu=8 or google.com/tpu=4",
    )
    parser.add_argument(
        "--select",
        type=pair,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="label that the nodes have to have",
    )
    parser.add_argument("--namespace")
    parser.add_argument("--restarts", type=int, default=100, help="default: 100")
    parser.add_argument(
        "--dry-run", action="store_true", help="print command and YAML, and stop"
    )
    args, words = parser.parse_known_args(argv)
    if not words or words[0].startswith("-"):
        parser.error("name an experiment after the JobSet")
    # Room for "-host-0-0" in the 63 letters of a host name.
    if not re.fullmatch(r"[a-z]([a-z0-9-]{0,38}[a-z0-9])?", args.name):
        parser.error(
            f"NAME: expected up to 40 small letters, digits and -, got {args.name!r}"
        )
    if args.hosts < 1:
        parser.error(f"--hosts: expected 1 or more, got {args.hosts}")
    if args.device and not args.device[1].isdecimal():
        parser.error(f"--device: expected KEY=COUNT, got {'='.join(args.device)!r}")
    return args, words


def render(args: argparse.Namespace, words: Sequence[str]) -> str:
    """The YAML."""
    run = ["python", "-m", "launch.run", *words, "--workdir", f"/runs/{args.name}"]
    values = {
        "name": args.name,
        "restarts": args.restarts,
        "hosts": args.hosts,
        "processes": str(args.hosts),
        "coordinator": f"{args.name}-host-0-0.{args.name}:{PORT}",
        "select": dict(args.select),
        "image": args.image,
        "command": run,
        "limits": {args.device[0]: int(args.device[1])} if args.device else {},
        "claim": args.claim,
    }
    template = string.Template(TEMPLATE.read_text(encoding="utf-8").partition("\n")[2])
    return template.substitute({name: json.dumps(x) for name, x in values.items()})


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args, words = parse_args(argv)
    command = ["kubectl", "apply", "-f", "-"]
    command += [f"--namespace={args.namespace}"] if args.namespace else []
    text = render(args, words)
    if args.dry_run:
        print(f"{shlex.join(command)} <<'EOF'\n{text}EOF")
        return 0
    try:
        return subprocess.run(command, input=text, text=True).returncode
    except FileNotFoundError:
        print("launch/k8s/submit: there is no kubectl on this machine", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
