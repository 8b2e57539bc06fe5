"""Training jobs as values: what is asked for, and the states a job goes through."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, final

from training.device import check_device
from training.errors import InvalidJob, nearest
from training.hyperparameter import as_text

__all__ = [
    "Channel",
    "ResourceConfig",
    "SecondaryStatus",
    "StoppingCondition",
    "TrainingJob",
    "TrainingJobStatus",
    "Transition",
    "job_name",
]

_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_CHANNEL_NAME = re.compile(r"[A-Za-z0-9.\-_]{1,64}")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_INPUT_MODES = ("File", "FastFile")


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
    """What a job is doing, or how it ended."""

    STARTING = "Starting"
    DOWNLOADING = "Downloading"
    TRAINING = "Training"
    UPLOADING = "Uploading"
    STOPPING = "Stopping"
    COMPLETED = "Completed"
    FAILED = "Failed"
    STOPPED = "Stopped"
    MAX_RUNTIME_EXCEEDED = "MaxRuntimeExceeded"

    @property
    def primary(self) -> TrainingJobStatus:
        """The status that a job in this state has.

        >>> SecondaryStatus.MAX_RUNTIME_EXCEEDED.primary.value
        'Stopped'
        """
        if self is SecondaryStatus.MAX_RUNTIME_EXCEEDED:
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


@final
@dataclass(frozen=True, kw_only=True)
class Channel:
    """One input of a job.

    Exactly one of `path` and `dataset` says where the data is.

    Args:
        channel_name: such as `train`.
        path: a file, or a folder of files of one kind.
        dataset: the fingerprint of a dataset that was written to a file.
        content_type: None: by the files' ending.
        label: the column to predict; None: the one called `label`, else the first.
        features: the input columns; none: all but the label, and a dataset's keys and time.
        input_mode: File, or FastFile for files too large to copy; None: the job's.

    >>> Channel.parse("train=flights.parquet,label=late").label
    'late'
    """

    channel_name: str
    path: str | None = None
    dataset: str | None = None
    content_type: str | None = None
    label: str | None = None
    features: tuple[str, ...] = ()
    input_mode: str | None = None

    _OPTIONS: ClassVar = ("content_type", "label", "features", "input_mode")

    def __post_init__(self) -> None:
        where = f"channel {self.channel_name!r}"
        if not _CHANNEL_NAME.fullmatch(self.channel_name):
            raise _invalid(
                f"{where}: expected a name of 1 to 64 letters, digits, '.', '-' or '_'",
                "ChannelName",
            )
        if (self.path is None) == (self.dataset is None):
            raise _invalid(
                f"{where}: expected exactly one of path and dataset, got path={self.path!r}, "
                f"dataset={self.dataset!r}",
                "DataSource",
            )
        if self.content_type is not None and len(self.content_type) > 256:
            raise _invalid(
                f"{where}: expected a content type of at most 256 characters", "ContentType"
            )
        if self.input_mode is not None:
            _check_input_mode(self.input_mode, where)
        object.__setattr__(self, "path", None if self.path is None else str(self.path))
        object.__setattr__(self, "features", tuple(self.features))

    @classmethod
    def parse(cls, text: str) -> Channel:
        """Read `NAME=PATH_OR_DATASET[,option=value…]` as the command line takes it.

        Options: content_type, label, features (names with `+` between them), input_mode. A source
        of 64 hexadecimal digits is a dataset's fingerprint.

        Raises:
            InvalidJob: it has another form; the message names the options.
        """
        name, _, rest = text.partition("=")
        source, *options = rest.split(",")
        if not name or not source:
            raise _invalid(f"channel {text!r}: expected NAME=PATH[,option=value]", "Channel")
        values: dict[str, Any] = {}
        for option in options:
            key, _, value = option.partition("=")
            if key not in cls._OPTIONS or not value:
                raise _invalid(
                    f"channel {name!r}: option {option!r} is none of {', '.join(cls._OPTIONS)}"
                    f"{nearest(key, cls._OPTIONS)}",
                    "Channel",
                )
            values[key] = tuple(value.split("+")) if key == "features" else value
        if re.fullmatch(r"[0-9a-f]{64}", source):
            return cls(channel_name=name, dataset=source, **values)
        return cls(channel_name=name, path=source, **values)

    def to_json(self) -> dict[str, Any]:
        """Write it in SageMaker's shape; `Label` and `Features` are ours."""
        source = {"Path": self.path} if self.path is not None else {"Dataset": self.dataset}
        return _given(
            ChannelName=self.channel_name,
            DataSource=source,
            ContentType=self.content_type,
            InputMode=self.input_mode,
            Label=self.label,
            Features=list(self.features) or None,
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Channel:
        """Read what `to_json` wrote."""
        _check_keys(
            "channel",
            body,
            ("ChannelName", "DataSource", "ContentType", "InputMode", "Label", "Features"),
        )
        source = body.get("DataSource", {})
        _check_keys("DataSource", source, ("Path", "Dataset"))
        return cls(
            channel_name=str(body.get("ChannelName", "")),
            path=source.get("Path"),
            dataset=source.get("Dataset"),
            content_type=body.get("ContentType"),
            label=body.get("Label"),
            features=tuple(body.get("Features", ())),
            input_mode=body.get("InputMode"),
        )


@final
@dataclass(frozen=True, kw_only=True)
class StoppingCondition:
    """When a job is stopped: after so many seconds of training; 0: never."""

    max_runtime_in_seconds: int = 86_400

    def __post_init__(self) -> None:
        if self.max_runtime_in_seconds < 0:
            raise _invalid(
                f"expected a maximum run time >= 0 seconds, got {self.max_runtime_in_seconds}",
                "MaxRuntimeInSeconds",
            )


@final
@dataclass(frozen=True, kw_only=True)
class ResourceConfig:
    """What a job computes on.

    Args:
        threads: 0: the cores divided among the jobs that run.
        device: auto, cpu, cuda or cuda:N.
    """

    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise _invalid(f"expected threads >= 0, got {self.threads}", "Threads")
        check_device(self.device)


@final
@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One training job as it is asked for: SageMaker's CreateTrainingJob.

    Hyperparameters may be given typed; a job carries them as text. They are checked against the
    algorithm when the job is submitted.

    Args:
        training_job_name: 1 to 63 letters, digits and hyphens, unique in a home.
        algorithm_name: such as `xgboost`.
        hyper_parameters: at most 100; names to 256, values to 2,500 characters.
        input_data_config: 1 to 20 channels with distinct names.
        stopping_condition: when to stop it.
        resource_config: what it computes on.
        training_input_mode: File or FastFile, for channels that name none.
        environment: variables for the job's process, at most 100.
        tags: kept with the job and its lineage, at most 50.

    Raises:
        InvalidJob: a rule is broken; the message names the field and what is allowed.

    >>> job = TrainingJob(
    ...     training_job_name="flights-1",
    ...     algorithm_name="xgboost",
    ...     hyper_parameters={"num_round": 20},
    ...     input_data_config=[Channel(channel_name="train", path="flights.parquet")],
    ... )
    >>> TrainingJob.from_json(job.to_json()) == job
    True
    """

    training_job_name: str
    algorithm_name: str
    hyper_parameters: Mapping[str, Any] = field(default_factory=dict)
    input_data_config: Sequence[Channel] = ()
    stopping_condition: StoppingCondition = field(default_factory=StoppingCondition)
    resource_config: ResourceConfig = field(default_factory=ResourceConfig)
    training_input_mode: str = "File"
    environment: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    _KEYS: ClassVar = (
        *("TrainingJobName", "AlgorithmSpecification", "HyperParameters", "InputDataConfig"),
        *("StoppingCondition", "ResourceConfig", "Environment", "Tags"),
    )

    def __post_init__(self) -> None:
        if not _JOB_NAME.fullmatch(self.training_job_name):
            raise _invalid(
                f"expected a job name of 1 to 63 letters, digits and hyphens that begins and ends "
                f"with a letter or digit, got {self.training_job_name!r}",
                "TrainingJobName",
            )
        if not 1 <= len(self.algorithm_name) <= 170:
            raise _invalid("expected an algorithm name of 1 to 170 characters", "AlgorithmName")
        object.__setattr__(self, "input_data_config", tuple(self.input_data_config))
        text = {str(name): as_text(value) for name, value in self.hyper_parameters.items()}
        for name, limits in (("hyper_parameters", text), ("environment", self.environment)):
            object.__setattr__(self, name, MappingProxyType(dict(limits)))
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))
        _check_input_mode(self.training_input_mode, "job")
        self._check_channels()
        _check_sizes("HyperParameters", self.hyper_parameters, 100, 256, 2500)
        _check_sizes("Environment", self.environment, 100, 512, 512)
        _check_sizes("Tags", self.tags, 50, 128, 256)
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise _invalid(
                    f"expected variables of letters, digits and '_', got {name!r}", "Environment"
                )

    def _check_channels(self) -> None:
        names = [channel.channel_name for channel in self.input_data_config]
        if not 1 <= len(names) <= 20:
            raise _invalid(f"expected 1 to 20 channels, got {len(names)}", "InputDataConfig")
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise _invalid(f"channel {min(repeated)!r} is given twice", "InputDataConfig")

    def __hash__(self) -> int:
        return hash((self.training_job_name, self.algorithm_name, self.input_data_config))

    def input_mode(self, channel: Channel) -> str:
        """The input mode that a channel has in this job."""
        return channel.input_mode or self.training_input_mode

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's CreateTrainingJob."""
        return {
            "TrainingJobName": self.training_job_name,
            "AlgorithmSpecification": {
                "AlgorithmName": self.algorithm_name,
                "TrainingInputMode": self.training_input_mode,
            },
            "HyperParameters": dict(self.hyper_parameters),
            "InputDataConfig": [channel.to_json() for channel in self.input_data_config],
            "StoppingCondition": {
                "MaxRuntimeInSeconds": self.stopping_condition.max_runtime_in_seconds
            },
            "ResourceConfig": {
                "Threads": self.resource_config.threads,
                "Device": self.resource_config.device,
            },
            "Environment": dict(self.environment),
            "Tags": [{"Key": key, "Value": value} for key, value in self.tags.items()],
        }

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TrainingJob:
        """Read what `to_json` wrote.

        Raises:
            InvalidJob: a key is unknown or a value breaks a rule.
        """
        _check_keys("training job", body, cls._KEYS)
        algorithm = body.get("AlgorithmSpecification", {})
        _check_keys("AlgorithmSpecification", algorithm, ("AlgorithmName", "TrainingInputMode"))
        stopping = body.get("StoppingCondition", {})
        _check_keys("StoppingCondition", stopping, ("MaxRuntimeInSeconds",))
        resources = body.get("ResourceConfig", {})
        _check_keys("ResourceConfig", resources, ("Threads", "Device"))
        default = StoppingCondition().max_runtime_in_seconds
        return cls(
            training_job_name=str(body.get("TrainingJobName", "")),
            algorithm_name=str(algorithm.get("AlgorithmName", "")),
            hyper_parameters=body.get("HyperParameters", {}),
            input_data_config=tuple(map(Channel.from_json, body.get("InputDataConfig", ()))),
            stopping_condition=StoppingCondition(
                max_runtime_in_seconds=int(stopping.get("MaxRuntimeInSeconds", default))
            ),
            resource_config=ResourceConfig(
                threads=int(resources.get("Threads", 0)), device=resources.get("Device", "auto")
            ),
            training_input_mode=algorithm.get("TrainingInputMode", "File"),
            environment=body.get("Environment", {}),
            tags={tag["Key"]: tag["Value"] for tag in body.get("Tags", ())},
        )


def job_name(algorithm: str, *, now: dt.datetime) -> str:
    """Make a job name from an algorithm's name and the time, as SageMaker's SDK does.

    >>> job_name("xgboost", now=dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC))
    'xgboost-2026-01-02-03-04-05-678901'
    """
    base = re.sub(r"[^a-zA-Z0-9]+", "-", algorithm).strip("-")[:36].strip("-") or "job"
    return f"{base}-{now.astimezone(dt.UTC):%Y-%m-%d-%H-%M-%S-%f}"


def _check_input_mode(mode: str, where: str) -> None:
    if mode not in _INPUT_MODES:
        raise _invalid(
            f"{where}: input mode {mode!r} is not available; use one of {', '.join(_INPUT_MODES)}",
            "InputMode",
        )


def _check_sizes(
    field: str, values: Mapping[str, str], count: int, name_limit: int, value_limit: int
) -> None:
    if len(values) > count:
        raise _invalid(f"expected at most {count} entries, got {len(values)}", field)
    for name, value in values.items():
        if not isinstance(value, str):
            raise _invalid(f"{name!r}: expected text, got {value!r}", field)
        if not 1 <= len(name) <= name_limit or len(value) > value_limit:
            raise _invalid(
                f"{name[:80]!r}: expected a name of 1 to {name_limit} and a value of at most "
                f"{value_limit} characters, got {len(name)} and {len(value)}",
                field,
            )


def _check_keys(where: str, body: Mapping[str, Any], allowed: Sequence[str]) -> None:
    for key in body:
        if key not in allowed:
            raise _invalid(
                f"{where}: unknown field {key!r}{nearest(key, allowed)}; allowed are "
                f"{', '.join(allowed)}",
                key,
            )


def _given(**values: Any) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _invalid(message: str, field: str) -> InvalidJob:
    return InvalidJob(f"{field}: {message}", field=field)
