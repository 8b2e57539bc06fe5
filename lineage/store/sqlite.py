"""The lineage store in one SQLite file: durable, for many threads and processes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from itertools import zip_longest
from pathlib import Path
from typing import TypeAlias, final

from lineage.change import Change, Draft, Recorded
from lineage.errors import LineageError
from lineage.log import Event, Head, append_event, now_us
from lineage.projection import project, resolve
from lineage.store import LineageStore, View
from lineage.store.commit import GroupCommit
from lineage.store.sqlite_file import SQLiteFile
from lineage.store.sqlite_tables import SQLiteTables

_LOG = files("lineage.store").joinpath("log.sql").read_text("utf-8")
_GRAPH = files("lineage.store").joinpath("graph.sql").read_text("utf-8")

# The tables of the graph, with the columns that tell a row apart and the sequence to blame.
_TABLES = {
    "entity": ("created_seq", "id, uid"),
    "edge": ("valid_from_seq", "dst, src, type, valid_from_seq"),
    "amendment": ("seq", "entity, seq"),
    "column_set": ("NULL", "dst, by"),
    "column_edge": (
        "valid_from_seq",
        "dst, dst_column, src, src_column, by, type, subtype, valid_from_seq",
    ),
    "run": ("valid_from_seq", "uid, valid_from_seq"),
    "tag": ("valid_from_seq", "entity, key, valid_from_seq"),
    "alias": ("valid_from_seq", "alias"),
}

_EVENT = "SELECT seq, time_us, actor, kind, event_uid, body, prev, hash FROM log"


Outcomes: TypeAlias = list[Recorded | LineageError]
"""What became of each of several drafts."""


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
        self._commits: GroupCommit[Sequence[Draft], Outcomes] = GroupCommit(self._commit)

    @classmethod
    def open(cls, path: str | Path) -> SQLiteStore:
        """Open the store at `path`; the file and its folders are made when absent.

        Raises:
            NotALineageFile: the path holds something else; it is not touched.
            StoreUnavailable: the path cannot be read or written.
            StoreCorrupt: the file is damaged.
        """
        return cls(SQLiteFile.open(Path(path), f"{_LOG}; {_GRAPH}", bring_up=_bring_up))

    def append(self, draft: Draft) -> Recorded:
        """Add one event in a transaction shared with other threads; synced on return."""
        outcome = self._commits.submit([draft])[0]
        if isinstance(outcome, LineageError):
            raise outcome
        return outcome

    def append_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Add several events in one transaction; synced on return."""
        return self._commits.submit(drafts) if drafts else []

    @contextmanager
    def view(self, as_of: int | None = None) -> Iterator[View]:
        """The graph, in a read transaction."""
        with self._file.reading() as connection:
            is_past = as_of is not None and as_of < _head(connection).sequence
            yield SQLiteTables(connection, as_of if is_past else None)

    @contextmanager
    def log(self, after: int = 0) -> Iterator[tuple[Iterator[Event], Head]]:
        """The log behind an event, read row by row in one read transaction."""
        with self._file.reading() as connection:
            connection.text_factory = _any_text
            try:
                yield _events(connection, after), _head(connection)
            finally:
                connection.text_factory = str

    def head(self) -> Head:
        """The end of the log, from its one row."""
        with self._file.reading() as connection:
            return _head(connection)

    def rebuild(self) -> int:
        """Project the tables anew in one transaction; readers see the old ones until then."""
        with self._file.writing() as connection:
            for table in _TABLES:
                connection.execute(f"DELETE FROM {table}")
            return _replay(_events(connection), connection)

    def stale(self) -> tuple[int, str] | None:
        """Project the log into a temporary database and compare row by row."""
        fresh = sqlite3.connect("", isolation_level=None)
        try:
            fresh.executescript(f"PRAGMA journal_mode = OFF; {_LOG}; {_GRAPH}; BEGIN")
            with self._file.reading() as connection:
                _replay(_events(connection), fresh)
                return _first_difference(connection, fresh)
        finally:
            fresh.close()

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def _commit(self, groups: Sequence[Sequence[Draft]]) -> list[Outcomes]:
        with self._file.writing() as connection:
            tables = SQLiteTables(connection)
            head = start = _head(connection)
            answers: list[Outcomes] = []
            for drafts in groups:
                outcomes: Outcomes = []
                for draft in drafts:
                    try:
                        outcome, head = _append(draft, head, tables)
                    except LineageError as error:
                        # `_append` refuses before it writes, so the others are not touched.
                        outcomes.append(error)
                    else:
                        outcomes.append(outcome)
                answers.append(outcomes)
            if head != start:
                connection.execute(
                    "UPDATE head SET seq = ?, time_us = ?, hash = ?",
                    (head.sequence, head.time_us, head.hash),
                )
            return answers


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
    tables.write(event.sequence, change, entities, before)
    stored = {entity.uid: entity for entity in entities}
    wanted = change.entities[: len(draft.entities)]
    return Recorded(event.sequence, tuple(stored[entity.uid] for entity in wanted)), head


def _replay(events: Iterator[Event], into: sqlite3.Connection) -> int:
    """Project events into empty tables."""
    read = 0
    for event in events:
        tables = SQLiteTables(into)
        change = Change.decode(event.body)
        before = tables.by_uid(change.touched)
        entities = project(change, event.time_us, before)
        tables.write(event.sequence, change, entities, before)
        read += 1
    return read


def _bring_up(connection: sqlite3.Connection) -> None:
    """Bring a file of form 1 to the present one: its log stays, its graph is made anew."""
    connection.execute("DROP TABLE edge")
    connection.execute("DROP TABLE entity")
    for statement in _statements(_GRAPH):
        connection.execute(statement)
    _replay(_events(connection), connection)


def _statements(script: str) -> Iterator[str]:
    """The statements of a script one by one: `executescript` would commit."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _first_difference(
    stored: sqlite3.Connection, fresh: sqlite3.Connection
) -> tuple[int, str] | None:
    """The first row that is not what the log says."""
    for table, (sequence, key) in _TABLES.items():
        select = f"SELECT {sequence}, {_named(table)}, {table}.* FROM {table} ORDER BY {key}"
        for found, expected in zip_longest(stored.execute(select), fresh.execute(select)):
            if found != expected:
                blamed, name = (expected or found)[:2]
                state = "missing" if found is None else "not in the log"
                state = "not as recorded" if found and expected else state
                what = {"edge": "association", "column_edge": "column lineage"}.get(table, table)
                return blamed or _head(stored).sequence, f"{what} {name} is {state}"
    return None


def _named(table: str) -> str:
    """SQL for how to call a row of a table."""
    uid = "(SELECT uid FROM entity AS e WHERE e.id = {})"
    return {
        "entity": "uid",
        "edge": f"{uid.format('src')} || ' → ' || {uid.format('dst')}",
        "column_set": f"{uid.format('dst')} || ' by ' || by",
        "column_edge": f"{uid.format('src')} || '.' || src_column || ' → ' || "
        f"{uid.format('dst')} || '.' || dst_column",
        "run": "uid",
        "alias": "alias",
    }.get(table, uid.format("entity"))


def _events(connection: sqlite3.Connection, after: int | None = None) -> Iterator[Event]:
    """The events in sequence; also those of no sensible sequence, where none is given."""
    behind = "" if not after else f"WHERE seq > {int(after)} "
    return (Event(*row) for row in connection.execute(f"{_EVENT} {behind}ORDER BY seq"))


def _head(connection: sqlite3.Connection) -> Head:
    return Head(*connection.execute("SELECT seq, time_us, hash FROM head").fetchone())


def _any_text(value: bytes) -> str:
    """Text as stored, also where an altered row holds bytes that are none."""
    return value.decode(errors="surrogateescape")
