"""launch.prepare: what TFDS makes is read by our readers; what fails is one line."""

import io
import pathlib

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from contrastive_jax.data import images
from launch import prepare


def info_of(builder):
    features = {
        "picture": tfds.features.Image(shape=(4, 4, 3), encoding_format="png"),
        "kind": tfds.features.ClassLabel(names=["dark", "light"]),
    }
    features = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=builder, features=features)


class DarkAndLight(tfds.core.GeneratorBasedBuilder):
    """Needs no download."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        return info_of(self)

    def _split_generators(self, dl_manager):
        return {part: self._generate_examples() for part in ("train", "test")}

    def _generate_examples(self):
        for i in range(4):
            file = io.BytesIO()
            Image.new("RGB", (4, 4), (60 * i, 0, 0)).save(file, "PNG")
            file.seek(0)
            yield i, {"picture": file, "kind": i // 2}


class ClosedDoor(tfds.core.GeneratorBasedBuilder):
    """Downloads from a port that nobody listens at."""

    VERSION = tfds.core.Version("1.0.0")
    pkg_dir_path = pathlib.Path(__file__).parent

    def _info(self):
        return info_of(self)

    def _split_generators(self, dl_manager):
        dl_manager.download("http://127.0.0.1:9/file")
        raise AssertionError("nothing came")

    def _generate_examples(self):
        raise AssertionError("nothing came")


def test_a_prepared_set_is_read_by_the_names_of_its_features(tmp_path, capsys):
    assert prepare.main(["dark_and_light", "--data-dir", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].endswith("dark_and_light/1.0.0")
    place = dict(data_dir=str(tmp_path), features=("picture", "kind"))
    held = images.load("dark_and_light", **place)
    assert held.class_names == ("dark", "light")
    for image, label in zip(held.train_image, held.train_label, strict=True):
        assert label == image[0, 0, 0] // 60 // 2
    rows = images.open_rows("dark_and_light", "test", size=2, **place)
    assert rows.read(np.arange(4))["image"].shape == (4, 2, 2, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("closed_door", "'closed_door': could not be downloaded"),
        ("no_such_set", "'no_such_set': tensorflow-datasets has no such set"),
    ],
)
def test_what_fails_is_one_line(tmp_path, capsys, name, message):
    assert prepare.main([name, "--data-dir", str(tmp_path)]) == prepare.WRONG_INPUT
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("launch.prepare: ") and message in last
