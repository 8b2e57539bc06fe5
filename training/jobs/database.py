"""The file in which the jobs of a home are, shared by processes: one SQLite table in `meta.db`."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, final

from training.errors import TrainingUnavailable
from training.jobs.folder import JobFolder
from training.jobs.status import SecondaryStatus

__all__ = ["JobDatabase", "as_micros", "as_time", "utc_now"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS training_job (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT NOT NULL UNIQUE,
    kind             TEXT NOT NULL DEFAULT 'training',
    job              TEXT NOT NULL,
    status           TEXT NOT NULL,
    secondary_status TEXT NOT NULL,
    transitions      TEXT NOT NULL,
    threads          INTEGER NOT NULL,
    cores            INTEGER NOT NULL DEFAULT 1,
    memory_mb        INTEGER NOT NULL DEFAULT 0,
    gpus             TEXT NOT NULL DEFAULT '[]',
    demand           TEXT NOT NULL DEFAULT '{}',
    is_admitted      INTEGER NOT NULL DEFAULT 1,
    is_unrecorded    INTEGER NOT NULL DEFAULT 0,
    device           TEXT NOT NULL DEFAULT '',
    stop_requested   INTEGER NOT NULL DEFAULT 0,
    failure_reason   TEXT NOT NULL DEFAULT '',
    metrics          TEXT NOT NULL DEFAULT '[]',
    model            TEXT NOT NULL DEFAULT '',
    digest           TEXT NOT NULL DEFAULT '',
    created_us       INTEGER NOT NULL,
    started_us       INTEGER,
    ended_us         INTEGER
);
CREATE INDEX IF NOT EXISTS training_job_status ON training_job (status);
CREATE TABLE IF NOT EXISTS training_budget (
    only      INTEGER PRIMARY KEY CHECK (only = 1),
    cores     INTEGER NOT NULL,
    memory_mb INTEGER NOT NULL,
    gpus      INTEGER NOT NULL
);
"""
_LATER_COLUMNS: Final = {
    "kind": "TEXT NOT NULL DEFAULT 'training'",
    "cores": "INTEGER NOT NULL DEFAULT 1",
    "memory_mb": "INTEGER NOT NULL DEFAULT 0",
    "gpus": "TEXT NOT NULL DEFAULT '[]'",
    "demand": "TEXT NOT NULL DEFAULT '{}'",
    "is_admitted": "INTEGER NOT NULL DEFAULT 1",
    "is_unrecorded": "INTEGER NOT NULL DEFAULT 0",
}
"""Columns that tables of earlier versions lack."""
_BUSY_TIMEOUT_S: Final = 30.0
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def utc_now() -> dt.datetime:
    """Return the time, in UTC."""
    return dt.datetime.now(dt.UTC)


def as_micros(time: dt.datetime) -> int:
    """Return a time as microseconds since 1970."""
    return (time - _EPOCH) // dt.timedelta(microseconds=1)


def as_time(micros: int) -> dt.datetime:
    """Return the time that `as_micros` wrote."""
    return _EPOCH + dt.timedelta(microseconds=micros)


@final
class JobDatabase:
    """The rows of all jobs of a home; a row's key is the name of the job's folder.

    Args:
        home: the home folder; made when absent.
        clock: tells the time.

    Raises:
        TrainingUnavailable: the file cannot be opened.
    """

    def __init__(self, home: Path, clock: Callable[[], dt.datetime]) -> None:
        self.home = home
        self._clock = clock
        self._lock = threading.RLock()
        self._path = home / "meta.db"
        with self._errors():
            home.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self._add_later_columns()

    def folder(self, key: str) -> JobFolder:
        """Return the folder of a job."""
        return JobFolder(self.home / "jobs" / key)

    def claim_path(self, key: str) -> Path:
        """Return the file that whoever runs a job has claimed."""
        return self.folder(key).root / ".claim"

    def now(self) -> int:
        """Return the time in microseconds since 1970."""
        return as_micros(self._clock())

    def query(self, sql: str, *values: object) -> list[sqlite3.Row]:
        """Return what a query finds."""
        with self._lock, self._errors():
            return self._db.execute(sql, values).fetchall()

    def row(self, key: str) -> Any:
        """Return the row of a job; None where there is none."""
        found = self.query("SELECT * FROM training_job WHERE name = ?", key)
        return found[0] if found else None

    def active(self) -> list[sqlite3.Row]:
        """Return the rows of the jobs that have not ended, in the order of their submission."""
        return self.query(
            "SELECT * FROM training_job WHERE status IN ('InProgress', 'Stopping') ORDER BY number"
        )

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Hold the file for a change that reads before it writes; an error undoes it."""
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def move(
        self,
        key: str,
        status: SecondaryStatus,
        *,
        message: str = "",
        device: str | None = None,
        failure_reason: str = "",
        metrics: str | None = None,
        model: Path | None = None,
        digest: str = "",
    ) -> None:
        """Enter a job's next secondary status, and with a final one how it ended."""
        now = self.now()
        with self.change() as db:
            transitions = json.loads(self.row(key)["transitions"])
            transitions[-1][2] = now
            is_final = status.primary.is_final
            transitions.append([status.value, now, now if is_final else None, message])
            begins = status in (SecondaryStatus.TRAINING, SecondaryStatus.TRANSFORMING)
            db.execute(
                "UPDATE training_job SET status = ?, secondary_status = ?, transitions = ?,"
                " device = coalesce(?, device), failure_reason = ?,"
                " metrics = coalesce(?, metrics), model = ?,"
                " digest = ?, started_us = coalesce(started_us, ?), ended_us = ? WHERE name = ?",
                (
                    status.primary.value,
                    status.value,
                    json.dumps(transitions),
                    device,
                    failure_reason,
                    metrics,
                    "" if model is None else model.relative_to(self.home).as_posix(),
                    digest,
                    now if begins else None,
                    now if is_final else None,
                    key,
                ),
            )

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _add_later_columns(self) -> None:
        known = {row["name"] for row in self._db.execute("PRAGMA table_info(training_job)")}
        for name, declared in _LATER_COLUMNS.items():
            if name not in known:
                # Another process may have been faster.
                with suppress(sqlite3.OperationalError):
                    self._db.execute(f"ALTER TABLE training_job ADD COLUMN {name} {declared}")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise TrainingUnavailable(f"the job registry {self._path}: {error}") from error
