"""`launch/local_processes`: killed, stopped, hung and resumed, in other numbers too.

All but the first tests train SimCLR for a few steps in real processes.
"""

import contextlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from contrastive_jax import parallel
from contrastive_jax.training import checkpoint
from launch import local_processes

ROOT = pathlib.Path(local_processes.__file__).parent.parent
STEPS = 24
SMALL = [
    "simclr:smoke",
    f"train.num_steps={STEPS}",
    "train.log_every=1",
    "train.save_every=6",
    "watch.every=0",
    "eval.train_limit=64",
    "eval.test_limit=64",
]
LOCAL = [sys.executable, "-m", "launch.local_processes"]


def begin(command, cwd):
    """A command in a folder, with what it prints."""
    environ = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(command, cwd):
    """The status of a command, and what it printed."""
    process = begin(command, cwd)
    printed, _ = process.communicate(timeout=600)
    return process.returncode, printed


def run_one(cwd, workdir, *more, devices=2):
    """The same by one process."""
    run = [sys.executable, "-m", "launch.run", *SMALL, "--workdir", workdir]
    return finish([*run, "--devices", str(devices), *more], cwd)


def run_many(cwd, workdir, *more, count=2):
    return finish([*LOCAL, str(count), *SMALL, "--workdir", workdir, *more], cwd)


@contextlib.contextmanager
def running(cwd, workdir, step, *more, count=2):
    """Processes that have taken a step, their ids, and what they printed until then."""
    command = [*LOCAL, str(count), *SMALL, "--workdir", workdir, *more]
    runner, printed = begin(command, cwd), ""
    try:
        for line in runner.stdout:
            printed += line
            found = re.match(r"\[0\] step (\d+)/", line)
            if found and int(found[1]) >= step:
                break
        else:
            pytest.fail(f"it ended early:\n{printed}")
        tasks = pathlib.Path(f"/proc/{runner.pid}/task/{runner.pid}/children")
        pids = [int(pid) for pid in tasks.read_text().split()]
        assert len(pids) == count
        by_id = {}
        for pid in pids:
            words = pathlib.Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            by_id[int(words[words.index("--process-id") + 1])] = pid
        yield runner, by_id, printed
    finally:
        runner.kill()
        for pid in locals().get("pids", []):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def state(folder):
    """The arrays of the newest checkpoint, and its step."""
    manager = checkpoint.Manager(folder / "simclr" / "checkpoints")
    arrays, step = manager.restore_raw(), manager.orbax.latest_step()
    manager.close()
    return arrays, step


def check_same(here, there):
    """Both ended with the same bits and wrote the same bytes."""
    (ours, step), (theirs, other) = state(here), state(there)
    assert step == other == STEPS
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)
    lines = [(x / "simclr" / "metrics.jsonl").read_text() for x in (here, there)]
    assert lines[0] == lines[1] and len(lines[0].splitlines()) == STEPS
    results = [json.loads((x / "result.json").read_text()) for x in (here, there)]
    assert results[0]["metrics"] == pytest.approx(results[1]["metrics"], abs=1e-3)


def test_commands_are_printed(capsys):
    words = ["3", "simclr:smoke", "loss.temperature=0.1", "--workdir", "a b"]
    more = ["--devices-per-process", "2", "--timeout", "9", "--dry-run"]
    assert local_processes.main([*words, *more]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for i, line in enumerate(lines):
        assert "CONTRASTIVE_JAX_TIMEOUT=9 JAX_NUM_CPU_DEVICES=2" in line
        assert "simclr:smoke loss.temperature=0.1 --workdir 'a b'" in line
        assert line.endswith(f"--num-processes 3 --process-id {i}")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0", "simclr"], "processes: expected 1 or more, got 0"),
        (["2"], "name an experiment"),
        (["2", "simclr", "--devices-per-process", "0"], "devices_per_process"),
    ],
)
def test_wrong_words_are_refused(words, message, capsys):
    with pytest.raises(SystemExit) as e:
        local_processes.main(words)
    assert e.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("mapper", [*parallel.MAPPERS, parallel.SHARDED])
def test_killed_and_resumed_as_one_process(tmp_path, mapper):
    """SIGKILL to one process of two; all started again; against one process."""
    own = f"mapper={mapper}"
    assert run_one(tmp_path, "one", own)[0] == 0
    with running(tmp_path, "two", 8, own, "--timeout", "20") as (runner, pids, _):
        os.kill(pids[1], signal.SIGKILL)
        printed, _ = runner.communicate(timeout=300)
    assert runner.returncode == 128 + signal.SIGKILL, printed
    assert "process 1 ended with 137" in printed
    code, printed = run_many(tmp_path, "two", own)
    assert code == 0, printed
    assert re.search(r"\[0\] going on from step (6|12|18)", printed)
    assert not re.search(r"\[1\] (step|going)", printed)  # the first alone prints
    check_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_sigterm_to_one_stops_all_at_one_step_and_one_goes_on(tmp_path):
    """75 for all, the same step saved; then by one process with as many devices."""
    assert run_one(tmp_path, "one")[0] == 0
    with running(tmp_path, "two", 3) as (runner, pids, before):
        os.kill(pids[1], signal.SIGTERM)
        printed, _ = runner.communicate(timeout=300)
    printed = before + printed
    assert runner.returncode == 75, printed
    saved = re.findall(
        r"\[(\d)\] launch/run: SIGTERM in process 1: saved step (\d+) of", printed
    )
    assert {i for i, _ in saved} == {"0", "1"} and len({t for _, t in saved}) == 1
    step = int(saved[0][1])
    assert state(tmp_path / "two")[1] == step < STEPS
    code, printed = run_one(tmp_path, "two")
    assert code == 0, printed
    assert f"going on from step {step} of" in printed
    check_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
def test_two_processes_go_on_as_four(tmp_path):
    """Four devices sum in another order in one process: equal to 1e-5 of the state.

    SGD, because Adam hides a wrong factor; few steps, because rounding brings an input
    of a ReLU to its other side in the end, also on one process with other devices.
    """
    own = ("train.num_steps=6", "train.save_every=1", "optim.name=sgd")
    own += ("optim.learning_rate=0.01",)
    assert run_one(tmp_path, "one", *own, devices=4)[0] == 0
    more = ("--devices-per-process", "2")
    with running(tmp_path, "four", 3, *own, *more) as (runner, pids, _):
        os.kill(pids[0], signal.SIGKILL)
        runner.communicate(timeout=300)
    code, printed = run_many(tmp_path, "four", *own, count=4)
    assert code == 0, printed
    assert re.search(r"going on from step [1-5] of 6", printed)
    (ours, _), (theirs, _) = state(tmp_path / "four"), state(tmp_path / "one")
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a.dtype.kind == "f"]
    apart = np.sqrt(sum(np.sum((a - b).astype(np.float64) ** 2) for a, b in pairs))
    norm = np.sqrt(sum(np.sum(b.astype(np.float64) ** 2) for _, b in pairs))
    assert apart <= 1e-5 * norm


@pytest.mark.slow
def test_one_process_goes_on_as_two(tmp_path):
    assert run_one(tmp_path, "one")[0] == 0
    run = [sys.executable, "-m", "launch.run", *SMALL, "--workdir", "two"]
    process = begin([*run, "--devices", "2"], tmp_path)
    for line in process.stdout:
        if line.startswith("step 3/"):
            process.send_signal(signal.SIGTERM)
            break
    process.communicate(timeout=300)
    assert process.returncode == 75
    assert run_many(tmp_path, "two")[0] == 0
    check_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("hung", [0, 1])
def test_hung_process_ends_the_others(tmp_path, hung):
    with running(tmp_path, "two", 3, "--timeout", "8") as (runner, pids, _):
        os.kill(pids[hung], signal.SIGSTOP)
        began = time.monotonic()
        printed, _ = runner.communicate(timeout=300)
        seconds = time.monotonic() - began
    assert runner.returncode not in (0, 2, 75), printed
    assert seconds < 3 * 8 + 15
    assert f"killed after 8 s: process {hung}" in printed


def refused(commands, folder):
    """What processes print that all end with the code of wrong input."""
    environ = local_processes.environment(1, 30)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environ.items():
            patch.setenv(name, value)
        started = [begin([*c, "--workdir", "two"], folder) for c in commands]
    printed = [process.communicate(timeout=300)[0] for process in started]
    assert [process.returncode for process in started] == [2, 2], printed
    return printed


@pytest.mark.slow
def test_other_config_in_one_process_refuses_in_all(tmp_path):
    port = local_processes.free_port()
    commands = local_processes.commands(2, SMALL, port)
    commands[1].insert(4, "loss.temperature=0.3")
    printed = refused(commands, tmp_path)
    for text in printed:
        assert "process 1 has another config: loss.temperature is 0.3 there" in text
    assert not (tmp_path / "two" / "config.json").exists()


@pytest.mark.slow
def test_refusal_of_one_process_is_heard_by_all(tmp_path):
    commands = local_processes.commands(2, SMALL, local_processes.free_port())
    commands[1].insert(4, "loss.temprature=0.3")
    printed = refused(commands, tmp_path)
    assert "launch/run: process 1: simclr: " in printed[0]
    assert "no key 'loss.temprature'" in printed[0]
