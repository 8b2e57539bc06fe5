"""The table of all jobs of a home, training and transform: in `meta.db`, shared by processes."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, final

import lineage
from training.errors import TrainingUnavailable
from training.jobs.budget import Budget, Demand, Share
from training.jobs.claim import Claim
from training.jobs.folder import JobFolder
from training.jobs.status import SecondaryStatus
from training.provenance import record_abandoned

__all__ = ["JobTable", "as_micros", "as_time", "utc_now"]

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
}
"""Columns that tables of earlier versions lack."""
_BUSY_TIMEOUT_S: Final = 30.0
_SETTLE_S: Final = 1.0
_ABANDONED: Final = (
    "the process that ran this job ended before the job did; submit it again under another name"
)
_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_ENDS: Final = {
    "training": ("TrainingJob", "-aws-training-job"),
    "transform": ("TransformJob", "-aws-transform-job"),
}
"""By kind of job, the type of its lineage and what ends its name there."""
_SUFFIXES: Final = {"training": "", "transform": ".transform"}
"""What ends the names of folders; names of jobs have no dots, so no two kinds share one."""

logger = logging.getLogger(__name__)


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
class JobTable:
    """The jobs of a home of one kind; all kinds share the budget and the order of admission.

    A job whose process ended without a word (a crash, a power cut) is found by its claim and
    becomes Failed when the jobs are next looked at.

    Args:
        home: the home folder; made when absent.
        kind: training or transform: of the jobs that are named, listed and created.
        clock: tells the time.

    Raises:
        TrainingUnavailable: the table cannot be opened.
    """

    def __init__(
        self, home: str | Path, kind: str, *, clock: Callable[[], dt.datetime] = utc_now
    ) -> None:
        self.home = Path(home).absolute()
        self.kind = kind
        self._clock = clock
        self._lock = threading.RLock()
        self._path = self.home / "meta.db"
        self._machine: Budget | None = None
        self._settled = 0.0
        with self._errors():
            self.home.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            self._db.row_factory = sqlite3.Row
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_SCHEMA)
            self._add_later_columns()

    def folder(self, name: str) -> JobFolder:
        """Return the folder of a job."""
        return self._folder(self._key(name))

    def create(self, name: str, job: str, *, threads: int, demand: Demand | None) -> Claim | None:
        """Enter a new job; None when the name is taken.

        Args:
            name: of the job.
            job: what is asked for, as text.
            threads: of each host or process.
            demand: what `admit` is to find room for; None: a core for each thread.
        """
        folder = self.folder(name)
        folder.root.mkdir(parents=True, exist_ok=True)
        claim = Claim.take(self._claim_path(self._key(name)))
        if claim is None:
            return None
        now = as_micros(self._clock())
        starting = SecondaryStatus.STARTING
        asked = json.dumps(asdict(demand or Demand(cores=threads)))
        try:
            with self._change() as db:
                db.execute(
                    "INSERT INTO training_job (name, kind, job, status, secondary_status,"
                    " transitions, threads, demand, is_admitted, created_us)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, ?)",
                    (
                        self._key(name),
                        self.kind,
                        job,
                        starting.primary.value,
                        starting.value,
                        json.dumps([[starting.value, now, None, ""]]),
                        threads,
                        asked,
                        now,
                    ),
                )
        except sqlite3.IntegrityError:
            claim.release()
            return None
        except BaseException:
            claim.release()
            raise
        return claim

    def budget(self) -> Budget:
        """Return what the jobs may use at once: as `set_budget` said, else the whole machine."""
        with self._lock, self._errors():
            row = self._db.execute("SELECT * FROM training_budget").fetchone()
        if row is None:
            self._machine = self._machine or Budget.of_machine()
            return self._machine
        return Budget(cores=row["cores"], memory_mb=row["memory_mb"], gpus=row["gpus"])

    def set_budget(self, budget: Budget) -> None:
        """Say what the jobs may use at once; jobs that run keep what they have."""
        with self._change() as db:
            db.execute(
                "INSERT OR REPLACE INTO training_budget (only, cores, memory_mb, gpus)"
                " VALUES (1, ?, ?, ?)",
                (budget.cores, budget.memory_mb, budget.gpus),
            )

    def admit(self, name: str) -> Share | None:
        """Give a job its share of the budget, or None while it has to wait.

        Jobs are admitted in the order of their submission, so that none waits for ever. A share is
        free again when its job has ended, however it did: the claim tells.
        """
        if not self._may_be_next(name):
            return None
        self.settle()
        budget = self.budget()
        with self._change() as db:
            mine = self._row(self._key(name))
            running = []
            for row in self._active():
                if row["is_admitted"]:
                    running.append(_share(row))
                elif row["number"] < mine["number"]:
                    return None
            if mine["is_admitted"]:
                return _share(mine)
            share = budget.admit(Demand(**json.loads(mine["demand"])), running)
            if share is not None:
                db.execute(
                    "UPDATE training_job SET is_admitted = 1, cores = ?, memory_mb = ?, gpus = ?"
                    " WHERE name = ?",
                    (share.cores, share.memory_mb, json.dumps(share.gpus), mine["name"]),
                )
            return share

    def _may_be_next(self, name: str) -> bool:
        """Whether no job waits before this one, seen without a lock: many may wait, and often ask.

        Now and then it looks whether those before it are still there.
        """
        with self._lock, self._errors():
            before = self._db.execute(
                "SELECT 1 FROM training_job WHERE status IN ('InProgress', 'Stopping')"
                " AND is_admitted = 0 AND number < ? LIMIT 1",
                (self._row(self._key(name))["number"],),
            ).fetchone()
        if before is None:
            return True
        now = time.monotonic()
        if now > self._settled + _SETTLE_S:
            self._settled = now
            self.settle()
        return False

    def cores_in_use(self) -> int:
        """Count the cores of the jobs that were admitted and have not ended."""
        with self._lock, self._errors():
            return sum(row["cores"] for row in self._active() if row["is_admitted"])

    def move(
        self,
        name: str,
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
        self._move(
            self._key(name),
            status,
            message=message,
            device=device,
            failure_reason=failure_reason,
            metrics=metrics,
            model=model,
            digest=digest,
        )

    def note(self, name: str, metrics: str) -> None:
        """Say what a job has reached so far."""
        with self._change() as db:
            db.execute(
                "UPDATE training_job SET metrics = ? WHERE name = ?", (metrics, self._key(name))
            )

    def row(self, name: str) -> sqlite3.Row | None:
        """Return what is known of a job; None where there is no such job."""
        with self._lock, self._errors():
            found: sqlite3.Row | None = self._row(self._key(name))
        return found

    def rows(
        self, *, name_contains: str = "", status: str | None = None, limit: int, after: int = 0
    ) -> list[sqlite3.Row]:
        """Return what is known of the jobs behind a number, in the order of their creation."""
        self.settle()
        with self._lock, self._errors():
            return self._db.execute(
                "SELECT * FROM training_job WHERE kind = ? AND number > ?"
                " AND instr(substr(name, 1, length(name) - ?), ?) > 0"
                " AND (? IS NULL OR status = ?) ORDER BY number LIMIT ?",
                (
                    *(self.kind, after, len(_SUFFIXES[self.kind]), name_contains),
                    *(status, status, limit),
                ),
            ).fetchall()

    def names(self) -> list[str]:
        """Return the names of all jobs of this kind."""
        with self._lock, self._errors():
            rows = self._db.execute("SELECT * FROM training_job WHERE kind = ?", (self.kind,))
            return [self.name_in(row) for row in rows]

    def name_in(self, row: sqlite3.Row) -> str:
        """Return the name of the job that a row is about."""
        return str(row["name"]).removesuffix(_SUFFIXES[self.kind])

    def stop(self, name: str) -> bool:
        """Ask a job to stop; False where there is no such job.

        One that has ended is left as it is.
        """
        with self._change() as db:
            row = self._row(self._key(name))
            if row is not None and not SecondaryStatus(row["secondary_status"]).primary.is_final:
                db.execute(
                    "UPDATE training_job SET stop_requested = 1 WHERE name = ?", (row["name"],)
                )
            return row is not None

    def is_stop_requested(self, name: str) -> bool:
        """Whether `stop` was called for a job."""
        with self._lock, self._errors():
            return bool(self._row(self._key(name))["stop_requested"])

    def running(self) -> dict[str, int]:
        """Return the jobs of all kinds that run, with their threads."""
        self.settle()
        return {row["name"]: row["threads"] for row in self._unfinished()}

    def settle(self) -> None:
        """Fail the jobs that nobody runs any more."""
        for row in self._unfinished():
            key = row["name"]
            if not self._folder(key).root.is_dir():
                self._abandon(row)
                continue
            claim = Claim.take(self._claim_path(key))
            if claim is None:
                continue
            try:
                self._abandon(row)
            finally:
                claim.release()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def _key(self, name: str) -> str:
        return f"{name}{_SUFFIXES[self.kind]}"

    def _folder(self, key: str) -> JobFolder:
        return JobFolder(self.home / "jobs" / key)

    def _claim_path(self, key: str) -> Path:
        return self._folder(key).root / ".claim"

    def _row(self, key: str) -> Any:
        return self._db.execute("SELECT * FROM training_job WHERE name = ?", (key,)).fetchone()

    def _unfinished(self) -> Any:
        with self._lock, self._errors():
            return self._active()

    def _active(self) -> Any:
        return self._db.execute(
            "SELECT * FROM training_job WHERE status IN ('InProgress', 'Stopping') ORDER BY number"
        ).fetchall()

    def _move(
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
        now = as_micros(self._clock())
        with self._change() as db:
            transitions = json.loads(self._row(key)["transitions"])
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

    def _abandon(self, row: sqlite3.Row) -> None:
        key, kind = row["name"], row["kind"]
        with self._lock, self._errors():
            # Its runner may have ended it properly between our look and our claim.
            if SecondaryStatus(self._row(key)["secondary_status"]).primary.is_final:
                return
        self._move(key, SecondaryStatus.FAILED, message=_ABANDONED, failure_reason=_ABANDONED)
        type_, end = _ENDS[kind]
        component = f"{key.removesuffix(_SUFFIXES[kind])}{end}"
        try:
            with lineage.open_home(self.home) as graph:
                record_abandoned(graph, type_, component, _ABANDONED)
        except lineage.LineageError:
            # The job is Failed either way; its lineage stays InProgress.
            logger.exception("the end of job %s could not be recorded", key)

    def _add_later_columns(self) -> None:
        known = {row["name"] for row in self._db.execute("PRAGMA table_info(training_job)")}
        for name, declared in _LATER_COLUMNS.items():
            if name not in known:
                # Another process may have been faster.
                with suppress(sqlite3.OperationalError):
                    self._db.execute(f"ALTER TABLE training_job ADD COLUMN {name} {declared}")

    @contextmanager
    def _change(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except (sqlite3.DatabaseError, OSError) as error:
            raise TrainingUnavailable(f"the job registry {self._path}: {error}") from error


def _share(row: Any) -> Share:
    return Share(
        cores=row["cores"], memory_mb=row["memory_mb"], gpus=tuple(json.loads(row["gpus"]))
    )
