"""Takes one job from its start to its end: process, data, events, stop, model, lineage."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import lineage
from training import provenance
from training.algorithm import Algorithm
from training.artifact import Artifact, ModelStore
from training.claim import Claim
from training.description import FinalMetric
from training.device import cuda_device_count
from training.environment import SECRETS, sagemaker_variables, thread_variables
from training.errors import InvalidData, TrainingError, TrainingJobFailed
from training.events import read_event
from training.home import Store
from training.job import Channel, SecondaryStatus, TrainingJob
from training.registry import TrainingJobs
from training.result import JobResult, Progress

__all__ = ["Order", "Supervisor"]

_LOOK_S: Final = 0.1
_ASK_REGISTRY_S: Final = 0.5
_REASON_CHARACTERS: Final = 1024
_STOPPED: Final = "the job was stopped by request"

logger = logging.getLogger(__name__)


class TrainingJobStopped(asyncio.CancelledError):
    """A job ends because it was asked to; the recorder knows a cancellation as Stopped."""


@final
@dataclass(frozen=True, kw_only=True)
class Order:
    """A job with all that running it needs."""

    job: TrainingJob
    algorithm: Algorithm
    jobs: TrainingJobs
    claim: Claim
    store: Store | None
    threads: int
    crowded: bool
    stop_grace_s: float
    on_progress: Callable[[Progress], None]


@final
class Supervisor:
    """Takes one job from start to end, in a thread of the submitting process."""

    def __init__(self, order: Order, stop: threading.Event, kill: threading.Event) -> None:
        self._order = order
        self._stop = stop
        self._kill = kill
        self._name = order.job.training_job_name
        self._folder = order.jobs.folder(self._name)
        self._metrics: dict[str, FinalMetric] = {}
        self._done = (0, 0)
        self._status = SecondaryStatus.STARTING
        self._ending = SecondaryStatus.STOPPED
        self._stop_message = ""
        self._deadline: float | None = None
        self._asked = 0.0
        self._sealed = False
        self._train_uid = ""
        self._importance: Any = None

    def run(self) -> JobResult:
        """Run the job; whatever happens, it ends in a final status."""
        artifact: Artifact | None = None
        try:
            artifact = self._recorded()
            reason, status = "", SecondaryStatus.COMPLETED
            if self._ending_early:
                reason, status = self._stop_message, self._ending
        except TrainingError as error:
            reason, status = str(error), SecondaryStatus.FAILED
        except lineage.LineageError as error:
            logger.error("training job %s: %s", self._name, error)
            reason, status = str(error), SecondaryStatus.FAILED
        except Exception as error:
            # The outermost loop of a job: none may stay InProgress for ever.
            logger.exception("training job %s failed outside of its process", self._name)
            reason, status = f"{type(error).__name__}: {error}", SecondaryStatus.FAILED
        reason = reason[:_REASON_CHARACTERS]
        if status is SecondaryStatus.FAILED:
            artifact = None
        self._order.jobs.move(
            self._name,
            status,
            message=reason,
            failure_reason=reason,
            metrics=self._metrics,
            model=artifact.path if artifact else None,
            digest=artifact.digest if artifact else "",
        )
        self._status = status
        self._tell_progress()
        return JobResult(
            job=self._name,
            status=status.primary,
            metrics={metric.name: metric.value for metric in self._metrics.values()},
            model=artifact.path if artifact else None,
            digest=artifact.digest if artifact else "",
            failure_reason=reason,
        )

    @property
    def _ending_early(self) -> bool:
        return self._status is SecondaryStatus.STOPPING

    def _recorded(self) -> Artifact | None:
        """Run the job inside its lineage recorder."""
        order = self._order
        graph = order.store.graph if order.store else lineage.open_home(order.jobs.home)
        artifact: Artifact | None = None
        try:
            with provenance.recorder(
                graph,
                order.job,
                order.algorithm,
                folder=self._folder.root,
                threads=order.threads,
                device=order.job.resource_config.device,
            ) as run:
                artifact = self._execute(run)
                if artifact is not None:
                    run.output(provenance.model_entity(artifact))
                    provenance.record_columns(
                        run, artifact, order.job, self._train_uid, self._importance
                    )
                if self._ending_early:
                    run.property("stop_reason", self._stop_message)
                    raise TrainingJobStopped(self._stop_message)
        except TrainingJobStopped:
            pass
        finally:
            if order.store is None:
                graph.close()
        return artifact

    def _execute(self, run: lineage.Recorder) -> Artifact | None:
        self._folder.create()
        self._folder.write_config(self._order.job)
        receive, send = os.pipe()
        with open(receive, "rb", buffering=0) as events, self._folder.log.open("ab") as log:
            try:
                process = self._start(send, log)
            finally:
                os.close(send)
            try:
                self._tell(process, json.dumps(self._message()))
                self._download(run)
                if self._wants_stop():
                    self._begin_stop(process, _STOPPED)
                else:
                    self._tell(process, "go")
                    self._pump(process, events, run)
            finally:
                _end(process)
                provenance.record_checkpoints(run, self._folder.checkpoints)
                provenance.record_tensorboard(run, self._folder.tensorboard)
        if not self._ending_early and (process.returncode != 0 or not self._sealed):
            raise TrainingJobFailed(self._failure(process.returncode), name=self._name)
        if not self._sealed or process.returncode != 0:
            return None
        return self._upload()

    def _start(self, send: int, log: Any) -> subprocess.Popen[bytes]:
        order = self._order
        gpus = 0 if order.job.resource_config.device == "cpu" else cuda_device_count()
        variables = (
            {name: value for name, value in os.environ.items() if name not in SECRETS}
            | dict(order.job.environment)
            | sagemaker_variables(order.job, self._folder, cores=order.threads, gpus=gpus)
            | thread_variables(order.threads, crowded=order.crowded)
            # The process imports what this one would, third parties' algorithms included.
            | {"PYTHONPATH": os.pathsep.join(path for path in map(os.path.abspath, sys.path))}
        )
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "training.main", str(self._folder.root), str(send)],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=variables,
            pass_fds=(send,),
            # A Ctrl-C in the terminal reaches this process alone, which then decides.
            start_new_session=True,
        )

    def _message(self) -> dict[str, Any]:
        return {"job": self._order.job.to_json(), "threads": self._order.threads}

    def _tell(self, process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        try:
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            # It died already; its exit status and failure file say why.
            logger.debug("training job %s ended before it was told everything", self._name)

    def _download(self, run: lineage.Recorder) -> None:
        """Bring the data into the folder while the process starts."""
        self._move(SecondaryStatus.DOWNLOADING)
        provenance.record_algorithm(run, type(self._order.algorithm))
        channels = {}
        for channel in self._order.job.input_data_config:
            source = _source(channel, self._order.jobs.home)
            files = self._folder.attach(
                channel.channel_name, source, input_mode=self._order.job.input_mode(channel)
            )
            channels[channel.channel_name] = provenance.record_channel(run, channel, source, files)
        self._train_uid = str(channels["train"]["uid"])
        run.property("channels", channels)

    def _pump(self, process: subprocess.Popen[bytes], events: Any, run: lineage.Recorder) -> None:
        """Read the process's events until it has ended; stop it when that is wanted."""
        limit = self._order.job.stopping_condition.max_runtime_in_seconds
        expires = time.monotonic() + limit if limit else None
        rest = b""
        with (
            selectors.DefaultSelector() as selector,
            self._folder.metrics.open("a", encoding="utf-8") as metrics,
        ):
            selector.register(events, selectors.EVENT_READ)
            is_open = True
            while is_open or process.poll() is None:
                if is_open and selector.select(_LOOK_S):
                    data = events.read(65536)
                    is_open = bool(data)
                    *lines, rest = (rest + data).split(b"\n")
                    for line in lines:
                        self._take(line, run, metrics)
                elif is_open and process.poll() is not None:
                    # A child of its own may hold the pipe open; the job itself is over.
                    break
                elif not is_open:
                    time.sleep(_LOOK_S / 10)
                self._steer(process, expires)

    def _take(self, line: bytes, run: lineage.Recorder, metrics: Any) -> None:
        kind, values = read_event(line)
        match kind:
            case "ready":
                run.property("device", values[0])
                if not self._ending_early:
                    self._move(SecondaryStatus.TRAINING, device=values[0])
            case "metric":
                name, value, step, micros = values
                metrics.write(json.dumps(values) + "\n")
                run.metric(name, value, step=step)
                at = dt.datetime.fromtimestamp(micros / 1e6, dt.UTC)
                self._metrics[name] = FinalMetric(name, value, at)
            case "progress":
                self._done = (values[0], values[1])
                self._tell_progress()
            case "property":
                if values[0] == "feature_importance":
                    self._importance = values[1]
                run.property(values[0], values[1])
            case "sealed":
                self._sealed = True

    def _steer(self, process: subprocess.Popen[bytes], expires: float | None) -> None:
        now = time.monotonic()
        if self._kill.is_set() or (self._deadline is not None and now > self._deadline):
            _kill(process)
        if self._ending_early:
            return
        if self._wants_stop():
            self._begin_stop(process, _STOPPED)
        elif expires is not None and now > expires:
            limit = self._order.job.stopping_condition.max_runtime_in_seconds
            self._ending = SecondaryStatus.MAX_RUNTIME_EXCEEDED
            self._begin_stop(process, f"the job ran longer than MaxRuntimeInSeconds={limit}")

    def _wants_stop(self) -> bool:
        """Whether this process or, through the registry, another one asked for a stop."""
        now = time.monotonic()
        if not self._stop.is_set() and now > self._asked + _ASK_REGISTRY_S:
            self._asked = now
            if self._order.jobs.is_stop_requested(self._name):
                self._stop.set()
        return self._stop.is_set()

    def _begin_stop(self, process: subprocess.Popen[bytes], message: str) -> None:
        self._stop_message = message
        self._move(SecondaryStatus.STOPPING, message=message)
        self._deadline = time.monotonic() + self._order.stop_grace_s
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)

    def _upload(self) -> Artifact:
        """Move the model into the store, and leave a link to it in the job's folder."""
        if not self._ending_early:
            self._move(SecondaryStatus.UPLOADING)
        self._folder.collect()
        artifact = ModelStore.of(self._order.jobs.home).add(self._folder.model)
        self._folder.model.symlink_to(os.path.relpath(artifact.path, self._folder.root))
        return artifact

    def _failure(self, status: int) -> str:
        said = self._folder.failure()
        if said:
            return said
        if status < 0:
            name = signal.Signals(-status).name
            hint = "; the usual cause is that memory ran out" if name == "SIGKILL" else ""
            ended = f"the job's process was ended by signal {name} ({-status}){hint}"
        else:
            ended = f"the job's process ended with exit status {status} and without a model"
        last = self._folder.last_line()
        return f"{ended}; its last line: {last}" if last else ended

    def _move(
        self, status: SecondaryStatus, *, message: str = "", device: str | None = None
    ) -> None:
        self._status = status
        self._order.jobs.move(self._name, status, message=message, device=device)
        self._tell_progress()

    def _tell_progress(self) -> None:
        self._order.on_progress(
            Progress(
                job=self._name,
                status=self._status,
                done=self._done[0],
                total=self._done[1],
                metrics={metric.name: metric.value for metric in self._metrics.values()},
            )
        )


def _source(channel: Channel, home: Path) -> Path:
    """Return where a channel's data is."""
    if channel.path is not None:
        return Path(channel.path).absolute()
    path = home / "artifacts" / "datasets" / f"{channel.dataset}.parquet"
    if not path.is_file():
        raise InvalidData(
            f"{channel.channel_name}: dataset {channel.dataset!r} has no file {path}; write it "
            "there with Dataset.write, or give the path of the file it was written to",
            channel=channel.channel_name,
            path=str(path),
        )
    return path


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill a process and its children; it leads a session of its own."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave no process behind."""
    _kill(process)
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        logger.debug("process %s had closed its input", process.pid)
    process.wait()
