"""Erasure of identifiers from dead letters."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote, urlsplit

from featurestore.registry import Registered
from ingest.letters.folder import DeadLetters
from ingest.letters.letter import DeadLetter
from lineage import Entity

__all__ = ["DeadLetterHolder"]


def _nowhere_else(group: str) -> Sequence[Entity]:
    return ()


@final
class DeadLetterHolder:
    """Erases the dead letters that name an identifier, from folders; from topics nobody can.

    A letter is a message as it came: no record yet, and no features with names. It names an
    identifier when its key or any value in it, at any depth, is the identifier; a letter that is
    no JSON and no row, when its bytes have the identifier as a word. One in another encoding, or
    compressed, is not found: those are counted. Their event times count for nothing.

    Args:
        letters: the folder of the home.
        elsewhere: says, for a group, which other places lineage knows letters to have gone to, as
            `DeadLetterSink.artifacts` names them.
    """

    name = "dead letters"

    def __init__(
        self,
        letters: DeadLetters,
        *,
        elsewhere: Callable[[str], Sequence[Entity]] = _nowhere_else,
    ) -> None:
        self._letters = letters
        self._elsewhere = elsewhere

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

        folders, not_reached = self._places(entry.group.name)
        removed = files = 0
        for folder in folders:
            of_folder = folder.retain(entry.group.name, is_kept)
            removed, files = removed + of_folder[0], files + of_folder[1]
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

    def _places(self, group: str) -> tuple[list[DeadLetters], list[str]]:
        """Return the folders that can be looked into, and what is said of the other places."""
        folders = {self._letters.folder.resolve(): self._letters}
        not_reached = []
        for entity in self._elsewhere(group):
            if entity.type == "DeadLetterTopic":
                not_reached.append(
                    f"dead letters: those of {group} in the topic {entity.properties['topic']} at "
                    f"{entity.properties['bootstrap']}; nothing can be taken out of a topic, they "
                    f"go with its retention"
                )
                continue
            folder = Path(unquote(urlsplit(entity.source_uri).path)).parent
            if (folder / group).is_dir():
                folders.setdefault(folder, DeadLetters(folder))
            elif folder not in folders:
                not_reached.append(
                    f"dead letters: those of {group} in {folder}, which is gone, or on another "
                    f"machine"
                )
        return list(folders.values()), not_reached


def _values(letter: DeadLetter) -> list[str] | None:
    """Return all values of a letter as texts; None when it cannot be decoded."""
    values = list(_flat(_decoded(letter.key))) if letter.key is not None else []
    for _, value in letter.headers:
        values.extend(_flat(_decoded(value)))
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
    texts += [value for _, value in letter.headers]
    pattern = re.compile(rf"(?<!\w){re.escape(identifier)}(?!\w)")
    return any(pattern.search(text.decode(errors="replace")) for text in texts)
