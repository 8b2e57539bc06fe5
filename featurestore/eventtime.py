"""Event times: from the feature's value to microseconds since the epoch, and back.

Order is by int64 microseconds UTC over the years 0000 to 9999. The feature keeps the value the
client sent; only the order uses the microseconds, floored for text and rounded for numbers (a
double at today's epoch is exact to about 0.24 µs).
"""

from __future__ import annotations

import datetime as dt
import re
from typing import Final

__all__ = [
    "MAX_US",
    "MIN_US",
    "format_iso",
    "parse_fractional",
    "parse_iso",
    "to_datetime",
    "to_us",
]

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_DAY_US: Final = 86_400_000_000
MIN_US: Final = -62_167_219_200_000_000  # 0000-01-01T00:00:00Z
MAX_US: Final = 253_402_300_799_999_999  # 9999-12-31T23:59:59.999999Z

_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)\Z", re.ASCII
)
_HOURS: Final = {f"{hour:02d}:": hour * 3_600_000_000 for hour in range(24)}
_MINUTES: Final = {f"{minute:02d}:": minute * 60_000_000 for minute in range(60)}
_SECONDS: Final = {f"{second:02d}": second * 1_000_000 for second in range(60)}
# By `YYYY-MM-DDT`, the days that were seen: 30 years of them.
_days: Final[dict[str, int]] = {}
_DAYS_KEPT: Final = 11_000
EXPECTED_ISO: Final = "ISO-8601 text with a zone, such as 2013-01-01T06:00:00Z"
EXPECTED_SECONDS: Final = "Unix seconds between the years 0000 and 9999"


def parse_iso(text: str) -> int:
    """Parse ISO-8601 text with a zone into microseconds since the epoch.

    `YYYY-MM-DDThh:mm:ss` with an optional fraction of up to nine digits (floored to
    microseconds) and `Z` or an offset. The year 0000 exists.

    Raises:
        ValueError: the text has another form, no zone, or names no real moment.

    >>> parse_iso("1970-01-01T00:00:01.5Z")
    1500000
    """
    plain = _parse_plain(text)
    if plain is not None:
        return plain
    found = _ISO.match(text)
    if found is None:
        raise ValueError(f"expected {EXPECTED_ISO}, got {text!r}")
    year, month, day, hour, minute, second = map(int, found.group(1, 2, 3, 4, 5, 6))
    try:
        # Python's dates start at year 1; the calendar repeats every 400 years.
        shift = 400 if year == 0 else 0
        date = dt.date(year + shift, month, day)
        dt.time(hour, minute, second)
    except ValueError as error:
        raise ValueError(f"expected {EXPECTED_ISO}, got {text!r}: {error}") from None
    days = date.toordinal() - _EPOCH.toordinal() - (146_097 if shift else 0)
    fraction = found.group(7)
    if len(_days) < _DAYS_KEPT:
        _days[text[:11]] = days * _DAY_US
    us = days * _DAY_US + ((hour * 60 + minute) * 60 + second) * 1_000_000
    if fraction:
        us += int(fraction[:6].ljust(6, "0"))
    zone = found.group(8)
    if zone != "Z":
        sign = -1 if zone[0] == "-" else 1
        offset_minutes = int(zone[1:3]) * 60 + int(zone[4:6])
        if int(zone[1:3]) > 23 or int(zone[4:6]) > 59:
            raise ValueError(f"expected {EXPECTED_ISO}, got {text!r}: no such offset")
        us -= sign * offset_minutes * 60_000_000
    if not MIN_US <= us <= MAX_US:
        raise ValueError(f"expected {EXPECTED_ISO}, got {text!r}: outside the years 0000 to 9999")
    return us


def _parse_plain(text: str) -> int | None:
    """Parse the form that nearly all have, in UTC, of a day that was seen before; else None."""
    try:
        us = _days[text[:11]] + _HOURS[text[11:14]] + _MINUTES[text[14:17]] + _SECONDS[text[17:19]]
    except KeyError:
        return None
    rest = text[19:]
    if rest == "Z":
        return us
    digits = rest[1:7]
    if len(rest) == 8 and rest[0] == "." and rest[7] == "Z" and digits.isascii():
        return us + int(digits) if digits.isdigit() else None
    return None


def parse_fractional(seconds: float) -> int:
    """Turn Unix seconds into microseconds, rounded to the nearest.

    Raises:
        ValueError: not finite, or outside the years 0000 to 9999.

    >>> parse_fractional(1.25)
    1250000
    """
    # Compared before the rounding, which takes no NaN and no infinity.
    us = seconds * 1_000_000
    if not MIN_US <= us <= MAX_US:
        raise ValueError(f"expected {EXPECTED_SECONDS}, got {seconds!r}")
    return round(us)


def format_iso(us: int) -> str:
    """Write microseconds since the epoch as ISO-8601 UTC text, without a fraction when it is zero.

    >>> format_iso(1500000), format_iso(0)
    ('1970-01-01T00:00:01.500000Z', '1970-01-01T00:00:00Z')
    """
    days, rest = divmod(us, _DAY_US)
    ordinal = days + _EPOCH.toordinal()
    shifted = ordinal < 1
    date = dt.date.fromordinal(ordinal + 146_097 if shifted else ordinal)
    year = date.year - 400 if shifted else date.year
    seconds, fraction = divmod(rest, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{year:04d}-{date.month:02d}-{date.day:02d}T{hour:02d}:{minute:02d}:{second:02d}"
    return f"{text}.{fraction:06d}Z" if fraction else f"{text}Z"


def to_datetime(us: int) -> dt.datetime:
    """Turn microseconds since the epoch into an aware datetime (years 1 to 9999)."""
    return _EPOCH + dt.timedelta(microseconds=us)


def to_us(moment: dt.datetime) -> int:
    """Turn an aware datetime into microseconds since the epoch.

    Raises:
        ValueError: the datetime has no zone.
    """
    if moment.tzinfo is None:
        raise ValueError(f"expected a datetime with a zone, got {moment!r}")
    return (moment - _EPOCH) // dt.timedelta(microseconds=1)
