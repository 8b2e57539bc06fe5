"""Avro: every value comes back plain, schemas evolve, and damage is refused with its place."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import json
import sys
import uuid
from decimal import Decimal

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import AvroDecoder, IngestError, Message, Reference, Undecodable


def record(*fields, name="R", **rest):
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": field, "type": kind} for field, kind in fields],
        **rest,
    }


def written(schema, value):
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), value)
    return stream.getvalue()


def decode(schema, data, **options):
    return AvroDecoder(schema=schema, **options).decode(Message("0", 0, data))


def logical(base, name, **rest):
    return {"type": base, "logicalType": name, **rest}


UTC_TIMES = st.datetimes(timezones=st.just(dt.UTC))
PLACES = {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3}


def iso(time):
    return (
        time.strftime("%Y").rjust(4, "0")
        + time.strftime("-%m-%dT%H:%M:%S")
        + (f".{time.microsecond:06d}Z" if time.microsecond else "Z")
    )


# Schema, values, and what a value is to become.
LEAVES = [
    ("null", st.none(), lambda value: value),
    ("boolean", st.booleans(), lambda value: value),
    ("int", st.integers(-(2**31), 2**31 - 1), lambda value: value),
    ("long", st.integers(-(2**63), 2**63 - 1), lambda value: value),
    ("double", st.floats(allow_nan=False), lambda value: value),
    ("string", st.text(), lambda value: value),
    ("bytes", st.binary(), lambda value: base64.b64encode(value).decode()),
    (logical("long", "timestamp-micros"), UTC_TIMES, iso),
    (
        logical("long", "timestamp-millis"),
        UTC_TIMES.map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)),
        iso,
    ),
    (logical("int", "date"), st.dates(), lambda value: value.isoformat()),
    (logical("long", "time-micros"), st.times(), lambda value: value.isoformat()),
    (logical("string", "uuid"), st.uuids(), str),
    (
        PLACES,
        st.integers(-(10**11), 10**11).map(lambda n: Decimal(n).scaleb(-3)),
        lambda value: value,
    ),
]


@st.composite
def typed_values(draw, depth=2, names=None):
    """Draw a schema, a value of it, and the value it is to become."""
    names = names if names is not None else iter(range(1000))
    kinds = ["leaf", "leaf", "nullable"] + (["array", "map", "record"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind in ("leaf", "nullable"):
        schema, values, plain = draw(st.sampled_from(LEAVES[kind == "nullable" :]))
        value = draw(values)
        if kind == "leaf":
            return schema, value, plain(value)
        absent = draw(st.booleans())
        return ["null", schema], None if absent else value, None if absent else plain(value)
    if kind == "record":
        parts = draw(st.lists(typed_values(depth - 1, names), max_size=3))
        fields = [(f"f{n}", schema) for n, (schema, _, _) in enumerate(parts)]
        value = {f"f{n}": part[1] for n, part in enumerate(parts)}
        plain_value = {f"f{n}": part[2] for n, part in enumerate(parts)}
        return record(*fields, name=f"N{next(names)}"), value, plain_value
    schema, value, plain_value = draw(
        typed_values(depth - 1, names).filter(lambda part: written(part[0], part[1]) != b"")
    )
    count = draw(st.integers(0, 3))
    if kind == "array":
        return {"type": "array", "items": schema}, [value] * count, [plain_value] * count
    keys = [f"k{n}" for n in range(count)]
    return (
        {"type": "map", "values": schema},
        dict.fromkeys(keys, value),
        dict.fromkeys(keys, plain_value),
    )


@given(st.lists(typed_values(), min_size=1, max_size=4))
def test_every_record_comes_back_plain(parts):
    names = iter(range(1000))

    def renamed(schema):  # each record a name of its own
        if isinstance(schema, list):
            return [renamed(branch) for branch in schema]
        if not isinstance(schema, dict):
            return schema
        changed = {
            key: renamed(value) if key in ("items", "values", "type") else value
            for key, value in schema.items()
        }
        if schema["type"] == "record":
            changed["name"] = f"N{next(names)}"
            changed["fields"] = [{**f, "type": renamed(f["type"])} for f in schema["fields"]]
        return changed

    schema = record(*((f"f{n}", renamed(part[0])) for n, part in enumerate(parts)))
    data = written(schema, {f"f{n}": part[1] for n, part in enumerate(parts)})
    assert decode(schema, data) == {f"f{n}": part[2] for n, part in enumerate(parts)}


SCHEMA = record(
    ("station", "long"),
    ("time", logical("long", "timestamp-millis")),
    ("temp", ["null", "double"]),
    ("place", record(("city", "string"), name="Place")),
    ("kind", {"type": "enum", "name": "Kind", "symbols": ["OLD", "NEW"]}),
)
READING = {
    "station": 7,
    "time": dt.datetime(2024, 1, 1, tzinfo=dt.UTC),
    "temp": None,
    "place": {"city": "Ulm"},
    "kind": "NEW",
}
PLAIN = {**READING, "time": "2024-01-01T00:00:00Z"}


def test_a_record_with_all_that_there_is():
    data = written(SCHEMA, READING)
    assert decode(SCHEMA, data) == PLAIN
    assert decode(json.dumps(SCHEMA), data, times="seconds")["time"] == 1704067200.0
    assert decode(SCHEMA, data, mapping={"id": "station", "t": "temp", "x": "none"}) == {
        "id": 7,
        "t": None,
    }


def test_by_the_registry_each_message_by_its_own_schema(registry, wire, message):
    older = registry.register("readings-value", json.dumps(record(("station", "long"))))
    newer = registry.register(
        "readings-value",
        json.dumps(
            {
                **record(("station", "long")),
                "fields": [
                    {"name": "station", "type": "long"},
                    {"name": "temp", "type": "double", "default": 0.0},
                ],
            }
        ),
    )
    decoder = AvroDecoder(registry=registry)
    new = registry.version("readings-value").text
    for _ in range(2):
        assert decoder.decode(message(wire(older, b"\x0e"))) == {"station": 7}
        value = written(json.loads(new), {"station": 7, "temp": 1.5})
        assert decoder.decode(message(wire(newer, value))) == {"station": 7, "temp": 1.5}
    with pytest.raises(Undecodable) as refusal:
        decoder.decode(message(wire(newer, b"\x0e")))
    assert refusal.value.schema == f"schema {newer} (readings-value version 2)"
    assert str(refusal.value).endswith(f"; the message has {refusal.value.schema}")
    assert decoder.schema_of(message(wire(newer, b""))) == refusal.value.schema
    assert decoder.schema_of(message(wire(77_000, b""))) == "schema 77000"
    assert decoder.schema_of(message(b"{}")) is None


def test_types_of_other_subjects(registry, wire, message):
    registry.register("place", json.dumps(record(("city", "string"), name="x.Place")))
    number = registry.register(
        "visit",
        json.dumps(record(("place", "x.Place"), ("day", logical("int", "date")), name="x.Visit")),
        references=[Reference("x.Place", "place", 1)],
    )
    decoded = AvroDecoder(registry=registry).decode(message(wire(number, b"\x06Ulm\x02")))
    assert decoded == {"place": {"city": "Ulm"}, "day": "1970-01-02"}


def test_records_look_as_the_reader_wants_them():
    old = record(("id", "int"), ("name", "string"), ("gone", "string"))
    new = {
        "type": "record",
        "name": "R",
        "fields": [
            {"name": "station", "aliases": ["id"], "type": "long"},
            {"name": "name", "type": ["null", "string"], "default": None},
            {"name": "note", "type": "string", "default": "none"},
            {"name": "since", "type": logical("long", "timestamp-millis"), "default": 1000},
            {"name": "day", "type": logical("int", "date"), "default": 1},
            {"name": "at", "type": logical("int", "time-millis"), "default": 1000},
            {"name": "price", "type": PLACES, "default": "\u0005"},
            {"name": "raw", "type": "bytes", "default": "\u00ff"},
        ],
    }
    data = written(old, {"id": 7, "name": "Ulm", "gone": "x"})
    assert decode(old, data, reader_schema=new) == {
        "station": 7,
        "name": "Ulm",
        "note": "none",
        "since": "1970-01-01T00:00:01Z",
        "day": "1970-01-02",
        "at": "00:00:01",
        "price": Decimal("0.005"),
        "raw": "/w==",
    }
    strict = record(("id", "int"), ("temp", "double"))
    with pytest.raises(Undecodable, match="No default value for field temp"):
        decode(old, data, reader_schema=strict)


def test_single_objects_name_their_schema_by_its_fingerprint(message):
    one, two = record(("a", "int")), record(("b", "string"), name="S")
    decoder = AvroDecoder(schema=[one, json.dumps(two)], single_object=True)
    marks = {
        # CRC-64-AVRO of {"name":"R","type":"record","fields":[{"name":"a","type":"int"}]} …
        name: b"\xc3\x01" + _rabin(canonical.encode()).to_bytes(8, "little")
        for name, canonical in {
            "one": '{"name":"R","type":"record","fields":[{"name":"a","type":"int"}]}',
            "two": '{"name":"S","type":"record","fields":[{"name":"b","type":"string"}]}',
        }.items()
    }
    assert decoder.decode(message(marks["one"] + b"\x0e")) == {"a": 7}
    assert decoder.decode(message(marks["two"] + b"\x06Ulm")) == {"b": "Ulm"}
    assert decoder.schema_of(message(marks["one"])) == f"fingerprint {marks['one'][2:].hex()}"
    for value, where, expected in [
        (b"\x0e", "byte 0", "0xc301"),
        (b"\xc3\x01\x00", "bytes 2 to 9", "a fingerprint"),
        (b"\xc3\x01" + bytes(8), "bytes 2 to 9", "one of 2 schemas"),
    ]:
        with pytest.raises(Undecodable) as refusal:
            decoder.decode(message(value))
        assert (refusal.value.where, expected in refusal.value.expected) == (where, True)


def _rabin(data):
    """CRC-64-AVRO as the specification's appendix has it, bit by bit."""
    empty = 0xC15D213AA4D7A795
    value = empty
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (empty if value & 1 else 0)
    return value


def test_what_kafka_connect_says_of_its_types():
    def connect(base, name, **rest):
        return {"type": base, "connect.version": 1, "connect.name": name, **rest}

    scaled = record(("scale", "int"), ("value", "bytes"), name="VariableScaleDecimal")
    scaled["connect.name"] = "io.debezium.data.VariableScaleDecimal"
    schema = record(
        ("micro", ["null", connect("long", "io.debezium.time.MicroTimestamp")]),
        ("milli", connect("long", "io.debezium.time.Timestamp")),
        ("day", connect("int", "io.debezium.time.Date")),
        ("clock", connect("long", "io.debezium.time.MicroTime")),
        ("json", connect("string", "io.debezium.data.Json")),
        ("any", ["null", scaled]),
        ("zoned", connect("string", "io.debezium.time.ZonedTimestamp")),
    )
    value = {
        "micro": 1_500_000,
        "milli": 1_500,
        "day": 19_723,
        "clock": 3_600_000_001,
        "json": "{}",
        "any": {"scale": 2, "value": b"\x00\xde"},
        "zoned": "2024-01-01T00:00:00+01:00",
    }
    assert decode(schema, written(schema, value)) == {
        "micro": "1970-01-01T00:00:01.500000Z",
        "milli": "1970-01-01T00:00:01.500000Z",
        "day": "2024-01-01",
        "clock": "01:00:00.000001",
        "json": "{}",
        "any": Decimal("2.22"),
        "zoned": "2024-01-01T00:00:00+01:00",
    }


def test_unions_of_several_types_and_times_without_a_zone():
    schema = record(
        ("a", ["null", "string", logical("long", "timestamp-micros"), "bytes"]),
        ("b", logical("long", "local-timestamp-millis")),
        ("c", logical("long", "timestamp-nanos")),
        ("d", {"type": "fixed", "name": "F", "size": 2}),
        ("e", logical("long", "no-such-type")),
    )
    stored = record(
        ("a", schema["fields"][0]["type"]),
        ("b", "long"),
        ("c", "long"),
        ("d", schema["fields"][3]["type"]),
        ("e", "long"),
    )
    moment = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    value = {"a": moment, "b": 0, "c": 1_000_000_001, "d": b"ab", "e": 5}
    assert decode(schema, written(stored, value)) == {
        "a": "2024-01-01T00:00:00Z",
        "b": "1970-01-01T00:00:00",
        "c": "1970-01-01T00:00:01.000000001Z",
        "d": "YWI=",
        "e": 5,
    }
    assert decode(schema, written(stored, {**value, "a": b"ab"}))["a"] == "YWI="


def test_decimals_of_fixed_size_within_unions_and_of_any_length():
    fixed = {"type": "fixed", "name": "Money", "size": 4, "logicalType": "decimal", "precision": 9}
    schema = record(("a", ["null", "string", PLACES]), ("b", {**fixed, "scale": 2}), ("c", fixed))
    schema["fields"][2]["type"] = "Money"
    value = {"a": Decimal("1.5"), "b": Decimal("-2.22"), "c": Decimal("3.1")}
    assert decode(schema, written(schema, value)) == value
    assert decode(schema, written(schema, {**value, "a": "text"}))["a"] == "text"
    long = record(("a", PLACES))
    digits = b"\x01" * 512
    exact = int.from_bytes(digits, "big")
    stored = written(record(("a", "bytes")), {"a": digits})
    assert decode(long, stored)["a"] == Decimal(f"{exact // 1000}.{exact % 1000:03d}")
    stored = written(record(("a", "bytes")), {"a": bytes(10_000_000)})  # minutes, were it tried
    with pytest.raises(Undecodable, match="expected a decimal of at most 512 bytes"):
        decode(long, stored)
    with pytest.raises(ValueError, match="a decimal with a scale of -1"):
        AvroDecoder(schema=record(("a", {**PLACES, "scale": -1})))


LINKED = record(("value", "int"), ("next", ["null", "Linked"]), name="Linked")


def test_a_type_within_itself_is_read_and_cannot_exhaust_the_stack():
    value = None
    for n in range(140):
        value = {"value": n, "next": value}
    decoded = decode(LINKED, written(LINKED, value))
    assert decoded["value"] == 139
    assert decoded["next"]["next"]["value"] == 137
    with pytest.raises(Undecodable, match="recursion"):
        decode(LINKED, b"\x00\x02" * 1_000_000 + b"\x00\x00")


def test_elements_without_a_byte_are_refused_since_few_bytes_ask_for_any_number():
    for items in ("null", record(name="E"), {"type": "fixed", "name": "F", "size": 0}):
        schema = record(("a", {"type": "array", "items": items}))
        with pytest.raises(ValueError, match="cannot be read safely"):
            AvroDecoder(schema=schema)


@pytest.mark.parametrize(
    ("data", "where", "got"),
    [
        (b"", "byte 0", ""),
        (written(SCHEMA, READING)[:-1], "byte 12", ""),
        (written(SCHEMA, READING) + b"x", "byte 13", "1 bytes more"),
        (written(SCHEMA, READING)[:-1] + b"\x08", "byte 13", "list index out of range"),
        (b"\x0e" + b"\xfe" * 9 + b"\x01" + bytes(20), "byte 11", ""),
        (None, "message", "no value"),
        ({"station": 1}, "message", "a row"),
    ],
)
def test_refusal_says_where_what_was_expected_and_what_came(data, where, got):
    with pytest.raises(Undecodable) as refusal:
        decode(SCHEMA, data)
    assert refusal.value.where == where
    assert "an Avro record" in refusal.value.expected
    assert got in refusal.value.got
    assert len(str(refusal.value)) < 300


@given(st.binary(max_size=60))
def test_any_bytes_give_a_record_or_a_refusal(data):
    with contextlib.suppress(Undecodable):
        assert isinstance(decode(SCHEMA, data), dict)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({}, "expected a registry or a schema, got neither"),
        ({"schema": "{"}, "expected a schema, got"),
        ({"schema": '{"type": "foo"}'}, "expected a schema, got"),
        ({"schema": '"int"'}, "expected the schema of a record"),
        ({"schema": [LINKED, SCHEMA]}, "expected one schema, got 2"),
        ({"schema": SCHEMA, "times": "days"}, "times: expected 'text' or 'seconds', got 'days'"),
        ({"schema": SCHEMA, "reader_schema": "{"}, "expected a schema, got"),
    ],
)
def test_wrong_arguments(options, text):
    with pytest.raises(ValueError, match=text):
        AvroDecoder(**options)


def test_both_framings_at_once_are_refused(registry):
    with pytest.raises(ValueError, match="got both"):
        AvroDecoder(registry=registry, schema=SCHEMA)
    with pytest.raises(ValueError, match="not single objects"):
        AvroDecoder(registry=registry, single_object=True)


def test_without_the_library_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastavro", None)
    with pytest.raises(IngestError, match=r"pip install 'featureline\[avro\]'"):
        AvroDecoder(schema=SCHEMA)


def test_ids_of_uuid_type_are_text():
    schema = record(("id", logical("string", "uuid")))
    number = uuid.UUID(int=7)
    assert decode(schema, written(schema, {"id": number})) == {"id": str(number)}
