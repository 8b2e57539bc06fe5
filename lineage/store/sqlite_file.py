"""One SQLite file: recognised, opened, queued for, and handed through forks."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from lineage.errors import (
    InvalidEntity,
    NotALineageFile,
    StoreClosed,
    StoreCorrupt,
    StoreUnavailable,
)
from lineage.filelock import lock

# "fLin" in the header says whose file it is; the form rises with the schema.
_APPLICATION_ID = 0x664C696E
_FORM = 2
_OLDEST_FORM = 1
_MAGIC = b"SQLite format 3\0"

_BUSY_TIMEOUT_S = 30.0
_QUEUE_TIMEOUT_S = 30.0
_IDLE_READERS = 16
_WRITER_CACHE_KB = 64 * 1024
# Four times SQLite's own: the upper pages of the indexes of a million entities stay.
_READER_CACHE_KB = 8 * 1024
# 32 MB: a checkpoint holds up the writer that meets it, and one half as large comes more than
# twice as often to the same pages.
_CHECKPOINT_PAGES = 8192
_FORK_WAIT_S = 5.0
_NO_TEXT = "Could not decode to UTF-8"
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@final
class SQLiteFile:
    """A lineage file, shared by threads and processes.

    Readers get a connection each and see one state of the file. Writers queue
    twice: the caller lets one thread of the process through, and a `flock` on a
    file beside this one lets one process through, in turn. SQLite's own
    wait is a poll with growing pauses, which starves writers; its lock is still
    taken, so the queue is about fairness and never about safety.

    A fork waits for the connections in use and closes the others: SQLite keeps
    its file locks per process, and a child that inherits an open file believes in
    locks that it does not hold.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._closed = False
        self._free = threading.Condition()
        self._in_use = 0
        self._forking = False
        self._readers: list[sqlite3.Connection] = []
        self._writer: sqlite3.Connection | None = None
        self._queue: int | None = None
        self._inode = (0, 0)

    @classmethod
    def open(
        cls, path: Path, schema: str, *, added: str, bring_up: Callable[[sqlite3.Connection], None]
    ) -> SQLiteFile:
        """Open the lineage file at `path`, and make it with `schema` when there is none.

        Args:
            path: of the file.
            schema: script that makes its tables.
            added: script that makes the tables that files of this form may lack, where they do.
            bring_up: brings a file of an older form to the present one, in a transaction.

        Raises:
            NotALineageFile: the path holds something else; it is not touched.
            StoreUnavailable: the path cannot be read or written.
            StoreCorrupt: the file is damaged.
        """
        file = cls(path)
        with file.explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                raise NotALineageFile(str(path), "a folder", "name a file in it")
            with file._queued():
                file._recognise(schema, added, bring_up)
            status = path.stat()
            file._inode = (status.st_dev, status.st_ino)
        _OPEN_FILES.add(file)
        return file

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection in a read transaction: one state of the file, whatever others write."""
        with self.explained(), self._used():
            try:
                connection = self._readers.pop()
            except IndexError:
                connection = self._connect(write=False)
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.rollback()
                if self._closed or len(self._readers) >= _IDLE_READERS:
                    connection.close()
                else:
                    self._readers.append(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The connection in a write transaction, durable when the context ends well.

        The caller lets one thread at a time in here.
        """
        with self.explained(), self._used(), self._queued():
            self._check_in_place()
            if self._writer is None:
                self._writer = self._connect(write=True)
            connection = self._writer
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.rollback()

    def close(self) -> None:
        """Close every connection, those in use as they come back."""
        with self._free:
            self._closed = True
            self._free.wait_for(lambda: self._in_use == 0, timeout=_FORK_WAIT_S)
            self._close_idle()
        _OPEN_FILES.discard(self)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn what SQLite and the system raise into this package's errors."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
            is_damage = code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_IOERR_SHORT_READ
            if is_damage or str(error).startswith(_NO_TEXT):
                raise StoreCorrupt(str(self.path), str(error)) from error
            if not isinstance(error, sqlite3.OperationalError):
                raise
            raise StoreUnavailable(
                f"{self.path}: SQLite cannot go on: {error} "
                f"({getattr(error, 'sqlite_errorname', 'unknown')}); check free space, permissions "
                f"and other programs that hold the file, then try again"
            ) from error
        except OSError as error:
            raise StoreUnavailable(
                f"{self.path}: cannot be read or written: {error.strerror or error}; check that "
                f"the path is right and permitted"
            ) from error
        except UnicodeEncodeError as error:
            raise InvalidEntity(f"expected Unicode text, got {error.object!a:.200}") from error

    def before_fork(self) -> None:
        """Let the connections in use come home, close all, and hold back new ones."""
        self._free.acquire()
        self._forking = True
        self._free.wait_for(lambda: self._in_use == 0, timeout=_FORK_WAIT_S)
        self._close_idle()
        self._free.release()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        with self._free:
            self._forking = False
            self._free.notify_all()

    def after_fork_in_child(self) -> None:
        """Start anew: threads that held or waited for anything are not in the child."""
        if self._in_use:
            # Waiting was given up. SQLite forbids the child even to close what it inherits.
            _ABANDONED.append(self._writer)
            self._writer = self._queue = None
        self._free = threading.Condition()
        self._in_use = 0
        self._forking = False

    def __del__(self) -> None:
        self._close_idle()

    @contextmanager
    def _used(self) -> Iterator[None]:
        with self._free:
            self._free.wait_for(lambda: not self._forking)
            if self._closed:
                raise StoreClosed()
            self._in_use += 1
        try:
            yield
        finally:
            with self._free:
                self._in_use -= 1
                self._free.notify_all()

    @contextmanager
    def _queued(self) -> Iterator[None]:
        if self._queue is None:
            path = self.path.with_name(self.path.name + ".lock")
            self._queue = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            lock(self._queue, _QUEUE_TIMEOUT_S)
        except BaseException:
            os.close(self._queue)
            self._queue = None
            raise
        try:
            yield
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)

    def _close_idle(self) -> None:
        while self._readers:
            self._readers.pop().close()
        if self._in_use:
            return
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        if self._queue is not None:
            os.close(self._queue)
            self._queue = None

    def _connect(self, *, write: bool) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        if write:
            # Acknowledged means on disk: the WAL is synced at every commit, on macOS past the
            # cache of the drive.
            connection.executescript(
                "PRAGMA synchronous = FULL; "
                "PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON; "
                f"PRAGMA cache_size = -{_WRITER_CACHE_KB}; "
                f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}"
            )
        else:
            connection.executescript(
                f"PRAGMA query_only = ON; PRAGMA cache_size = -{_READER_CACHE_KB}"
            )
        return connection

    def _recognise(
        self, schema: str, added: str, bring_up: Callable[[sqlite3.Connection], None]
    ) -> None:
        try:
            self._prepare(schema, added, bring_up)
        except UnicodeDecodeError as error:
            # SQLite quotes what it cannot read.
            raise StoreCorrupt(str(self.path), f"its schema is no text: {error.reason}") from error
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", None) != sqlite3.SQLITE_NOTADB:
                raise
            # Only now, when it is known to be no database, may the file be opened by hand: closing
            # a descriptor of a database drops the locks that this process has on it.
            with self.path.open("rb") as file:
                start = file.read(len(_MAGIC))
            if start == _MAGIC:
                raise
            raise NotALineageFile(
                str(self.path),
                f"a file that starts with {start!r}",
                "choose another path, or restore the file from a backup; it was not touched",
            ) from error

    def _prepare(
        self, schema: str, added: str, bring_up: Callable[[sqlite3.Connection], None]
    ) -> None:
        """Recognise the file, or make it."""
        connection = self._connect(write=True)
        try:
            owner = connection.execute("PRAGMA application_id").fetchone()[0]
            form = connection.execute("PRAGMA user_version").fetchone()[0]
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if owner == 0 and tables == 0:
                # A maker that was killed half way leaves exactly this.
                connection.execute("PRAGMA journal_mode = WAL")
                connection.executescript(
                    f"BEGIN IMMEDIATE; PRAGMA application_id = {_APPLICATION_ID}; "
                    f"PRAGMA user_version = {_FORM}; {schema}; COMMIT"
                )
            elif owner != _APPLICATION_ID:
                raise NotALineageFile(
                    str(self.path),
                    "a SQLite database of another program",
                    "choose another path; the file was not touched",
                )
            elif _OLDEST_FORM <= form < _FORM:
                connection.execute("BEGIN IMMEDIATE")
                bring_up(connection)
                connection.execute(f"PRAGMA user_version = {_FORM}")
                connection.execute("COMMIT")
            elif form != _FORM:
                raise NotALineageFile(
                    str(self.path),
                    f"one of form {form} where this version writes form {_FORM}",
                    "open it with the version of featureline that wrote it",
                )
            else:
                connection.execute("SELECT log.hash FROM head JOIN log USING (seq)").fetchone()
            connection.executescript(added)
        finally:
            connection.close()

    def _check_in_place(self) -> None:
        """Refuse to write into a file that was deleted or replaced under our feet."""
        try:
            status = self.path.stat()
        except FileNotFoundError:
            status = None
        if status is None or (status.st_dev, status.st_ino) != self._inode:
            raise StoreUnavailable(
                f"{self.path}: the file was removed or replaced while open, and nothing more is "
                f"written into the old one; close the graph and open it again"
            )


_OPEN_FILES: weakref.WeakSet[SQLiteFile] = weakref.WeakSet()
_ABANDONED: list[sqlite3.Connection | None] = []


def _before_fork() -> None:
    for file in list(_OPEN_FILES):
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in list(_OPEN_FILES):
        file.after_fork_in_parent()


def _after_fork_in_child() -> None:
    for file in list(_OPEN_FILES):
        file.after_fork_in_child()


os.register_at_fork(
    before=_before_fork,
    after_in_parent=_after_fork_in_parent,
    after_in_child=_after_fork_in_child,
)
