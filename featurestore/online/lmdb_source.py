"""What a migration reads of an LMDB store while others write it."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, final

from featurestore.errors import StoreUnavailable
from featurestore.online.lmdb import LmdbStore
from featurestore.online.lmdb_changes import MARK, Migration, migration_of
from featurestore.online.lmdb_position import all_positions

__all__ = ["Changes", "LmdbSource"]

SLICE: Final = 2_000
SLICE_BYTES: Final = 8 << 20
_NUMBER: Final = struct.Struct(">Q")
_SEQUENCE: Final = struct.Struct("<Q")
_OUTBOX_KEY: Final = struct.Struct(">IQ")


class Changes(NamedTuple):
    """Keys that were written since, with their values of now; None for one that is gone.

    Args:
        through: number of the last of them.
        items: keys and values, each key once.
    """

    through: int
    items: Sequence[tuple[bytes, bytes | None]]


@final
class LmdbSource:
    """Reads records, changes, positions and outbox of a store.

    Methods that take a transaction read in it: in a write transaction nobody else writes, so what
    they return is the last there is.
    """

    def __init__(self, store: LmdbStore) -> None:
        self._store = store
        self._db = store.databases

    def begin(self, to: str) -> bool:
        """Let all writers note what they write; return whether they did already.

        Raises:
            StoreUnavailable: a migration to another place has begun.
        """
        with self._store.transaction(write=True) as txn:
            begun = migration_of(txn, self._db.meta)
            if begun is None:
                txn.drop(self._db.changes, delete=False)
                txn.put(MARK, Migration(to, moved=False).to_bytes(), db=self._db.meta)
            elif begun.to != to:
                raise StoreUnavailable(
                    f"a migration to {begun.to} has begun; finish it, or end it by "
                    f"`featureline migrate --abort`, then migrate to {to}"
                )
        return begun is not None

    def abort(self) -> bool:
        """Forget a migration that has not ended; return whether there was one."""
        with self._store.transaction(write=True) as txn:
            begun = migration_of(txn, self._db.meta) is not None
            txn.delete(MARK, db=self._db.meta)
            txn.drop(self._db.changes, delete=False)
        return begun

    def count(self) -> int:
        """Return how many versions there are."""
        with self._store.transaction() as txn:
            return int(txn.stat(self._db.records)["entries"])

    def records(self, after: bytes | None) -> list[tuple[bytes, bytes]]:
        """Return the next versions behind a key, with their keys, as they are stored."""
        found: list[tuple[bytes, bytes]] = []
        size = 0
        # A short read transaction per slice: a long one keeps LMDB from reusing pages.
        with self._store.transaction() as txn, txn.cursor(db=self._db.records) as cursor:
            more = cursor.first() if after is None else cursor.set_range(after)
            while more and len(found) < SLICE and size < SLICE_BYTES:
                key, data = cursor.item()
                if key != after:
                    found.append((key, data))
                    size += len(data)
                more = cursor.next()
        return found

    def last_change(self) -> int:
        """Return the number of the newest change, 0 when there is none."""
        with self._store.transaction() as txn, txn.cursor(db=self._db.changes) as cursor:
            return int(_NUMBER.unpack(cursor.key())[0]) if cursor.last() else 0

    def waiting_changes(self) -> int:
        """Count the changes that were noted and not forgotten."""
        with self._store.transaction() as txn:
            return int(txn.stat(self._db.changes)["entries"])

    def changes(self, txn: Any | None = None, *, after: int = 0) -> Changes | None:
        """Return the next changes, None when there are none."""
        if txn is None:
            with self._store.transaction() as reading:
                return self.changes(reading, after=after)
        items: dict[bytes, bytes | None] = {}
        size = 0
        with txn.cursor(db=self._db.changes) as cursor:
            more = cursor.set_range(_NUMBER.pack(after + 1))
            while more and len(items) < SLICE and size < SLICE_BYTES:
                number, key = cursor.item()
                data = items[key] = txn.get(key, db=self._db.records)
                size += len(data or b"")
                after = _NUMBER.unpack(number)[0]
                more = cursor.next()
        return Changes(after, list(items.items())) if items else None

    def forget_changes(self, through: int) -> None:
        """Remove changes that were copied."""
        last = _NUMBER.pack(through)
        with (
            self._store.transaction(write=True) as txn,
            txn.cursor(db=self._db.changes) as cursor,
        ):
            more = cursor.first()
            while more and cursor.key() <= last:
                more = cursor.delete()
                more = more and bool(cursor.key())

    def positions(self, txn: Any | None = None) -> Mapping[str, Mapping[str, int]]:
        """Return all source positions, by source."""
        if txn is None:
            with self._store.transaction() as reading:
                return self.positions(reading)
        return all_positions(txn, self._db.positions)

    def outbox(self, txn: Any) -> Iterator[tuple[int, int, bytes]]:
        """Return group, sequence and bytes of all waiting entries, in order."""
        with txn.cursor(db=self._db.outbox) as cursor:
            for key, data in cursor:
                group, sequence = _OUTBOX_KEY.unpack(key)
                yield group, sequence, data

    def sequence(self, txn: Any) -> int:
        """Return the store's running number."""
        data = txn.get(b"sequence", db=self._db.meta)
        return 0 if data is None else int(_SEQUENCE.unpack(data)[0])
