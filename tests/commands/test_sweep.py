"""Many runs: what is printed, what is started again, what the tables say."""

import json
import os
import signal
import sys
import threading
import time

import numpy as np
import pytest
from scipy import stats

from contrastive_jax.report import Report, plots
from launch import reproduce, run, sweep, workdir

VERSIONS = {"python": "3.11.7", "jax": "0.10.2"}


def test_sweep_prints_every_setting_times_seeds(capsys):
    assert sweep.main(["simclr", "--seeds", "3", "4", "--set", "eval.k=7"]) == 0
    lines = capsys.readouterr().out.splitlines()
    settings = sweep.settings("simclr")
    assert len(lines) == 2 * len(settings) > 2
    assert lines[1] == (f"launch/run simclr --seed 4 --set eval.k=7 {settings[0][0]}")
    assert len(set(lines)) == len(lines)


def test_sweep_without_a_sweep_is_its_seeds(capsys):
    assert sweep.main(["template:smoke", "--seeds", "0", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "launch/run template:smoke --seed 0",
        "launch/run template:smoke --seed 1",
    ]


@pytest.mark.parametrize(
    "argv",
    [
        ["simclt"],
        ["simclr:big"],
        ["simclr", "--set", "loss.temprature=1"],
        ["simclr:smoke", "optim.warmup_steps=-1", "--start"],
    ],
)
def test_wrong_names_are_one_line(argv, capsys):
    assert sweep.main(argv) == run.WRONG_INPUT
    assert len(capsys.readouterr().err.splitlines()) == 1


# Stands for launch/run: what it does depends on the seed. 0: done at once. 1: fails
# unless the file `mended` is there. 2: waits for a signal, then ends as a saved run
# does; done when it is started again.
RUN = """
import json, os, pathlib, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
from launch import run
seed = int(sys.argv[sys.argv.index("--seed") + 1])
changes = sys.argv[sys.argv.index("--set") + 1 :] if "--set" in sys.argv else []
folder = run.default_workdir("template", "smoke", seed, changes)
print("output of", seed)
if seed == 1 and not pathlib.Path("mended").exists():
    sys.exit(print("launch/run: step 3: loss is nan", file=sys.stderr) or 3)
begun = folder.exists()
folder.mkdir(parents=True, exist_ok=True)
if seed == 2 and not begun:
    number = signal.sigwait({signal.SIGINT, signal.SIGTERM})
    print("launch/run: saved", signal.Signals(number).name, file=sys.stderr)
    sys.exit(75)
record = {"experiment": "template", "config": {}}
record["code"] = json.loads(os.environ["CODE"])
(folder / "config.json").write_text(json.dumps(record))
(folder / "result.json").write_text(json.dumps({"metrics": {"a/b": float(seed)}}))
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    """An empty current folder, and a run that takes no time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(run.ROOT))
    monkeypatch.setenv("CODE", json.dumps(workdir.code_of("template")))
    script = tmp_path / "run.py"
    script.write_text(RUN)
    monkeypatch.setattr(sweep, "COMMAND", [sys.executable, str(script)])
    return tmp_path


def sweep_seeds(*seeds, more=("--start",)):
    return sweep.main(["template:smoke", "--seeds", *map(str, seeds), *more])


@pytest.mark.parametrize("more", [("--start",), ("--jobs", "2")])
def test_a_failing_run_does_not_stop_the_others(small, capfd, more):
    assert sweep_seeds(0, 1, 3, more=more) == 1
    out, err = capfd.readouterr()
    assert "failed: launch/run template:smoke --seed 1" in err
    assert "exit 3: step 3: loss is nan" in err
    assert "default  2/3" in out and "1.5" in out
    # What is complete is left, what failed waits to be asked for.
    assert sweep_seeds(0, 1, 3, more=more) == 1
    out = capfd.readouterr().out
    assert out.count("complete: ") == 2 and "failed before: " in out
    (small / "mended").touch()
    assert sweep_seeds(0, 1, 3, more=(*more, "--retry")) == 0
    out = capfd.readouterr().out
    assert "default  3/3    1.3 ± 1.5" in out
    assert not list(small.rglob("*.failed"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_a_signal_goes_to_the_runs_and_the_same_command_goes_on(
    small, capfd, jobs, number
):
    waiting = run.default_workdir("template", "smoke", 2, [])

    def interrupt():
        while not waiting.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    code = sweep_seeds(0, 2, 3, 4, more=("--jobs", jobs))
    thread.join()
    out, err = capfd.readouterr()
    assert code == run.PREEMPTED
    assert f"stopped: exit 75: saved {number.name}" in out
    assert f"launch.sweep: {number.name}: " in err and "same command goes on" in err
    assert sweep_seeds(0, 2, 3, 4, more=("--jobs", jobs)) == 0
    assert "default  4/4" in capfd.readouterr().out


def test_a_sweep_of_a_grid_in_folders_named_by_values(small, capfd):
    axes = ["--grid", "eval.k", "3", "5", "--grid", "optim.learning_rate", "0.1"]
    assert sweep_seeds(0, 3, more=(*axes, "--jobs", "2")) == 0
    folders = sorted(x.parent.name for x in small.rglob("result.json"))
    assert folders == [
        f"smoke-seed{seed}-eval.k={k}-optim.learning_rate=0.1"
        for seed in (0, 3)
        for k in (3, 5)
    ]
    out = capfd.readouterr().out
    assert "eval.k=5 optim.learning_rate=0.1  2/2    1.5" in out
    page = (small / "runs" / "template" / "sweep-smoke.html").read_text()
    assert "<th>a/b</th>" in page and "eval.k=3" in page


def test_a_grid_needs_values_and_a_metric_must_exist(small, capsys):
    assert sweep_seeds(0, more=("--grid", "eval.k")) == run.WRONG_INPUT
    assert "--grid eval.k: expected a key and its values" in capsys.readouterr().err
    assert sweep_seeds(0, 0) == run.WRONG_INPUT
    assert "2 of the runs are the same" in capsys.readouterr().err
    assert sweep_seeds(0, more=("--start", "--metrics", "a/c")) == run.WRONG_INPUT
    assert "no metric 'a/c'; a/b" in capsys.readouterr().err


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """Two finished runs of `template`, and an empty tree to write tables to."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "ROOT", tmp_path)
    folder = tmp_path / "experiments" / "template"
    folder.mkdir(parents=True)
    (folder / "experiment.py").write_text('"""The template."""\n')
    for seed, (a, b) in enumerate([(1.0, 0.5), (3.0, 0.75)]):
        result = {
            "metrics": {"ours/knn": a, "pixels/knn": b, "steps": 40},
            "wall_seconds": 2.0,
            "git_revision": "abc",
            "versions": VERSIONS,
            "machine": {"device": "cpu", "devices": 1, "cpu_cores": 2},
        }
        file = run.default_workdir("template", "", seed, []) / "result.json"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(result))
    return folder / reproduce.FILE


def collect(*more):
    return reproduce.main(["template", "--seeds", "0", "1", "--collect", *more])


def test_the_table_holds_mean_and_deviation_of_the_sample(finished, capsys):
    assert collect("--compare", "ours/knn", "pixels/knn") == 0
    (entry,) = json.loads(finished.read_text())
    ours = entry["metrics"]["ours/knn"]
    assert ours["mean"] == 2.0 and ours["values"] == [1.0, 3.0]
    assert ours["std"] == pytest.approx(np.std([1.0, 3.0], ddof=1))
    found = entry["comparisons"][0]
    want = stats.ttest_rel([1.0, 3.0], [0.5, 0.75])
    assert found["p"] == pytest.approx(want.pvalue) and found["mean"] == 1.375
    out = capsys.readouterr().out
    assert "| ours | 2.0 ± 1.4 |" in out and "ours/knn - pixels/knn" in out
    assert reproduce.main([]) == 0
    assert "| ours | 2.0 ± 1.4 |" in capsys.readouterr().out


def test_the_same_settings_take_the_place_of_the_old(finished):
    assert collect() == 0 and collect() == 0
    assert len(json.loads(finished.read_text())) == 1


def test_an_unfinished_seed_is_named(finished, capsys):
    argv = ["template", "--seeds", "0", "7", "--collect"]
    assert reproduce.main(argv) == run.WRONG_INPUT
    assert "seed7/result.json is not there" in capsys.readouterr().err
    assert not finished.exists()


def test_runs_of_other_versions_are_not_mixed(finished, capsys):
    file = run.default_workdir("template", "", 1, []) / "result.json"
    result = json.loads(file.read_text())
    result["versions"] = {**VERSIONS, "jax": "0.12.0"}
    file.write_text(json.dumps(result))
    assert collect() == run.WRONG_INPUT
    assert "differ in versions" in capsys.readouterr().err


def test_comparing_an_unknown_metric_names_those_there_are(finished, capsys):
    assert collect("--compare", "ours/knn", "ours/map") == run.WRONG_INPUT
    assert "no metric 'ours/map'; ours/knn" in capsys.readouterr().err


def test_a_picture_of_the_report_by_its_description(finished, capsys):
    folder = run.default_workdir("template", "", 0, [])
    report = Report("page")
    report.figure(
        plots.lines({"a": {"b": ([1], [2.0])}}, xlabel="", ylabel=""), "of a & b"
    )
    report.write(folder)
    assert collect("--picture", "a & b") == 0
    picture = finished.parent / "images" / "a_b.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert str(picture) in capsys.readouterr().out
    assert collect("--picture", "of c") == run.WRONG_INPUT
    assert "no picture 'of c'; of a & b" in capsys.readouterr().err
