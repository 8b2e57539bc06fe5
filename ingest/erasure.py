"""Erasure of identifiers from dead letters."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, final

from featurestore.registry import Registered
from ingest.deadletter import DeadLetter, DeadLetters

__all__ = ["DeadLetterHolder"]


@final
class DeadLetterHolder:
    """Erases the dead letters of a folder that name an identifier.

    A letter is a message as it came: no record yet, and no features with names. It names an
    identifier when its key or any value in it, at any depth, is the identifier; a letter that is
    no JSON and no row, when its bytes have the identifier as a word. One in another encoding, or
    compressed, is not found: those are counted. Their event times count for nothing.

    Args:
        letters: the folder.
    """

    name = "dead letters"

    def __init__(self, letters: DeadLetters) -> None:
        self._letters = letters

    def erase(
        self, entry: Registered, identifiers: Sequence[str], through_us: Sequence[int]
    ) -> Mapping[str, Any]:
        """See featurestore.erasure.Holder.

        Raises:
            IngestError: a file is not one of dead letters, or cannot be written.
        """
        found = [0] * len(identifiers)
        undecodable = 0

        def is_kept(letter: DeadLetter) -> bool:
            nonlocal undecodable
            values = _values(letter)
            if values is None:
                named = [_is_word(identifier, letter) for identifier in identifiers]
            else:
                known = set(values)
                named = [identifier in known for identifier in identifiers]
            for place, is_named in enumerate(named):
                found[place] += is_named
            undecodable += values is None and not any(named)
            return not any(named)

        removed, files = self._letters.retain(entry.group.name, is_kept)
        not_reached = []
        if undecodable:
            not_reached.append(
                f"dead letters: {undecodable} of {entry.group.name} are neither JSON nor rows and "
                f"do not have an identifier as plain text; what they encode is not known"
            )
        return {
            "found": found,
            "removed": removed,
            "files": files,
            "undecodable": undecodable,
            "not_reached": not_reached,
        }


def _values(letter: DeadLetter) -> list[str] | None:
    """Return all values of a letter as texts; None when it cannot be decoded."""
    values = list(_flat(_decoded(letter.key))) if letter.key is not None else []
    if letter.payload is None:
        return values
    if isinstance(letter.payload, Mapping):
        return [*values, *_flat(letter.payload)]
    try:
        return [*values, *_flat(json.loads(letter.payload))]
    except (ValueError, RecursionError):
        return None


def _decoded(key: bytes) -> object:
    """Return a key's value: JSON, or text as it is."""
    text = key.decode(errors="replace")
    try:
        return [text, json.loads(text)]
    except (ValueError, RecursionError):
        return text


def _flat(value: object) -> Iterator[str]:
    """Give each value in a decoded one as the text that an identifier of it would have."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            waiting.extend(one.values())
        elif isinstance(one, list | tuple):
            waiting.extend(one)
        elif isinstance(one, str):
            yield one
        elif isinstance(one, int | float) and not isinstance(one, bool):
            yield repr(one)
            if isinstance(one, float) and one.is_integer():
                yield repr(int(one))  # 17.0 names the same Integral identifier as 17


def _is_word(identifier: str, letter: DeadLetter) -> bool:
    texts = [letter.payload if isinstance(letter.payload, bytes) else b"", letter.key or b""]
    pattern = re.compile(rf"(?<!\w){re.escape(identifier)}(?!\w)")
    return any(pattern.search(text.decode(errors="replace")) for text in texts)
