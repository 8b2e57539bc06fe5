"""Event times by the column: what `featurestore.eventtime` does for one, for many at once.

A function here decides what it can and says for which rows; the others (an offset, an odd form, a
moment that does not exist) go to `featurestore.eventtime`, one by one.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from featurestore import eventtime

__all__ = [
    "Moments",
    "count_microseconds",
    "format_iso",
    "parse_fractional",
    "parse_iso",
    "seconds_of",
]

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]

_SEPARATORS: Final = {4: "-", 7: "-", 10: "T", 13: ":", 16: ":"}
_DIGITS: Final = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18]
_WHOLE: Final = 20  # characters of 2013-01-01T06:00:00Z
_FRACTIONS: Final = range(22, 31)  # .1Z to .123456789Z
_FORMATTED: Final = 27
_DAYS: Final = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_DAY_S: Final = 86_400
_SECOND_US: Final = 1_000_000
# Microseconds of a unit, units of a microsecond.
_UNITS: Final = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
_EPOCH_DAYS: Final = 719_468  # from 0000-03-01 to 1970-01-01
# The first double beyond the year 9999: MAX_US itself is no double.
_END_US: Final = float(eventtime.MAX_US + 1)
_EXACT: Final = 2**53  # whole numbers below it are doubles


class Moments(NamedTuple):
    """Microseconds since the epoch, and the rows for which they are right."""

    us: Ints
    known: Bools


def parse_iso(text: Bytes, offsets: Ints) -> Moments:
    """Parse texts such as `2013-01-01T06:00:00Z`, with a fraction of up to nine digits or none.

    Args:
        text: UTF-8 of all rows.
        offsets: n + 1 places in it; row i is `text[offsets[i]:offsets[i + 1]]`.

    >>> joined = np.frombuffer(b"1970-01-01T00:00:01.5Z1970-01-01T00:00:01+01:00", np.uint8)
    >>> moments = parse_iso(joined, np.array([0, 22, 47]))
    >>> moments.us.tolist(), moments.known.tolist()
    ([1500000, 0], [True, False])
    """
    rows = len(offsets) - 1
    us = np.zeros(rows, np.int64)
    known = np.zeros(rows, np.bool_)
    lengths = np.diff(offsets)
    for length in np.unique(lengths).tolist():
        if length != _WHOLE and length not in _FRACTIONS:
            continue
        (chosen,) = np.nonzero(lengths == length)
        if len(chosen) == rows:
            matrix = text[offsets[0] : offsets[-1]].reshape(rows, length)
        else:
            matrix = text[offsets[chosen, np.newaxis] + np.arange(length)]
        us[chosen], known[chosen] = _parse(np.ascontiguousarray(matrix.T))
    us[~known] = 0
    return Moments(us, known)


def parse_fractional(seconds: npt.NDArray[np.float64]) -> Moments:
    """Turn Unix seconds into microseconds, rounded to the nearest.

    >>> parse_fractional(np.array([1.25, np.inf])).us.tolist()
    [1250000, 0]
    """
    with np.errstate(over="ignore"):
        us = seconds * _SECOND_US
    known = (us >= eventtime.MIN_US) & (us < _END_US)
    return Moments(np.rint(np.where(known, us, 0.0)).astype(np.int64), known)


def count_microseconds(counts: Ints, unit: str) -> Moments:
    """Turn counts of a timestamp's unit into microseconds, floored; known: in years 0 to 9999.

    Args:
        counts: units since the epoch.
        unit: `s`, `ms`, `us` or `ns`.
    """
    times, parts = _UNITS[unit]
    # Compared in the unit, so that nothing overflows.
    least = -(-eventtime.MIN_US // times)
    most = eventtime.MAX_US // times
    us = counts // parts
    known = (us >= least) & (us <= most)
    return Moments(np.where(known, us, 0) * times, known)


def seconds_of(us: Ints) -> tuple[npt.NDArray[np.float64], Bools]:
    """Turn microseconds into Unix seconds; known: where one rounding is made, not two."""
    return us / _SECOND_US, np.abs(us) < _EXACT


def format_iso(us: Ints) -> tuple[Bytes, Ints]:
    """Write microseconds of the years 0 to 9999 as texts, each in one row of a matrix.

    Returns:
        n × 27 bytes, and how many of each row count: 20 without a fraction, else 27.

    >>> matrix, lengths = format_iso(np.array([0, 1500000]))
    >>> [bytes(row[:length]).decode() for row, length in zip(matrix, lengths.tolist())]
    ['1970-01-01T00:00:00Z', '1970-01-01T00:00:01.500000Z']
    """
    seconds, fraction = np.divmod(us, _SECOND_US)
    days, second = np.divmod(seconds, _DAY_S)
    year, month, day = _dates(days)
    hour, second = np.divmod(second, 3600)
    minute, second = np.divmod(second, 60)
    matrix = np.empty((len(us), _FORMATTED), np.uint8)
    for place, separator in _SEPARATORS.items():
        matrix[:, place] = ord(separator)
    for end, width, numbers in (
        (4, 4, year),
        (7, 2, month),
        (10, 2, day),
        (13, 2, hour),
        (16, 2, minute),
        (19, 2, second),
        (26, 6, fraction),
    ):
        rest: Any = numbers
        for place in range(end - 1, end - 1 - width, -1):
            rest, digit = np.divmod(rest, 10)
            matrix[:, place] = digit + ord("0")
    whole = fraction == 0
    matrix[:, 19] = np.where(whole, ord("Z"), ord("."))
    matrix[:, 26] = ord("Z")
    return matrix, np.where(whole, _WHOLE, _FORMATTED)


def _parse(columns: Bytes) -> tuple[Ints, Bools]:
    """Parse texts of one length, given as one row of `columns` per character."""
    length = len(columns)
    places = [*_DIGITS, *range(20, length - 1)]
    digits = columns - np.uint8(ord("0"))  # another character wraps to a number above 9
    known = (digits[places] <= 9).all(axis=0) & (columns[length - 1] == ord("Z"))
    for place, separator in _SEPARATORS.items():
        known &= columns[place] == ord(separator)
    if length > _WHOLE:
        known &= columns[19] == ord(".")

    def number(first: int, end: int) -> Ints:
        value: Ints = digits[first].astype(np.int64)
        for place in range(first + 1, end):
            value = value * 10 + digits[place]
        return value

    year, month, day = number(0, 4), number(5, 7), number(8, 10)
    hour, minute, second = number(11, 13), number(14, 16), number(17, 19)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    known &= (month >= 1) & (month <= 12)
    last = _DAYS[np.where(known, month, 0)] + (leap & (month == 2))
    known &= (day >= 1) & (day <= last) & (hour < 24) & (minute < 60) & (second < 60)
    seconds = _day_numbers(year, month, day) * _DAY_S + (hour * 60 + minute) * 60 + second
    us = seconds * _SECOND_US
    if length > _WHOLE:
        kept = min(length - 21, 6)
        us += number(20, 20 + kept) * 10 ** (6 - kept)
    return us, known


def _day_numbers(year: Ints, month: Ints, day: Ints) -> Ints:
    """Count days since the epoch (H. Hinnant, "chrono-Compatible Low-Level Date Algorithms")."""
    year = year - (month <= 2)
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + np.where(month > 2, -3, 9)) + 2) // 5 + day - 1
    days: Ints = era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - _EPOCH_DAYS
    return days


def _dates(days: Ints) -> tuple[Ints, Ints, Ints]:
    """Return year, month and day of days since the epoch; the reverse of `_day_numbers`."""
    days = days + _EPOCH_DAYS
    era = days // 146_097
    of_era = days - era * 146_097
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + np.where(shifted < 10, 3, -9)
    return (
        year + era * 400 + (month <= 2),
        month,
        of_year - (153 * shifted + 2) // 5 + 1,
    )
