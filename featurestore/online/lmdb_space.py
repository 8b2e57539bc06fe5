"""An ordered space of keys in an LMDB transaction, for what keeps its own keys there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, final

__all__ = ["LmdbSpace"]

_AT_ONCE = 256


@final
class LmdbSpace:
    """See `featurestore.window.tile.Space`.

    Args:
        txn: an open transaction.
        database: where the keys are.
    """

    __slots__ = ("_database", "txn")

    def __init__(self, txn: Any, database: Any) -> None:
        self.txn = txn
        self._database = database

    def get(self, key: bytes) -> bytes | None:
        """Return a value; None without one."""
        value: bytes | None = self.txn.get(key, db=self._database)
        return value

    def put(self, key: bytes, value: bytes) -> None:
        """Set a value."""
        self.txn.put(key, value, db=self._database)

    def delete(self, key: bytes) -> None:
        """Take a key and its value away, where there is one."""
        self.txn.delete(key, db=self._database)

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Return keys and values from `first` to before `end`.

        In slices, each read at once: what was returned may be changed before the next is asked.
        """
        while True:
            found: list[tuple[bytes, bytes]] = []
            with self.txn.cursor(db=self._database) as cursor:
                if cursor.set_range(first):
                    for item in cursor:
                        if item[0] >= end or len(found) == _AT_ONCE:
                            break
                        found.append(item)
            yield from found
            if len(found) < _AT_ONCE:
                return
            first = found[-1][0] + b"\x00"
