"""The lineage store in one SQLite file: durable, for many threads and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import final

from lineage.change import Change, Draft, Recorded
from lineage.errors import LineageError
from lineage.log import Event, Head, append_event, now_us
from lineage.projection import project, resolve
from lineage.store import LineageStore, View
from lineage.store.commit import GroupCommit
from lineage.store.sqlite_file import SQLiteFile
from lineage.store.sqlite_tables import SQLiteTables

_SCHEMA = files("lineage.store").joinpath("schema.sql").read_text("utf-8")

_EVENT = "SELECT seq, time_us, actor, kind, event_uid, body, prev, hash FROM log"


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
        self._commits: GroupCommit[Draft, Recorded] = GroupCommit(self._commit)

    @classmethod
    def open(cls, path: str | Path) -> SQLiteStore:
        """Open the store at `path`; the file and its folders are made when absent.

        Raises:
            NotALineageFile: the path holds something else; it is not touched.
            StoreUnavailable: the path cannot be read or written.
            StoreCorrupt: the file is damaged.
        """
        return cls(SQLiteFile.open(Path(path), _SCHEMA))

    def append(self, draft: Draft) -> Recorded:
        """Add one event in a transaction shared with other threads; synced on return."""
        return self._commits.submit(draft)

    @contextmanager
    def view(self) -> Iterator[View]:
        """The graph as of now, in a read transaction."""
        with self._file.reading() as connection:
            yield SQLiteTables(connection)

    @contextmanager
    def log(self) -> Iterator[tuple[Iterator[Event], Head]]:
        """The whole log, read row by row in one read transaction."""
        with self._file.reading() as connection:
            connection.text_factory = _any_text
            try:
                yield _events(connection), _head(connection)
            finally:
                connection.text_factory = str

    def rebuild(self) -> int:
        """Project both tables anew in one transaction; readers see the old ones until then."""
        with self._file.writing() as connection:
            connection.execute("DELETE FROM edge")
            connection.execute("DELETE FROM entity")
            return _replay(_events(connection), connection)

    def stale(self) -> tuple[int, str] | None:
        """Project the log into a temporary database and compare row by row."""
        fresh = sqlite3.connect("", isolation_level=None)
        try:
            fresh.executescript(f"PRAGMA journal_mode = OFF; {_SCHEMA}; BEGIN")
            with self._file.reading() as connection:
                _replay(_events(connection), fresh)
                return _first_difference(connection, fresh)
        finally:
            fresh.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def _commit(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        with self._file.writing() as connection:
            tables = SQLiteTables(connection)
            head = start = _head(connection)
            outcomes: list[Recorded | LineageError] = []
            for draft in drafts:
                try:
                    outcome, head = _append(draft, head, tables)
                except LineageError as error:
                    # `_append` refuses before it writes, so the others are not touched.
                    outcomes.append(error)
                else:
                    outcomes.append(outcome)
            if head != start:
                connection.execute(
                    "UPDATE head SET seq = ?, time_us = ?, hash = ?",
                    (head.sequence, head.time_us, head.hash),
                )
            return outcomes


def _append(draft: Draft, head: Head, tables: SQLiteTables) -> tuple[Recorded, Head]:
    known = tables.connection.execute(
        "SELECT seq, body FROM log WHERE event_uid = ?", (draft.event_uid,)
    ).fetchone()
    if known is not None:
        sequence, body = known
        uids = [entity.uid for entity in Change.decode(body).entities[: len(draft.entities)]]
        stored = tables.by_uid(uids)
        return Recorded(sequence, tuple(stored[uid] for uid in uids)), head
    change, before = resolve(draft, tables)
    event, head = append_event(
        head,
        now_us=now_us(),
        actor=draft.actor,
        kind=draft.kind,
        event_uid=draft.event_uid,
        body=change.encode(),
    )
    tables.connection.execute(
        "INSERT INTO log (seq, time_us, actor, kind, event_uid, body, prev, hash) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            event.sequence,
            event.time_us,
            event.actor,
            event.kind,
            event.event_uid,
            event.body,
            event.previous,
            event.hash,
        ),
    )
    entities = project(change, event.time_us, before)
    tables.write(event.sequence, entities, change.associations, before)
    stored = {entity.uid: entity for entity in entities}
    wanted = change.entities[: len(draft.entities)]
    return Recorded(event.sequence, tuple(stored[entity.uid] for entity in wanted)), head


def _replay(events: Iterator[Event], into: sqlite3.Connection) -> int:
    """Project events into empty tables."""
    read = 0
    for event in events:
        tables = SQLiteTables(into)
        change = Change.decode(event.body)
        touched = {entity.uid for entity in change.entities}
        touched.update(uid for link in change.associations for uid in link[:2])
        before = tables.by_uid(touched)
        entities = project(change, event.time_us, before)
        tables.write(event.sequence, entities, change.associations, before)
        read += 1
    return read


def _first_difference(
    stored: sqlite3.Connection, fresh: sqlite3.Connection
) -> tuple[int, str] | None:
    """The first row that is not what the log says."""
    entities = "SELECT created_seq, id, uid, * FROM entity ORDER BY id"
    edges = (
        "SELECT valid_from_seq, s.uid, d.uid, edge.* FROM edge LEFT JOIN entity AS s ON s.id = src "
        "LEFT JOIN entity AS d ON d.id = dst ORDER BY dst, src, edge.type, valid_from_seq"
    )
    for what, select in (("entity", entities), ("association", edges)):
        for found, expected in zip_longest(stored.execute(select), fresh.execute(select)):
            if found != expected:
                sequence, *name = expected or found
                state = "missing" if found is None else "not in the log"
                state = "not as recorded" if found and expected else state
                return sequence, f"{what} {' → '.join(map(str, name[:2]))} is {state}"
    return None


def _events(connection: sqlite3.Connection) -> Iterator[Event]:
    return (Event(*row) for row in connection.execute(f"{_EVENT} ORDER BY seq"))


def _head(connection: sqlite3.Connection) -> Head:
    return Head(*connection.execute("SELECT seq, time_us, hash FROM head").fetchone())


def _any_text(value: bytes) -> str:
    """Text as stored, also where an altered row holds bytes that are none."""
    return value.decode(errors="surrogateescape")
