"""Coding by the column gives what coding row by row gives, errors too."""

from __future__ import annotations

import datetime as dt
import math
import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import FeatureGroup, FeatureNotFound, arrowtime, eventtime, feature_definitions
from featurestore.arrowcode import Encoded, check_records, encode_batch
from featurestore.arrowwalk import walk
from featurestore.convert import (
    check_message,
    checked_size,
    decode_record,
    encode_record,
    records_to_columns,
    table_to_records,
)
from featurestore.errors import InvalidRecord
from featurestore.feature import CollectionType, FeatureDefinition, FeatureType
from featurestore.record import FUTURE_TOLERANCE_US, MAX_RECORD_BYTES, check
from featurestore.v1 import record_pb2

NOW = 1_700_000_000_000_000
MANY = 40  # so many records are walked over; fewer are parsed
KINDS = ("String", "Integral", "Fractional")
int64 = st.integers(-(2**63), 2**63 - 1)
near_int64 = int64 | st.integers(-300, 300) | st.sampled_from([2**k for k in range(0, 63, 7)])
floats = st.floats() | st.integers(-5, 5).map(float) | st.sampled_from([-0.0, 2.0**63, -(2.0**63)])
iso_times = st.sampled_from(
    [
        "2013-01-01T06:00:00Z",
        "2013-01-01T06:00:00.5Z",
        "2013-01-01T06:00:00.123456789Z",
        "2013-01-01T06:00:00+02:00",
        "2012-02-29T23:59:59Z",
        "2013-02-29T06:00:00Z",
        "0000-01-01T00:00:00Z",
        "9999-12-31T23:59:59.999999Z",
        "2013-13-01T06:00:00Z",
        "2013-01-01T24:00:00Z",
        "2013-01-01T06:00:00",
        "2013-01-01 06:00:00Z",
        "2013-01-01T06:00:0éZ",
        "2099-01-01T06:00:00Z",
        "",
    ]
)


def group_of(
    identifier: str = "String", time: str = "String", *, name: str = "weather"
) -> FeatureGroup:
    return FeatureGroup(
        name,
        record_identifier="id",
        event_time="at",
        features=(
            *feature_definitions([("id", identifier), ("at", time)]),
            *feature_definitions([("text", "String"), ("count", "Integral")]),
            *feature_definitions([("temp", "Fractional")]),
            FeatureDefinition("tags", FeatureType.STRING, CollectionType.LIST),
        ),
    )


GROUPS = [group_of(identifier, time) for identifier in KINDS for time in ("String", "Fractional")]


def slowly(group: FeatureGroup, batch: pa.RecordBatch) -> Encoded:
    """What record by record makes of a batch."""
    rows, identifiers, times, records, refused = [], [], [], [], []
    for row, values in enumerate(table_to_records(group, batch)):
        try:
            checked = check(group, values, now=NOW, tolerance_us=FUTURE_TOLERANCE_US)
            data = checked_size(group, encode_record(checked.values, group.collections))
        except InvalidRecord as error:
            refused.append((row, error))
        else:
            rows.append(row)
            identifiers.append(checked.identifier.encode())
            times.append(checked.event_time_us)
            records.append(data)
    return Encoded(np.array(rows, np.int64), identifiers, np.array(times), records, refused)


def assert_equal(encoded: Encoded, expected: Encoded) -> None:
    assert encoded.rows.tolist() == expected.rows.tolist()
    assert encoded.identifiers == expected.identifiers
    assert encoded.event_times_us.tolist() == expected.event_times_us.tolist()
    assert encoded.records == expected.records
    assert [row for row, _ in encoded.refused] == [row for row, _ in expected.refused]
    for (_, got), (_, wanted) in zip(encoded.refused, expected.refused, strict=True):
        assert (type(got), got.message, got.facts) == (type(wanted), wanted.message, wanted.facts)


def encode(group: FeatureGroup, batch: pa.RecordBatch) -> Encoded:
    return encode_batch(group, batch, now=NOW, tolerance_us=FUTURE_TOLERANCE_US)


# -- columns of every type --------------------------------------------------------------------


@st.composite
def columns(draw, rows: int) -> pa.Array:
    """A column of any type that a loader may bring."""

    def values(strategy):
        return draw(st.lists(st.none() | strategy, min_size=rows, max_size=rows))

    text = st.text(max_size=5) | iso_times | st.sampled_from(["1", "2.0", "-3.5", "é" * 70])
    kind = draw(st.integers(0, 13))
    if kind == 0:
        return pa.array(values(near_int64), pa.int64())
    if kind == 1:
        return pa.array(values(st.integers(-128, 127)), pa.int8())
    if kind == 2:
        return pa.array(values(st.integers(0, 2**64 - 1)), pa.uint64())
    if kind == 3:
        return pa.array(values(floats), pa.float64())
    if kind == 4:
        return pa.array(values(st.floats(width=32)), pa.float32())
    if kind in (5, 6):
        return pa.array(values(text), pa.string())
    if kind == 7:
        return pa.array(values(text), pa.large_string())
    if kind == 8:
        return pa.array(values(text), pa.string()).dictionary_encode()
    if kind == 9:
        return pa.array(values(st.booleans()), pa.bool_())
    if kind == 10:
        numbers = st.decimals("-1000", "1000", places=2)
        return pa.array(values(numbers), pa.decimal128(10, 2))
    if kind == 11:
        return pa.nulls(rows)
    if kind == 12:
        return pa.array(values(st.floats(width=16)), pa.float16())
    return pa.array(values(st.binary(max_size=3)), pa.binary())


@st.composite
def time_columns(draw, rows: int) -> pa.Array:
    unit = draw(st.sampled_from(["s", "ms", "us", "ns", None]))
    if unit is None:
        return draw(columns(rows))
    scale = {"s": 10**6, "ms": 10**3, "us": 1, "ns": 0.001}[unit]
    moments = st.integers(int(-63e15 / scale), int(254e15 / scale)) | st.integers(
        0, int(NOW / scale)
    )
    moments = moments.filter(lambda count: -(2**63) <= count < 2**63)
    counts = draw(st.lists(st.none() | moments | int64, min_size=rows, max_size=rows))
    return pa.array(counts, pa.int64()).cast(pa.timestamp(unit, "UTC"))


@st.composite
def batches(draw) -> pa.RecordBatch:
    rows = draw(st.integers(0, 6))
    plain_ids = pa.array([f"id-{n}" for n in range(rows)], pa.string())
    plain_times = pa.array(["2013-01-01T06:00:00Z"] * rows, pa.string())
    made = {
        "id": draw(st.just(plain_ids) | columns(rows)),
        "at": draw(st.just(plain_times) | time_columns(rows)),
    }
    made |= {name: draw(columns(rows)) for name in ("text", "count", "temp", "tags")}
    names = draw(st.permutations(sorted(made)))
    names = names[: draw(st.integers(1, len(names)) | st.just(len(names)))]
    batch = pa.record_batch({name: made[name] for name in names})
    return batch.slice(draw(st.integers(0, rows)))


@given(st.sampled_from(GROUPS), batches())
def test_a_batch_is_encoded_as_its_records_are(group, batch):
    assert_equal(encode(group, batch), slowly(group, batch))


@st.composite
def fitting_batches(draw, group: FeatureGroup) -> pa.RecordBatch:
    """Mostly right values: the way past all checks."""
    rows = draw(st.integers(1, 8))

    def array(strategy, kind):
        return pa.array(draw(st.lists(strategy, min_size=rows, max_size=rows)), kind)

    def feature(kind: FeatureType):
        if kind is FeatureType.STRING:
            text = st.text(max_size=4) | st.integers(100, 140).map("x".__mul__)
            return array(st.none() | text, pa.string())
        if kind is FeatureType.INTEGRAL:
            return array(st.none() | near_int64, pa.int64())
        return array(st.none() | floats, pa.float64())

    identifier = {
        FeatureType.STRING: lambda: array(st.text(min_size=1, max_size=3), pa.string()),
        FeatureType.INTEGRAL: lambda: array(near_int64, pa.int64()),
        FeatureType.FRACTIONAL: lambda: array(floats, pa.float64()),
    }[group.types["id"]]()
    if group.types["at"] is FeatureType.STRING:
        moment = array(iso_times, pa.string())
    else:
        moment = array(st.floats(-1e9, 2e9), pa.float64())
    made = {"id": identifier, "at": moment}
    made |= {name: feature(group.types[name]) for name in ("text", "count", "temp")}
    return pa.record_batch({name: made[name] for name in draw(st.permutations(sorted(made)))})


@given(st.data(), st.sampled_from(GROUPS))
def test_a_batch_that_fits_is_encoded_as_its_records_are(data, group):
    batch = data.draw(fitting_batches(group))
    assert_equal(encode(group, batch), slowly(group, batch))


def test_a_large_batch_without_a_refusal():
    rows = 3000
    draw = random.Random(1)
    batch = pa.record_batch(
        {
            "at": ["2013-01-01T06:00:00.25Z", "2013-01-01T06:00:00Z"] * (rows // 2),
            "id": pa.array([f"id-{n}" for n in range(rows)]),
            "text": pa.array(["é" * draw.randrange(200) for _ in range(rows)], pa.large_string()),
            "count": pa.array([draw.getrandbits(64) - 2**63 for _ in range(rows)], pa.int64()),
            "temp": [draw.choice([1.5, None, math.nan, -math.inf]) for _ in range(rows)],
        }
    )
    group = group_of()
    encoded = encode(group, batch)
    assert_equal(encoded, slowly(group, batch))
    assert len(encoded.records) == rows
    read = records_to_columns(group, encoded.records)
    assert read["text"].to_pylist() == batch["text"].to_pylist()
    assert read["count"].to_pylist() == batch["count"].to_pylist()
    assert len(walk(group.scalars, encoded.records).left) == 0


@pytest.mark.parametrize(
    "columns",
    [
        {"id": pa.array(["a"]), "nothing": pa.array([1])},
        {"id": pa.array(["a"]), "at": pa.array([1], pa.timestamp("us"))},
        {"id": pa.array(["a"]), "text": pa.array([1], pa.timestamp("us", "UTC"))},
        {"id": pa.array([b"\xff"]).view(pa.string()), "at": pa.array(["2013-01-01T06:00:00Z"])},
    ],
)
def test_a_column_that_cannot_be_is_refused_with_the_same_words(columns):
    batch = pa.record_batch(columns)
    with pytest.raises((InvalidRecord, FeatureNotFound)) as wanted:
        slowly(group_of(), batch)
    with pytest.raises(type(wanted.value)) as got:
        encode(group_of(), batch)
    assert (got.value.message, got.value.facts) == (wanted.value.message, wanted.value.facts)


def test_a_column_given_twice_is_refused():
    batch = pa.RecordBatch.from_arrays([pa.array(["a"]), pa.array(["b"])], ["id", "id"])
    with pytest.raises(InvalidRecord, match="given twice"):
        encode(group_of(), batch)


def test_text_that_is_no_utf8_is_refused_wherever_it_is():
    texts = pa.array([b"ok", b"\xff"]).view(pa.string())
    batch = pa.record_batch({"text": texts, "id": ["a", "b"], "at": ["2013-01-01T06:00:00Z"] * 2})
    with pytest.raises(InvalidRecord, match="expected text in UTF-8"):
        encode(group_of(), batch)
    assert encode(group_of(), batch.slice(0, 1)).identifiers == [b"a"]


def test_no_rows_and_no_columns():
    nothing = pa.record_batch({"id": pa.array([], pa.string())})
    assert encode(group_of(), nothing).records == []
    assert encode(group_of(), pa.record_batch({})).records == []


def test_limits_of_size():
    long = "x" * (MAX_RECORD_BYTES - 100)
    batch = pa.record_batch(
        {
            "id": ["a", "b", "x" * 2048, "x" * 2049],
            "at": ["2013-01-01T06:00:00Z"] * 4,
            "text": [long, long + "x" * 100, "", ""],
        }
    )
    encoded = encode(group_of(), batch)
    assert encoded.rows.tolist() == [0, 2]
    assert_equal(encoded, slowly(group_of(), batch))


def test_a_batch_too_large_for_one_look_is_cut(monkeypatch):
    monkeypatch.setattr("featurestore.arrowcode._MAX_BATCH_BYTES", 200)
    batch = pa.record_batch(
        {
            "id": pa.array(["a", "b", None, "c", "d"]),
            "at": ["2013-01-01T06:00:00Z"] * 5,
            "text": pa.array(["x" * 90, "y", "x" * 90, "", None]).dictionary_encode(),
        }
    )
    assert_equal(encode(group_of(), batch), slowly(group_of(), batch))


def test_decimals_and_dates_go_the_slow_way():
    batch = pa.record_batch(
        {
            "id": ["a", "b"],
            "at": ["2013-01-01T06:00:00Z"] * 2,
            "count": pa.array([Decimal("3.00"), Decimal("3.50")]),
            "text": pa.array([None, None], pa.date32()),
        }
    )
    encoded = encode(group_of(), batch)
    assert_equal(encoded, slowly(group_of(), batch))
    assert decode_record(encoded.records[0])["count"] == 3


def test_collections_of_a_batch():
    batch = pa.record_batch(
        {
            "id": ["a", "b", "c", "d"],
            "at": ["2013-01-01T06:00:00Z"] * 4,
            "tags": pa.array([["x", "y"], [], None, ["z", None]]),
        }
    )
    encoded = encode(group_of(), batch)
    assert_equal(encoded, slowly(group_of(), batch))
    assert encoded.rows.tolist() == [0, 1, 2]


# -- event times ------------------------------------------------------------------------------


@given(
    st.lists(
        iso_times
        | st.integers(eventtime.MIN_US, eventtime.MAX_US).map(eventtime.format_iso)
        | st.from_regex(r"[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9]:[0-6][0-9]Z\Z"),
        max_size=8,
    )
)
def test_iso_texts_are_parsed_alike(texts):
    data = [text.encode() for text in texts]
    offsets = np.cumsum([0, *map(len, data)]).astype(np.int64)
    moments = arrowtime.parse_iso(np.frombuffer(b"".join(data), np.uint8), offsets)
    for text, us, known in zip(texts, moments.us.tolist(), moments.known.tolist(), strict=True):
        try:
            expected = eventtime.parse_iso(text)
        except ValueError:
            expected = None
        if known:
            assert us == expected, text
        else:  # left to the other, which takes offsets
            assert expected is None or not text.endswith("Z"), text


@given(st.lists(st.integers(eventtime.MIN_US, eventtime.MAX_US), min_size=1, max_size=8))
def test_iso_texts_are_written_alike(moments):
    matrix, lengths = arrowtime.format_iso(np.array(moments, np.int64))
    written = [bytes(row[:n]).decode() for row, n in zip(matrix, lengths.tolist(), strict=True)]
    assert written == [eventtime.format_iso(us) for us in moments]


@given(st.lists(st.floats() | st.floats(-7e10, 3e11), min_size=1, max_size=8))
def test_unix_seconds_are_rounded_alike(seconds):
    moments = arrowtime.parse_fractional(np.array(seconds))
    for number, us, known in zip(seconds, moments.us.tolist(), moments.known.tolist(), strict=True):
        try:
            expected = eventtime.parse_fractional(number)
        except ValueError:
            expected = None
        assert (us if known else None) == expected


def test_every_day_of_four_centuries():
    start = dt.date(1900, 1, 1).toordinal() - dt.date(1970, 1, 1).toordinal()
    us = np.arange(start, start + 146_097) * 86_400_000_000
    matrix, lengths = arrowtime.format_iso(us)
    assert (lengths == 20).all()
    text = matrix[:, :20].reshape(-1)
    offsets = np.arange(0, len(text) + 1, 20)
    moments = arrowtime.parse_iso(text, offsets)
    assert moments.known.all()
    assert (moments.us == us).all()
    assert bytes(text[:20]) == b"1900-01-01T00:00:00Z"


# -- reading records --------------------------------------------------------------------------

messages = st.one_of(
    st.builds(lambda v: record_pb2.Value(string_value=v), st.text(max_size=4)),
    st.builds(lambda n: record_pb2.Value(string_value="x" * n), st.integers(90, 140)),
    st.builds(lambda v: record_pb2.Value(integral_value=v), near_int64),
    st.builds(lambda v: record_pb2.Value(fractional_value=v), floats),
    st.just(record_pb2.Value()),
    st.builds(
        lambda v: record_pb2.Value(string_list=record_pb2.StringList(values=v)),
        st.lists(st.text(max_size=2), max_size=2),
    ),
)


def record_of(entries: list[tuple[str, record_pb2.Value]]) -> bytes:
    record = record_pb2.Record()
    for name, value in entries:
        record.values.add(feature_name=name, value=value)
    return record.SerializeToString()


fitting = {
    "id": st.builds(lambda v: record_pb2.Value(string_value=v), st.text(max_size=3)),
    "at": st.builds(lambda v: record_pb2.Value(string_value=v), iso_times),
    "text": st.builds(lambda n: record_pb2.Value(string_value="é" * n), st.integers(0, 90)),
    "count": st.builds(lambda v: record_pb2.Value(integral_value=v), near_int64),
    "temp": st.builds(lambda v: record_pb2.Value(fractional_value=v), floats),
}


@st.composite
def any_records(draw) -> list[bytes]:
    """Records of producers with orders of their own, and some that keep no rule."""
    some = draw(
        st.lists(
            st.lists(
                st.sampled_from(sorted(fitting)).flatmap(
                    lambda name: st.tuples(st.just(name), fitting[name])
                ),
                max_size=6,
            )
            | st.permutations(sorted(fitting)).flatmap(
                lambda names: st.tuples(
                    *(st.tuples(st.just(name), fitting[name]) for name in names)
                )
            ),
            min_size=1,
            max_size=4,
        )
    )
    odd = draw(
        st.lists(
            st.lists(st.tuples(st.sampled_from([*fitting, "tags"]), messages), max_size=4),
            max_size=2,
        )
    )
    records = [record_of(list(entries)) for entries in some] * MANY
    for entries in odd:
        place = draw(st.integers(0, len(records)))
        records.insert(place, record_of([e for e in entries if _reads(*e)]))
    return records


def _reads(name: str, value: record_pb2.Value) -> bool:
    """Whether the parser's way can make a column of it: a collection is no text."""
    return (name == "tags") == (value.WhichOneof("kind") == "string_list")


def parsed(group: FeatureGroup, records: list[bytes]) -> dict[str, list[object]]:
    """What the parser reads, feature by feature: an unset value of a scalar is its type's zero."""
    zeros = {FeatureType.STRING: "", FeatureType.INTEGRAL: 0, FeatureType.FRACTIONAL: 0.0}
    fields = {
        FeatureType.STRING: "string_value",
        FeatureType.INTEGRAL: "integral_value",
        FeatureType.FRACTIONAL: "fractional_value",
    }
    found: dict[str, list[object]] = {name: [None] * len(records) for name in group.types}
    for row, data in enumerate(records):
        for entry in record_pb2.Record.FromString(data).values:
            name, kind = entry.feature_name, group.scalars.get(entry.feature_name)
            if kind is None:
                found[name][row] = list(entry.value.string_list.values)
            else:
                has = entry.value.HasField(fields[kind])
                found[name][row] = getattr(entry.value, fields[kind]) if has else zeros[kind]
    return found


def same(got: object, wanted: object) -> bool:
    if isinstance(wanted, float) and isinstance(got, float):
        return math.copysign(1, got) == math.copysign(1, wanted) and (
            got == wanted or (math.isnan(got) and math.isnan(wanted))
        )
    return type(got) is type(wanted) and got == wanted


@given(any_records())
def test_records_are_read_as_the_parser_reads_them(records):
    group = group_of()
    columns = records_to_columns(group, records)
    wanted = parsed(group, records)
    assert list(columns) == list(group.types)
    for name, column in columns.items():
        for got, expected in zip(column.to_pylist(), wanted[name], strict=True):
            assert same(got, expected), (name, got, expected)


@given(any_records(), st.lists(st.sampled_from(sorted(fitting)), unique=True))
def test_only_the_features_that_are_asked_for(records, names):
    group = group_of()
    columns = records_to_columns(group, records, names)
    every = records_to_columns(group, records)
    assert list(columns) == names
    for name in names:
        assert str(columns[name].to_pylist()) == str(every[name].to_pylist())


def test_an_unknown_feature_is_passed_over_only_when_names_are_given():
    record = record_of([("later", record_pb2.Value(string_value="x"))])
    for records in ([record], [record] * MANY):
        assert records_to_columns(group_of(), records, ["text"])["text"].null_count == len(records)
        with pytest.raises(KeyError):
            records_to_columns(group_of(), records)


def test_records_of_many_producers_are_all_walked_over():
    draw = random.Random(3)
    values = {
        "id": "a",
        "at": "2013-01-01T06:00:00Z",
        "text": "x" * 200,
        "count": -7,
        "temp": 1.5,
    }
    orders = [draw.sample(sorted(values), 5) for _ in range(3)]
    records = []
    for _ in range(3000):
        names = draw.choice(orders)
        kept = [name for name in names if name == "id" or draw.random() < 0.7]
        records.append(encode_record({name: values[name] for name in kept}))
    walked = walk(group_of().scalars, records)
    assert len(walked.left) < 100
    for row, record in enumerate(records):
        if row not in walked.left:
            read = {name: column[row].as_py() for name, column in walked.columns.items()}
            assert {k: v for k, v in read.items() if v is not None} == decode_record(record)


def varint(number: int, width: int = 0) -> bytes:
    """A varint, longer than it needs to be where `width` says so."""
    parts = []
    while number > 0x7F or len(parts) + 1 < width:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


@given(
    st.integers(0, 2**64 - 1),
    *(st.integers(0, 10) for _ in range(3)),
    st.sampled_from([b"", b"\x08\x01", b"\x12\x00"]),
)
def test_numbers_in_a_longer_form_than_they_need(number, first, second, third, more):
    number_bytes = varint(number, third)
    value = b"\x10" + number_bytes
    entry = b"\x0a\x05count\x12" + varint(len(value), min(second, 5)) + value
    record = b"\x0a" + varint(len(entry), min(first, 5)) + entry + more
    wanted = parsed(group_of(), [record])
    for records in ([record], [record] * MANY, [record, b""] * MANY):
        columns = records_to_columns(group_of(), records)
        assert columns["count"][0].as_py() == wanted["count"][0]
        assert columns["count"].null_count == records.count(b"")


@given(st.binary(max_size=30), st.integers(0, 60))
def test_damaged_records_are_left_to_the_parser(noise, place):
    whole = record_of(
        [
            ("id", record_pb2.Value(string_value="abc")),
            ("count", record_pb2.Value(integral_value=5)),
        ]
    )
    damaged = whole[:place] + noise + whole[place + len(noise) :]
    records = [whole, damaged] * MANY
    walked = walk(group_of().scalars, records)
    for row, record in enumerate(records[:2]):
        if row in walked.left:
            continue
        message = record_pb2.Record.FromString(record)  # what was read is a record
        read = {name: column[row].as_py() for name, column in walked.columns.items()}
        found = {entry.feature_name: entry.value for entry in message.values}
        assert {name for name, value in read.items() if value is not None} == set(found)


def test_text_that_is_no_utf8_is_left_to_the_parser():
    record = record_of([("id", record_pb2.Value(string_value="ab"))]).replace(b"ab", b"\xff\xff")
    assert len(walk(group_of().scalars, [record] * MANY).left) == MANY


def test_no_records():
    columns = records_to_columns(group_of(), [])
    assert all(len(column) == 0 for column in columns.values())
    assert columns["count"].type == pa.int64()


def test_slices_are_cut_by_size(monkeypatch):
    monkeypatch.setattr("featurestore.arrowwalk._SLICE_BYTES", 100)
    records = [encode_record({"id": "x" * n, "count": n}) for n in range(90)]
    columns = records_to_columns(group_of(), records)
    assert columns["count"].to_pylist() == list(range(90))


# -- records as they come over the wire -------------------------------------------------------


@given(st.sampled_from(GROUPS), any_records())
def test_records_of_the_wire_are_checked_one_by_one_or_at_once(group, records):
    def one_by_one() -> Encoded:
        rows, identifiers, times, kept, refused = [], [], [], [], []
        for row, data in enumerate(records):
            message = record_pb2.Record.FromString(data)
            try:
                identifier, us, written = check_message(
                    group, message, now=NOW, tolerance_us=FUTURE_TOLERANCE_US
                )
            except InvalidRecord as error:
                refused.append((row, error))
            else:
                rows.append(row)
                identifiers.append(identifier.encode())
                times.append(us)
                kept.append(written)
        return Encoded(np.array(rows, np.int64), identifiers, np.array(times), kept, refused)

    checked = check_records(group, records, now=NOW, tolerance_us=FUTURE_TOLERANCE_US)
    assert_equal(checked, one_by_one())
