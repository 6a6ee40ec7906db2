"""launch/run on a user's own files: trained to the end, or refused before it begins."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data import images
from contrastive_jax.report import Report
from launch import run

STEPS = ["devices=1", "train.num_steps=4", "optim.warmup_steps=1", "watch.every=2"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """400 packaged digits as PNG files: in folders of classes, and without labels."""
    assert len(jax.devices()) == 8  # before a run could ask for one only
    root = tmp_path_factory.mktemp("digits")
    data = images.load("digits")
    rows = zip(data.train_image[:400], data.train_label, strict=False)
    for i, (image, label) in enumerate(rows):
        for place in (root / "labels" / f"{label}", root / "none"):
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[..., 0]).save(place / f"{i:04}.png")
    return root


@pytest.mark.parametrize(
    ("kind", "measure"),
    [
        pytest.param("labels", "knn", marks=pytest.mark.experiments),
        ("none", "mean_cosine"),
    ],
)
def test_own_images(digits, tmp_path, kind, measure, capsys, monkeypatch):
    # The report is written, but its pictures are not turned into files.
    monkeypatch.setattr(Report, "figure", lambda self, figure, alt: None)
    place, name = tmp_path / "run", f"folder:{digits / kind}"
    words = ["simclr:smoke", f"data.name={name}", *STEPS]
    assert run.main([*words, "--workdir", str(place)]) == 0
    metrics = json.loads((place / "result.json").read_text())["metrics"]
    assert np.isfinite(metrics[f"simclr/{measure}"])
    assert ("simclr/knn" in metrics) == (kind == "labels")
    said = "has no labels" in capsys.readouterr().out
    assert said == (kind == "none")
    report = (place / "report.html").read_text()
    assert ("no linear probe and no kNN" in report) == (kind == "none")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["supcon:smoke", "data.name=folder:{none}"], "none has none"),
        (["hydra:smoke", "data.name=folder:{none}"], "none has none"),
        (["palm:smoke", "data.name=folder:{none}"], "none has none"),
        (["bacon:smoke", "data.name=folder:{none}"], "none has none"),
        (["simclr:smoke", "data.name=folder:nowhere"], "nowhere is no folder"),
        (["simclr:smoke", "data.name=npz:nowhere"], "nowhere is no file"),
        (["simclr:smoke", "data.name=hf:nowhere"], "nowhere is not there"),
        (["simclr:smoke", "data.name=../evil"], "expected one of .*own files as"),
        (["simclr:smoke", "data.name={split:>99}{x}"], "expected one of .*own files"),
        (["simclr:smoke", "data.name=folder:{none}", "data.batch_size=512"], "to 320"),
        (
            ["moco:smoke", "data.name=folder:{none}", "data.features=('x',)"],
            "two names",
        ),
    ],
)
def test_refused_before_anything_is_written(digits, tmp_path, words, message, capsys):
    place = tmp_path / "run"
    words = [word.replace("{none}", str(digits / "none")) for word in words]
    assert run.main([*words, "--workdir", str(place)]) == run.WRONG_INPUT
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert np.any([part in error for part in message.split(".*")])
    assert not place.exists()
