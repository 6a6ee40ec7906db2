"""Images with captions: composition, splits, batches, prepared sets."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from contrastive_jax.data import captions, images, packaged


def png(color):
    file = io.BytesIO()
    Image.new("RGBA", (64, 64), color).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def fake_emoji(tmp_path, monkeypatch):
    """Ten emoji of which vendor and number can be read off the color."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path))
    captions.emoji.cache_clear()
    table = [
        {
            "unified": f"1F60{i}-FE0F",
            "image": f"{i}.png",
            "sort_order": 9 - i,
            "category": "Faces",
            "subcategory": "face-smiling",
        }
        for i in range(10)
    ]
    told = [
        {"hexcode": f"1F60{i}", "label": f"face: number {i}", "tags": ["face", "smile"]}
        for i in range(10)
    ]
    decoded = []

    def read_members(name, members):
        decoded.append(name)
        green = 100 * (name == "emoji-twitter")
        return {m: png((int(m[-5]), green, 0, 255)) for m in members}

    def read_member(name, member):
        return json.dumps(table if member == "emoji.json" else told).encode()

    monkeypatch.setattr(packaged, "read_members", read_members)
    monkeypatch.setattr(packaged, "read_member", read_member)
    yield decoded
    captions.emoji.cache_clear()


def test_emoji_pairs(fake_emoji):
    train = captions.open_pairs("emoji", "train", size=8)
    test = captions.open_pairs("emoji", "test", size=8)
    assert (train.total, test.total) == (8, 2)
    rows = [(part, row) for part in (train, test) for row in range(part.total)]
    numbers = []
    for part, row in rows:
        (image,), (caption,) = (
            part.image(np.array([row])),
            part.caption(np.array([row])),
        )
        assert image.shape == (2, 8, 8, 3)
        number = int(image[0, 0, 0, 0])
        np.testing.assert_array_equal(
            image[:, 3, 3], [[number, 0, 0], [number, 100, 0]]
        )
        assert caption == f"face number {number} smile"
        numbers.append(number)
    assert sorted(numbers) == list(range(10))  # no concept in both splits
    assert numbers[8] > numbers[9]  # the order of the chart
    assert fake_emoji == ["emoji-google", "emoji-twitter"]
    captions.emoji.cache_clear()
    captions.open_pairs("emoji", "train", size=8)
    assert len(fake_emoji) == 2  # the second time from arrays
    last = train.part(6, 8)
    assert last.caption(np.arange(2)) == train.caption(np.array([6, 7]))


def test_emoji_as_a_set_of_classes(fake_emoji):
    """Rows go by concept; a vendor is a column; classes are named."""
    both = images.read_emoji(captions.VENDORS, fine=True)
    assert both.train_image.shape == (16, 32, 32, 3)
    assert both.test_image.shape == (4, 32, 32, 3)
    assert both.class_names == ("Faces: face-smiling",)
    numbers = both.test_image[:, 0, 0, 0]
    assert (numbers[::2] == numbers[1::2]).all()  # the pictures of a concept
    assert not set(numbers) & set(both.train_image[:, 0, 0, 0])
    twitter = images.read_emoji(("twitter",), fine=False)
    assert twitter.class_names == ("Faces",) and (twitter.test_label == 0).all()
    np.testing.assert_array_equal(twitter.train_image, both.train_image[1::2])


def test_transparent_pixels_are_white():
    np.testing.assert_array_equal(
        captions.square(png((0, 0, 0, 0)), 4), np.full((4, 4, 3), 255)
    )


def test_batches_depend_on_seed_and_step_alone(fake_emoji):
    train = captions.open_pairs("emoji", "train", size=8)
    vocabulary = captions.vocabulary(train, 50)

    def encode(captions):
        return vocabulary.encode(captions, 6)

    options = dict(batch_size=4, seed=3)
    whole = captions.batches(train, encode, **options)
    later = captions.batches(train, encode, **options, start_step=2)
    third = [next(whole) for _ in range(3)][-1]
    again = next(later)
    for name in ("image", "tokens"):
        np.testing.assert_array_equal(third[name], again[name])
    assert third["image"].shape == (4, 2, 8, 8, 3)
    assert third["tokens"].shape == (4, 6)


def test_unknown_names():
    with pytest.raises(ValueError, match=r"data.name: expected emoji.*'emojis'"):
        captions.open_pairs("emojis", "train")
    with pytest.raises(ValueError, match="split: expected train or test"):
        captions.open_pairs("emoji", "validation")


def test_a_prepared_set(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")

    class Captioned(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = tmp_path

        def _info(self):
            features = {
                "image": tfds.features.Image(encoding_format="png"),
                "caption": tfds.features.Sequence(tfds.features.Text()),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            for i in range(3):
                file = io.BytesIO()
                Image.new("RGB", (20, 12), (i, 0, 0)).save(file, "PNG")
                file.seek(0)
                yield i, {"image": file, "caption": [f"number {i}", "other"]}

    with tfds.core.registered.skip_registration():
        builder = Captioned(data_dir=str(tmp_path), file_format="array_record")
    builder.download_and_prepare()
    options = dict(data_dir=str(tmp_path), size=8)
    pairs = captions.open_pairs("captioned", "train", **options)
    image = pairs.image(np.arange(3))
    assert image.shape == (3, 1, 8, 8, 3)
    assert pairs.caption(np.arange(3)) == [f"number {x}" for x in image[:, 0, 0, 0, 0]]
    with pytest.raises(
        packaged.DataMissing, match=r"a caption named \('image', 'text'\)"
    ):
        captions.open_pairs("captioned", "train", features=("image", "text"), **options)


@pytest.mark.network
def test_the_pinned_emoji_are_what_they_are_said_to_be():
    # Of the size that the smoke run of CLIP decodes too.
    train, test = (captions.open_pairs("emoji", s, size=16) for s in ("train", "test"))
    assert (train.total, test.total) == (1529, 382)
    image = test.image(np.arange(382))
    assert image.shape == (382, 2, 16, 16, 3)
    assert (image[:, 0] != image[:, 1]).any(axis=(1, 2, 3)).all()
    assert len(set(test.caption(np.arange(382)))) > 375


def write_table(folder, count=10):
    """A table of pictures of one color each, its number, and captions."""
    for i in range(count):
        (folder / f"{i}.png").write_bytes(png((i, 0, 0, 255)))
    rows = [f"{i}.png,number {i}" for i in range(count)]
    (folder / "pairs.csv").write_text("\n".join(["file,text", *rows]))
    return f"csv:{folder}/pairs.csv"


def test_a_table_of_paths_and_captions(tmp_path):
    options = dict(size=8, features=("file", "text"))
    name = write_table(tmp_path)
    parts = [captions.open_pairs(name, x, **options) for x in ("train", "test")]
    assert [part.total for part in parts] == [8, 2]
    numbers = []
    for part in parts:
        rows = np.arange(part.total)
        image = part.image(rows)
        assert image.shape == (part.total, 1, 8, 8, 3) and part.threads > 1
        own = image[:, 0, 0, 0, 0].tolist()
        assert part.caption(rows) == [f"number {i}" for i in own]
        numbers += own
    assert sorted(numbers) == list(range(10))

    def encode(texts):
        return np.array([[int(text.split()[1])] for text in texts], np.int32)

    order = dict(batch_size=4, seed=1)
    source = captions.batches(parts[0], encode, **order)
    for batch in (next(source), next(source)):
        assert batch["image"][:, 0, 0, 0, 0].tolist() == batch["tokens"][:, 0].tolist()
    later = captions.batches(parts[0], encode, **order, start_step=1)
    np.testing.assert_array_equal(next(later)["tokens"], batch["tokens"])
    split = f"csv:{tmp_path}/{{split}}.csv"
    assert captions.open_pairs(split, "pairs", **options).total == 10


def test_wrong_tables_of_captions(tmp_path):
    options = dict(size=8, features=("file", "text"))
    name = write_table(tmp_path)
    with pytest.raises(ValueError, match=r"pairs.csv:1: expected a column 'image'"):
        captions.open_pairs(name, "train", size=8)
    with pytest.raises(ValueError, match=r"split: expected train or test, got 'dev'"):
        captions.open_pairs(name, "dev", **options)
    with pytest.raises(packaged.DataMissing, match=r"other.csv is not there"):
        captions.open_pairs(f"{tmp_path}/other.csv", "train", **options)
    (tmp_path / "3.png").unlink()
    captions.read_table.cache_clear()
    with pytest.raises(ValueError, match=r"pairs.csv, row 4: 3.png: no such file"):
        captions.open_pairs(name, "train", **options)
    (tmp_path / "3.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"row 4: 3.png: expected an image, got an em"):
        captions.open_pairs(name, "train", **options)
