"""Records as of times: the rows of a dataset, from every kind of store, and nothing in lineage."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import pyarrow as pa
import pytest

from featurestore import FeatureGroupNotFound, FeatureNotFound, InvalidRecord, InvalidRequest
from featurestore.encryption import MASTER_KEY_FILE, MasterKey
from featurestore.v1 import asof_pb2, control_pb2_grpc
from ingest import Lookup, Message

MOMENT = pa.timestamp("us", "UTC")
NEW_YEAR = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)


def times(*hours):
    return [NEW_YEAR + dt.timedelta(hours=hour) for hour in hours]


@pytest.fixture
def master(tmp_path, monkeypatch):
    MasterKey.generate(tmp_path / "master.key")
    monkeypatch.setenv(MASTER_KEY_FILE, str(tmp_path / "master.key"))


@pytest.fixture
def filled(record_store, reading):
    for hour in (6, 8):
        record_store.put("weather", reading("JFK", hour, temp=float(hour)))
    record_store.put("weather", reading("EWR", 6))
    record_store.delete("weather", "EWR", event_time="2013-01-01T07:00:00Z")
    return record_store


KEYS = ["JFK", "JFK", "JFK", "EWR", "EWR", "LGA", "JFK"]
HOURS = [5, 7, 8, 6, 7, 9, 7]


def test_rows_are_those_of_a_dataset(filled):
    asked = pa.array(times(*HOURS), MOMENT)

    rows = filled.get_as_of("weather", KEYS, asked)

    spine = pa.table({"origin": KEYS, "event_time": asked})
    expected = filled.dataset(spine, ["weather"]).table.drop_columns(["origin", "event_time"])
    assert rows.equals(expected)
    assert rows["temp"].to_pylist() == [None, 6.0, 8.0, 39.0, None, None, 6.0]


def test_what_is_asked_for_comes_in_its_order_and_leaves_no_trace(store, weather, reading):
    store.create_feature_group(weather)
    store.put("weather", reading("JFK", 6, temp=6.0))
    before = store.graph.verify().events

    rows = store.get_as_of(
        "weather",
        pa.array(["JFK", "LGA", "JFK"]),
        times(7, 7, 9),
        features=["temp", "origin", "hour"],
        lookback=dt.timedelta(hours=2),
    )

    assert rows.to_pydict() == {
        "temp": [6.0, None, None],
        "origin": ["JFK", None, None],
        "hour": ["2013-01-01T06:00:00Z", None, None],
    }
    nothing = store.get_as_of("weather", [], [])
    assert nothing.num_rows == 0
    assert nothing.schema.names == [n for n in weather.feature_names if n not in ("origin", "hour")]
    assert store.graph.verify().events == before


@pytest.mark.parametrize("kind", ["embedded", "remote", "awaited"])
@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("wether", ["JFK"], times(6)), FeatureGroupNotFound, "wether"),
        (("weather", ["JFK"], times(6), ["tmp"]), FeatureNotFound, "did you mean 'temp'"),
        (("weather", [None], times(6)), InvalidRecord, "weather.origin: "),
        (("weather", ["JFK"], []), InvalidRequest, "as many times as identifiers, got 0 for 1"),
        (("weather", ["JFK"], [dt.datetime(2013, 1, 1)]), InvalidRequest, "with a zone"),  # noqa: DTZ001
        (("weather", ["JFK"], ["noon"]), InvalidRequest, "expected datetimes, got 'noon' at 0"),
        (("online-only", ["JFK"], times(6)), InvalidRequest, "no offline store to look back in"),
    ],
)
def test_errors_are_the_same_in_every_store(kind, arguments, error, words, refusing):
    group, identifiers, moments, *features = arguments

    with pytest.raises(error) as caught:
        refusing[kind].get_as_of(
            group, identifiers, moments, features=features[0] if features else ()
        )

    assert words in str(caught.value)


def test_a_group_without_an_online_store_is_read_from_its_history(refusing, reading):
    for store in (refusing["embedded"], refusing["remote"]):
        store.put("offline-only", reading("JFK", 6, temp=6.0))
        rows = store.get_as_of("offline-only", ["JFK", "JFK"], times(5, 6), features=["temp"])
        assert rows["temp"].to_pylist() == [None, 6.0]


def test_a_request_that_does_not_add_up_is_refused(server, remote, weather):
    remote.create_feature_group(weather)
    stub = control_pb2_grpc.FeatureStoreStub(remote._channel)
    request = asof_pb2.GetRecordsAsOfRequest(
        feature_group_name="weather", record_identifiers_value_as_string=["JFK"], times_us=[1, 2]
    )

    with pytest.raises(Exception, match="as many times as identifiers, got 2 for 1"):
        stub.GetRecordsAsOf(request)
    for broken in ({"times_us": [2**62]}, {"times_us": [1], "lookback_us": -1}):
        with pytest.raises(Exception, match="INVALID_ARGUMENT"):
            stub.GetRecordsAsOf(
                asof_pb2.GetRecordsAsOfRequest(
                    feature_group_name="weather",
                    record_identifiers_value_as_string=["JFK"],
                    **broken,
                )
            )


def test_lookups_go_over_the_wire_and_see_encrypted_groups(master, remote, weather, reading):
    remote.create_feature_group(replace(weather, name="sealed", kms_key="master"))
    for hour in (6, 8):
        remote.put("sealed", reading("JFK", hour, temp=float(hour)))
    lookup = Lookup("sealed", {"origin": "origin"}, features=["temp"], prefix="there_")
    lookup.open(remote, weather)

    found = lookup.apply(
        [reading("JFK", 7), reading("JFK", 9), reading("LGA", 9)],
        [Message("0", n, b"") for n in range(3)],
    )

    assert [record.get("there_temp") for record in found] == [6.0, 8.0, None]
