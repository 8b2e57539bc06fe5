"""The times of OpenLineage's events, as microseconds."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

from lineage.entity import to_us

__all__ = ["Moment", "format_time", "read_time"]

# The last microsecond of the year 9999, which is the last that a date can be.
_LATEST_US: Final = 253_402_300_799_999_999
_MILLISECONDS_FROM: Final = 100_000_000_000
_OLDEST: Final = "taken as the oldest"
_TIME: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,30}))?)?"
    r"\s*(?:([Zz])|([+-])(\d\d):?(\d\d)?)?(?:\[[^\]]{1,64}\])?"
)


class Moment(NamedTuple):
    """A time and what is wrong with the way it was written.

    Args:
        us: UTC microseconds, 0 where it cannot be read.
        expected: what should be there instead; empty when it is in order.
        taken: what it is taken as then.
    """

    us: int
    expected: str = ""
    taken: str = ""


def read_time(value: object) -> Moment:
    """Read the time of an event.

    Digits beyond the microsecond are cut. A time without zone is taken as UTC; a number as
    seconds or, from 100 billion on, as milliseconds since 1970.

    >>> read_time("2026-01-31T12:00:00.123456789+02:00")
    Moment(us=1769853600123456, expected='', taken='')
    >>> read_time("2026-01-31T12:00:00").taken
    'taken as UTC'
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = value / 1000 if abs(value) >= _MILLISECONDS_FROM else value
        return _within(round(seconds * 1_000_000), "text such as 2026-01-31T12:00:00Z", "")
    found = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        return Moment(0, "a time such as 2026-01-31T12:00:00.000Z", _OLDEST)
    year, month, day, hour, minute, second, fraction, zulu, sign, hours, minutes = found.groups()
    try:
        zone = UTC
        if sign:
            offset = timedelta(hours=int(hours), minutes=int(minutes or 0))
            zone = timezone(-offset if sign == "-" else offset)
        # A leap second is the last of its minute.
        whole = datetime(
            int(year),
            int(month),
            int(day),
            int(hour),
            int(minute),
            min(int(second or 0), 59),
            tzinfo=zone,
        )
    except ValueError:
        return Moment(0, "a day, hour and zone that exist", _OLDEST)
    us = to_us(whole) + int((fraction or "").ljust(6, "0")[:6])
    if zulu or sign:
        return _within(us, "", "")
    return _within(us, "a zone, such as Z", "taken as UTC")


def format_time(time_us: int) -> str:
    """Write microseconds as OpenLineage wants them.

    >>> format_time(1769853600123456)
    '2026-01-31T10:00:00.123456Z'
    """
    time = datetime(1970, 1, 1) + timedelta(microseconds=time_us)  # noqa: DTZ001 - the Z says it
    return f"{time.isoformat(timespec='microseconds')}Z"


def _within(us: int, expected: str, taken: str) -> Moment:
    if 0 <= us <= _LATEST_US:
        return Moment(us, expected, taken)
    nearest = min(max(us, 0), _LATEST_US)
    return Moment(nearest, "a time from 1970 to 9999", "taken as the nearest")
