"""Plain values: what a feature group takes, from the types that formats have besides.

A feature is a number or text, so a time is written as ISO-8601 text in UTC (or as Unix seconds, on
request), a date and a time of day as ISO-8601 text, bytes as base64 text.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
from typing import Final, Literal, TypeAlias, get_args

from featurestore import eventtime
from featurestore.record import shown
from ingest.errors import Undecodable
from ingest.source import Message

__all__ = [
    "Times",
    "base64_text",
    "bytes_of",
    "checked_times",
    "clock",
    "date",
    "decimal_of",
    "moment",
    "moment_ns",
    "moment_of",
]

Times: TypeAlias = Literal["text", "seconds"]
"""How a point in time is given: ISO-8601 text, or Unix seconds.

Text fits a String feature and every event time; seconds fit a Fractional feature.
"""

# What takes time with the square of a number's length must not come from a message: a megabyte of
# digits is minutes of work. No feature keeps more than 19 digits.
_MAX_DECIMAL_BYTES: Final = 512
_EXACT: Final = decimal.Context(prec=3 * _MAX_DECIMAL_BYTES, traps=[decimal.InvalidOperation])
_DAY_US: Final = 86_400_000_000
_EPOCH_ORDINAL: Final = dt.date(1970, 1, 1).toordinal()


def bytes_of(message: Message, expected: str) -> bytes:
    """Return a message's value as bytes.

    Raises:
        Undecodable: it has none, or is a row of columns.
    """
    value = message.value
    if isinstance(value, bytes):
        return value
    got = "no value (a tombstone)" if value is None else "a row of columns"
    raise Undecodable("message", expected=expected, got=got)


def checked_times(times: str) -> None:
    """Refuse a choice of `Times` that is none."""
    if times not in get_args(Times):
        raise ValueError(f"times: expected 'text' or 'seconds', got {times!r}")


def moment(us: int, times: Times) -> str | float:
    """Give microseconds since the epoch as a plain value.

    Raises:
        ValueError: outside the years 0000 to 9999.

    >>> moment(1_500_000, "text"), moment(1_500_000, "seconds")
    ('1970-01-01T00:00:01.500000Z', 1.5)
    """
    if not eventtime.MIN_US <= us <= eventtime.MAX_US:
        raise ValueError(
            f"expected a time in the years 0000 to 9999, got {shown(us)} µs since 1970"
        )
    return us / 1_000_000 if times == "seconds" else eventtime.format_iso(us)


def moment_ns(ns: int, times: Times) -> str | float:
    """Give nanoseconds since the epoch as a plain value; as text all nine digits are kept.

    >>> moment_ns(1_000_000_001, "text")
    '1970-01-01T00:00:01.000000001Z'
    """
    us, rest = divmod(ns, 1000)
    if not rest or times == "seconds":
        return moment(us, times)
    whole = str(moment(us - us % 1_000_000, "text"))
    return f"{whole[:-1]}.{us % 1_000_000:06d}{rest:03d}Z"


def moment_of(time: dt.datetime, times: Times) -> str | float:
    """Give a datetime as a plain value; without a zone it stays text without a zone.

    >>> moment_of(dt.datetime(2024, 1, 1, tzinfo=dt.UTC), "text")
    '2024-01-01T00:00:00Z'
    """
    if time.tzinfo is None:
        return time.isoformat()
    if times == "seconds":
        return time.timestamp()
    text = time.isoformat()
    return f"{text[:-6]}Z" if text.endswith("+00:00") else text


def date(days: int) -> str:
    """Write days since the epoch as `YYYY-MM-DD`.

    Raises:
        ValueError, OverflowError: outside the years 0001 to 9999.

    >>> date(19_723)
    '2024-01-01'
    """
    return dt.date.fromordinal(_EPOCH_ORDINAL + days).isoformat()


def clock(us: int) -> str:
    """Write microseconds since midnight as `hh:mm:ss`, with a fraction where there is one.

    Raises:
        ValueError: less than none, or more than a day. A day's whole length is `24:00:00`, which
            some databases have.

    >>> clock(3_661_000_500), clock(86_400_000_000)
    ('01:01:01.000500', '24:00:00')
    """
    if not 0 <= us <= _DAY_US:
        raise ValueError(f"expected a time of day, got {shown(us)} µs since midnight")
    seconds, fraction = divmod(us, 1_000_000)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}" if fraction else text


def decimal_of(unscaled: bytes, scale: int) -> decimal.Decimal:
    r"""Read a decimal from the two's complement of its unscaled number, big end first.

    Raises:
        ValueError: it has more than 512 bytes.
        ArithmeticError: the scale is beyond all reason.

    >>> decimal_of(b"\x00\xde", 2)
    Decimal('2.22')
    """
    if len(unscaled) > _MAX_DECIMAL_BYTES:
        raise ValueError(
            f"expected a decimal of at most {_MAX_DECIMAL_BYTES} bytes, got {len(unscaled)}"
        )
    number = int.from_bytes(unscaled, "big", signed=True)
    return decimal.Decimal(number).scaleb(-scale, _EXACT)


def base64_text(value: bytes) -> str:
    """Write bytes as base64 text.

    >>> base64_text(b"abc")
    'YWJj'
    """
    return base64.b64encode(value).decode("ascii")
