"""Source positions in LMDB: an entry for each partition, so that a batch costs what it moves.

A source of files has a partition for each file, tens of thousands of them. Under the source's name
alone lie the positions that an earlier version wrote, all as one JSON object; the first batch of
the source takes them apart.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Any, Final

from featurestore.errors import PositionConflict
from featurestore.position import SourcePosition

__all__ = ["advance_position", "all_positions", "positions_of"]

# No byte of a text in UTF-8 is 0xff: the name in a key begins and ends with one, and so no name's
# entries lie among another's, nor among the names alone.
_MARK: Final = b"\xff"
_DIGEST_BYTES: Final = 16
_NEXT: Final = Struct("<q")


def positions_of(txn: Any, positions: Any, source: str) -> dict[str, int]:
    """Return the stored next position of each partition of a source.

    Cost: one step of a cursor for each partition.
    """
    return _whole(txn, positions, source) | dict(_entries(txn, positions, source))


def advance_position(txn: Any, positions: Any, position: SourcePosition) -> None:
    """Move a source on, in the write transaction of the batch.

    Raises:
        PositionConflict: a partition does not stand at the batch's start.
    """
    source = position.source
    whole = _whole(txn, positions, source)
    if whole:
        _put(txn, positions, source, whole.items())
        txn.delete(source.encode(), db=positions)
    stored: dict[str, int] = {}
    for part in position.partitions:
        data = txn.get(_key(source, part.partition), db=positions)
        if data is not None:
            stored[part.partition] = _NEXT.unpack_from(data)[0]
    try:
        after = position.advance(stored)
    except PositionConflict:
        # The one who has to seek wants to know of all partitions.
        position.advance(positions_of(txn, positions, source))
        raise
    _put(txn, positions, source, after.items())


def all_positions(txn: Any, positions: Any) -> Mapping[str, Mapping[str, int]]:
    """Return the positions of all sources, by source."""
    found: dict[str, dict[str, int]] = {}
    with txn.cursor(db=positions) as cursor:
        for key, data in cursor:
            name = bytes(key)
            if name.startswith(_MARK):
                source = name[1 : -_DIGEST_BYTES - 1].decode()
                partition, following = _decode(data)
                found.setdefault(source, {})[partition] = following
            else:
                found.setdefault(name.decode(), {}).update(json.loads(bytes(data)))
    return found


def _whole(txn: Any, positions: Any, source: str) -> dict[str, int]:
    data = txn.get(source.encode(), db=positions)
    return {} if data is None else dict(json.loads(bytes(data)))


def _entries(txn: Any, positions: Any, source: str) -> Iterator[tuple[str, int]]:
    prefix = _MARK + source.encode() + _MARK
    with txn.cursor(db=positions) as cursor:
        if cursor.set_range(prefix):
            for key, data in cursor:
                if not bytes(key).startswith(prefix):
                    return
                yield _decode(data)


def _put(txn: Any, positions: Any, source: str, stored: Iterable[tuple[str, int]]) -> None:
    for partition, following in stored:
        data = _NEXT.pack(following) + partition.encode()
        txn.put(_key(source, partition), data, db=positions)


def _key(source: str, partition: str) -> bytes:
    digest = hashlib.sha256(partition.encode()).digest()[:_DIGEST_BYTES]
    return _MARK + source.encode() + _MARK + digest


def _decode(data: Any) -> tuple[str, int]:
    return bytes(data[_NEXT.size :]).decode(), _NEXT.unpack_from(data)[0]
