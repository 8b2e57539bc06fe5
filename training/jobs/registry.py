"""The jobs of a home: one SQLite table, in `meta.db`, that any number of processes share."""

from __future__ import annotations

import datetime as dt
import json
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import pyarrow as pa

import lineage
from training.errors import (
    InvalidJob,
    TrainingJobExists,
    TrainingJobNotFound,
    TrainingUnavailable,
    nearest,
)
from training.jobs.budget import Budget, Demand, Share
from training.jobs.claim import Claim
from training.jobs.description import FinalMetric, TrainingJobDescription
from training.jobs.folder import JobFolder, host_names
from training.jobs.following import follow_logs
from training.jobs.job import SecondaryStatus, TrainingJob, TrainingJobStatus, Transition
from training.jobs.metricfile import read_metrics
from training.provenance import record_abandoned

__all__ = ["TrainingJobs", "utc_now"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS training_job (
    number           INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT NOT NULL UNIQUE,
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
logger = logging.getLogger(__name__)


def utc_now() -> dt.datetime:
    """Return the time, in UTC."""
    return dt.datetime.now(dt.UTC)


@final
class TrainingJobs:
    """The training jobs of a home.

    A job whose process ended without a word (a crash, a power cut) is found by its claim and
    becomes Failed when the jobs are next looked at.

    Args:
        home: the home folder; made when absent.
        clock: tells the time.

    Raises:
        TrainingUnavailable: the registry cannot be opened.
    """

    def __init__(self, home: str | Path, *, clock: Callable[[], dt.datetime] = utc_now) -> None:
        self.home = Path(home).absolute()
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
        return JobFolder(self.home / "jobs" / name)

    def create(self, job: TrainingJob, *, threads: int, demand: Demand | None = None) -> Claim:
        """Enter a new job; the caller runs it and holds its claim until the end.

        Args:
            job: what is asked for.
            threads: of each host.
            demand: what `admit` is to find room for; None: a core for each thread.

        Raises:
            TrainingJobExists: the name is taken.
        """
        name = job.training_job_name
        folder = self.folder(name)
        folder.root.mkdir(parents=True, exist_ok=True)
        claim = Claim.take(self._claim_path(name))
        if claim is None:
            raise _exists(name)
        now = _micros(self._clock())
        starting = SecondaryStatus.STARTING
        asked = json.dumps(asdict(demand or Demand(cores=threads)))
        try:
            with self._change() as db:
                db.execute(
                    "INSERT INTO training_job (name, job, status, secondary_status, transitions,"
                    " threads, demand, is_admitted, created_us)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, 0, ?)",
                    (
                        name,
                        json.dumps(job.to_json()),
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
            raise _exists(name) from None
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
        self._settle()
        budget = self.budget()
        with self._change() as db:
            mine = self._row(name)
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
                    (share.cores, share.memory_mb, json.dumps(share.gpus), name),
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
                (self._row(name)["number"],),
            ).fetchone()
        if before is None:
            return True
        now = time.monotonic()
        if now > self._settled + _SETTLE_S:
            self._settled = now
            self._settle()
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
        metrics: Mapping[str, FinalMetric] | None = None,
        model: Path | None = None,
        digest: str = "",
    ) -> None:
        """Enter a job's next secondary status, and with a final one how it ended."""
        now = _micros(self._clock())
        with self._change() as db:
            row = self._row(name)
            transitions = json.loads(row["transitions"])
            transitions[-1][2] = now
            is_final = status.primary.is_final
            transitions.append([status.value, now, now if is_final else None, message])
            training = status is SecondaryStatus.TRAINING
            # All values are in the job's folder; here is the last value of each.
            finals = [[m.name, m.value, _micros(m.timestamp)] for m in (metrics or {}).values()]
            db.execute(
                "UPDATE training_job SET status = ?, secondary_status = ?, transitions = ?,"
                " device = coalesce(?, device), failure_reason = ?, metrics = ?, model = ?,"
                " digest = ?, started_us = coalesce(started_us, ?), ended_us = ? WHERE name = ?",
                (
                    status.primary.value,
                    status.value,
                    json.dumps(transitions),
                    device,
                    failure_reason,
                    json.dumps(finals),
                    "" if model is None else model.relative_to(self.home).as_posix(),
                    digest,
                    now if training else None,
                    now if is_final else None,
                    name,
                ),
            )

    def describe(self, name: str) -> TrainingJobDescription:
        """Return what is known of a job; the metrics of one that runs are those so far.

        Raises:
            TrainingJobNotFound: the message has the nearest name.
        """
        self._settle()
        with self._lock, self._errors():
            known = self._description(self._row(name))
        if known.status.is_final:
            return known
        return replace(known, final_metrics=_last_values(read_metrics(self.folder(name).metrics)))

    def list(
        self,
        *,
        name_contains: str = "",
        status: TrainingJobStatus | str | None = None,
        limit: int = 100,
        after: str = "",
    ) -> list[TrainingJobDescription]:
        """Return jobs in the order of their creation.

        Args:
            name_contains: only names with this text.
            status: only jobs of this status.
            limit: at most so many.
            after: begin behind this job.

        Raises:
            InvalidJob: there is no such status.
            TrainingJobNotFound: there is no job `after`.
        """
        words = [s.value for s in TrainingJobStatus]
        if status is not None and str(status) not in words:
            raise InvalidJob(
                f"status: expected one of {', '.join(words)}, got {str(status)!r}", field="status"
            )
        self._settle()
        with self._lock, self._errors():
            number = self._row(after)["number"] if after else 0
            rows = self._db.execute(
                "SELECT * FROM training_job WHERE number > ? AND instr(name, ?) > 0"
                " AND (? IS NULL OR status = ?) ORDER BY number LIMIT ?",
                (number, name_contains, status, status, limit),
            ).fetchall()
        return [self._description(row) for row in rows]

    def stop(self, name: str) -> None:
        """Ask a job to stop; whoever runs it does so. A job that has ended is left as it is.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        with self._change() as db:
            row = self._row(name)
            if not TrainingJobStatus(row["status"]).is_final:
                db.execute("UPDATE training_job SET stop_requested = 1 WHERE name = ?", (name,))

    def is_stop_requested(self, name: str) -> bool:
        """Whether `stop` was called for a job."""
        with self._lock, self._errors():
            return bool(self._row(name)["stop_requested"])

    def running(self) -> dict[str, int]:
        """Return the jobs that run, with their threads."""
        self._settle()
        return {row["name"]: row["threads"] for row in self._unfinished()}

    def logs(self, name: str, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a job has printed so far, those of its first host first.

        Args:
            name: of the job.
            follow: go on with what it prints until it ends.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        with self._lock, self._errors():
            job = TrainingJob.from_json(json.loads(self._row(name)["job"]))
        folder = self.folder(name)
        hosts = host_names(job.resource_config.instance_count)
        logs = {host: folder.host(host).log for host in hosts}
        has_ended = (lambda: self.describe(name).status.is_final) if follow else (lambda: True)
        return follow_logs(logs, has_ended)

    def metrics(self, name: str) -> pa.Table:
        """Return every metric a job has reported so far, in the order of arrival.

        Returns:
            columns `job`, `host`, `step`, `epoch`, `name`, `value` and `time`; step and epoch are
            null where they are not known.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        with self._lock, self._errors():
            self._row(name)
        return read_metrics(self.folder(name).metrics)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _unfinished(self) -> Any:
        with self._lock, self._errors():
            return self._active()

    def _active(self) -> Any:
        return self._db.execute(
            "SELECT * FROM training_job WHERE status IN ('InProgress', 'Stopping') ORDER BY number"
        ).fetchall()

    def _add_later_columns(self) -> None:
        known = {row["name"] for row in self._db.execute("PRAGMA table_info(training_job)")}
        for name, declared in _LATER_COLUMNS.items():
            if name not in known:
                # Another process may have been faster.
                with suppress(sqlite3.OperationalError):
                    self._db.execute(f"ALTER TABLE training_job ADD COLUMN {name} {declared}")

    def _settle(self) -> None:
        """Fail the jobs that nobody runs any more."""
        for row in self._unfinished():
            name = row["name"]
            if not self.folder(name).root.is_dir():
                self._abandon(name)
                continue
            claim = Claim.take(self._claim_path(name))
            if claim is None:
                continue
            try:
                self._abandon(name)
            finally:
                claim.release()

    def _abandon(self, name: str) -> None:
        with self._lock, self._errors():
            # Its runner may have ended it properly between our look and our claim.
            if TrainingJobStatus(self._row(name)["status"]).is_final:
                return
        self.move(name, SecondaryStatus.FAILED, message=_ABANDONED, failure_reason=_ABANDONED)
        try:
            with lineage.open_home(self.home) as graph:
                record_abandoned(graph, name, _ABANDONED)
        except lineage.LineageError:
            # The job is Failed either way; its lineage stays InProgress.
            logger.exception("the end of training job %s could not be recorded", name)

    def _claim_path(self, name: str) -> Path:
        return self.folder(name).root / ".claim"

    def _row(self, name: str) -> Any:
        row = self._db.execute("SELECT * FROM training_job WHERE name = ?", (name,)).fetchone()
        if row is None:
            known = [r["name"] for r in self._db.execute("SELECT name FROM training_job")]
            raise TrainingJobNotFound(
                f"training job {name!r} does not exist{nearest(name, known)}", name=name
            )
        return row

    def _description(self, row: Any) -> TrainingJobDescription:
        return TrainingJobDescription(
            job=TrainingJob.from_json(json.loads(row["job"])),
            status=TrainingJobStatus(row["status"]),
            secondary_status=SecondaryStatus(row["secondary_status"]),
            secondary_status_transitions=tuple(
                Transition(SecondaryStatus(status), _time(start), _maybe_time(end), message)
                for status, start, end, message in json.loads(row["transitions"])
            ),
            creation_time=_time(row["created_us"]),
            training_start_time=_maybe_time(row["started_us"]),
            training_end_time=_maybe_time(row["ended_us"]),
            threads=row["threads"],
            device=row["device"],
            failure_reason=row["failure_reason"],
            final_metrics=tuple(
                FinalMetric(name, value, _time(at))
                for name, value, at in json.loads(row["metrics"])
            ),
            model_artifacts=self.home / row["model"] if row["model"] else None,
            model_digest=row["digest"],
        )

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


def _exists(name: str) -> TrainingJobExists:
    return TrainingJobExists(
        f"training job {name!r} exists already; choose another name", name=name
    )


def _last_values(table: pa.Table) -> tuple[FinalMetric, ...]:
    columns = (table[column].to_pylist() for column in ("name", "value", "time"))
    return tuple({row[0]: FinalMetric(*row) for row in zip(*columns, strict=True)}.values())


def _share(row: Any) -> Share:
    return Share(
        cores=row["cores"], memory_mb=row["memory_mb"], gpus=tuple(json.loads(row["gpus"]))
    )


def _micros(time: dt.datetime) -> int:
    return (time - _EPOCH) // dt.timedelta(microseconds=1)


def _time(micros: int) -> dt.datetime:
    return _EPOCH + dt.timedelta(microseconds=micros)


def _maybe_time(micros: int | None) -> dt.datetime | None:
    return None if micros is None else _time(micros)
