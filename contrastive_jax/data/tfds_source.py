"""Image sets in a user's tensorflow-datasets folder, by random access, no TensorFlow.

Needs the extra `experiments`. ArrayRecord and TFRecord are read; `prepare` downloads a
set, `prepare_images` writes one from arrays, both as ArrayRecord.
"""

import functools
import io
import json
import pathlib
import re
import struct
from collections.abc import Callable
from typing import Any

from contrastive_jax.data import packaged
from contrastive_jax.data.batches import Rows
from contrastive_jax.data.formats import pictures

Features = tuple[str, ...]
# Classes that features.json may name; of others the module would be imported.
ALLOWED = re.compile(r"tensorflow_datasets\.core\.features(\.\w+)+")


def import_tfds() -> Any:
    """tensorflow_datasets, imported late because it takes seconds.

    Raises:
      packaged.DataMissing: it is not installed; names the extra.
    """
    try:
        import tensorflow_datasets as tfds
    except ImportError as e:
        raise packaged.DataMissing(
            f"data.data_dir is set, which needs tensorflow-datasets ({e}). Run: "
            f"pip install 'contrastive_jax[experiments]'"
        ) from e
    return tfds


def open_builder(name: str, data_dir: str) -> Any:
    """The builder of a prepared set, checked before anything is read.

    Args:
      name: name of the set, with config and version if there are several.
      data_dir: the folder sets were prepared into.

    Raises:
      packaged.DataMissing: no such folder, or not prepared; the message says what to
        run.
      ValueError: its description cannot be read, a record file is missing, or it is in
        a format without random access.
    """
    folder = pathlib.Path(data_dir).expanduser()
    if not re.fullmatch(r"\w[\w.+:/-]*", name) or ".." in name:
        raise ValueError(
            f"data.name: expected the name of a set in {folder}, got {name!r}"
        )
    found = [p.parent for p in (folder / name).rglob("dataset_info.json")]
    if not found:
        raise packaged.DataMissing(
            f"data set {name!r} is not prepared in {folder}. Run: python -m "
            f"launch.prepare {name} --data-dir {data_dir} (on a machine with a network)"
        )
    return open_folder(max(found, key=version))


def version(folder: pathlib.Path) -> tuple[list[int], str]:
    """Orders the folders of versions: 3.0.10 after 3.0.9."""
    return [int(x) for x in re.findall(r"\d+", folder.name)], str(folder)


@functools.lru_cache(maxsize=16)
def open_folder(folder: pathlib.Path) -> Any:
    """The builder of a folder with dataset_info.json, see `open_builder`."""
    for file in ("dataset_info.json", "features.json"):
        check_description(folder / file)
    tfds = import_tfds()
    try:
        builder = tfds.builder_from_directory(str(folder))
        kind = str(builder.info.file_format.value)
        files = [str(x) for s in builder.info.splits.values() for x in s.filepaths]
    except Exception as e:  # of many kinds, by what is wrong with the description
        raise ValueError(
            f"{folder}: expected a prepared TFDS set ({pictures.first_line(e)})"
        ) from e
    if kind not in ("array_record", "tfrecord"):
        raise ValueError(
            f"{folder}: expected array_record or tfrecord, which have random access, "
            f"got {kind}"
        )
    for file in files:
        if not pathlib.Path(file).is_file():
            raise packaged.DataMissing(f"{file} is missing from its TFDS set")
    return builder


def check_description(file: pathlib.Path) -> None:
    """Checks that a JSON file is whole and names classes of TFDS's own features only.

    Raises:
      ValueError: it is not, or it does not.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise ValueError(f"{file}: expected JSON ({e})") from e
    if not isinstance(found, dict):
        raise ValueError(f"{file}: expected a JSON object, got {type(found).__name__}")

    def names(value):
        if isinstance(value, dict):
            for key, inner in value.items():
                if key in ("pythonClassName", "type") and isinstance(inner, str):
                    yield inner
                yield from names(inner)
        elif isinstance(value, list):
            for inner in value:
                yield from names(inner)

    for name in names(found) if file.name == "features.json" else ():
        if not ALLOWED.fullmatch(name):
            raise ValueError(
                f"{file}: expected features of tensorflow_datasets.core.features, got "
                f"{name!r}"
            )


def check_features(builder: Any, features: Features) -> None:
    """Checks that a set has an image and, unless its name is "", a label of classes.

    Raises:
      ValueError: it has not; names what it has.
    """
    image, label = features
    tfds, own = import_tfds(), builder.info.features
    held = ", ".join(f"{k} ({type(x).__name__})" for k, x in sorted(own.items()))
    own = {name: own[name] for name in own}
    if not isinstance(own.get(image), tfds.features.Image):
        raise ValueError(
            f"data set {builder.name!r}: expected an image as {image!r} (data.features "
            f"names it), got {held}"
        )
    if label and not isinstance(own.get(label), tfds.features.ClassLabel):
        raise ValueError(
            f"data set {builder.name!r}: expected classes as {label!r} (data.features "
            f"names them, '' for none), got {held}"
        )


def class_names(name: str, data_dir: str, features: Features) -> tuple[str, ...]:
    """The names of a set's classes; () where no label is named."""
    builder = open_builder(name, data_dir)
    check_features(builder, features)
    return tuple(builder.info.features[features[1]].names) if features[1] else ()


def channels(name: str, data_dir: str, features: Features) -> int:
    """1 or 3 channels of the images of a set; 3 for one that is not there."""
    try:
        builder = open_builder(name, data_dir)
    except packaged.DataMissing:
        return 3  # shapes of a recipe can be looked at without its data
    check_features(builder, features)
    return 1 if builder.info.features[features[0]].shape[-1] == 1 else 3


def open_records(builder: Any, split: str) -> tuple[int, Callable[[int], bytes]]:
    """Number of the records of a split, and a function that reads one.

    Slices such as "train[:80%]" work.

    Raises:
      packaged.DataMissing: no such split.
      ValueError: a file holds other records than its description says.
    """
    base = split.split("[")[0]
    if base not in builder.info.splits:
        raise packaged.DataMissing(
            f"data set {builder.name!r} has no split {base!r}, only "
            f"{', '.join(sorted(builder.info.splits))}"
        )
    parts = builder.info.splits[split].file_instructions
    if str(builder.info.file_format.value) == "tfrecord":
        places = [
            (part.filename, *place)
            for part in parts
            for place in record_places(part.filename, part.examples_in_shard)[
                part.skip : part.skip + part.take
            ]
        ]

        def read(row):
            file, start, length = places[row]
            with open(file, "rb") as f:
                f.seek(start)
                return f.read(length)

        return len(places), read
    from array_record.python import (
        array_record_data_source,
        array_record_module,  # pyright: ignore[reportAttributeAccessIssue]
    )

    for part in parts:
        try:
            reader = array_record_module.ArrayRecordReader(str(part.filename))
            held = reader.num_records()
            reader.close()
        except (RuntimeError, ValueError, OSError) as e:
            raise ValueError(
                f"{part.filename}: expected ArrayRecord ({pictures.first_line(e)})"
            ) from e
        if held != part.examples_in_shard:
            raise ValueError(
                f"{part.filename}: expected {part.examples_in_shard} records, got "
                f"{held}"
            )
    source = array_record_data_source.ArrayRecordDataSource(parts)
    return len(source), source.__getitem__


@functools.lru_cache(maxsize=4096)
def record_places(file: str, expected: int) -> list[tuple[int, int]]:
    """Where the records of a TFRecord file begin, and their lengths.

    A record has its length (8 bytes), a checksum of it (4), its bytes and a checksum
    (4).

    Raises:
      ValueError: the file ends within a record, or has another number of them.
    """
    size, at, places = pathlib.Path(file).stat().st_size, 0, []
    with open(file, "rb") as f:
        while at + 12 <= size:
            f.seek(at)
            (length,) = struct.unpack("<Q", f.read(8))
            places.append((at + 12, length))
            at += length + 16
    if at != size or len(places) != expected:
        raise ValueError(
            f"{file}: expected {expected} whole TFRecords, got {len(places)} in {size} "
            "bytes"
        )
    return places


def image_rows(
    name: str,
    data_dir: str,
    *,
    split: str,
    size: int,
    features: Features = ("image", "label"),
    max_bad_rows: int = 0,
) -> Rows:
    """The images and labels of a split, decoded as they are read.

    See `pictures.image_rows` for what reading gives and for `size`; see `data.images`
    for the other arguments.

    Raises:
      packaged.DataMissing: see `open_builder` and `open_records`.
      ValueError: see there; reading raises it for a label that is no class.
    """
    tfds, builder = import_tfds(), open_builder(name, data_dir)
    image_name, label_name = features
    names = class_names(name, data_dir, features)
    total, record = open_records(builder, split)
    own = builder.info.features
    depth = channels(name, data_dir, features)
    decoders = {image_name: tfds.decode.SkipDecoding()}

    def example(row):
        where = f"data set {builder.name!r} ({split}), row {row}"
        try:
            found = own.deserialize_example_np(record(row), decoders=decoders)
        except Exception as e:  # of many kinds, by what the bytes are
            raise pictures.Unreadable(where, pictures.first_line(e)) from e
        label = int(found[label_name]) if label_name else -1
        if label_name and not 0 <= label < len(names):
            raise pictures.Unreadable(
                where, f"expected a label from 0 to {len(names) - 1}, got {label}"
            )
        source = pictures.Source(where, bytes(found[image_name]))
        return pictures.decode(source, depth), label

    budget = pictures.Budget(max_bad_rows)
    return pictures.image_rows(
        total, example, size=size, labelled=bool(names), budget=budget
    )


def images(
    name: str,
    data_dir: str,
    *,
    train_split: str = "train",
    test_split: str = "test",
    features: Features = ("image", "label"),
    max_bad_rows: int = 0,
) -> packaged.Images:
    """A small prepared set of equal-sized images, read into memory at once.

    Raises:
      packaged.DataMissing: see `image_rows`.
      ValueError: see there; images of different sizes, no labels.
    """
    names = class_names(name, data_dir, features)
    if not names:
        raise ValueError(
            f"data set {name!r}: expected a label in data.features, got ''"
        )
    arrays = []
    for split in (train_split, test_split):
        options: dict[str, Any] = dict(features=features, max_bad_rows=max_bad_rows)
        rows = image_rows(name, data_dir, split=split, size=0, **options)
        try:
            whole = pictures.read_all(rows)
        except ValueError as e:
            raise ValueError(f"data set {name!r}: {e}") from e
        arrays += [whole["image"], whole["label"]]
    return packaged.Images(*arrays, class_names=names)


def prepare(name: str, data_dir: str) -> pathlib.Path:
    """Downloads a set of tensorflow-datasets and writes it as ArrayRecord.

    Without TensorFlow only sets whose images are files can be written.

    Args:
      name: name of the set, with config and version if need be.
      data_dir: folder of prepared sets.

    Returns:
      Folder of the prepared set.

    Raises:
      packaged.DataMissing: no such set, no network, or TensorFlow is needed; says what
        to do.
    """
    tfds = import_tfds()
    from tensorflow_datasets.core.download import downloader

    folder = str(pathlib.Path(data_dir).expanduser())
    # Its own number of retries keeps one waiting for minutes without a network.
    tries, downloader.MAX_RETRIES = downloader.MAX_RETRIES, 1
    config = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        builder = tfds.builder(
            name, data_dir=folder, file_format="array_record", try_gcs=False
        )
        builder.download_and_prepare(download_config=config)
    except (tfds.core.registered.DatasetNotFoundError, ImportError, OSError) as e:
        if isinstance(e, tfds.core.registered.DatasetNotFoundError):
            line = "tensorflow-datasets has no such set"
        elif isinstance(e, ImportError):
            line = f"pip install 'contrastive_jax[tf]' first ({e})"
        else:
            line = f"could not be downloaded ({pictures.first_line(e)[:200]})"
        raise packaged.DataMissing(f"data set {name!r}: {line}") from e
    finally:
        downloader.MAX_RETRIES = tries
    return pathlib.Path(builder.data_dir)


def prepare_images(name: str, data: packaged.Images, data_dir: str) -> pathlib.Path:
    """Writes images as a prepared set in ArrayRecord, without TensorFlow.

    Args:
      name: snake_case name of the new set.
      data: images and labels.
      data_dir: folder of prepared sets.

    Returns:
      Folder of the prepared set.
    """
    tfds = import_tfds()
    from PIL import Image

    def png(image):
        # Image features of arrays would be encoded by TensorFlow; PNG bytes are not.
        file = io.BytesIO()
        gray = image.shape[-1] == 1
        Image.fromarray(image[..., 0] if gray else image).save(file, "PNG")
        file.seek(0)
        return file

    def rows(image, label):
        for i, (x, y) in enumerate(zip(image, label, strict=True)):
            yield i, {"image": png(x), "label": int(y)}

    shape = data.train_image.shape[1:]

    class Prepared(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = pathlib.Path(data_dir)

        def _info(self):
            features = tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=shape, encoding_format="png"),
                    "label": tfds.features.ClassLabel(names=list(data.class_names)),
                }
            )
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, dl_manager):
            return {
                "train": rows(data.train_image, data.train_label),
                "test": rows(data.test_image, data.test_label),
            }

        def _generate_examples(self, *args):
            raise AssertionError("the splits carry their own rows")

    with tfds.core.registered.skip_registration():
        Prepared.name = name
        builder = Prepared(data_dir=str(data_dir), file_format="array_record")
    builder.download_and_prepare()
    return pathlib.Path(builder.data_dir)
