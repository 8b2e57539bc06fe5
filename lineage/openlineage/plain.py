"""Foreign JSON made into what the graph can keep, with a note of every change."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, Final

from lineage.entity import JSON

__all__ = ["kept", "shown"]

# An entity's facet may nest 24 levels; it stands up to three levels deep in the event.
_MAX_NESTING: Final = 20
_MAX_INTEGER_BITS: Final = 64
_SHOWN: Final = 80
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


def kept(value: Any, where: str, note: Callable[[str, str], None], depth: int = 0) -> Any:
    """A copy of `value` without what JSON or the graph cannot hold.

    Halves of surrogate pairs become U+FFFD; numbers that are not finite, integers beyond 64
    bits and what nests deeper than 20 levels become text.

    Args:
        value: as parsed.
        where: path of the value.
        note: told path and change.
        depth: levels above the value.
    """
    if isinstance(value, str):
        return _text(value, where, note)
    if isinstance(value, dict | list):
        if depth >= _MAX_NESTING:
            note(where, f"nested deeper than {_MAX_NESTING} levels; kept as text")
            return _text(json.dumps(value, ensure_ascii=False), where, note)
        if isinstance(value, list):
            return [
                kept(item, f"{where}[{place}]", note, depth + 1) for place, item in enumerate(value)
            ]
        return {
            _text(name, where, note): kept(
                item, f"{where}.{name}" if where else name, note, depth + 1
            )
            for name, item in value.items()
        }
    if isinstance(value, float) and not math.isfinite(value):
        note(where, "a number that JSON does not have; kept as text")
        return str(value)
    if isinstance(value, int) and value.bit_length() > _MAX_INTEGER_BITS:
        note(where, f"an integer of more than {_MAX_INTEGER_BITS} bits; kept as text")
        return f"{value:#x}"
    return value


def shown(value: JSON | Any) -> str:
    """What an error says that it got.

    >>> shown(None), shown({"a": 1}), shown("x")
    ('nothing', 'an object', "'x'")
    """
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _text(text: str, where: str, note: Callable[[str, str], None]) -> str:
    if text.isascii() or not _SURROGATE.search(text):
        return text
    note(where, "half of a surrogate pair; replaced by U+FFFD")
    return _SURROGATE.sub("\ufffd", text)
