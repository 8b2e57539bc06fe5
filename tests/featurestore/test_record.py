from __future__ import annotations

import contextlib
import datetime as dt
import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.errors import InvalidRecord
from featurestore.eventtime import format_iso
from featurestore.record import (
    FUTURE_TOLERANCE_US,
    MAX_IDENTIFIER_BYTES,
    check,
    identifier_text,
    validate,
)

NOW = 1_700_000_000_000_000
NAN = float("nan")


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


@pytest.fixture(scope="module")
def by_number(make_group):
    """A group with an Integral identifier and a Fractional event time."""
    return make_group("by-number", [("id", "Integral"), ("t", "Fractional"), ("x", "Integral")])


@pytest.fixture(scope="module")
def by_fraction(make_group):
    return make_group("by-fraction", [("id", "Fractional"), ("t", "String")])


def record(**features: object) -> dict[str, object]:
    return {"origin": "JFK", "hour": "2013-01-01T06:00:00Z"} | features


# -- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (39.5, 39.5),
        (39, 39.0),
        (-0.0, -0.0),
        (math.inf, math.inf),
        (-math.inf, -math.inf),
        (2**53, float(2**53)),
        (np.float64(1.5), 1.5),
        (np.float32(1.5), 1.5),
        (np.float16(1.5), 1.5),
        (np.int8(-3), -3.0),
        (np.uint64(2**63), float(2**63)),
        (Decimal("1.5"), 1.5),
        (Decimal(3), 3.0),
        ("39.5", 39.5),
        ("39", 39.0),
        ("-.5", -0.5),
        ("5.", 5.0),
        ("+1e-3", 0.001),
        ("1E6", 1_000_000.0),
    ],
)
def test_what_a_fractional_feature_takes(group, value, stored):
    got = validate(group, record(temp=value))["temp"]
    assert type(got) is float
    assert got == stored
    assert math.copysign(1, got) == math.copysign(1, stored)


@pytest.mark.parametrize(
    "value",
    [
        True,
        np.True_,
        "abc",
        "",
        " 1",
        "1 ",
        "1_000",
        "nan",
        "inf",
        "0x1F",
        "１",
        b"1",
        1j,
        np.complex64(1),
        [1.0],
        (1.0,),
        {"value": 1.0},
        np.array(1.0),
        np.array([1.0]),
        np.array([1.0, 2.0]),
        np.datetime64("2013-01-01"),
        np.timedelta64(1, "s"),
        dt.date(2013, 1, 1),
        dt.datetime(2013, 1, 1, tzinfo=dt.UTC),
        10**400,
        Fraction(1, 2),
        object(),
    ],
)
def test_what_a_fractional_feature_refuses(group, value):
    with pytest.raises(InvalidRecord, match=r"weather\.temp: expected Fractional, got ") as caught:
        validate(group, record(temp=value))
    assert caught.value.feature == "temp"
    assert caught.value.group == "weather"
    assert caught.value.expected == "Fractional"


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (7, 7),
        (-7, -7),
        (3.0, 3),
        (-0.0, 0),
        (2**63 - 1, 2**63 - 1),
        (-(2**63), -(2**63)),
        (float(-(2**63)), -(2**63)),
        (np.int64(7), 7),
        (np.uint8(7), 7),
        (np.float64(7.0), 7),
        (np.float32(7.0), 7),
        (Decimal(7), 7),
        (Decimal("7.000"), 7),
        (Decimal(2**63 - 1), 2**63 - 1),
        ("7", 7),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("3.0", 3),  # how the SageMaker SDK writes an integer column with gaps
        ("3.", 3),
        ("-3.000", -3),
        (str(2**63 - 1), 2**63 - 1),
        (str(-(2**63)), -(2**63)),
    ],
)
def test_what_an_integral_feature_takes(group, value, stored):
    got = validate(group, record(count=value))["count"]
    assert type(got) is int
    assert got == stored


@pytest.mark.parametrize(
    "value",
    [
        True,
        False,
        np.True_,
        3.5,
        math.inf,
        np.float32(3.5),
        Decimal("3.5"),
        Decimal("Infinity"),
        "abc",
        "",
        "3.5",
        "3.01",
        ".0",
        "1e3",
        "1_000",
        "0x1F",
        " 1",
        "١",
        "9" * 5000,  # more digits than Python reads
        b"1",
        1j,
        [1],
        np.array([1]),
        np.datetime64("2013-01-01"),
        dt.date(2013, 1, 1),
        object(),
    ],
)
def test_what_an_integral_feature_refuses(group, value):
    with pytest.raises(InvalidRecord, match=r"weather\.count: expected Integral, got "):
        validate(group, record(count=value))


@pytest.mark.parametrize(
    "value",
    [
        2**63,
        -(2**63) - 1,
        10**400,
        float(2**63),
        1e300,
        str(2**63),
        str(-(2**63) - 1),
        "9" * 4000,
        np.uint64(2**63),
        Decimal(2**63),
    ],
)
def test_an_integral_feature_holds_64_bits(group, value):
    with pytest.raises(InvalidRecord, match=r"weather\.count: expected Integral of 64 bits, got "):
        validate(group, record(count=value))


def test_a_huge_decimal_is_refused_without_being_written_out(group):
    # int() of it would take a second for each such value.
    with pytest.raises(InvalidRecord, match="expected Integral"):
        validate(group, record(count=Decimal("1e1000000")))


@pytest.mark.parametrize("value", ["", "x", "None", "ä€😀", "a\x00b", "\n", np.str_("x")])
def test_what_a_string_feature_takes(group, value):
    got = validate(group, record(note=value))["note"]
    assert type(got) is str
    assert got == str(value)


@pytest.mark.parametrize(
    "value", [1, 1.0, True, b"x", ["x"], dt.datetime(2013, 1, 1, tzinfo=dt.UTC), np.int8(1)]
)
def test_what_a_string_feature_refuses(group, value):
    with pytest.raises(InvalidRecord, match=r"weather\.note: expected String, got "):
        validate(group, record(note=value))


def test_text_that_is_no_unicode_is_refused(group):
    with pytest.raises(InvalidRecord, match="expected String of valid Unicode"):
        validate(group, record(note="a\ud800"))


@pytest.mark.parametrize(
    "null",
    [None, NAN, np.float64("nan"), np.float32("nan"), Decimal("NaN"), Decimal("sNaN")],
    ids=["None", "nan", "float64", "float32", "Decimal", "signalling"],
)
@pytest.mark.parametrize("feature", ["temp", "count", "note"])
def test_null_is_simply_absent(group, feature, null):
    assert validate(group, record(**{feature: null})) == record()


@given(st.floats(allow_nan=False))
def test_any_double_round_trips_as_number_and_as_text(group, value):
    assert validate(group, record(temp=value))["temp"] == value
    if math.isfinite(value):
        assert validate(group, record(temp=repr(value)))["temp"] == value


@given(st.integers(-(2**63), 2**63 - 1))
def test_any_int64_round_trips_as_number_and_as_text(group, value):
    assert validate(group, record(count=value))["count"] == value
    assert validate(group, record(count=str(value)))["count"] == value


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.text(max_size=10)
    | st.binary(max_size=4)
    | st.datetimes()
    | st.dates()
    | st.complex_numbers(),
    lambda inner: st.lists(inner, max_size=2) | st.tuples(inner),
    max_leaves=3,
)


@given(
    st.dictionaries(
        st.sampled_from(["origin", "hour", "temp", "count", "note", "other"]) | st.text(max_size=4),
        anything,
    )
)
def test_anything_is_typed_or_refused(group, values):
    with contextlib.suppress(InvalidRecord):
        checked = check(group, record() | values, now=NOW)
        assert {type(value) for value in checked.values.values()} <= {int, float, str}
        assert all(value == value for value in checked.values.values())


def test_the_record_given_is_not_changed(group):
    given_record = record(temp="1.5", note=None)
    before = dict(given_record)
    validate(group, given_record)
    assert given_record == before


# -- identifiers and names --------------------------------------------------------------------


def test_an_unknown_feature_is_named_with_the_nearest(group):
    with pytest.raises(InvalidRecord) as caught:
        validate(group, record(tmp=1.0))
    assert str(caught.value) == ("weather.tmp: no such feature in the group; did you mean 'temp'?")
    assert caught.value.feature == "tmp"


def test_a_record_that_is_no_mapping_is_refused(group):
    with pytest.raises(InvalidRecord, match=r"weather: expected a record as a mapping .* got list"):
        validate(group, [("origin", "JFK")])


@pytest.mark.parametrize("missing", [None, NAN])
@pytest.mark.parametrize(
    ("feature", "role"), [("origin", "record identifier"), ("hour", "event time")]
)
def test_identifier_and_event_time_are_needed(group, feature, role, missing):
    absent = record()
    del absent[feature]
    for incomplete in (absent, record(**{feature: missing})):
        with pytest.raises(InvalidRecord, match=rf"weather\.{feature}: the {role} is missing"):
            validate(group, incomplete)


def test_an_empty_identifier_is_refused(group):
    with pytest.raises(InvalidRecord, match=r"weather\.origin: expected a record identifier"):
        validate(group, record(origin=""))


def test_an_identifier_is_limited_in_bytes(group):
    longest = "é" * (MAX_IDENTIFIER_BYTES // 2)
    assert check(group, record(origin=longest), now=NOW).identifier == longest
    with pytest.raises(InvalidRecord, match="at most 2048 bytes, got 2049 bytes"):
        validate(group, record(origin=longest + "x"))


@pytest.mark.parametrize("value", [17, "17", 17.0, "17.0", "017", "+17", np.int32(17), Decimal(17)])
def test_an_integral_identifier_has_one_text(by_number, value):
    assert identifier_text(by_number, value) == "17"
    assert check(by_number, {"id": value, "t": 1.0}, now=NOW).identifier == "17"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.5, "1.5", "1.50", Decimal("1.5"), np.float32(1.5)], "1.5"),
        ([0.0, -0.0, 0, "-0", "-0.0", np.float64(-0.0)], "0.0"),
        ([1e16, "1e16", 10**16], "1e+16"),
    ],
)
def test_a_fractional_identifier_has_one_text(by_fraction, values, text):
    for value in values:
        checked = check(by_fraction, {"id": value, "t": "2013-01-01T06:00:00Z"}, now=NOW)
        assert identifier_text(by_fraction, value) == text
        assert checked.identifier == text
        # What goes offline names the same thing.
        assert repr(checked.values["id"]) == text


@pytest.mark.parametrize("value", [None, NAN, "x", 1.5, True, ""])
def test_an_identifier_asked_for_has_the_type_of_the_feature(by_number, value):
    with pytest.raises(InvalidRecord, match=r"by-number\.id"):
        identifier_text(by_number, value)


# -- event times ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "us", "kept"),
    [
        ("2013-01-01T06:00:00Z", 1_357_020_000_000_000, "2013-01-01T06:00:00Z"),
        (
            "2013-01-01T07:00:00.123456789+01:00",
            1_357_020_000_123_456,
            "2013-01-01T07:00:00.123456789+01:00",
        ),
        (
            dt.datetime(2013, 1, 1, 6, tzinfo=dt.UTC),
            1_357_020_000_000_000,
            "2013-01-01T06:00:00Z",
        ),
        (
            dt.datetime(2013, 1, 1, 8, 0, 0, 5, tzinfo=dt.timezone(dt.timedelta(hours=2))),
            1_357_020_000_000_005,
            "2013-01-01T06:00:00.000005Z",
        ),
        (
            pd.Timestamp("2013-01-01T06:00:00.123456789Z"),
            1_357_020_000_123_456,
            "2013-01-01T06:00:00.123456Z",
        ),
    ],
)
def test_a_text_event_time_is_kept_and_ordered_by_microseconds(group, value, us, kept):
    checked = check(group, record(hour=value), now=NOW)
    assert checked.event_time_us == us
    assert checked.values["hour"] == kept


@pytest.mark.parametrize(
    ("value", "us", "kept"),
    [
        (1_357_020_000.25, 1_357_020_000_250_000, 1_357_020_000.25),
        (1_357_020_000, 1_357_020_000_000_000, 1_357_020_000.0),
        ("1357020000.5", 1_357_020_000_500_000, 1_357_020_000.5),
        ("2013-01-01T06:00:00.25Z", 1_357_020_000_250_000, 1_357_020_000.25),
        (
            dt.datetime(2013, 1, 1, 6, 0, 0, 250_000, tzinfo=dt.UTC),
            1_357_020_000_250_000,
            1_357_020_000.25,
        ),
    ],
)
def test_a_fractional_event_time_is_unix_seconds(by_number, value, us, kept):
    checked = check(by_number, {"id": 1, "t": value}, now=NOW)
    assert checked.event_time_us == us
    assert checked.values["t"] == kept


@pytest.mark.parametrize(
    "value",
    [
        "2013-01-01",
        "2013-01-01T06:00:00",
        "2013-02-30T06:00:00Z",
        dt.datetime(2013, 1, 1),  # noqa: DTZ001
        pd.NaT,
    ],
)
def test_a_text_event_time_of_another_form_is_refused(group, value):
    with pytest.raises(InvalidRecord, match=r"weather\.hour: expected .* zone") as caught:
        validate(group, record(hour=value))
    assert caught.value.feature == "hour"


@pytest.mark.parametrize("value", [1e12, 1e300, 1.7e308, math.inf, -math.inf, -1e12])
def test_a_fractional_event_time_beyond_the_years_is_refused(by_number, value):
    with pytest.raises(InvalidRecord, match=r"by-number\.t: expected Unix seconds"):
        validate(by_number, {"id": 1, "t": value})


def test_an_event_time_may_be_a_little_ahead_of_the_clock(group):
    edge = NOW + FUTURE_TOLERANCE_US
    assert check(group, record(hour=format_iso(edge)), now=NOW).event_time_us == edge
    with pytest.raises(InvalidRecord) as caught:
        check(group, record(hour=format_iso(edge + 1)), now=NOW)
    message = str(caught.value)
    assert "weather.hour: expected an event time no more than 300 s ahead of" in message
    assert format_iso(NOW) in message
    assert "check the producer's clock and unit" in message


def test_the_tolerance_can_be_chosen(group):
    hour = format_iso(NOW + 2_000_000)
    assert check(group, record(hour=hour), now=NOW, tolerance_us=2_000_000)
    with pytest.raises(InvalidRecord, match="no more than 1 s ahead"):
        check(group, record(hour=hour), now=NOW, tolerance_us=1_000_000)


def test_a_long_value_is_cut_in_the_message(group):
    with pytest.raises(InvalidRecord) as caught:
        validate(group, record(temp="x" * 10_000))
    assert len(str(caught.value)) < 200


def test_the_group_validates_too(group):
    assert group.validate(record(temp="1.5")) == record(temp=1.5)
