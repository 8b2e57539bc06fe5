from __future__ import annotations

import contextlib
import datetime as dt
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.eventtime import (
    MAX_US,
    MIN_US,
    format_iso,
    parse_fractional,
    parse_iso,
    to_datetime,
    to_us,
)

moments = st.integers(MIN_US, MAX_US)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1969-12-31T23:59:59Z", -1_000_000),
        ("2013-01-01T06:00:00Z", 1_357_020_000_000_000),
        # The ends of what can be said, and the year that Python's datetime lacks.
        ("0000-01-01T00:00:00Z", MIN_US),
        ("9999-12-31T23:59:59.999999Z", MAX_US),
        ("0001-01-01T00:00:00Z", MIN_US + 366 * 86_400_000_000),
        ("0000-02-29T12:00:00Z", MIN_US + 59 * 86_400_000_000 + 43_200_000_000),
        # Fractions of one to nine digits, floored to microseconds.
        ("1970-01-01T00:00:00.5Z", 500_000),
        ("1970-01-01T00:00:00.05Z", 50_000),
        ("1970-01-01T00:00:00.123Z", 123_000),
        ("1970-01-01T00:00:00.123456Z", 123_456),
        ("1970-01-01T00:00:00.1234567Z", 123_456),
        ("1970-01-01T00:00:00.123456999Z", 123_456),
        ("1970-01-01T00:00:00.000000999Z", 0),
        ("1969-12-31T23:59:59.999999999Z", -1),
        # Leap days.
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000),
        ("2000-02-29T00:00:00Z", 951_782_400_000_000),
        # Offsets.
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T18:30:00-05:30", 0),
        ("1970-01-01T00:00:00+00:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01T23:59:00+23:59", 0),
        ("1970-01-01T00:00:00.25+00:01", -59_750_000),
    ],
)
def test_iso_text(text, us):
    assert parse_iso(text) == us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2013-01-01",
        "2013-01-01T06:00:00",  # no zone
        "2013-01-01 06:00:00Z",
        "2013-01-01t06:00:00Z",
        "2013-01-01T06:00:00z",
        "2013-01-01T06:00Z",
        "13-01-01T06:00:00Z",
        "12013-01-01T06:00:00Z",
        "2013-1-1T06:00:00Z",
        "2013-01-01T06:00:00.Z",
        "2013-01-01T06:00:00.1234567890Z",
        "2013-01-01T06:00:00,5Z",
        "2013-01-01T06:00:00+0100",
        "2013-01-01T06:00:00+01",
        "2013-01-01T06:00:00UTC",
        "2013-01-01T06:00:00Z ",
        " 2013-01-01T06:00:00Z",
        "2013-01-01T06:00:00Z\n",
        "２013-01-01T06:00:00Z",  # a digit, but not ours
        # Well formed, but no real moment.
        "2013-00-01T00:00:00Z",
        "2013-13-01T00:00:00Z",
        "2013-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2013-04-31T00:00:00Z",
        "2013-01-00T00:00:00Z",
        "2013-01-01T24:00:00Z",
        "2013-01-01T00:60:00Z",
        "2013-01-01T00:00:60Z",
        "2013-01-01T00:00:00+24:00",
        "2013-01-01T00:00:00+00:60",
        # Outside the years 0000 to 9999 once the offset is applied.
        "0000-01-01T00:00:00+00:01",
        "9999-12-31T23:59:59-00:01",
    ],
)
def test_other_text_is_refused(text):
    with pytest.raises(ValueError) as caught:
        parse_iso(text)
    assert "ISO-8601 text with a zone" in str(caught.value)
    assert repr(text) in str(caught.value)


@given(moments)
def test_text_round_trip(us):
    assert parse_iso(format_iso(us)) == us


@given(moments, moments)
def test_text_sorts_as_the_moments_do(a, b):
    # With the fraction written out, text order is time order.
    whole_a, whole_b = a - a % 1_000_000, b - b % 1_000_000
    assert (format_iso(whole_a) < format_iso(whole_b)) == (whole_a < whole_b)


@given(moments, st.integers(-23 * 60 - 59, 23 * 60 + 59))
def test_an_offset_names_the_same_moment(us, minutes):
    local = us + minutes * 60_000_000
    if not MIN_US <= local <= MAX_US:
        return
    sign = "-" if minutes < 0 else "+"
    offset = f"{sign}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"
    assert parse_iso(format_iso(local).removesuffix("Z") + offset) == us


@given(moments, st.text("0123456789", min_size=1, max_size=9))
def test_a_fraction_is_floored_to_microseconds(us, digits):
    seconds = us - us % 1_000_000
    text = format_iso(seconds).removesuffix("Z") + f".{digits}Z"
    assert parse_iso(text) == seconds + int(digits) * 1_000_000 // 10 ** len(digits)


@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_agrees_with_the_standard_library(moment):
    us = parse_iso(moment.isoformat())
    assert us == to_us(moment)
    assert to_datetime(us) == moment


@given(st.text(max_size=30))
def test_any_text_is_parsed_or_refused_with_a_value_error(text):
    with contextlib.suppress(ValueError):
        assert MIN_US <= parse_iso(text) <= MAX_US


@pytest.mark.parametrize(
    ("seconds", "us"),
    [
        (0.0, 0),
        (1.25, 1_250_000),
        (-1.25, -1_250_000),
        (1_357_020_000.0, 1_357_020_000_000_000),
        (1_700_000_000.123457, 1_700_000_000_123_457),
        (0.000_000_4, 0),
        (0.000_000_6, 1),
        (-62_167_219_200.0, MIN_US),
        (253_402_300_799.0, MAX_US - 999_999),
    ],
)
def test_seconds_are_rounded_to_the_nearest_microsecond(seconds, us):
    assert parse_fractional(seconds) == us


@pytest.mark.parametrize(
    "seconds",
    [
        math.nan,
        math.inf,
        -math.inf,
        1e12,
        -1e12,
        1e300,
        1.7e308,  # not finite once it is in microseconds
        -1.7e308,
        253_402_300_800.0,
        -62_167_219_201.0,
        1_700_000_000_000.0,  # milliseconds: the producer's unit is wrong
    ],
)
def test_other_numbers_are_refused(seconds):
    with pytest.raises(ValueError, match="Unix seconds between the years 0000 and 9999") as caught:
        parse_fractional(seconds)
    assert repr(seconds) in str(caught.value)


@given(st.floats())
def test_any_number_is_taken_or_refused_with_a_value_error(seconds):
    with contextlib.suppress(ValueError):
        assert MIN_US <= parse_fractional(seconds) <= MAX_US


@given(st.integers(0, 4_000_000_000_000_000))
def test_a_double_of_our_days_keeps_its_microsecond(us):
    # Up to 2096 a double's step is a quarter of a microsecond.
    assert parse_fractional(us / 1_000_000) == us


def test_a_datetime_without_zone_is_refused():
    with pytest.raises(ValueError, match="a datetime with a zone"):
        to_us(dt.datetime(2024, 1, 1))  # noqa: DTZ001


def test_a_datetime_of_another_zone_is_the_same_moment():
    zone = dt.timezone(dt.timedelta(hours=2))
    assert to_us(dt.datetime(1970, 1, 1, 2, tzinfo=zone)) == 0
