"""What a client in any language sees: one made of what the server tells about itself.

Nothing of ours is imported to call it. The messages are made from the descriptors that server
reflection hands out, as grpcurl does it, and those descriptors are held against the contract.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool, json_format, message_factory
from google.protobuf.descriptor import FieldDescriptor
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

RUNTIME = "featurestore.v1.FeatureStoreRuntime"
CONTROL = "featurestore.v1.FeatureStore"
HEALTH = "grpc.health.v1.Health"
SERVICES = {
    *(RUNTIME, CONTROL, HEALTH, "lineage.v1.Lineage"),
    *("training.v1.Training", "training.v1.BatchTransform"),
}

# The contract: numbers and types on the wire. New fields may be added, none of these may change.
FIELDS = {
    "Value": {
        "string_value": (1, "string"),
        "integral_value": (2, "int64"),
        "fractional_value": (3, "double"),
        "string_list": (4, "StringList"),
        "integral_list": (5, "IntegralList"),
        "fractional_list": (6, "FractionalList"),
    },
    "StringList": {"values": (1, "repeated string")},
    "IntegralList": {"values": (1, "repeated int64")},
    "FractionalList": {"values": (1, "repeated double")},
    "FeatureValue": {"feature_name": (1, "string"), "value": (2, "Value")},
    "Record": {"values": (1, "repeated FeatureValue")},
    "TtlDuration": {"unit": (1, "Unit"), "value": (2, "int64")},
    "PutRecordRequest": {
        "feature_group_name": (1, "string"),
        "record": (2, "Record"),
        "target_stores": (3, "repeated Store"),
        "ttl_duration": (4, "TtlDuration"),
        "deletion": (5, "Deletion"),
    },
    "PutRecordRequest.Deletion": {
        "record_identifier_value_as_string": (1, "string"),
        "event_time": (2, "string"),
    },
    "PutRecordResponse": {},
    "GetRecordRequest": {
        "feature_group_name": (1, "string"),
        "record_identifier_value_as_string": (2, "string"),
        "feature_names": (3, "repeated string"),
        "expiration_time_response": (4, "bool"),
    },
    "GetRecordResponse": {"record": (1, "Record"), "expires_at": (2, "Timestamp")},
    "BatchGetRecordRequest": {"identifiers": (1, "repeated Identifier")},
    "BatchGetRecordRequest.Identifier": {
        "feature_group_name": (1, "string"),
        "record_identifiers_value_as_string": (2, "repeated string"),
        "feature_names": (3, "repeated string"),
    },
    "BatchGetRecordResponse": {
        "records": (1, "repeated BatchRecord"),
        "errors": (2, "repeated BatchError"),
        "unprocessed_identifiers": (3, "repeated Identifier"),
    },
    "BatchGetRecordResponse.BatchRecord": {
        "feature_group_name": (1, "string"),
        "record_identifier_value_as_string": (2, "string"),
        "record": (3, "Record"),
        "expires_at": (4, "Timestamp"),
    },
    "BatchWriteRecordRequest": {
        "entries": (1, "repeated PutRecordRequest"),
        "position": (2, "SourcePosition"),
        "ttl_duration": (3, "TtlDuration"),
    },
    "BatchWriteRecordResponse": {
        "errors": (1, "repeated WriteError"),
        "unprocessed": (2, "repeated uint32"),
    },
    "WriteError": {"index": (1, "uint32"), "code": (2, "string"), "message": (3, "string")},
    "UpdateRecordRequest": {
        "feature_group_name": (1, "string"),
        "record_identifier_value_as_string": (2, "string"),
        "features": (3, "repeated FeatureValue"),
        "target_stores": (4, "repeated Store"),
        "ttl_duration": (5, "TtlDuration"),
    },
    "UpdateRecordResponse": {},
    "DeleteRecordRequest": {
        "feature_group_name": (1, "string"),
        "record_identifier_value_as_string": (2, "string"),
        "event_time": (3, "string"),
        "mode": (4, "DeletionMode"),
        "target_stores": (5, "repeated Store"),
    },
    "DeleteRecordResponse": {},
    "ListRecordsRequest": {
        "feature_group_name": (1, "string"),
        "max_results": (2, "int32"),
        "next_token": (3, "string"),
        "include_soft_deleted": (4, "bool"),
    },
    "ListRecordsResponse": {
        "record_identifiers": (1, "repeated string"),
        "next_token": (2, "string"),
    },
    "Ack": {"last": (1, "uint64"), "errors": (2, "repeated WriteError")},
}
ENUMS = {
    "Store": {"ONLINE_STORE": 1, "OFFLINE_STORE": 2},
    "TtlDuration.Unit": {"SECONDS": 1, "MINUTES": 2, "HOURS": 3, "DAYS": 4, "WEEKS": 5},
    "DeleteRecordRequest.DeletionMode": {"SOFT": 1, "HARD": 2},
    "FeatureType": {"INTEGRAL": 1, "FRACTIONAL": 2, "STRING": 3},
    "CollectionType": {"LIST": 1, "SET": 2, "VECTOR": 3},
}
METHODS = {
    RUNTIME: {
        "PutRecord",
        "GetRecord",
        "BatchGetRecord",
        "BatchWriteRecord",
        "UpdateRecord",
        "DeleteRecord",
        "ListRecords",
        "StreamRecords",
    },
    CONTROL: {
        "CreateFeatureGroup",
        "DescribeFeatureGroup",
        "UpdateFeatureGroup",
        "DeleteFeatureGroup",
        "ListFeatureGroups",
        "UpdateFeatureMetadata",
        "DescribeFeatureMetadata",
        "Search",
        "BuildDataset",
        "ExplainDataset",
        "WriteDataset",
        "SaveDataset",
        "LoadDataset",
        "RebuildDataset",
        "ListDatasets",
        "DescribeDataset",
        "CheckDataset",
        "CreateDataset",
        "Maintain",
        "ReadHistory",
        "ListTableVersions",
        "Restore",
        "Verify",
    },
}
BOTH_WAYS = {"StreamRecords", "BuildDataset", "WriteDataset", "CreateDataset"}
STREAMS_IN = BOTH_WAYS | {"ExplainDataset", "SaveDataset", "CheckDataset"}
STREAMS_OUT = BOTH_WAYS | {"LoadDataset", "RebuildDataset", "ListDatasets", "ReadHistory"}


class Client:
    """A client of a server about which nothing is known but its address."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self._database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self._database)

    def services(self) -> set[str]:
        return set(self._database.get_services())

    def message(self, name: str, body: dict[str, Any]) -> Any:
        made = message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))()
        return json_format.ParseDict(body, made)

    def call(self, service: str, method: str, /, **body: Any) -> Any:
        found = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = self.message(found.input_type.full_name, body)
        return self._method(service, found, self.channel.unary_unary)(request, timeout=10)

    def stream(self, service: str, method: str, requests: Iterator[dict[str, Any]]) -> Any:
        found = self.pool.FindServiceByName(service).FindMethodByName(method)
        messages = (self.message(found.input_type.full_name, body) for body in requests)
        return self._method(service, found, self.channel.stream_stream)(messages, timeout=20)

    def watch(self, service: str, method: str, /, **body: Any) -> Any:
        found = self.pool.FindServiceByName(service).FindMethodByName(method)
        request = self.message(found.input_type.full_name, body)
        return self._method(service, found, self.channel.unary_stream)(request, timeout=20)

    def _method(self, service: str, method: Any, kind: Any) -> Any:
        reply = message_factory.GetMessageClass(method.output_type)
        return kind(f"/{service}/{method.name}", lambda m: m.SerializeToString(), reply.FromString)


@pytest.fixture
def client(server):
    """A client that has created the group `weather`."""
    opened = Client(server.address)
    opened.call(CONTROL, "CreateFeatureGroup", feature_group=_group())
    yield opened
    opened.channel.close()


class TestContract:
    def test_the_services_are_listed(self, client):
        assert client.services() >= SERVICES | {"grpc.reflection.v1alpha.ServerReflection"}

    @pytest.mark.parametrize("name", FIELDS)
    def test_fields_have_their_numbers_and_types(self, client, name):
        descriptor = client.pool.FindMessageTypeByName(f"featurestore.v1.{name}")

        fields = {field.name: (field.number, _type(field)) for field in descriptor.fields}

        assert {field: fields.get(field) for field in FIELDS[name]} == FIELDS[name]
        assert len({number for number, _ in fields.values()}) == len(fields)

    @pytest.mark.parametrize("name", ENUMS)
    def test_enums_have_their_numbers(self, client, name):
        values = client.pool.FindEnumTypeByName(f"featurestore.v1.{name}").values_by_name

        assert {word: values[word].number for word in ENUMS[name]} == ENUMS[name]

    @pytest.mark.parametrize("service", METHODS)
    def test_methods_are_unary_or_streams(self, client, service):
        methods = client.pool.FindServiceByName(service).methods_by_name

        assert set(methods) >= METHODS[service]
        for name in METHODS[service]:
            streams = (methods[name].client_streaming, methods[name].server_streaming)
            assert streams == (name in STREAMS_IN, name in STREAMS_OUT), name

    def test_a_value_is_one_of_its_kinds(self, client):
        value = client.pool.FindMessageTypeByName("featurestore.v1.Value")

        assert [oneof.name for oneof in value.oneofs] == ["kind"]
        assert {field.name for field in value.oneofs[0].fields} == set(FIELDS["Value"])


class TestRecords:
    def test_a_put_record_is_read_back_as_the_same_message(self, client):
        record = _record(temp={"fractional_value": 39.5}, wind={"integral_value": 7})

        client.call(RUNTIME, "PutRecord", feature_group_name="weather", record=record)
        reply = client.call(
            RUNTIME,
            "GetRecord",
            feature_group_name="weather",
            record_identifier_value_as_string="JFK",
        )

        assert reply.record == client.message("featurestore.v1.Record", record)
        assert not reply.HasField("expires_at")

    def test_a_missing_record_is_ok_and_unset(self, client):
        for name in ("LGA", "JFK"):
            if name == "JFK":
                _put(client)
                _delete(client, "2013-01-01T07:00:00Z")
            reply = _get(client, name)
            assert not reply.HasField("record")

    def test_a_record_without_the_asked_features_is_set_and_empty(self, client):
        _put(client)

        reply = _get(client, "JFK", feature_names=["temp"])

        assert reply.HasField("record")
        assert len(reply.record.values) == 0

    def test_features_are_selected_in_the_order_of_the_record(self, client):
        _put(client, temp={"fractional_value": 39.5}, wind={"integral_value": 7})

        reply = _get(client, "JFK", feature_names=["wind", "origin"])

        assert [value.feature_name for value in reply.record.values] == ["origin", "wind"]

    def test_the_expiry_is_told_when_asked_for(self, client):
        ttl = {"unit": "WEEKS", "value": 52_000}
        body = {"feature_group_name": "weather", "record": _record(), "ttl_duration": ttl}
        client.call(RUNTIME, "PutRecord", **body)

        assert not _get(client, "JFK").HasField("expires_at")
        reply = _get(client, "JFK", expiration_time_response=True)
        weeks = (reply.expires_at.ToDatetime().timestamp() - 1_357_020_000) / 604_800
        assert round(weeks) == 52_000
        assert len(reply.record.values) == 2

    def test_many_are_read_and_what_fails_is_named(self, client):
        _put(client)
        _put(client, origin={"string_value": "EWR"})

        reply = client.call(
            RUNTIME,
            "BatchGetRecord",
            identifiers=[
                _identifiers("weather", "EWR", "LGA", "JFK", ""),
                _identifiers("wether", "JFK"),
                _identifiers("weather", "JFK", features=["tmp"]),
                _identifiers("weather", "JFK", features=["hour"]),
            ],
        )

        assert [
            (found.record_identifier_value_as_string, len(found.record.values))
            for found in reply.records
        ] == [("EWR", 2), ("JFK", 2), ("JFK", 1)]
        assert [
            (error.feature_group_name, error.record_identifier_value_as_string, error.code)
            for error in reply.errors
        ] == [
            ("weather", "", "InvalidRecord"),
            ("wether", "JFK", "FeatureGroupNotFound"),
            ("weather", "JFK", "FeatureNotFound"),
        ]
        assert "did you mean 'temp'" in reply.errors[2].message

    def test_a_batch_names_the_bad_entries_and_stores_the_good_ones(self, client):
        entries = [
            {"feature_group_name": "weather", "record": _record()},
            {"feature_group_name": "weather", "record": _record(temp={"string_value": "warm"})},
            {"feature_group_name": "weather"},
            {
                "feature_group_name": "weather",
                "record": _record(origin={"string_value": "EWR"}, temp={"string_value": "1e1"}),
            },
        ]

        reply = client.call(RUNTIME, "BatchWriteRecord", entries=entries)

        assert [(error.index, error.code) for error in reply.errors] == [
            (1, "InvalidRecord"),
            (2, "InvalidRecord"),
        ]
        assert "expected Fractional, got 'warm' (record 2 of 4)" in reply.errors[0].message
        assert _get(client, "EWR").record.values[2].value.fractional_value == 10.0

    def test_identifiers_are_listed_page_by_page(self, client):
        for name in "edcba":
            _put(client, origin={"string_value": name})
        _delete(client, "2013-01-01T07:00:00Z", name="c")

        pages, token = [], ""
        while not pages or token:
            reply = client.call(
                RUNTIME,
                "ListRecords",
                feature_group_name="weather",
                max_results=2,
                next_token=token,
                include_soft_deleted=True,
            )
            pages.append(list(reply.record_identifiers))
            token = reply.next_token

        assert [name for page in pages for name in page] == list("abcde")
        assert pages[:2] == [["a", "b"], ["c", "d"]]

    def test_deletes_are_soft_or_hard_and_may_name_their_stores(self, client):
        for name in "abc":
            _put(client, origin={"string_value": name})

        _delete(client, "2013-01-01T07:00:00Z", name="a")
        _delete(client, "2013-01-01T07:00:00Z", name="b", mode="HARD")
        _delete(client, "2013-01-01T07:00:00Z", name="c", target_stores=["OFFLINE_STORE"])

        assert [_get(client, name).HasField("record") for name in "abc"] == [False, False, True]
        listed = client.call(
            RUNTIME, "ListRecords", feature_group_name="weather", include_soft_deleted=True
        )
        assert list(listed.record_identifiers) == ["a", "c"]
        flushed = client.call(CONTROL, "Flush", feature_group_name="weather").flushed
        assert [(entry.records, entry.table_version) for entry in flushed] == [(6, 0)]
        verdict = client.call(CONTROL, "Verify", feature_group_name="weather")
        assert [d.record_identifier_value_as_string for d in verdict.differences] == ["c"]

    def test_a_position_is_compared_and_set(self, client):
        entries = [{"feature_group_name": "weather", "record": _record()}]
        client.call(RUNTIME, "BatchWriteRecord", entries=entries, position=_position(0, 5))

        with pytest.raises(grpc.RpcError) as caught:
            client.call(RUNTIME, "BatchWriteRecord", entries=entries, position=_position(4, 6))

        assert caught.value.code() is grpc.StatusCode.ABORTED
        assert dict(client.call(RUNTIME, "GetSourcePosition", source="topic").next) == {"0": 5}


class TestStreams:
    def test_puts_are_acknowledged_in_order_with_errors_counted_from_the_start(self, client):
        total = 5_000
        bad = {3, 1_000, 1_001, 4_999}

        acks = list(client.stream(RUNTIME, "StreamRecords", _puts(range(total), bad)))

        lasts = [ack.last for ack in acks]
        assert lasts == sorted(set(lasts))
        assert lasts[-1] == total
        errors = [error for ack in acks for error in ack.errors]
        assert [error.index for error in errors] == sorted(bad)
        assert {error.code for error in errors} == {"InvalidRecord"}
        settled = 0
        for ack in acks:
            assert all(settled <= error.index < ack.last for error in ack.errors)
            settled = ack.last
        assert _get(client, "4998").HasField("record")
        assert not _get(client, "4999").HasField("record")

    def test_an_ack_comes_while_the_stream_stays_open(self, client):
        more = threading.Semaphore(0)
        sent = iter(_puts(range(3), set()))

        def requests() -> Iterator[dict[str, Any]]:
            for request in sent:
                yield request
                more.acquire(timeout=10)

        acks = client.stream(RUNTIME, "StreamRecords", requests())

        for number in range(3):
            assert next(acks).last == number + 1
            assert _get(client, str(number)).HasField("record"), "acknowledged is readable"
            more.release()
        assert list(acks) == []

    def test_an_empty_stream_ends_at_once(self, client):
        assert list(client.stream(RUNTIME, "StreamRecords", iter(()))) == []

    def test_a_client_that_goes_away_leaves_the_server_well(self, client):
        endless = threading.Event()

        def requests() -> Iterator[dict[str, Any]]:
            yield from _puts(range(100), set())
            endless.wait(10)

        acks = client.stream(RUNTIME, "StreamRecords", requests())
        next(acks)
        acks.cancel()
        endless.set()

        _put(client)
        assert _get(client, "JFK").HasField("record")


class TestGroups:
    def test_a_group_is_described_as_it_was_created(self, client):
        reply = client.call(CONTROL, "DescribeFeatureGroup", feature_group_name="weather")

        description = reply.description
        made = {
            **_group(),
            "storage_type": "STANDARD",
            "throughput_config": {"throughput_mode": "ON_DEMAND"},
        }
        assert description.feature_group == client.message("featurestore.v1.FeatureGroup", made)
        assert (description.version, description.status) == (1, "Created")
        assert abs(description.creation_time.ToDatetime().timestamp() - time.time()) < 86_400
        assert description.offline_store_uri

    def test_groups_are_listed_page_by_page(self, client):
        for name in "abcd":
            client.call(CONTROL, "CreateFeatureGroup", feature_group=_group(name))

        names, token = [], ""
        while not names or token:
            reply = client.call(CONTROL, "ListFeatureGroups", max_results=2, next_token=token)
            names += [entry.feature_group.feature_group_name for entry in reply.descriptions]
            token = reply.next_token

        assert names == ["a", "b", "c", "d", "weather"]

    def test_a_group_is_changed_and_deleted(self, client):
        added = [{"feature_name": "visib", "feature_type": "FRACTIONAL"}]
        changed = client.call(
            CONTROL,
            "UpdateFeatureGroup",
            feature_group_name="weather",
            feature_additions=added,
        )
        ttl = {"unit": "DAYS", "value": 2}
        again = client.call(
            CONTROL,
            "UpdateFeatureGroup",
            feature_group_name="weather",
            ttl_change={"ttl_duration": ttl},
        )

        assert len(changed.description.feature_group.feature_definitions) == 5
        assert again.description.version == 3
        assert again.description.feature_group.ttl_duration.value == 2
        client.call(CONTROL, "DeleteFeatureGroup", feature_group_name="weather")
        assert len(client.call(CONTROL, "ListFeatureGroups").descriptions) == 0


REFUSALS = {
    "no such group": (
        RUNTIME,
        "GetRecord",
        {"feature_group_name": "wether", "record_identifier_value_as_string": "JFK"},
        ("NOT_FOUND", "FeatureGroupNotFound"),
    ),
    "no such feature": (
        RUNTIME,
        "GetRecord",
        {
            "feature_group_name": "weather",
            "record_identifier_value_as_string": "JFK",
            "feature_names": ["tmp"],
        },
        ("NOT_FOUND", "FeatureNotFound"),
    ),
    "a record that does not fit": (
        RUNTIME,
        "PutRecord",
        {"feature_group_name": "weather"},
        ("INVALID_ARGUMENT", "InvalidRecord"),
    ),
    "a ttl without a unit": (
        RUNTIME,
        "PutRecord",
        {"feature_group_name": "weather", "ttl_duration": {"value": 3}},
        ("INVALID_ARGUMENT", "InvalidRecord"),
    ),
    "a ttl below one": (
        RUNTIME,
        "PutRecord",
        {"feature_group_name": "weather", "ttl_duration": {"unit": "DAYS"}},
        ("INVALID_ARGUMENT", "InvalidFeatureGroup"),
    ),
    "an unspecified store": (
        RUNTIME,
        "PutRecord",
        {"feature_group_name": "weather", "target_stores": ["STORE_UNSPECIFIED"]},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "nothing to write": (RUNTIME, "BatchWriteRecord", {}, ("INVALID_ARGUMENT", "InvalidRequest")),
    "nothing to read": (RUNTIME, "BatchGetRecord", {}, ("INVALID_ARGUMENT", "InvalidRequest")),
    "a position without a source": (
        RUNTIME,
        "BatchWriteRecord",
        {"position": {}},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a position that goes back": (
        RUNTIME,
        "BatchWriteRecord",
        {"position": {"source": "topic", "partitions": [{"start": 5, "next": 4}]}},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a delete without a time": (
        RUNTIME,
        "DeleteRecord",
        {"feature_group_name": "weather", "record_identifier_value_as_string": "JFK"},
        ("INVALID_ARGUMENT", "InvalidRecord"),
    ),
    "a page that is too long": (
        RUNTIME,
        "ListRecords",
        {"feature_group_name": "weather", "max_results": 1001},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a page that is too short": (
        RUNTIME,
        "ListRecords",
        {"feature_group_name": "weather", "max_results": -1},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a token that is none": (
        RUNTIME,
        "ListRecords",
        {"feature_group_name": "weather", "next_token": "no token"},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a token of elsewhere": (
        RUNTIME,
        "ListRecords",
        {"feature_group_name": "weather", "next_token": "enp6eg=="},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a token longer than a key": (
        RUNTIME,
        "ListRecords",
        {"feature_group_name": "weather", "next_token": "AAAAAXp6" + "enp6" * 1000},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a token of groups that is none": (
        CONTROL,
        "ListFeatureGroups",
        {"next_token": "!"},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "a name that is taken": (
        CONTROL,
        "CreateFeatureGroup",
        {
            "feature_group": {
                "feature_group_name": "weather",
                "record_identifier_feature_name": "a",
                "event_time_feature_name": "b",
                "feature_definitions": [
                    {"feature_name": "a", "feature_type": "STRING"},
                    {"feature_name": "b", "feature_type": "STRING"},
                ],
                "enable_online_store": True,
            }
        },
        ("ALREADY_EXISTS", "FeatureGroupExists"),
    ),
    "a definition that is empty": (
        CONTROL,
        "CreateFeatureGroup",
        {},
        ("INVALID_ARGUMENT", "InvalidFeatureGroup"),
    ),
    "a feature without a type": (
        CONTROL,
        "UpdateFeatureGroup",
        {"feature_group_name": "weather", "feature_additions": [{"feature_name": "x"}]},
        ("INVALID_ARGUMENT", "InvalidFeatureGroup"),
    ),
    "two changes in one call": (
        CONTROL,
        "UpdateFeatureGroup",
        {
            "feature_group_name": "weather",
            "feature_additions": [{"feature_name": "x", "feature_type": "STRING"}],
            "ttl_change": {},
        },
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
    "no change in a call": (
        CONTROL,
        "UpdateFeatureGroup",
        {"feature_group_name": "weather"},
        ("INVALID_ARGUMENT", "InvalidRequest"),
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals_have_a_status_and_the_class_in_the_metadata(client, name):
    service, method, body, expected = REFUSALS[name]

    with pytest.raises(grpc.RpcError) as caught:
        client.call(service, method, **body)

    metadata = dict(caught.value.trailing_metadata())
    assert (caught.value.code().name, metadata["featureline-error"]) == expected
    assert caught.value.details()
    assert metadata["featureline-facts-bin"].startswith(b"{")


class TestDatasets:
    def test_a_dataset_without_a_spec_or_a_spine_is_refused(self, client):
        selections = [{"feature_group_name": "weather"}]
        for requests, words in (
            ([], "the dataset's spec in the first message"),
            ([{"spine": "AAAA"}], "the dataset's spec in the first message"),
            ([{"spec": {"selections": selections}}], "the spine as an Arrow IPC stream"),
            (
                [{"spec": {"selections": selections}}, {"spine": "AAAA"}],
                "spine: expected one Arrow IPC stream",
            ),
            ([{}], "expected the dataset's spec"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                list(client.stream(CONTROL, "BuildDataset", iter(requests)))
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert words in caught.value.details()


class TestHealth:
    def test_the_server_and_each_service_serve(self, client):
        for name in ("", *SERVICES):
            assert _health(client, name) == "SERVING"

    def test_an_unknown_service_is_not_found(self, client):
        with pytest.raises(grpc.RpcError) as caught:
            client.call(HEALTH, "Check", service="featurestore.v1.Unknown")

        assert caught.value.code() is grpc.StatusCode.NOT_FOUND

    def test_a_server_that_drains_does_not_serve_and_still_answers(self, client, server):
        watched = client.watch(HEALTH, "Watch", service=RUNTIME)
        assert _status(next(watched)) == "SERVING"

        server.refuse_health()

        assert _status(next(watched)) == "NOT_SERVING"
        watched.cancel()
        for name in ("", RUNTIME, CONTROL):
            assert _health(client, name) == "NOT_SERVING"
        _put(client)
        assert _get(client, "JFK").HasField("record")

    def test_a_stream_is_told_when_the_server_stops(self, client, server):
        last = threading.Event()

        def requests() -> Iterator[dict[str, Any]]:
            first, second = _puts(range(2), set())
            yield first
            last.wait(10)
            yield second

        acks = client.stream(RUNTIME, "StreamRecords", requests())
        assert next(acks).last == 1
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        time.sleep(0.2)
        last.set()

        # What was acknowledged is stored; the rest is the loader's to send to another server.
        with pytest.raises(grpc.RpcError) as caught:
            next(acks)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        stopping.join()
        with pytest.raises(grpc.RpcError) as caught:
            _get(client, "0")
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


# -- helpers ----------------------------------------------------------------------------------


def _type(field: FieldDescriptor) -> str:
    kinds = {
        FieldDescriptor.TYPE_STRING: "string",
        FieldDescriptor.TYPE_INT64: "int64",
        FieldDescriptor.TYPE_INT32: "int32",
        FieldDescriptor.TYPE_UINT32: "uint32",
        FieldDescriptor.TYPE_UINT64: "uint64",
        FieldDescriptor.TYPE_DOUBLE: "double",
        FieldDescriptor.TYPE_BOOL: "bool",
    }
    named = field.message_type or field.enum_type
    word = named.name if named is not None else kinds[field.type]
    return f"repeated {word}" if field.is_repeated else word


def _group(name: str = "weather") -> dict[str, Any]:
    return {
        "feature_group_name": name,
        "record_identifier_feature_name": "origin",
        "event_time_feature_name": "hour",
        "feature_definitions": [
            {"feature_name": "origin", "feature_type": "STRING"},
            {"feature_name": "hour", "feature_type": "STRING"},
            {"feature_name": "temp", "feature_type": "FRACTIONAL"},
            {"feature_name": "wind", "feature_type": "INTEGRAL"},
        ],
        "enable_online_store": True,
        "enable_offline_store": True,
        "description": "Hourly weather",
        "tags": [{"key": "team", "value": "operations"}],
    }


def _record(**values: dict[str, Any]) -> dict[str, Any]:
    kinds = {
        "origin": {"string_value": "JFK"},
        "hour": {"string_value": "2013-01-01T06:00:00Z"},
        **values,
    }
    return {"values": [{"feature_name": name, "value": kind} for name, kind in kinds.items()]}


def _put(client: Client, **values: dict[str, Any]) -> None:
    client.call(RUNTIME, "PutRecord", feature_group_name="weather", record=_record(**values))


def _puts(numbers: range, bad: set[int]) -> Iterator[dict[str, Any]]:
    for number in numbers:
        values: dict[str, Any] = {"origin": {"string_value": str(number)}}
        if number in bad:
            values["temp"] = {"string_value": "warm"}
        yield {"feature_group_name": "weather", "record": _record(**values)}


def _get(client: Client, name: str, **body: Any) -> Any:
    wanted = {"feature_group_name": "weather", "record_identifier_value_as_string": name}
    return client.call(RUNTIME, "GetRecord", **wanted, **body)


def _delete(client: Client, event_time: str, *, name: str = "JFK", **body: Any) -> None:
    wanted = {"feature_group_name": "weather", "record_identifier_value_as_string": name}
    client.call(RUNTIME, "DeleteRecord", **wanted, event_time=event_time, **body)


def _identifiers(group: str, *names: str, features: list[str] | None = None) -> dict[str, Any]:
    return {
        "feature_group_name": group,
        "record_identifiers_value_as_string": list(names),
        "feature_names": features or [],
    }


def _position(start: int, next_: int) -> dict[str, Any]:
    return {"source": "topic", "partitions": [{"partition": "0", "start": start, "next": next_}]}


def _health(client: Client, service: str) -> str:
    return _status(client.call(HEALTH, "Check", service=service))


def _status(reply: Any) -> str:
    return str(
        reply.DESCRIPTOR.fields_by_name["status"].enum_type.values_by_number[reply.status].name
    )
