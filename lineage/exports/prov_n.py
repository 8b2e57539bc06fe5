"""PROV-N: the notation of W3C PROV that people read."""

from __future__ import annotations

from datetime import datetime
from typing import TextIO

from lineage.exports.part import Part
from lineage.exports.prov import BARE, PREFIXES, Element, Relation, Value, statements

# Where a relation has an optional end or time before its attributes.
_GAPS = {"used": ", -", "wasGeneratedBy": ", -", "wasAssociatedWith": ", -"}
_ESCAPES = str.maketrans(
    {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\b": r"\b", "\f": r"\f"}
)


def write_prov_n(part: Part, out: TextIO) -> None:
    """One statement a line."""
    out.write("document\n")
    for prefix, namespace in PREFIXES.items():
        out.write(f"  prefix {prefix} <{namespace}>\n")
    for one in statements(part):
        if isinstance(one, Element):
            _element(one, out)
        else:
            _relation(one, out)
    out.write("endDocument\n")


def _element(element: Element, out: TextIO) -> None:
    times = ""
    if element.what == "activity":
        times = f", {_time(element.start)}, {_time(element.end)}"
    out.write(f"  {element.what}({element.id}{times}{_values(element.values)})\n")


def _relation(one: Relation, out: TextIO) -> None:
    values = "" if one.name in BARE else _values(one.values)
    gap = _GAPS.get(one.name, "")
    out.write(f"  {one.name}({one.first}, {one.second}{gap}{values})\n")


def _values(values: tuple[Value, ...]) -> str:
    if not values:
        return ""
    return f", [{', '.join(f'{value.name}={_literal(value)}' for value in values)}]"


def _literal(value: Value) -> str:
    if value.type == "qname":
        return f"'{value.value}'"
    text = f'"{value.value.translate(_ESCAPES)}"'
    return f"{text} %% {value.type}" if value.type else text


def _time(time: datetime | None) -> str:
    return time.isoformat() if time else "-"
