"""load_run: config, state and encoder of a run, and nothing written in its folder."""

import json
import pathlib
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive_jax
from contrastive_jax import load, training
from contrastive_jax.report import record
from contrastive_jax.tasks import images
from contrastive_jax.training import checkpoint
from contrastive_jax.training import config as configs
from experiments.clip import config as clip_config
from experiments.clip import experiment as clip
from experiments.simclr import config as simclr_config
from experiments.simclr import experiment as simclr
from experiments.simcse import config as simcse_config
from experiments.simcse import experiment as simcse
from tests.training.test_loop import assert_same_bits, cut_in_half

ROOT = pathlib.Path(load.__file__).parent.parent


def save(workdir, method, config, state, steps=(3,)):
    """A training as `training.train` leaves it."""
    training.write_config(config, workdir / method)
    manager = checkpoint.Manager(workdir / method / "checkpoints", keep=9)
    for step in steps:
        manager.save(step, state.replace(step=jnp.int32(step)))
    manager.close()


def describe(workdir, name, config, **more):
    """config.json as `launch/run` writes it."""
    folders = (f"experiments/{name}", "contrastive_jax")
    about = {
        "experiment": name,
        "variant": "smoke",
        "config": configs.plain(config),
        "code": {folder: record.code_digest(ROOT / folder) for folder in folders},
    }
    record.write_atomic(workdir / "config.json", json.dumps(about | more))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run of simclr with two trainings, and their states."""
    workdir = tmp_path_factory.mktemp("runs") / "simclr"
    config = simclr_config.get_config("smoke")
    other = training.changed(config, {"model.width": 4, "loss.temperature": 0.2})
    states = {"simclr": simclr.init(config), "narrow": simclr.init(other)}
    save(workdir, "simclr", config, states["simclr"], (3, 6))
    save(workdir, "narrow", other, states["narrow"])
    describe(workdir, "simclr", config)
    return workdir, states


def snapshot(folder):
    """Names, sizes and times of all files."""
    stats = {path: path.stat() for path in [folder, *folder.rglob("*")]}
    return {path: (s.st_size, s.st_mtime_ns, s.st_ino) for path, s in stats.items()}


def test_config_state_and_encoder(saved, capsys):
    workdir, states = saved
    before = snapshot(workdir)
    run = contrastive_jax.load_run(workdir, "simclr")
    assert (run.method, run.step, run.experiment) == ("simclr", 6, simclr)
    assert run.config == simclr_config.get_config("smoke")
    assert isinstance(run.config.optim.b1, float)
    assert_same_bits(run.state.replace(step=jnp.int32(0)), states["simclr"])
    narrow = load.load_run(str(workdir), "narrow")
    assert narrow.config.loss.temperature == 0.2
    assert_same_bits(narrow.state.params, states["narrow"].params)
    image = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
    want = images.encode_images(simclr.encode(run.config, states["simclr"]), image)
    np.testing.assert_allclose(run.encode(image), want, atol=1e-6)
    np.testing.assert_allclose(run.encode(image, batch=2), want, atol=1e-6)
    unit = image.astype(np.float32) / 255
    np.testing.assert_allclose(run.encode(unit), want, atol=1e-5)
    assert narrow.encode(image).shape == (5, 4)
    assert snapshot(workdir) == before
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (["a text"], "expected images .* got <U6"),
        (np.zeros((0, 8, 8, 1), np.uint8), r"got uint8 \[0, 8, 8, 1\]"),
        (np.full((1, 8, 8, 1), 7.0), "values from 7.0 to 7.0"),
        (np.zeros((2, 8, 8, 3), np.uint8), r"\[8, 8, 3\] does not fit the encoder"),
        (np.zeros((1, 8, 8, 1), int), "got int64"),
    ],
)
def test_inputs_that_do_not_fit(saved, inputs, message):
    with pytest.raises(ValueError, match=message):
        load.load_run(saved[0], "simclr").encode(inputs)


def test_which_method(saved):
    for method in (None, "simclr/checkpoints", "../simclr"):
        with pytest.raises(load.LoadError, match="expected one of narrow, simclr"):
            load.load_run(saved[0], method)


def test_other_code_is_said_in_one_line(saved, tmp_path, capsys):
    config = simclr_config.get_config("smoke")
    save(tmp_path, "simclr", config, saved[1]["simclr"])
    describe(tmp_path, "simclr", config, code={"contrastive_jax": "0"})
    load.load_run(tmp_path)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "(experiments/simclr and contrastive_jax changed since)" in error


def test_damaged_and_removed_checkpoints_are_stepped_over(saved, tmp_path):
    """The one before is taken, and the damaged one stays where it is."""
    config = simclr_config.get_config("smoke")
    save(tmp_path, "simclr", config, saved[1]["simclr"], (1, 2, 3))
    describe(tmp_path, "simclr", config)
    folder = tmp_path / "simclr" / "checkpoints"
    cut_in_half(folder / "3")
    before = snapshot(tmp_path)
    assert load.load_run(tmp_path).step == 2
    assert snapshot(tmp_path) == before
    for step in (1, 2):
        cut_in_half(folder / str(step))
    with pytest.raises(load.LoadError, match="expected a checkpoint that can be read"):
        load.load_run(tmp_path)


def test_what_is_no_run(tmp_path, saved):
    with pytest.raises(load.LoadError, match="expected the folder of a run"):
        load.load_run(tmp_path)
    config = simclr_config.get_config("smoke")
    for name in ("os", "..", "simclr.config", "simclr/../simclr"):
        describe(tmp_path, "simclr", config, experiment=name)
        with pytest.raises(load.LoadError, match=r"no experiment .*there is: adacad"):
            load.load_run(tmp_path)
    describe(tmp_path, "simclr", config)
    with pytest.raises(load.LoadError, match="method: expected a checkpoint in"):
        load.load_run(tmp_path)
    save(tmp_path, "simclr", config, saved[1]["narrow"])
    with pytest.raises(load.LoadError, match="belongs to another config or version"):
        load.load_run(tmp_path)
    (tmp_path / "simclr" / "train.json").unlink()
    with pytest.raises(load.LoadError, match=r"no train.json: .* by an older version"):
        load.load_run(tmp_path)


def test_looking_does_not_disturb_a_run(tmp_path):
    """Read again and again while another thread saves and removes old steps."""
    tx = training.make_optimizer("adamw", learning_rate=0.1, num_steps=9)
    state = training.TrainState(**training.init_fields(0, {"w": jnp.ones(300_000)}, tx))
    shapes, errors, last = jax.eval_shape(lambda: state), [], 12
    folder = tmp_path / "checkpoints"
    manager = checkpoint.Manager(folder)

    def train():
        try:
            for step in range(1, last + 1):
                params = {"w": jnp.full(300_000, float(step))}
                manager.save(step, state.replace(params=params))
            manager.close()
        except Exception as e:
            errors.append(e)

    thread, seen = threading.Thread(target=train), []
    thread.start()
    while thread.is_alive():
        try:
            found, step = checkpoint.read(folder, shapes)
        except checkpoint.CheckpointError:
            continue  # before the first; or both were removed while they were read
        np.testing.assert_array_equal(found.params["w"], float(step))
        seen.append(step)
    thread.join()
    assert not errors and seen == sorted(seen) and len(seen) > 1
    assert checkpoint.read(folder, shapes)[1] == last
    assert checkpoint.steps_of(folder) and not [*folder.glob("*damaged*")]


def test_texts(tmp_path):
    """Of a sentence encoder, with its own tokenizer."""
    config = simcse_config.get_config("smoke")
    state = simcse.init(config)
    save(tmp_path, "simcse", config, state)
    describe(tmp_path, "simcse", config)
    run = contrastive_jax.load_run(tmp_path)
    texts = ["a b c", "another text", "a b c"]
    found = run.encode(texts)
    want = simcse.encode(config, state)
    np.testing.assert_allclose(found, want.encode(want.params, texts), atol=1e-6)
    assert np.array_equal(found[0], found[2]) and not np.allclose(found[0], found[1])
    with pytest.raises(ValueError, match="expected a list of texts"):
        run.encode("a b c")


def test_an_image_tower():
    config = clip_config.get_config("smoke")
    config.data.update(size=8, tokens=4, vocabulary=20)
    state = clip.init(config)
    image = np.random.default_rng(0).uniform(size=(2, 8, 8, 3)).astype(np.float32)
    found = load.encode_arrays(clip.encode(config, state), image)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_experiments_are_found_from_any_folder(monkeypatch):
    """Beside the package, also where only the package is on the path."""
    monkeypatch.setattr(sys, "path", [x for x in sys.path if x not in ("", str(ROOT))])
    assert load.find_experiment("simclr") is simclr
    assert sys.path[-1] == str(ROOT)
    with pytest.raises(AttributeError, match="has no attribute 'load_runs'"):
        getattr(contrastive_jax, "load_runs")  # noqa: B009
