"""Encrypted groups over gRPC: every verb, on both fronts, and nothing in clear on the disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import grpc
import pyarrow as pa
import pytest

from featurestore import Get, Put, StoreCorrupt, StoreUnavailable, Throttled, Throughput, wire
from featurestore.embedded import open_store
from featurestore.encryption import MASTER_KEY_FILE, KeyRing, MasterKey
from featurestore.errors import InvalidRequest
from featurestore.online import Batch, Write
from featurestore.server.runtime import Call, RuntimeService
from featurestore.throughput import Limiter
from featurestore.v1 import runtime_pb2, runtime_pb2_grpc

SECRET = "unmistakable"
LATER = "2013-01-01T09:00:00Z"


@pytest.fixture
def master(tmp_path, monkeypatch) -> Path:
    """The file of the master key that servers find in the environment."""
    path = tmp_path / "master.key"
    MasterKey.generate(path)
    monkeypatch.setenv(MASTER_KEY_FILE, str(path))
    return path


@pytest.fixture
def sealed(weather):
    return replace(weather, kms_key="master")


def clear_in(home: Path) -> bool:
    return SECRET.encode() in (home / "online" / "data.mdb").read_bytes()


def tamper(store, identifier: str) -> None:
    """Change one bit of what the engine holds of a record."""
    number = store.registry.get("weather").number
    (value,) = store.online.get(number, [identifier.encode()])
    record = value.record[:-1] + bytes((value.record[-1] ^ 1,))
    write = Write(number, value.identifier, value.event_time_us, record, 0, value.expires_us, 1, 1)
    store.online.put([Batch([write._replace(offline=False, expected=value.sequence)])])


def test_the_record_verbs_of_every_client(master, record_store, sealed, reading):
    record_store.create_feature_group(replace(sealed, name="sealed"))
    answers = []
    for group in ("weather", "sealed"):
        record_store.put(group, reading("JFK", 6, note="first"))
        record_store.put(group, reading("JFK", 5, note="historic"))
        assert record_store.batch_write([Put(group, reading("EWR", 6)), Put(group, {})])
        record_store.batch_write([Put(group, reading(f"A{n:03}", 6)) for n in range(150)])
        record_store.update(group, "JFK", {"note": "second", "wind": None})
        record_store.delete(group, "A001", event_time=LATER)
        record_store.delete(group, "A002", event_time=LATER, hard=True)
        found = record_store.batch_get(
            [Get(group, ["JFK", "A001", "A149"]), Get(group, ["EWR"], ("temp",))]
        )
        answers.append(
            [
                record_store.get(group, "JFK"),
                record_store.get(group, "A001"),
                record_store.get(group, "A003", features=["temp"]),
                [(entry.identifier, entry.record) for entry in found],
                list(record_store.records(group)),
                record_store.flush(group)[group].records,
            ]
        )
    assert answers[0] == answers[1]
    assert answers[1][0]["note"] == "second"
    assert answers[1][-1] == 156


def test_tables_and_what_lies_in_the_home(master, server, remote, sealed, reading):
    remote.create_feature_group(sealed)
    rows = [reading(f"A{n:04}", 6, note=f"{SECRET} {n}") for n in range(500)]
    assert remote.put_table("weather", pa.Table.from_pylist(rows)).rows == 500
    assert not clear_in(server.home)
    table = remote.get_table("weather", ["A0007", "none", "A0499"], features=["note"])
    assert table["note"].to_pylist() == [f"{SECRET} 7", None, f"{SECRET} 499"]
    remote.flush("weather")
    remote.put("weather", reading("A0007", 7, note=SECRET))
    remote.update("weather", "A0008", {"note": f"{SECRET} again"})
    remote.delete("weather", "A0009", event_time=LATER)
    assert not clear_in(server.home)
    assert remote.verify("weather").equal
    moment = pa.array([1_400_000_000_000_000], pa.timestamp("us", "UTC"))
    spine = pa.table({"origin": ["A0007"], "event_time": moment})
    dataset = remote.dataset(spine, [remote.group("weather")["note"]])
    assert dataset.table["note"].to_pylist() == [SECRET]
    assert remote.describe_feature_group("weather").kms_key == "master"
    remote.delete_feature_group("weather")
    with KeyRing.open(server.home) as ring:
        assert ring.cipher(1) is None


def test_a_group_is_not_made_without_a_master_key(monkeypatch, remote, sealed, weather):
    monkeypatch.delenv(MASTER_KEY_FILE, raising=False)
    with pytest.raises(InvalidRequest, match="needs a master key: make one with"):
        remote.create_feature_group(sealed)
    assert remote.list_feature_groups() == []
    remote.create_feature_group(weather)


def test_an_altered_record_is_lost_data_for_its_reader_only(
    master, server, remote, sealed, reading
):
    remote.create_feature_group(sealed)
    for origin in ("JFK", "EWR"):
        remote.put("weather", reading(origin, 6))
    tamper(server.store, "EWR")
    said = "weather: the sealed record of 'EWR' .* its bytes were changed; restore it"
    for read in (
        lambda: remote.get("weather", "EWR"),
        lambda: remote.batch_get([Get("weather", ["JFK", "EWR"])]),
        lambda: remote.update("weather", "EWR", {"wind": 1}),
    ):
        with pytest.raises(StoreCorrupt, match=said):
            read()
    # The two share one look into the store.
    get = runtime_pb2.GetRecordRequest
    calls = [Call("GetRecord", get(feature_group_name="weather")) for _ in range(3)]
    for call, origin in zip(calls, ("JFK", "EWR", "none"), strict=True):
        call.request.record_identifier_value_as_string = origin
    there, altered, absent = RuntimeService(server.store).read(calls)
    assert runtime_pb2.GetRecordResponse.FromString(there).HasField("record")
    assert isinstance(altered, StoreCorrupt)
    assert altered.facts == {"group": "weather", "identifier": "EWR"}
    assert absent == b""
    with grpc.insecure_channel(server.address) as channel:
        stub = runtime_pb2_grpc.FeatureStoreRuntimeStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetRecord(calls[1].request)
        assert caught.value.code() is grpc.StatusCode.DATA_LOSS
        reply = stub.BatchGetRecord(wire.batch_get_message([Get("weather", ["JFK", "EWR"])]))
    assert [entry.record_identifier_value_as_string for entry in reply.records] == ["JFK"]
    (error,) = reply.errors
    assert (error.record_identifier_value_as_string, error.code) == ("EWR", "StoreCorrupt")


def test_the_keys_are_wrapped_anew_while_the_server_goes_on(
    master, server, remote, sealed, reading, tmp_path
):
    remote.create_feature_group(sealed)
    remote.put("weather", reading("JFK", 6))
    with KeyRing.open(server.home) as ring:
        assert ring.rotate(MasterKey.generate(tmp_path / "new.key")) == 1
    remote.put("weather", reading("EWR", 6))
    assert remote.get("weather", "JFK")["wind"] == 7
    assert remote.verify("weather").equal
    (tmp_path / "new.key").replace(master)
    remote.create_feature_group(replace(sealed, name="second"))
    remote.put("second", reading("JFK", 6))
    assert remote.verify("second").equal


def test_a_group_whose_keys_are_lost_takes_no_other_with_it(
    master, tmp_path, sealed, weather, reading
):
    with open_store(tmp_path / "home") as store:
        for group in (sealed, replace(weather, name="clear")):
            store.create_feature_group(group)
            store.put(group.name, reading("JFK", 6))
    (tmp_path / "home" / "keys.db").unlink()
    with open_store(tmp_path / "home") as store:
        service = RuntimeService(store)
        wanted = [Get("weather", ["JFK"]), Get("clear", ["JFK"])]
        (reply,) = service.read([Call("BatchGetRecord", wire.batch_get_message(wanted))])
        response = runtime_pb2.BatchGetRecordResponse.FromString(reply)
        assert [entry.feature_group_name for entry in response.records] == ["clear"]
        assert [(e.feature_group_name, e.code) for e in response.errors] == [
            ("weather", "StoreUnavailable")
        ]
        puts = [
            Call("PutRecord", wire.put_message(Put(name, reading("EWR", 6))))
            for name in ("weather", "clear")
        ]
        refused, put = service.write(puts)
        assert isinstance(refused, StoreUnavailable)
        assert put == b""


def test_throughput_counts_the_bytes_of_the_caller(master, tmp_path, sealed, reading):
    seconds = 0.0
    limiter = Limiter(clock=lambda: seconds)
    with open_store(tmp_path / "home") as store:
        store.create_feature_group(replace(sealed, throughput=Throughput(1, 1)))
        service = RuntimeService(store, limiter=limiter)
        record = reading("JFK", 6, note="")
        room = 1024 - len(wire.put_message(Put("weather", record)).record.SerializeToString())
        message = wire.put_message(Put("weather", record | {"note": "x" * (room - 4)}))
        size = len(message.record.SerializeToString())
        assert 1000 < size <= 1024
        for _ in range(3):
            (reply,) = service.write([Call("PutRecord", message)])
            assert reply == b""
            (reply,) = service.write([Call("PutRecord", message)])
            assert isinstance(reply, Throttled)
            seconds += 1.0
