"""launch.encode on small models and runs of its own, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

import contrastive_jax
from contrastive_jax.models import pretrained
from experiments.simclr import config as simclr_config
from experiments.simclr import experiment as simclr
from experiments.simcse import config as simcse_config
from experiments.simcse import experiment as simcse
from experiments.template import config as template_config
from experiments.template import experiment as template
from launch import encode
from tests.models.test_pretrained_encoders import make_encoder
from tests.test_load import describe, save, snapshot

LINES = ["a b", "c", "d e f a b c d e f", "a f", "b"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return pretrained.save_encoder(make_encoder(), tmp_path_factory.mktemp("m") / "m")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n")
    return path


def test_rows_are_lines(folder, file, capsys):
    """In order, also by pieces; what was cut is said once."""
    assert encode.main([str(folder), str(file)]) == 0
    said = capsys.readouterr().out
    assert "5 texts, 8 dimensions" in said and "1 had more than 8 tokens" in said
    rows = np.load(file.with_suffix(".npy"))
    assert rows.shape == (5, 8) and rows.dtype == np.float32
    encoder = pretrained.load_encoder(folder)
    want = encoder.encode(encoder.params, encoder.tokenize(LINES))
    np.testing.assert_allclose(rows, want, atol=1e-6)
    out = file.with_name("other.npy")
    assert encode.main([str(folder), str(file), "--out", str(out), "--piece", "2"]) == 0
    np.testing.assert_allclose(np.load(out), want, atol=1e-6)
    assert {p.name for p in file.parent.iterdir()} == {
        "texts.txt",
        "texts.npy",
        "other.npy",
    }


@pytest.mark.parametrize(
    ("words", "text", "message"),
    [
        ([], "a\n \nb\n", "texts.txt:2: expected a text, got none"),
        ([], "", "expected a line or more"),
        ([], b"\xff\xfe\xfa", "expected a text file in UTF-8"),
        (["--out", "none/there.npy"], "a\n", "--out: expected an existing folder"),
        (["--out", "FILE"], "a\n", "--out: expected another file"),
        (["--piece", "0"], "a\n", "--piece: expected at least 1"),
    ],
)
def test_wrong_input_is_one_line(folder, file, words, text, message, capsys):
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    words = [str(file) if word == "FILE" else word for word in words]
    assert encode.main([str(folder), str(file), *words]) == encode.WRONG_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert [p.name for p in file.parent.iterdir()] == ["texts.txt"]


def test_a_folder_that_is_none(file, tmp_path, capsys):
    assert encode.main([str(tmp_path / "none"), str(file)]) == encode.WRONG_INPUT
    assert "expected a folder with config.json" in capsys.readouterr().err
    assert encode.main([str(file), str(tmp_path / "none")]) == encode.WRONG_INPUT
    assert "expected a text file" in capsys.readouterr().err


# Runs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of simclr on digits, 8 x 8 in gray."""
    workdir = tmp_path_factory.mktemp("runs") / "simclr"
    config = simclr_config.get_config("smoke")
    save(workdir, "simclr", config, simclr.init(config))
    describe(workdir, "simclr", config)
    return workdir


IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)


@pytest.mark.parametrize("kind", ["npy", "floats", "npz", "folder"])
def test_images_by_a_run(run, tmp_path, kind, capsys):
    """Arrays and folders of the same pictures give the same features."""
    before = snapshot(run)
    file = tmp_path / f"images.{'npz' if kind == 'npz' else 'npy'}"
    if kind == "npy":
        np.save(file, IMAGES)
    elif kind == "floats":
        np.save(file, IMAGES.astype(np.float32) / 255)
    elif kind == "npz":
        np.savez(file, image=IMAGES, label=np.arange(5))
    else:
        file = tmp_path / "pictures"
        (file / "more").mkdir(parents=True)
        for i, image in enumerate(IMAGES):
            place = file / "more" if i > 2 else file
            Image.fromarray(image[..., 0]).save(place / f"{'aczde'[i]}.png")
        (file / "notes.md").write_text("no picture")
    out = tmp_path / "out.npy"
    words = [str(run), str(file), "--out", str(out), "--piece", "2"]
    assert encode.main(words) == 0
    assert "5 images, 8 dimensions" in capsys.readouterr().out
    want = contrastive_jax.load_run(run).encode(IMAGES)
    rows = np.load(out)
    if kind == "folder":
        names = (tmp_path / "out.names.txt").read_text().split()
        assert names == ["a.png", "c.png", "more/d.png", "more/e.png", "z.png"]
        want = want[[0, 1, 3, 4, 2]]
    np.testing.assert_allclose(rows, want, atol=1e-5)
    assert snapshot(run) == before


def test_pictures_are_cut_and_resized(run, tmp_path):
    folder = tmp_path / "wide"
    folder.mkdir()
    wide = np.repeat(np.repeat(IMAGES[0], 2, axis=0), 2, axis=1)
    wide = np.pad(wide, ((0, 0), (6, 6), (0, 0)))  # 16 x 28
    color = np.repeat(wide, 3, axis=2)
    Image.fromarray(color).save(folder / "a.png")
    assert encode.main([str(run), str(folder)]) == 0
    found = np.load(tmp_path / "wide.npy")
    near = np.asarray(Image.fromarray(wide[:, 6:22, 0]).resize((8, 8), 3))
    want = contrastive_jax.load_run(run).encode(near[None, :, :, None])
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_texts_by_a_run(tmp_path, file):
    config = simcse_config.get_config("smoke")
    workdir = tmp_path / "run"
    save(workdir, "simcse", config, simcse.init(config))
    describe(workdir, "simcse", config)
    out = tmp_path / "out.npy"
    assert encode.main([str(workdir), str(file), "--out", str(out)]) == 0
    loaded = contrastive_jax.load_run(workdir)
    np.testing.assert_allclose(np.load(out), loaded.encode(LINES), atol=1e-6)


@pytest.mark.parametrize(
    ("write", "words", "message"),
    [
        (lambda p: p.mkdir(), [], "expected pictures, got none"),
        (lambda p: p.write_bytes(b"x"), [], "expected an array of images"),
        (lambda p: None, [], "expected an array of images"),
        (lambda p: np.save(p.open("wb"), IMAGES[0]), [], r"got [8, 8, 1]"),
        (lambda p: np.save(p.open("wb"), IMAGES[:0]), [], "expected images, got none"),
        (
            lambda p: np.save(p.open("wb"), np.array([{}], object)),
            [],
            "expected an array of images (Array can't be memory-mapped",
        ),
        (
            lambda p: np.save(p.open("wb"), np.repeat(IMAGES, 3, axis=3)),
            [],
            "[8, 8, 3] does not fit the encoder",
        ),
        (
            lambda p: np.savez(p.open("wb"), a=IMAGES, b=IMAGES),
            [],
            "expected an array 'image', got ['a', 'b']",
        ),
        (
            lambda p: np.save(p.open("wb"), IMAGES),
            ["--method", "simclrr"],
            "FOLDER: method: expected one of simclr",
        ),
    ],
)
def test_wrong_images_are_one_line(run, tmp_path, write, words, message, capsys):
    file = tmp_path / "images"
    write(file)
    assert encode.main([str(run), str(file), *words]) == encode.WRONG_INPUT
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} <= {"images"}


def test_a_damaged_picture_is_named(run, tmp_path, capsys):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"none")
    assert encode.main([str(run), str(folder)]) == encode.WRONG_INPUT
    assert "a.png: expected an image" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["pictures"]


def test_an_experiment_without_an_encoder(tmp_path, capsys, file):
    config = template_config.get_config("smoke")
    workdir = tmp_path / "run"
    save(workdir, "learned", config, template.init(config))
    describe(workdir, "template", config)
    assert encode.main([str(workdir), str(file)]) == encode.WRONG_INPUT
    assert "template has no encoder" in capsys.readouterr().err
