"""Overwrites what removed records leave in an LMDB file, and looks whether anything is left.

LMDB writes changed pages elsewhere and frees the old ones, with their bytes, until they are used
again. It also keeps a removed key where it parts two pages, and bytes of removed entries between
those of their neighbours. So the neighbours are written anew, the free pages are filled once, and
the file is searched.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from featurestore import codec
from featurestore.errors import StoreFull

if TYPE_CHECKING:
    from featurestore.online.lmdb import LmdbStore

__all__ = ["scrub"]

FILLER: Final = b"filler"
MAX_FILLED_BYTES: Final = 1 << 30
MAX_SEARCHED_BYTES: Final = 32 << 30  # for all identifiers together
_PAGES: Final = 512  # in one transaction: other writers wait for no longer
_FEW: Final = 16
_PASSES: Final = 3
_PAGE_HEADER: Final = 16
_KEYS: Final = 32
_NEIGHBOURS: Final = 128
_NEIGHBOUR_PAGES: Final = 3
_LENGTH: Final = struct.Struct("<H")
_NUMBER: Final = struct.Struct(">Q")


def scrub(store: LmdbStore, env: Any, group: int, identifiers: Sequence[bytes]) -> int | None:
    """Overwrite what removed entries of identifiers left.

    Readers that began before keep pages from being overwritten.

    Args:
        store: the store.
        env: its environment.
        group: the group's number.
        identifiers: what was removed.

    Returns:
        In how many places of the file the identifiers still are, be it in what another record
        says; None when that is too much to be searched.

    Cost: writes as much as is free in the file, up to 1 GiB, and reads it once per identifier.
    """
    page_bytes = int(env.stat()["psize"])
    found = [
        (store.databases.records, codec.record_key(group, identifier)) for identifier in identifiers
    ]
    found.append((store.databases.outbox, codec.outbox_key(group, 0)))
    _rewrite(store, found, page_bytes)
    found += [(store.databases.meta, b"\0"), (store.databases.positions, b"\0")]
    path = Path(env.path()) / "data.mdb"
    left: int | None = None
    for number in range(_PASSES):
        # LMDB's own buffers have old bytes, too, which it writes between new ones; filling uses
        # them up. Then it copies of a page only what is in use.
        _fill(store, env, page_bytes, to_the_last=number > 0)
        _touch(store, found, page_bytes)
        _fill(store, env, page_bytes, to_the_last=number > 0)
        left = _places(path, group, identifiers)
        if not left:
            break
    return left


def _rewrite(store: LmdbStore, found: Sequence[tuple[Any, bytes]], page_bytes: int) -> None:
    """Take the entries around keys out and put them in again: their pages are made anew."""
    for start in range(0, len(found), _KEYS):
        with store.transaction(write=True) as txn:
            for database, key in found[start : start + _KEYS]:
                entries = _around(txn, database, key, page_bytes)
                for name in entries:
                    txn.delete(name, db=database)
                for name, value in sorted(entries.items()):
                    txn.put(name, value, db=database)


def _touch(store: LmdbStore, found: Sequence[tuple[Any, bytes]], page_bytes: int) -> None:
    """Put the entries around keys where they are: their pages are copied."""
    for start in range(0, len(found), _KEYS):
        with store.transaction(write=True) as txn:
            for database, key in found[start : start + _KEYS]:
                for name, value in _around(txn, database, key, page_bytes).items():
                    txn.put(name, value, db=database)


def _around(txn: Any, database: Any, key: bytes, page_bytes: int) -> dict[bytes, bytes]:
    entries: list[tuple[bytes, bytes]] = []
    with txn.cursor(db=database) as cursor:
        if cursor.set_range(key):
            entries += _part(cursor.iternext(), page_bytes)
        if cursor.set_range(key) or cursor.last():
            entries += _part(cursor.iterprev(), page_bytes)
    return dict(entries)


def _part(entries: Any, page_bytes: int) -> list[tuple[bytes, bytes]]:
    """Take entries until they fill some pages."""
    taken: list[tuple[bytes, bytes]] = []
    size = 0
    for name, value in islice(entries, _NEIGHBOURS):
        taken.append((name, value))
        # A larger value lies in pages of its own.
        size += len(name) + min(len(value), page_bytes // 2)
        if size > _NEIGHBOUR_PAGES * page_bytes:
            break
    return taken


def _fill(store: LmdbStore, env: Any, page_bytes: int, *, to_the_last: bool) -> None:
    """Use the free pages once.

    Args:
        store: the store.
        env: its environment.
        page_bytes: the size of a page.
        to_the_last: until the file grows, by a few pages; else it does not grow.
    """
    filler = env.open_db(FILLER)
    value = bytes(page_bytes - _PAGE_HEADER)  # one page, and all of it
    first = int(env.info()["last_pgno"])
    number = 0
    try:
        for _ in range(2):  # what a transaction frees may be used by the next but one
            with store.transaction(write=True) as txn:
                txn.drop(filler, delete=False)  # of one that was cut, too
                txn.put(_NUMBER.pack(number), value, db=filler)
        while int(env.info()["last_pgno"]) <= first and number * page_bytes < MAX_FILLED_BYTES:
            room = _free_pages(store, env, filler) - _FEW
            if room <= 0 and not to_the_last:
                break
            with store.transaction(write=True) as txn:
                for _ in range(max(_FEW, min(room, _PAGES))):
                    number += 1
                    txn.put(_NUMBER.pack(number), value, db=filler, append=True)
    except StoreFull:
        pass  # then no page is free
    with store.transaction(write=True) as txn:
        txn.drop(filler, delete=False)


def _free_pages(store: LmdbStore, env: Any, filler: Any) -> int:
    """Return about how many pages are free: those of the list of free ones count, too."""
    with store.transaction() as txn:
        stats = [env.stat(), *(txn.stat(database) for database in (*store.databases, filler))]
    used = sum(s["branch_pages"] + s["leaf_pages"] + s["overflow_pages"] for s in stats)
    return int(env.info()["last_pgno"]) - 1 - int(used)


def _places(path: Path, group: int, identifiers: Sequence[bytes]) -> int | None:
    if path.stat().st_size * len(identifiers) > MAX_SEARCHED_BYTES:
        return None
    needles = []
    for identifier in identifiers:
        key = codec.record_key(group, identifier)
        # Behind its length: as LMDB has a key, a record a text, and a sealed record its identifier.
        needles.append(_LENGTH.pack(len(key)) + key)
        needles.append(b"\x0a" + _varint(len(identifier)) + identifier)
        needles.append(_LENGTH.pack(len(identifier)) + identifier)
    count = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for needle in needles:
            at = data.find(needle)
            while at >= 0:
                count += 1
                at = data.find(needle, at + 1)
    return count


def _varint(number: int) -> bytes:
    """Write a length as protobuf does."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
