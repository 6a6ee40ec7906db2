"""Many runs of one experiment: the settings of its `sweep()`, or a grid, times seeds.

    launch/sweep simclr                       prints a command per run, for a scheduler
    launch/sweep simclr --start               runs them, one after the other
    launch/sweep simclr --jobs 4              runs them, four at a time
    launch/sweep simclr:fashion --seeds 0 1 2 --set eval.k=5 --jobs 2
    launch/sweep simclr --grid loss.temperature 0.1 0.2 --grid loss.chunk_size 0 64
    launch/sweep simclr --table               the figures of all that are complete

All values are checked before anything is printed or started. Each run is a process and
a folder of its own, named by its values. One that fails does not stop the others.
Ctrl-C or SIGTERM goes to the runs, which save; the same command then goes on: what is
complete is left, what failed is listed with its reason and run again with --retry. With
--jobs the output of a run goes to FOLDER.log, and the GPUs of CUDA_VISIBLE_DEVICES are
dealt out to the jobs. At the end the table is printed, and written as a page that sorts
by its columns.

Exit codes: 0 all runs are complete, 1 some failed, 2 wrong input, 75 stopped by a
signal.
"""

import argparse
import collections
import contextlib
import itertools
import os
import pathlib
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

from launch import output
from launch import run as one
from launch import workdir as workdirs

COMMAND = [sys.executable, "-m", "launch.run"]


class Run(NamedTuple):
    """One of many runs.

    Attributes:
      experiment: its name, with the variant.
      seed: its seed.
      changes: its other values, as KEY=VALUE.
    """

    experiment: str
    seed: int
    changes: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        """The arguments of `launch/run`."""
        values = ["--set", *self.changes] if self.changes else []
        return [self.experiment, "--seed", str(self.seed), *values]

    @property
    def command(self) -> str:
        """The command that a shell takes."""
        return f"launch/run {shlex.join(self.words)}"

    @property
    def workdir(self) -> pathlib.Path:
        """Where the run lies."""
        name, _, variant = self.experiment.partition(":")
        return one.default_workdir(name, variant, self.seed, self.changes)

    @property
    def result(self) -> pathlib.Path:
        """The file that a complete run has."""
        return self.workdir / "result.json"

    def beside(self, suffix: str) -> pathlib.Path:
        """A file beside the run's folder, which --anew does not remove."""
        return self.workdir.with_name(self.workdir.name + suffix)

    def is_complete(self) -> bool:
        """Whether there are figures, made by the code that is here now."""
        if not self.result.exists():
            return False
        name = self.experiment.partition(":")[0]
        try:
            old = workdirs.read_record(self.workdir)
        except one.WrongInput:
            return False
        code = workdirs.code_of(name, one.ROOT)
        return old is not None and not workdirs.changed_code(old, code)


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


def grid(axes: Sequence[Sequence[str]]) -> list[list[str]]:
    """Every combination of the values of each axis, as KEY=VALUE.

    Args:
      axes: per axis a key and its values.

    Raises:
      WrongInput: a key without a value.

    Examples:
      >>> grid([["a", "1", "2"], ["b", "3"]])
      [['a=1', 'b=3'], ['a=2', 'b=3']]
    """
    for key, *values in axes:
        if not values:
            raise one.WrongInput(f"--grid {key}: expected a key and its values")
    values = [[f"{key}={x}" for x in values] for key, *values in axes]
    return [list(chosen) for chosen in itertools.product(*values)]


def check(experiment: str, changes: Sequence[str]) -> None:
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


def runs_of(
    experiment: str, varied: Sequence[Sequence[str]], seeds: Sequence[int]
) -> list[Run]:
    """Every setting with every seed.

    Raises:
      WrongInput: a setting that no run can have, or two runs that are one.
    """
    for changes in varied:
        check(experiment, changes)
    runs = [
        Run(experiment, seed, tuple(changes))
        for changes, seed in itertools.product(varied, seeds)
    ]
    for folder, count in collections.Counter(run.workdir for run in runs).items():
        if count > 1:
            raise one.WrongInput(f"{count} of the runs are the same, {folder}")
    return runs


class Forward:
    """Within it the first SIGINT, SIGTERM or SIGHUP is handed on to every process.

    Attributes:
      caught: name of the signal, None before there was one.
    """

    def __init__(self):
        self.caught: str | None = None
        self.processes: list[subprocess.Popen[Any]] = []
        self.previous: dict[int, Any] = {}

    def handle(self, number, frame):
        """Hands a signal on; the processes end at once at their second one."""
        self.caught = signal.Signals(number).name
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(
                    signal.SIGINT if number == signal.SIGINT else signal.SIGTERM
                )

    def __enter__(self):
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            with contextlib.suppress(ValueError):  # not the main thread
                self.previous[number] = signal.signal(number, self.handle)
        return self

    def __exit__(self, *_):
        for number, handler in self.previous.items():
            signal.signal(number, handler)


class Job:
    """A run that has been started.

    Args:
      run: what to run.
      alone: whether its output is shown; else it goes to FOLDER.log.
      devices: the GPUs that it sees; all when empty.
    """

    def __init__(self, run: Run, *, alone: bool, devices: str):
        self.run, self.began, self.last = run, time.monotonic(), ""
        environment = dict(os.environ)
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices
        run.workdir.parent.mkdir(parents=True, exist_ok=True)
        log = None if alone else run.beside(".log").open("w", encoding="utf-8")
        self.process = subprocess.Popen(
            [*COMMAND, *run.words],
            stdout=log,
            stderr=subprocess.PIPE if alone else subprocess.STDOUT,
            text=True,
            errors="replace",
            env=environment,
            start_new_session=True,  # signals of the terminal come from `Forward` alone
        )
        if log:
            log.close()
        self.reader = threading.Thread(target=self.read, args=(self.process.stderr,))
        self.reader.start()

    def read(self, lines: IO[str] | None) -> None:
        """Shows what a run that is alone says of errors, and keeps the last line."""
        for line in lines or ():
            sys.stderr.write(line)
            self.last = line.strip() or self.last

    def reason(self) -> str:
        """Why it failed: its last line, or its exit code."""
        self.reader.join()
        log = self.run.beside(".log")
        if not self.last and log.exists():
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
            self.last = next((x.strip() for x in reversed(lines) if x.strip()), "")
        code = self.process.returncode
        said = self.last.removeprefix("launch/run: ")
        return f"exit {code}: {said}" if said else f"exit {code}"


def shares(jobs: int) -> list[str]:
    """The GPUs of each job, from CUDA_VISIBLE_DEVICES; "" where that says nothing.

    Examples:
      >>> os.environ["CUDA_VISIBLE_DEVICES"] = "0,1,2,3"
      >>> shares(2)
      ['0,2', '1,3']
      >>> del os.environ["CUDA_VISIBLE_DEVICES"]
      >>> shares(2)
      ['', '']
    """
    known = [x for x in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if x]
    if len(known) < jobs:
        return [""] * jobs
    return [",".join(known[i::jobs]) for i in range(jobs)]


def start(runs: Sequence[Run], *, jobs: int = 1, retry: bool = False) -> int:
    """Runs what is not complete, `jobs` at a time; says what became of it.

    Args:
      runs: what to run.
      jobs: processes at the same time.
      retry: whether to run again what failed before.

    Returns:
      0 when all are complete, 75 when a signal stopped them, 1 when some failed.
    """
    failed: list[tuple[Run, str]] = []
    stopped = False
    waiting = collections.deque(enumerate(runs, 1))
    free = collections.deque(shares(jobs))
    running: dict[int, tuple[Job, str]] = {}

    def say(number: int, text: str) -> None:
        print(f"[{number}/{len(runs)}] {text}", flush=True)

    with Forward() as forward:
        while running or (waiting and not forward.caught):
            while waiting and free and not forward.caught:
                number, run = waiting.popleft()
                mark = run.beside(".failed")
                if run.is_complete():
                    say(number, f"complete: {run.workdir}")
                elif mark.exists() and not retry:
                    failed.append((run, mark.read_text(encoding="utf-8").strip()))
                    say(number, f"failed before: {run.workdir} (--retry: once more)")
                else:
                    mark.unlink(missing_ok=True)
                    say(number, run.command)
                    devices = free.popleft()
                    job = Job(run, alone=jobs == 1, devices=devices)
                    running[number] = job, devices
                    forward.processes.append(job.process)
            for number, (job, devices) in list(running.items()):
                code = job.process.poll()
                if code is None:
                    continue
                del running[number]
                free.append(devices)
                forward.processes.remove(job.process)
                seconds = time.monotonic() - job.began
                if code == 0:
                    job.reader.join()
                    say(number, f"done in {seconds:.0f} s: {job.run.workdir}")
                elif code == one.PREEMPTED or forward.caught:
                    stopped = True
                    say(number, f"stopped: {job.reason()}")
                else:
                    reason = job.reason()
                    failed.append((job.run, reason))
                    job.run.beside(".failed").write_text(reason + "\n", "utf-8")
                    say(number, f"failed after {seconds:.0f} s: {reason}")
            time.sleep(0.02)
    for run, reason in failed:
        print(f"failed: {run.command}\n  {reason}", file=sys.stderr)
    if stopped or forward.caught:
        left = sum(not run.is_complete() for run in runs)
        print(
            f"launch.sweep: {forward.caught or 'a signal'}: {left} of {len(runs)} runs "
            "are not complete; the same command goes on",
            file=sys.stderr,
        )
        return one.PREEMPTED
    return 1 if failed else 0


def parser(prog: str, doc: str | None) -> argparse.ArgumentParser:
    """Arguments that the commands for many runs share."""
    found = argparse.ArgumentParser(
        prog=prog, description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    found.add_argument("--seeds", type=int, nargs="+", default=[0], metavar="N")
    one.add_words(found)
    return found


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    arguments = parser("launch/sweep", __doc__)
    arguments.add_argument("--start", action="store_true", help="run, not only print")
    arguments.add_argument(
        "--jobs", type=int, metavar="N", help="run, so many at a time"
    )
    arguments.add_argument(
        "--grid",
        nargs="+",
        action="append",
        default=[],
        metavar=("KEY", "VALUE"),
        help="values of a key, in place of the experiment's sweep()",
    )
    arguments.add_argument(
        "--retry", action="store_true", help="run again what failed before"
    )
    arguments.add_argument(
        "--table", action="store_true", help="only the figures of what is complete"
    )
    arguments.add_argument(
        "--metrics", nargs="+", default=[], metavar="NAME", help="columns of the table"
    )
    args = one.read_words(arguments, argv)
    if args.experiment is None:
        arguments.error("name an experiment")
    if args.jobs is not None and args.jobs < 1:
        arguments.error(f"--jobs: expected 1 or more, got {args.jobs}")
    return args


def combined(args: argparse.Namespace) -> Iterator[list[str]]:
    """The values of each setting: those of --set, then those of the sweep or grid."""
    varied = grid(args.grid) if args.grid else settings(args.experiment)
    for changes in varied:
        yield [*args.set, *changes]


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    args = parse_args(argv)
    try:
        runs = runs_of(args.experiment, list(combined(args)), args.seeds)
        if not (args.start or args.jobs or args.retry or args.table):
            for run in runs:
                print(run.command)
            return 0
        code = 0
        if not args.table:
            code = start(runs, jobs=args.jobs or 1, retry=args.retry)
        from launch import sweep_table

        sweep_table.show(args.experiment, runs, args.metrics)
        return code
    except one.WrongInput as e:
        print(f"launch.sweep: {e}", file=sys.stderr)
        return one.WRONG_INPUT


if __name__ == "__main__":
    output.be_patient()
    sys.exit(main())
