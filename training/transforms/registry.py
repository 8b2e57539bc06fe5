"""The transform jobs of a home."""

from __future__ import annotations

import builtins
import datetime as dt
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

from training.errors import InvalidJob, TransformJobExists, TransformJobNotFound, nearest
from training.jobs.budget import Budget, Demand, Share
from training.jobs.claim import Claim
from training.jobs.folder import HOST, JobFolder
from training.jobs.following import LogReader, follow_logs, log_lines
from training.jobs.job import SecondaryStatus, TrainingJobStatus, Transition
from training.jobs.table import JobTable, as_time, utc_now
from training.transforms.description import TransformJobDescription
from training.transforms.job import TransformJob

__all__ = ["TransformJobs"]


@final
class TransformJobs:
    """The transform jobs of a home, which any number of processes share.

    They wait for the same budget as its training jobs, in one order. A job whose process ended
    without a word is found by its claim and becomes Failed when the jobs are next looked at.

    Args:
        home: the home folder; made when absent.
        clock: tells the time.
        scripts: whether a job whose runner died may go on from here when it runs a program of its
            caller; else it becomes Failed.

    Raises:
        TrainingUnavailable: the registry cannot be opened.
    """

    def __init__(
        self,
        home: str | Path,
        *,
        clock: Callable[[], dt.datetime] = utc_now,
        scripts: bool = True,
    ) -> None:
        self._table = JobTable(home, "transform", clock=clock, scripts=scripts)
        self.home = self._table.home

    def folder(self, name: str) -> JobFolder:
        """Return the folder of a job."""
        return self._table.folder(name)

    def create(self, job: TransformJob, *, threads: int, demand: Demand) -> Claim:
        """Enter a new job; the caller runs it and holds its claim until the end.

        Args:
            job: what is asked for.
            threads: of each process.
            demand: what `admit` is to find room for.

        Raises:
            TransformJobExists: the name is taken.
        """
        name = job.transform_job_name
        claim = self._table.create(name, json.dumps(job.to_json()), threads=threads, demand=demand)
        if claim is None:
            raise TransformJobExists(
                f"transform job {name!r} exists already; choose another name", name=name
            )
        return claim

    def budget(self) -> Budget:
        """Return what the jobs of the home may use at once."""
        return self._table.budget()

    def admit(self, name: str) -> Share | None:
        """Give a job its share of the budget, or None while it has to wait."""
        return self._table.admit(name)

    def cores_in_use(self) -> int:
        """Count the cores of the jobs, of training too, that were admitted and have not ended."""
        return self._table.cores_in_use()

    def running(self) -> dict[str, int]:
        """Return the jobs that run, those of training too, with their threads."""
        return self._table.running()

    def move(
        self,
        name: str,
        status: SecondaryStatus,
        *,
        message: str = "",
        device: str | None = None,
        failure_reason: str = "",
        records: int = 0,
        files: int = 0,
        digest: str = "",
    ) -> None:
        """Enter a job's next secondary status, and with a final one how it ended."""
        self._table.move(
            name,
            status,
            message=message,
            device=device,
            failure_reason=failure_reason,
            metrics=json.dumps([records, files]),
            digest=digest,
        )

    def note(self, name: str, *, records: int, files: int) -> None:
        """Say how far a job is."""
        self._table.note(name, json.dumps([records, files]))

    def describe(self, name: str) -> TransformJobDescription:
        """Return what is known of a job.

        Raises:
            TransformJobNotFound: the message has the nearest name.
        """
        self._table.settle()
        return _description(self._row(name))

    def list(
        self,
        *,
        name_contains: str = "",
        status: TrainingJobStatus | str | None = None,
        limit: int = 100,
        after: str = "",
    ) -> list[TransformJobDescription]:
        """Return jobs in the order of their creation; see `TrainingJobs.list`.

        Raises:
            InvalidJob: there is no such status.
            TransformJobNotFound: there is no job `after`.
        """
        words = [s.value for s in TrainingJobStatus]
        if status is not None and str(status) not in words:
            raise InvalidJob(
                f"status: expected one of {', '.join(words)}, got {str(status)!r}", field="status"
            )
        rows = self._table.rows(
            name_contains=name_contains,
            status=None if status is None else str(status),
            limit=limit,
            after=self._row(after)["number"] if after else 0,
        )
        return [_description(row) for row in rows]

    def unfinished(self, *, limit: int) -> builtins.list[TransformJobDescription]:
        """Return the jobs that have failed or were stopped, the newest first."""
        return [_description(row) for row in self._table.unfinished(limit)]

    def stop(self, name: str) -> None:
        """Ask a job to stop; whoever runs it does so. A job that has ended is left as it is.

        Raises:
            TransformJobNotFound: there is no such job.
        """
        if not self._table.stop(name):
            self._row(name)

    def is_stop_requested(self, name: str) -> bool:
        """Whether `stop` was called for a job."""
        return self._table.is_stop_requested(name)

    def logs(self, name: str, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a job has printed so far.

        Args:
            name: of the job.
            follow: go on with what it prints until it ends.

        Raises:
            TransformJobNotFound: there is no such job.
        """
        self._row(name)
        has_ended = (lambda: self.describe(name).status.is_final) if follow else (lambda: True)
        return log_lines(follow_logs(LogReader({HOST: self.folder(name).log}), has_ended), 1)

    def close(self) -> None:
        """Close the file."""
        self._table.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _row(self, name: str) -> Any:
        row = self._table.row(name)
        if row is None:
            raise TransformJobNotFound(
                f"transform job {name!r} does not exist{nearest(name, self._table.names())}",
                name=name,
            )
        return row


def _description(row: Any) -> TransformJobDescription:
    records, files = json.loads(row["metrics"]) or (0, 0)
    return TransformJobDescription(
        job=TransformJob.from_json(json.loads(row["job"])),
        status=TrainingJobStatus(row["status"]),
        secondary_status=SecondaryStatus(row["secondary_status"]),
        secondary_status_transitions=tuple(
            Transition(SecondaryStatus(status), as_time(start), _maybe(end), message)
            for status, start, end, message in json.loads(row["transitions"])
        ),
        creation_time=as_time(row["created_us"]),
        transform_start_time=_maybe(row["started_us"]),
        transform_end_time=_maybe(row["ended_us"]),
        threads=row["threads"],
        device=row["device"],
        failure_reason=row["failure_reason"],
        records=records,
        files=files,
        model_digest=row["digest"],
    )


def _maybe(micros: int | None) -> dt.datetime | None:
    return None if micros is None else as_time(micros)
