"""Many runs of one experiment: all settings of its `sweep()`, times seeds.

    python -m launch.sweep simclr                       prints a command per run
    python -m launch.sweep simclr --start               runs them, one after the other
    python -m launch.sweep simclr:fashion --seeds 0 1 2 --set eval.k=5 --start

Each run is a process of its own with a folder of its own. One that fails does not stop
the others; the same command again goes on with those that are not complete. The exit
code is 0 when all are. The printed commands may as well go to a cluster's scheduler.
"""

import argparse
import itertools
import shlex
import signal
import subprocess
import sys

from launch import run as one


def settings(experiment: str) -> list[list[str]]:
    """The settings of each run of an experiment's `sweep()`, as KEY=VALUE.

    Raises:
      WrongInput: no such experiment or variant.
    """
    name, _, variant = experiment.partition(":")
    _, module = one.load(name)
    try:
        module.get_config(variant)
    except ValueError as e:
        raise one.WrongInput(f"{name}: {e}") from e
    if not hasattr(module, "sweep"):
        return [[]]
    return [[f"{key}={x}" for key, x in values.items()] for values in module.sweep()]


def command(experiment: str, seed: int, changes: list[str]) -> list[str]:
    """The arguments of `launch/run` for one run."""
    return [experiment, "--seed", str(seed), *(["--set", *changes] if changes else [])]


def check(experiment: str, changes: list[str]) -> None:
    """Checks the config of a run before any of many is started.

    Raises:
      WrongInput: what `launch/run` would say of it.
    """
    from contrastive_jax.training import config as configs

    _, config, checks = one.configure(experiment, changes)
    try:
        configs.check(config, max(config.get("devices", 0), 1), checks)
    except (ValueError, configs.ConfigError) as e:
        raise one.WrongInput(f"{experiment}: {e}") from e


def start(commands: list[list[str]]) -> list[list[str]]:
    """Runs commands of `launch/run` one after the other; returns those that failed.

    Ctrl-C is left to the run, which saves, and ends the rest with its exit code.
    """
    failed = []
    before = signal.signal(signal.SIGINT, lambda *_: None)
    for number, words in enumerate(commands, 1):
        print(f"[{number}/{len(commands)}] launch/run {shlex.join(words)}", flush=True)
        done = subprocess.run([sys.executable, "-m", "launch.run", *words])
        if done.returncode == one.PREEMPTED:
            sys.exit(done.returncode)
        if done.returncode:
            failed.append(words)
    signal.signal(signal.SIGINT, before)
    for words in failed:
        print(f"failed: launch/run {shlex.join(words)}", file=sys.stderr)
    return failed


def parser(prog: str, doc: str | None) -> argparse.ArgumentParser:
    """Arguments that the commands for many runs share."""
    found = argparse.ArgumentParser(
        prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    one.add_words(found)
    return found


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = parser("python -m launch.sweep", __doc__)
    arguments.add_argument("--start", action="store_true", help="run, not only print")
    args = one.read_words(arguments, argv)
    if args.experiment is None:
        arguments.error("name an experiment")
    try:
        varied = settings(args.experiment)
        for changes in varied:
            check(args.experiment, [*args.set, *changes])
    except one.WrongInput as e:
        print(f"launch.sweep: {e}", file=sys.stderr)
        return one.WRONG_INPUT
    commands = [
        command(args.experiment, seed, [*args.set, *changes])
        for changes, seed in itertools.product(varied, args.seeds)
    ]
    if args.start:
        return 1 if start(commands) else 0
    for words in commands:
        print(f"launch/run {shlex.join(words)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
