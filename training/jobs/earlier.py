"""What a job has done before another process took it over."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

from training.jobs.description import TrainingJobDescription
from training.jobs.status import SecondaryStatus, Transition

__all__ = ["Earlier"]

_GONE: Final = (SecondaryStatus.INTERRUPTED, SecondaryStatus.RESTARTING)
_SECOND: Final = dt.timedelta(seconds=1)


@final
@dataclass(frozen=True, kw_only=True)
class Earlier:
    """What a job has done in the attempts of runners that are gone.

    Args:
        attempts: each with its number, its times in microseconds, and why it ended.
        ran_s: how long it trained, all attempts together.
        age_s: how long ago it was submitted.
    """

    attempts: Sequence[dict[str, Any]] = ()
    ran_s: float = 0.0
    age_s: float = 0.0

    @classmethod
    def of(cls, known: TrainingJobDescription, root: Path, now: dt.datetime) -> Self:
        """Tell it by a job's transitions.

        Args:
            known: the job.
            root: its folder: an attempt whose runner died ran until the last sign of it.
            now: the time.
        """
        attempts: list[dict[str, Any]] = []
        ran_s = 0.0
        begin: dt.datetime | None = None
        last = _last_sign(root)
        for step in known.secondary_status_transitions:
            if step.status is SecondaryStatus.STARTING and begin is None:
                begin = step.start_time
            elif step.status is SecondaryStatus.TRAINING:
                end = step.end_time or now
                ran_s += max(
                    0.0, (min(end, max(last, step.start_time)) - step.start_time) / _SECOND
                )
            elif step.status in _GONE and begin is not None:
                attempts.append(_attempt(len(attempts) + 1, begin, step))
                begin = None
        return cls(
            attempts=attempts,
            ran_s=ran_s,
            age_s=max(0.0, (now - known.creation_time) / _SECOND),
        )


def _attempt(number: int, begin: dt.datetime, end: Transition) -> dict[str, Any]:
    return {
        "number": number,
        "started_us": int(begin.timestamp() * 1e6),
        "ended_us": int(end.start_time.timestamp() * 1e6),
        "failure_reason": end.status_message,
    }


def _last_sign(root: Path) -> dt.datetime:
    """Return when a job last wrote something of which its runner or its process is the writer."""
    paths = (root / "training.log", root / "metrics.arrows", *(root / "checkpoints").rglob("*"))
    times = [path.stat().st_mtime for path in paths if path.exists()]
    return dt.datetime.fromtimestamp(max(times, default=0.0), dt.UTC)
