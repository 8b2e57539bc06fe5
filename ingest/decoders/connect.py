"""Kafka Connect's named types: what a number or text stands for in a message of a connector.

A schema of Connect names the meaning of a plain type, such as a long that is microseconds since
the epoch. Those that change a value are here, of Connect itself and of Debezium; with others (JSON,
XML, UUID, enumerations, zoned times as text) the value says it all.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, TypeAlias

from ingest.decoders.plain import Times, clock, date, decimal_of, moment, moment_ns

__all__ = ["Convert", "converter"]

Convert: TypeAlias = Callable[[Any], object]
"""Makes a plain value of one that is not null.

TypeError, ValueError, KeyError, ArithmeticError: it is none of the type.
"""

_CONNECT: Final = "org.apache.kafka.connect.data."
_DEBEZIUM: Final = "io.debezium.time."
_DECIMAL: Final = f"{_CONNECT}Decimal"

_PLAIN: Final[Mapping[str, Convert]] = {
    f"{_CONNECT}Date": lambda days: date(_int(days)),
    f"{_CONNECT}Time": lambda ms: clock(_int(ms) * 1000),
    f"{_DEBEZIUM}Date": lambda days: date(_int(days)),
    f"{_DEBEZIUM}Time": lambda ms: clock(_int(ms) * 1000),
    f"{_DEBEZIUM}MicroTime": lambda us: clock(_int(us)),
    f"{_DEBEZIUM}NanoTime": lambda ns: clock(_int(ns) // 1000),
    f"{_DEBEZIUM}MicroDuration": lambda us: us / 1_000_000,
    f"{_DEBEZIUM}NanoDuration": lambda ns: ns / 1_000_000_000,
    "io.debezium.data.VariableScaleDecimal": lambda value: _decimal(
        value["value"], _int(value["scale"])
    ),
}
_MOMENTS: Final[Mapping[str, Callable[[Any, Times], object]]] = {
    f"{_CONNECT}Timestamp": lambda ms, times: moment(_int(ms) * 1000, times),
    f"{_DEBEZIUM}Timestamp": lambda ms, times: moment(_int(ms) * 1000, times),
    f"{_DEBEZIUM}MicroTimestamp": lambda us, times: moment(_int(us), times),
    f"{_DEBEZIUM}NanoTimestamp": lambda ns, times: moment_ns(_int(ns), times),
}


def converter(
    name: str, times: Times, parameters: Mapping[str, object] | None = None
) -> Convert | None:
    """Return what makes a plain value of a named type's; None: its values are plain as they are.

    Args:
        name: the type's full name.
        times: how a point in time is given.
        parameters: the schema's, such as a decimal's `scale`.

    Raises:
        ValueError: a decimal without a scale.

    >>> converter("io.debezium.time.MicroTimestamp", "text")(1_000_000)
    '1970-01-01T00:00:01Z'
    >>> converter("org.apache.kafka.connect.data.Decimal", "text", {"scale": "2"})("AN4=")
    Decimal('2.22')
    """
    if name == _DECIMAL:
        scale = (parameters or {}).get("scale")
        if not isinstance(scale, str | int):
            raise ValueError(f"{_DECIMAL}: expected a parameter scale, got {scale!r}")
        places = int(scale)
        return lambda value: _decimal(value, places)
    of_moment = _MOMENTS.get(name)
    if of_moment is not None:
        return lambda value: of_moment(value, times)
    return _PLAIN.get(name)


def _int(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"expected a whole number, got {value!r}")
    return value


def _decimal(value: object, scale: int) -> Decimal:
    """Read the two's complement of the unscaled number: bytes, or base64 text as JSON has it."""
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str):
        try:
            value = base64.b64decode(value, validate=True)
        except binascii.Error as error:
            raise ValueError(f"expected a decimal as base64: {error}") from None
    if not isinstance(value, bytes):
        raise TypeError(f"expected a decimal's bytes, got {value!r}")
    return decimal_of(value, scale)
