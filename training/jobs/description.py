"""What is known of a training job."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from training.jobs.job import SecondaryStatus, TrainingJob, TrainingJobStatus, Transition

__all__ = ["FinalMetric", "TrainingJobDescription"]


@final
@dataclass(frozen=True)
class FinalMetric:
    """The last value of one metric."""

    name: str
    value: float
    timestamp: dt.datetime


@final
@dataclass(frozen=True, kw_only=True)
class TrainingJobDescription:
    """What is known of a job: what was asked for, and how far it is.

    `threads` and `device` are those it really runs on; `device` is empty before it starts.
    """

    job: TrainingJob
    status: TrainingJobStatus
    secondary_status: SecondaryStatus
    secondary_status_transitions: tuple[Transition, ...]
    creation_time: dt.datetime
    training_start_time: dt.datetime | None = None
    training_end_time: dt.datetime | None = None
    threads: int = 0
    device: str = ""
    failure_reason: str = ""
    final_metrics: tuple[FinalMetric, ...] = ()
    model_artifacts: Path | None = None
    model_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's DescribeTrainingJob; times as ISO text."""
        body = self.job.to_json()
        body["ResourceConfig"] |= {
            "Threads": self.threads,
            "Device": self.device or self.job.resource_config.device,
        }
        return body | {
            "TrainingJobStatus": self.status.value,
            "SecondaryStatus": self.secondary_status.value,
            "FailureReason": self.failure_reason,
            "ModelArtifacts": {"Path": str(self.model_artifacts or "")},
            "ModelDigest": self.model_digest,
            "CreationTime": self.creation_time.isoformat(),
            "TrainingStartTime": _iso(self.training_start_time),
            "TrainingEndTime": _iso(self.training_end_time),
            "FinalMetricDataList": [
                {"MetricName": m.name, "Value": m.value, "Timestamp": m.timestamp.isoformat()}
                for m in self.final_metrics
            ],
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
