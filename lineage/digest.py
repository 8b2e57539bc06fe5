"""Digests that identify content: of bytes, files and folders."""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lineage.errors import InvalidEntity

_PIECE_BYTES: Final = 1 << 20


def bytes_digest(data: bytes | bytearray | memoryview) -> str:
    """SHA-256 of bytes, as 64 hex digits.

    >>> bytes_digest(b"")
    'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'
    """
    return hashlib.sha256(data).hexdigest()


def file_digest(path: str | Path, *, check: Callable[[], None] = lambda: None) -> str:
    """SHA-256 of a file's content, as 64 hex digits; equal to `bytes_digest` of its bytes.

    Reads in pieces, so the file may be larger than memory.

    Args:
        path: of the file.
        check: called with each piece; what it raises ends the reading.

    Raises:
        OSError: the file cannot be read.
    """
    digest, piece = hashlib.sha256(), memoryview(bytearray(_PIECE_BYTES))
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(piece):
            digest.update(piece[:count])
            check()
    return digest.hexdigest()


def folder_digest(path: str | Path) -> str:
    """SHA-256 over the relative names and contents of all files below a folder.

    Nothing else counts: not the folder's own name or place, not times, permissions
    or owners, not empty folders. Links count as what they lead to.

    Raises:
        InvalidEntity: the path is no folder, or a link leads back to a folder around it.
        OSError: a file cannot be read.
    """
    root = Path(path)
    if not root.is_dir():
        raise InvalidEntity(f"{root}: expected a folder; for a file use file_digest")
    digests: dict[bytes, bytes] = {}
    waiting = [(root, frozenset([_place(root)]))]
    while waiting:
        folder, around = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                inner = folder / entry.name
                if entry.is_dir():
                    place = _place(inner)
                    if place in around:
                        raise InvalidEntity(
                            f"{inner}: leads back to a folder around it; remove the link"
                        )
                    waiting.append((inner, around | {place}))
                else:
                    name = os.fsencode(inner.relative_to(root).as_posix())
                    digests[name] = bytes.fromhex(file_digest(inner))
    total = hashlib.sha256()
    for name, digest in sorted(digests.items()):
        total.update(struct.pack(">I", len(name)) + name + digest)
    return total.hexdigest()


def _place(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
