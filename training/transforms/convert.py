"""Between transform jobs as values and their protobuf messages."""

from __future__ import annotations

import datetime as dt
from typing import Any

from training.jobs.execution import ResourceConfig
from training.jobs.job import SecondaryStatus, TrainingJobStatus, Transition
from training.transforms.description import TransformJobDescription
from training.transforms.job import (
    DataProcessing,
    ModelClientConfig,
    TransformInput,
    TransformJob,
    TransformOutput,
)
from training.v1 import transform_pb2 as pb

__all__ = [
    "description_from_message",
    "description_to_message",
    "job_from_message",
    "job_to_message",
]


def job_to_message(job: TransformJob) -> pb.CreateTransformJobRequest:
    """Write a job."""
    source, where, processing = job.transform_input, job.transform_output, job.data_processing
    resources = job.transform_resources
    return pb.CreateTransformJobRequest(
        transform_job_name=job.transform_job_name,
        model_name=job.model_name,
        transform_input=pb.TransformInput(
            path=source.path,
            feature_group=source.feature_group,
            table_version=source.table_version,
            content_type=source.content_type or "",
            split_type=source.split_type,
            compression=source.compression,
            data_type=source.data_type,
        ),
        transform_output=pb.TransformOutput(
            path=where.path,
            feature_group=where.feature_group,
            features=dict(where.features),
            event_time=where.event_time,
            accept=where.accept or "",
            assemble_with=where.assemble_with,
        ),
        data_processing=pb.DataProcessing(
            input_filter=processing.input_filter,
            output_filter=processing.output_filter,
            join_source=processing.join_source,
        ),
        batch_strategy=job.batch_strategy,
        max_payload_in_mb=job.max_payload_in_mb,
        max_concurrent_transforms=job.max_concurrent_transforms,
        environment=dict(job.environment),
        transform_resources=pb.TransformResources(
            threads=resources.threads,
            device=resources.device,
            memory_mb=resources.memory_mb,
            instance_count=resources.instance_count,
        ),
        model_client_config=pb.ModelClientConfig(
            invocations_timeout_in_seconds=job.model_client_config.timeout_seconds,
            invocations_max_retries=job.model_client_config.max_retries,
        ),
        tags=dict(job.tags),
    )


def job_from_message(message: Any) -> TransformJob:
    """Read a job; what is unset has its default.

    Raises:
        InvalidJob: it breaks a rule.
    """
    source, where = message.transform_input, message.transform_output
    processing, resources = message.data_processing, message.transform_resources
    read, wrote = source.WhichOneof("data_source"), where.WhichOneof("destination")
    return TransformJob(
        transform_job_name=message.transform_job_name,
        model_name=message.model_name,
        transform_input=TransformInput(
            path=source.path if read == "path" else None,
            feature_group=source.feature_group if read == "feature_group" else None,
            table_version=source.table_version if source.HasField("table_version") else None,
            content_type=source.content_type or None,
            split_type=source.split_type,
            compression=source.compression or "None",
            data_type=source.data_type or "S3Prefix",
        ),
        transform_output=TransformOutput(
            path=where.path if wrote == "path" else None,
            feature_group=where.feature_group if wrote == "feature_group" else None,
            features=dict(where.features),
            event_time=where.event_time,
            accept=where.accept or None,
            assemble_with=where.assemble_with or "None",
        ),
        data_processing=DataProcessing(
            input_filter=processing.input_filter or "$",
            output_filter=processing.output_filter or "$",
            join_source=processing.join_source or "None",
        ),
        batch_strategy=message.batch_strategy,
        max_payload_in_mb=(
            message.max_payload_in_mb
            if message.HasField("max_payload_in_mb")
            else TransformJob.max_payload_in_mb
        ),
        max_concurrent_transforms=message.max_concurrent_transforms,
        environment=dict(message.environment),
        transform_resources=ResourceConfig(
            threads=resources.threads,
            device=resources.device or "auto",
            memory_mb=resources.memory_mb,
            instance_count=resources.instance_count or 1,
        ),
        model_client_config=_client_config(message.model_client_config),
        tags=dict(message.tags),
    )


def _client_config(message: Any) -> ModelClientConfig:
    usual = ModelClientConfig()
    has_retries = message.HasField("invocations_max_retries")
    return ModelClientConfig(
        timeout_seconds=message.invocations_timeout_in_seconds or usual.timeout_seconds,
        max_retries=message.invocations_max_retries if has_retries else usual.max_retries,
    )


def description_to_message(known: TransformJobDescription) -> pb.TransformJobDescription:
    """Write a description."""
    message = pb.TransformJobDescription(
        job=job_to_message(known.job),
        transform_job_status=known.status.value,
        secondary_status=known.secondary_status.value,
        failure_reason=known.failure_reason,
        records=known.records,
        files=known.files,
        threads=known.threads,
        device=known.device,
        model_digest=known.model_digest,
    )
    message.creation_time.FromDatetime(known.creation_time)
    if known.transform_start_time is not None:
        message.transform_start_time.FromDatetime(known.transform_start_time)
    if known.transform_end_time is not None:
        message.transform_end_time.FromDatetime(known.transform_end_time)
    for transition in known.secondary_status_transitions:
        step = message.secondary_status_transitions.add(
            status=transition.status.value, status_message=transition.status_message
        )
        step.start_time.FromDatetime(transition.start_time)
        if transition.end_time is not None:
            step.end_time.FromDatetime(transition.end_time)
    return message


def description_from_message(message: Any) -> TransformJobDescription:
    """Read a description."""
    return TransformJobDescription(
        job=job_from_message(message.job),
        status=TrainingJobStatus(message.transform_job_status),
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
        transform_start_time=_time(message, "transform_start_time"),
        transform_end_time=_time(message, "transform_end_time"),
        threads=message.threads,
        device=message.device,
        failure_reason=message.failure_reason,
        records=message.records,
        files=message.files,
        model_digest=message.model_digest,
    )


def _time(message: Any, field: str) -> dt.datetime | None:
    if not message.HasField(field):
        return None
    time: dt.datetime = getattr(message, field).ToDatetime(dt.UTC)
    return time
