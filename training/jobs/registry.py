"""The training jobs of a home."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import pyarrow as pa

from training.errors import (
    InvalidJob,
    ReportNotFound,
    TrainingJobExists,
    TrainingJobNotFound,
    nearest,
)
from training.jobs.budget import Budget, Demand, Share
from training.jobs.claim import Claim
from training.jobs.description import FinalMetric, TrainingJobDescription
from training.jobs.folder import JobFolder, host_names
from training.jobs.following import LOOK_S, LogReader, follow_logs, log_lines
from training.jobs.job import SecondaryStatus, TrainingJob, TrainingJobStatus, Transition
from training.jobs.metricfile import MetricReader, last_values, read_metrics
from training.jobs.table import JobTable, as_micros, as_time, utc_now

__all__ = ["TrainingJobs", "utc_now"]


@final
class TrainingJobs:
    """The training jobs of a home, which any number of processes share.

    A job whose runner ended without a word (a crash, a power cut) is found by its claim when the
    jobs are next looked at. What it has left running is ended; it becomes Failed, or is run on by
    a process of its own where its retry strategy has an attempt left.

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
        self._table = JobTable(home, "training", clock=clock, scripts=scripts)
        self.home = self._table.home

    def folder(self, name: str) -> JobFolder:
        """Return the folder of a job."""
        return self._table.folder(name)

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
        claim = self._table.create(name, json.dumps(job.to_json()), threads=threads, demand=demand)
        if claim is None:
            raise TrainingJobExists(
                f"training job {name!r} exists already; choose another name", name=name
            )
        return claim

    def budget(self) -> Budget:
        """Return what the jobs may use at once: as `set_budget` said, else the whole machine."""
        return self._table.budget()

    def set_budget(self, budget: Budget) -> None:
        """Say what the jobs may use at once; jobs that run keep what they have."""
        self._table.set_budget(budget)

    def admit(self, name: str) -> Share | None:
        """Give a job its share of the budget, or None while it has to wait.

        Jobs are admitted in the order of their submission, so that none waits for ever. A share is
        free again when its job has ended, however it did: the claim tells.
        """
        self._row(name)
        return self._table.admit(name)

    def cores_in_use(self) -> int:
        """Count the cores of the jobs that were admitted and have not ended."""
        return self._table.cores_in_use()

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
        self._row(name)
        # All values are in the job's folder; here is the last value of each.
        finals = [[m.name, m.value, as_micros(m.timestamp)] for m in (metrics or {}).values()]
        self._table.move(
            name,
            status,
            message=message,
            device=device,
            failure_reason=failure_reason,
            metrics=json.dumps(finals),
            model=model,
            digest=digest,
        )

    def describe(self, name: str) -> TrainingJobDescription:
        """Return what is known of a job; the metrics of one that runs are those so far.

        Raises:
            TrainingJobNotFound: the message has the nearest name.
        """
        self._table.settle()
        known = self._description(self._row(name))
        if known.status.is_final:
            return known
        values = last_values(self.folder(name).metrics)
        return replace(
            known,
            final_metrics=tuple(
                FinalMetric(name, value, as_time(at)) for name, value, at in values
            ),
        )

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
        number = self._row(after)["number"] if after else 0
        rows = self._table.rows(
            name_contains=name_contains,
            status=None if status is None else str(status),
            limit=limit,
            after=number,
        )
        return [self._description(row) for row in rows]

    def stop(self, name: str) -> None:
        """Ask a job to stop; whoever runs it does so. A job that has ended is left as it is.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        if not self._table.stop(name):
            self._row(name)

    def is_stop_requested(self, name: str) -> bool:
        """Whether `stop` was called for a job."""
        self._row(name)
        return self._table.is_stop_requested(name)

    def settle(self) -> None:
        """Look for jobs that nobody runs any more, as every look at the jobs does."""
        self._table.settle()

    def running(self) -> dict[str, int]:
        """Return the jobs that run, with their threads; batch transforms are among them."""
        return self._table.running()

    def logs(self, name: str, *, follow: bool = False) -> Iterator[str]:
        """Yield the lines that a job has printed so far, those of its first host first.

        Args:
            name: of the job.
            follow: go on with what it prints until it ends.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        reader = self.log_reader(name)
        has_ended = partial(self.has_ended, name) if follow else (lambda: True)
        return log_lines(follow_logs(reader, has_ended), len(reader.hosts))

    def log_reader(self, name: str, offsets: Mapping[str, int] | None = None) -> LogReader:
        """Return what reads the logs of a job piece by piece.

        Args:
            name: of the job.
            offsets: by host, how many bytes of its log to leave out.

        Raises:
            InvalidJob: there is no such host, or its log is shorter.
            TrainingJobNotFound: there is no such job.
        """
        job = TrainingJob.from_json(json.loads(self._row(name)["job"]))
        folder = self.folder(name)
        hosts = host_names(job.resource_config.instance_count)
        return LogReader({host: folder.host(host).log for host in hosts}, offsets)

    def has_ended(self, name: str) -> bool:
        """Whether a job is over.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        self._table.settle()
        return TrainingJobStatus(self._row(name)["status"]).is_final

    def metrics(self, name: str) -> pa.Table:
        """Return every metric a job has reported so far, in the order of arrival.

        Returns:
            columns `job`, `host`, `step`, `epoch`, `name`, `value` and `time`; step and epoch are
            null where they are not known.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        self._row(name)
        return read_metrics(self.folder(name).metrics)

    def follow_metrics(self, name: str, *, offset: int = 0) -> Iterator[pa.RecordBatch]:
        """Yield the values of a job's metrics as they come, until it ends; columns as `metrics`.

        Args:
            name: of the job.
            offset: how many of its first values to leave out.

        Raises:
            TrainingJobNotFound: there is no such job.
        """
        self._row(name)
        return self._follow_metrics(name, offset)

    def _follow_metrics(self, name: str, offset: int) -> Iterator[pa.RecordBatch]:
        with MetricReader(self.folder(name).metrics, offset) as reader:
            while True:
                is_over = self.has_ended(name)
                yield from reader.read()
                if is_over:
                    return
                time.sleep(LOOK_S)

    def report(self, name: str) -> Path:
        """Return the page on how a job's model was measured, as HTML.

        Raises:
            ReportNotFound: it made none, or none yet.
            TrainingJobNotFound: there is no such job.
        """
        status = self._row(name)["status"]
        path = self.folder(name).report
        if not path.is_file():
            raise ReportNotFound(
                f"training job {name!r} has no report: an algorithm writes one when its fit is "
                f"done, a script writes none; the job is {status}",
                name=name,
            )
        return path

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
            raise TrainingJobNotFound(
                f"training job {name!r} does not exist{nearest(name, self._table.names())}",
                name=name,
            )
        return row

    def _description(self, row: Any) -> TrainingJobDescription:
        return TrainingJobDescription(
            job=TrainingJob.from_json(json.loads(row["job"])),
            status=TrainingJobStatus(row["status"]),
            secondary_status=SecondaryStatus(row["secondary_status"]),
            secondary_status_transitions=tuple(
                Transition(SecondaryStatus(status), as_time(start), _maybe(end), message)
                for status, start, end, message in json.loads(row["transitions"])
            ),
            creation_time=as_time(row["created_us"]),
            training_start_time=_maybe(row["started_us"]),
            training_end_time=_maybe(row["ended_us"]),
            threads=row["threads"],
            device=row["device"],
            failure_reason=row["failure_reason"],
            final_metrics=tuple(
                FinalMetric(name, value, as_time(at))
                for name, value, at in json.loads(row["metrics"])
            ),
            model_artifacts=self.home / row["model"] if row["model"] else None,
            model_digest=row["digest"],
        )


def _maybe(micros: int | None) -> dt.datetime | None:
    return None if micros is None else as_time(micros)
