"""Records: what may be put into a feature group, and what a put makes of it.

A value is accepted in its declared type, as a NumPy scalar or a Decimal of it too; a whole number
for Fractional, a number with a zero fraction for Integral (the SageMaker SDK writes integers with
gaps as `3.0`), text that parses as the declared number, and a zoned `datetime` or its ISO-8601 text
as event time. None and NaN mean null, and a null feature is simply absent. A collection is given
as a list, tuple, set or NumPy array; none of its elements may be null.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, NoReturn, final

import numpy as np

from featurestore import eventtime
from featurestore.errors import InvalidRecord, nearest
from featurestore.feature import CollectionType, FeatureDefinition, FeatureType, Scalar, Value

if TYPE_CHECKING:
    from featurestore.schema import FeatureGroup

__all__ = [
    "Delete",
    "Put",
    "Record",
    "check",
    "event_time_us",
    "identifier_text",
    "now_us",
    "shown",
    "validate",
]

MAX_RECORD_BYTES: Final = 350 * 1024
MAX_IDENTIFIER_BYTES: Final = 2 * 1024
# Clocks differ: an event time this far ahead of the store's own clock is still taken.
FUTURE_TOLERANCE_US: Final = 300 * 1_000_000
_INT64: Final = 2**63
_INTEGER: Final = re.compile(r"[+-]?\d{1,4000}(\.0*)?\Z", re.ASCII)  # Python reads no longer ones
_FLOAT: Final = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\Z", re.ASCII)
_SHOWN: Final = 80


@final
@dataclass(frozen=True, slots=True)
class Put:
    """One record on its way into a feature group.

    Args:
        group: the feature group's name.
        record: feature name → value.
        ttl: overrides the group's time to live for this record.
        stores: where it goes; None: everywhere the group has a store.
    """

    group: str
    record: Mapping[str, object]
    ttl: object | None = None
    stores: tuple[str, ...] | None = None


@final
@dataclass(frozen=True, slots=True)
class Delete:
    """One soft delete, as an entry of a batch beside puts.

    Args:
        group: the feature group's name.
        identifier: of the record.
        event_time: when it was deleted, in a form that the group's event time may have.
        stores: where it is deleted; None: everywhere the group has a store.
    """

    group: str
    identifier: object
    event_time: object
    stores: tuple[str, ...] | None = None


@final
@dataclass(frozen=True, slots=True)
class Record:
    """A record that fits its group: typed values, identifier as text, event time in µs."""

    values: dict[str, Value]
    identifier: str
    event_time_us: int


def now_us() -> int:
    """Return the system clock in microseconds since the epoch."""
    return time.time_ns() // 1000


def validate(group: FeatureGroup, record: Mapping[str, object]) -> dict[str, Value]:
    """Return the record with every value in its declared type and nulls left out.

    Raises:
        InvalidRecord: an unknown feature, a value of another type, no identifier or event time,
            a malformed or future event time, or an identifier that is too long.
    """
    return check(group, record, now=now_us()).values


def check(
    group: FeatureGroup,
    record: Mapping[str, object],
    *,
    now: int,
    tolerance_us: int = FUTURE_TOLERANCE_US,
) -> Record:
    """Check one record against its group.

    Args:
        group: the definition.
        record: feature name → value.
        now: the store's clock, µs since the epoch.
        tolerance_us: how far ahead of `now` an event time may lie.

    Raises:
        InvalidRecord: as for `validate`.
    """
    if not isinstance(record, Mapping):
        raise InvalidRecord(
            f"{group.name}: expected a record as a mapping of feature names to values, "
            f"got {type(record).__name__}",
            group=group.name,
        )
    scalars = group.scalars
    identifier_name = group.record_identifier
    values: dict[str, Value] = {}
    for name, value in record.items():
        kind = scalars.get(name)
        if _is_exact(value, kind) and name != identifier_name:
            values[name] = value  # type: ignore[assignment]  # its type was just looked at
            continue
        typed = feature_value(group, name, value)
        if typed is not None:
            values[name] = typed
    identifier = values.get(identifier_name)
    if identifier is None:
        _missing(group, identifier_name, "record identifier")
    moment = values.get(group.event_time)
    if moment is None:
        _missing(group, group.event_time, "event time")
    return Record(
        values,
        checked_identifier(group, identifier),
        event_time_us(group, moment, now=now, tolerance_us=tolerance_us),
    )


def feature_value(group: FeatureGroup, name: str, value: object) -> Value | None:
    """Return a feature's value in its declared type; None for null.

    Raises:
        InvalidRecord: no such feature, or a value of another type.
    """
    kind = group.scalars.get(name)
    if kind is not None:
        return _typed(group, name, kind, value)
    definition = group.collections.get(name)
    if definition is None:
        raise InvalidRecord(
            f"{group.name}.{name}: no such feature in the group{nearest(str(name), group.types)}",
            group=group.name,
            feature=str(name),
        )
    return _collection(group, definition, value)


def event_time_us(
    group: FeatureGroup, moment: object, *, now: int, tolerance_us: int = FUTURE_TOLERANCE_US
) -> int:
    """Turn the value of a group's event time into microseconds, refusing the future.

    Raises:
        InvalidRecord: malformed, without a zone, or more than the tolerance ahead of `now`.
    """
    try:
        us = (
            eventtime.parse_iso(moment)
            if isinstance(moment, str)
            else eventtime.parse_fractional(float(moment))  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise InvalidRecord(
            f"{group.name}.{group.event_time}: {error}",
            group=group.name,
            feature=group.event_time,
            expected="an event time",
            got=shown(moment),
        ) from None
    if us > now + tolerance_us:
        raise InvalidRecord(
            f"{group.name}.{group.event_time}: expected an event time no more than "
            f"{tolerance_us / 1e6:g} s ahead of the store's clock "
            f"({eventtime.format_iso(now)}), got {moment!r}; check the producer's clock and unit",
            group=group.name,
            feature=group.event_time,
            expected="an event time that is not in the future",
            got=shown(moment),
        )
    return us


def identifier_text(group: FeatureGroup, value: object) -> str:
    """Return a record identifier as the text it is stored under.

    Numbers are written canonically, so that 17, "17" and 17.0 name the same Integral identifier.

    Raises:
        InvalidRecord: the value does not have the identifier's type, is empty or too long.
    """
    name = group.record_identifier
    typed = _typed(group, name, group.types[name], value)
    if typed is None:
        _missing(group, name, "record identifier")
    return checked_identifier(group, typed)


def checked_identifier(group: FeatureGroup, typed: object) -> str:
    """Return a typed identifier as text, checked for length."""
    text = typed if isinstance(typed, str) else repr(typed)
    if not text:
        raise InvalidRecord(
            f"{group.name}.{group.record_identifier}: expected a record identifier, got ''",
            group=group.name,
            feature=group.record_identifier,
        )
    size = len(text.encode())
    if size > MAX_IDENTIFIER_BYTES:
        raise InvalidRecord(
            f"{group.name}.{group.record_identifier}: expected a record identifier of at most "
            f"{MAX_IDENTIFIER_BYTES} bytes, got {size} bytes",
            group=group.name,
            feature=group.record_identifier,
        )
    return text


def _collection(group: FeatureGroup, definition: FeatureDefinition, value: object) -> Value | None:
    """Give a collection's elements their declared type; None for null."""
    name, kind = definition.name, definition.type
    expected = f"{definition.collection} of {kind}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or (isinstance(value, float) and value != value):
        return None
    if not isinstance(value, list | tuple | set | frozenset):
        _refuse(group, name, expected, value)
    if isinstance(value, set | frozenset):
        value = sorted(value, key=lambda element: (str(type(element)), element))  # any run alike
    elements: list[Any] = []
    for element in value:
        typed = _typed(group, name, kind, element)
        if typed is None:
            _refuse(group, name, f"{expected} without nulls", element)
        elements.append(typed)
    if definition.collection is CollectionType.SET:
        return list(dict.fromkeys(elements))
    if definition.dimension is not None and len(elements) != definition.dimension:
        raise InvalidRecord(
            f"{group.name}.{name}: expected a Vector of dimension {definition.dimension}, "
            f"got {len(elements)} elements",
            group=group.name,
            feature=name,
        )
    return elements


def _typed(group: FeatureGroup, name: str, kind: FeatureType, value: object) -> Scalar | None:
    """Give a value its declared type; None for null."""
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, Decimal) and value.is_nan():
        return None
    if isinstance(value, bool):
        _refuse(group, name, kind.value, value)
    if kind is FeatureType.STRING:
        if isinstance(value, str):
            return _utf8(group, name, value)
        if isinstance(value, dt.datetime) and name == group.event_time:
            return eventtime.format_iso(_moment(group, name, value))
        _refuse(group, name, kind.value, value)
    if isinstance(value, dt.datetime) and name == group.event_time:
        return _moment(group, name, value) / 1_000_000
    if kind is FeatureType.FRACTIONAL:
        if name == group.event_time and isinstance(value, str):
            # Over gRPC a datetime is text: a client does not know the event time's type.
            with contextlib.suppress(ValueError):
                return eventtime.parse_iso(value) / 1_000_000
        number = _fractional(group, name, value)
        # -0.0 and 0.0 name the same identifier.
        return number + 0.0 if name == group.record_identifier else number
    return _integral(group, name, value)


def _is_exact(value: object, kind: FeatureType | None) -> bool:
    """Whether a value is plainly of its declared type: nearly all are, and loads have millions."""
    cls = type(value)
    if cls is float:
        return kind is FeatureType.FRACTIONAL and value == value
    if cls is str:
        return kind is FeatureType.STRING and value.isascii()  # type: ignore[attr-defined]
    return cls is int and kind is FeatureType.INTEGRAL and -_INT64 <= value < _INT64  # type: ignore[operator]


def _integral(group: FeatureGroup, name: str, value: object) -> int:
    number: int
    if (
        isinstance(value, int)
        or (isinstance(value, float) and value.is_integer())
        or (isinstance(value, Decimal) and -_INT64 <= value <= _INT64 and value == int(value))
    ):
        number = int(value)
    elif isinstance(value, str) and _INTEGER.match(value):
        number = int(value.partition(".")[0])
    else:
        _refuse(group, name, "Integral", value)
    if not -_INT64 <= number < _INT64:
        _refuse(group, name, "Integral of 64 bits", value)
    return number


def _fractional(group: FeatureGroup, name: str, value: object) -> float:
    if isinstance(value, str) and _FLOAT.match(value):
        return float(value)
    if isinstance(value, float | int | Decimal):
        with contextlib.suppress(OverflowError):  # a whole number beyond the largest double
            return float(value)
    _refuse(group, name, "Fractional", value)


def _moment(group: FeatureGroup, name: str, value: dt.datetime) -> int:
    try:
        return eventtime.to_us(value)
    except ValueError as error:
        raise InvalidRecord(
            f"{group.name}.{name}: {error}", group=group.name, feature=name
        ) from None


def _utf8(group: FeatureGroup, name: str, value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        _refuse(group, name, "String of valid Unicode", value)
    return str(value)


def _missing(group: FeatureGroup, name: str, role: str) -> NoReturn:
    raise InvalidRecord(
        f"{group.name}.{name}: the {role} is missing; every record needs it",
        group=group.name,
        feature=name,
        expected=f"a {role}",
        got=None,
    )


def _refuse(group: FeatureGroup, name: str, expected: str, got: object) -> NoReturn:
    raise InvalidRecord(
        f"{group.name}.{name}: expected {expected}, got {shown(got)}",
        group=group.name,
        feature=name,
        expected=expected,
        got=shown(got),
    )


def shown(value: object) -> str:
    """Write a value for a message, short."""
    text = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
