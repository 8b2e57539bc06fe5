from __future__ import annotations

import datetime as dt
import math
from collections.abc import Callable
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore import FeatureNotFound, FeatureType, Ttl, TtlUnit
from featurestore.codec import DELETED, NEVER, OutboxEntry
from featurestore.convert import (
    INTERNAL_COLUMNS,
    check_message,
    decode_record,
    encode_record,
    entries_to_table,
    offline_schema,
    select_features,
    table_to_records,
    ttl_from_message,
    ttl_to_message,
)
from featurestore.errors import InvalidFeatureGroup, InvalidRecord
from featurestore.record import FUTURE_TOLERANCE_US, MAX_RECORD_BYTES, check
from featurestore.v1 import record_pb2

NOW = 1_700_000_000_000_000
int64 = st.integers(-(2**63), 2**63 - 1)
typed = int64 | st.floats(allow_nan=False) | st.text(max_size=20)
names = st.text("abcdefghij", min_size=1, max_size=3)


@pytest.fixture(scope="module")
def group(make_group):
    return make_group(
        "weather",
        [
            ("origin", "String"),
            ("hour", "String"),
            ("temp", "Fractional"),
            ("count", "Integral"),
            ("note", "String"),
        ],
    )


# -- records as bytes -------------------------------------------------------------------------


@given(st.dictionaries(names, typed, max_size=8))
def test_a_record_round_trips(values):
    read = decode_record(encode_record(values))
    assert read == values
    assert list(read) == list(values)
    assert [type(v) for v in read.values()] == [type(v) for v in values.values()]


@given(st.dictionaries(names, typed, max_size=8), st.lists(names, max_size=4))
def test_selected_features_only(values, wanted):
    data = encode_record(values)
    selected = {name: value for name, value in values.items() if name in wanted}
    assert decode_record(data, wanted) == selected
    assert decode_record(select_features(data, wanted)) == selected


# -- the wire's records obey the same rules ---------------------------------------------------

# What a client may send for a feature: any kind of value, whatever its declared type.
sent_values = st.one_of(
    st.builds(lambda v: record_pb2.Value(string_value=v), st.text(max_size=5)),
    st.builds(
        lambda v: record_pb2.Value(string_value=v),
        st.sampled_from(["1", "1.0", "-2.5", "1e3", "x", "2013-01-01T06:00:00Z", "0", "-0.0"]),
    ),
    st.builds(lambda v: record_pb2.Value(integral_value=v), int64 | st.integers(-3, 3)),
    st.builds(lambda v: record_pb2.Value(fractional_value=v), st.floats() | st.just(-0.0)),
    st.just(record_pb2.Value()),
    st.just(record_pb2.Value(string_list=record_pb2.StringList(values=["a"]))),
)


def message_of(pairs: list[tuple[str, record_pb2.Value]]) -> record_pb2.Record:
    message = record_pb2.Record()
    for name, value in pairs:
        entry = message.values.add(feature_name=name)
        entry.value.CopyFrom(value)
    return message


def answer_of(call: Callable[[], object]) -> object:
    """What a call returns, or the text of its refusal."""
    try:
        return call()
    except InvalidRecord as refusal:
        return str(refusal)


@pytest.mark.parametrize("identifier", FeatureType)
@pytest.mark.parametrize("time", [FeatureType.STRING, FeatureType.FRACTIONAL])
@given(data=st.data())
def test_a_message_is_checked_as_the_record_of_equal_content(make_group, identifier, time, data):
    group = make_group(
        "g", [("id", identifier), ("t", time), ("f", "Fractional"), ("i", "Integral")]
    )
    good = {
        "id": {
            FeatureType.STRING: record_pb2.Value(string_value="a"),
            FeatureType.INTEGRAL: record_pb2.Value(integral_value=7),
            FeatureType.FRACTIONAL: record_pb2.Value(fractional_value=1.5),
        }[identifier],
        "t": {
            FeatureType.STRING: record_pb2.Value(string_value="2013-01-01T06:00:00Z"),
            FeatureType.FRACTIONAL: record_pb2.Value(fractional_value=1.25),
        }[time],
    }
    changes = data.draw(
        st.dictionaries(st.sampled_from(["id", "t", "f", "i", "other"]), sent_values, max_size=4)
    )
    values = good | changes
    content = {}
    for name, value in values.items():
        kind = value.WhichOneof("kind")
        sent = getattr(value, kind) if kind else None
        content[name] = list(sent.values) if kind == "string_list" else sent

    def by_record() -> tuple[str, int, str]:
        record = check(group, content, now=NOW)
        return record.identifier, record.event_time_us, repr(sorted(record.values.items()))

    def by_message() -> tuple[str, int, str]:
        message = message_of(list(values.items()))
        text, us, data = check_message(group, message, now=NOW, tolerance_us=FUTURE_TOLERANCE_US)
        return text, us, repr(sorted(decode_record(data).items()))

    assert answer_of(by_message) == answer_of(by_record)


def test_bytes_of_the_declared_types_are_stored_as_they_came(group):
    message = record_pb2.Record.FromString(
        encode_record({"temp": 1.5, "origin": "JFK", "hour": "2013-01-01T06:00:00Z"})
    )
    _, _, stored = check_message(group, message, now=NOW, tolerance_us=0)
    assert stored == message.SerializeToString()


def test_a_feature_given_twice_is_refused(group):
    message = message_of(
        [
            ("origin", record_pb2.Value(string_value="JFK")),
            ("temp", record_pb2.Value(fractional_value=1)),
            ("temp", record_pb2.Value(fractional_value=2)),
        ]
    )
    with pytest.raises(InvalidRecord, match=r"weather\.temp: the feature is given twice"):
        check_message(group, message, now=NOW, tolerance_us=0)


def test_a_message_that_is_too_large_is_refused(group):
    values = {"origin": "JFK", "hour": "2013-01-01T06:00:00Z"}
    room = MAX_RECORD_BYTES - len(encode_record(values | {"note": "x" * 300_000})) + 300_000
    for size in (room, room + 1):
        message = record_pb2.Record.FromString(encode_record(values | {"note": "x" * size}))
        if size == room:
            stored = check_message(group, message, now=NOW, tolerance_us=0)[2]
            assert len(stored) == MAX_RECORD_BYTES
        else:
            with pytest.raises(InvalidRecord, match="at most 358400 bytes, got 358401"):
                check_message(group, message, now=NOW, tolerance_us=0)


# -- outbox entries as rows -------------------------------------------------------------------


def entry(sequence: int, values: dict[str, object], **changes: int) -> OutboxEntry:
    parts = {"flags": 0, "event_time_us": 5, "expires_us": NEVER, "invocation_us": 7} | changes
    return OutboxEntry(sequence=sequence, schema_version=1, record=encode_record(values), **parts)


def test_entries_become_rows_in_their_order(group):
    day = 86_400_000_000
    table = entries_to_table(
        group,
        [
            entry(3, {"origin": "JFK", "hour": "h", "temp": 1.5, "count": 2, "note": "n"}),
            entry(4, {"origin": "LGA", "hour": "h"}, event_time_us=-1, expires_us=9),
            entry(7, {"origin": "JFK", "hour": "h"}, flags=DELETED, event_time_us=3 * day),
        ],
        write_time_us=11,
    )
    assert table.schema == offline_schema(group)
    assert table.schema.names == [*group.feature_names, *INTERNAL_COLUMNS]
    epoch = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
    micro = dt.timedelta(microseconds=1)
    internal = table.select(list(INTERNAL_COLUMNS)).to_pylist()
    assert internal == [
        {
            "_event_time": epoch + us * micro,
            "write_time": epoch + 11 * micro,
            "api_invocation_time": epoch + 7 * micro,
            "is_deleted": deleted,
            "_expires_at": None if expires is None else epoch + expires * micro,
            "_sequence": sequence,
            "_event_date": date,
        }
        for us, deleted, expires, sequence, date in [
            (5, False, None, 3, dt.date(1970, 1, 1)),
            (-1, False, 9, 4, dt.date(1969, 12, 31)),
            (3 * day, True, None, 7, dt.date(1970, 1, 4)),
        ]
    ]
    assert table.select(["origin", "temp", "count", "note"]).to_pylist() == [
        {"origin": "JFK", "temp": 1.5, "count": 2, "note": "n"},
        {"origin": "LGA", "temp": None, "count": None, "note": None},
        {"origin": "JFK", "temp": None, "count": None, "note": None},
    ]


def test_no_entries_are_a_table_of_no_rows(group):
    table = entries_to_table(group, [], write_time_us=1)
    assert table.schema == offline_schema(group)
    assert len(table) == 0


@given(st.lists(st.tuples(st.none() | st.floats(allow_nan=False), st.none() | int64), max_size=20))
def test_what_was_put_is_in_the_rows(group, features):
    entries = [
        entry(
            sequence,
            {
                name: value
                for name, value in {"origin": "a", "temp": temp, "count": count}.items()
                if value is not None
            },
        )
        for sequence, (temp, count) in enumerate(features)
    ]
    table = entries_to_table(group, entries, write_time_us=1)
    assert list(zip(table["temp"].to_pylist(), table["count"].to_pylist(), strict=True)) == features


# -- Arrow tables as records ------------------------------------------------------------------


def records_of(group, columns: dict[str, object]) -> list[dict[str, object]]:
    return list(table_to_records(group, pa.RecordBatch.from_pydict(columns)))


def test_rows_become_records(group):
    records = records_of(
        group,
        {
            "origin": pa.array(["JFK", "LGA"]).dictionary_encode(),
            "hour": pa.array([1_000_000, None], pa.timestamp("us", "UTC")),
            "temp": pa.array([1.5, None], pa.float32()),
            "count": pa.array([Decimal("3.00"), None], pa.decimal128(5, 2)),
        },
    )
    assert records == [
        {
            "origin": "JFK",
            "hour": "1970-01-01T00:00:01Z",
            "temp": 1.5,
            "count": Decimal("3.00"),
        },
        {"origin": "LGA", "hour": None, "temp": None, "count": None},
    ]


MOMENTS = [
    ("s", 2, 2_000_000),
    ("s", -62_167_219_200, -62_167_219_200_000_000),  # the year 0, which datetime lacks
    ("ms", -1, -1_000),
    ("us", 1_700_000_000_000_001, 1_700_000_000_000_001),
    ("ns", 1_700_000_000_123_456_789, 1_700_000_000_123_456),
    ("ns", -1, -1),
    ("ns", -1_001, -2),
    ("ns", 1 - 2**63, -9_223_372_036_854_776),
]


@pytest.mark.parametrize("zone", ["UTC", "America/New_York", "+02:00"])
@pytest.mark.parametrize(("unit", "count", "us"), MOMENTS)
def test_timestamps_of_any_unit_and_zone_are_floored_to_microseconds(
    make_group, unit, zone, count, us
):
    for kind in ("String", "Fractional"):
        group = make_group("g", [("id", "String"), ("t", kind)])
        (record,) = records_of(
            group, {"id": ["a"], "t": pa.array([count], pa.timestamp(unit, zone))}
        )
        event_time_us = check(group, record, now=NOW).event_time_us
        # A double of the first years is not exact to the microsecond.
        assert abs(event_time_us - us) <= (0 if kind == "String" or abs(us) < 2**52 else 8)


@pytest.mark.parametrize("kind", ["String", "Fractional"])
@pytest.mark.parametrize("seconds", [569_000_000_000, -62_167_219_201, 2**62])
def test_timestamps_beyond_the_years_are_refused_by_their_row(make_group, kind, seconds):
    group = make_group("g", [("id", "String"), ("t", kind)])
    times = pa.array([seconds, 1], pa.timestamp("s", "UTC"))
    beyond, good = records_of(group, {"id": ["a", "b"], "t": times})
    assert check(group, good, now=NOW).event_time_us == 1_000_000
    with pytest.raises(InvalidRecord, match=r"g\.t: expected "):
        check(group, beyond, now=NOW)


def test_timestamps_without_a_zone_are_refused(group):
    with pytest.raises(InvalidRecord, match=r"weather\.hour: expected timestamps with a zone"):
        records_of(group, {"origin": ["a"], "hour": pa.array([1], pa.timestamp("us"))})


def test_timestamps_are_for_the_event_time_only(group):
    with pytest.raises(InvalidRecord, match=r"weather\.temp: expected Fractional, got timestamp"):
        records_of(group, {"origin": ["a"], "temp": pa.array([1], pa.timestamp("us", "UTC"))})


def test_text_that_is_no_utf8_is_refused(group):
    offsets = pa.py_buffer(bytes([0, 0, 0, 0, 1, 0, 0, 0]))
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"\xff")])
    with pytest.raises(InvalidRecord, match=r"weather\.note: expected text in UTF-8"):
        records_of(group, {"origin": ["a"], "note": text})


def test_a_column_that_is_no_feature_is_refused_with_the_nearest(group):
    with pytest.raises(FeatureNotFound, match="has no feature 'tmp'; did you mean 'temp'"):
        records_of(group, {"origin": ["a"], "tmp": [1.0]})


def test_a_column_given_twice_is_refused(group):
    batch = pa.RecordBatch.from_arrays([pa.array(["a"])] * 2, names=["origin", "origin"])
    with pytest.raises(InvalidRecord, match=r"weather\.origin: the column is given twice"):
        list(table_to_records(group, batch))


# -- ttl --------------------------------------------------------------------------------------


@given(st.builds(Ttl, st.sampled_from(TtlUnit), st.integers(1, 2**62)))
def test_a_ttl_round_trips(ttl):
    assert ttl_from_message(ttl_to_message(ttl)) == ttl


def test_a_ttl_without_unit_or_value_is_refused():
    assert ttl_to_message(None) is None
    for unit in (0, 99, -1):
        with pytest.raises(
            InvalidRecord,
            match=rf"ttl_duration\.unit: expected one of SECONDS, .*, WEEKS, got {unit}",
        ):
            ttl_from_message(record_pb2.TtlDuration(unit=unit, value=1))
    with pytest.raises(
        InvalidFeatureGroup, match=r"TtlDuration\.Value: expected a whole number >= 1"
    ):
        ttl_from_message(record_pb2.TtlDuration(unit="DAYS"))


def test_nan_and_infinity_on_the_wire(group):
    values = {"origin": "a", "hour": "2013-01-01T06:00:00Z"}
    message = record_pb2.Record.FromString(encode_record(values | {"temp": math.nan}))
    assert decode_record(check_message(group, message, now=NOW, tolerance_us=0)[2]) == values
    message = record_pb2.Record.FromString(encode_record(values | {"temp": math.inf}))
    stored = check_message(group, message, now=NOW, tolerance_us=0)[2]
    assert decode_record(stored) == values | {"temp": math.inf}
