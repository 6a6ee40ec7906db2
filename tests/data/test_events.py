"""Sets of events: split by time, numbering, unknown entities, users' files."""

import io
import zipfile

import numpy as np
import pytest

from contrastive_jax.data import events, packaged

CSV = """when,user,host
2020-01-03,carol,b
2020-01-01,ann,a
2020-01-02,bob,a
2020-01-04,ann,c
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "logs.csv").write_text(CSV)
    events.load.cache_clear()
    return str(tmp_path)


def test_a_users_file_is_split_by_time(folder):
    logs = events.load("logs", folder, 0.5, 0.25)
    assert logs.types == ("user", "host")
    assert logs.entities == (("ann", "bob"), ("a",))
    np.testing.assert_array_equal(logs.train, [[0, 0], [1, 0]])
    np.testing.assert_array_equal(logs.validation, [[-1, -1]])
    np.testing.assert_array_equal(logs.test, [[0, -1]])
    np.testing.assert_array_equal(logs.sizes, [2, 1])
    assert [c.tolist() for c in logs.counts] == [[1, 1], [2]]
    assert len(events.known_only(logs.test)) == 0
    np.testing.assert_array_equal(logs.encode([("bob", "z")]), [[1, -1]])
    with pytest.raises(ValueError, match="expected one entity of each of user, host"):
        logs.encode([("bob",)])


def test_what_is_wrong_with_a_file_is_said(folder, tmp_path):
    with pytest.raises(packaged.DataMissing, match=r"none.csv is not there: a CSV"):
        events.load("none", folder)
    (tmp_path / "short.csv").write_text("when,user\n1,a\n")
    with pytest.raises(ValueError, match="expected a time and two types or more"):
        events.load("short", folder)
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(ValueError, match="expected a time and two types or more"):
        events.load("empty", folder)
    (tmp_path / "ragged.csv").write_text(CSV + "2020-01-05,ann\n")
    with pytest.raises(ValueError, match="row 6: expected 3 columns, got 2"):
        events.load("ragged", folder)
    (tmp_path / "header.csv").write_text("when,user,host\n")
    with pytest.raises(ValueError, match="no training events"):
        events.load("header", folder)
    (tmp_path / "gap.csv").write_text(CSV + "2020-01-05,,c\n")
    with pytest.raises(ValueError, match="row 6: expected a 'user', got none"):
        events.load("gap", folder)
    for name in ("../evil", "/etc/passwd", "a/b", ".hidden", ""):
        with pytest.raises(ValueError, match=r"^data.sets: expected names of files in"):
            events.load(name, folder)
    with pytest.raises(ValueError, match="expected names of birdstrikes, flights"):
        events.load("nights")
    with pytest.raises(ValueError, match="expected shares > 0 of 1 in all"):
        events.load("synthetic", "", 0.9, 0.2)


def test_synthetic_events_have_groups():
    logs = events.load("synthetic")
    assert logs.sizes.tolist() == [12, 18, 30, 4, 1]
    assert len(logs.train) == 2250 and len(logs.test) == 450
    groups = [logs.entities[i] for i in range(3)]
    for event in logs.train[:50]:
        numbers = [int(groups[i][event[i]]) // n for i, n in enumerate((2, 3, 5))]
        assert len(set(numbers)) == 1


def fake(monkeypatch, content):
    monkeypatch.setattr(packaged, "read_member", lambda name, member: content)


def test_flights_are_read_in_order_without_missing_aircraft(monkeypatch):
    text = (
        "month,day,carrier,tailnum,origin,dest,hour,minute\n"
        "10,1,AA,N1,JFK,LAX,9,0\n2,1,UA,N2,LGA,ORD,15,5\n2,1,UA,N3,LGA,ORD,9,5\n"
        "2,1,UA,NA,LGA,ORD,9,5\n2,1,UA,,LGA,ORD,9,5\n"
    )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("flights.csv", text)
    fake(monkeypatch, archive.getvalue())
    types, rows = events.read_flights()
    assert types == ("carrier", "tailnum", "origin", "dest", "hour")
    assert [row[2] for row in sorted(rows)] == ["N3", "N2", "N1"]


@pytest.mark.experiments  # whose default runs read them; fetching takes 9 s
@pytest.mark.network
def test_the_packaged_sets_are_what_they_are_said_to_be():
    flights, strikes = events.load("flights"), events.load("birdstrikes")
    assert flights.sizes.tolist() == [16, 3951, 3, 103, 19]
    assert len(flights.train) == 250_698 and len(flights.test) == 50_140
    assert strikes.sizes.tolist() == [50, 208, 45, 29, 7, 3, 37, 4]
    assert len(strikes.train) == 7500
    assert not (flights.train < 0).any() and (flights.test[:, 1] < 0).any()
