"""Time travel: what a version or a write time gives back, and what a restore leaves as it was."""

from __future__ import annotations

import datetime as dt

import pytest

from featurestore import InvalidRequest, eventtime, feature_definitions

NOTHING_KEPT = dt.timedelta(0)


def counts(reader) -> list[int]:
    return reader.read_all()["count"].to_pylist()


@pytest.fixture
def four(store, reading, clock):
    """Four flushes of one record each, one second apart."""
    for number in range(4):
        store.put("readings", reading("JFK", number, count=number))
        store.flush()
        clock.advance(1)
    return store


def test_a_version_is_read_as_it_was(four):
    assert [counts(four.history("readings", version=v)) for v in range(4)] == [
        list(range(v + 1)) for v in range(4)
    ]
    assert counts(four.history("readings")) == [0, 1, 2, 3]


def test_a_write_time_is_inclusive(four, clock):
    last = eventtime.to_datetime(clock.us - 1_000_000)
    assert counts(four.history("readings", as_of=last)) == [0, 1, 2, 3]
    assert counts(four.history("readings", as_of=last - dt.timedelta(microseconds=1))) == [0, 1, 2]
    assert counts(four.history("readings", version=1, as_of=last)) == [0, 1]


def test_what_waits_is_flushed_first(four, reading):
    four.put("readings", reading("JFK", 9, count=9))
    assert counts(four.history("readings")) == [0, 1, 2, 3, 9]


def test_maintenance_changes_no_version(four):
    four.maintain("readings")
    assert counts(four.history("readings", version=2)) == [0, 1, 2]
    assert counts(four.history("readings")) == [0, 1, 2, 3]


def test_features_that_came_later_are_null_in_old_versions(four):
    four.add_features("readings", feature_definitions([("wind", "Fractional")]))
    rows = four.history("readings", version=0).read_all()
    assert rows["wind"].to_pylist() == [None]
    assert rows.schema.names[:6] == ["station", "time", "temp", "count", "note", "wind"]


def test_a_group_without_rows(store):
    assert store.history("readings").read_all().num_rows == 0
    assert store.versions("readings") == []
    with pytest.raises(InvalidRequest, match="nothing was ever written"):
        store.restore("readings", 0)


@pytest.mark.parametrize("version", [4, 99])
def test_a_version_that_is_not_there_is_refused(four, version):
    with pytest.raises(InvalidRequest, match="expected a version from 0 to 3"):
        four.history("readings", version=version)
    with pytest.raises(InvalidRequest, match="expected a version from 0 to 3"):
        four.restore("readings", version)


def test_a_time_without_a_zone_is_refused(four):
    with pytest.raises(InvalidRequest, match="as_of: expected a datetime with a zone"):
        four.history("readings", as_of=dt.datetime(2024, 1, 1))  # noqa: DTZ001


def test_versions_tell_what_can_be_read(four):
    four.maintain("readings", retention=NOTHING_KEPT)
    found = four.versions("readings")
    assert [entry.version for entry in found] == list(range(found[0].version, -1, -1))
    assert [entry.is_readable for entry in reversed(found)][:5] == [False] * 4 + [True]
    assert found[-1].operation == "WRITE"
    assert [entry.version for entry in four.versions("readings", limit=2)] == [
        found[0].version,
        found[1].version,
    ]


# -- restore ----------------------------------------------------------------------------------


def test_a_restore_makes_an_old_version_the_newest(four):
    assert four.restore("readings", 1) == 4
    assert counts(four.history("readings")) == [0, 1]
    assert counts(four.history("readings", version=3)) == [0, 1, 2, 3]
    assert four.restore("readings", 3) == 5
    assert counts(four.history("readings")) == [0, 1, 2, 3]
    assert four.verify("readings").equal


def test_a_restore_to_the_newest_does_nothing(four):
    assert four.restore("readings", 3) == 3


def test_after_a_restore_nothing_is_flushed_twice_and_what_waits_once(four, reading):
    four.put("readings", reading("JFK", 8, count=8))  # acknowledged, not flushed
    four.restore("readings", 1)
    assert four.flush()["readings"].records == 1
    assert counts(four.history("readings")) == [0, 1, 8]
    assert four.flush()["readings"].records == 0


def test_a_kill_between_commit_and_removal_then_a_restore(four, reading, monkeypatch):
    four.put("readings", reading("JFK", 8, count=8))
    with monkeypatch.context() as patch:
        patch.setattr(type(four.online.outbox), "remove", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            four.flush()
    four.restore("readings", 1)
    assert four.flush()["readings"].records == 0  # it was committed before the restore took it
    assert counts(four.history("readings")) == [0, 1]


def test_a_restore_over_a_new_column(four, reading, rows_of):
    four.add_features("readings", feature_definitions([("wind", "Fractional")]))
    four.put("readings", reading("JFK", 8, wind=2.5, count=8))
    four.flush()
    four.restore("readings", 0)
    four.put("readings", reading("JFK", 9, wind=3.5, count=9))
    four.flush()
    assert [(row["count"], row["wind"]) for row in rows_of(four)] == [(0, None), (9, 3.5)]


def test_a_vacuumed_version_cannot_be_restored(four):
    four.maintain("readings", retention=NOTHING_KEPT)
    before = four.versions("readings")[0].version
    with pytest.raises(InvalidRequest, match="a vacuum took its files away"):
        four.restore("readings", 1)
    assert four.versions("readings")[0].version == before
