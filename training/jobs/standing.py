"""Where a job stands: what it does, what it has reported, and whether it should stop."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import lineage
from training.home import Store
from training.jobs.boards import Boards
from training.jobs.claim import Claim
from training.jobs.description import FinalMetric
from training.jobs.earlier import Earlier
from training.jobs.folder import JobFolder
from training.jobs.job import SecondaryStatus, TrainingJob
from training.jobs.logscan import LogMetric
from training.jobs.metricfile import MetricWriter, last_values
from training.jobs.program import Program
from training.jobs.registry import TrainingJobs
from training.jobs.result import Progress

__all__ = ["Order", "Standing"]

_ASK_REGISTRY_S: Final = 0.15
_STOPPED: Final = "the job was stopped by request"


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """A job with all that running it needs.

    `earlier` is what runners that are gone have done of it; None: it begins.
    """

    job: TrainingJob
    program: Program
    jobs: TrainingJobs
    claim: Claim
    store: Store | None
    threads: int
    stop_grace_s: float
    on_progress: Callable[[Progress], None]
    earlier: Earlier | None = None

    @property
    def name(self) -> str:
        """The job's name."""
        return self.job.training_job_name

    @property
    def folder(self) -> JobFolder:
        """The job's folder."""
        return self.jobs.folder(self.name)


@final
class Standing:
    """The state of one job, kept by the thread that runs it.

    Args:
        order: the job.
        stop: set when this process wants it to stop.
        kill: set when it shall be killed.

    Attributes:
        status: what it is doing.
        metrics: the last value of each metric.
        importance: of the inputs, where the algorithm tells.
        ending: how it ends when it is stopped.
        asked_at: when it was first seen that it is to stop by request, by the monotonic clock.
        stop_message: why it is stopped; "" while it is not.
    """

    def __init__(self, order: Order, stop: threading.Event, kill: threading.Event) -> None:
        self._order = order
        self._stop = stop
        self._kill = kill
        earlier = order.earlier or Earlier()
        self._submitted = time.monotonic() - earlier.age_s
        self._ran_s = earlier.ran_s
        self._began: float | None = None
        self._deadline: float | None = None
        self._asked = 0.0
        self._done = (0, 0)
        self._reported: set[str] = set()
        self._run: lineage.Recorder | None = None
        self._writer: MetricWriter | None = None
        self._boards: Boards | None = None
        self.metrics: dict[str, FinalMetric] = {}
        self.importance: Any = None
        self.status = SecondaryStatus.STARTING
        self.ending = SecondaryStatus.STOPPED
        self.asked_at: float | None = None
        self.stop_message = ""

    def record_to(
        self, run: lineage.Recorder, writer: MetricWriter, boards: Boards | None = None
    ) -> None:
        """Say where reports go from now on."""
        self._run, self._writer, self._boards = run, writer, boards
        if self._order.earlier is not None:
            for name, value, micros in last_values(self._order.folder.metrics):
                run.metric(name, value)
                self._keep(name, value, micros)

    def move(
        self, status: SecondaryStatus, *, message: str = "", device: str | None = None
    ) -> None:
        """Enter the next status."""
        self.status = status
        self._order.jobs.move(self._order.name, status, message=message, device=device)
        self.tell()

    def tell(self) -> None:
        """Tell the caller how far it is."""
        self._order.on_progress(
            Progress(
                job=self._order.name,
                status=self.status,
                done=self._done[0],
                total=self._done[1],
                metrics={metric.name: metric.value for metric in self.metrics.values()},
            )
        )

    # -- what it reports ----------------------------------------------------------------------

    def report(self, kind: str, values: list[Any], *, host: str) -> None:
        """Take an event of one of its processes."""
        match kind:
            case "ready":
                assert self._run is not None
                self._run.property("device", values[0])
                if not self.is_ending and self.status is not SecondaryStatus.TRAINING:
                    self.move(SecondaryStatus.TRAINING, device=values[0])
            case "metric":
                name, value, step, micros, *more = values
                self._reported.add(name)
                self._metric(name, value, micros, host, step=step, epoch=more[0] if more else None)
            case "progress":
                self._done = (values[0], values[1])
                self.tell()
            case "property":
                assert self._run is not None
                if values[0] == "feature_importance":
                    self.importance = values[1]
                self._run.property(values[0], values[1])

    def found(self, metric: LogMetric, *, host: str) -> None:
        """Take a metric from the log, unless the process reports that one itself."""
        if metric.name not in self._reported:
            micros = time.time_ns() // 1000
            self._metric(metric.name, metric.value, micros, metric.host or host, epoch=metric.epoch)
            self.tell()

    def flush(self) -> None:
        """Let readers see the metrics that were reported."""
        if self._writer is not None:
            self._writer.flush(due=True)
        if self._boards is not None:
            self._boards.flush()

    def _metric(
        self,
        name: str,
        value: float,
        micros: int,
        host: str,
        *,
        step: int | None = None,
        epoch: int | None = None,
    ) -> None:
        assert self._run is not None
        assert self._writer is not None
        self._writer.add(name, value, host=host, micros=micros, step=step, epoch=epoch)
        if self._boards is not None:
            self._boards.add(name, value, host=host, micros=micros, step=step, epoch=epoch)
        self._run.metric(name, value, step=step if step is not None else epoch)
        self._keep(name, value, micros)

    def _keep(self, name: str, value: float, micros: int) -> None:
        at = dt.datetime.fromtimestamp(micros / 1e6, dt.UTC)
        self.metrics[name] = FinalMetric(name, value, at)

    # -- how it ends --------------------------------------------------------------------------

    @property
    def is_ending(self) -> bool:
        """Whether it is being stopped."""
        return self.status is SecondaryStatus.STOPPING

    @property
    def is_overdue(self) -> bool:
        """Whether its processes have to be killed."""
        late = self._deadline is not None and time.monotonic() > self._deadline
        return late or self._kill.is_set()

    def begin(self) -> None:
        """Start the clock of its run time, with its data in place; it runs on between attempts."""
        if self._began is None:
            self._began = time.monotonic() - self._ran_s

    def should_stop(self) -> bool:
        """Whether it is being stopped, or has to be now: by request or by a limit on time."""
        if self.is_ending:
            return True
        limits = self._order.job.stopping_condition
        run, wait = limits.max_runtime_in_seconds, limits.max_wait_time_in_seconds
        now = time.monotonic()
        if self._is_asked(now):
            self.asked_at = now
            self._stop_with(_STOPPED, SecondaryStatus.STOPPED)
        elif run and self._began is not None and now > self._began + run:
            self._stop_with(
                f"the job ran longer than MaxRuntimeInSeconds={run}",
                SecondaryStatus.MAX_RUNTIME_EXCEEDED,
            )
        elif wait and now > self._submitted + wait:
            self._stop_with(
                f"the job waited and ran longer than MaxWaitTimeInSeconds={wait}",
                SecondaryStatus.MAX_WAIT_TIME_EXCEEDED,
            )
        return self.is_ending

    def pause(self, seconds: float) -> None:
        """Wait, or until this process asks for a stop."""
        self._stop.wait(seconds)

    def _is_asked(self, now: float) -> bool:
        """Whether this process or, through the registry, another one asked for a stop."""
        if not self._stop.is_set() and now > self._asked + _ASK_REGISTRY_S:
            self._asked = now
            if self._order.jobs.is_stop_requested(self._order.name):
                self._stop.set()
        return self._stop.is_set()

    def _stop_with(self, message: str, ending: SecondaryStatus) -> None:
        self.stop_message, self.ending = message, ending
        self._deadline = time.monotonic() + self._order.stop_grace_s
        self.move(SecondaryStatus.STOPPING, message=message)
