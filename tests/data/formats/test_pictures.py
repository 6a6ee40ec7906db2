"""A user's images, as folders, arrays, Arrow and Parquet files, read by number."""

import io
import pathlib
import struct
import zlib

import grain
import jax
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from contrastive_jax.data import batches, images, packaged
from contrastive_jax.data.formats import columns, pictures

RNG = np.random.default_rng(0)


def pixels(n, side=6, channels=1):
    return RNG.integers(256, size=(n, side, side, channels), dtype=np.uint8)


def png(image):
    file = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(file, "PNG")
    return file.getvalue()


def write_folder(root, image, label=None):
    """Images as PNG files, in folders of classes where there are labels."""
    for i, x in enumerate(image):
        place = root if label is None else root / f"class {label[i]}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03}.png").write_bytes(png(x))
    return f"folder:{root}"


def read(name, split="train", **place):
    """All rows of a split."""
    rows = images.open_rows(name, split, **place)
    return rows.read(np.arange(rows.total))


@pytest.fixture
def lazily(monkeypatch):
    """Nothing is kept in memory: every image is decoded when it is read."""
    monkeypatch.setattr(images, "IN_MEMORY", 0)
    images.own_rows.cache_clear()
    yield
    images.own_rows.cache_clear()


# Folders


def test_folder_of_classes_with_a_test(tmp_path):
    image, label = pixels(9), np.arange(9) % 3
    write_folder(tmp_path / "train", image, label)
    name = write_folder(tmp_path / "val", image[:3], label[:3])
    name = f"folder:{tmp_path}"
    order = np.argsort(label, kind="stable")
    got = read(name)
    np.testing.assert_array_equal(got["image"], image[order])
    np.testing.assert_array_equal(got["label"], label[order])
    assert got["label"].dtype == np.int32
    np.testing.assert_array_equal(read(name, "test")["image"], image[:3])
    assert images.class_names(name) == ("class 0", "class 1", "class 2")
    assert images.image_shape(name) == (6, 6, 1)
    assert images.load(name).test_label.tolist() == [0, 1, 2]


def test_without_a_test_a_fifth_of_every_class_is_held_out(tmp_path):
    image, label = pixels(40), np.arange(40) % 4
    name = write_folder(tmp_path, image, label)
    train, test = read(name), read(name, "test")
    assert np.bincount(test["label"]).tolist() == [2, 2, 2, 2]
    both = {x.tobytes() for x in (*train["image"], *test["image"])}
    assert len(train["image"]) == 32 and both == {x.tobytes() for x in image}
    images.open_own.cache_clear()
    images.own_rows.cache_clear()
    jax.tree.map(np.testing.assert_array_equal, read(name), train)


def test_folder_without_labels(tmp_path):
    name = write_folder(tmp_path, pixels(10))
    assert list(read(name)) == ["image"] and images.class_names(name) == ()
    (_, label), *_ = images.one_pass(name, "test", batch_size=10)
    assert label.tolist() == [-1, -1]
    with pytest.raises(ValueError, match="expected images with labels, got none"):
        images.load(name)


def test_hidden_files_other_files_and_links(tmp_path):
    image, label = pixels(20), np.arange(20) % 2
    write_folder(tmp_path / "there", image, label)
    place = tmp_path / "set"
    place.mkdir()
    for i in range(2):  # a class may be a link, its images may lie deeper
        (place / f"{i}").symlink_to(tmp_path / "there" / f"class {i}")
    deep = tmp_path / "there" / "class 0" / "deeper"
    deep.mkdir()
    (deep / "x.PNG").write_bytes(png(image[0]))
    for name in ("0/.hidden.png", "0/notes.txt", ".cache/x.png", "empty/notes.txt"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).write_text("none of them")
    name = f"folder:{place}"
    assert images.class_names(name) == ("0", "1")
    assert len(read(name)["label"]) + len(read(name, "test")["label"]) == 21


def test_one_class_is_no_label(tmp_path):
    name = write_folder(tmp_path, pixels(5), np.zeros(5, int))
    assert images.class_names(name) == ()


def test_gray_and_color_together_are_color(tmp_path):
    gray, color = pixels(4), pixels(4, channels=3)
    write_folder(tmp_path / "a", gray)
    name = write_folder(tmp_path / "b", color)
    name = f"folder:{tmp_path}"
    got = read(name)
    assert got["image"].shape[1:] == images.image_shape(name) == (6, 6, 3)
    found = {x.tobytes() for x in (*got["image"], *read(name, "test")["image"])}
    assert found == {np.repeat(x, 3, -1).tobytes() for x in gray} | {
        x.tobytes() for x in color
    }


def test_images_of_several_sizes_need_a_size(tmp_path):
    write_folder(tmp_path / "a", pixels(5, 6))
    write_folder(tmp_path / "b", pixels(5, 9))
    name = f"folder:{tmp_path}"
    with pytest.raises(ValueError, match=r"images of one size.* set data.size"):
        images.open_rows(name, "train")
    with pytest.raises(ValueError, match=r"images of one size.* set data.size"):
        images.image_shape(name)
    assert read(name, size=4)["image"].shape == (8, 4, 4, 1)
    assert images.image_shape(name, size=4) == (4, 4, 1)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_every_format_is_read(tmp_path, kind):
    flat = np.full((8, 8, 3), 120, np.uint8)
    for i in range(5):
        Image.fromarray(flat).save(tmp_path / f"{i}.{kind.lower()}", kind)
    got = read(f"folder:{tmp_path}")["image"]
    assert np.abs(got.astype(int) - 120).max() <= 2
    assert got.shape == (4, 8, 8, 3)


def test_modes_of_pillow(tmp_path):
    """16 bits are scaled, transparency is white, pictures stand upright."""

    def decoded(picture, **options):
        file = tmp_path / "x.png"
        picture.save(file, **options)
        return pictures.decode(pictures.Source("x", file), 3)[0, 0].tolist()

    deep = Image.fromarray(np.full((2, 2), 0x8000, np.uint16))
    assert decoded(deep) == [128, 128, 128]
    assert decoded(Image.new("RGBA", (2, 2), (9, 9, 9, 0))) == [255, 255, 255]
    assert decoded(Image.new("1", (2, 2), 1)) == [255, 255, 255]
    palette = Image.new("P", (2, 2), 0)
    palette.putpalette([7, 8, 9])
    assert decoded(palette) == [7, 8, 9]
    turned, exif = Image.new("L", (3, 2)), Image.Exif()
    exif[0x0112] = 6
    for name in "tuv":
        turned.save(tmp_path / f"{name}.jpg", exif=exif)
    name = f"folder:{tmp_path}"
    (tmp_path / "x.png").unlink()
    assert images.image_shape(name) == read(name)["image"].shape[1:] == (3, 2, 1)


def bomb():
    """A PNG of 60,000 x 60,000 pixels in a few bytes."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", b""), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD = {
    "empty": (b"", "002.png: expected an image, got an empty file"),
    "text": (b"no image", r"002.png: expected an image \("),
    "bomb": (bomb(), r"002.png: .*(pixels|decompression bomb)"),
    "cut": (png(pixels(1, 40)[0])[:-300], "002.png: "),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content, message", BAD.values(), ids=BAD)
def test_bad_images_are_named_on_one_line(tmp_path, content, message):
    name = write_folder(tmp_path, pixels(6, 40))
    (tmp_path / "002.png").write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        for split in ("train", "test"):
            read(name, split)
    assert "\n" not in str(error.value)
    assert "data.max_bad_rows: 0" in str(error.value)


@pytest.mark.parametrize("limit", [0, 2**30])
def test_the_next_image_stands_in_for_bad_ones(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(images, "IN_MEMORY", limit)
    image, label = pixels(12), np.arange(12) % 2
    name = write_folder(tmp_path / "train", image, label)
    write_folder(tmp_path / "test", image[:2], label[:2])
    name = f"folder:{tmp_path}"
    order = np.argsort(label, kind="stable")  # 0, 2, ... then 1, 3, ...
    for row, content in ((3, b""), (5, png(image[order[5]])[:-30])):
        i = order[row]
        file = tmp_path / "train" / f"class {label[i]}" / f"{i:03}.png"
        file.write_bytes(content)
    with pytest.warns(UserWarning, match="stands in for it"):
        got = read(name, max_bad_rows=2)
    want = order[[0, 1, 2, 4, 4, 6, 6, 7, 8, 9, 10, 11]]
    np.testing.assert_array_equal(got["image"], image[want])
    np.testing.assert_array_equal(got["label"], label[want])
    with (
        pytest.raises(ValueError, match=r"bad images: 2, data.max_bad_rows: 1"),
        pytest.warns(UserWarning),
    ):
        read(name, max_bad_rows=1)


def test_wrong_folders(tmp_path):
    with pytest.raises(packaged.DataMissing, match="gone is no folder"):
        images.open_rows(f"folder:{tmp_path}/gone", "train")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"expected images \(.png, .* got none"):
        images.open_rows(f"folder:{tmp_path}", "train")
    write_folder(tmp_path, pixels(2))
    write_folder(tmp_path / "cats", pixels(2))
    with pytest.raises(ValueError, match=r"got both \(000.png lies outside\)"):
        images.open_rows(f"folder:{tmp_path}", "train")
    write_folder(tmp_path / "set" / "train", pixels(4), [0, 0, 1, 1])
    write_folder(tmp_path / "set" / "test", pixels(4), [0, 0, 2, 2])
    with pytest.raises(ValueError, match=r"expected the classes of .*class 2"):
        images.open_rows(f"folder:{tmp_path}/set", "train")
    few = write_folder(tmp_path / "few", pixels(2))
    with pytest.raises(ValueError, match="images enough to hold some out as a test"):
        images.open_rows(few, "train")
    with pytest.raises(ValueError, match=r"data.size: expected 0 .* 8 x 8, got 4"):
        images.open_rows("digits", "train", size=4)
    with pytest.raises(ValueError, match="no split 'dev', only train, test"):
        images.open_rows(write_folder(tmp_path / "b", pixels(5)), "dev")


@pytest.mark.parametrize("threads", [0, 1, 4])
def test_batches_are_the_same_for_any_number_of_threads(tmp_path, lazily, threads):
    name = write_folder(tmp_path, pixels(40), np.arange(40) % 4)
    rows = images.open_rows(name, "train")
    assert rows.threads > 1
    plan = batches.index_batches(rows.total, 8, seed=3)
    want = [rows.read(plan[t]) for t in range(6)]

    def drawn(source, n):
        return [next(source) for _ in range(n)]

    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    got = drawn(iter(plan.map(rows.read).to_iter_dataset(options)), 6)
    jax.tree.map(np.testing.assert_array_equal, got, want)
    order = dict(batch_size=8, seed=3)
    source = batches.row_batches(rows._replace(threads=max(1, threads)), **order)
    jax.tree.map(np.testing.assert_array_equal, drawn(source, 6), want)
    later = images.batches(name, **order, start_step=4)
    jax.tree.map(np.testing.assert_array_equal, drawn(later, 2), want[4:])


# Arrays


def test_npz(tmp_path):
    image, label = pixels(20, channels=3), np.arange(20) % 2 * 7 + 3
    file = tmp_path / "own.npz"
    np.savez(file, image=image, label=label, image_test=image[:4], label_test=label[:4])
    name = f"npz:{file}"
    got = read(name)
    np.testing.assert_array_equal(got["image"], image)
    assert images.class_names(name) == ("3", "10")
    np.testing.assert_array_equal(got["label"], (label - 3) // 7)
    np.testing.assert_array_equal(read(name, "test")["image"], image[:4])
    np.savez(tmp_path / "x.npz", x=image[..., 0], y=label)
    place = dict(features=("x", "y"))
    assert images.image_shape(f"npz:{tmp_path}/x.npz", **place) == (6, 6, 1)
    assert len(read(f"npz:{tmp_path}/x.npz", "test", **place)["label"]) == 4
    np.savez(tmp_path / "none.npz", image=image)
    assert images.class_names(f"npz:{tmp_path}/none.npz") == ()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (dict(x=pixels(3)), r"expected an array 'image', got \['x'\]"),
        (dict(image=pixels(3) / 255), "expected uint8 .* got float64"),
        (dict(image=pixels(3, channels=2)), r"expected uint8 .* \[3, 6, 6, 2\]"),
        (dict(image=pixels(3), label=[0, 1]), r"expected integers \[3\]"),
        (dict(image=pixels(3), label=[0.0, 1, 1]), r"expected integers \[3\]"),
        (dict(image=pixels(3), label=[0, -1, 1]), "labels >= 0, got -1 in row 1"),
        (dict(image=np.array([None] * 3)), "without pickles"),
        (dict(image=pixels(0)), "expected an image or more"),
        (
            dict(image=pixels(2), label=[0, 1], image_test=pixels(1), label_test=[2]),
            "class 2 of test is none of training",
        ),
        (
            dict(image=pixels(2), label=[0, 1], image_test=pixels(1)),
            "label_test: expected an array",
        ),
        (
            dict(image=pixels(2), image_test=pixels(1, 7)),
            "expected images of one shape",
        ),
    ],
)
def test_wrong_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "own.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        images.open_rows(f"npz:{tmp_path}/own.npz", "train")


def test_npz_that_is_none(tmp_path):
    file = tmp_path / "own.npz"
    with pytest.raises(packaged.DataMissing, match="is no file"):
        images.open_rows(f"npz:{file}", "train")
    for content in (b"", b"text"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"expected arrays in .npz"):
            images.open_rows(f"npz:{file}", "train")
    np.save(tmp_path / "x.npy", pixels(2))
    (tmp_path / "x.npy").rename(file)
    with pytest.raises(ValueError, match=r"expected arrays in .npz"):
        images.open_rows(f"npz:{file}", "train")


# Arrow and Parquet


def table(image, label=None, names=()):
    """A table as `datasets` makes one."""
    cells = [{"bytes": png(x), "path": None} for x in image]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    held = {"image": pa.array(cells, kind)}
    if label is not None:
        held["label"] = pa.array([x if isinstance(x, str) else int(x) for x in label])
    made = pa.table(held)
    if names:
        text = '{"info": {"features": {"label": {"names": ["%s"], "_type": "%s"}}}}'
        noted = text % ('", "'.join(names), "ClassLabel")
        made = made.replace_schema_metadata({"huggingface": noted})
    return made


def write_arrow(file, made):
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.ipc.new_stream(str(file), made.schema) as writer:
        writer.write_table(made)


def write_parquet(file, made):
    file.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(made, file)


@pytest.mark.parametrize("layout", ["saved", "parquet", "large"])
def test_columns(tmp_path, monkeypatch, layout):
    if layout == "large":
        monkeypatch.setattr(columns, "IN_MEMORY", 0)
        monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    image, label = pixels(10), np.arange(10) % 2
    root = tmp_path / "set"
    parts = {"train": (image, label), "test": (image[:4], label[:4])}
    for part, (x, y) in parts.items():
        made = table(x, y, names=("one", "other"))
        if layout == "saved":  # two files, as save_to_disk writes them
            write_arrow(root / part / "data-00000-of-00002.arrow", made.slice(0, 3))
            write_arrow(root / part / "data-00001-of-00002.arrow", made.slice(3))
        else:
            write_parquet(root / "data" / f"{part}-00000-of-00001.parquet", made)
    name = f"hf:{root}"
    got = read(name)
    np.testing.assert_array_equal(got["image"], image)
    np.testing.assert_array_equal(got["label"], label)
    np.testing.assert_array_equal(read(name, "test")["image"], image[:4])
    assert images.class_names(name) == ("one", "other")
    if layout == "large":
        assert len(list((tmp_path / "cache").glob("*.arrow"))) == 2
        assert not list((tmp_path / "cache").glob("*.tmp"))


def test_columns_without_notes(tmp_path):
    image, words = pixels(10), ["cat", "dog"] * 5
    write_parquet(tmp_path / "x.parquet", table(image, words))
    assert images.class_names(f"hf:{tmp_path}/x.parquet") == ("cat", "dog")
    assert len(read(f"hf:{tmp_path}", "test")["label"]) == 2
    made = table(image).rename_columns(["picture"])
    write_parquet(tmp_path / "y.parquet", made)
    place = dict(features=("picture", "label"))
    assert images.class_names(f"hf:{tmp_path}/y.parquet", **place) == ()
    raw = pa.table({"image": pa.array([png(x) for x in image])})
    write_parquet(tmp_path / "z.parquet", raw)
    assert read(f"hf:{tmp_path}/z.parquet")["image"].shape == (8, 6, 6, 1)


def test_wrong_columns(tmp_path):
    with pytest.raises(packaged.DataMissing, match="gone is not there"):
        images.open_rows(f"hf:{tmp_path}/gone", "train")
    with pytest.raises(ValueError, match=r"expected .arrow or .parquet files"):
        images.open_rows(f"hf:{tmp_path}", "train")
    file = tmp_path / "x.parquet"
    write_parquet(file, table(pixels(2), [0, 1]).rename_columns(["picture", "label"]))
    with pytest.raises(ValueError, match="column 'image', got picture, label"):
        images.open_rows(f"hf:{file}", "train")
    hidden = tmp_path / "hidden.parquet"
    write_parquet(hidden, table(pixels(3), [0, -1, 1], names=("a", "b")))
    with pytest.raises(ValueError, match=r"row 1: expected one of 2 classes .* got -1"):
        images.open_rows(f"hf:{hidden}", "train")
    empty = tmp_path / "empty.parquet"
    made = table(pixels(3))
    cells = [*made["image"].to_pylist()[:2], {"bytes": None, "path": None}]
    write_parquet(empty, pa.table({"image": pa.array(cells, made["image"].type)}))
    with pytest.raises(ValueError, match="row 2: expected an image, got an empty"):
        images.open_rows(f"hf:{empty}", "train")
    for suffix in ("parquet", "arrow"):
        cut = pathlib.Path(tmp_path / f"cut.{suffix}")
        cut.write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match=f"cut.{suffix}: expected {suffix}"):
            images.open_rows(f"hf:{cut}", "train")


def test_unknown_names_say_what_there_is():
    with pytest.raises(
        ValueError, match=r"or own files as folder:PATH, npz:FILE or hf"
    ):
        images.open_rows("photos/", "train")
