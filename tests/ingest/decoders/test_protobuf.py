"""Protobuf: presence, 64-bit numbers, names of enumerations, well-known types, nesting."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import importlib.util
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import Int64Value
from hypothesis import given
from hypothesis import strategies as st

from ingest import IngestError, Message, ProtobufDecoder, Reference, Undecodable
from ingest.decoders.protoc import compile_protos

SCHEMA = """
syntax = "proto3";
package weather.v1;
import "google/protobuf/timestamp.proto";
import "google/protobuf/duration.proto";
import "google/protobuf/wrappers.proto";
import "google/protobuf/struct.proto";

message Reading {
  message Place { string city = 1; Place within = 2; }
  enum Kind { UNKNOWN = 0; OLD = 1; NEW = 2; }
  int64 station = 1;
  double temp = 2;
  string note = 3;
  bool good = 4;
  bytes raw = 5;
  uint64 big = 6;
  optional int32 maybe = 7;
  Kind kind = 8;
  Place place = 9;
  google.protobuf.Timestamp time = 10;
  google.protobuf.Duration took = 11;
  google.protobuf.Int64Value boxed = 12;
  google.protobuf.BytesValue boxed_raw = 13;
  google.protobuf.Struct free = 14;
  repeated int32 numbers = 15;
  repeated Place places = 16;
  map<string, int64> counts = 17;
  map<bool, Place> by_truth = 18;
  repeated Kind kinds = 19;
  oneof either { int32 left = 20; string right = 21; }
  sint32 from = 22;
}
message Other { int32 number = 1; message Inner { int32 deep = 1; } }
"""
ABSENT = {
    "station": 0,
    "temp": 0.0,
    "note": "",
    "good": False,
    "raw": "",
    "big": 0,
    "kind": "UNKNOWN",
    "numbers": [],
    "places": [],
    "counts": {},
    "by_truth": {},
    "kinds": [],
    "from": 0,
}


@pytest.fixture(scope="session")
def descriptors() -> bytes:
    return compile_protos(SCHEMA)


@pytest.fixture(scope="session")
def classes(descriptors) -> dict[str, Any]:
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    names = ("Reading", "Other", "Reading.Place")
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"weather.v1.{name}"))
        for name in names
    }


@pytest.fixture(scope="session")
def decoder(descriptors) -> ProtobufDecoder:
    return ProtobufDecoder(descriptors=descriptors, message="weather.v1.Reading")


def decode(decoder, value):
    data = value if isinstance(value, bytes) else value.SerializeToString()
    return decoder.decode(Message("0", 0, data))


def test_what_was_not_set_has_its_default_or_is_absent(decoder, classes):
    assert decode(decoder, b"") == ABSENT
    assert decode(decoder, classes["Reading"](maybe=0, left=0))["maybe"] == 0
    assert "right" not in decode(decoder, classes["Reading"](left=0))


def test_every_kind_of_field_becomes_plain(decoder, classes):
    reading = classes["Reading"](
        station=-(2**63),
        big=2**64 - 1,
        raw=b"abc",
        kind=2,
        kinds=[1, 2, 9],
        numbers=[1, -2],
        counts={"a": 2**62},
        right="r",
    )
    setattr(reading, "from", -5)
    reading.place.city = "Ulm"
    reading.place.within.city = "Swabia"
    reading.places.add(city="Bonn")
    reading.by_truth[True].city = "yes"
    reading.time.seconds, reading.time.nanos = 1, 500_000_000
    reading.took.seconds, reading.took.nanos = -1, -500_000_000
    reading.boxed.value = 0
    reading.boxed_raw.value = b"abc"
    reading.free.update({"a": [1.5, None, {"b": True}], "c": "text"})
    assert decode(decoder, reading) == {
        **ABSENT,
        "station": -(2**63),
        "big": 2**64 - 1,
        "raw": "YWJj",
        "kind": "NEW",
        "kinds": ["OLD", "NEW", 9],
        "numbers": [1, -2],
        "counts": {"a": 2**62},
        "right": "r",
        "from": -5,
        "place": {"city": "Ulm", "within": {"city": "Swabia"}},
        "places": [{"city": "Bonn"}],
        "by_truth": {"true": {"city": "yes"}},
        "time": "1970-01-01T00:00:01.500000Z",
        "took": -1.5,
        "boxed": 0,
        "boxed_raw": "YWJj",
        "free": {"a": [1.5, None, {"b": True}], "c": "text"},
    }


@given(
    station=st.integers(-(2**63), 2**63 - 1),
    temp=st.floats(allow_nan=False),
    note=st.text(),
    raw=st.binary(),
    maybe=st.none() | st.integers(-(2**31), 2**31 - 1),
    numbers=st.lists(st.integers(-(2**31), 2**31 - 1)),
    counts=st.dictionaries(st.text(), st.integers(-(2**63), 2**63 - 1)),
    time=st.none() | st.datetimes(timezones=st.just(dt.UTC)),
    cities=st.lists(st.text()),
)
def test_every_message_comes_back_plain(decoder, classes, **values):
    cities, time = values.pop("cities"), values.pop("time")
    reading = classes["Reading"](
        **{name: value for name, value in values.items() if value is not None}
    )
    for city in cities:
        reading.places.add(city=city)
    if time is not None:
        reading.time.FromDatetime(time)
    decoded = decode(decoder, reading)
    expected = {**ABSENT, **values, "raw": base64.b64encode(values["raw"]).decode()}
    expected["places"] = [{"city": city} for city in cities]
    if values["maybe"] is None:
        del expected["maybe"]
    if time is not None:
        assert dt.datetime.fromisoformat(decoded.pop("time")) == time
    assert decoded == expected


def test_times_as_seconds_and_a_mapping(descriptors, classes):
    decoder = ProtobufDecoder(
        {"when": "time", "id": "station"},
        descriptors=descriptors,
        message="weather.v1.Reading",
        times="seconds",
    )
    reading = classes["Reading"](station=7)
    reading.time.seconds, reading.time.nanos = 1, 500_000_000
    assert decode(decoder, reading) == {"when": 1.5, "id": 7}


def test_by_the_registry_the_indexes_say_which_type(registry, wire, message, classes):
    number = registry.register("weather-value", SCHEMA, kind="PROTOBUF")
    decoder = ProtobufDecoder(registry=registry)
    reading = classes["Reading"](station=7).SerializeToString()
    other = classes["Other"](number=7).SerializeToString()
    for _ in range(2):
        for indexes in (b"\x00", b"\x02\x00"):  # zig-zag: none for the first; one, 0
            assert decoder.decode(message(wire(number, reading, indexes)))["station"] == 7
        assert decoder.decode(message(wire(number, other, b"\x02\x02"))) == {"number": 7}
        place = wire(number, b"\x0a\x03Ulm", b"\x04\x00\x00")
        assert decoder.decode(message(place)) == {"city": "Ulm"}
        assert decoder.decode(message(wire(number, b"\x08\x07", b"\x04\x02\x00"))) == {"deep": 7}
    named = f"schema {number} (weather-value version 1)"
    assert decoder.schema_of(message(place)) == named
    for indexes, where in [
        (b"", "byte 5"),
        (b"\x01", "byte 5"),  # a count of -1
        (b"\x50", "byte 5"),  # 40 of them
        (b"\x02\x04", "message indexes"),
        (b"\x04\x02", "byte 7"),
        (b"\x02" + b"\xff" * 9, "byte 11"),
    ]:
        with pytest.raises(Undecodable) as refusal:
            decoder.decode(message(wire(number, b"", indexes)))
        assert (refusal.value.where, refusal.value.schema) == (where, named)


def test_only_the_named_type_is_read(registry, wire, message):
    number = registry.register("weather-value", SCHEMA, kind="PROTOBUF")
    decoder = ProtobufDecoder(registry=registry, message="weather.v1.Other")
    assert decoder.decode(message(wire(number, b"", b"\x02\x02"))) == {"number": 0}
    with pytest.raises(Undecodable, match=r"expected a weather.v1.Other, got a weather.v1.Reading"):
        decoder.decode(message(wire(number, b"", b"\x00")))


def test_imports_from_other_subjects_and_versions_side_by_side(registry, wire, message):
    registry.register(
        "proto-place", 'syntax = "proto3"; message Place { string city = 1; }', kind="PROTOBUF"
    )
    text = """syntax = "proto3"; import "common/place.proto"; message Visit { Place place = 1; }"""
    reference = Reference("common/place.proto", "proto-place", 1)
    first = registry.register("proto-visit", text, kind="PROTOBUF", references=[reference])
    text = text.replace("}", "int32 days = 2; }")
    second = registry.register("proto-visit", text, kind="PROTOBUF", references=[reference])
    decoder = ProtobufDecoder(registry=registry)
    visit = b"\x0a\x05\x0a\x03Ulm\x10\x02"
    assert decoder.decode(message(wire(first, visit, b"\0"))) == {"place": {"city": "Ulm"}}
    assert decoder.decode(message(wire(second, visit, b"\0"))) == {
        "place": {"city": "Ulm"},
        "days": 2,
    }


def test_what_confluents_registry_knows_by_itself():
    text = """syntax = "proto3";
    import "confluent/meta.proto"; import "confluent/type/decimal.proto";
    message Item {
      option (confluent.message_meta) = { doc: "an item" };
      confluent.type.Decimal price = 1 [(confluent.field_meta).params = { key: "a" value: "b" }];
    }"""
    decoder = ProtobufDecoder(descriptors=compile_protos(text), message="Item")
    assert decode(decoder, b"\x0a\x06\x0a\x02\x00\xde\x18\x02") == {"price": Decimal("2.22")}


def test_a_generated_class():
    decoder = ProtobufDecoder(message_class=Int64Value)
    assert decode(decoder, Int64Value(value=7)) == {"value": 7}
    free = Struct()
    free["a"] = 1
    nested = decode(ProtobufDecoder(message_class=Struct), free)
    assert nested == {"fields": {"a": 1.0}}


def test_required_fields_of_proto2():
    schema = (
        'syntax = "proto2"; message M { required int32 a = 1; optional int32 b = 2 [default=5]; }'
    )
    decoder = ProtobufDecoder(descriptors=compile_protos(schema), message="M")
    assert decode(decoder, b"\x08\x07") == {"a": 7}
    with pytest.raises(Undecodable, match="no a, which it requires"):
        decode(decoder, b"\x10\x07")


@pytest.mark.parametrize(
    ("value", "expected", "got"),
    [
        (b"\x08", "a weather.v1.Reading", "parsing"),
        (b"\x0a\xff\xff\xff\xff\x0f", "a weather.v1.Reading", "parsing"),
        (b"\x52\x02\x10\xff", "a weather.v1.Reading", "parsing"),
        (b"\x52\x06\x10\xff\xff\xff\xff\x0f", "a weather.v1.Reading", "Timestamp with -1 ns"),
        (b"\x52\x0a\x08" + b"\xff" * 8 + b"\x7f", "a weather.v1.Reading", "years 0000 to 9999"),
        (b"\x4a\x00\x1a\x02\xff\xff", "a weather.v1.Reading", "parsing"),
        (None, "a Protobuf message", "no value"),
        ({"a": 1}, "a Protobuf message", "a row"),
    ],
)
def test_refusal_says_what_was_expected_and_what_came(decoder, value, expected, got):
    with pytest.raises(Undecodable) as refusal:
        decoder.decode(Message("0", 0, value))
    assert refusal.value.where == "message"
    assert refusal.value.expected == expected
    assert got in refusal.value.got
    assert len(str(refusal.value)) < 300


def test_nesting_has_an_end(decoder):
    place = b""
    for _ in range(200):
        size = len(place)
        place = (
            b"\x12"
            + (bytes([size]) if size < 128 else bytes([size % 128 + 128, size // 128]))
            + place
        )
    size = len(place)
    with pytest.raises(Undecodable):
        decode(decoder, b"\x4a" + bytes([size % 128 + 128, size // 128]) + place)


@given(st.binary(max_size=60))
def test_any_bytes_give_a_record_or_a_refusal(decoder, data):
    with contextlib.suppress(Undecodable):
        assert isinstance(decode(decoder, data), dict)


def test_schemas_that_are_none():
    with pytest.raises(ValueError, match=r"the-message-itself.proto:1:1: Expected"):
        compile_protos("nonsense")
    for name in ("../x.proto", "/etc/x.proto", "a/../../x.proto", ""):
        with pytest.raises(ValueError, match="expected a relative file name"):
            compile_protos(SCHEMA, {name: 'syntax = "proto3";'})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "got 0"),
        ({"message_class": Int64Value, "descriptors": b""}, "got 2"),
        ({"message_class": Int64Value, "message": "M"}, "another was given too"),
        ({"descriptors": b""}, "expected the name of the message's type"),
        ({"descriptors": b"junk", "message": "M"}, "expected a descriptor set"),
        ({"message_class": Int64Value, "times": "days"}, "times: expected"),
    ],
)
def test_wrong_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        ProtobufDecoder(**options)


def test_a_wrong_name_is_told_with_the_nearest(descriptors):
    with pytest.raises(ValueError, match=r"did you mean 'weather.v1.Reading'\?"):
        ProtobufDecoder(descriptors=descriptors, message="weather.v1.Readings")
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors)
    del files.file[0]
    with pytest.raises(ValueError, match="--include_imports"):
        ProtobufDecoder(descriptors=files.SerializeToString(), message="weather.v1.Reading")


def test_without_the_compiler_the_message_names_the_extra(monkeypatch):
    monkeypatch.setattr("ingest.decoders.protoc.find_spec", lambda name: None)
    with pytest.raises(IngestError, match=r"pip install 'featureline\[protobuf\]'"):
        compile_protos(SCHEMA)
    assert importlib.util.find_spec("grpc_tools") is not None
