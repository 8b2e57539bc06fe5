"""The states a job goes through."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from enum import StrEnum
from typing import final

__all__ = ["SecondaryStatus", "TrainingJobStatus", "Transition"]


class TrainingJobStatus(StrEnum):
    """Where a job stands."""

    IN_PROGRESS = "InProgress"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPING = "Stopping"
    STOPPED = "Stopped"

    @property
    def is_final(self) -> bool:
        """Whether the job has ended."""
        return self not in (TrainingJobStatus.IN_PROGRESS, TrainingJobStatus.STOPPING)


class SecondaryStatus(StrEnum):
    """What a job is doing, or how it ended.

    Pending is a job that waits for cores, memory or a GPU. Transforming is what a batch transform
    does while a training job is Training. Interrupted is one whose process was
    killed from outside, Restarting one that begins its next attempt.
    """

    STARTING = "Starting"
    PENDING = "Pending"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    TRANSFORMING = "Transforming"
    INTERRUPTED = "Interrupted"
    RESTARTING = "Restarting"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"
    MAX_WAIT_TIME_EXCEEDED = "MaxWaitTimeExceeded"

    @property
    def primary(self) -> TrainingJobStatus:
        """The status that a job in this state has.

        >>> SecondaryStatus.MAX_RUNTIME_EXCEEDED.primary.value
        'Stopped'
        """
        if self in (SecondaryStatus.MAX_RUNTIME_EXCEEDED, SecondaryStatus.MAX_WAIT_TIME_EXCEEDED):
            return TrainingJobStatus.STOPPED
        words = {status.value for status in TrainingJobStatus}
        return TrainingJobStatus(self.value if self.value in words else "InProgress")


@final
@dataclass(frozen=True)
class Transition:
    """A stretch of time in one secondary status; the last one has no end while the job runs."""

    status: SecondaryStatus
    start_time: dt.datetime
    end_time: dt.datetime | None = None
    status_message: str = ""
