"""Takes one job from its start to its end: its share, data, attempts, model, lineage."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final

import lineage
from training import provenance
from training.artifact import Artifact, ModelStore
from training.errors import InvalidData, TrainingError, TrainingJobFailed, TrainingStopped
from training.jobs.attempt import Attempt, Ended
from training.jobs.boards import Boards
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
            check=self._check_stop,
        )
        self._copies: list[CheckpointCopy] = []
        self._attempts: list[dict[str, Any]] = list(order.earlier.attempts if order.earlier else [])
        self._first = len(self._attempts) + 1
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
        goes_on = self._order.earlier is not None
        with MetricWriter(self._folder.metrics, self._name, goes_on=goes_on) as writer:
            boards = self._boards()
            self._standing.record_to(run, writer, boards)
            try:
                ended = self._try(run, share)
            finally:
                if boards is not None:
                    boards.close()
                run.property("attempts", self._attempts)
                provenance.record_checkpoints(run, self._local_checkpoints, kept)
                provenance.record_tensorboard(run, self._folder.tensorboard, self._kept_boards)
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
        if self._order.earlier is not None:
            self._folder.clear_for_another(hosts)
        self._folder.create(hosts)
        _link(self._local_checkpoints, self._folder.checkpoints)
        board = self._order.job.tensor_board_output_config
        if board is not None:
            self._folder.create_boards(hosts)
            _link(self._folder.root / board.below_job, self._folder.tensorboard)
        for host in hosts:
            self._folder.host(host).write_config(self._order.job, hosts=hosts, current=host)

    def _boards(self) -> Boards | None:
        """Return what writes metrics for TensorBoard, if the job asks for that."""
        if self._order.job.tensor_board_output_config is None:
            return None
        if self._kept_boards is not None:
            self._copies.append(CheckpointCopy(self._folder.tensorboard, self._kept_boards))
        return Boards(self._folder.tensorboard)

    @property
    def _kept_boards(self) -> Path | None:
        config = self._order.job.tensor_board_output_config
        return Path(config.path) if config is not None and config.path else None

    @property
    def _local_checkpoints(self) -> Path:
        config = self._order.job.checkpoint_config
        return self._folder.root / (config.below_job if config else CHECKPOINTS)

    def _restore(self, run: lineage.Recorder) -> Path | None:
        """Bring the checkpoints of earlier jobs; return where they are kept, if they are."""
        config = self._order.job.checkpoint_config
        if config is None or not config.path:
            return None
        kept = Path(config.path)
        checkpoints = CheckpointCopy(self._folder.checkpoints, kept)
        self._copies.append(checkpoints)
        # A job that goes on has its own, newer than those it has copied out.
        if any(self._folder.checkpoints.iterdir()):
            return kept
        if checkpoints.restore():
            provenance.record_restored(run, self._folder.checkpoints, kept)
        return kept

    def _try(self, run: lineage.Recorder, share: Share) -> Ended:
        """Run the job until it completes, is stopped, or has no attempt left."""
        retry = self._order.job.retry_strategy
        most = 1 + (retry.maximum_retry_attempts if retry else 0)
        for number in range(self._first, most + 1):
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
            copies=self._copies,
        )
        return attempt.run(
            (lambda: self._bring(run)) if number == self._first else (lambda: None),
            self._download.open_pipes,
        )

    def _bring(self, run: lineage.Recorder) -> None:
        """Bring code and data into the folder while the processes start."""
        self._standing.move(SecondaryStatus.DOWNLOADING)
        begun_with = self._folder.brought()
        if begun_with is None:
            self._program.prepare(self._folder)
        self._program.record(run, self._folder)
        channels = self._download.bring(run)
        if begun_with is None:
            self._folder.note_brought(channels)
        else:
            _check_same(begun_with, channels)
        self._train_uid = str(channels.get("train", {}).get("uid", ""))
        run.property("channels", channels)

    def _check_stop(self) -> None:
        if self._standing.should_stop():
            raise TrainingStopped("stopped while its data was brought")

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


def _link(local: Path, folder: Path) -> None:
    """Let a job find a folder where it asked for it."""
    if local != folder and not local.exists():
        local.parent.mkdir(parents=True, exist_ok=True)
        local.symlink_to(os.path.relpath(folder, local.parent))


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a job that goes on reads what it began with.

    Raises:
        InvalidData: it would read something else.
    """
    for name, channel in now.items():
        if before.get(name) != channel:
            raise InvalidData(
                f"{name}: {channel['source']} is not what it was when the job began, so its model "
                "would be of neither; submit it again under another name",
                channel=name,
                path=channel["source"],
            )
