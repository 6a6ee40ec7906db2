"""launch.encode on a small model of its own, and what it refuses."""

import numpy as np
import pytest

from contrastive_jax.models import pretrained
from launch import encode
from tests.models.test_pretrained_encoders import make_encoder

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
