"""The lineage store in PostgreSQL: shared by the processes of many machines."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from typing import Final, final

from lineage.change import Draft, Recorded
from lineage.errors import InvalidEntity, LineageError, StoreUnavailable
from lineage.log import Event, Head
from lineage.proofs.checkpoint import Checkpoint
from lineage.store import LineageStore, View
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
from lineage.store.postgres_bell import RING, CannotListen
from lineage.store.postgres_link import (
    COMMIT_TIMEOUT_S,
    POSTGRES,
    ConnectionLost,
    PostgresConnection,
    PostgresLink,
    ValueRefused,
)
from lineage.store.sqlite_dialect import SQLITE, SQLiteConnection
from lineage.store.tables import Tables

# A B-tree takes no longer key, and uids have one.
_MAX_UID_BYTES = 2_600
# How long a commit is tried again while the server is away.
_PATIENCE_S = 10.0
_PAUSE_S = 0.2
# With so many events the tables are looked at for the planner.
_ANALYSED: Final = (64, 256, 1_024, 4_096, 16_384)


@final
class PostgresStore(LineageStore):
    """Keeps log and graph in one schema of a PostgreSQL database.

    Appenders lock the head of the log one after another, so that sequence is the order of
    commit and no reader ever skips an event; the threads of a process share transactions.
    Readers see one state of the database and never wait.

    Args:
        link: to the database; use `PostgresStore.open`.
    """

    def __init__(self, link: PostgresLink) -> None:
        self._link = link
        self._commits: GroupCommit[Sequence[Draft], Outcomes] = GroupCommit(self._commit)

    @classmethod
    def open(cls, url: str, *, wait: bool = False) -> PostgresStore:
        """Open the store that a URL names; its schema and tables are made when absent.

        Args:
            url: `postgresql://USER:PASSWORD@HOST:PORT/DATABASE?schema=NAME`, with whatever else
                libpq takes; the schema is `featureline_lineage` by default.
            wait: whether the server may be away for now: the first call reaches it then.

        Raises:
            NotALineageFile: the schema holds something else; it is not touched.
            StoreUnavailable: the server is away, or refuses the login.
        """
        scripts = files("lineage.store")
        return cls(
            PostgresLink.open(
                url,
                scripts.joinpath("postgres.sql"),
                added=scripts.joinpath("checkpoint.sql"),
                indexes=scripts.joinpath("postgres_index.sql"),
                wait=wait,
            )
        )

    def append(self, draft: Draft) -> Recorded:
        """Add one event in a transaction shared with other threads; synced on return."""
        outcome = self.append_all([draft])[0]
        if isinstance(outcome, LineageError):
            raise outcome
        return outcome

    def append_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Add several events in one transaction; synced on return."""
        refused = {place: error for place, draft in enumerate(drafts) if (error := _refused(draft))}
        taken = [draft for place, draft in enumerate(drafts) if place not in refused]
        outcomes = iter(self._commits.submit(taken) if taken else [])
        return [refused.get(place) or next(outcomes) for place in range(len(drafts))]

    def adopt(self, events: Sequence[Event]) -> None:
        """Take over events of another log in one transaction; synced on return."""
        with self._link.writing() as connection:
            adopt(events, head_of(connection, held=True), Tables(connection, POSTGRES))
            connection.one(RING)

    @contextmanager
    def view(self, as_of: int | None = None) -> Iterator[View]:
        """The graph, in a read transaction."""
        with self._link.reading() as connection:
            if as_of is not None and as_of >= head_of(connection).sequence:
                as_of = None
            yield Tables(connection, POSTGRES, as_of)

    @contextmanager
    def log(self, after: int = 0) -> Iterator[tuple[Iterator[Event], Head]]:
        """The log behind an event, read in parts in one read transaction."""
        with self._link.reading() as connection:
            head = head_of(connection)
            yield events_of(connection, after), head

    def head(self) -> Head:
        """The end of the log, from its one row."""
        with self._link.reading() as connection:
            return head_of(connection)

    def wait(self, after: int, timeout_s: float) -> bool:
        """Wait for the next commit, which PostgreSQL tells of; at a standby, ask for it."""
        try:
            with self._link.explained():
                return self._link.bell.until(lambda: self.head().sequence > after, timeout_s)
        except CannotListen:
            return super().wait(after, timeout_s)

    def hashes(self, after: int, until: int) -> list[bytes]:
        """The hashes of the events behind one, up to another."""
        with self._link.reading() as connection:
            return hashes_of(connection, after, until)

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; synced on return."""
        with self._link.writing() as connection:
            add_checkpoint(connection, checkpoint)

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of the schema."""
        with self._link.reading() as connection:
            return checkpoints_of(connection)

    def rebuild(self) -> int:
        """Project the tables anew in one transaction; readers see the old ones until then."""
        with self._link.writing() as connection:
            head_of(connection, held=True)
            for table in TABLES:
                connection.many(f"DELETE FROM {table}", [()])
            return replay(events_of(connection), lambda: Tables(connection, POSTGRES))

    def stale(self) -> tuple[int, str] | None:
        """Project the log into a temporary SQLite database and compare row by row."""
        fresh = sqlite3.connect("", isolation_level=None)
        try:
            for name in ("log.sql", "graph.sql"):
                fresh.executescript(files("lineage.store").joinpath(name).read_text("utf-8"))
            fresh.execute("PRAGMA journal_mode = OFF")
            fresh.execute("BEGIN")
            expected = SQLiteConnection(fresh)
            with self._link.reading() as connection:
                replay(events_of(connection), lambda: Tables(expected, SQLITE))
                return first_difference(connection, expected)
        finally:
            fresh.close()

    def close(self) -> None:
        """Close the connections; idempotent."""
        self._link.close()

    def _commit(self, arriving: Iterator[Sequence[Draft]]) -> list[Outcomes]:
        """Commit, and when the connection is lost meanwhile, again.

        A lost connection may have committed: an event that is in is found by its uid.
        """
        groups: Sequence[Sequence[Draft]] = list(arriving)
        patience = time.monotonic() + _PATIENCE_S
        while True:
            try:
                with self._link.writing(limit_s=COMMIT_TIMEOUT_S) as connection:
                    before, outcomes = _commit(groups, connection)
                self._analyse(before, before + sum(map(len, groups)))
                return outcomes
            except ValueRefused as error:
                drafts = [draft for group in groups for draft in group]
                if len(drafts) == 1:
                    return [[error]]
                # Nothing was written: each by itself, so that one takes no other along.
                single = iter([self._commit(iter([[draft]]))[0][0] for draft in drafts])
                return [[next(single) for _ in group] for group in groups]
            except ConnectionLost as error:
                if time.monotonic() > patience:
                    raise StoreUnavailable(
                        f"{error}; the events may or may not be recorded: record them again with "
                        f"the same event_uid"
                    ) from error
                time.sleep(_PAUSE_S)

    def _analyse(self, before: int, after: int) -> None:
        """Tell the planner how the tables look, some times while they are small.

        The server does so by itself within a minute or two. Until then statements may have plans
        that read whole indexes, since all look alike in an empty table.
        """
        if any(before < events <= after for events in _ANALYSED):
            with suppress(LineageError), self._link.writing(limit_s=COMMIT_TIMEOUT_S) as connection:
                connection.many(f"ANALYZE {', '.join(TABLES)}", [()])


def _commit(
    groups: Sequence[Sequence[Draft]], connection: PostgresConnection
) -> tuple[int, list[Outcomes]]:
    """Return how many events there were before, and what became of the new ones."""
    head = head_of(connection, held=True)
    before = head.sequence
    outcomes = commit_all(groups, head, Tables(connection, POSTGRES))
    connection.one(RING)
    return before, outcomes


def _refused(draft: Draft) -> InvalidEntity | None:
    """Why PostgreSQL cannot take a draft that SQLite could."""
    for entity in draft.entities:
        if len(entity.uid.encode()) > _MAX_UID_BYTES:
            return InvalidEntity(
                f"{entity.type} {entity.name!r}: uid: expected at most {_MAX_UID_BYTES} bytes in "
                f"PostgreSQL, got {len(entity.uid.encode())}"
            )
    return None
