"""Takes one job from its start to its end: its share, data, attempts, model, lineage."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from pathlib import Path
from typing import Any, Final, final

import lineage
from training import provenance
from training.artifact import Artifact, ModelStore
from training.errors import TrainingError, TrainingJobFailed
from training.jobs.attempt import Attempt, Ended
from training.jobs.budget import Share
from training.jobs.checkpointing import CheckpointCopy
from training.jobs.downloading import Download
from training.jobs.folder import CHECKPOINTS
from training.jobs.job import SecondaryStatus
from training.jobs.metricfile import MetricWriter
from training.jobs.result import JobResult
from training.jobs.standing import Order, Standing
from training.run import available_cores

__all__ = ["Supervisor"]

_WAIT_S: Final = 0.1
_REASON_CHARACTERS: Final = 1024

logger = logging.getLogger(__name__)


class TrainingJobStopped(asyncio.CancelledError):
    """A job ends because it was asked to; the recorder knows a cancellation as Stopped."""


@final
class Supervisor:
    """Takes one job from start to end, in a thread of the submitting process."""

    def __init__(self, order: Order, stop: threading.Event, kill: threading.Event) -> None:
        self._order = order
        self._program = order.program
        self._name = order.name
        self._folder = order.folder
        self._standing = Standing(order, stop, kill)
        self._download = Download(
            order.job,
            self._folder,
            order.jobs.home,
            self._program.hosts,
            for_script=not self._program.reports,
        )
        self._checkpoints: CheckpointCopy | None = None
        self._attempts: list[dict[str, Any]] = []
        self._train_uid = ""

    def run(self) -> JobResult:
        """Run the job; whatever happens, it ends in a final status."""
        standing = self._standing
        artifact: Artifact | None = None
        try:
            artifact = self._recorded()
            reason, status = "", SecondaryStatus.COMPLETED
            if standing.is_ending:
                reason, status = standing.stop_message, standing.ending
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
            metrics=standing.metrics,
            model=artifact.path if artifact else None,
            digest=artifact.digest if artifact else "",
        )
        standing.status = status
        standing.tell()
        return JobResult(
            job=self._name,
            status=status.primary,
            metrics={metric.name: metric.value for metric in standing.metrics.values()},
            model=artifact.path if artifact else None,
            digest=artifact.digest if artifact else "",
            failure_reason=reason,
        )

    def _recorded(self) -> Artifact | None:
        """Run the job inside its lineage recorder."""
        order = self._order
        graph = order.store.graph if order.store else lineage.open_home(order.jobs.home)
        artifact: Artifact | None = None
        try:
            with provenance.recorder(
                graph,
                order.job,
                self._program.parameters(),
                libraries=self._program.libraries(),
                folder=self._folder.root,
                threads=order.threads,
                device=order.job.resource_config.device,
            ) as run:
                artifact = self._execute(run)
                if artifact is not None:
                    run.output(provenance.model_entity(artifact))
                    if self._program.reports:
                        provenance.record_columns(
                            run, artifact, order.job, self._train_uid, self._standing.importance
                        )
                if self._standing.is_ending:
                    run.property("stop_reason", self._standing.stop_message)
                    raise TrainingJobStopped(self._standing.stop_message)
        except TrainingJobStopped:
            pass
        finally:
            if order.store is None:
                graph.close()
        return artifact

    def _execute(self, run: lineage.Recorder) -> Artifact | None:
        share = self._wait_for_share()
        if share is None:
            return None
        asked = self._order.job.resource_config
        if asked.instance_count > 1:
            run.property("instance_count", asked.instance_count)
        if asked.precision != "float32":
            run.property("precision", asked.precision)
        self._lay_out()
        kept = self._restore(run)
        with MetricWriter(self._folder.metrics, self._name) as writer:
            self._standing.record_to(run, writer)
            try:
                ended = self._try(run, share)
            finally:
                run.property("attempts", self._attempts)
                provenance.record_checkpoints(run, self._local_checkpoints, kept)
                provenance.record_tensorboard(run, self._folder.tensorboard)
                self._folder.collect_output()
        if not ended.completed and not self._standing.is_ending:
            raise TrainingJobFailed(ended.reason, name=self._name)
        # A script that is stopped leaves what it has; an algorithm says when its model is whole.
        if self._program.reports and not ended.sealed:
            return None
        return self._upload()

    def _wait_for_share(self) -> Share | None:
        """Wait until the budget has room for the job; None when it is stopped first."""
        began = time.monotonic()
        while (share := self._order.jobs.admit(self._name)) is None:
            if self._standing.should_stop():
                return None
            if self._standing.status is SecondaryStatus.STARTING:
                self._standing.move(
                    SecondaryStatus.PENDING, message="waits for jobs before it to free resources"
                )
            self._standing.pause(_WAIT_S)
        if self._standing.status is SecondaryStatus.PENDING:
            logger.info("training job %s waited %.1f s", self._name, time.monotonic() - began)
        return share

    def _lay_out(self) -> None:
        hosts = self._program.hosts
        self._folder.create(hosts)
        local = self._local_checkpoints
        if local != self._folder.checkpoints and not local.exists():
            local.parent.mkdir(parents=True, exist_ok=True)
            local.symlink_to(os.path.relpath(self._folder.checkpoints, local.parent))
        for host in hosts:
            self._folder.host(host).write_config(self._order.job, hosts=hosts, current=host)

    @property
    def _local_checkpoints(self) -> Path:
        config = self._order.job.checkpoint_config
        return self._folder.root / (config.below_job if config else CHECKPOINTS)

    def _restore(self, run: lineage.Recorder) -> Path | None:
        """Bring the checkpoints of earlier jobs; return where they are kept, if they are."""
        config = self._order.job.checkpoint_config
        if config is None:
            return None
        kept = Path(config.path)
        self._checkpoints = CheckpointCopy(self._folder.checkpoints, kept)
        if self._checkpoints.restore():
            provenance.record_restored(run, self._folder.checkpoints, kept)
        return kept

    def _try(self, run: lineage.Recorder, share: Share) -> Ended:
        """Run the job until it completes, is stopped, or has no attempt left."""
        retry = self._order.job.retry_strategy
        most = 1 + (retry.maximum_retry_attempts if retry else 0)
        for number in range(1, most + 1):
            began = time.time_ns() // 1000
            try:
                ended = self._attempt(run, share, number)
            except TrainingError as error:
                ended = Ended(completed=False, refused=True, reason=str(error))
            self._attempts.append(
                {
                    "number": number,
                    "started_us": began,
                    "ended_us": time.time_ns() // 1000,
                    "failure_reason": "" if self._standing.is_ending else ended.reason,
                }
            )
            if ended.completed or ended.refused or self._standing.is_ending or number == most:
                break
            status = (
                SecondaryStatus.INTERRUPTED if ended.interrupted else SecondaryStatus.RESTARTING
            )
            self._standing.move(status, message=ended.reason[:_REASON_CHARACTERS])
            self._folder.clear_attempt(self._program.hosts)
            self._standing.move(SecondaryStatus.STARTING, message=f"attempt {number + 1} of {most}")
        return ended

    def _attempt(self, run: lineage.Recorder, share: Share, number: int) -> Ended:
        attempt = Attempt(
            self._order,
            self._standing,
            share,
            crowded=self._order.jobs.cores_in_use() > available_cores(),
            checkpoints=self._checkpoints,
        )
        return attempt.run(
            (lambda: self._bring(run)) if number == 1 else (lambda: None),
            self._download.open_pipes,
        )

    def _bring(self, run: lineage.Recorder) -> None:
        """Bring code and data into the folder while the processes start."""
        self._standing.move(SecondaryStatus.DOWNLOADING)
        self._program.prepare(self._folder)
        self._program.record(run, self._folder)
        channels = self._download.bring(run)
        self._train_uid = str(channels.get("train", {}).get("uid", ""))
        run.property("channels", channels)

    def _upload(self) -> Artifact | None:
        """Move the model into the store, and leave a link to it in the job's folder."""
        if not self._standing.is_ending:
            self._standing.move(SecondaryStatus.UPLOADING)
        metrics = {metric.name: metric.value for metric in self._standing.metrics.values()}
        if not self._program.seal(self._folder, metrics):
            return None
        self._folder.collect_model()
        artifact = ModelStore.of(self._order.jobs.home).add(self._folder.model)
        self._folder.model.symlink_to(os.path.relpath(artifact.path, self._folder.root))
        return artifact
