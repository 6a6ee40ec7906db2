"""Sets of images with captions: emoji drawn by two vendors, or a user's TFDS folder.

`open_pairs` gives random access to a split. A row is a concept: one caption and its
pictures [v, h, w, 3] (two for emoji, one for sets from a TFDS folder).
"""

import functools
import io
import json
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import packaged, tfds_source
from contrastive_jax.data.batches import Batch, Rows, row_batches
from contrastive_jax.data.formats import pictures
from contrastive_jax.data.vocabulary import Vocabulary, build_vocabulary, words

VENDORS = ("google", "twitter")
TEST_SHARE = 0.2


class Pairs(NamedTuple):
    """Random access to images and captions.

    Attributes:
      total: number of rows.
      image: reads rows, [n, v, h, w, 3] uint8.
      caption: reads rows, one string each.
    """

    total: int
    image: Callable[[np.ndarray], np.ndarray]
    caption: Callable[[np.ndarray], list[str]]

    def part(self, start: int, stop: int) -> "Pairs":
        """The rows from start to stop."""
        return Pairs(
            stop - start,
            lambda rows: self.image(start + rows),
            lambda rows: self.caption(start + rows),
        )


class Emoji(NamedTuple):
    """All emoji without their variants of skin tone, in the order of the chart.

    Attributes:
      image: [n, v, size, size, 3] uint8 on white, one picture of each vendor.
      caption: name, then further words.
      category: one of 9, or "Component" (a swatch of a skin tone).
      subcategory: finer than the category.
    """

    image: np.ndarray
    caption: tuple[str, ...]
    category: tuple[str, ...]
    subcategory: tuple[str, ...]


def open_pairs(
    name: str, split: str, *, data_dir: str = "", size: int = 32, caption: str = ""
) -> Pairs:
    """A split of a set by name.

    Args:
      name: "emoji", or with `data_dir` any prepared set with images and captions.
      split: "train" or "test" (a fifth of the concepts); with `data_dir` any it has.
      data_dir: folder of sets prepared by tensorflow-datasets, "" for packaged ones.
      size: side of the square pictures.
      caption: the set's feature with the caption, in a TFDS folder.

    Raises:
      packaged.DataMissing: it is not there; the message says what to run.
      ValueError: no such set or split.
    """
    if data_dir:
        return open_prepared(name, split, data_dir, size, caption)
    if name != "emoji":
        raise ValueError(f"data.name: expected emoji (or a data_dir), got {name!r}")
    if split not in ("train", "test"):
        raise ValueError(f"split: expected train or test, got {split!r}")
    concepts = emoji(size)
    order = np.random.default_rng(0).permutation(len(concepts.caption))
    num_test = round(TEST_SHARE * len(order))
    # Test concepts stay in the order of the chart, so that neighbors are related.
    rows = np.sort(order[:num_test]) if split == "test" else order[num_test:]
    return Pairs(
        len(rows),
        lambda indices: concepts.image[rows[indices]],
        lambda indices: [concepts.caption[i] for i in rows[indices]],
    )


@functools.cache
def emoji(size: int) -> Emoji:
    """All emoji, decoded once and then kept as arrays in the cache.

    Raises:
      packaged.DataMissing: the packages cannot be fetched.
    """
    pins = "".join(packaged.PACKAGES[f"emoji-{v}"].sha256[:8] for v in VENDORS)
    file = packaged.cache_dir() / f"emoji-{size}-{pins}.npz"
    table = json.loads(packaged.read_member("emoji-google", "emoji.json"))
    table.sort(key=lambda entry: entry["sort_order"])
    descriptions = {
        entry["hexcode"].replace("-FE0F", ""): entry
        for entry in json.loads(packaged.read_member("emojibase", "en/data.json"))
    }
    captions = []
    for entry in table:
        description = descriptions[entry["unified"].replace("-FE0F", "")]
        name = words(description["label"])
        tags = [w for tag in description.get("tags", []) for w in words(tag)]
        captions.append(" ".join(dict.fromkeys([*name, *tags])))
    if not file.exists():
        pictures = [
            [square(data, size) for data in members(vendor, table)]
            for vendor in VENDORS
        ]
        save_atomic(file, np.stack([np.stack(p) for p in pictures], axis=1))
    with np.load(file) as cached:
        image = cached["image"]
    groups = (tuple(e[key] for e in table) for key in ("category", "subcategory"))
    return Emoji(image, tuple(captions), *groups)


def members(vendor: str, table: list[dict]) -> list[bytes]:
    """The PNG files of a vendor, in the order of the table."""
    names = [f"img/{vendor}/64/{entry['image']}" for entry in table]
    files = packaged.read_members(f"emoji-{vendor}", names)
    return [files[name] for name in names]


def square(png: bytes, size: int) -> np.ndarray:
    """A PNG with transparency, composed on white, [size, size, 3] uint8."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    flat = Image.alpha_composite(white, picture).convert("RGB")
    return np.asarray(flat.resize((size, size), Image.Resampling.BOX))


def save_atomic(file, image: np.ndarray) -> None:
    """Writes an archive of arrays, whole or not at all."""
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as f:
        np.savez(f, image=image)
    os.replace(temporary, file)


def open_prepared(
    name: str, split: str, data_dir: str, size: int, caption: str
) -> Pairs:
    """A split of a set in a TFDS folder; captions are read without decoding images."""
    tfds = tfds_source.import_tfds()
    builder = tfds_source.open_builder(name, data_dir)
    if not {"image", caption} <= set(builder.info.features):
        raise packaged.DataMissing(
            f"data set {name!r} has features {sorted(builder.info.features)}, expected "
            f"image and {caption!r} (data.caption)"
        )
    source = builder.as_data_source(split=split)
    skip = {"image": tfds.decode.SkipDecoding()}
    undecoded = builder.as_data_source(split=split, decoders=skip)

    def image(rows):
        examples = source.__getitems__([int(row) for row in rows])
        squares = [pictures.resize_square(e["image"], size) for e in examples]
        return np.stack(squares)[:, None]

    def first_captions(rows):
        examples = undecoded.__getitems__([int(row) for row in rows])
        return [first_text(e[caption]) for e in examples]

    return Pairs(len(source), image, first_captions)


def first_text(value) -> str:
    """A caption, the first where there are several."""
    while not isinstance(value, str | bytes):
        value = value["text"] if isinstance(value, dict) else value[0]
    return value.decode() if isinstance(value, bytes) else value


def vocabulary(pairs: Pairs, size: int, limit: int = 0) -> Vocabulary:
    """The words of a split's captions, of the first `limit` rows only when above 0."""
    rows = np.arange(min(limit, pairs.total) if limit else pairs.total)
    return build_vocabulary(pairs.caption(rows), size)


def batches(
    pairs: Pairs,
    encode: Callable[[list[str]], np.ndarray],
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
) -> Iterator[Batch]:
    """Endless shuffled batches; batch t is a function of (seed, t).

    Yields:
      image: [batch_size, v, h, w, 3] uint8, the pictures of each concept.
      tokens: [batch_size, t] int32, what `encode` made of the captions.

    Raises:
      ValueError: a batch larger than the set.
    """

    def read(rows):
        return {"image": pairs.image(rows), "tokens": encode(pairs.caption(rows))}

    rows = Rows(pairs.total, read)
    return row_batches(rows, batch_size=batch_size, seed=seed, start_step=start_step)
