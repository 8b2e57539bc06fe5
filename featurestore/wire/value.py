"""Values of records, identifiers and times on the wire."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final, NoReturn

import numpy as np

from featurestore import convert, eventtime
from featurestore.errors import (
    InvalidRecord,
)
from featurestore.feature import Value
from featurestore.record import shown

__all__ = ["add_values", "event_time_text", "text"]

_INT64: Final = 2**63


def add_values(
    message: Any, group: str, record: Mapping[str, object], *, keep_nulls: bool = False
) -> None:
    """Add a record's values to its message; nulls and NaN are left out, or kept without a value."""
    if not isinstance(record, Mapping):
        raise InvalidRecord(
            f"{group}: expected a record as a mapping of feature names to values, "
            f"got {type(record).__name__}",
            group=group,
        )
    add = message.add
    for name, value in record.items():
        if not isinstance(name, str):
            _refuse(group, name, "a feature's name as text", name)
        kind = type(value)
        typed: Any = value
        # Nearly every value is text or a double, and loads have millions.
        if kind is not str and (kind is not float or value != value):
            typed = _typed(group, name, value)
            if typed is None and not keep_nulls:
                continue
            kind = type(typed)
        entry = add()
        try:
            entry.feature_name = name
            if kind is str:
                entry.value.string_value = typed
            elif kind is float:
                entry.value.fractional_value = typed
            elif kind is int:
                entry.value.integral_value = typed
            elif kind is list:
                convert.fill_list(entry.value, typed)
        except UnicodeEncodeError:
            _refuse(group, name, "String of valid Unicode", value)


def _typed(group: str, name: str, value: object) -> Value | None:
    """Give a value a type of the wire, as `featurestore.record` would take it."""
    if type(value) is int and -_INT64 <= value < _INT64:
        return value
    if isinstance(value, np.number | np.bool_):
        value = value.item()
    if isinstance(value, Decimal):
        if value.is_nan():
            return None
        is_whole = abs(value) < _INT64 and value == int(value)
        value = int(value) if is_whole else float(value)
    if value is None or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int) and not isinstance(value, bool):
        with contextlib.suppress(OverflowError):  # beyond the largest double
            return int(value) if -_INT64 <= value < _INT64 else float(value)
    if isinstance(value, np.ndarray | list | tuple | set | frozenset):
        return _elements(group, name, value)
    if isinstance(value, dt.datetime):
        try:
            return eventtime.format_iso(eventtime.to_us(value))
        except ValueError as error:
            raise InvalidRecord(f"{group}.{name}: {error}", group=group, feature=name) from None
    _refuse(group, name, "an Integral, Fractional or String value", value)


def _elements(group: str, name: str, values: Any) -> Value:
    """Give the elements of a collection one type of the wire: text, or numbers."""
    elements = list(values.tolist() if isinstance(values, np.ndarray) else values)
    if isinstance(values, set | frozenset):
        elements.sort(key=lambda element: (str(type(element)), element))  # any run alike
    typed: list[Any] = [_typed(group, name, element) for element in elements]
    texts = sum(isinstance(element, str) for element in typed)
    if any(element is None or isinstance(element, list) for element in typed) or (
        0 < texts < len(typed)
    ):
        _refuse(group, name, "a collection of texts, or of numbers, without nulls", values)
    if any(isinstance(element, float) for element in typed):
        return [float(element) for element in typed]
    return typed


def _refuse(group: str, name: object, expected: str, got: object) -> NoReturn:
    raise InvalidRecord(
        f"{group}.{name}: expected {expected}, got {shown(got)}",
        group=group,
        feature=str(name),
        expected=expected,
        got=shown(got),
    )


def text(identifier: object) -> str:
    """Write an identifier for the wire; the server reads it in the identifier's type.

    Raises:
        InvalidRecord: it is no valid Unicode.
    """
    if isinstance(identifier, np.number):
        identifier = identifier.item()
    if identifier is None:
        return ""  # which no record has either
    written = str(identifier) if isinstance(identifier, str | Decimal) else repr(identifier)
    try:
        written.encode()
    except UnicodeEncodeError:
        raise InvalidRecord(
            f"expected a record identifier of valid Unicode, got {shown(identifier)}"
        ) from None
    return written


def event_time_text(event_time: object) -> str:
    """Write an event time for the wire: text as it is, numbers in full, datetimes as ISO-8601.

    Raises:
        InvalidRecord: a datetime has no zone.
    """
    if isinstance(event_time, dt.datetime):
        try:
            return eventtime.format_iso(eventtime.to_us(event_time))
        except ValueError as error:
            raise InvalidRecord(f"event_time: {error}") from None
    return text(event_time)
