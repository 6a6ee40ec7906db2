"""A real set in the tensorflow-datasets format, written and read without TensorFlow."""

import builtins
import json
import shutil
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
    with pytest.raises(
        packaged.DataMissing, match=r"Run: python -m launch.prepare cifar10"
    ):
        images.load("cifar10", prepared)
    with pytest.raises(packaged.DataMissing, match="no split 'val', only test, train"):
        tfds_source.images("my_digits", prepared, test_split="val")


def copied(prepared, folder):
    """A copy of the prepared set, and the folder of its only version."""
    shutil.copytree(f"{prepared}/my_digits", folder / "my_digits")
    return str(folder), folder / "my_digits" / "1.0.0"


def edit(file, change):
    """Rewrites a JSON file by a function of what it holds."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def as_tfrecord(folder):
    """Rewrites the records of a prepared set as TFRecord."""
    from array_record.python import array_record_module
    from tensorboardX.record_writer import RecordWriter

    for file in folder.glob("*.array_record*"):
        reader = array_record_module.ArrayRecordReader(str(file))
        writer = RecordWriter(str(file).replace(".array_record", ".tfrecord"))
        for record in reader.read_all():
            writer.write(record)
        writer.close()
        file.unlink()

    def change(info):
        info["fileFormat"] = "tfrecord"
        for split in info["splits"]:
            template = split["filepathTemplate"]
            split["filepathTemplate"] = template.replace("array_record", "tfrecord")

    edit(folder / "dataset_info.json", change)


def test_tfrecord_is_read_by_number_without_tensorflow(prepared, tmp_path):
    place, folder = copied(prepared, tmp_path)
    as_tfrecord(folder)
    for split in ("train", "test[10:30]"):
        options = dict(split=split, size=0)
        want = tfds_source.image_rows("my_digits", prepared, **options)
        got = tfds_source.image_rows("my_digits", place, **options)
        rows = np.array([7, 3, want.total - 1])
        jax.tree.map(np.testing.assert_array_equal, got.read(rows), want.read(rows))
        assert got.total == want.total
    assert "tensorflow" not in sys.modules


def test_a_format_without_random_access_is_refused(prepared, tmp_path):
    place, folder = copied(prepared, tmp_path)
    edit(folder / "dataset_info.json", lambda info: info.update(fileFormat="parquet"))
    with pytest.raises(
        ValueError, match=r"expected array_record or tfrecord.* parquet"
    ):
        images.load("my_digits", place)


def truncate(file):
    file.write_bytes(file.read_bytes()[:-40])


def garble(file):
    file.write_bytes(b"garbage" * 1000)


@pytest.mark.parametrize(
    ("pattern", "harm", "message"),
    [
        ("dataset_info.json", lambda f: f.write_text(""), "info.json: expected JSON"),
        ("dataset_info.json", truncate, "info.json: expected JSON"),
        ("features.json", lambda f: f.unlink(), "features.json: expected JSON"),
        ("*train.array_record*", lambda f: f.unlink(), "-of-00001 is missing"),
        ("*train.array_record*", truncate, "train.*expected"),
        ("*train.array_record*", garble, "train.*expected"),
    ],
)
def test_harmed_sets_are_named_before_anything_is_read(
    prepared, tmp_path, pattern, harm, message
):
    place, folder = copied(prepared, tmp_path)
    harm(next(folder.glob(pattern)))
    with pytest.raises((ValueError, packaged.DataMissing), match=message) as error:
        images.open_rows("my_digits", "train", data_dir=place, size=8)
    assert "\n" not in str(error.value)


def test_a_cut_tfrecord_is_named(prepared, tmp_path):
    place, folder = copied(prepared, tmp_path)
    as_tfrecord(folder)
    truncate(next(folder.glob("*train.tfrecord*")))
    with pytest.raises(ValueError, match=r"train.tfrecord.*expected 1438 whole TFRec"):
        images.load("my_digits", place)


def test_descriptions_import_no_module(prepared, tmp_path, monkeypatch):
    (tmp_path / "evil_features.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    place, folder = copied(prepared, tmp_path)

    def change(features):
        inner = features["featuresDict"]["features"]["label"]
        inner["pythonClassName"] = "evil_features.Feature"

    edit(folder / "features.json", change)
    with pytest.raises(ValueError, match=r"features.json: expected .* 'evil_features"):
        images.load("my_digits", place)


def test_features_of_any_name(prepared):
    with pytest.raises(ValueError, match=r"an image as 'picture'.* got image \(Image"):
        images.load("my_digits", prepared, features=("picture", "label"))
    with pytest.raises(ValueError, match=r"classes as 'image'.* label \(ClassLabel"):
        images.load("my_digits", prepared, features=("image", "image"))
    place = dict(data_dir=prepared, features=("image", ""))
    assert images.class_names("my_digits", **place) == ()
    rows = images.open_rows("my_digits", "train", size=8, **place)
    assert list(rows.read(np.array([0]))) == ["image"]


def test_labels_that_are_no_class_are_refused(prepared, tmp_path):
    place, folder = copied(prepared, tmp_path)
    # The records stay; the set says that it has five classes.
    names = next(folder.glob("label.labels.txt"))
    names.write_text("\n".join("01234") + "\n")
    edit(
        folder / "features.json",
        lambda x: x["featuresDict"]["features"]["label"]["classLabel"].update(
            numClasses="5"
        ),
    )
    with pytest.raises(ValueError, match=r"row \d+: expected a label from 0 to 4, got"):
        images.load("my_digits", place)
    rows = images.open_rows(
        "my_digits", "train", data_dir=place, size=8, max_bad_rows=1438
    )
    with pytest.warns(UserWarning, match="the next image stands in"):
        label = rows.read(np.arange(100))["label"]
    assert label.max() == 4


def test_names_of_sets_stay_in_their_folder(prepared):
    for name in ("../evil", "/etc", "a\nb", "{split}"):
        with pytest.raises(ValueError, match=r"data.name: expected the name of a set"):
            images.load(name, prepared)


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
