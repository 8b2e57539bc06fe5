import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TransformInput(_message.Message):
    __slots__ = ("path", "feature_group", "table_version", "content_type", "split_type", "compression", "data_type")
    PATH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    SPLIT_TYPE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    path: str
    feature_group: str
    table_version: int
    content_type: str
    split_type: str
    compression: str
    data_type: str
    def __init__(self, path: _Optional[str] = ..., feature_group: _Optional[str] = ..., table_version: _Optional[int] = ..., content_type: _Optional[str] = ..., split_type: _Optional[str] = ..., compression: _Optional[str] = ..., data_type: _Optional[str] = ...) -> None: ...

class TransformOutput(_message.Message):
    __slots__ = ("path", "feature_group", "features", "event_time", "accept", "assemble_with")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PATH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACCEPT_FIELD_NUMBER: _ClassVar[int]
    ASSEMBLE_WITH_FIELD_NUMBER: _ClassVar[int]
    path: str
    feature_group: str
    features: _containers.ScalarMap[str, str]
    event_time: str
    accept: str
    assemble_with: str
    def __init__(self, path: _Optional[str] = ..., feature_group: _Optional[str] = ..., features: _Optional[_Mapping[str, str]] = ..., event_time: _Optional[str] = ..., accept: _Optional[str] = ..., assemble_with: _Optional[str] = ...) -> None: ...

class DataProcessing(_message.Message):
    __slots__ = ("input_filter", "output_filter", "join_source")
    INPUT_FILTER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FILTER_FIELD_NUMBER: _ClassVar[int]
    JOIN_SOURCE_FIELD_NUMBER: _ClassVar[int]
    input_filter: str
    output_filter: str
    join_source: str
    def __init__(self, input_filter: _Optional[str] = ..., output_filter: _Optional[str] = ..., join_source: _Optional[str] = ...) -> None: ...

class TransformResources(_message.Message):
    __slots__ = ("threads", "device", "memory_mb", "instance_count")
    THREADS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    threads: int
    device: str
    memory_mb: int
    instance_count: int
    def __init__(self, threads: _Optional[int] = ..., device: _Optional[str] = ..., memory_mb: _Optional[int] = ..., instance_count: _Optional[int] = ...) -> None: ...

class ModelClientConfig(_message.Message):
    __slots__ = ("invocations_timeout_in_seconds", "invocations_max_retries")
    INVOCATIONS_TIMEOUT_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    INVOCATIONS_MAX_RETRIES_FIELD_NUMBER: _ClassVar[int]
    invocations_timeout_in_seconds: int
    invocations_max_retries: int
    def __init__(self, invocations_timeout_in_seconds: _Optional[int] = ..., invocations_max_retries: _Optional[int] = ...) -> None: ...

class CreateTransformJobRequest(_message.Message):
    __slots__ = ("transform_job_name", "model_name", "transform_input", "transform_output", "data_processing", "batch_strategy", "max_payload_in_mb", "max_concurrent_transforms", "environment", "transform_resources", "tags", "model_client_config")
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TRANSFORM_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_INPUT_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_OUTPUT_FIELD_NUMBER: _ClassVar[int]
    DATA_PROCESSING_FIELD_NUMBER: _ClassVar[int]
    BATCH_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    MAX_PAYLOAD_IN_MB_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_TRANSFORMS_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_RESOURCES_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    MODEL_CLIENT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    transform_job_name: str
    model_name: str
    transform_input: TransformInput
    transform_output: TransformOutput
    data_processing: DataProcessing
    batch_strategy: str
    max_payload_in_mb: int
    max_concurrent_transforms: int
    environment: _containers.ScalarMap[str, str]
    transform_resources: TransformResources
    tags: _containers.ScalarMap[str, str]
    model_client_config: ModelClientConfig
    def __init__(self, transform_job_name: _Optional[str] = ..., model_name: _Optional[str] = ..., transform_input: _Optional[_Union[TransformInput, _Mapping]] = ..., transform_output: _Optional[_Union[TransformOutput, _Mapping]] = ..., data_processing: _Optional[_Union[DataProcessing, _Mapping]] = ..., batch_strategy: _Optional[str] = ..., max_payload_in_mb: _Optional[int] = ..., max_concurrent_transforms: _Optional[int] = ..., environment: _Optional[_Mapping[str, str]] = ..., transform_resources: _Optional[_Union[TransformResources, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ..., model_client_config: _Optional[_Union[ModelClientConfig, _Mapping]] = ...) -> None: ...

class CreateTransformJobResponse(_message.Message):
    __slots__ = ("transform_job_name",)
    TRANSFORM_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    transform_job_name: str
    def __init__(self, transform_job_name: _Optional[str] = ...) -> None: ...

class DescribeTransformJobRequest(_message.Message):
    __slots__ = ("transform_job_name",)
    TRANSFORM_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    transform_job_name: str
    def __init__(self, transform_job_name: _Optional[str] = ...) -> None: ...

class TransformTransition(_message.Message):
    __slots__ = ("status", "start_time", "end_time", "status_message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    STATUS_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: str
    start_time: _timestamp_pb2.Timestamp
    end_time: _timestamp_pb2.Timestamp
    status_message: str
    def __init__(self, status: _Optional[str] = ..., start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., status_message: _Optional[str] = ...) -> None: ...

class TransformJobDescription(_message.Message):
    __slots__ = ("job", "transform_job_status", "secondary_status", "failure_reason", "secondary_status_transitions", "records", "files", "threads", "device", "model_digest", "creation_time", "transform_start_time", "transform_end_time")
    JOB_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_JOB_STATUS_FIELD_NUMBER: _ClassVar[int]
    SECONDARY_STATUS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    SECONDARY_STATUS_TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_START_TIME_FIELD_NUMBER: _ClassVar[int]
    TRANSFORM_END_TIME_FIELD_NUMBER: _ClassVar[int]
    job: CreateTransformJobRequest
    transform_job_status: str
    secondary_status: str
    failure_reason: str
    secondary_status_transitions: _containers.RepeatedCompositeFieldContainer[TransformTransition]
    records: int
    files: int
    threads: int
    device: str
    model_digest: str
    creation_time: _timestamp_pb2.Timestamp
    transform_start_time: _timestamp_pb2.Timestamp
    transform_end_time: _timestamp_pb2.Timestamp
    def __init__(self, job: _Optional[_Union[CreateTransformJobRequest, _Mapping]] = ..., transform_job_status: _Optional[str] = ..., secondary_status: _Optional[str] = ..., failure_reason: _Optional[str] = ..., secondary_status_transitions: _Optional[_Iterable[_Union[TransformTransition, _Mapping]]] = ..., records: _Optional[int] = ..., files: _Optional[int] = ..., threads: _Optional[int] = ..., device: _Optional[str] = ..., model_digest: _Optional[str] = ..., creation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., transform_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., transform_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DescribeTransformJobResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: TransformJobDescription
    def __init__(self, description: _Optional[_Union[TransformJobDescription, _Mapping]] = ...) -> None: ...

class ListTransformJobsRequest(_message.Message):
    __slots__ = ("name_contains", "status_equals", "max_results", "next_token")
    NAME_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    STATUS_EQUALS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name_contains: str
    status_equals: str
    max_results: int
    next_token: str
    def __init__(self, name_contains: _Optional[str] = ..., status_equals: _Optional[str] = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ...) -> None: ...

class ListTransformJobsResponse(_message.Message):
    __slots__ = ("descriptions", "next_token")
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    descriptions: _containers.RepeatedCompositeFieldContainer[TransformJobDescription]
    next_token: str
    def __init__(self, descriptions: _Optional[_Iterable[_Union[TransformJobDescription, _Mapping]]] = ..., next_token: _Optional[str] = ...) -> None: ...

class StopTransformJobRequest(_message.Message):
    __slots__ = ("transform_job_name",)
    TRANSFORM_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    transform_job_name: str
    def __init__(self, transform_job_name: _Optional[str] = ...) -> None: ...

class StopTransformJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
