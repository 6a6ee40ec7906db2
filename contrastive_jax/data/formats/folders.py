"""Images in folders: PATH/CLASS/x.png, or PATH/x.png where there are no labels.

PATH may have a folder for each part, PATH/train/... and PATH/test/... (or val). Files
of a class may lie deeper; classes and files are in the order of their names.
"""

import pathlib

import numpy as np

from contrastive_jax.data.formats.pictures import (
    SUFFIXES,
    TEST,
    Budget,
    ImageSet,
    Source,
    encoded_set,
)
from contrastive_jax.data.packaged import DataMissing


def read(path: str, budget: Budget) -> ImageSet:
    """The images of a folder.

    Raises:
      DataMissing: it is not there.
      ValueError: no image; images beside folders of classes; a class of the test that
        is none of training; images that cannot be read.
    """
    root = pathlib.Path(path).expanduser()
    if not root.is_dir():
        raise DataMissing(f"data.name: expected folder:PATH, {root} is no folder")
    inside = {x.name: x for x in root.iterdir() if x.is_dir() and x.name[0] != "."}
    parts = {"train": root}
    test = next((x for x in TEST if x in inside), None)
    if "train" in inside and (test or len(inside) == 1):
        parts = {"train": inside["train"]} | ({"test": inside[test]} if test else {})
    files = {part: by_class(folder) for part, folder in parts.items()}
    classes = [*files["train"]]
    for part, own in files.items():
        if set(own) - set(classes):
            raise ValueError(
                f"{parts[part]}: expected the classes of {parts['train']}, got "
                f"{', '.join(sorted(own)) or 'no classes'}"
            )
    named = len(classes) > 1  # a single class tells nothing
    sources, labels = {}, {}
    for part, own in files.items():
        sources[part] = [Source(str(x), x) for every in own.values() for x in every]
        numbers = [classes.index(name) if named else -1 for name in own]
        counts = [len(every) for every in own.values()]
        labels[part] = np.repeat(np.array(numbers, np.int32), counts)
    return encoded_set(sources, labels, tuple(classes) if named else (), budget)


def by_class(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
    """The images of a folder by class, {"": images} where there are no classes.

    Raises:
      ValueError: none, or some outside of the folders of classes.
    """
    found: dict[str, list[pathlib.Path]] = {}
    for place in sorted(folder.iterdir()):
        name, files = (
            (place.name, place.rglob("*")) if place.is_dir() else ("", [place])
        )
        images = sorted(x for x in files if is_image(x.relative_to(folder)))
        if images:
            found.setdefault(name, []).extend(images)
    if not found:
        raise ValueError(f"{folder}: expected images ({', '.join(SUFFIXES)}), got none")
    if "" in found and len(found) > 1:
        raise ValueError(
            f"{folder}: expected images in folders of classes or without folders, got "
            f"both ({found[''][0].name} lies outside)"
        )
    return found


def is_image(path: pathlib.Path) -> bool:
    """Whether a path ends like that of an image, and nothing in it is hidden."""
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix.lower() in SUFFIXES and not hidden
