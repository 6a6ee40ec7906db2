"""One run of one experiment: the command behind `launch/run`.

Exit codes: 0 done (or complete already), 2 wrong input (one line says what), 3 a metric
became NaN or infinite, 75 stopped by a signal after saving, 1 anything else.

Of several processes (`--coordinator` or the scheduler's environment) all run the same
command, and the first alone prints and writes.
"""

import argparse
import ast
import contextlib
import difflib
import functools
import hashlib
import importlib
import json
import os
import pathlib
import re
import shlex
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Any

from launch import output
from launch import workdir as workdirs
from launch.workdir import WrongInput

ROOT = pathlib.Path(__file__).resolve().parent.parent
WRONG_INPUT, NON_FINITE, PREEMPTED = 2, 3, 75


def experiments() -> dict[str, str]:
    """Every experiment with the first line of its docstring, without importing it."""
    found = {}
    for file in sorted((ROOT / "experiments").glob("*/experiment.py")):
        doc = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        found[file.parent.name] = doc.partition("\n")[0]
    return found


def parse_args(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="launch/run", description=__doc__)
    add_words(parser)
    parser.add_argument("--workdir", help="folder of the run (default: under runs/)")
    parser.add_argument("--seed", type=int, help="seed of everything random")
    parser.add_argument(
        "--devices", type=int, help="devices to use; on a CPU so many are emulated"
    )
    parser.add_argument(
        "--anew", action="store_true", help="remove what is in the folder, start over"
    )
    parser.add_argument(
        "--evaluate",
        action="store_true",
        help="evaluate what is trained once more, and report",
    )
    parser.add_argument(
        "--allow-change",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY",
        help="values that may differ from those that the run was begun with, or code",
    )
    parser.add_argument("--list", action="store_true", help="all experiments, and stop")
    parser.add_argument(
        "--show", action="store_true", help="variants and config values, and stop"
    )
    parser.add_argument(
        "--logger",
        nargs="+",
        default=["tensorboard"],
        metavar="NAME",
        help="where metrics go besides metrics.jsonl: tensorboard, wandb, none",
    )
    parser.add_argument(
        "--profile", metavar="START:STOP", help="write a trace of these steps"
    )
    parser.add_argument(
        "--coordinator",
        metavar="HOST:PORT",
        help="of several processes the first one's address; auto: jax finds out (TPU)",
    )
    parser.add_argument("--num-processes", type=int, help="how many there are")
    parser.add_argument("--process-id", type=int, help="which one this is, from 0 on")
    parser.add_argument("--debug", action="store_true", help="full traceback of errors")
    args = read_words(parser, argv)
    if not args.list and args.experiment is None:
        parser.error("name an experiment, or --list")
    return args


def observed(args: argparse.Namespace) -> dict[str, Any]:
    """What `training.observing` takes, from the command line.

    Raises:
      WrongInput: no such logger, or steps of another form.
    """
    from contrastive_jax.training import loggers

    names = tuple(dict.fromkeys(x for x in args.logger if x != "none"))
    try:
        for name in names:
            loggers.check(name)
    except ValueError as e:
        raise WrongInput(f"--logger: {e}") from e
    steps = None
    if args.profile is not None:
        match = re.fullmatch(r"(\d+):(\d+)", args.profile)
        steps = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= steps[0] <= steps[1]:
            raise WrongInput(
                f"--profile: expected the first and the last step, as in 100:110, got "
                f"{args.profile!r}"
            )
    return {"loggers": names, "profile": steps, "costs": True}


def add_words(parser: argparse.ArgumentParser) -> None:
    """Adds what `read_words` reads: an experiment and config values, in any order."""
    parser.add_argument(
        "words",
        nargs="*",
        metavar="EXPERIMENT[:VARIANT] KEY=VALUE",
        help="what to run, and config values, for example loss.temperature=0.2",
    )
    parser.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="config values as well",
    )


def read_words(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> argparse.Namespace:
    """The command line, with `experiment` (None for none) and all values in `set`."""
    try:
        words = config_flags(sys.argv[1:] if argv is None else argv)
    except ValueError as e:
        parser.error(str(e))
    args = parser.parse_intermixed_args(words)
    names = [word for word in args.words if "=" not in word]
    values = [word for word in args.words if "=" in word]
    if not names:  # --set may have taken the name
        names = [word for word in args.set if "=" not in word]
        args.set = [word for word in args.set if "=" in word]
    args.experiment = names[0] if names else None
    args.set = [*values, *args.set, *names[1:]]  # what is neither is refused later
    return args


def config_flags(argv: Sequence[str]) -> list[str]:
    """The flags of `ml_collections.config_flags` as an experiment and its values.

    Raises:
      ValueError: a file that is not the config of an experiment, or a flag without a
        value.

    Examples:
      >>> config_flags(["--config=experiments/simclr/config.py:smoke"])
      ['simclr:smoke']
      >>> config_flags(["moco", "--config.loss.temperature", "0.5", "--seed", "1"])
      ['loss.temperature=0.5', 'moco', '--seed', '1']
    """
    kept, values, rest = [], [], iter(argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != "--config" and not flag.startswith("--config."):
            kept.append(word)
            continue
        if not equals and (value := next(rest, None)) is None:
            raise ValueError(f"{flag}: expected a value")
        if flag == "--config":
            place, _, variant = value.partition(":")
            file = pathlib.Path(place).expanduser()
            found = {(ROOT / "experiments" / x / "config.py"): x for x in experiments()}
            name = found.get(file.resolve()) or found.get((ROOT / file).resolve())
            if name is None:
                raise ValueError(
                    f"--config: expected experiments/NAME/config.py[:VARIANT], got "
                    f"{value!r}"
                )
            kept.append(f"{name}:{variant}" if variant else name)
        else:
            values.append(f"{flag.removeprefix('--config.')}={value}")
    return values + kept  # first, so that no option before them takes them


def configure(experiment: str, changes: Sequence[str]) -> tuple[Any, Any, Any]:
    """The experiment, its config with changes, and its checks.

    Raises:
      WrongInput: no such experiment, variant or key, or a value that it cannot have.
    """
    from contrastive_jax.training import config as configs

    name, _, variant = experiment.partition(":")
    module, config_module = load(name)
    try:
        config = config_module.get_config(variant)
        configs.override(config, changes, config_module.CHECKS)
    except (ValueError, configs.ConfigError) as e:
        raise WrongInput(f"{name}: {e}") from e
    return module, config, config_module.CHECKS


def load(name: str):
    """The experiment and config modules of a name.

    Raises:
      WrongInput: no such experiment.
    """
    known = experiments()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise WrongInput(f"no experiment {name!r}{hint} (all: launch/run --list)")
    module = f"experiments.{name}"
    return (
        importlib.import_module(f"{module}.experiment"),
        importlib.import_module(f"{module}.config"),
    )


def use_devices(count: int) -> None:
    """Has jax emulate `count` devices on a CPU, if it has not started yet."""
    import jax

    if count:
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)


def compilation_cache(devices: Sequence[Any]) -> None:
    """Keeps compiled programs between runs, but not those of several CPU devices.

    XLA (jax 0.10.2 to 0.12.0) runs the collectives of a program for CPUs that it has
    read from a cache in any order and mixes up what they send.
    """
    import jax

    from contrastive_jax.data import packaged

    if devices[0].platform == "cpu" and len(devices) > 1:
        return
    jax.config.update("jax_compilation_cache_dir", str(packaged.cache_dir() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def default_workdir(
    experiment: str, variant: str, seed: int, changes: Sequence[str]
) -> pathlib.Path:
    """runs/EXPERIMENT/VARIANT-seedN, with the values that were set.

    What is long, or no part of a file's name, is cut and has a hash in its place.

    Examples:
      >>> default_workdir("simclr", "", 0, ["loss.temperature=0.1"]).name
      'default-seed0-loss.temperature=0.1'
    """
    name = f"{variant or 'default'}-seed{seed}"
    apart = ("seed=", *(f"{key}=" for key in ("mapper", "devices")))
    kept = "-".join(sorted(x for x in changes if not x.startswith(apart)))
    clear = re.sub(r"[^\w.=+-]", "_", kept, flags=re.ASCII)[:80]
    if clear != kept:
        clear += "-" + hashlib.sha256(kept.encode()).hexdigest()[:8]
    return pathlib.Path("runs") / experiment / (f"{name}-{clear}" if clear else name)


def parts(experiment, config, checks) -> list:
    """The configs of the steps that a run takes: of its stages, or of its methods."""
    from contrastive_jax import training
    from contrastive_jax.training import config as configs

    known = configs.flatten(config)
    changes = [{"stage": stage} for stage in checks.stages]
    changes = changes or list(getattr(experiment, "METHODS", {}).values())
    changes = [x for x in changes if set(x) <= set(known)]
    return [training.changed(config, x) for x in changes] or [config]


def preflight(experiment, config, checks) -> None:
    """Reads the first batch and looks at the shapes of every step, writing nothing.

    Raises:
      WrongInput: what any of it says of the config, the data or the step.
    """
    import jax

    from contrastive_jax import training
    from contrastive_jax.parallel import distributed

    try:
        for own in parts(experiment, config, checks):
            state = batch = None
            if hasattr(experiment, "init"):
                state = jax.eval_shape(functools.partial(experiment.init, own))
            if hasattr(experiment, "batches"):
                batch = distributed.whole_shapes(next(experiment.batches(own, 0)))
            if hasattr(experiment, "make_step"):
                training.check_step(experiment.make_step(own), state, batch)
    except Exception as e:
        line = (str(e).strip().splitlines() or [""])[0]
        if isinstance(e, ValueError) or type(e).__name__ == "DataMissing":
            raise WrongInput(line) from e
        raise WrongInput(f"{type(e).__name__}: {line} (--debug shows where)") from e


def connect(args: argparse.Namespace) -> bool:
    """Connects the processes of the run, if there are several; whether there are.

    Raises:
      WrongInput: they cannot be connected.
    """
    from contrastive_jax.parallel import distributed
    from contrastive_jax.report import record as records

    try:
        seconds = float(os.environ.get("CONTRASTIVE_JAX_TIMEOUT", distributed.TIMEOUT))
        cluster = distributed.find(
            args.coordinator, args.num_processes, args.process_id
        )
        distributed.start(cluster, seconds)
    except distributed.DistributedError as e:
        raise WrongInput(str(e)) from e
    if not distributed.is_first():
        sys.stdout = open(os.devnull, "w")
        records.WRITES = False
    return cluster is not None


def agree(record: dict[str, Any]) -> None:
    """Checks that all processes have come here, with the same config and code.

    Raises:
      WrongInput: one refuses, or has another config; says which and why.
    """
    from contrastive_jax.parallel import distributed
    from contrastive_jax.training import config as configs

    texts = distributed.exchange("checks", json.dumps({"record": record}))
    said = [json.loads(text) for text in texts]
    for i, x in enumerate(said):
        if "error" in x:
            raise WrongInput(f"process {i}: {x['error']}")
        here, there = (configs.flatten(y["record"]) for y in (x, said[0]))
        for key in sorted({*here, *there}):
            if here.get(key) != there.get(key):
                raise WrongInput(
                    f"process {i} has another config: {key.removeprefix('config.')} is "
                    f"{here.get(key, 'absent')} there, {there.get(key, 'absent')} in "
                    "process 0"
                )


def run(args: argparse.Namespace) -> int:
    """Runs what the command line says."""
    import jax

    from contrastive_jax import training
    from contrastive_jax.parallel import distributed
    from contrastive_jax.report import page
    from contrastive_jax.report import record as records
    from contrastive_jax.training import config as configs

    began = time.monotonic()
    several = connect(args)
    name, _, variant = args.experiment.partition(":")
    changes = list(args.set)
    changes += [] if args.seed is None else [f"seed={args.seed}"]
    changes += [] if args.devices is None else [f"devices={args.devices}"]
    experiment, config, checks = configure(args.experiment, changes)
    if args.show:
        from launch import show as showing

        print(showing.show(args.experiment, config))
        return 0
    watched = observed(args)
    workdir = default_workdir(name, variant, config.seed, args.set)
    workdir = pathlib.Path(args.workdir or workdir).expanduser()
    workdirs.check_writable(workdir)
    use_devices(0 if several else config.get("devices", 0))
    from contrastive_jax import parallel

    try:
        devices = parallel.choose_devices(config.get("devices", 0))
        configs.check(config, len(devices), checks)
    except (ValueError, configs.ConfigError) as e:
        raise WrongInput(f"{name}: {e}") from e
    compilation_cache(devices)
    record = {"experiment": name, "variant": variant, "config": configs.plain(config)}
    record["code"] = workdirs.code_of(name, ROOT)
    first = distributed.is_first()
    # Nothing is looked at before the folder is held.
    with workdirs.held(workdir) if first else contextlib.nullcontext():
        known = look(args, workdir, record)
        if known is not None:
            print(f"{args.experiment} is complete in {workdir} (--anew: once more)")
            show(workdir, known)
            return 0
        preflight(experiment, config, checks)
        agree(record)
        if args.anew and first:
            workdirs.remove_run(workdir)
        file = workdir / workdirs.CONFIG
        records.write_atomic(file, json.dumps(record, indent=2) + "\n")
        agree(record)
        if not file.exists():
            raise WrongInput(
                f"--workdir {workdir} is no folder that all processes share"
            )
        kind = devices[0].device_kind
        print(f"{args.experiment} -> {workdir} ({len(devices)} x {kind})")
        with training.observing(**watched):
            metrics = experiment.run(config, workdir)
        records.write_result(
            workdir,
            experiment=name,
            variant=variant,
            config=record["config"],
            metrics=metrics,
            wall_seconds=time.monotonic() - began,
            devices=jax.devices(),
            code=record["code"],
        )
        if first:
            page.add_provenance(workdir)
        show(workdir, metrics)
    return 0


def look(
    args: argparse.Namespace, workdir: pathlib.Path, record: dict[str, Any]
) -> dict[str, Any] | None:
    """Looks at what a workdir holds: the figures of a complete run, or None.

    Raises:
      WrongInput: it holds something else than this run.
    """
    if args.anew:
        workdirs.check_removable(workdir)
        return None
    old = workdirs.read_record(workdir)
    if old is None:
        return None
    metrics = workdirs.read_metrics(workdir, record["experiment"])
    metrics = None if args.evaluate else metrics
    complete = metrics is not None
    workdirs.check_same(workdir, old, record, args.allow_change, complete)
    return metrics


def show(workdir: pathlib.Path, metrics: dict) -> None:
    """Prints final metrics and where everything lies."""
    width = max(map(len, metrics), default=0)
    for key, value in metrics.items():
        shown = f"{value:.4f}" if isinstance(value, float) else value
        print(f"  {key:<{width}}  {shown}")
    files = [workdir / "result.json", workdir / "report.html"]
    for file in [*files, *sorted(workdir.rglob("metrics.jsonl"))]:
        if file.exists():
            print(f"  {file}")


def stopped_early(number, frame) -> None:
    """Ends the process at a signal that comes before there is anything to save."""
    name = signal.Signals(number).name
    print(
        f"launch/run: {name}: stopped, nothing was begun", file=sys.stderr, flush=True
    )
    os._exit(PREEMPTED)


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    args = parse_args(words)
    if args.list:
        known = experiments()
        width = max(map(len, known))
        for name, line in known.items():
            print(f"{name:<{width}}  {line}")
        return 0
    from contrastive_jax import training
    from contrastive_jax.data import packaged
    from contrastive_jax.training import signals

    codes = {
        WRONG_INPUT: (WrongInput, packaged.DataMissing, training.CheckpointError),
        NON_FINITE: training.NonFinite,
        PREEMPTED: training.Preempted,
    }
    try:
        with signals.Stop():
            return run(args)
    except (Exception, training.Preempted) as e:
        if args.debug:
            raise
        tell_others(e)
        for code, kinds in codes.items():
            if isinstance(e, kinds):
                again = [x for x in words if x not in ("--anew", "--evaluate")]
                more = f"; to go on: launch/run {shlex.join(again)}"
                shown = more if code == PREEMPTED else ""
                print(f"launch/run: {e}{shown}", file=sys.stderr)
                return code
        end_alone(e)
        raise


def tell_others(error: BaseException) -> None:
    """Has the other processes refuse as well where they `agree`."""
    from contrastive_jax.parallel import distributed

    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    distributed.say("checks", json.dumps({"error": line}))


def end_alone(error: BaseException) -> None:
    """Ends a process that failed alone; at a usual exit it would wait for others."""
    from contrastive_jax.parallel import distributed

    if distributed.num_processes() > 1:
        traceback.print_exception(error)
        print(
            f"launch/run: process {distributed.process_id()} failed; where it lost a "
            "connection, another process ended first and says why",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stopped_early)
    output.be_patient()
    output.break_silence()
    sys.exit(main())
