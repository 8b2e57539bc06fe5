"""What is known of a transform job, how far it is, and how it ended."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, final

from training.errors import TrainingJobFailed
from training.jobs.job import SecondaryStatus, TrainingJobStatus, Transition
from training.transforms.job import TransformJob

__all__ = ["TransformJobDescription", "TransformProgress", "TransformResult"]


@final
@dataclass(frozen=True, kw_only=True)
class TransformProgress:
    """How far a transform job is.

    Args:
        job: its name.
        status: what it is doing.
        records: answered so far.
        files: finished so far.
    """

    job: str
    status: SecondaryStatus
    records: int = 0
    files: int = 0


@final
@dataclass(frozen=True, kw_only=True)
class TransformResult:
    """How a transform job ended.

    Args:
        job: its name.
        status: Completed, Failed or Stopped.
        records: answered; of a feature group, those that it took.
        files: finished.
        output: the folder of the answers, or the feature group.
        failure_reason: why it failed or was stopped; "" when it completed.
    """

    job: str
    status: TrainingJobStatus
    records: int = 0
    files: int = 0
    output: str = ""
    failure_reason: str = ""

    def check(self) -> Self:
        """Return the result itself when the job completed.

        Raises:
            TrainingJobFailed: it did not; the message has the reason.
        """
        if self.status is not TrainingJobStatus.COMPLETED:
            raise TrainingJobFailed(
                f"transform job {self.job!r} is {self.status.value}: {self.failure_reason}",
                name=self.job,
                status=self.status.value,
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        body: dict[str, Any] = {
            "job": self.job,
            "status": self.status.value,
            "records": self.records,
            "files": self.files,
            "output": self.output,
        }
        return body | ({"failure_reason": self.failure_reason} if self.failure_reason else {})


@final
@dataclass(frozen=True, kw_only=True)
class TransformJobDescription:
    """What is known of a job: what was asked for, and how far it is.

    `threads` and `device` are those each of its processes really has; `device` is empty before it
    starts.
    """

    job: TransformJob
    status: TrainingJobStatus
    secondary_status: SecondaryStatus
    secondary_status_transitions: tuple[Transition, ...]
    creation_time: dt.datetime
    transform_start_time: dt.datetime | None = None
    transform_end_time: dt.datetime | None = None
    threads: int = 0
    device: str = ""
    failure_reason: str = ""
    records: int = 0
    files: int = 0
    model_digest: str = ""

    @property
    def output(self) -> str:
        """The folder of the answers, or the feature group."""
        where = self.job.transform_output
        return str(Path(where.path)) if where.path is not None else str(where.feature_group)

    def result(self) -> TransformResult:
        """Return how it ended."""
        return TransformResult(
            job=self.job.transform_job_name,
            status=self.status,
            records=self.records,
            files=self.files,
            output=self.output,
            failure_reason=self.failure_reason,
        )

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's DescribeTransformJob; times as ISO text."""
        body = self.job.to_json()
        body["TransformResources"] |= {
            "Threads": self.threads,
            "Device": self.device or self.job.transform_resources.device,
        }
        return body | {
            "TransformJobStatus": self.status.value,
            "SecondaryStatus": self.secondary_status.value,
            "FailureReason": self.failure_reason,
            "ModelDigest": self.model_digest,
            "Records": self.records,
            "Files": self.files,
            "CreationTime": self.creation_time.isoformat(),
            "TransformStartTime": _iso(self.transform_start_time),
            "TransformEndTime": _iso(self.transform_end_time),
            "SecondaryStatusTransitions": [
                {
                    "Status": t.status.value,
                    "StartTime": t.start_time.isoformat(),
                    "EndTime": _iso(t.end_time),
                    "StatusMessage": t.status_message,
                }
                for t in self.secondary_status_transitions
            ],
        }


def _iso(time: dt.datetime | None) -> str | None:
    return None if time is None else time.isoformat()
