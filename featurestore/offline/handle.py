"""Open Delta tables, kept from one use to the next.

Opening a table reads its log from the last checkpoint on and lists all its files; catching up reads
what was committed since. A kept table notices by itself when it is not the one in its place any
more: the commit that it stands at must be there, and be the same.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, final

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from featurestore.offline.cache import file_system

__all__ = ["OpenTable", "OpenTables", "open_table"]

_KEPT: Final = 64


def open_table(uri: str, options: Mapping[str, str] | None) -> Any | None:
    """Return the newest version of a table as delta-rs has it; None when nothing was written yet.

    Args:
        uri: folder or object-store uri.
        options: for object stores.
    """
    try:
        return DeltaTable(uri, storage_options=dict(options) if options else None)
    except TableNotFoundError:
        return None


@final
class OpenTable:
    """A table that can catch up with what others commit.

    Args:
        delta: the newest version.
        log: what else of its log was read.
    """

    def __init__(self, delta: Any, log: _Log) -> None:
        self.delta = delta
        self._log = log
        self._checkpoint = log.checkpoint
        self._commit = log.commit(self.version)

    @classmethod
    def open(cls, uri: str, options: Mapping[str, str] | None) -> OpenTable | None:
        """Open the newest version of a table; None when nothing was written yet.

        Raises:
            DeltaError, OSError: the table cannot be read.
        """
        log = _Log(uri, options)
        delta = open_table(uri, options)
        return None if delta is None else cls(delta, log)

    @property
    def version(self) -> int:
        """The version that it stands at."""
        return int(self.delta.version())

    def catch_up(self) -> bool:
        """Go to the newest version; False when it has to be opened anew.

        That is when another table is in its place, when the log was cleaned up beyond it, and when
        there is another checkpoint: one that an erasure wrote anew, or a newer one, as delta-rs
        would go on reading all commits since the old one, each time.

        Raises:
            OSError: the object store cannot be reached.
        """
        before = self.version
        if self._commit is None or self._log.commit(before) != self._commit:
            return False
        if self._log.read_checkpoint() != self._checkpoint:
            return False
        try:
            self.delta.update_incremental()
        except DeltaError:
            return False
        if self.version != before:
            self._commit = self._log.commit(self.version)
        return self._commit is not None

    def committed(self) -> None:
        """Take note of an own commit."""
        try:
            self._commit = self._log.commit(self.version)
        except OSError:
            self._commit = None  # the commit is in all the same; the next use opens the table anew


@final
class _Log:
    """What tells one log from another.

    Args:
        uri: of the table.
        options: for object stores.
    """

    def __init__(self, uri: str, options: Mapping[str, str] | None) -> None:
        self._folder = file_system(uri, options)
        self.checkpoint = self.read_checkpoint()  # before delta-rs reads it, never a later one

    def read_checkpoint(self) -> bytes | None:
        """Return what the log says of its newest checkpoint, its size among it."""
        return self._read("_last_checkpoint")

    def commit(self, version: int) -> bytes | None:
        """Return a digest of a commit; None: there is none any more.

        It names its files, and no other's are named so; a number, a time or an inode may come
        again when a table is made anew.
        """
        data = self._read(f"{version:020}.json")
        return None if data is None else hashlib.sha256(data).digest()

    def _read(self, name: str) -> bytes | None:
        try:
            with self._folder.open_input_stream(f"_delta_log/{name}") as file:
                return bytes(file.read())
        except FileNotFoundError:
            return None


@final
class OpenTables:
    """The tables that a process has open, those used last.

    Safe with threads: who uses a table has it alone, and another thread opens one for itself, so
    that nobody waits for another's object store. A forked process finds none of its parent's.
    """

    def __init__(self, *, kept: int = _KEPT) -> None:
        self._limit = kept
        # Only single dictionary operations, in place of a lock that a fork could leave locked.
        self._kept: dict[object, OpenTable] = {}

    @contextmanager
    def newest(self, uri: str, options: Mapping[str, str] | None) -> Iterator[OpenTable | None]:
        """Have the newest version of a table; None when nothing was written yet.

        It is not kept when what is done with it fails.

        Raises:
            DeltaError, OSError: the table cannot be read.
        """
        key = (os.getpid(), uri, tuple(sorted((options or {}).items())))
        table = self._kept.pop(key, None)
        if table is None or not table.catch_up():
            table = OpenTable.open(uri, options)
        yield table
        if table is not None:
            self._kept[key] = table
            for oldest in list(self._kept)[: -self._limit]:
                self._kept.pop(oldest, None)
