"""Images in one .npz file: arrays image, label and, for a test, image_test, label_test.

No pickle is read. Without an array of labels the set has none.
"""

import pathlib
import zipfile
from collections.abc import Sequence

import numpy as np

from contrastive_jax.data.formats.pictures import ImageSet, Part
from contrastive_jax.data.packaged import DataMissing


def read(path: str, features: Sequence[str]) -> ImageSet:
    """The images of a file, all in memory.

    Args:
      path: the file.
      features: names of the arrays of images and of labels; those of the test end in
        "_test".

    Raises:
      DataMissing: no such file.
      ValueError: another kind of file, or arrays of other types or shapes than image
        [n, h, w], [n, h, w, 1] or [n, h, w, 3] uint8 and label [n] of integers >= 0.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise DataMissing(f"data.name: expected npz:FILE, {file} is no file")
    image_name, label_name = features
    arrays = {}
    try:
        with np.load(file, allow_pickle=False) as held:
            for suffix in ("", "_test"):
                for name in (image_name + suffix, label_name + suffix):
                    if name in held:
                        arrays[name] = held[name]
            names = sorted(held.files)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as e:
        raise ValueError(
            f"{file}: expected arrays in .npz, without pickles ({e})"
        ) from e
    if image_name not in arrays:
        raise ValueError(f"{file}: expected an array {image_name!r}, got {names}")
    parts, labelled = {}, label_name in arrays
    for part, suffix in {"train": "", "test": "_test"}.items():
        image, label = (arrays.get(f"{name}{suffix}") for name in features)
        if image is None:
            continue
        image = check_images(f"{file}: {image_name}{suffix}", image)
        if labelled:
            label = check_labels(f"{file}: {label_name}{suffix}", label, len(image))
        else:
            label = np.full(len(image), -1)
        parts[part] = image, label
    classes = np.unique(parts["train"][1]) if labelled else np.array([], int)
    classes = classes if len(classes) > 1 else classes[:0]  # one class tells nothing
    found = {}
    for part, (image, label) in parts.items():
        other = np.setdiff1d(label, classes) if len(classes) else []
        if len(other):
            raise ValueError(f"{file}: class {other[0]} of {part} is none of training")
        number = np.searchsorted(classes, label) if len(classes) else 0 * label - 1
        found[part] = Part(image.__getitem__, number.astype(np.int32))
    shapes = {image.shape[1:] for image, _ in parts.values()}
    if len(shapes) > 1:
        raise ValueError(f"{file}: expected images of one shape, got {sorted(shapes)}")
    height, width, channels = shapes.pop()
    return ImageSet(found, tuple(map(str, classes)), (height, width), channels)


def check_images(name: str, image: np.ndarray) -> np.ndarray:
    """Images as [n, h, w, c].

    Raises:
      ValueError: another type or shape, or none.
    """
    gray = image.ndim == 3
    if image.dtype != np.uint8 or not (
        gray or (image.ndim == 4 and image.shape[-1] in (1, 3))
    ):
        raise ValueError(
            f"{name}: expected uint8 [n, h, w], [n, h, w, 1] or [n, h, w, 3], got "
            f"{image.dtype} {list(image.shape)}"
        )
    if not image.size:
        raise ValueError(f"{name}: expected an image or more, got {list(image.shape)}")
    return image[..., None] if gray else image


def check_labels(name: str, label: np.ndarray | None, total: int) -> np.ndarray:
    """Labels as they are.

    Raises:
      ValueError: none; not one integer >= 0 per image.
    """
    if label is None:
        raise ValueError(f"{name}: expected an array, got none")
    if label.shape != (total,) or label.dtype.kind not in "iu":
        raise ValueError(
            f"{name}: expected integers [{total}], got {label.dtype} "
            f"{list(label.shape)}"
        )
    if label.min() < 0:
        row = int(label.argmin())
        raise ValueError(f"{name}: expected labels >= 0, got {label[row]} in row {row}")
    return label
