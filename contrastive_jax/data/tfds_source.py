"""Image sets in a user's tensorflow-datasets folder, by random access, no TensorFlow.

Needs the extra `experiments`. Sets must be prepared as ArrayRecord, whose records can
be read in any order; `prepare_images` writes such a set from arrays.
"""

import io
import pathlib
from typing import Any

import numpy as np

from contrastive_jax.data import packaged
from contrastive_jax.data.batches import Rows


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
      packaged.DataMissing: no such folder, not prepared, or prepared in a format
        without random access; the message says what to run.
    """
    tfds = import_tfds()
    folder = pathlib.Path(data_dir).expanduser()
    versions = sorted(p.parent for p in (folder / name).rglob("dataset_info.json"))
    prepare = (
        f"tfds build {name} --data_dir {data_dir} --file_format array_record "
        f"(on a machine with a network and TensorFlow)"
    )
    if not versions:
        raise packaged.DataMissing(
            f"data set {name!r} is not prepared in {folder}. Run: {prepare}"
        )
    builder = tfds.builder_from_directory(str(versions[-1]))
    if str(builder.info.file_format.value) != "array_record":
        raise packaged.DataMissing(
            f"data set {name!r} in {versions[-1]} is prepared as "
            f"{builder.info.file_format.value}, which has no random access. Run: pip "
            f"install 'contrastive_jax[tf]' && tfds convert_format --dataset_dir "
            f"{versions[-1]} --out_file_format array_record"
        )
    return builder


def open_split(builder: Any, split: str) -> Any:
    """A random-access source over one split; slices such as "train[:80%]" work.

    Raises:
      packaged.DataMissing: no such split, or features other than image and label.
    """
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise packaged.DataMissing(
            f"data set {builder.name!r} has features {sorted(features)}, expected an "
            f"image classification set with image and label"
        )
    base = split.split("[")[0]
    if base not in builder.info.splits:
        raise packaged.DataMissing(
            f"data set {builder.name!r} has no split {base!r}, only "
            f"{', '.join(sorted(builder.info.splits))}"
        )
    return builder.as_data_source(split=split)


def images(
    name: str, data_dir: str, *, train_split: str = "train", test_split: str = "test"
) -> packaged.Images:
    """A small prepared set of equal-sized images, read into memory at once.

    Raises:
      packaged.DataMissing: see `open_builder` and `open_split`.
      ValueError: images of different sizes.
    """
    builder = open_builder(name, data_dir)

    def read(split):
        source = open_split(builder, split)
        rows = source.__getitems__(list(range(len(source))))
        shapes = {np.shape(row["image"]) for row in rows}
        if len(shapes) != 1:
            raise ValueError(
                f"data set {name!r}: expected images of one size, got "
                f"{len(shapes)} sizes; set data.size, which resizes"
            )
        image = np.stack([row["image"] for row in rows])
        return image, np.array([row["label"] for row in rows], np.int32)

    names = tuple(builder.info.features["label"].names)
    return packaged.Images(*read(train_split), *read(test_split), names)


def resize_square(image: np.ndarray, size: int) -> np.ndarray:
    """The central square of an image, resized to [size, size, channels] uint8."""
    if image.shape[:2] == (size, size):
        return image
    from PIL import Image

    h, w = image.shape[:2]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    square = image[top : top + side, left : left + side]
    gray = square.shape[-1] == 1
    picture = Image.fromarray(square[..., 0] if gray else square)
    resized = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))
    return resized[..., None] if gray else resized


def image_rows(name: str, data_dir: str, *, split: str, size: int) -> Rows:
    """The images and labels of a split, decoded as they are read.

    Reading gives image, [n, size, size, channels] uint8 (the central square, resized),
    and label, [n] int32.

    Raises:
      packaged.DataMissing: see `open_builder` and `open_split`.
    """
    source = open_split(open_builder(name, data_dir), split)

    def read(rows):
        examples = source.__getitems__([int(row) for row in rows])
        image = np.stack([resize_square(e["image"], size) for e in examples])
        return {
            "image": image,
            "label": np.array([e["label"] for e in examples], np.int32),
        }

    return Rows(len(source), read, threads=8)


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
