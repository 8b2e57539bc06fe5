"""Backfill and rebuild end with online equal to offline, wherever they are interrupted."""

from __future__ import annotations

import base64
import os
import signal
from dataclasses import replace

import pyarrow as pa
import pytest

from featurestore import (
    CollectionType,
    FeatureDefinition,
    FeatureType,
    InvalidRequest,
    StoreUnavailable,
    Ttl,
    TtlUnit,
    latest,
)
from featurestore.encryption import MASTER_KEY
from featurestore.online import Batch, Write


class Killed(BaseException):
    """The process ends here."""


def kill_at(store, point, count=1):
    left = [count]

    def call(step):
        if step == point:
            left[0] -= 1
            if left[0] == 0:
                raise Killed

    store.__dict__["stores"] = replace(store.stores, on_step=call)


def lose_online(make_store, store):
    """Delete the online store of a home and open the home again."""
    store.close()
    (store.home / "online").rename(store.home / f"gone-{len(list(store.home.iterdir()))}")
    return make_store()


def equal(store, group="readings"):
    report = store.verify(group)
    assert report.equal, report.differences
    return report


@pytest.fixture
def filled(store, at):
    """Records of 30 stations, some of them overwritten, deleted, deleted and put again."""
    rows = [
        {"station": f"s{n:02d}", "time": at(time), "count": 100 * time + n}
        for time in (1, 2)
        for n in range(30)
    ]
    store.put_table("readings", pa.Table.from_pylist(rows))
    store.delete("readings", "s03", event_time=at(5))
    store.delete("readings", "s04", event_time=at(5), hard=True)
    store.delete("readings", "s05", event_time=at(5))
    store.put("readings", {"station": "s05", "time": at(5), "count": 7})
    store.put("readings", {"station": "x" * 600, "time": at(5), "count": 8})
    store.flush("readings")
    return store


@pytest.fixture
def slices(monkeypatch):
    """Take few identifiers at a time."""
    original = latest.latest_versions

    def few(*arguments, **options):
        for batch in original(*arguments, **options):
            for start in range(0, len(batch), 7):
                yield batch.slice(start, 7)

    monkeypatch.setattr("featurestore.backfill.latest_versions", few)


class TestBackfill:
    def test_what_is_there_already_is_not_written_again(self, filled):
        report = filled.backfill("readings")
        assert (report.identifiers, report.written, report.resumed) == (31, 0, False)
        assert report.to_json()["was_empty"] is False
        equal(filled)

    def test_a_lost_online_store_comes_back(self, filled, make_store, at):
        before = {name: filled.get("readings", name) for name in filled.records("readings")}
        store = lose_online(make_store, filled)
        told = []
        report = store.backfill("readings", on_progress=lambda *step: told.append(step))

        assert (report.identifiers, report.written, report.was_empty) == (31, 31, True)
        assert told == [("online", 31)]
        assert {name: store.get("readings", name) for name in store.records("readings")} == before
        assert equal(store).online == 29
        for deleted in ("s03", "s04"):
            store.put("readings", {"station": deleted, "time": at(4), "count": 9})
            assert store.get("readings", deleted) is None, "a late older put"
        equal(store)

    def test_puts_that_wait_and_those_between_stay(self, filled, make_store, at):
        store = lose_online(make_store, filled)
        store.put("readings", {"station": "s00", "time": at(9), "count": 1})
        store.put("readings", {"station": "s01", "time": at(1), "count": 2})
        store.put("readings", {"station": "s02", "time": at(2), "count": 3})

        def put(step):
            if step == "noted":  # what the table has is known: these come after it
                store.put("readings", {"station": "s06", "time": at(2), "count": 4})
                store.put("readings", {"station": "s07", "time": at(1), "count": 5})
                store.put("readings", {"station": "s08", "time": at(3), "count": 6})
                store.flush("readings")

        store.__dict__["stores"] = replace(store.stores, on_step=put)
        store.backfill("readings")
        found = {n: store.get("readings", f"s0{n}")["count"] for n in (0, 1, 2, 6, 7, 8)}
        assert found == {0: 1, 1: 201, 2: 3, 6: 4, 7: 207, 8: 6}
        equal(store)

    def test_of_one_event_time_the_offline_version_counts(self, filled, at):
        record = {"station": "s00", "time": at(2), "count": 1}
        filled.put("readings", record, stores=("OnlineStore",))
        assert not filled.verify("readings").equal
        assert filled.backfill("readings").written == 1
        equal(filled)

    @pytest.mark.parametrize(("step", "count"), [("noted", 1), ("online", 2), ("settled", 3)])
    def test_a_killed_one_goes_on(self, filled, make_store, slices, step, count, at):
        store = lose_online(make_store, filled)
        kill_at(store, step, count)
        with pytest.raises(Killed):
            store.backfill("readings")
        store.close()
        store = make_store()
        # What is loaded or put between the two tries is right by itself.
        store.put("readings", {"station": "s01", "time": at(8), "count": 1})
        store.load(
            "readings", {"station": ["s02", "s29"], "time": [at(8)] * 2, "count": [2, 3]}, key="k"
        )
        kill_at(store, "online", 2)
        with pytest.raises(Killed):
            store.backfill("readings")
        store.close()
        store = make_store()

        report = store.backfill("readings")

        assert report.resumed
        assert report.identifiers == 31, "none was compared twice after its slice was noted"
        equal(store)
        assert store.backfill("readings").resumed is False
        assert not [path for path in (store.home / "loads").iterdir() if "backfill" in path.name]

    def test_a_process_that_is_killed_goes_on(self, filled, make_store, run_python):
        store = lose_online(make_store, filled)
        store.close()
        with run_python(["-c", BACKFILLED, str(store.home)]) as process:
            process.stdin.close()
            process.wait(timeout=60)
        assert process.returncode == -signal.SIGKILL
        store = make_store()
        assert store.backfill("readings").resumed
        equal(store)

    def test_a_note_of_another_online_store_does_not_count(self, filled, make_store, slices):
        store = lose_online(make_store, filled)
        kill_at(store, "settled", 3)
        with pytest.raises(Killed):
            store.backfill("readings")
        store = lose_online(make_store, store)
        report = store.backfill("readings")
        assert (report.resumed, report.written) == (False, 31)
        equal(store)

    def test_nothing_was_ever_written(self, store):
        assert store.backfill("readings").version is None
        assert store.rebuild_online("readings").version is None

    def test_it_needs_both_stores(self, store, readings):
        for name, options in [("online", {"offline": False}), ("history", {"online": False})]:
            store.create_feature_group(replace(readings, name=name, **options))
            with pytest.raises(InvalidRequest, match="only a group with both stores"):
                store.backfill(name)
            with pytest.raises(InvalidRequest, match="only a group with both stores"):
                store.rebuild_online(name)

    def test_files_that_are_gone_are_an_error_that_says_so(self, filled):
        def gone(step):
            for folder, _, files in os.walk(filled.offline_uri("readings")):
                for name in files:
                    if name.endswith(".parquet"):
                        os.unlink(os.path.join(folder, name))

        filled.__dict__["stores"] = replace(filled.stores, on_step=gone)
        with pytest.raises(StoreUnavailable, match="offline rows cannot be read"):
            filled.backfill("readings")


BACKFILLED = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
from featurestore import backfill, latest
from featurestore.embedded import EmbeddedStore

store = EmbeddedStore(Path(sys.argv[1]))
original = latest.latest_versions
def few(*arguments, **options):
    for batch in original(*arguments, **options):
        for start in range(0, len(batch), 7):
            yield batch.slice(start, 7)
backfill_module = sys.modules["featurestore.backfill"]
backfill_module.latest_versions = few
left = [3]
def call(step):
    left[0] -= step == "settled"
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
store.__dict__["stores"] = replace(store.stores, on_step=call)
store.backfill("readings")
"""


class TestRebuild:
    def test_it_equals_offline_and_deletes_hold(self, filled, make_store, at):
        store = lose_online(make_store, filled)
        report = store.rebuild_online("readings")
        assert (report.written, report.removed, report.was_empty) == (31, 0, True)
        equal(store)
        store.put("readings", {"station": "s04", "time": at(4), "count": 9})
        assert store.get("readings", "s04") is None
        equal(store)
        assert "s04" in list(store.records("readings", include_soft_deleted=True))

    def test_what_is_not_offline_goes(self, filled, at):
        """Values that no put of this store ever wrote, as after damage."""
        number = filled.registry.get("readings").number
        newer = {"station": "s00", "time": at(50), "count": 1}
        filled.put("readings", newer, stores=("OnlineStore",))
        filled.put("readings", newer | {"station": "ghost"}, stores=("OnlineStore",))
        stored = filled.online.get(number, [b"s01"])[0]
        other = filled.online.get(number, [b"s02"])[0]
        mixed = Write(
            number, b"s01", stored.event_time_us, other.record, 0, stored.expires_us, 1, 0,
            offline=False, expected=stored.sequence,
        )  # fmt: skip
        filled.online.put([Batch([mixed])])
        assert len(filled.verify("readings").differences) == 3

        report = filled.rebuild_online("readings")

        assert (report.removed, report.was_empty) == (1, False)
        equal(filled)
        assert filled.get("readings", "ghost") is None
        filled.put("readings", {"station": "ghost", "time": at(-1e9), "count": 2})
        assert filled.get("readings", "ghost")["count"] == 2
        equal(filled)

    def test_puts_meanwhile_stay(self, filled, at):
        def put(step):
            if step == "noted":
                filled.put("readings", {"station": "s00", "time": at(2), "count": 1})
                filled.put("readings", {"station": "s01", "time": at(1), "count": 2})
                filled.put("readings", {"station": "new", "time": at(1), "count": 3})

        filled.__dict__["stores"] = replace(filled.stores, on_step=put)
        filled.rebuild_online("readings")
        assert filled.get("readings", "s00")["count"] == 1
        assert filled.get("readings", "s01")["count"] == 201
        assert filled.get("readings", "new")["count"] == 3
        equal(filled)

    @pytest.mark.parametrize(("step", "count"), [("online", 2), ("settled", 3)])
    def test_a_killed_one_goes_on(self, filled, make_store, slices, step, count, at):
        filled.put(
            "readings", {"station": "ghost", "time": at(3), "count": 1}, stores=("OnlineStore",)
        )
        kill_at(filled, step, count)
        with pytest.raises(Killed):
            filled.rebuild_online("readings")
        filled.close()
        store = make_store()
        store.put("readings", {"station": "s00", "time": at(2), "count": 1})
        report = store.rebuild_online("readings")
        assert report.resumed
        # The slice that was settled but not noted is not written twice.
        assert (report.written, report.removed) == (31 - 7 * (step == "settled"), 1)
        assert store.get("readings", "s00")["count"] == 1
        equal(store)

    def test_expired_records_stay_expired(self, store, make_store, at, clock):
        hour = Ttl(TtlUnit.HOURS, 1)
        store.put("readings", {"station": "a", "time": at(1), "count": 1}, ttl=hour)
        store.put("readings", {"station": "b", "time": at(80_000), "count": 2}, ttl=hour)
        store.put("readings", {"station": "b", "time": at(86_000), "count": 3}, ttl=hour)
        store.put("readings", {"station": "c", "time": at(2), "count": 4})
        store.flush("readings")
        assert list(store.records("readings")) == ["b", "c"]
        store = lose_online(make_store, store)
        store.rebuild_online("readings")
        assert list(store.records("readings")) == ["b", "c"]
        assert equal(store).online == 2
        store.put("readings", {"station": "a", "time": at(0), "count": 5})
        assert store.get("readings", "a") is None, "the expired one is newer"
        clock.advance(7200)
        assert list(store.records("readings")) == ["c"]
        equal(store)
        before = store.online.last_sequence(1)
        store.sweep()
        swept = store.online.last_sequence(1) - before
        assert swept == 1
        store.backfill("readings")
        assert store.online.last_sequence(1) - before == swept, "what was swept stays as it is"

    def test_numbers_as_identifiers_and_collections(self, store, make_store, make_group, at):
        ids = {"Integral": [-5, 3, 20, 100, 2**60], "Fractional": [-1.5, 0.0, 2.0, 1e300]}
        more = (
            FeatureDefinition("tags", FeatureType.STRING, CollectionType.SET),
            FeatureDefinition("place", FeatureType.FRACTIONAL, CollectionType.VECTOR, 2),
        )
        for kind, values in ids.items():
            group = make_group(kind, [("id", kind), ("at", "Fractional")])
            store.create_feature_group(replace(group, features=(*group.features, *more)))
            for value in values:
                record = {"id": value, "at": 1_704_000_000.25, "place": [0.5, value]}
                store.put(kind, record | {"tags": ["a", "b"]})
            store.delete(kind, values[1], event_time=1_704_000_001)
        store.flush()
        before = {kind: [store.get(kind, value) for value in ids[kind]] for kind in ids}
        store = lose_online(make_store, store)
        for kind, values in ids.items():
            assert store.rebuild_online(kind).written == len(values)
            assert [store.get(kind, value) for value in values] == before[kind]
            assert store.backfill(kind).written == 0
            equal(store, kind)

    def test_an_encrypted_group(self, make_store, readings, at, monkeypatch):
        monkeypatch.setenv(MASTER_KEY, base64.b64encode(bytes(32)).decode())
        store = make_store()
        store.create_feature_group(replace(readings, kms_key="master"))
        store.load(
            "readings",
            {"station": ["a", "b"], "time": [at(1), at(2)], "note": ["secret note"] * 2},
            key="k",
        )
        assert store.backfill("readings").written == 0
        data = (store.home / "online" / "data.mdb").read_bytes()
        assert b"secret note" not in data
        store = lose_online(make_store, store)
        store.rebuild_online("readings")
        assert store.get("readings", "b")["note"] == "secret note"
        assert b"secret note" not in (store.home / "online" / "data.mdb").read_bytes()
        equal(store)
