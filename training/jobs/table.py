"""The jobs of a home of one kind, training or transform: entered, found, stopped, moved on."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import final

from training.jobs.admission import Admission
from training.jobs.budget import Budget, Demand, Share
from training.jobs.claim import Claim
from training.jobs.database import JobDatabase, as_micros, as_time, utc_now
from training.jobs.folder import JobFolder
from training.jobs.orphans import SUFFIXES, Orphans
from training.jobs.status import SecondaryStatus

__all__ = ["JobTable", "as_micros", "as_time", "utc_now"]


@final
class JobTable:
    """The jobs of a home of one kind; all kinds share the budget and the order of admission.

    A job whose process ended without a word (a crash, a power cut) is found by its claim when the
    jobs are next looked at: see `Orphans`.

    Args:
        home: the home folder; made when absent.
        kind: training or transform: of the jobs that are named, listed and created.
        clock: tells the time.
        scripts: whether jobs that run a program of their caller may go on from here.

    Raises:
        TrainingUnavailable: the table cannot be opened.
    """

    def __init__(
        self,
        home: str | Path,
        kind: str,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        scripts: bool = True,
    ) -> None:
        self.home = Path(home).absolute()
        self.kind = kind
        self._database = JobDatabase(self.home, clock)
        self._orphans = Orphans(self._database, scripts=scripts)
        self._admission = Admission(self._database, self.settle)

    def folder(self, name: str) -> JobFolder:
        """Return the folder of a job."""
        return self._database.folder(self._key(name))

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
        claim = Claim.take(self._database.claim_path(self._key(name)))
        if claim is None:
            return None
        now = self._database.now()
        starting = SecondaryStatus.STARTING
        asked = json.dumps(asdict(demand or Demand(cores=threads)))
        try:
            with self._database.change() as db:
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
        return self._admission.budget()

    def set_budget(self, budget: Budget) -> None:
        """Say what the jobs may use at once; jobs that run keep what they have."""
        self._admission.set_budget(budget)

    def admit(self, name: str) -> Share | None:
        """Give a job its share of the budget, or None while it has to wait."""
        return self._admission.admit(self._key(name))

    def cores_in_use(self) -> int:
        """Count the cores of the jobs that were admitted and have not ended."""
        return self._admission.cores_in_use()

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
        self._database.move(
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
        with self._database.change() as db:
            db.execute(
                "UPDATE training_job SET metrics = ? WHERE name = ?", (metrics, self._key(name))
            )

    def row(self, name: str) -> sqlite3.Row | None:
        """Return what is known of a job; None where there is no such job."""
        found: sqlite3.Row | None = self._database.row(self._key(name))
        return found

    def rows(
        self, *, name_contains: str = "", status: str | None = None, limit: int, after: int = 0
    ) -> list[sqlite3.Row]:
        """Return what is known of the jobs behind a number, in the order of their creation."""
        self.settle()
        return self._database.query(
            "SELECT * FROM training_job WHERE kind = ? AND number > ?"
            " AND instr(substr(name, 1, length(name) - ?), ?) > 0"
            " AND (? IS NULL OR status = ?) ORDER BY number LIMIT ?",
            *(self.kind, after, len(SUFFIXES[self.kind]), name_contains),
            *(status, status, limit),
        )

    def unfinished(self, limit: int) -> list[sqlite3.Row]:
        """Return the jobs that have ended without completing, the newest first."""
        return self._database.query(
            "SELECT * FROM training_job WHERE kind = ? AND status IN ('Failed', 'Stopped')"
            " ORDER BY number DESC LIMIT ?",
            *(self.kind, limit),
        )

    def names(self) -> list[str]:
        """Return the names of all jobs of this kind."""
        rows = self._database.query("SELECT * FROM training_job WHERE kind = ?", self.kind)
        return [self.name_in(row) for row in rows]

    def name_in(self, row: sqlite3.Row) -> str:
        """Return the name of the job that a row is about."""
        return str(row["name"]).removesuffix(SUFFIXES[self.kind])

    def stop(self, name: str) -> bool:
        """Ask a job to stop; False where there is no such job.

        One that has ended is left as it is.
        """
        with self._database.change() as db:
            row = self.row(name)
            if row is not None and not SecondaryStatus(row["secondary_status"]).primary.is_final:
                db.execute(
                    "UPDATE training_job SET stop_requested = 1 WHERE name = ?", (row["name"],)
                )
            return row is not None

    def is_stop_requested(self, name: str) -> bool:
        """Whether `stop` was called for a job."""
        row = self.row(name)
        return row is not None and bool(row["stop_requested"])

    def running(self) -> dict[str, int]:
        """Return the jobs of all kinds that run, with their threads."""
        self.settle()
        return {row["name"]: row["threads"] for row in self._database.active()}

    def settle(self) -> None:
        """Fail the jobs that nobody runs any more, or let them go on."""
        self._orphans.settle()

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _key(self, name: str) -> str:
        return f"{name}{SUFFIXES[self.kind]}"
