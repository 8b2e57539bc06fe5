"""Between training jobs as values and their protobuf messages."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lineage.wire.trailer import fit_facts
from training import errors
from training.errors import InternalError, TrainingError
from training.jobs.description import FinalMetric, TrainingJobDescription
from training.jobs.job import (
    Channel,
    CheckpointConfig,
    MetricDefinition,
    ResourceConfig,
    RetryStrategy,
    SecondaryStatus,
    StoppingCondition,
    TensorBoardOutputConfig,
    TrainingJob,
    TrainingJobStatus,
    Transition,
)
from training.v1 import training_pb2 as pb

__all__ = [
    "description_from_message",
    "description_to_message",
    "error_from_metadata",
    "error_to_metadata",
    "job_from_message",
    "job_to_message",
]

_ERROR_KEY = "featureline-error"
_FACTS_KEY = "featureline-facts-bin"


def job_to_message(job: TrainingJob) -> pb.CreateTrainingJobRequest:
    """Write a job."""
    return pb.CreateTrainingJobRequest(
        training_job_name=job.training_job_name,
        algorithm_name=job.algorithm_name,
        hyper_parameters=dict(job.hyper_parameters),
        input_data_config=[_channel_to_message(channel) for channel in job.input_data_config],
        stopping_condition=pb.StoppingCondition(
            max_runtime_in_seconds=job.stopping_condition.max_runtime_in_seconds,
            max_wait_time_in_seconds=job.stopping_condition.max_wait_time_in_seconds,
        ),
        resource_config=pb.ResourceConfig(
            threads=job.resource_config.threads,
            device=job.resource_config.device,
            instance_count=job.resource_config.instance_count,
            memory_mb=job.resource_config.memory_mb,
            precision=job.resource_config.precision,
        ),
        tags=dict(job.tags),
        training_input_mode=job.training_input_mode,
        environment=dict(job.environment),
        checkpoint_config=job.checkpoint_config
        and pb.CheckpointConfig(
            path=job.checkpoint_config.path,
            local_path=job.checkpoint_config.local_path,
            interval_in_seconds=job.checkpoint_config.interval_in_seconds,
        ),
        retry_strategy=job.retry_strategy
        and pb.RetryStrategy(maximum_retry_attempts=job.retry_strategy.maximum_retry_attempts),
        metric_definitions=[
            pb.MetricDefinition(name=definition.name, regex=definition.regex)
            for definition in job.metric_definitions
        ],
        tensor_board_output_config=job.tensor_board_output_config
        and pb.TensorBoardOutputConfig(
            path=job.tensor_board_output_config.path,
            local_path=job.tensor_board_output_config.local_path,
        ),
    )


def job_from_message(message: Any) -> TrainingJob:
    """Read a job from a request or a description; what is unset has its default.

    Raises:
        InvalidJob: it breaks a rule.
    """
    stopping = StoppingCondition()
    if message.HasField("stopping_condition"):
        stopping = StoppingCondition(
            max_runtime_in_seconds=message.stopping_condition.max_runtime_in_seconds,
            max_wait_time_in_seconds=message.stopping_condition.max_wait_time_in_seconds,
        )
    checkpoints = retry = board = None
    if message.HasField("checkpoint_config"):
        kept = message.checkpoint_config
        checkpoints = CheckpointConfig(
            path=kept.path,
            local_path=kept.local_path or CheckpointConfig.local_path,
            interval_in_seconds=kept.interval_in_seconds
            if kept.HasField("interval_in_seconds")
            else None,
        )
    if message.HasField("retry_strategy"):
        retry = RetryStrategy(maximum_retry_attempts=message.retry_strategy.maximum_retry_attempts)
    if message.HasField("tensor_board_output_config"):
        shown = message.tensor_board_output_config
        board = TensorBoardOutputConfig(
            path=shown.path, local_path=shown.local_path or TensorBoardOutputConfig.local_path
        )
    return TrainingJob(
        training_job_name=message.training_job_name,
        algorithm_name=message.algorithm_name,
        hyper_parameters=dict(message.hyper_parameters),
        input_data_config=[_channel_from_message(item) for item in message.input_data_config],
        stopping_condition=stopping,
        resource_config=ResourceConfig(
            threads=message.resource_config.threads,
            device=message.resource_config.device or "auto",
            instance_count=message.resource_config.instance_count or 1,
            memory_mb=message.resource_config.memory_mb,
            precision=message.resource_config.precision or "float32",
        ),
        tags=dict(message.tags),
        training_input_mode=message.training_input_mode or "File",
        environment=dict(message.environment),
        checkpoint_config=checkpoints,
        retry_strategy=retry,
        tensor_board_output_config=board,
        metric_definitions=[
            MetricDefinition(name=definition.name, regex=definition.regex)
            for definition in message.metric_definitions
        ],
    )


def description_to_message(known: TrainingJobDescription) -> pb.TrainingJobDescription:
    """Write a description; its resources are those the job really has."""
    asked = job_to_message(known.job)
    message = pb.TrainingJobDescription(
        training_job_name=asked.training_job_name,
        algorithm_name=asked.algorithm_name,
        hyper_parameters=asked.hyper_parameters,
        input_data_config=asked.input_data_config,
        stopping_condition=asked.stopping_condition,
        resource_config=pb.ResourceConfig(
            threads=known.threads,
            device=known.device or asked.resource_config.device,
            instance_count=asked.resource_config.instance_count,
            memory_mb=asked.resource_config.memory_mb,
            precision=asked.resource_config.precision,
        ),
        tags=asked.tags,
        training_input_mode=asked.training_input_mode,
        environment=asked.environment,
        # An unset message stays unset.
        checkpoint_config=asked.checkpoint_config if known.job.checkpoint_config else None,
        retry_strategy=asked.retry_strategy if known.job.retry_strategy else None,
        tensor_board_output_config=asked.tensor_board_output_config
        if known.job.tensor_board_output_config
        else None,
        metric_definitions=asked.metric_definitions,
        training_job_status=known.status.value,
        secondary_status=known.secondary_status.value,
        failure_reason=known.failure_reason,
        model_artifacts=str(known.model_artifacts or ""),
        model_digest=known.model_digest,
    )
    message.creation_time.FromDatetime(known.creation_time)
    if known.training_start_time is not None:
        message.training_start_time.FromDatetime(known.training_start_time)
    if known.training_end_time is not None:
        message.training_end_time.FromDatetime(known.training_end_time)
    for metric in known.final_metrics:
        entry = message.final_metric_data_list.add(metric_name=metric.name, value=metric.value)
        entry.timestamp.FromDatetime(metric.timestamp)
    for transition in known.secondary_status_transitions:
        step = message.secondary_status_transitions.add(
            status=transition.status.value, status_message=transition.status_message
        )
        step.start_time.FromDatetime(transition.start_time)
        if transition.end_time is not None:
            step.end_time.FromDatetime(transition.end_time)
    return message


def description_from_message(message: Any) -> TrainingJobDescription:
    """Read a description."""
    return TrainingJobDescription(
        job=job_from_message(message),
        status=TrainingJobStatus(message.training_job_status),
        secondary_status=SecondaryStatus(message.secondary_status),
        secondary_status_transitions=tuple(
            Transition(
                SecondaryStatus(step.status),
                step.start_time.ToDatetime(dt.UTC),
                _time(step, "end_time"),
                step.status_message,
            )
            for step in message.secondary_status_transitions
        ),
        creation_time=message.creation_time.ToDatetime(dt.UTC),
        training_start_time=_time(message, "training_start_time"),
        training_end_time=_time(message, "training_end_time"),
        threads=message.resource_config.threads,
        device=message.resource_config.device,
        failure_reason=message.failure_reason,
        final_metrics=tuple(
            FinalMetric(entry.metric_name, entry.value, entry.timestamp.ToDatetime(dt.UTC))
            for entry in message.final_metric_data_list
        ),
        model_artifacts=Path(message.model_artifacts) if message.model_artifacts else None,
        model_digest=message.model_digest,
    )


def error_to_metadata(error: TrainingError) -> tuple[tuple[str, str | bytes], ...]:
    """Write what a client needs to raise the same error again."""
    return ((_ERROR_KEY, type(error).__name__), (_FACTS_KEY, fit_facts(error.facts)))


def error_from_metadata(metadata: Mapping[str, Any], details: str) -> TrainingError | None:
    """Build the error again that a server sent; None when it sent none of ours."""
    name = metadata.get(_ERROR_KEY)
    if name is None:
        return None
    found = getattr(errors, str(name), None)
    is_ours = isinstance(found, type) and issubclass(found, TrainingError)
    facts = json.loads(metadata.get(_FACTS_KEY, b"{}"))
    return found(details, **facts) if is_ours and found else InternalError(details)


def _channel_to_message(channel: Channel) -> pb.Channel:
    return pb.Channel(
        channel_name=channel.channel_name,
        path=channel.path,
        dataset=channel.dataset,
        content_type=channel.content_type or "",
        label=channel.label or "",
        features=channel.features,
        input_mode=channel.input_mode or "",
        shuffle_seed=channel.shuffle_seed,
        distribution=channel.distribution,
        compression=channel.compression,
        data_type=channel.data_type,
        attributes=channel.attributes,
        record_wrapper=channel.record_wrapper,
    )


def _channel_from_message(message: Any) -> Channel:
    source = message.WhichOneof("data_source")
    return Channel(
        channel_name=message.channel_name,
        path=message.path if source == "path" else None,
        dataset=message.dataset if source == "dataset" else None,
        content_type=message.content_type or None,
        label=message.label or None,
        features=tuple(message.features),
        input_mode=message.input_mode or None,
        shuffle_seed=message.shuffle_seed if message.HasField("shuffle_seed") else None,
        distribution=message.distribution or "FullyReplicated",
        compression=message.compression or "None",
        data_type=message.data_type or "S3Prefix",
        attributes=tuple(message.attributes),
        record_wrapper=message.record_wrapper or "None",
    )


def _time(message: Any, field: str) -> dt.datetime | None:
    if not message.HasField(field):
        return None
    time: dt.datetime = getattr(message, field).ToDatetime(dt.UTC)
    return time
