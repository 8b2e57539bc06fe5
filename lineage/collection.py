"""What a collection of garbage would delete, or has deleted: its values."""

from __future__ import annotations

from collections.abc import Collection as Several
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol, final

__all__ = ["KINDS", "Collection", "Collects", "Item"]

KINDS: Final = ("model", "dataset", "job", "checkpoint", "table")
"""What of a home may go at all."""


@final
@dataclass(frozen=True)
class Item:
    """Something of a home that may go, or has to stay.

    Args:
        kind: one of `KINDS`.
        uri: of the folder, file or table.
        uid: of the entity that it belongs to.
        size_bytes: of the files that would go, or of those that stay.
        goes: whether it may.
        why: the reason, in words.
        chain: names from the entity to what needs it, the shortest way; empty for what may go.
        paths: what is deleted, when it goes; a server keeps them to itself.
        pinned: versions of a table that stay readable.
    """

    kind: str
    uri: str
    uid: str
    size_bytes: int
    goes: bool
    why: str
    chain: tuple[str, ...] = ()
    paths: tuple[Path, ...] = ()
    pinned: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "kind": self.kind,
            "uri": self.uri,
            "uid": self.uid,
            "bytes": self.size_bytes,
            "goes": self.goes,
            "why": self.why,
            "chain": list(self.chain),
            "pinned_versions": list(self.pinned),
        }


@final
@dataclass(frozen=True)
class Collection:
    """What a collection would delete, or has deleted.

    Args:
        items: what was looked at, what goes first.
        sequence: of the last event of the lineage that was taken into account.
        applied: whether it was deleted.
        recorded: uid of the action that says so in the lineage; "" when nothing was deleted.
    """

    items: tuple[Item, ...]
    sequence: int
    applied: bool = False
    recorded: str = ""

    @property
    def going(self) -> tuple[Item, ...]:
        """What may go, or went."""
        return tuple(item for item in self.items if item.goes)

    @property
    def size_bytes(self) -> int:
        """How much that is."""
        return sum(item.size_bytes for item in self.going)

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "applied": self.applied,
            "bytes": self.size_bytes,
            "sequence": self.sequence,
            "recorded": self.recorded,
            "items": [item.to_json() for item in self.items],
        }


class Collects(Protocol):
    """Collects the garbage of a home: what a server needs to answer `CollectGarbage`."""

    def __call__(
        self, *, apply: bool, keep: Several[str], older_than: timedelta, kinds: Several[str]
    ) -> Collection:
        """Say what may go, or delete it.

        Args:
            apply: delete it, and record that.
            keep: uids of what is in use, too.
            older_than: younger things stay.
            kinds: of `KINDS`; none: all of them.

        Raises:
            InvalidQuery: an unknown kind or a negative age, or the lineage does not come to rest.
            EntityNotFound: what is to be kept does not exist.
        """
