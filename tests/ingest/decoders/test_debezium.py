"""Debezium: what each event does to a record, when, and with which values."""

from __future__ import annotations

import io
import json
from decimal import Decimal

import fastavro
import pytest

from ingest import AvroDecoder, DebeziumDecoder, Deleted, JsonDecoder, Message, Undecodable

SOURCE = {"connector": "postgresql", "ts_ms": 1500, "ts_us": 1_500_250, "db": "shop"}


def event(op, *, before=None, after=None, **rest):
    return {"before": before, "after": after, "source": SOURCE, "op": op, "ts_ms": 2000, **rest}


def decode(value, *, key=None, **options):
    def sent(part):
        return part if part is None or isinstance(part, bytes) else json.dumps(part).encode()

    return DebeziumDecoder(**options).decode(Message("0", 0, sent(value), sent(key)))


@pytest.mark.parametrize("op", ["c", "r", "u"])
def test_an_insert_a_snapshots_row_and_an_update_put_the_row(op):
    row = {"id": 7, "name": "Ulm", "note": None}
    assert decode(event(op, before={"id": 7}, after=row)) == row
    assert decode(event(op, after=row), mapping={"station": "id"}) == {"station": 7}


def test_a_delete_removes_the_row_as_it_was():
    row = {"id": 7, "name": "Ulm", "note": None}
    gone = decode(event("d", before=row), event_time="source")
    assert gone == Deleted({"id": 7, "name": "Ulm"}, "1970-01-01T00:00:01.500250Z")
    gone = decode(event("d", before=row), mapping={"station": "id"})
    assert gone.fields == {"station": 7}


def test_a_delete_without_the_row_is_known_by_its_key():
    assert decode(event("d"), key={"id": 7}).fields == {"id": 7}
    schema = {"type": "struct", "fields": [{"field": "id", "type": "int64"}]}
    assert decode(event("d"), key={"schema": schema, "payload": {"id": 7}}).fields == {"id": 7}
    with pytest.raises(Undecodable, match="before: expected the row as it was, or a key, got neit"):
        decode(event("d"))


@pytest.mark.parametrize(
    ("choice", "times", "when"),
    [
        ("source", "text", "1970-01-01T00:00:01.500250Z"),
        ("source", "seconds", 1.50025),
        ("envelope", "text", "1970-01-01T00:00:02Z"),
    ],
)
def test_the_event_time_is_when_the_change_was_made(choice, times, when):
    options = {"event_time": choice, "times": times}
    assert decode(event("c", after={"id": 7}), **options) == {"id": 7, "event_time": when}
    named = decode(event("c", after={"id": 7}), event_time_field="changed", **options)
    assert named == {"id": 7, "changed": when}
    assert decode(event("d", before={"id": 7}), **options).event_time == when


def test_a_column_as_event_time_dates_no_delete():
    row = {"id": 7, "changed": "2024-01-01T00:00:00Z"}
    assert decode(event("c", after=row)) == row
    assert decode(event("d", before=row)).event_time == "1970-01-01T00:00:01.500250Z"
    without = {"op": "d", "before": {"id": 7}, "ts_ms": 2000}
    assert decode(without).event_time == "1970-01-01T00:00:02Z"
    assert decode({"op": "d", "before": {"id": 7}}).event_time is None


def test_times_that_are_not_told():
    snapshot = event("r", after={"id": 7}, source={**SOURCE, "ts_ms": 0, "ts_us": 0})
    assert decode(snapshot, event_time="source")["event_time"] == "1970-01-01T00:00:02Z"
    bare = {"op": "c", "after": {"id": 7}}
    with pytest.raises(Undecodable, match=r"source.ts_ms: expected when the change was made"):
        decode(bare, event_time="source")
    with pytest.raises(Undecodable, match=r"^ts_ms: expected when the change was made"):
        decode(bare, event_time="envelope")
    far = event("c", after={"id": 7}, source={"ts_ms": 10**18})
    with pytest.raises(Undecodable, match="source time: expected a time, got"):
        decode(far, event_time="source")
    with pytest.raises(Undecodable, match="expected no column of this name"):
        decode(event("c", after={"event_time": 1}), event_time="source")


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"schema": None, "payload": None},
        {"ts_ms": 1},
        {"ts_ms": 1, "ts_us": 1, "ts_ns": 1},
        {"status": "BEGIN", "id": "571", "event_count": None, "data_collections": None},
        {"source": SOURCE, "databaseName": "shop", "ddl": "CREATE TABLE t (id INT)"},
        {"source": SOURCE, "ts_ms": 1, "tableChanges": []},
        {"op": "m", "ts_ms": 1, "source": SOURCE, "message": {"prefix": "p", "content": ""}},
    ],
    ids=[
        "tombstone",
        "its schema",
        "heartbeat",
        "heartbeat in three units",
        "transaction",
        "schema change",
        "schema change by tables",
        "logical message",
    ],
)
def test_what_concerns_no_record(value):
    assert decode(value) is None


@pytest.mark.parametrize(
    ("value", "where", "expected", "got"),
    [
        (event("t"), "op", "a change of one row", "truncated"),
        (event("x"), "op", "one of c, r, u, d, t and m", "'x'"),
        (event("c"), "after", "the row", "None"),
        ({"id": 7}, "message", "a change event", "is it flattened"),
        ({}, "message", "a change event", "an object"),
        ({"schema": None, "payload": 3}, "payload", "an object", "3"),
        ({"schema": 3, "payload": {}}, "schema", "a schema of Kafka Connect", ""),
        (b"{", "line 1, column 2", "JSON", ""),
    ],
)
def test_refusal_says_where_what_was_expected_and_what_came(value, where, expected, got):
    with pytest.raises(Undecodable) as refusal:
        decode(value)
    assert refusal.value.where == where
    assert expected in refusal.value.expected
    assert got in refusal.value.got
    assert len(str(refusal.value)) < 300


COLUMNS = [
    # Type as JSON has it, the schema's name, parameters, value, what it is to become.
    ("int32", "io.debezium.time.Date", None, 19_723, "2024-01-01"),
    ("int32", "io.debezium.time.Time", None, 3_600_000, "01:00:00"),
    ("int64", "io.debezium.time.MicroTime", None, 3_600_000_001, "01:00:00.000001"),
    ("int64", "io.debezium.time.NanoTime", None, 1_000, "00:00:00.000001"),
    ("int64", "io.debezium.time.Timestamp", None, 1_500, "1970-01-01T00:00:01.500000Z"),
    ("int64", "io.debezium.time.MicroTimestamp", None, -1, "1969-12-31T23:59:59.999999Z"),
    ("int64", "io.debezium.time.NanoTimestamp", None, 1, "1970-01-01T00:00:00.000000001Z"),
    ("string", "io.debezium.time.ZonedTimestamp", None, "2024-01-01T00:00:00Z",
     "2024-01-01T00:00:00Z"),
    ("int64", "io.debezium.time.MicroDuration", None, 1_500_000, 1.5),
    ("int32", "io.debezium.time.Year", None, 2024, 2024),
    ("int32", "org.apache.kafka.connect.data.Date", None, 19_723, "2024-01-01"),
    ("int32", "org.apache.kafka.connect.data.Time", None, 1, "00:00:00.001000"),
    ("int64", "org.apache.kafka.connect.data.Timestamp", None, 0, "1970-01-01T00:00:00Z"),
    ("bytes", "org.apache.kafka.connect.data.Decimal", {"scale": "2"}, "AN4=", Decimal("2.22")),
    ("bytes", "org.apache.kafka.connect.data.Decimal", {"scale": "0"}, "/w==", Decimal(-1)),
    ("struct", "io.debezium.data.VariableScaleDecimal", None, {"scale": 1, "value": "Fg=="},
     Decimal("2.2")),
    ("string", "io.debezium.data.Json", None, '{"a": 1}', '{"a": 1}'),
    ("string", "io.debezium.data.Uuid", None, "a-b", "a-b"),
    ("double", None, None, 2.5, 2.5),
]  # fmt: skip


def with_schema(value):
    fields = [{"field": "id", "type": "int32", "optional": False}]
    row = {"id": 7}
    for number, (kind, name, parameters, given, _) in enumerate(COLUMNS):
        column = {"field": f"c{number}", "type": kind, "optional": True, "version": 1}
        if kind == "struct":
            column["fields"] = [
                {"field": "scale", "type": "int32"},
                {"field": "value", "type": "bytes"},
            ]
        column |= {"name": name} if name else {}
        column |= {"parameters": parameters} if parameters else {}
        fields.append(column)
        row[f"c{number}"] = given
    schema = {
        "type": "struct",
        "name": "shop.items.Envelope",
        "fields": [
            {"type": "struct", "fields": fields, "optional": True, "field": "before"},
            {"type": "struct", "fields": fields, "optional": True, "field": "after"},
            {"type": "string", "field": "op"},
        ],
    }
    return {"schema": schema, "payload": value(row)}


PLAIN = {"id": 7} | {f"c{number}": column[-1] for number, column in enumerate(COLUMNS)}


@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": ")], ids=["compact", "spaced"])
def test_the_schema_in_a_message_says_what_its_values_are(separators):
    decoder = DebeziumDecoder()

    def sent(value):
        return Message("0", 0, json.dumps(value, separators=separators).encode())

    put = with_schema(lambda row: event("c", after=row))
    for _ in range(3):  # the first reads the schema, the others know it
        assert decoder.decode(sent(put)) == PLAIN
    empty = with_schema(lambda row: event("u", after=dict.fromkeys(row)))
    assert decoder.decode(sent(empty)) == dict.fromkeys(PLAIN)
    gone = with_schema(lambda row: event("d", before=row))
    assert decoder.decode(sent(gone)).fields == PLAIN
    assert decoder.decode(sent({**put, "payload": None})) is None


def test_known_schemas_do_not_hide_what_follows_the_payload():
    decoder = DebeziumDecoder()
    put = json.dumps(with_schema(lambda row: event("c", after=row)), separators=(",", ":")).encode()
    assert decoder.decode(Message("0", 0, put)) == PLAIN
    for damaged, what in [
        (put[:-1], "JSON"),
        (put + b"}", "JSON"),
        (put[:-1] + b',"payload":{}}', "each name once"),
        (put[:-1] + b',"more":{}}', "a change event"),
    ]:
        with pytest.raises(Undecodable, match=what):
            decoder.decode(Message("0", 0, damaged))


def test_many_schemas_side_by_side():
    decoder = DebeziumDecoder()
    for _ in range(2):
        for number in range(40):
            column = {"field": f"c{number}", "type": "int32", "name": "io.debezium.time.Date"}
            schema = {"fields": [{"field": "after", "type": "struct", "fields": [column]}]}
            put = {"schema": schema, "payload": event("c", after={f"c{number}": number})}
            value = json.dumps(put, separators=(",", ":")).encode()
            decoded = decoder.decode(Message("0", 0, value))
            assert decoded == {f"c{number}": f"1970-{1 + number // 31:02d}-{1 + number % 31:02d}"}


def test_types_may_be_named_where_messages_have_no_schema():
    types = {
        "at": "io.debezium.time.MicroTimestamp",
        "price": "org.apache.kafka.connect.data.Decimal(2)",
        "kind": "io.debezium.data.Enum",
    }
    row = {"at": 1, "price": "AN4=", "kind": "new"}
    assert decode(event("c", after=row), types=types, times="seconds") == {
        "at": 1e-06,
        "price": Decimal("2.22"),
        "kind": "new",
    }
    with pytest.raises(Undecodable, match=r"at: expected a value of io.*got 'x': expected a whole"):
        decode(event("c", after={"at": "x"}), types=types)
    with pytest.raises(Undecodable, match=r"price: expected a value of .*Decimal\(2\), got '='"):
        decode(event("c", after={"price": "="}), types=types)
    with pytest.raises(ValueError, match="expected a parameter scale, got None"):
        DebeziumDecoder(types={"price": "org.apache.kafka.connect.data.Decimal"})


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("io.debezium.data.VariableScaleDecimal", {"scale": 10**30, "value": "AN4="}),
        ("io.debezium.data.VariableScaleDecimal", {"value": "AN4="}),
        ("io.debezium.data.VariableScaleDecimal", {"scale": "1", "value": "AN4="}),
        ("org.apache.kafka.connect.data.Decimal(0)", 7),
        ("io.debezium.time.Date", 10**15),
        ("io.debezium.time.Date", "2024-01-01"),
        ("io.debezium.time.MicroTime", -1),
        ("io.debezium.time.NanoTimestamp", 10**30),
        ("io.debezium.time.MicroDuration", 10**400),
        ("io.debezium.time.MicroDuration", "1"),
    ],
)
def test_a_value_that_is_none_of_its_type_is_refused(kind, value):
    with pytest.raises(Undecodable, match=r"^c: expected a value of (io|org)"):
        decode(event("c", after={"c": value}), types={"c": kind})


def test_nested_values_are_read_by_their_schema():
    day = {"type": "int32", "name": "io.debezium.time.Date"}
    columns = [
        {"field": "days", "type": "array", "items": day},
        {"field": "by_name", "type": "map", "keys": {"type": "string"}, "values": day},
        {"field": "span", "type": "struct", "fields": [{**day, "field": "from"}]},
        {"field": "plain", "type": "array", "items": {"type": "int32"}},
    ]
    schema = {"type": "struct", "fields": [{"field": "after", "type": "struct", "fields": columns}]}
    row = {"days": [0, None], "by_name": {"a": 1}, "span": {"from": 2}, "plain": [1]}
    assert decode({"schema": schema, "payload": event("c", after=row)}) == {
        "days": ["1970-01-01", None],
        "by_name": {"a": "1970-01-02"},
        "span": {"from": "1970-01-03"},
        "plain": [1],
    }


def test_a_value_that_was_not_sent_is_not_taken_for_one():
    row = {"id": 7, "text": "__debezium_unavailable_value"}
    with pytest.raises(Undecodable, match=r"text: expected the column's value.*REPLICA IDENTITY"):
        decode(event("u", after=row))
    assert decode(event("u", after=row), mapping={"id": "id"}) == {"id": 7}
    assert decode(event("d", before=row)).fields == {"id": 7}


def test_flattened_events():
    row = {"id": 7, "name": "Ulm"}
    extra = {"__deleted": "false", "__op": "u", "__source_ts_ms": 1500, "__ts_ms": 2000}
    options = {"unwrapped": True, "event_time": "source"}
    put = {**row, "event_time": "1970-01-01T00:00:01.500000Z"}
    assert decode({**row, **extra}, **options) == put
    assert decode(row, unwrapped=True) == row
    assert decode({**row, **extra}, unwrapped=True, mapping={"x": "__op", "id": "id"}) == {
        "x": "u",
        "id": 7,
    }
    for mark in ({"__deleted": "true"}, {"__deleted": True}, {"__op": "d"}):
        gone = decode({"id": 7, "name": None, **extra, **mark}, **options)
        assert gone == Deleted({"id": 7}, "1970-01-01T00:00:01.500000Z")
    assert decode(None, **options) is None
    with pytest.raises(Undecodable, match="__op: expected a change of one row"):
        decode({"__op": "t"}, unwrapped=True)
    with pytest.raises(Undecodable, match=r"__source_ts_ms: .*add.fields"):
        decode(row, **options)


def test_flattened_events_with_a_schema():
    schema = {
        "type": "struct",
        "fields": [
            {"field": "id", "type": "int32"},
            {"field": "day", "type": "int32", "name": "io.debezium.time.Date"},
        ],
    }
    flat = {"schema": schema, "payload": {"id": 7, "day": 1}}
    assert decode(flat, unwrapped=True) == {"id": 7, "day": "1970-01-02"}


AVRO_ROW = {
    "type": "record",
    "name": "Value",
    "fields": [
        {"name": "id", "type": "long"},
        {
            "name": "at",
            "type": [
                "null",
                {"type": "long", "connect.name": "io.debezium.time.MicroTimestamp"},
            ],
        },
    ],
}
AVRO_ENVELOPE = {
    "type": "record",
    "name": "Envelope",
    "namespace": "shop.items",
    "fields": [
        {"name": "before", "type": ["null", AVRO_ROW]},
        {"name": "after", "type": ["null", "Value"]},
        {
            "name": "source",
            "type": {
                "type": "record",
                "name": "Source",
                "fields": [{"name": "ts_ms", "type": "long"}],
            },
        },
        {"name": "op", "type": "string"},
        {"name": "ts_ms", "type": ["null", "long"]},
    ],
}
AVRO_KEY = {"type": "record", "name": "Key", "fields": [{"name": "id", "type": "long"}]}


def test_events_in_avro_with_their_keys(registry, wire):
    def sent(number, schema, value):
        data = io.BytesIO()
        fastavro.schemaless_writer(data, fastavro.parse_schema(schema), value)
        return wire(number, data.getvalue())

    of_value = registry.register("shop.items-value", json.dumps(AVRO_ENVELOPE))
    of_key = registry.register("shop.items-key", json.dumps(AVRO_KEY))
    decoder = DebeziumDecoder(inner=AvroDecoder(registry=registry), event_time="source")
    common = {"before": None, "after": None, "source": {"ts_ms": 1500}, "ts_ms": None}
    put = {**common, "op": "c", "after": {"id": 7, "at": 1_000_000}}
    key = sent(of_key, AVRO_KEY, {"id": 7})
    value = Message("0", 0, sent(of_value, AVRO_ENVELOPE, put), key)
    assert decoder.decode(value) == {
        "id": 7,
        "at": "1970-01-01T00:00:01Z",
        "event_time": "1970-01-01T00:00:01.500000Z",
    }
    assert decoder.schema_of(value) == f"schema {of_value} (shop.items-value version 1)"
    gone = Message("0", 1, sent(of_value, AVRO_ENVELOPE, {**common, "op": "d"}), key)
    assert decoder.decode(gone) == Deleted({"id": 7}, "1970-01-01T00:00:01.500000Z")
    assert decoder.decode(Message("0", 2, None, key)) is None
    with pytest.raises(Undecodable, match=r"key.*|schema id"):
        decoder.decode(gone._replace(key=b"\0\0\0\x7f\xff"))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="event_time: expected 'source', 'envelope' or None"):
        DebeziumDecoder(event_time="now")
    with pytest.raises(ValueError, match="expected it at the outer decoder"):
        DebeziumDecoder(inner=JsonDecoder({"a": "b"}))
    with pytest.raises(ValueError, match="times: expected"):
        DebeziumDecoder(times="days")
