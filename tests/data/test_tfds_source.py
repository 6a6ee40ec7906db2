"""A real set in the tensorflow-datasets format, written and read without TensorFlow."""

import builtins
import json
import sys

import jax
import numpy as np
import pytest

from contrastive_jax.data import images, packaged, tfds_source
from contrastive_jax.data.formats import pictures


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """scikit-learn's digits as a prepared set named my_digits."""
    folder = tmp_path_factory.mktemp("tfds")
    tfds_source.prepare_images("my_digits", images.load("digits"), str(folder))
    return str(folder)


def as_set(images, labels):
    return {(x.tobytes(), int(y)) for x, y in zip(images, labels, strict=True)}


def test_what_was_written_is_read_back_without_tensorflow(prepared):
    want = images.load("digits")
    got = images.load("my_digits", prepared)
    assert as_set(got.train_image, got.train_label) == as_set(
        want.train_image, want.train_label
    )
    assert as_set(got.test_image, got.test_label) == as_set(
        want.test_image, want.test_label
    )
    assert got.class_names == want.class_names
    assert "tensorflow" not in sys.modules


def test_streamed_batches_are_functions_of_seed_and_step(prepared):
    def first(start, n):
        source = images.batches(
            "my_digits",
            data_dir=prepared,
            size=16,
            batch_size=32,
            seed=5,
            start_step=start,
        )
        return [next(source) for _ in range(n)]

    whole, rest = first(0, 5), first(3, 2)
    assert whole[0]["image"].shape == (32, 16, 16, 1)
    assert whole[0]["image"].dtype == np.uint8 and whole[0]["label"].dtype == np.int32
    jax.tree.map(np.testing.assert_array_equal, whole[3:], rest)


def test_one_pass_over_a_slice(prepared):
    parts = list(
        images.one_pass(
            "my_digits", "test[:50]", data_dir=prepared, size=8, batch_size=20
        )
    )
    assert [len(y) for _, y in parts] == [20, 20, 10]


def test_non_square_pictures_are_cut_to_the_central_square():
    picture = np.zeros((4, 8, 3), np.uint8)
    picture[:, 2:6] = 200
    assert (pictures.resize_square(picture, 4) == 200).all()
    assert pictures.resize_square(picture, 16).shape == (16, 16, 3)


def test_missing_sets_and_splits_name_what_to_run(prepared):
    with pytest.raises(packaged.DataMissing, match="Run: tfds build cifar10"):
        images.load("cifar10", prepared)
    with pytest.raises(packaged.DataMissing, match="no split 'val', only test, train"):
        tfds_source.images("my_digits", prepared, test_split="val")


def test_a_format_without_random_access_names_the_extra(prepared, tmp_path):
    import shutil

    shutil.copytree(f"{prepared}/my_digits", tmp_path / "my_digits")
    info = tmp_path / "my_digits" / "1.0.0" / "dataset_info.json"
    text = json.loads(info.read_text())
    text["fileFormat"] = "tfrecord"
    info.write_text(json.dumps(text))
    with pytest.raises(packaged.DataMissing, match=r"pip install 'contrastive_jax\[tf"):
        images.load("my_digits", str(tmp_path))


def test_without_the_extra_the_message_names_it(prepared, monkeypatch):
    original = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("tensorflow_datasets"):
            raise ImportError("no such module")
        return original(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(
        packaged.DataMissing, match=r"pip install 'contrastive_jax\[experiments"
    ):
        images.load("my_digits", prepared)
