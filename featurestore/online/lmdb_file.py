"""What can be told of an LMDB file's damage without LMDB, which ends the process on some of it.

LMDB trusts its pages: one of zeros where a leaf should be fails an assertion, and the process
ends without a word. So the root pages are looked at before LMDB does, and a file that was cut off
is read through once, in a process of its own.

Layout (LMDB 0.9, data format 1, 64 bits, little-endian):

    page   number u64 · pad u16 · flags u16 · lower u16 · upper u16 · node offsets u16 …
    meta   page header · magic u32 · version u32 · address u64 · map size u64
           · database (free pages) · database (main) · last page u64 · transaction u64
    node   data size u32 · flags u16 · key size u16 · key · data
    database  pad u32 · flags u16 · depth u16 · branch, leaf, overflow pages u64 · entries u64
           · root u64
"""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

__all__ = ["damage_at_the_roots", "damage_in_any_page"]

_PAGE_HEADER: Final = struct.Struct("<QHHHH")
_NODE: Final = struct.Struct("<IHH")
_META_TO_ROOT: Final = (80, 128)
_META_TO_PAGE_SIZE: Final = 40
_META_TO_TRANSACTION: Final = 144
_DATABASE_BYTES: Final = 48
_ROOT: Final = struct.Struct("<Q")
_BRANCH, _LEAF = 1, 2
_SUB_DATABASE: Final = 2
_NO_PAGE: Final = 2**64 - 1
# Read through by a small Python alone: it starts in milliseconds, and its end is not ours.
_WALK: Final = """
import sys, lmdb
with lmdb.open(sys.argv[1], readonly=True, lock=False, max_dbs=16) as env:
    names = [None]
    with env.begin() as txn:
        names += list(txn.cursor().iternext(values=False))
    for name in names:
        database = env.open_db(name)
        with env.begin(db=database) as txn:
            if sum(1 for _ in txn.cursor()) != txn.stat(database)["entries"]:
                sys.exit("a database has not all its entries")
"""


def damage_at_the_roots(data: Path) -> str | None:
    """Look at the root page of every database; the caller keeps writers out.

    Args:
        data: a file that LMDB has opened: its meta pages are whole.

    Returns:
        What is wrong; None when nothing is seen.
    """
    with data.open("rb") as file:
        first = file.read(_META_TO_TRANSACTION + 8)
        (page_bytes,) = struct.unpack_from("<I", first, _META_TO_PAGE_SIZE)
        file.seek(page_bytes)
        metas = [first, file.read(_META_TO_TRANSACTION + 8)]
        newest = max(metas, key=lambda meta: _ROOT.unpack_from(meta, _META_TO_TRANSACTION))
        free, main = (_ROOT.unpack_from(newest, at)[0] for at in _META_TO_ROOT)
        for root in (free, main):
            if not _is_tree_page(_page(file, root, page_bytes), root):
                return f"page {root} is no page of its tree"
        for root in _sub_roots(_page(file, main, page_bytes)):
            if not _is_tree_page(_page(file, root, page_bytes), root):
                return f"page {root} is no page of its tree"
    return None


def damage_in_any_page(folder: Path) -> str | None:
    """Read every entry of an environment in a process of its own; the caller keeps writers out.

    Returns:
        What is wrong; None when all can be read.
    """
    done = subprocess.run(
        [sys.executable, "-c", _WALK, str(folder)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return None
    return (done.stderr.strip().splitlines() or [f"reading it ended by {done.returncode}"])[-1]


def _page(file: BinaryIO, number: int, page_bytes: int) -> bytes:
    if number == _NO_PAGE:
        return b""
    file.seek(number * page_bytes)
    return file.read(page_bytes)


def _is_tree_page(page: bytes, number: int) -> bool:
    if number == _NO_PAGE:
        return True  # an empty tree
    if len(page) < _PAGE_HEADER.size:
        return False
    found, _, flags, lower, upper = _PAGE_HEADER.unpack_from(page)
    return (
        found == number
        and flags & 0xF in (_BRANCH, _LEAF)
        and _PAGE_HEADER.size <= lower <= upper <= len(page)
    )


def _sub_roots(page: bytes) -> Iterator[int]:
    """Yield the roots that a leaf of the main database names; its few names fill one leaf."""
    if not page:
        return
    _, _, flags, lower, _ = _PAGE_HEADER.unpack_from(page)
    if not flags & _LEAF:
        return
    for at in range(_PAGE_HEADER.size, lower, 2):
        (offset,) = struct.unpack_from("<H", page, at)
        if offset + _NODE.size > len(page):
            return
        _, node_flags, key_bytes = _NODE.unpack_from(page, offset)
        end = offset + _NODE.size + key_bytes + _DATABASE_BYTES
        if node_flags & _SUB_DATABASE and end <= len(page):
            yield _ROOT.unpack_from(page, end - _ROOT.size)[0]
