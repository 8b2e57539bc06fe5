"""A group's provisioned throughput, as a caller meets it."""

from __future__ import annotations

import time
from dataclasses import replace

import grpc
import pytest

import featurestore
from featurestore import Get, PartitionPosition, Put, SourcePosition, Throttled, Throughput
from featurestore.v1 import runtime_pb2, runtime_pb2_grpc


@pytest.fixture
def narrow(server, weather):
    """A server whose group `weather` takes five units a second of either kind."""
    with featurestore.connect(server.address) as store:
        store.create_feature_group(replace(weather, throughput=Throughput(5, 5)))
        store.create_feature_group(replace(weather, name="wide"))
        yield server


@pytest.fixture
def stub(narrow):
    """A client that tries nothing again."""
    with grpc.insecure_channel(narrow.address) as channel:
        yield runtime_pb2_grpc.FeatureStoreRuntimeStub(channel)


def put_request(group, reading, origin="JFK"):
    return featurestore.wire.put_message(Put(group, reading(origin, 6)))


def test_a_put_beyond_the_units_is_refused_with_a_hint(stub, reading, front):
    def put_many():
        for _ in range(50):
            stub.PutRecord(put_request("weather", reading))

    with pytest.raises(grpc.RpcError) as caught:
        put_many()

    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "the group's 5 write units a second are used up" in caught.value.details()
    metadata = dict(caught.value.trailing_metadata())
    assert metadata["featureline-error"] == "Throttled"
    if front == "grpc":  # the native front may not send gRPC's own metadata
        assert 0 <= int(metadata["grpc-retry-pushback-ms"]) <= 1000
    stub.PutRecord(put_request("wide", reading))


def test_a_get_beyond_the_units_is_refused(stub, reading):
    stub.PutRecord(put_request("weather", reading))
    request = runtime_pb2.GetRecordRequest(
        feature_group_name="weather", record_identifier_value_as_string="JFK"
    )

    def get_many():
        for _ in range(50):
            stub.GetRecord(request)

    with pytest.raises(grpc.RpcError, match="read units a second are used up"):
        get_many()


def test_a_batch_leaves_for_later_what_is_throttled(stub, reading):
    entries = [
        put_request(group, reading, f"{group}{n}")
        for n in range(30)
        for group in ("weather", "wide")
    ]

    response = stub.BatchWriteRecord(runtime_pb2.BatchWriteRecordRequest(entries=entries))

    left = set(response.unprocessed)
    assert not response.errors
    assert left
    assert all(entries[index].feature_group_name == "weather" for index in left)
    assert len(left) >= 20
    found = stub.BatchGetRecord(
        runtime_pb2.BatchGetRecordRequest(
            identifiers=[
                {
                    "feature_group_name": "wide",
                    "record_identifiers_value_as_string": [f"wide{n}" for n in range(30)],
                }
            ]
        )
    )
    assert len(found.records) == 30


def test_a_batch_get_names_what_was_not_read(stub, reading):
    wanted = [
        {"feature_group_name": group, "record_identifiers_value_as_string": [f"id{n}"]}
        for n in range(30)
        for group in ("weather", "wide")
    ]
    response = stub.BatchGetRecord(runtime_pb2.BatchGetRecordRequest(identifiers=wanted))

    left = response.unprocessed_identifiers
    assert {entry.feature_group_name for entry in left} == {"weather"}
    assert len(left) >= 20


def test_a_batch_with_a_position_is_refused_whole(stub, reading):
    position = featurestore.wire.position_message(
        SourcePosition("s", (PartitionPosition("0", 0, 30),))
    )
    entries = [put_request("weather", reading, f"a{n}") for n in range(30)]

    with pytest.raises(grpc.RpcError, match="used up"):
        stub.BatchWriteRecord(
            runtime_pb2.BatchWriteRecordRequest(entries=entries, position=position)
        )

    request = runtime_pb2.GetSourcePositionRequest(source="s")
    assert not stub.GetSourcePosition(request).next


def test_the_client_waits_and_loses_nothing(narrow, reading):
    with featurestore.connect(narrow.address, timeout_s=20) as store:
        began = time.monotonic()
        errors = store.batch_write([Put("weather", reading(f"a{n}", 6)) for n in range(12)])

        assert errors == []
        assert time.monotonic() - began > 1
        assert list(store.records("weather")) == sorted(f"a{n}" for n in range(12))
        found = store.batch_get([Get("weather", [f"a{n}"]) for n in range(12)])
        assert len(found) == 12


def test_the_client_says_what_it_could_not_store_in_time(narrow, reading):
    with featurestore.connect(narrow.address) as store:
        store.set_throughput("weather", Throughput(0, 0))
    with featurestore.connect(narrow.address, timeout_s=1.5) as store:
        errors = store.batch_write([Put("wide", reading("a", 6)), Put("weather", reading("a", 6))])
        assert [(error.index, error.code) for error in errors] == [(1, "Throttled")]
        assert "put the record again (record 2 of 2)" in errors[0].message
        with pytest.raises(Throttled, match="0 write units"):
            store.put("weather", reading("a", 6))
