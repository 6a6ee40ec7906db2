"""Many runs: what is printed, what is started again, what the tables say."""

import json

import numpy as np
import pytest
from scipy import stats

from contrastive_jax.report import Report, plots
from launch import reproduce, run, sweep

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


def test_a_failing_run_does_not_stop_the_others(monkeypatch, capfd):
    codes = iter([run.NON_FINITE, 0])
    seen = []

    class Done:
        def __init__(self):
            self.returncode = next(codes)

    def fake(words):
        seen.append(words[3:])
        return Done()

    monkeypatch.setattr(sweep.subprocess, "run", fake)
    assert sweep.main(["template:smoke", "--seeds", "0", "1", "--start"]) == 1
    assert seen == [["template:smoke", "--seed", str(i)] for i in (0, 1)]
    assert "failed: launch/run template:smoke --seed 0" in capfd.readouterr().err


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
