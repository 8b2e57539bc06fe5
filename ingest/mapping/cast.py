"""Casts: from a value as a message has it to the type that a mapping declares."""

from __future__ import annotations

import datetime as dt
import json
import math
import re
import zoneinfo
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, TypeAlias, final

import numpy as np

from featurestore import eventtime
from featurestore.record import shown
from ingest.errors import InvalidMapping

__all__ = ["COLLECTIONS", "SCALARS", "UNITS", "Cast", "Convert", "Uncastable", "as_text"]

Convert: TypeAlias = Callable[[Any], Any]
"""Gives a value that is not null its type, or raises `Uncastable`."""

SCALARS: Final = ("string", "integral", "fractional", "boolean", "timestamp")
COLLECTIONS: Final = ("list", "set", "vector")
_PER_SECOND: Final = {"seconds": 1, "millis": 1_000, "micros": 1_000_000, "nanos": 1_000_000_000}
UNITS: Final = (*_PER_SECOND, "iso")
_INTEGER: Final = re.compile(r"[+-]?\d{1,40}(\.0*)?\Z", re.ASCII)
_NUMBER: Final = re.compile(
    r"[+-]?(\d{1,400}\.?\d{0,400}|\.\d{1,400})([eE][+-]?\d{1,4})?\Z", re.ASCII
)
_INT64: Final = 2**63
_BOOLEANS: Final = {
    "true": True, "yes": True, "1": True, "false": False, "no": False, "0": False,
}  # fmt: skip


class Uncastable(ValueError):
    """A value is not of the declared type. `expected` says what was."""

    def __init__(self, expected: str) -> None:
        super().__init__(expected)
        self.expected = expected


@final
@dataclass(frozen=True, slots=True)
class Cast:
    """A declared type.

    Args:
        kind: one of `SCALARS` or `COLLECTIONS`.
        of: a collection's elements: `string`, `integral` or `fractional`; None: as the feature.
        source: a timestamp's form: one of `UNITS`, or a strptime pattern.
        zone: IANA name of the zone of a pattern without `%z`.
        separator: splits a text into the elements of a collection; None: a text is JSON.
    """

    kind: str
    of: str | None = None
    source: str | None = None
    zone: str | None = None
    separator: str | None = None

    @classmethod
    def parse(cls, body: Mapping[str, object], *, where: str) -> Cast | None:
        """Read the members `type`, `of`, `from`, `zone` and `separator`; None without a type.

        Raises:
            InvalidMapping: a member that does not fit the others.
        """
        given = {
            name: _text_member(body, name, where)
            for name in ("type", "of", "from", "zone", "separator")
            if body.get(name) is not None
        }
        kind = given.pop("type", None)
        if kind is None:
            if given:
                name = next(iter(given))
                raise InvalidMapping(
                    where, expected=f"a type beside {name!r}", got=f"{name} = {given[name]!r} alone"
                )
            return None
        if kind not in SCALARS + COLLECTIONS:
            raise InvalidMapping(
                where, expected=f"type: one of {', '.join(SCALARS + COLLECTIONS)}", got=repr(kind)
            )
        fits = {"from", "zone"} if kind == "timestamp" else set()
        if kind in COLLECTIONS:
            fits = {"separator"} if kind == "vector" else {"of", "separator"}
        for name in given:
            if name not in fits:
                raise InvalidMapping(
                    where, expected=f"no {name!r} for type {kind}", got=repr(given[name])
                )
        if given.get("of", "string") not in ("string", "integral", "fractional"):
            raise InvalidMapping(
                where, expected="of: string, integral or fractional", got=repr(given["of"])
            )
        if given.get("separator") == "":
            raise InvalidMapping(where, expected="a separator", got="''")
        of = "fractional" if kind == "vector" else given.get("of")
        source = given.get("from", "iso") if kind == "timestamp" else None
        cast = cls(kind, of, source, given.get("zone"), given.get("separator"))
        if kind == "timestamp":
            cast.converter(where=where)  # looks at the pattern and the zone
        return cast

    def to_json(self) -> dict[str, str]:
        """Write the members that `parse` reads."""
        members = {
            "type": self.kind,
            "of": None if self.kind == "vector" else self.of,
            "from": self.source,
            "zone": self.zone,
            "separator": self.separator,
        }
        return {name: value for name, value in members.items() if value is not None}

    def converter(self, *, where: str = "") -> Convert:
        """Return what gives a value this type: timestamps as µs UTC, booleans as bool.

        Args:
            where: what the cast belongs to, for errors.

        Raises:
            InvalidMapping: a pattern or zone that cannot be.
        """
        if self.kind in COLLECTIONS:
            return _collection(self.kind, _CONVERTERS[self.of or "string"], self.separator)
        if self.kind != "timestamp":
            return _CONVERTERS[self.kind]
        return _timestamp(self.source or "iso", self.zone, where)


def as_text(value: object) -> str:
    """Write a value of any type as text: text as it is, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        return eventtime.format_iso(eventtime.to_us(value))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise Uncastable("text in UTF-8") from None
    return json.dumps(value, default=_plain, separators=(",", ":"), ensure_ascii=False)


def _plain(value: object) -> object:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, dt.datetime | bytes):
        return as_text(value)
    return str(value)


def _integral(value: object) -> int:
    if type(value) is int and -_INT64 <= value < _INT64:  # nearly all are
        return value
    number: int | None = None
    if isinstance(value, np.generic):
        value = value.item()
    if (
        isinstance(value, int)
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, Decimal) and value.is_finite() and value == value.to_integral_value())
    ):
        number = int(value)
    elif isinstance(value, str) and _INTEGER.match(value.strip()):
        number = int(value.strip().partition(".")[0])
    if number is None or not -_INT64 <= number < _INT64:
        raise Uncastable("a whole number of 64 bits")
    return number


def _fractional(value: object) -> float:
    if type(value) is float and math.isfinite(value):  # nearly all are
        return value
    if isinstance(value, np.generic):
        value = value.item()
    number = math.nan
    if isinstance(value, str):
        if _NUMBER.match(value.strip()):
            number = float(value)
    elif isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
    if not math.isfinite(number):
        raise Uncastable("a finite number")
    return number


def _boolean(value: object) -> bool:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        found = _BOOLEANS.get(value.strip().lower())
        if found is not None:
            return found
    elif isinstance(value, int | float) and value in (0, 1):
        return bool(value)
    raise Uncastable("true or false (or yes, no, 1, 0)")


def _timestamp(source: str, zone: str | None, where: str) -> Convert:
    per_second = _PER_SECOND.get(source)
    if (per_second is not None or source == "iso") and zone is not None:
        raise InvalidMapping(where, expected=f"no zone for {source}", got=repr(zone))
    if per_second is not None:
        return lambda value: _since_epoch(value, per_second, source)
    if source == "iso":
        return _iso
    if "%" not in source:
        raise InvalidMapping(
            where,
            expected=f"from: one of {', '.join(UNITS)}, or a strptime pattern such as %d.%m.%Y",
            got=repr(source),
        )
    local: dt.tzinfo | None = None
    if "%z" in source and zone is not None:
        raise InvalidMapping(where, expected="%z in the pattern or a zone, not both", got=source)
    if "%z" not in source:
        if zone is None:
            raise InvalidMapping(
                where, expected='%z in the pattern, or a zone such as "UTC" beside it', got=source
            )
        try:
            local = zoneinfo.ZoneInfo(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError):
            raise InvalidMapping(
                where, expected="zone: an IANA name such as Europe/Berlin", got=repr(zone)
            ) from None
    moment = dt.datetime(2013, 11, 25, 13, 14, 15, tzinfo=dt.UTC)
    try:
        dt.datetime.strptime(moment.strftime(source), source)  # noqa: DTZ007  # a try only
    except ValueError as error:
        raise InvalidMapping(where, expected=f"a strptime pattern ({error})", got=source) from None
    return lambda value: _by_pattern(value, source, local)


def _since_epoch(value: object, per_second: int, unit: str) -> int:
    if isinstance(value, dt.datetime):
        return _moment(value)
    if isinstance(value, np.generic):
        value = value.item()
    expected = f"a time in {unit} since 1970"
    if isinstance(value, str) and _NUMBER.match(value.strip()):
        value = Decimal(value.strip())
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise Uncastable(expected)
    if isinstance(value, int):
        us = value * 1_000_000 // per_second
    elif not math.isfinite(value) or not -(10**21) < float(value) < 10**21:
        raise Uncastable(expected)
    elif isinstance(value, Decimal):
        us = math.floor(value * 1_000_000 / per_second)
    else:  # a double at today's epoch is exact to about 0.24 µs
        us = round(value * (1_000_000 / per_second))
    if not eventtime.MIN_US <= us <= eventtime.MAX_US:
        raise Uncastable(f"{expected}, between the years 0000 and 9999")
    return us


def _iso(value: object) -> int:
    if isinstance(value, dt.datetime):
        return _moment(value)
    if isinstance(value, str):
        try:
            return eventtime.parse_iso(value)
        except ValueError:
            pass
    raise Uncastable(eventtime.EXPECTED_ISO)


def _by_pattern(value: object, pattern: str, zone: dt.tzinfo | None) -> int:
    if isinstance(value, dt.datetime):
        return _moment(value)
    if not isinstance(value, str):
        raise Uncastable(f"a time as {pattern}")
    try:
        moment = dt.datetime.strptime(value, pattern)  # noqa: DTZ007  # zoned below
    except ValueError:
        raise Uncastable(f"a time as {pattern}") from None
    if zone is None:
        return _moment(moment)
    moment = moment.replace(tzinfo=zone)
    try:
        us = eventtime.to_us(moment)
        back = eventtime.to_datetime(us).astimezone(zone)
    except OverflowError:
        raise Uncastable("a time between the years 1 and 9999") from None
    if back.replace(tzinfo=None) != moment.replace(tzinfo=None):
        raise Uncastable(f"a time that exists in {zone} (clocks were put forward over it)")
    return us


def _moment(value: dt.datetime) -> int:
    try:
        return eventtime.to_us(value)
    except ValueError:
        raise Uncastable("a time with a zone") from None


def _collection(kind: str, element: Convert, separator: str | None) -> Convert:
    def convert(value: object) -> list[Any]:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        elif isinstance(value, str):
            value = _split(value, separator)
        if isinstance(value, set | frozenset):
            value = sorted(value, key=repr)
        if not isinstance(value, list | tuple):
            raise Uncastable(f"a {kind}")
        if any(part is None for part in value):
            raise Uncastable(f"a {kind} without nulls")
        try:
            parts = [element(part) for part in value]
        except Uncastable as error:
            raise Uncastable(f"a {kind}, each element {error.expected}") from None
        return list(dict.fromkeys(parts)) if kind == "set" else parts

    return convert


def _split(text: str, separator: str | None) -> object:
    if separator is not None:
        return [part.strip() for part in text.split(separator)] if text.strip() else []
    try:
        return json.loads(text)
    except ValueError:
        return None


def _text_member(body: Mapping[str, object], name: str, where: str) -> str:
    value = body[name]
    if not isinstance(value, str):
        raise InvalidMapping(where, expected=f"{name} as text", got=shown(value))
    return value


_CONVERTERS: Final[dict[str, Convert]] = {
    "string": as_text,
    "integral": _integral,
    "fractional": _fractional,
    "boolean": _boolean,
}
