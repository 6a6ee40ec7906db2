"""Image files as arrays: PNG, JPEG, WebP, BMP, and the first frame of a GIF.

An `ImageSet` is what a reader of this folder makes of a user's images, `image_rows`
gives random access to images.
"""

import concurrent.futures
import io
import pathlib
import warnings
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeVar

import numpy as np

from contrastive_jax.data.batches import Batch, Rows

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
# Of the others that Pillow knows, some run programs.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")
THREADS = 8
# Names of a second part beside "train", the first that is there; it is called "test".
TEST = ("test", "val", "validation")
ORIENTATION = 0x0112  # tag of EXIF

A = TypeVar("A")
B = TypeVar("B")


class Unreadable(ValueError):
    """An image that cannot be decoded; the message is one line that names it."""

    def __init__(self, name: str, reason: str):
        """name: of the image, see `Source`; reason: what is wrong with it."""
        super().__init__(f"{name}: {reason}")
        self.name = name


class Source(NamedTuple):
    """An encoded image.

    Attributes:
      name: what a message calls it.
      content: its file, or its bytes.
    """

    name: str
    content: pathlib.Path | bytes


class Part(NamedTuple):
    """The images of one split.

    Attributes:
      image: number of an image to [h, w, c] uint8; raises `Unreadable`.
      label: class of each, [n] int32; -1 where the set has no labels.
    """

    image: Callable[[int], np.ndarray]
    label: np.ndarray


class ImageSet(NamedTuple):
    """The images of a user.

    Attributes:
      parts: "train", and "test" where the user has made one.
      class_names: one name per class; () for images without labels.
      size: height and width of all images; None where they differ.
      channels: 1 or 3.
    """

    parts: dict[str, Part]
    class_names: tuple[str, ...]
    size: tuple[int, int] | None
    channels: int


class Budget:
    """Counts unreadable images, and stops at more than were allowed."""

    def __init__(self, allowed: int):
        """allowed: the most unreadable images (`data.max_bad_rows`)."""
        self.allowed = allowed
        self.names: set[str] = set()

    def spend(self, error: Unreadable) -> None:
        """Notes an image.

        Raises:
          ValueError: there are more than were allowed; names this one.
        """
        if error.name in self.names:
            return
        self.names.add(error.name)
        if len(self.names) > self.allowed:
            raise ValueError(
                f"{error} (bad images: {len(self.names)}, data.max_bad_rows: "
                f"{self.allowed})"
            ) from error
        warnings.warn(f"{error}; the next image stands in for it", stacklevel=2)


def parallel_map(function: Callable[[A], B], values: Iterable[A]) -> list[B]:
    """`function` of every value, in order, in threads."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, values))


def open_picture(source: Source) -> Any:
    """An image whose header is read and whose pixels are not.

    Raises:
      Unreadable: it is no image, or has more pixels than Pillow holds to be safe.
    """
    from PIL import Image

    content = source.content
    if isinstance(content, pathlib.Path) and not content.is_file():
        raise Unreadable(source.name, "no such file")
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    if not size:
        raise Unreadable(source.name, "expected an image, got an empty file")
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        picture = Image.open(file, formats=FORMATS)
    except Exception as e:  # Pillow raises nearly anything on broken files
        raise Unreadable(source.name, f"expected an image ({first_line(e)})") from e
    pixels, most = picture.width * picture.height, Image.MAX_IMAGE_PIXELS
    if most and pixels > most:
        raise Unreadable(
            source.name,
            f"expected at most {most} pixels, got {picture.width} x {picture.height}",
        )
    return picture


def first_line(error: Exception) -> str:
    """What an exception says, on one line."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def is_gray(picture: Any) -> bool:
    """Whether an image has no color."""
    return picture.mode.partition(";")[0] in ("1", "L", "LA", "I", "F")


def decode(source: Source, channels: int) -> np.ndarray:
    """An image as [h, w, channels] uint8, upright, transparency on white.

    Raises:
      Unreadable: it cannot be decoded.
    """
    from PIL import Image, ImageOps

    with open_picture(source) as picture:
        try:
            if picture.mode.startswith("I;16"):  # Pillow would clip, not scale
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            picture = ImageOps.exif_transpose(picture)
            if picture.has_transparency_data:
                color = picture.convert("RGBA")
                white = Image.new("RGBA", color.size, "white")
                picture = Image.alpha_composite(white, color)
            image = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        except Exception as e:  # as above
            raise Unreadable(source.name, first_line(e)) from e
    return image[..., None] if channels == 1 else image


def encoded_set(
    sources: dict[str, list[Source] | Callable[[int], Source]],
    labels: dict[str, np.ndarray],
    class_names: tuple[str, ...],
    budget: Budget,
) -> ImageSet:
    """A set of encoded images, after a look at the header of every one.

    Args:
      sources: of each part its images, or how to get the one of a number.
      labels: of each part, see `Part`.
      class_names: see `ImageSet`.
      budget: of unreadable images.

    Raises:
      Unreadable: more images than allowed have no readable header.
    """
    sizes, gray = set(), set()
    get = {
        name: x.__getitem__ if isinstance(x, list) else x for name, x in sources.items()
    }

    def look(source):
        try:
            with open_picture(source) as picture:
                # Of a PNG without it, asking for it would decode the pixels.
                exif = picture.getexif() if "exif" in picture.info else {}
                turned = exif.get(ORIENTATION, 1) > 4  # by a quarter, or three
                w, h = picture.size
                return (w, h) if turned else (h, w), is_gray(picture)
        except Unreadable as e:
            return e
        except Exception as e:  # as above
            return Unreadable(source.name, first_line(e))

    for name, own in get.items():
        for found in parallel_map(
            lambda i, own=own: look(own(i)), range(len(labels[name]))
        ):
            if isinstance(found, Unreadable):
                budget.spend(found)
            else:
                sizes.add(found[0])
                gray.add(found[1])
    channels = 1 if gray == {True} else 3
    parts = {
        name: Part(lambda i, own=own: decode(own(i), channels), labels[name])
        for name, own in get.items()
    }
    return ImageSet(
        parts, class_names, sizes.pop() if len(sizes) == 1 else None, channels
    )


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


def image_rows(
    total: int,
    example: Callable[[int], tuple[np.ndarray, int]],
    *,
    size: int,
    labelled: bool,
    budget: Budget,
) -> Rows:
    """Random access to images.

    Reading gives image, [n, h, w, c] uint8, and label, [n] int32, where the set has
    labels. An image that cannot be read is replaced by the one after it, with its
    label, as long as the budget lasts.

    Args:
      total: number of images.
      example: number of an image to [h, w, c] uint8 and its label; raises `Unreadable`.
      size: side of the central square that images are resized to; 0 for as they are.
      labelled: whether the set has labels.
      budget: of unreadable images.
    """

    def readable(row):
        for shift in range(total):
            try:
                image, label = example((row + shift) % total)
            except Unreadable as e:
                budget.spend(e)
            else:
                return resize_square(image, size) if size else image, label
        raise ValueError(f"no image of {total} can be read")

    def read(rows: np.ndarray) -> Batch:
        images, labels = zip(*(readable(int(row)) for row in rows), strict=True)
        shapes = {x.shape for x in images}
        if len(shapes) > 1:
            raise ValueError(
                f"expected images of one size, got {sorted(shapes)}; set data.size, "
                "which resizes"
            )
        batch = {"image": np.stack(images)}
        return batch | ({"label": np.array(labels, np.int32)} if labelled else {})

    return Rows(total, read, threads=THREADS)


def read_all(rows: Rows) -> Batch:
    """All rows, read in threads."""
    chunks = np.array_split(np.arange(rows.total), max(1, rows.total // 64))
    batches = parallel_map(rows.read, chunks)
    return {name: np.concatenate([x[name] for x in batches]) for name in batches[0]}
