"""Descriptions of packages, and the pairs among them, from two short lists."""

import numpy as np
import pytest

from contrastive_jax.data import descriptions, packaged

PACKAGES = """Package: chess
Section: games
Suggests: clock (>= 1:2.0) | hourglass, board [amd64], nowhere
Recommends: pieces:any, clock

Package: clock
Source: time (1.2)
Section: utils
Description: Not read

Package: board
Section: games

Package: pieces
Source: time
Section: games

Package: watch
Source: time
Section: games

Package: club
Section: misc
Suggests: pieces, watch, board, chess

Package: silent
Section: games
"""
TEXTS = "\n".join(
    f"Package: {name}\nHomepage: x\nDescription-en: A {name}\n {name}s\n .\n all\n"
    for name in ("chess", "clock", "board", "pieces", "watch", "club")
)


@pytest.fixture
def found():
    return descriptions.read_lists(PACKAGES, TEXTS)


def test_lists_become_packages(found):
    assert [p.name for p in found] == "chess clock board pieces watch club".split()
    assert found[0].text == "A chess. chesss all"
    assert found[0].named == ("clock", "board", "nowhere", "pieces")
    assert found[1].source == "time" and found[1].section == "utils"
    assert found[2].source == "board" and found[2].named == ()


def test_pairs_are_of_one_section_and_two_sources(found):
    """chess names board and pieces; club those, watch and chess, one source twice."""
    pairs = descriptions.named_together(found, most=4)
    names = [tuple(found[i].name for i in pair) for pair in pairs]
    assert names == [
        ("chess", "board"),
        ("chess", "pieces"),
        ("chess", "watch"),
        ("board", "pieces"),
        ("board", "watch"),
    ]
    few = descriptions.named_together(found, most=2)
    assert few.tolist() == [[2, 3]]
    assert descriptions.named_together(found[:1], most=9).shape == (0, 2)
    assert pairs.dtype == np.int64


def test_lists_are_fetched_by_apt_and_checked(tmp_path, monkeypatch):
    """A list of another point release has another hash, and is not kept."""
    monkeypatch.setenv("CONTRASTIVE_JAX_CACHE", str(tmp_path))
    plain = {"bookworm_main_binary-amd64_Packages": "x"}

    def run_fetch(package, command, folder, by_hand=None):
        assert command[0] == "apt-get" and "update" in command
        for name, text in plain.items():
            (folder / "lists" / f"mirror_debian_dists_{name}").write_text(text)

    monkeypatch.setattr(packaged, "run_fetch", run_fetch)
    with pytest.raises(packaged.DataMissing, match="another SHA-256 than the pinned"):
        packaged.path("debian-packages")
    with pytest.raises(
        packaged.DataMissing, match=r"sources do not have Debian 12\.15"
    ):
        packaged.path("debian-descriptions")
    assert not list(tmp_path.iterdir())
