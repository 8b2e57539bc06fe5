from __future__ import annotations

import json
import pickle
import random
import shutil
import threading
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

import featurestore
from featurestore import (
    FeatureGroupExists,
    FeatureGroupNotFound,
    FeatureNotFound,
    Found,
    Get,
    InvalidFeatureGroup,
    InvalidRecord,
    InvalidRequest,
    PartitionPosition,
    PositionConflict,
    Put,
    PutResult,
    SourcePosition,
    StoreCorrupt,
    StoreUnavailable,
    Ttl,
    TtlUnit,
    WriteError,
    feature_definitions,
)
from featurestore.embedded import EmbeddedStore
from featurestore.online import MemoryStore

HOUR = Ttl(TtlUnit.HOURS, 1)
ONLINE, OFFLINE = ("OnlineStore",), ("OfflineStore",)


# -- opening ----------------------------------------------------------------------------------


def test_a_home_is_made_and_found_again(tmp_path, readings, reading):
    home = tmp_path / "new" / "home"
    with featurestore.open(home) as store:
        assert store.home == home
        store.create_feature_group(readings)
        store.put("readings", reading("JFK", 1, temp=1.0))
    with featurestore.open(str(home)) as store:
        assert store.get("readings", "JFK")["temp"] == 1.0
        store.flush()
    assert {entry.name for entry in home.iterdir()} >= {"online", "offline", "meta.db"}
    assert [entry.name for entry in (home / "offline").iterdir()] == ["readings"]


def test_the_home_comes_from_the_environment_or_is_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FEATURELINE_HOME", raising=False)
    with featurestore.open() as store:
        assert store.home == tmp_path / ".featureline"
    monkeypatch.setenv("FEATURELINE_HOME", str(tmp_path / "named"))
    with featurestore.open() as store:
        assert store.home == tmp_path / "named"


@pytest.mark.parametrize(
    "name", ["with space", "ä#ö", "50%", "q?", "{a,b}", "a*b", "we'ird", 'quo"te', "a&b;c"]
)
def test_a_home_of_an_awkward_name(tmp_path, readings, reading, at, name):
    with featurestore.open(tmp_path / name) as store:
        store.create_feature_group(readings)
        store.put("readings", reading("JFK", 1, temp=1.0))
        assert store.verify("readings").equal
        made = store.dataset({"station": ["JFK"], "event_time": [at(2)]}, ["readings[temp]"])
        assert made.table["temp"].to_pylist() == [1.0]


@pytest.mark.parametrize("name", ["a[1]", "a]", "a\\b", "a^b", "a|b", "a%20b"])
def test_a_home_that_delta_cannot_take_is_refused_at_once(tmp_path, name):
    with pytest.raises(StoreUnavailable, match=r"the Delta library takes no .* choose another"):
        featurestore.open(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_home_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for home in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StoreUnavailable, match=r"the home .*file.* cannot be opened"):
            featurestore.open(home)


@pytest.mark.parametrize("file", ["meta.db", "online/data.mdb"])
def test_a_home_with_a_foreign_file_is_refused(tmp_path, file):
    path = tmp_path / "home" / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else\n" * 1000)
    with pytest.raises(StoreCorrupt, match=path.parent.name):
        featurestore.open(tmp_path / "home")


def test_a_closed_store_is_unavailable(store, reading):
    store.put("readings", reading("JFK", 1))
    store.close()
    store.close()
    for use in (
        lambda: store.put("readings", reading("JFK", 1)),
        lambda: store.get("readings", "JFK"),
        lambda: store.flush(),
        lambda: store.list_feature_groups(),
    ):
        with pytest.raises(StoreUnavailable):
            use()


# -- feature groups ---------------------------------------------------------------------------


def test_a_group_is_described(store, readings, clock):
    made = store.describe("readings")
    assert made.group == readings
    assert made.version == 1
    assert made.created.timestamp() * 1e6 == clock()
    assert made.offline_uri == str(store.home / "offline" / "readings")
    assert store.offline_uri("readings") == made.offline_uri
    assert store.describe_feature_group("readings") == readings
    body = made.to_json()
    assert body["FeatureGroupStatus"] == "Created"
    assert body["OfflineStoreConfig"] == {"Uri": made.offline_uri}


def test_groups_are_listed_by_name(store, make_group):
    for name in ("weather", "planes", "sea-weather"):
        store.create_feature_group(make_group(name, [("id", "String"), ("t", "String")]))
    names = [made.group.name for made in store.list_feature_groups()]
    assert names == ["planes", "readings", "sea-weather", "weather"]
    found = store.list_feature_groups(name_contains="weather")
    assert [made.group.name for made in found] == ["sea-weather", "weather"]
    assert store.list_feature_groups(name_contains="%") == []


def test_a_group_exists_once(store, readings):
    with pytest.raises(FeatureGroupExists, match="'readings' exists already"):
        store.create_feature_group(readings)


def test_features_are_added(store, reading, clock):
    store.put("readings", reading("JFK", 1, temp=1.0))
    clock.advance(5)
    made = store.add_features("readings", feature_definitions([("wind", "Integral")]))
    assert made.version == 2
    assert made.modified > made.created
    assert "wind" not in store.get("readings", "JFK")
    store.put("readings", reading("JFK", 2, wind=3))
    assert store.get("readings", "JFK")["wind"] == 3
    with pytest.raises(InvalidFeatureGroup, match="'wind' is defined twice"):
        store.add_features("readings", feature_definitions([("wind", "Integral")]))


def test_every_version_of_a_group_is_in_lineage(store):
    store.add_features("readings", feature_definitions([("wind", "Integral")]))
    (entity,) = store.graph.find(type="FeatureGroup", name="readings")
    assert entity.properties["version"] == 2
    assert entity.properties["features"]["wind"] == "Integral"
    assert entity.source_uri == store.offline_uri("readings")


def test_every_version_of_a_group_has_a_pipeline_version_of_its_own(store):
    store.add_features("readings", feature_definitions([("wind", "Integral")]))
    store.set_ttl("readings", HOUR)
    (pipeline,) = store.graph.find(type="FeatureGroupPipeline")
    versions = store.graph.find(type="FeatureGroupPipelineVersion")
    at = int(store.describe("readings").created.timestamp())
    name = f"readings-{at}-feature-group-pipeline"
    assert pipeline.name == name
    names = [f"{name}-version", f"{name}-version-2", f"{name}-version-3"]
    assert [one.name for one in versions] == names
    found = store.graph.query(pipeline, "descendants")
    first, second, third = (one.uid for one in versions)
    (group,) = store.graph.find(type="FeatureGroup")
    assert [one.uid for one in store.graph.query(pipeline)] == [pipeline.uid, group.uid]
    assert {(edge.source, edge.destination, edge.type.value) for edge in found.associations} == {
        *((pipeline.uid, one.uid, "AssociatedWith") for one in versions),
        (first, second, "DerivedFrom"),
        (second, third, "DerivedFrom"),
    }


USES = {
    "describe": lambda store: store.describe("reading"),
    "describe_feature_group": lambda store: store.describe_feature_group("reading"),
    "offline_uri": lambda store: store.offline_uri("reading"),
    "add_features": lambda store: store.add_features(
        "reading", feature_definitions([("x", "String")])
    ),
    "set_ttl": lambda store: store.set_ttl("reading", None),
    "delete_feature_group": lambda store: store.delete_feature_group("reading"),
    "group": lambda store: store.group("reading"),
    "put": lambda store: store.put("reading", {}),
    "get": lambda store: store.get("reading", "a"),
    "batch_get": lambda store: store.batch_get([Get("reading", ["a"])]),
    "put_table": lambda store: store.put_table("reading", pa.table({"a": [1]})),
    "delete": lambda store: store.delete("reading", "a", event_time="2024-01-01T00:00:00Z"),
    "records": lambda store: list(store.records("reading")),
    "flush": lambda store: store.flush("reading"),
    "verify": lambda store: store.verify("reading"),
}


@pytest.mark.parametrize("verb", USES)
def test_every_verb_names_an_unknown_group_with_the_nearest(store, verb):
    with pytest.raises(FeatureGroupNotFound, match="did you mean 'readings'"):
        USES[verb](store)


def test_deleting_a_group_keeps_its_table(store, readings, reading):
    store.put("readings", reading("JFK", 1, temp=1.0))
    uri = store.offline_uri("readings")
    store.delete_feature_group("readings")
    with pytest.raises(FeatureGroupNotFound):
        store.get("readings", "JFK")
    # What was acknowledged reached the table first.
    assert len(pa.table(DeltaTable(uri).to_pyarrow_table())) == 1
    assert store.online.outbox.pending() == 0

    store.create_feature_group(readings)
    assert store.get("readings", "JFK") is None
    assert store.offline_uri("readings") != uri
    store.put("readings", reading("JFK", 0, temp=0.0))  # older than what was deleted
    assert store.get("readings", "JFK")["temp"] == 0.0
    assert store.verify("readings").equal
    assert len(pa.table(DeltaTable(uri).to_pyarrow_table())) == 1


def test_what_is_put_while_a_group_is_deleted_reaches_the_table(make_store, readings, reading):
    other = make_store()
    other.create_feature_group(readings)
    store = make_store(now=lambda: put_meanwhile())
    calls = []

    def put_meanwhile() -> int:
        # The clock is asked between the flush of the group and its end.
        if not calls and other.online.outbox.pending() == 0:
            calls.append(1)
            other.put("readings", reading("LGA", 2))
        return other._now()

    other.put("readings", reading("JFK", 1))
    uri = store.offline_uri("readings")
    store.flush()
    calls.clear()
    store.delete_feature_group("readings")
    assert calls
    table = pa.table(DeltaTable(uri).to_pyarrow_table())
    assert sorted(table["station"].to_pylist()) == ["JFK", "LGA"]


# -- put and get ------------------------------------------------------------------------------


def test_a_record_is_put_and_got(store, reading, at):
    store.put("readings", reading("JFK", 1, temp="1.5", count=2.0, note=None))
    assert store.get("readings", "JFK") == {
        "station": "JFK",
        "time": at(1),
        "temp": 1.5,
        "count": 2,
    }
    assert store.get("readings", "LGA") is None


def test_a_put_replaces_the_whole_record(store, reading):
    store.put("readings", reading("JFK", 1, temp=1.0, note="x"))
    store.put("readings", reading("JFK", 2, count=5))
    assert store.get("readings", "JFK") == reading("JFK", 2, count=5)


def test_the_newest_event_time_wins(store, reading, rows_of):
    store.put("readings", reading("JFK", 2, temp=2.0))
    store.put("readings", reading("JFK", 1, temp=1.0))  # historic: offline only
    assert store.get("readings", "JFK")["temp"] == 2.0
    store.put("readings", reading("JFK", 2, temp=2.5))  # equal: the later write
    assert store.get("readings", "JFK")["temp"] == 2.5
    store.flush()
    assert [row["temp"] for row in rows_of(store)] == [2.0, 1.0, 2.5]


def test_some_features(store, reading):
    store.put("readings", reading("JFK", 1, temp=1.0, note="x"))
    assert store.get("readings", "JFK", features=["temp"]) == {"temp": 1.0}
    assert store.get("readings", "JFK", features=["count"]) == {}
    with pytest.raises(FeatureNotFound, match="has no feature 'tmp'; did you mean 'temp'"):
        store.get("readings", "JFK", features=["tmp"])


def test_batch_get(store, reading, make_group, at):
    store.create_feature_group(
        make_group("planes", [("tail", "Integral"), ("time", "String"), ("seats", "Integral")])
    )
    store.put("planes", {"tail": 7, "time": at(1), "seats": 150})
    store.put("readings", reading("JFK", 1, temp=1.0))
    store.put("readings", reading("LGA", 1, temp=2.0))
    assert store.batch_get(
        [
            Get("readings", ["LGA", "nobody", "JFK"], ("temp",)),
            Get("planes", ["7", 8, 7.0]),
        ]
    ) == [
        Found("readings", "LGA", {"temp": 2.0}),
        Found("readings", "JFK", {"temp": 1.0}),
        Found("planes", "7", {"tail": 7, "time": at(1), "seats": 150}),
        Found("planes", "7", {"tail": 7, "time": at(1), "seats": 150}),
    ]
    assert store.batch_get([]) == []


def test_an_identifier_of_another_type_is_refused(store, make_group):
    store.create_feature_group(make_group("planes", [("tail", "Integral"), ("time", "String")]))
    with pytest.raises(InvalidRecord, match=r"planes\.tail: expected Integral, got 'x'"):
        store.get("planes", "x")
    with pytest.raises(InvalidRecord, match=r"readings\.station: expected String, got 7"):
        store.get("readings", 7)


def test_a_record_that_does_not_fit_stores_nothing(store, reading):
    with pytest.raises(InvalidRecord, match=r"readings\.temp: expected Fractional, got 'warm'"):
        store.put("readings", reading("JFK", 1, temp="warm"))
    assert store.get("readings", "JFK") is None
    assert store.online.outbox.pending() == 0


def test_a_record_that_is_too_large_is_refused(store, reading):
    with pytest.raises(InvalidRecord, match="a record of at most 358400 bytes, got"):
        store.put("readings", reading("JFK", 1, note="x" * 400_000))


def test_the_future_is_refused_by_the_stores_clock(store, reading, clock):
    clock.us -= 86_400_000_000  # second 0
    store.put("readings", reading("JFK", 300))
    with pytest.raises(InvalidRecord, match="no more than 300 s ahead of the store's clock"):
        store.put("readings", reading("JFK", 301))


def test_the_tolerance_of_a_store_can_be_chosen(make_store, readings, reading, clock):
    store = make_store(future_tolerance_us=0)
    store.create_feature_group(readings)
    clock.us -= 86_400_000_000
    store.put("readings", reading("JFK", 0))
    with pytest.raises(InvalidRecord, match="no more than 0 s ahead"):
        store.put("readings", reading("JFK", 1))
    with pytest.raises(InvalidRecord, match="no more than 0 s ahead"):
        store.delete("readings", "JFK", event_time=reading("JFK", 1)["time"])


# -- target stores ----------------------------------------------------------------------------


def test_online_only(store, reading):
    store.put("readings", reading("JFK", 1), stores=ONLINE)
    assert store.get("readings", "JFK") is not None
    assert store.flush()["readings"].records == 0


def test_offline_only(store, reading):
    store.put("readings", reading("JFK", 1), stores=OFFLINE)
    assert store.get("readings", "JFK") is None
    assert store.flush()["readings"].records == 1


@pytest.mark.parametrize("stores", [(), ("online",), ("OnlineStore", "Attic"), ("",)])
def test_other_target_stores_are_refused(store, reading, stores):
    with pytest.raises(
        InvalidRecord,
        match="readings: target stores: expected one or both of OnlineStore, OfflineStore, got",
    ):
        store.put("readings", reading("JFK", 1), stores=stores)
    assert store.get("readings", "JFK") is None


def test_groups_with_one_store(store, make_group, at):
    features = [("id", "String"), ("t", "String")]
    store.create_feature_group(make_group("live", features, offline=False))
    store.create_feature_group(make_group("past", features, online=False))
    for name in ("live", "past"):
        store.put(name, {"id": "a", "t": at(1)})
    assert store.get("live", "a") is not None
    assert store.offline_uri("live") == ""
    with pytest.raises(InvalidRequest, match="past: the group has no online store to read from"):
        store.get("past", "a")
    flushed = store.flush()
    assert flushed["past"].records == 1
    assert "live" not in flushed
    for name, stores in (("live", OFFLINE), ("past", ONLINE)):
        with pytest.raises(
            InvalidRecord, match=f"{name}: target store {stores[0]} is not enabled for the group"
        ):
            store.put(name, {"id": "a", "t": at(1)}, stores=stores)


# -- time to live -----------------------------------------------------------------------------


@pytest.fixture
def at_second_0(clock):
    clock.us -= 86_400_000_000
    return clock


def test_a_record_is_readable_until_its_ttl_ends(store, reading, at_second_0):
    store.put("readings", reading("JFK", 100), ttl=HOUR)
    at_second_0.advance(100 + 3600 - 0.000_001)
    assert store.get("readings", "JFK") is not None
    assert list(store.records("readings")) == ["JFK"]
    at_second_0.us += 1
    assert store.get("readings", "JFK") is None
    assert store.batch_get([Get("readings", ["JFK"])]) == []
    assert list(store.records("readings")) == []


def test_the_ttl_counts_from_the_event_time(store, reading, clock):
    store.put("readings", reading("JFK", 0), ttl=HOUR)  # a day ago: expired as it comes
    assert store.get("readings", "JFK") is None
    assert store.flush()["readings"].records == 1


def test_the_groups_ttl_and_the_records_own(store, reading, at_second_0):
    store.set_ttl("readings", HOUR)
    store.put("readings", reading("group", 0))
    store.put("readings", reading("own", 0), ttl=Ttl(TtlUnit.HOURS, 2))
    at_second_0.advance(3600)
    assert store.get("readings", "group") is None
    assert store.get("readings", "own") is not None


def test_a_new_ttl_is_for_records_put_from_then_on(store, reading, at_second_0):
    store.put("readings", reading("before", 0))
    assert store.set_ttl("readings", HOUR).group.ttl == HOUR
    store.put("readings", reading("during", 0))
    assert store.set_ttl("readings", None).group.ttl is None
    store.put("readings", reading("after", 0))
    at_second_0.advance(3600)
    assert list(store.records("readings")) == ["after", "before"]


@pytest.mark.parametrize("value", [10**6, 10**18])
def test_a_ttl_beyond_the_end_of_time_never_ends(store, reading, value):
    store.put("readings", reading("JFK", 0), ttl=Ttl(TtlUnit.WEEKS, value))
    assert store.get("readings", "JFK") is not None
    assert store.verify("readings").equal


def test_a_ttl_of_another_type_is_refused(store, reading):
    with pytest.raises(InvalidRequest, match="readings: expected a Ttl, got 5"):
        store.put("readings", reading("JFK", 0), ttl=5)


def test_a_record_after_an_expired_one(store, reading, at_second_0):
    store.put("readings", reading("JFK", 5, temp=1.0), ttl=HOUR)
    at_second_0.advance(2 * 3600)
    store.put("readings", reading("JFK", 4, temp=0.0))
    assert store.get("readings", "JFK") is None, "older than the expired one, which still orders"
    store.put("readings", reading("JFK", 6, temp=2.0))
    assert store.get("readings", "JFK")["temp"] == 2.0
    assert store.verify("readings").equal


# -- deletes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("hard", [False, True])
def test_a_delete_hides_the_record_and_marks_it_offline(store, reading, rows_of, at, hard):
    store.put("readings", reading("JFK", 1, temp=1.0))
    store.delete("readings", "JFK", event_time=at(2), hard=hard)
    assert store.get("readings", "JFK") is None
    assert list(store.records("readings")) == []
    shown = list(store.records("readings", include_soft_deleted=True))
    assert shown == ([] if hard else ["JFK"])
    store.flush()
    record, marker = rows_of(store)
    assert (record["temp"], record["is_deleted"]) == (1.0, False)
    assert (marker["station"], marker["time"], marker["is_deleted"]) == ("JFK", at(2), True)
    assert (marker["temp"], marker["count"], marker["note"]) == (None, None, None)


@pytest.mark.parametrize("hard", [False, True])
def test_a_tombstone_keeps_late_puts_out(store, reading, at, hard):
    store.put("readings", reading("JFK", 1))
    store.delete("readings", "JFK", event_time=at(5), hard=hard)
    store.put("readings", reading("JFK", 4, temp=4.0))
    assert store.get("readings", "JFK") is None
    store.put("readings", reading("JFK", 5, temp=5.0))  # at the delete's own time the record wins
    assert store.get("readings", "JFK")["temp"] == 5.0
    assert store.verify("readings").equal


@pytest.mark.parametrize("hard", [False, True])
def test_a_delete_before_the_put_it_deletes(store, reading, at, hard):
    store.delete("readings", "JFK", event_time=at(5), hard=hard)
    store.put("readings", reading("JFK", 4))
    assert store.get("readings", "JFK") is None
    assert store.verify("readings").equal


@pytest.mark.parametrize("second", [1, 2])
def test_a_soft_delete_that_is_not_later_only_marks(store, reading, rows_of, at, second):
    store.put("readings", reading("JFK", 2, temp=2.0))
    store.delete("readings", "JFK", event_time=at(second))
    assert store.get("readings", "JFK")["temp"] == 2.0
    store.flush()
    assert [row["is_deleted"] for row in rows_of(store)] == [False, True]
    assert store.verify("readings").equal


@pytest.mark.parametrize("second", [1, 2])
def test_a_hard_delete_that_is_not_later_is_refused_whole(store, reading, rows_of, at, second):
    store.put("readings", reading("JFK", 2, temp=2.0))
    with pytest.raises(InvalidRecord) as caught:
        store.delete("readings", "JFK", event_time=at(second), hard=True)
    assert str(caught.value) == (
        "readings: a hard delete of 'JFK' must have a later event time than the stored record, "
        f"got {at(second)}"
    )
    assert store.get("readings", "JFK")["temp"] == 2.0
    store.flush()
    assert len(rows_of(store)) == 1


@pytest.mark.parametrize(
    ("identifier", "event_time", "message"),
    [
        ("JFK", None, r"readings\.time: the event time is missing"),
        ("JFK", "yesterday", r"readings\.time: expected ISO-8601 text"),
        (None, "2024-01-01T00:00:00Z", r"readings\.station: the record identifier is missing"),
        ("", "2024-01-01T00:00:00Z", r"readings\.station: expected a record identifier"),
        (7, "2024-01-01T00:00:00Z", r"readings\.station: expected String, got 7"),
        ("JFK", "2999-01-01T00:00:00Z", r"readings\.time: .* ahead of the store's clock"),
    ],
)
def test_a_delete_is_checked_as_a_record_is(store, identifier, event_time, message):
    with pytest.raises(InvalidRecord, match=message):
        store.delete("readings", identifier, event_time=event_time)
    assert store.online.outbox.pending() == 0


# -- batches ----------------------------------------------------------------------------------


def test_good_records_are_stored_although_others_fail(store, reading):
    errors = store.batch_write(
        [
            Put("readings", reading("a", 1)),
            Put("readings", reading("b", 1, temp="warm")),
            Put("nowhere", reading("c", 1)),
            Put("readings", reading("d", 1), stores=("Attic",)),
            Put("readings", reading("e", 1), ttl=HOUR),
            Put("readings", {"station": "f"}),
        ]
    )
    assert [(error.index, error.code) for error in errors] == [
        (1, "InvalidRecord"),
        (2, "FeatureGroupNotFound"),
        (3, "InvalidRecord"),
        (5, "InvalidRecord"),
    ]
    assert errors[0].message == ("readings.temp: expected Fractional, got 'warm' (record 2 of 6)")
    assert all(error.message.endswith(f"(record {error.index + 1} of 6)") for error in errors)
    assert store.get("readings", "a") is not None
    assert store.online.outbox.pending() == 2


def test_an_empty_batch_is_refused(store):
    with pytest.raises(InvalidRequest, match="at least one record in the batch, got none"):
        store.batch_write([])


def test_a_store_that_fails_is_not_the_records_fault(store, reading):
    # Were it reported per record, a stream would take it for a refusal and go on.
    store.registry.close()
    with pytest.raises(StoreUnavailable):
        store.batch_write([Put("readings", reading("a", 1))], position=position(0, 1))


def position(start: int, end: int, source: str = "topic") -> SourcePosition:
    return SourcePosition(source, (PartitionPosition("0", start, end),))


def test_a_position_goes_with_its_batch(store, reading):
    assert store.source_position("topic") == {}
    store.batch_write([Put("readings", reading("a", 1))], position=position(0, 1))
    assert store.source_position("topic") == {"0": 1}
    with pytest.raises(PositionConflict) as caught:
        store.batch_write([Put("readings", reading("b", 1))], position=position(0, 1))
    assert caught.value.stored == {"0": 1}
    assert store.get("readings", "b") is None
    # A batch of which nothing is good still moves the source on.
    (error,) = store.batch_write([Put("readings", {})], position=position(1, 2))
    assert error.index == 0
    assert store.batch_write([], position=position(2, 5)) == []
    assert store.source_position("topic") == {"0": 5}


@pytest.mark.parametrize(
    ("source", "start", "end", "message"),
    [
        ("", 0, 1, "expected a source name of 1 to 400 bytes, got ''"),
        ("ä" * 201, 0, 1, "expected a source name of 1 to 400 bytes"),
        ("s", 3, 2, "partition 0: expected next >= start, got start 3 and next 2"),
    ],
)
def test_a_position_that_cannot_be_is_refused(source, start, end, message):
    with pytest.raises(InvalidRequest, match=message):
        position(start, end, source)


# -- tables -----------------------------------------------------------------------------------


def table_of(at, *rows: tuple[object, ...]) -> pa.Table:
    return pa.table(
        {
            "station": [row[0] for row in rows],
            "time": [at(row[1]) for row in rows],
            "temp": pa.array([row[2] for row in rows], pa.float64()),
        }
    )


def test_a_table_is_put(store, reading, at, rows_of):
    table = table_of(at, ("a", 1, 1.0), ("b", 1, None), ("a", 2, 2.0))
    assert store.put_table("readings", table) == PutResult(3, [])
    assert store.get("readings", "a") == reading("a", 2, temp=2.0)
    assert store.get("readings", "b") == reading("b", 1)
    store.flush()
    assert [row["temp"] for row in rows_of(store)] == [1.0, None, 2.0]


def test_rows_that_are_refused_are_named_by_number(store, at):
    table = pa.table(
        {
            "station": ["a", None, "c", "", "e"],
            "time": [at(1), at(1), "soon", at(1), at(1)],
            "count": pa.array([1.0, 2.0, 3.0, 4.0, 5.5]),
        }
    )
    result = store.put_table("readings", table)
    assert result.rows == 1
    assert [(error.index, error.code) for error in result.errors] == [
        (1, "InvalidRecord"),
        (2, "InvalidRecord"),
        (3, "InvalidRecord"),
        (4, "InvalidRecord"),
    ]
    assert result.errors[0].message == (
        "readings.station: the record identifier is missing; every record needs it (row 1)"
    )
    assert result.errors[3] == WriteError(
        4, "InvalidRecord", "readings.count: expected Integral, got 5.5 (row 4)"
    )
    assert list(store.records("readings")) == ["a"]


def test_row_numbers_go_on_through_batches(store, at):
    chunks = [table_of(at, *((f"s{i}", i, None) for i in range(4_000)))] * 2
    bad = pa.table({"station": ["x", None], "time": [at(1), at(1)]})
    reader = pa.RecordBatchReader.from_batches(
        bad.schema,
        [
            batch
            for table in (*chunks, bad)
            for batch in table.select(bad.schema.names).to_batches()
        ],
    )
    progress: list[int] = []
    result = store.put_table("readings", reader, on_progress=progress.append)
    assert result.rows == 8_001
    assert [error.index for error in result.errors] == [8_001]
    assert progress[-1] == 8_002
    assert progress == sorted(progress)


def test_tables_of_pandas_with_nanoseconds(store, at):
    frame = pd.DataFrame(
        {
            "station": ["a", "b"],
            "time": pd.to_datetime([at(1), at(2)]).astype("datetime64[ns, UTC]")
            + pd.Timedelta(1, "ns"),
            "count": [1.0, float("nan")],
            "note": ["x", None],
        }
    )
    assert store.put_table("readings", frame) == PutResult(2, [])
    assert store.get("readings", "a") == {
        "station": "a",
        "time": at(1),
        "count": 1,
        "note": "x",
    }
    assert store.get("readings", "b") == {"station": "b", "time": at(2)}


@pytest.mark.parametrize(
    ("table", "error", "message"),
    [
        (pa.table({"station": pa.array([], pa.string())}), InvalidRequest, "got an empty one"),
        (pa.table({"station": ["a"], "tmp": [1]}), FeatureNotFound, "did you mean 'temp'"),
        ({"station": ["a"]}, InvalidRequest, "expected an Arrow table or reader, .* got dict"),
        (
            pa.table({"station": ["a"], "time": pa.array([1], pa.timestamp("us"))}),
            InvalidRecord,
            r"readings\.time: expected timestamps with a zone",
        ),
        (
            pa.Table.from_arrays([pa.array(["a"])] * 2, names=["station", "station"]),
            InvalidRecord,
            r"readings\.station: the column is given twice",
        ),
    ],
)
def test_a_table_that_cannot_be_put_at_all(store, table, error, message):
    with pytest.raises(error, match=message):
        store.put_table("readings", table)
    assert store.online.outbox.pending() == 0


def test_a_table_with_a_position_goes_in_one_transaction(store, at):
    table = table_of(at, *((f"s{i}", i, None) for i in range(11)))
    assert store.put_table("readings", table, position=position(0, 11)).rows == 11
    with pytest.raises(PositionConflict):
        store.put_table("readings", table, position=position(0, 11))
    assert store.online.outbox.pending() == 11
    assert store.source_position("topic") == {"0": 11}


def test_a_load_is_in_lineage(store, at):
    store.put_table("readings", table_of(at, ("a", 1, 1.0)), source="file:///data/a.parquet")
    (load,) = store.graph.find(type="Load")
    assert load.state == "Completed"
    assert load.properties["rows"] == 1
    (group,) = store.graph.find(type="FeatureGroup", name="readings")
    above = store.graph.query(group, "ascendants").entities
    assert "file:///data/a.parquet" in {entity.source_uri for entity in above}


# -- listing ----------------------------------------------------------------------------------


def test_records_are_listed_in_the_order_of_bytes(store, reading):
    stations = [f"s{i:04d}" for i in range(2_345)] + ["ä", "Z", "x" * 600]
    random.Random(3).shuffle(stations)
    store.batch_write([Put("readings", reading(station, 1)) for station in stations])
    assert list(store.records("readings")) == [
        *sorted(s for s in stations if len(s) < 500),
        "x" * 600,
    ]


# -- flush ------------------------------------------------------------------------------------


def test_flush_of_one_and_of_all_groups(store, reading, make_group, at):
    store.create_feature_group(make_group("planes", [("tail", "Integral"), ("time", "String")]))
    store.put("planes", {"tail": 7, "time": at(1)})
    store.put("readings", reading("JFK", 1))
    assert store.flush("planes") == {"planes": featurestore.Flushed(1, 0)}
    assert store.flush() == {
        "planes": featurestore.Flushed(0, 0),
        "readings": featurestore.Flushed(1, 0),
    }


def test_a_flush_that_cannot_write_says_so_and_loses_nothing(store, reading):
    store.put("readings", reading("JFK", 1))
    shutil.rmtree(store.home / "locks", ignore_errors=True)
    (store.home / "locks").write_text("in the way")
    with pytest.raises(StoreUnavailable, match=r"readings: the flush could not write: .* wait in"):
        store.flush()
    (store.home / "locks").unlink()
    assert store.flush()["readings"].records == 1


# -- several at once --------------------------------------------------------------------------


def test_two_stores_of_one_home_see_each_other_at_once(make_store, readings, reading):
    one, other = make_store(), make_store()
    one.create_feature_group(readings)
    other.put("readings", reading("JFK", 1, temp=1.0))
    assert one.get("readings", "JFK")["temp"] == 1.0
    one.add_features("readings", feature_definitions([("wind", "Integral")]))
    other.put("readings", reading("JFK", 2, wind=3))
    assert one.get("readings", "JFK")["wind"] == 3
    one.delete_feature_group("readings")
    with pytest.raises(FeatureGroupNotFound):
        other.get("readings", "JFK")


OTHER = """
import json, sys
import featurestore
store = featurestore.open(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    verb, *arguments = json.loads(line)
    print(json.dumps(getattr(store, verb)(*arguments)), flush=True)
"""


def test_a_write_in_one_process_is_seen_in_the_other_at_once(run_python, tmp_path, readings, at):
    process = run_python(["-c", OTHER, str(tmp_path / "home")])

    def ask(*request: object) -> object:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        return json.loads(process.stdout.readline())

    try:
        assert process.stdout.readline() == "ready\n"
        with featurestore.open(tmp_path / "home") as store:
            store.create_feature_group(readings)
            for second in range(20):
                mine = {"station": "mine", "time": at(second), "count": second}
                store.put("readings", mine)
                assert ask("get", "readings", "mine") == mine
                theirs = {"station": "theirs", "time": at(second), "count": second}
                ask("put", "readings", theirs)
                assert store.get("readings", "theirs") == theirs
            assert store.verify("readings").equal
            assert store.flush()["readings"].version is not None
    finally:
        process.stdin.close()
        assert process.wait(30) == 0
        process.stdout.close()


def test_threads_put_and_get_and_flush_at_once(store, reading, rows_of):
    errors = []

    def work(worker: int) -> None:
        try:
            for second in range(20):
                store.put("readings", reading(f"s{worker}", second, count=second))
                assert store.get("readings", f"s{worker}")["count"] == second
                if second % 10 == 5:
                    store.flush()
        except Exception as error:  # noqa: BLE001  # shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.verify("readings") == featurestore.VerifyReport(True, 4, 4, ())
    assert len(rows_of(store)) == 80


def test_a_store_works_on_the_engine_it_is_given(tmp_path, readings, reading):
    with EmbeddedStore(tmp_path, online=MemoryStore()) as store:
        store.create_feature_group(readings)
        store.put("readings", reading("JFK", 1))
        assert store.verify("readings").equal
    assert not Path(tmp_path / "online").exists()


def test_values_that_cross_processes_survive_pickling(store, reading):
    store.put("readings", reading("JFK", 1))
    for value in (
        store.describe("readings"),
        store.flush()["readings"],
        store.verify("readings"),
        Put("readings", reading("JFK", 1), HOUR, ONLINE),
        position(1, 2),
    ):
        assert pickle.loads(pickle.dumps(value)) == value
