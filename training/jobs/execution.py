"""How a job is executed: on what, how long, how often, and what is kept of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, final

from training.device import check_device
from training.jobs.shape import check_keys, check_word, given, invalid

__all__ = [
    "CheckpointConfig",
    "MetricDefinition",
    "ResourceConfig",
    "RetryStrategy",
    "StoppingCondition",
    "TensorBoardOutputConfig",
    "check_below",
]

_CONTAINER: Final = PurePosixPath("/opt/ml")
_OUTPUTS: Final = (("output",), ("output", "data"), ("output", "failure"))
_MOST_ATTEMPTS: Final = 30
_MOST_HOSTS: Final = 64
_PRECISIONS: Final = ("float32", "bf16", "fp16")


def check_below(local_path: str, example: str) -> PurePosixPath:
    """Return a path below /opt/ml, or below a job's folder, relative to that folder.

    Raises:
        InvalidJob: it is elsewhere.
    """
    path = PurePosixPath(local_path)
    below = path.relative_to(_CONTAINER) if path.is_relative_to(_CONTAINER) else path
    if below.is_absolute() or ".." in below.parts or not below.parts:
        raise invalid(
            f"expected a folder below /opt/ml such as {example}, got {local_path!r}", "LocalPath"
        )
    return below


@final
@dataclass(frozen=True, kw_only=True)
class StoppingCondition:
    """When a job is stopped.

    Args:
        max_runtime_in_seconds: after so many seconds of running, all attempts together; 0: never.
        max_wait_time_in_seconds: after so many seconds from its submission, waiting for resources
            included; not less than the run time; 0: never.
    """

    max_runtime_in_seconds: int = 86_400
    max_wait_time_in_seconds: int = 0

    def __post_init__(self) -> None:
        run, wait = self.max_runtime_in_seconds, self.max_wait_time_in_seconds
        if run < 0:
            raise invalid(
                f"expected a maximum run time >= 0 seconds, got {run}", "MaxRuntimeInSeconds"
            )
        if wait < 0 or (wait and wait < run):
            raise invalid(
                f"expected 0 or at least MaxRuntimeInSeconds={run}, got {wait}",
                "MaxWaitTimeInSeconds",
            )

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape."""
        return given(
            MaxRuntimeInSeconds=self.max_runtime_in_seconds,
            MaxWaitTimeInSeconds=self.max_wait_time_in_seconds or None,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> StoppingCondition:
        """Read what `to_json` wrote."""
        check_keys("StoppingCondition", body, ("MaxRuntimeInSeconds", "MaxWaitTimeInSeconds"))
        return cls(
            max_runtime_in_seconds=int(
                body.get("MaxRuntimeInSeconds", cls.max_runtime_in_seconds),
            ),
            max_wait_time_in_seconds=int(body.get("MaxWaitTimeInSeconds", 0)),
        )


@final
@dataclass(frozen=True, kw_only=True)
class ResourceConfig:
    """What a job computes on.

    Args:
        threads: of each host; 0: the cores divided among the jobs that run.
        device: auto, cpu, cuda or cuda:N.
        instance_count: hosts `algo-1` to `algo-n`, each a process; those of an algorithm make one
            fit together, where it can be spread.
        memory_mb: memory that is set aside for each host; 0: none is counted.
        precision: float32, or mixed bf16 or fp16 in algorithms that train with torch's steps.
    """

    threads: int = 0
    device: str = "auto"
    instance_count: int = 1
    memory_mb: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise invalid(f"expected threads >= 0, got {self.threads}", "Threads")
        if self.memory_mb < 0:
            raise invalid(f"expected megabytes >= 0, got {self.memory_mb}", "MemoryInMB")
        if not 1 <= self.instance_count <= _MOST_HOSTS:
            raise invalid(
                f"expected 1 to {_MOST_HOSTS} hosts, got {self.instance_count}", "InstanceCount"
            )
        check_device(self.device)
        check_word(self.precision, _PRECISIONS, "precision", "Precision")

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's manner; Threads, Device, MemoryInMB, Precision are ours."""
        return given(
            Threads=self.threads,
            Device=self.device,
            InstanceCount=None if self.instance_count == 1 else self.instance_count,
            MemoryInMB=self.memory_mb or None,
            Precision=None if self.precision == "float32" else self.precision,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> ResourceConfig:
        """Read what `to_json` wrote."""
        keys = ("Threads", "Device", "InstanceCount", "MemoryInMB", "Precision")
        check_keys("ResourceConfig", body, keys)
        return cls(
            threads=int(body.get("Threads", 0)),
            device=body.get("Device", "auto"),
            instance_count=int(body.get("InstanceCount", 1)),
            memory_mb=int(body.get("MemoryInMB", 0)),
            precision=body.get("Precision", "float32"),
        )


@final
@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """Where checkpoints are kept beyond the job, and how often an algorithm writes them.

    The files of `path` are restored into the job before it starts, and those it writes are copied
    there as they are complete. So a job with another name goes on where this one ended.

    Args:
        path: a folder of this machine; made when absent. "": they stay in the job's folder alone,
            where its next attempt finds them.
        local_path: where the job finds them: below its folder, or below /opt/ml, which means it.
        interval_in_seconds: from one checkpoint to the next; 0: one after each step; None: as the
            algorithm does by itself, 30 seconds for most.
    """

    path: str = ""
    local_path: str = "/opt/ml/checkpoints"
    interval_in_seconds: float | None = None

    def __post_init__(self) -> None:
        path, interval = str(self.path).removeprefix("file://"), self.interval_in_seconds
        if (not path and interval is None) or "://" in path:
            raise invalid(f"expected a folder of this machine, got {self.path!r}", "S3Uri")
        if interval is not None and not 0 <= interval < math.inf:
            raise invalid(f"expected seconds >= 0, got {interval}", "IntervalInSeconds")
        object.__setattr__(self, "path", path)
        check_below(self.local_path, "/opt/ml/checkpoints")

    @property
    def below_job(self) -> PurePosixPath:
        """The folder of the checkpoints, relative to the job's."""
        return check_below(self.local_path, "/opt/ml/checkpoints")

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape; IntervalInSeconds is ours."""
        return given(
            S3Uri=self.path or None,
            LocalPath=self.local_path,
            IntervalInSeconds=self.interval_in_seconds,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> CheckpointConfig:
        """Read what `to_json` wrote."""
        check_keys("CheckpointConfig", body, ("S3Uri", "LocalPath", "IntervalInSeconds"))
        interval = body.get("IntervalInSeconds")
        return cls(
            path=str(body.get("S3Uri", "")),
            local_path=body.get("LocalPath", cls.local_path),
            interval_in_seconds=None if interval is None else float(interval),
        )


@final
@dataclass(frozen=True, kw_only=True)
class TensorBoardOutputConfig:
    """That a job's metrics are written as event files of TensorBoard, and where they are kept.

    A script finds the folder too, and may write event files of its own into it.

    Args:
        path: a folder of this machine that the files are copied to; made when absent. "": they
            stay in the job's folder alone.
        local_path: where the job finds them: below its folder, or below /opt/ml, which means it.
    """

    path: str = ""
    local_path: str = "/opt/ml/output/tensorboard"

    def __post_init__(self) -> None:
        path = str(self.path).removeprefix("file://")
        if "://" in path:
            raise invalid(f"expected a folder of this machine, got {self.path!r}", "S3OutputPath")
        object.__setattr__(self, "path", path)
        parts = self.below_job.parts
        if parts[0] in ("input", "model", "code", "checkpoints") or parts[:2] in _OUTPUTS:
            raise invalid(
                f"{self.local_path!r} holds something else; leave it out for "
                "/opt/ml/output/tensorboard",
                "LocalPath",
            )

    @property
    def below_job(self) -> PurePosixPath:
        """The folder of the event files, relative to the job's."""
        return check_below(self.local_path, "/opt/ml/output/tensorboard")

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape."""
        return {"S3OutputPath": self.path, "LocalPath": self.local_path}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TensorBoardOutputConfig:
        """Read what `to_json` wrote."""
        check_keys("TensorBoardOutputConfig", body, ("S3OutputPath", "LocalPath"))
        return cls(
            path=str(body.get("S3OutputPath", "")), local_path=body.get("LocalPath", cls.local_path)
        )


@final
@dataclass(frozen=True, kw_only=True)
class RetryStrategy:
    """How often a job whose process failed or was killed is started again: 1 to 30 times.

    It finds the checkpoints of the attempts before. A job that was refused its data or
    hyperparameters is not started again, since it would be refused again.
    """

    maximum_retry_attempts: int

    def __post_init__(self) -> None:
        if not 1 <= self.maximum_retry_attempts <= _MOST_ATTEMPTS:
            raise invalid(
                f"expected 1 to {_MOST_ATTEMPTS} attempts, got {self.maximum_retry_attempts}",
                "MaximumRetryAttempts",
            )

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape."""
        return {"MaximumRetryAttempts": self.maximum_retry_attempts}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> RetryStrategy:
        """Read what `to_json` wrote."""
        check_keys("RetryStrategy", body, ("MaximumRetryAttempts",))
        return cls(maximum_retry_attempts=int(body.get("MaximumRetryAttempts", 0)))


@final
@dataclass(frozen=True, kw_only=True)
class MetricDefinition:
    r"""A metric that is read from what a job prints.

    Args:
        name: of the metric, at most 255 characters.
        regex: found in a line, its first group is the value; at most 500 characters.

    >>> MetricDefinition(name="loss", regex=r"loss=([0-9.]+)").value("epoch 3: loss=0.25")
    0.25
    """

    name: str
    regex: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.name) <= 255:
            raise invalid(f"expected a name of 1 to 255 characters, got {self.name[:80]!r}", "Name")
        if not 1 <= len(self.regex) <= 500:
            raise invalid(
                f"{self.name}: expected a regular expression of 1 to 500 characters", "Regex"
            )
        try:
            groups = re.compile(self.regex).groups
        except re.error as error:
            raise invalid(
                f"{self.name}: {self.regex!r} is no regular expression: {error}", "Regex"
            ) from None
        if not groups:
            raise invalid(
                f"{self.name}: {self.regex!r} has no group; put the value in parentheses", "Regex"
            )

    def value(self, line: str) -> float | None:
        """Return the value in a line; None when it is not there or is no number."""
        found = re.search(self.regex, line)
        if found is None or found[1] is None:
            return None
        try:
            return float(found[1])
        except ValueError:
            return None

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape."""
        return {"Name": self.name, "Regex": self.regex}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> MetricDefinition:
        """Read what `to_json` wrote."""
        check_keys("MetricDefinition", body, ("Name", "Regex"))
        return cls(name=str(body.get("Name", "")), regex=str(body.get("Regex", "")))
