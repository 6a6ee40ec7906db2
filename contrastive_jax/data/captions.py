"""Sets of images with captions: emoji drawn by two vendors, or a user's.

Of a user: a table of paths and captions, "csv:FILE", "tsv:FILE" or "jsonl:FILE", or a
TFDS folder. `open_pairs` gives random access to a split. A row is a concept: one
caption and its pictures [v, h, w, 3] (two for emoji, one for sets of a user).
"""

import functools
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from contrastive_jax.data import packaged, tfds_source
from contrastive_jax.data.batches import Batch, Rows, row_batches
from contrastive_jax.data.formats import pictures, tables
from contrastive_jax.data.vocabulary import Vocabulary, build_vocabulary, words

VENDORS = ("google", "twitter")
TEST_SHARE = 0.2
FEATURES = ("image", "caption")


class Pairs(NamedTuple):
    """Random access to images and captions.

    Attributes:
      total: number of rows.
      image: reads rows, [n, v, h, w, 3] uint8.
      caption: reads rows, one string each.
      threads: batches read at the same time.
    """

    total: int
    image: Callable[[np.ndarray], np.ndarray]
    caption: Callable[[np.ndarray], list[str]]
    threads: int = 1

    def part(self, start: int, stop: int) -> "Pairs":
        """The rows from start to stop."""
        return Pairs(
            stop - start,
            lambda rows: self.image(start + rows),
            lambda rows: self.caption(start + rows),
            self.threads,
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
    name: str,
    split: str,
    *,
    data_dir: str = "",
    size: int = 32,
    features: Sequence[str] = FEATURES,
) -> Pairs:
    """A split of a set by name.

    Args:
      name: "emoji"; a table, see `formats.tables`, of paths (relative to it) and
        captions, for each split if "{split}" is in its path; with `data_dir` any
        prepared set with images and captions.
      split: "train" or "test" (a fifth of the concepts); with `data_dir`, or "{split}",
        any there is.
      data_dir: folder of sets prepared by tensorflow-datasets, "" for others.
      size: side of the square pictures.
      features: names of the columns, or features of TFDS, of images and captions.

    Raises:
      packaged.DataMissing: it is not there; the message says what to run.
      ValueError: no such set or split, or a table or an image that cannot be read.
    """
    if tables.kind_of(name)[0] != "lines":
        return open_table(name, split, size, tuple(features))
    if data_dir:
        return open_prepared(name, split, data_dir, size, tuple(features))
    if name != "emoji":
        raise ValueError(
            f"data.name: expected emoji, csv:FILE, tsv:FILE or jsonl:FILE (or a "
            f"data_dir), got {name!r}"
        )
    if split not in ("train", "test"):
        raise ValueError(f"split: expected train or test, got {split!r}")
    concepts = emoji(size)
    rows = split_rows(len(concepts.caption), split)
    return Pairs(
        len(rows),
        lambda indices: concepts.image[rows[indices]],
        lambda indices: [concepts.caption[i] for i in rows[indices]],
    )


def split_rows(total: int, split: str) -> np.ndarray:
    """The rows of "train" or "test", the same always; those of the test in order."""
    order = np.random.default_rng(0).permutation(total)
    num_test = round(TEST_SHARE * total)
    return np.sort(order[:num_test]) if split == "test" else order[num_test:]


@functools.lru_cache(maxsize=8)
def read_table(
    name: str, features: tuple[str, ...]
) -> tuple[list[pictures.Source], list[str]]:
    """The images and captions of a table, after a look at the header of every image.

    Raises:
      packaged.DataMissing: no such table.
      ValueError: see `tables.read`; an image that is missing or none.
    """
    _, file = tables.kind_of(name)
    if len(features) != 2:
        raise ValueError(f"data.features: expected two names, got {features}")
    paths, texts = zip(*tables.read(name, features), strict=True)
    sources = [
        pictures.Source(f"{file}, row {i}: {path}", file.parent / path)
        for i, path in enumerate(paths, start=1)
    ]

    def look(source):
        pictures.open_picture(source).close()

    pictures.parallel_map(look, sources)
    return sources, list(texts)


def open_table(name: str, split: str, size: int, features: tuple[str, ...]) -> Pairs:
    """A split of a table of images and captions, see `open_pairs`."""
    if "{split}" in name:
        sources, texts = read_table(name.replace("{split}", split), features)
        rows = np.arange(len(texts))
    else:
        if split not in ("train", "test"):
            raise ValueError(f"split: expected train or test, got {split!r}")
        sources, texts = read_table(name, features)
        rows = split_rows(len(texts), split)

    def image(indices):
        chosen = (pictures.decode(sources[i], 3) for i in rows[indices])
        return np.stack([pictures.resize_square(x, size) for x in chosen])[:, None]

    return Pairs(
        len(rows),
        image,
        lambda indices: [texts[i] for i in rows[indices]],
        pictures.THREADS,
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
    name: str, split: str, data_dir: str, size: int, features: tuple[str, ...]
) -> Pairs:
    """A split of a set in a TFDS folder; captions are read without decoding images."""
    tfds, builder = tfds_source.import_tfds(), tfds_source.open_builder(name, data_dir)
    own = builder.info.features
    if len(features) != 2 or not set(features) <= set(own):
        raise packaged.DataMissing(
            f"data set {name!r} has features {sorted(own)}, expected an image and a "
            f"caption named {features} (data.features)"
        )
    image_name, text_name = features
    total, record = tfds_source.open_records(builder, split)
    skip = {image_name: tfds.decode.SkipDecoding()}

    def example(row):
        return own.deserialize_example_np(record(int(row)), decoders=skip)

    def image(rows):
        squares = []
        for row in rows:
            where = f"data set {name!r} ({split}), row {row}"
            source = pictures.Source(where, bytes(example(row)[image_name]))
            squares.append(pictures.resize_square(pictures.decode(source, 3), size))
        return np.stack(squares)[:, None]

    return Pairs(
        total,
        image,
        lambda rows: [first_text(example(row)[text_name]) for row in rows],
        pictures.THREADS,
    )


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

    rows = Rows(pairs.total, read, pairs.threads)
    return row_batches(rows, batch_size=batch_size, seed=seed, start_step=start_step)
