"""The lineage store in one SQLite file: durable, for many threads and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import final

from lineage.change import Draft, Recorded
from lineage.errors import LineageError
from lineage.log import Event, Head
from lineage.proofs.checkpoint import Checkpoint
from lineage.store import LineageStore, View
from lineage.store.ahead import read_ahead
from lineage.store.commit import GroupCommit
from lineage.store.ledger import (
    TABLES,
    Outcomes,
    add_checkpoint,
    adopt,
    checkpoints_of,
    commit_all,
    events_of,
    first_difference,
    hashes_of,
    head_of,
    replay,
)
from lineage.store.sqlite_dialect import SQLITE, SQLiteConnection
from lineage.store.sqlite_file import SQLiteFile
from lineage.store.tables import Tables

_LOG = files("lineage.store").joinpath("log.sql").read_text("utf-8")
_GRAPH = files("lineage.store").joinpath("graph.sql").read_text("utf-8")
_CHECKPOINT = files("lineage.store").joinpath("checkpoint.sql").read_text("utf-8")


@final
class SQLiteStore(LineageStore):
    """Keeps log and graph in one file in WAL mode, synced at every commit.

    Threads share transactions (group commit), processes queue for the file in
    turn, and readers never wait. The file has to lie on a local disk.

    Args:
        file: the opened file; use `SQLiteStore.open`.
    """

    def __init__(self, file: SQLiteFile) -> None:
        self._file = file
        self._is_read_ahead = False
        self._commits: GroupCommit[Sequence[Draft], Outcomes] = GroupCommit(self._commit)

    @classmethod
    def open(cls, path: str | Path) -> SQLiteStore:
        """Open the store at `path`; the file and its folders are made when absent.

        Raises:
            NotALineageFile: the path holds something else; it is not touched.
            StoreUnavailable: the path cannot be read or written.
            StoreCorrupt: the file is damaged.
        """
        return cls(
            SQLiteFile.open(Path(path), f"{_LOG}; {_GRAPH}", added=_CHECKPOINT, bring_up=_bring_up)
        )

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def mirror_path(self) -> Path | None:
        """A file beside the lineage file."""
        return self._file.path.with_name(self._file.path.name + ".mirror")

    def read_ahead(self) -> None:
        """Bring the file into memory, once, when it fits."""
        if not self._is_read_ahead:
            self._is_read_ahead = True
            read_ahead(self._file.path)

    def append(self, draft: Draft) -> Recorded:
        """Add one event in a transaction shared with other threads; synced on return."""
        outcome = self._commits.submit([draft])[0]
        if isinstance(outcome, LineageError):
            raise outcome
        return outcome

    def append_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Add several events in one transaction; synced on return."""
        return self._commits.submit(drafts) if drafts else []

    def adopt(self, events: Sequence[Event]) -> None:
        """Take over events of another log in one transaction; synced on return."""
        with self._file.writing() as connection:
            tables = _tables(connection)
            adopt(events, head_of(tables.connection), tables)

    @contextmanager
    def view(self, as_of: int | None = None) -> Iterator[View]:
        """The graph, in a read transaction."""
        with self._file.reading() as connection:
            if as_of is not None and as_of >= head_of(SQLiteConnection(connection)).sequence:
                as_of = None
            yield _tables(connection, as_of)

    @contextmanager
    def log(self, after: int = 0) -> Iterator[tuple[Iterator[Event], Head]]:
        """The log behind an event, read row by row in one read transaction."""
        with self._file.reading() as connection:
            connection.text_factory = any_text
            try:
                log = SQLiteConnection(connection)
                yield events_of(log, after), head_of(log)
            finally:
                connection.text_factory = str

    def head(self) -> Head:
        """The end of the log, from its one row."""
        with self._file.reading() as connection:
            return head_of(SQLiteConnection(connection))

    def hashes(self, after: int, until: int) -> list[bytes]:
        """The hashes of the events behind one, up to another."""
        with self._file.reading() as connection:
            return hashes_of(SQLiteConnection(connection), after, until)

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; synced on return."""
        with self._file.writing() as connection:
            add_checkpoint(SQLiteConnection(connection), checkpoint)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of the file."""
        with self._file.reading() as connection:
            return checkpoints_of(SQLiteConnection(connection))

    def rebuild(self) -> int:
        """Project the tables anew in one transaction; readers see the old ones until then."""
        with self._file.writing() as connection:
            for table in TABLES:
                connection.execute(f"DELETE FROM {table}")
            return replay(events_of(SQLiteConnection(connection)), partial(_tables, connection))

    def stale(self) -> tuple[int, str] | None:
        """Project the log into a temporary database and compare row by row."""
        fresh = sqlite3.connect("", isolation_level=None)
        try:
            fresh.executescript(f"PRAGMA journal_mode = OFF; {_LOG}; {_GRAPH}; BEGIN")
            with self._file.reading() as connection:
                stored = SQLiteConnection(connection)
                replay(events_of(stored), partial(_tables, fresh))
                return first_difference(stored, SQLiteConnection(fresh))
        finally:
            fresh.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def _commit(self, groups: Iterator[Sequence[Draft]]) -> list[Outcomes]:
        with self._file.writing() as connection:
            tables = _tables(connection)
            return commit_all(groups, head_of(tables.connection), tables)


def schema() -> str:
    """The script that makes a file of the present form."""
    return f"{_LOG}; {_GRAPH}; {_CHECKPOINT}"


def _tables(connection: sqlite3.Connection, as_of: int | None = None) -> Tables:
    return Tables(SQLiteConnection(connection), SQLITE, as_of)


def _bring_up(connection: sqlite3.Connection) -> None:
    """Bring a file of form 1 to the present one: its log stays, its graph is made anew."""
    connection.execute("DROP TABLE edge")
    connection.execute("DROP TABLE entity")
    for statement in _statements(_GRAPH):
        connection.execute(statement)
    replay(events_of(SQLiteConnection(connection)), partial(_tables, connection))


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def any_text(value: bytes) -> str:
    """Text as stored, also where an altered row holds bytes that are none."""
    return value.decode(errors="surrogateescape")
