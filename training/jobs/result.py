"""How far a job is, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, final

from training.errors import TrainingJobFailed
from training.jobs.job import SecondaryStatus, TrainingJobStatus

__all__ = ["JobResult", "Progress"]


@final
@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a job is.

    Args:
        job: its name.
        status: what it is doing.
        done: steps done of `total`; both 0 before the fit starts.
        total: steps to do.
        metrics: the last value of each metric.
    """

    job: str
    status: SecondaryStatus
    done: int = 0
    total: int = 0
    metrics: Mapping[str, float] = field(default_factory=dict)


@final
@dataclass(frozen=True, kw_only=True)
class JobResult:
    """How a job ended.

    Args:
        job: its name.
        status: Completed, Failed or Stopped.
        metrics: the last value of each metric.
        model: the folder of the model artifact; None when there is none.
        digest: of the model; "" when there is none.
        failure_reason: why it failed or was stopped; "" when it completed.
    """

    job: str
    status: TrainingJobStatus
    metrics: Mapping[str, float] = field(default_factory=dict)
    model: Path | None = None
    digest: str = ""
    failure_reason: str = ""

    def check(self) -> Self:
        """Return the result itself when the job completed.

        Raises:
            TrainingJobFailed: it did not; the message has the reason.
        """
        if self.status is not TrainingJobStatus.COMPLETED:
            raise TrainingJobFailed(
                f"training job {self.job!r} is {self.status.value}: {self.failure_reason}",
                name=self.job,
                status=self.status.value,
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        body: dict[str, Any] = {
            "job": self.job,
            "status": self.status.value,
            "metrics": dict(self.metrics),
            "model": None if self.model is None else str(self.model),
            "digest": self.digest or None,
        }
        return body | ({"failure_reason": self.failure_reason} if self.failure_reason else {})
