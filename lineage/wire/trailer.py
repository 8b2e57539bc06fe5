"""What fits into the trailer of a gRPC call: an error's text and its facts.

Clients take 8 KB of trailing metadata in all and end a call with more of it as a fault of the
connection, so that nobody would learn what was wrong with a text that is too long.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

__all__ = ["fit_facts", "fit_text"]

MAX_TEXT_BYTES: Final = 3000
MAX_FACTS_BYTES: Final = 2000  # as bytes of metadata they travel in base 64


def fit_text(text: str) -> str:
    """Return an error's text, with its middle left out where it is too long.

    >>> fit_text("no such entity")
    'no such entity'
    >>> short = fit_text("feature " + "x" * 100_000 + " is unknown")
    >>> short.startswith("feature xxx"), short.endswith("xxx is unknown"), len(short) < 3000
    (True, True, True)
    """
    keep = min(len(text), MAX_TEXT_BYTES)
    fitting = text
    while len(fitting) > MAX_TEXT_BYTES or _encoded_bytes(fitting) > MAX_TEXT_BYTES:
        keep = keep * 3 // 4
        fitting = f"{text[: keep * 2 // 3]} … {text[-(keep // 3) :]}"
    return fitting


def fit_facts(facts: Mapping[str, object]) -> bytes:
    """Write an error's facts as JSON, without the longest where they are too long together.

    >>> fit_facts({"group": "weather", "got": "x" * 100_000})
    b'{"group": "weather"}'
    """
    kept = dict(facts)
    written = json.dumps(kept, default=str).encode()
    while len(written) > MAX_FACTS_BYTES:
        del kept[max(kept, key=lambda name: len(str(kept[name])))]
        written = json.dumps(kept, default=str).encode()
    return written


def _encoded_bytes(text: str) -> int:
    """The length of a text as gRPC writes it: three bytes for each that is not plain ASCII."""
    return sum(
        1 if 0x20 <= byte < 0x7F and byte != 0x25 else 3
        for byte in text.encode(errors="backslashreplace")
    )
