"""Training jobs as values: all that is asked for."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, ClassVar, final

from training.hyperparameter import as_text
from training.jobs.channel import INPUT_MODES, Channel
from training.jobs.execution import (
    CheckpointConfig,
    MetricDefinition,
    ResourceConfig,
    RetryStrategy,
    StoppingCondition,
    TensorBoardOutputConfig,
)
from training.jobs.shape import check_keys, check_sizes, check_word, given, invalid
from training.jobs.status import SecondaryStatus, TrainingJobStatus, Transition

__all__ = [
    "Channel",
    "CheckpointConfig",
    "MetricDefinition",
    "ResourceConfig",
    "RetryStrategy",
    "SecondaryStatus",
    "StoppingCondition",
    "TensorBoardOutputConfig",
    "TrainingJob",
    "TrainingJobStatus",
    "Transition",
    "job_name",
]

_JOB_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}")
_VARIABLE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
_MOST_METRICS = 40


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
        training_input_mode: File, FastFile or Pipe, for channels that name none.
        environment: variables for the job's process, at most 100.
        checkpoint_config: where checkpoints are kept beyond the job, and how often they are
            written; None: in its folder alone, as often as its algorithm does.
        retry_strategy: how often to start it again; None: never.
        metric_definitions: metrics to read from its log, at most 40.
        tensor_board_output_config: that its metrics are written for TensorBoard; None: they are
            not.
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
    checkpoint_config: CheckpointConfig | None = None
    retry_strategy: RetryStrategy | None = None
    metric_definitions: Sequence[MetricDefinition] = ()
    tensor_board_output_config: TensorBoardOutputConfig | None = None

    _KEYS: ClassVar = (
        *("TrainingJobName", "AlgorithmSpecification", "HyperParameters", "InputDataConfig"),
        *("StoppingCondition", "ResourceConfig", "Environment", "Tags"),
        *("CheckpointConfig", "RetryStrategy", "TensorBoardOutputConfig"),
    )

    def __post_init__(self) -> None:
        if not _JOB_NAME.fullmatch(self.training_job_name):
            raise invalid(
                f"expected a job name of 1 to 63 letters, digits and hyphens that begins and ends "
                f"with a letter or digit, got {self.training_job_name!r}",
                "TrainingJobName",
            )
        if not 1 <= len(self.algorithm_name) <= 170:
            raise invalid("expected an algorithm name of 1 to 170 characters", "AlgorithmName")
        object.__setattr__(self, "input_data_config", tuple(self.input_data_config))
        object.__setattr__(self, "metric_definitions", tuple(self.metric_definitions))
        text = {str(name): as_text(value) for name, value in self.hyper_parameters.items()}
        for name, limits in (("hyper_parameters", text), ("environment", self.environment)):
            object.__setattr__(self, name, MappingProxyType(dict(limits)))
        object.__setattr__(self, "tags", MappingProxyType(dict(self.tags)))
        check_word(self.training_input_mode, INPUT_MODES, "job: input mode", "InputMode")
        self._check_channels()
        if len(self.metric_definitions) > _MOST_METRICS:
            raise invalid(
                f"expected at most {_MOST_METRICS} metrics, got {len(self.metric_definitions)}",
                "MetricDefinitions",
            )
        check_sizes("HyperParameters", self.hyper_parameters, 100, 256, 2500)
        check_sizes("Environment", self.environment, 100, 512, 512)
        check_sizes("Tags", self.tags, 50, 128, 256)
        for name in self.environment:
            if not _VARIABLE.fullmatch(name):
                raise invalid(
                    f"expected variables of letters, digits and '_', got {name!r}", "Environment"
                )

    def _check_channels(self) -> None:
        names = [channel.channel_name for channel in self.input_data_config]
        if not 1 <= len(names) <= 20:
            raise invalid(f"expected 1 to 20 channels, got {len(names)}", "InputDataConfig")
        repeated = {name for name in names if names.count(name) > 1}
        if repeated:
            raise invalid(f"channel {min(repeated)!r} is given twice", "InputDataConfig")
        for channel in self.input_data_config:
            if channel.is_wrapped and self.input_mode(channel) != "Pipe":
                raise invalid(
                    f"channel {channel.channel_name!r}: frames of RecordIO are piped; set "
                    f"input_mode=Pipe, or leave record_wrapper None (it is "
                    f"{self.input_mode(channel)})",
                    "RecordWrapperType",
                )

    def __hash__(self) -> int:
        return hash((self.training_job_name, self.algorithm_name, self.input_data_config))

    def input_mode(self, channel: Channel) -> str:
        """The input mode that a channel has in this job."""
        return channel.input_mode or self.training_input_mode

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's CreateTrainingJob."""
        metrics = [definition.to_json() for definition in self.metric_definitions]
        return given(
            TrainingJobName=self.training_job_name,
            AlgorithmSpecification=given(
                AlgorithmName=self.algorithm_name,
                TrainingInputMode=self.training_input_mode,
                MetricDefinitions=metrics or None,
            ),
            HyperParameters=dict(self.hyper_parameters),
            InputDataConfig=[channel.to_json() for channel in self.input_data_config],
            StoppingCondition=self.stopping_condition.to_json(),
            ResourceConfig=self.resource_config.to_json(),
            CheckpointConfig=self.checkpoint_config.to_json() if self.checkpoint_config else None,
            RetryStrategy=self.retry_strategy.to_json() if self.retry_strategy else None,
            TensorBoardOutputConfig=self.tensor_board_output_config
            and self.tensor_board_output_config.to_json(),
            Environment=dict(self.environment),
            Tags=[{"Key": key, "Value": value} for key, value in self.tags.items()],
        )

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TrainingJob:
        """Read what `to_json` wrote.

        Raises:
            InvalidJob: a key is unknown or a value breaks a rule.
        """
        check_keys("training job", body, cls._KEYS)
        algorithm = body.get("AlgorithmSpecification", {})
        keys = ("AlgorithmName", "TrainingInputMode", "MetricDefinitions")
        check_keys("AlgorithmSpecification", algorithm, keys)
        checkpoints, retry = body.get("CheckpointConfig"), body.get("RetryStrategy")
        board = body.get("TensorBoardOutputConfig")
        return cls(
            training_job_name=str(body.get("TrainingJobName", "")),
            algorithm_name=str(algorithm.get("AlgorithmName", "")),
            hyper_parameters=body.get("HyperParameters", {}),
            input_data_config=tuple(map(Channel.from_json, body.get("InputDataConfig", ()))),
            stopping_condition=StoppingCondition.from_json(body.get("StoppingCondition", {})),
            resource_config=ResourceConfig.from_json(body.get("ResourceConfig", {})),
            training_input_mode=algorithm.get("TrainingInputMode", "File"),
            environment=body.get("Environment", {}),
            tags={tag["Key"]: tag["Value"] for tag in body.get("Tags", ())},
            checkpoint_config=CheckpointConfig.from_json(checkpoints) if checkpoints else None,
            retry_strategy=RetryStrategy.from_json(retry) if retry else None,
            tensor_board_output_config=None
            if board is None
            else TensorBoardOutputConfig.from_json(board),
            metric_definitions=tuple(
                map(MetricDefinition.from_json, algorithm.get("MetricDefinitions", ()))
            ),
        )


def job_name(algorithm: str, *, now: dt.datetime) -> str:
    """Make a job name from an algorithm's name and the time, as SageMaker's SDK does.

    >>> job_name("xgboost", now=dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC))
    'xgboost-2026-01-02-03-04-05-678901'
    """
    base = re.sub(r"[^a-zA-Z0-9]+", "-", algorithm).strip("-")[:36].strip("-") or "job"
    return f"{base}-{now.astimezone(dt.UTC):%Y-%m-%d-%H-%M-%S-%f}"
