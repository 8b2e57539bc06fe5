"""A record that has a known shape is checked as if each feature were looked at."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore import FeatureGroup, feature_definitions
from featurestore.convert import check_message, encode_record
from featurestore.errors import InvalidRecord
from featurestore.shape import Shapes
from featurestore.v1 import record_pb2

NOW = 1_704_067_200_000_000
NAMES = ("id", "at", "count", "mean", "word", "n")
BASE = {"id": "a-1", "at": "2023-01-01T00:00:00Z", "count": 7, "mean": 0.5, "word": "x", "n": -3}


def group(identifier: str = "String", event_time: str = "String") -> FeatureGroup:
    return FeatureGroup(
        "g",
        record_identifier="id",
        event_time="at",
        features=feature_definitions(
            [
                ("id", identifier),
                ("at", event_time),
                ("count", "Integral"),
                ("mean", "Fractional"),
                ("word", "String"),
                ("n", "Integral"),
            ]
        ),
    )


def checked(in_group: FeatureGroup, message: record_pb2.Record) -> Any:
    try:
        return check_message(in_group, message, now=NOW, tolerance_us=0)
    except InvalidRecord as error:
        return error.message


def taught(in_group: FeatureGroup, *orders: tuple[str, ...]) -> FeatureGroup:
    for order in orders:
        in_group.shapes.learn(order)
    return in_group


TAUGHT = taught(group(), NAMES, NAMES[::-1])
NUMBERS = taught(group("Integral", "Fractional"), NAMES)

texts = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(codec="ascii"), min_size=100, max_size=140),
    st.just("é\n" * 700),
)
values = st.one_of(
    texts,
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    st.sampled_from([0, 127, 128, -1, 2**62, 0.0, -0.0, "", "2023-01-01T00:00:00.25Z", 1.7e9]),
)
records = st.lists(st.tuples(st.sampled_from([*NAMES, "other"]), values), max_size=8)
plain = st.fixed_dictionaries(
    {
        "id": st.text(min_size=1, max_size=20),
        "at": st.sampled_from(["2023-01-01T00:00:00Z", "2023-06-01T01:02:03.456789+02:00"]),
    },
    optional={
        "count": st.integers(-(2**63), 2**63 - 1),
        "mean": st.floats(allow_nan=False),
        "word": texts,
        "n": st.integers(-300, 300),
    },
)


def message_of(entries: list[tuple[str, Any]]) -> record_pb2.Record:
    message = record_pb2.Record()
    for name, value in entries:
        entry = message.values.add(feature_name=name)
        if isinstance(value, str):
            entry.value.string_value = value
        elif isinstance(value, int):
            entry.value.integral_value = value
        else:
            entry.value.fractional_value = value
    return message


def slowly(in_group: FeatureGroup, message: record_pb2.Record) -> Any:
    return checked(replace(in_group), message)  # a copy has seen no record yet


@given(records)
@settings(max_examples=300, deadline=None)
def test_any_record_is_checked_alike(entries: list[tuple[str, Any]]) -> None:
    message = message_of(entries)

    assert checked(TAUGHT, message) == slowly(TAUGHT, message)
    assert checked(NUMBERS, message) == slowly(NUMBERS, message)


@given(plain)
@settings(max_examples=300, deadline=None)
def test_right_records_are_checked_alike(record: dict[str, Any]) -> None:
    message = message_of(list(record.items()))

    assert checked(TAUGHT, message) == slowly(TAUGHT, message)


@given(
    st.sampled_from([BASE, {**BASE, "word": "x" * 120}]),
    st.lists(st.tuples(st.integers(0, 300), st.integers(0, 255)), min_size=1, max_size=4),
    st.binary(max_size=6),
)
@settings(max_examples=1_500, deadline=None)
def test_bytes_that_were_tampered_with_are_checked_alike(
    record: dict[str, Any], changes: list[tuple[int, int]], more: bytes
) -> None:
    data = bytearray(encode_record(record))
    for place, byte in changes:
        data[place % len(data)] = byte
    place = changes[0][0] % len(data)
    for tampered in (bytes(data), bytes(data[:place] + more + data[place:])):
        try:
            message = record_pb2.Record.FromString(tampered)
        except DecodeError:
            continue
        assert checked(TAUGHT, message) == slowly(TAUGHT, message)


def test_a_value_that_hides_fields_behind_a_text_is_not_taken_for_the_text() -> None:
    hidden = b"\x9a\x06\x03abc"  # field 99 of a Value: kept by protobuf, of no meaning here
    value = b"\x0a\x03a-1" + hidden
    entry = b"\x0a\x02id\x12" + bytes((len(value),)) + value
    rest = encode_record({name: given for name, given in BASE.items() if name != "id"})
    message = record_pb2.Record.FromString(b"\x0a" + bytes((len(entry),)) + entry + rest)

    assert checked(TAUGHT, message)[0] == "a-1"


@pytest.mark.parametrize("number", [1, 127, 128, 300, 2**40, -1, -(2**63), 2**63 - 1])
def test_integral_identifiers_are_read(number: int) -> None:
    record = {**BASE, "id": number, "at": 1.7e9}

    keys = NUMBERS.shapes.read(encode_record(record))

    assert keys is not None
    assert keys == (number, 1.7e9)


@pytest.mark.parametrize(
    "record",
    [
        {**BASE, "mean": math.nan},
        {**BASE, "word": "two\nlines"},
        {**BASE, "id": ""},
        {**BASE, "other": 1},
        {name: value for name, value in BASE.items() if name != "at"},
        {**BASE, "count": 0.5},
        dict(reversed([*BASE.items(), ("other", 1)])),
    ],
)
def test_what_a_shape_does_not_know_goes_the_long_way(record: dict[str, Any]) -> None:
    assert TAUGHT.shapes.read(encode_record(record)) is None


def test_the_order_of_the_first_records_is_learnt() -> None:
    shapes = Shapes(group().scalars, identifier="id", event_time="at")
    data = encode_record(dict(reversed(BASE.items())))
    assert shapes.read(data) is None

    shapes.learn(tuple(reversed(BASE)))

    keys = shapes.read(data)
    assert keys is not None
    assert keys.identifier == "a-1"


def test_features_may_be_absent() -> None:
    short = {name: BASE[name] for name in ("id", "at", "word")}

    keys = TAUGHT.shapes.read(encode_record(short))

    assert keys is not None
    assert keys == ("a-1", "2023-01-01T00:00:00Z")
