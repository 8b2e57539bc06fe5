"""What LMDB notes of its own migration: where to, which keys changed since, and that it is over.

The mark lies in the environment itself, so each write transaction of each process sees it: while
records are copied it notes the keys it writes; once they have moved it writes nothing more.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from featurestore.errors import StoreUnavailable

__all__ = ["MARK", "Migration", "migration_of", "note_changes", "refuse_moved"]

MARK: Final = b"migration"
_NUMBER: Final = struct.Struct(">Q")


class Migration(NamedTuple):
    """The mark of a migration.

    Args:
        to: where the records go, without login.
        moved: it is over; the records are there.
    """

    to: str
    moved: bool

    def to_bytes(self) -> bytes:
        """Write it."""
        return json.dumps(self._asdict()).encode()


def migration_of(txn: Any, meta: Any) -> Migration | None:
    """Return the environment's mark, None without a migration."""
    data = txn.get(MARK, db=meta)
    return None if data is None else Migration(**json.loads(bytes(data)))


def refuse_moved(migration: Migration | None) -> None:
    """Refuse to use a store whose records have moved.

    Raises:
        StoreUnavailable: they have; says where, and to restart.
    """
    if migration is not None and migration.moved:
        raise StoreUnavailable(
            f"the online store has migrated to {migration.to}; nothing was written here: restart "
            f"this process, and it uses the new store"
        )


def note_changes(txn: Any, changes: Any, keys: Iterable[bytes]) -> None:
    """Note keys that this write transaction changes, behind those that were noted before."""
    with txn.cursor(db=changes) as cursor:
        number = _NUMBER.unpack(cursor.key())[0] if cursor.last() else 0
        for number, key in enumerate(keys, number + 1):  # noqa: B020  # goes on from the last
            cursor.put(_NUMBER.pack(number), key, append=True)
