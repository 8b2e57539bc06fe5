"""How answers name entities, amounts, times and values, in text and as plain JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime

from lineage.entity import JSON, Entity, Kind

_LONGEST = 60


def title(entity: Entity) -> str:
    """An entity in a line: type, name, version if it has one, and state."""
    name = f"{entity.type} {entity.name}"
    if entity.kind is Kind.ARTIFACT or entity.version > 1:
        name = f"{name} v{entity.version}"
    return f"{name} ({entity.state})" if entity.state else name


def entity_json(entity: Entity) -> dict[str, JSON]:
    """What identifies an entity, as plain values."""
    return {
        "uid": entity.uid,
        "kind": entity.kind.value,
        "type": entity.type,
        "name": entity.name,
        "version": entity.version,
        "state": entity.state,
        "source_uri": entity.source_uri,
        "content_hash": entity.content_hash,
    }


def plural(count: int, noun: str) -> str:
    """A number with its noun.

    >>> plural(1, "row"), plural(1200, "row")
    ('1 row', '1,200 rows')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def moment(time: datetime | None) -> str:
    """A time for people: to the second, UTC."""
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S} UTC"


def value_text(value: JSON) -> str:
    """A value in a line, cut when it is long.

    >>> value_text(True), value_text("abc"), value_text({"a": 1}), value_text(0.5)
    ('true', 'abc', '{"a":1}', '0.5')
    """
    if isinstance(value, str):
        text = value
    elif isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    else:
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def flat(values: Mapping[str, JSON], before: str = "") -> dict[str, JSON]:
    """Nested values by their dotted names; an empty mapping stays one value.

    >>> flat({"a": {"b": 1, "c": [2]}, "d": {}})
    {'a.b': 1, 'a.c': [2], 'd': {}}
    """
    found: dict[str, JSON] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found.update(flat(value, f"{before}{name}."))
        else:
            found[f"{before}{name}"] = value
    return found
