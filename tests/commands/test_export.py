"""launch.export: the encoder of a run as weights or a program, read again and equal."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import contrastive_jax
from contrastive_jax import training
from contrastive_jax.models import pretrained
from experiments.simclr import config as simclr_config
from experiments.simclr import experiment as simclr
from experiments.simcse import config as simcse_config
from experiments.simcse import experiment as simcse
from launch import export
from tests.test_load import describe, save, snapshot

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
UNIT = IMAGES.astype(np.float32) / 255
TEXTS = ["a b c", "another text that is longer"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A run with two trainings; one of them is a published kind of ResNet."""
    workdir = tmp_path_factory.mktemp("runs") / "simclr"
    config = simclr_config.get_config("smoke")
    published = training.changed(config, {"model.stem": "imagenet"})
    save(workdir, "simclr", config, simclr.init(config))
    save(workdir, "published", published, simclr.init(published))
    describe(workdir, "simclr", config)
    return workdir


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "simcse"
    config = simcse_config.get_config("smoke")
    save(workdir, "simcse", config, simcse.init(config))
    describe(workdir, "simcse", config)
    return workdir


def test_weights_in_a_published_layout(images, tmp_path, capsys):
    before = snapshot(images)
    words = [str(images), str(tmp_path / "m"), "--method", "published"]
    assert export.main(words) == 0
    said = capsys.readouterr().out
    assert "the layout of Hugging Face's ResNetModel (step 3 of published)" in said
    assert snapshot(images) == before
    loaded = pretrained.load_vision(tmp_path / "m")
    found = loaded.model.apply(loaded.variables, jnp.asarray(UNIT), train=False)
    want = contrastive_jax.load_run(images, "published").encode(IMAGES)
    np.testing.assert_allclose(found, want, atol=1e-5)
    card = (tmp_path / "m" / "README.md").read_text()
    assert "`launch/run simclr:smoke`, seed 0, training `published`, 3 steps" in card
    assert '"stem": "imagenet"' in card and "The run was not over" in card


def test_weights_without_one(images, tmp_path, capsys):
    """By their paths, and the reason is said."""
    words = [str(images), str(tmp_path / "m"), "--method", "simclr"]
    assert export.main(words) == 0
    assert "stem: expected 'imagenet'" in capsys.readouterr().out
    run = contrastive_jax.load_run(images, "simclr")
    found = pretrained.load_arrays(tmp_path / "m")
    want = {"params": run.state.params, "batch_stats": run.state.model_state}
    jax.tree.map(np.testing.assert_array_equal, found, want)
    about = json.loads((tmp_path / "m" / "config.json").read_text())
    assert about["experiment"] == "simclr" and about["config"]["model"]["width"] == 8


def test_a_program_of_images(images, tmp_path, without_type_hooks):
    words = [str(images), str(tmp_path / "m"), "--format", "stablehlo"]
    assert export.main([*words, "--method", "simclr"]) == 0
    program = pretrained.load_program(tmp_path / "m")
    want = contrastive_jax.load_run(images, "simclr").encode(IMAGES)
    np.testing.assert_allclose(program(UNIT), want, atol=1e-5)
    about = json.loads((tmp_path / "m" / "config.json").read_text())
    assert about["inputs"] == {"image": ["b, 8, 8, 1", "float32"]}
    assert about["platforms"] == ["cpu", "cuda", "tpu"]


def test_texts_as_weights_and_as_a_program(texts, tmp_path, without_type_hooks):
    run = contrastive_jax.load_run(texts)
    want = run.encode(TEXTS)
    assert "sentence-transformers" in run.save(tmp_path / "weights")
    encoder = pretrained.load_encoder(tmp_path / "weights")
    found = encoder.encode(encoder.params, TEXTS)
    np.testing.assert_allclose(found, want, atol=1e-5)
    run.save(tmp_path / "program", "stablehlo")
    rows = run.encoder.tokenize(TEXTS).tokens
    longest = max(map(len, rows))
    tokens = np.stack([np.pad(row, (0, longest - len(row))) for row in rows])
    where = np.arange(longest) < np.array([[len(row)] for row in rows])
    program = pretrained.load_program(tmp_path / "program")
    np.testing.assert_allclose(program(tokens, where), want, atol=1e-5)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--method", "none"], "method: expected one of published, simclr"),
        (["--format", "stablehlo"], "method: expected one of"),
    ],
)
def test_wrong_input_is_one_line(images, tmp_path, words, message, capsys):
    out = tmp_path / "m"
    assert export.main([str(images), str(out), *words]) == export.WRONG_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not out.exists()


def test_a_folder_in_use_and_no_run(images, tmp_path, capsys, without_type_hooks):
    (tmp_path / "file").write_text("")
    words = [str(images), str(tmp_path), "--method", "simclr"]
    assert export.main(words) == export.WRONG_INPUT
    assert "folder: expected a new or empty one" in capsys.readouterr().err
    assert export.main([str(tmp_path), str(tmp_path / "m")]) == export.WRONG_INPUT
    assert "expected the folder of a run" in capsys.readouterr().err
    with pytest.raises(ValueError, match="form: expected"):
        contrastive_jax.load_run(images, "simclr").save(tmp_path / "m", "onnx")
