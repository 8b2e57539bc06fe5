import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Channel(_message.Message):
    __slots__ = ("channel_name", "path", "dataset", "content_type", "label", "features", "input_mode", "shuffle_seed", "distribution", "compression", "data_type", "attributes", "record_wrapper")
    CHANNEL_NAME_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    DATASET_FIELD_NUMBER: _ClassVar[int]
    CONTENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    INPUT_MODE_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_SEED_FIELD_NUMBER: _ClassVar[int]
    DISTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_FIELD_NUMBER: _ClassVar[int]
    DATA_TYPE_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    RECORD_WRAPPER_FIELD_NUMBER: _ClassVar[int]
    channel_name: str
    path: str
    dataset: str
    content_type: str
    label: str
    features: _containers.RepeatedScalarFieldContainer[str]
    input_mode: str
    shuffle_seed: int
    distribution: str
    compression: str
    data_type: str
    attributes: _containers.RepeatedScalarFieldContainer[str]
    record_wrapper: str
    def __init__(self, channel_name: _Optional[str] = ..., path: _Optional[str] = ..., dataset: _Optional[str] = ..., content_type: _Optional[str] = ..., label: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ..., input_mode: _Optional[str] = ..., shuffle_seed: _Optional[int] = ..., distribution: _Optional[str] = ..., compression: _Optional[str] = ..., data_type: _Optional[str] = ..., attributes: _Optional[_Iterable[str]] = ..., record_wrapper: _Optional[str] = ...) -> None: ...

class StoppingCondition(_message.Message):
    __slots__ = ("max_runtime_in_seconds", "max_wait_time_in_seconds")
    MAX_RUNTIME_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    MAX_WAIT_TIME_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    max_runtime_in_seconds: int
    max_wait_time_in_seconds: int
    def __init__(self, max_runtime_in_seconds: _Optional[int] = ..., max_wait_time_in_seconds: _Optional[int] = ...) -> None: ...

class ResourceConfig(_message.Message):
    __slots__ = ("threads", "device", "instance_count", "memory_mb", "precision")
    THREADS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_COUNT_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    threads: int
    device: str
    instance_count: int
    memory_mb: int
    precision: str
    def __init__(self, threads: _Optional[int] = ..., device: _Optional[str] = ..., instance_count: _Optional[int] = ..., memory_mb: _Optional[int] = ..., precision: _Optional[str] = ...) -> None: ...

class CheckpointConfig(_message.Message):
    __slots__ = ("path", "local_path", "interval_in_seconds")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LOCAL_PATH_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_IN_SECONDS_FIELD_NUMBER: _ClassVar[int]
    path: str
    local_path: str
    interval_in_seconds: float
    def __init__(self, path: _Optional[str] = ..., local_path: _Optional[str] = ..., interval_in_seconds: _Optional[float] = ...) -> None: ...

class RetryStrategy(_message.Message):
    __slots__ = ("maximum_retry_attempts",)
    MAXIMUM_RETRY_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    maximum_retry_attempts: int
    def __init__(self, maximum_retry_attempts: _Optional[int] = ...) -> None: ...

class TensorBoardOutputConfig(_message.Message):
    __slots__ = ("path", "local_path")
    PATH_FIELD_NUMBER: _ClassVar[int]
    LOCAL_PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    local_path: str
    def __init__(self, path: _Optional[str] = ..., local_path: _Optional[str] = ...) -> None: ...

class MetricDefinition(_message.Message):
    __slots__ = ("name", "regex")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REGEX_FIELD_NUMBER: _ClassVar[int]
    name: str
    regex: str
    def __init__(self, name: _Optional[str] = ..., regex: _Optional[str] = ...) -> None: ...

class CreateTrainingJobRequest(_message.Message):
    __slots__ = ("training_job_name", "algorithm_name", "hyper_parameters", "input_data_config", "stopping_condition", "resource_config", "tags", "training_input_mode", "environment", "checkpoint_config", "retry_strategy", "metric_definitions", "tensor_board_output_config")
    class HyperParametersEntry(_message.Message):
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
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_NAME_FIELD_NUMBER: _ClassVar[int]
    HYPER_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUT_DATA_CONFIG_FIELD_NUMBER: _ClassVar[int]
    STOPPING_CONDITION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_INPUT_MODE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    RETRY_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    METRIC_DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_BOARD_OUTPUT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    algorithm_name: str
    hyper_parameters: _containers.ScalarMap[str, str]
    input_data_config: _containers.RepeatedCompositeFieldContainer[Channel]
    stopping_condition: StoppingCondition
    resource_config: ResourceConfig
    tags: _containers.ScalarMap[str, str]
    training_input_mode: str
    environment: _containers.ScalarMap[str, str]
    checkpoint_config: CheckpointConfig
    retry_strategy: RetryStrategy
    metric_definitions: _containers.RepeatedCompositeFieldContainer[MetricDefinition]
    tensor_board_output_config: TensorBoardOutputConfig
    def __init__(self, training_job_name: _Optional[str] = ..., algorithm_name: _Optional[str] = ..., hyper_parameters: _Optional[_Mapping[str, str]] = ..., input_data_config: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., stopping_condition: _Optional[_Union[StoppingCondition, _Mapping]] = ..., resource_config: _Optional[_Union[ResourceConfig, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ..., training_input_mode: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., checkpoint_config: _Optional[_Union[CheckpointConfig, _Mapping]] = ..., retry_strategy: _Optional[_Union[RetryStrategy, _Mapping]] = ..., metric_definitions: _Optional[_Iterable[_Union[MetricDefinition, _Mapping]]] = ..., tensor_board_output_config: _Optional[_Union[TensorBoardOutputConfig, _Mapping]] = ...) -> None: ...

class CreateTrainingJobResponse(_message.Message):
    __slots__ = ("training_job_name",)
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    def __init__(self, training_job_name: _Optional[str] = ...) -> None: ...

class DescribeTrainingJobRequest(_message.Message):
    __slots__ = ("training_job_name",)
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    def __init__(self, training_job_name: _Optional[str] = ...) -> None: ...

class MetricData(_message.Message):
    __slots__ = ("metric_name", "value", "timestamp")
    METRIC_NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    metric_name: str
    value: float
    timestamp: _timestamp_pb2.Timestamp
    def __init__(self, metric_name: _Optional[str] = ..., value: _Optional[float] = ..., timestamp: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SecondaryStatusTransition(_message.Message):
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

class TrainingJobDescription(_message.Message):
    __slots__ = ("training_job_name", "algorithm_name", "hyper_parameters", "input_data_config", "stopping_condition", "resource_config", "tags", "training_job_status", "secondary_status", "failure_reason", "final_metric_data_list", "secondary_status_transitions", "model_artifacts", "model_digest", "creation_time", "training_start_time", "training_end_time", "training_input_mode", "environment", "checkpoint_config", "retry_strategy", "metric_definitions", "tensor_board_output_config")
    class HyperParametersEntry(_message.Message):
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
    class EnvironmentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    ALGORITHM_NAME_FIELD_NUMBER: _ClassVar[int]
    HYPER_PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUT_DATA_CONFIG_FIELD_NUMBER: _ClassVar[int]
    STOPPING_CONDITION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_CONFIG_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_JOB_STATUS_FIELD_NUMBER: _ClassVar[int]
    SECONDARY_STATUS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_REASON_FIELD_NUMBER: _ClassVar[int]
    FINAL_METRIC_DATA_LIST_FIELD_NUMBER: _ClassVar[int]
    SECONDARY_STATUS_TRANSITIONS_FIELD_NUMBER: _ClassVar[int]
    MODEL_ARTIFACTS_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    TRAINING_START_TIME_FIELD_NUMBER: _ClassVar[int]
    TRAINING_END_TIME_FIELD_NUMBER: _ClassVar[int]
    TRAINING_INPUT_MODE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    RETRY_STRATEGY_FIELD_NUMBER: _ClassVar[int]
    METRIC_DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    TENSOR_BOARD_OUTPUT_CONFIG_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    algorithm_name: str
    hyper_parameters: _containers.ScalarMap[str, str]
    input_data_config: _containers.RepeatedCompositeFieldContainer[Channel]
    stopping_condition: StoppingCondition
    resource_config: ResourceConfig
    tags: _containers.ScalarMap[str, str]
    training_job_status: str
    secondary_status: str
    failure_reason: str
    final_metric_data_list: _containers.RepeatedCompositeFieldContainer[MetricData]
    secondary_status_transitions: _containers.RepeatedCompositeFieldContainer[SecondaryStatusTransition]
    model_artifacts: str
    model_digest: str
    creation_time: _timestamp_pb2.Timestamp
    training_start_time: _timestamp_pb2.Timestamp
    training_end_time: _timestamp_pb2.Timestamp
    training_input_mode: str
    environment: _containers.ScalarMap[str, str]
    checkpoint_config: CheckpointConfig
    retry_strategy: RetryStrategy
    metric_definitions: _containers.RepeatedCompositeFieldContainer[MetricDefinition]
    tensor_board_output_config: TensorBoardOutputConfig
    def __init__(self, training_job_name: _Optional[str] = ..., algorithm_name: _Optional[str] = ..., hyper_parameters: _Optional[_Mapping[str, str]] = ..., input_data_config: _Optional[_Iterable[_Union[Channel, _Mapping]]] = ..., stopping_condition: _Optional[_Union[StoppingCondition, _Mapping]] = ..., resource_config: _Optional[_Union[ResourceConfig, _Mapping]] = ..., tags: _Optional[_Mapping[str, str]] = ..., training_job_status: _Optional[str] = ..., secondary_status: _Optional[str] = ..., failure_reason: _Optional[str] = ..., final_metric_data_list: _Optional[_Iterable[_Union[MetricData, _Mapping]]] = ..., secondary_status_transitions: _Optional[_Iterable[_Union[SecondaryStatusTransition, _Mapping]]] = ..., model_artifacts: _Optional[str] = ..., model_digest: _Optional[str] = ..., creation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., training_start_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., training_end_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., training_input_mode: _Optional[str] = ..., environment: _Optional[_Mapping[str, str]] = ..., checkpoint_config: _Optional[_Union[CheckpointConfig, _Mapping]] = ..., retry_strategy: _Optional[_Union[RetryStrategy, _Mapping]] = ..., metric_definitions: _Optional[_Iterable[_Union[MetricDefinition, _Mapping]]] = ..., tensor_board_output_config: _Optional[_Union[TensorBoardOutputConfig, _Mapping]] = ...) -> None: ...

class DescribeTrainingJobResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: TrainingJobDescription
    def __init__(self, description: _Optional[_Union[TrainingJobDescription, _Mapping]] = ...) -> None: ...

class ReadTrainingJobLogsRequest(_message.Message):
    __slots__ = ("training_job_name", "follow", "offsets")
    class OffsetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    OFFSETS_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    follow: bool
    offsets: _containers.ScalarMap[str, int]
    def __init__(self, training_job_name: _Optional[str] = ..., follow: bool = ..., offsets: _Optional[_Mapping[str, int]] = ...) -> None: ...

class ReadTrainingJobLogsResponse(_message.Message):
    __slots__ = ("host", "data", "offset")
    HOST_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    host: str
    data: bytes
    offset: int
    def __init__(self, host: _Optional[str] = ..., data: _Optional[bytes] = ..., offset: _Optional[int] = ...) -> None: ...

class ReadTrainingJobMetricsRequest(_message.Message):
    __slots__ = ("training_job_name", "follow", "offset")
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    follow: bool
    offset: int
    def __init__(self, training_job_name: _Optional[str] = ..., follow: bool = ..., offset: _Optional[int] = ...) -> None: ...

class MetricValue(_message.Message):
    __slots__ = ("host", "step", "epoch", "name", "value", "time_us")
    HOST_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    host: str
    step: int
    epoch: int
    name: str
    value: float
    time_us: int
    def __init__(self, host: _Optional[str] = ..., step: _Optional[int] = ..., epoch: _Optional[int] = ..., name: _Optional[str] = ..., value: _Optional[float] = ..., time_us: _Optional[int] = ...) -> None: ...

class ReadTrainingJobMetricsResponse(_message.Message):
    __slots__ = ("values", "offset")
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedCompositeFieldContainer[MetricValue]
    offset: int
    def __init__(self, values: _Optional[_Iterable[_Union[MetricValue, _Mapping]]] = ..., offset: _Optional[int] = ...) -> None: ...

class ReadTrainingJobReportRequest(_message.Message):
    __slots__ = ("training_job_name",)
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    def __init__(self, training_job_name: _Optional[str] = ...) -> None: ...

class ReadTrainingJobReportResponse(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class TrainingBudget(_message.Message):
    __slots__ = ("cores", "memory_mb", "gpus")
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    cores: int
    memory_mb: int
    gpus: int
    def __init__(self, cores: _Optional[int] = ..., memory_mb: _Optional[int] = ..., gpus: _Optional[int] = ...) -> None: ...

class DescribeTrainingBudgetRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class UpdateTrainingBudgetRequest(_message.Message):
    __slots__ = ("cores", "memory_mb", "gpus")
    CORES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_MB_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    cores: int
    memory_mb: int
    gpus: int
    def __init__(self, cores: _Optional[int] = ..., memory_mb: _Optional[int] = ..., gpus: _Optional[int] = ...) -> None: ...

class ListTrainingJobsRequest(_message.Message):
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

class ListTrainingJobsResponse(_message.Message):
    __slots__ = ("descriptions", "next_token")
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    descriptions: _containers.RepeatedCompositeFieldContainer[TrainingJobDescription]
    next_token: str
    def __init__(self, descriptions: _Optional[_Iterable[_Union[TrainingJobDescription, _Mapping]]] = ..., next_token: _Optional[str] = ...) -> None: ...

class StopTrainingJobRequest(_message.Message):
    __slots__ = ("training_job_name",)
    TRAINING_JOB_NAME_FIELD_NUMBER: _ClassVar[int]
    training_job_name: str
    def __init__(self, training_job_name: _Optional[str] = ...) -> None: ...

class StopTrainingJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplayModelRequest(_message.Message):
    __slots__ = ("model", "keep")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    model: str
    keep: bool
    def __init__(self, model: _Optional[str] = ..., keep: bool = ...) -> None: ...

class ReplayModelResponse(_message.Message):
    __slots__ = ("progress", "report", "file")
    class Progress(_message.Message):
        __slots__ = ("job", "status", "done", "total", "metrics")
        class MetricsEntry(_message.Message):
            __slots__ = ("key", "value")
            KEY_FIELD_NUMBER: _ClassVar[int]
            VALUE_FIELD_NUMBER: _ClassVar[int]
            key: str
            value: float
            def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
        JOB_FIELD_NUMBER: _ClassVar[int]
        STATUS_FIELD_NUMBER: _ClassVar[int]
        DONE_FIELD_NUMBER: _ClassVar[int]
        TOTAL_FIELD_NUMBER: _ClassVar[int]
        METRICS_FIELD_NUMBER: _ClassVar[int]
        job: str
        status: str
        done: int
        total: int
        metrics: _containers.ScalarMap[str, float]
        def __init__(self, job: _Optional[str] = ..., status: _Optional[str] = ..., done: _Optional[int] = ..., total: _Optional[int] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...
    class Step(_message.Message):
        __slots__ = ("name", "verdict", "expected", "got", "note")
        NAME_FIELD_NUMBER: _ClassVar[int]
        VERDICT_FIELD_NUMBER: _ClassVar[int]
        EXPECTED_FIELD_NUMBER: _ClassVar[int]
        GOT_FIELD_NUMBER: _ClassVar[int]
        NOTE_FIELD_NUMBER: _ClassVar[int]
        name: str
        verdict: str
        expected: str
        got: str
        note: str
        def __init__(self, name: _Optional[str] = ..., verdict: _Optional[str] = ..., expected: _Optional[str] = ..., got: _Optional[str] = ..., note: _Optional[str] = ...) -> None: ...
    class Report(_message.Message):
        __slots__ = ("model", "digest", "job", "verdict", "steps", "reason", "recorded")
        MODEL_FIELD_NUMBER: _ClassVar[int]
        DIGEST_FIELD_NUMBER: _ClassVar[int]
        JOB_FIELD_NUMBER: _ClassVar[int]
        VERDICT_FIELD_NUMBER: _ClassVar[int]
        STEPS_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        RECORDED_FIELD_NUMBER: _ClassVar[int]
        model: str
        digest: str
        job: str
        verdict: str
        steps: _containers.RepeatedCompositeFieldContainer[ReplayModelResponse.Step]
        reason: str
        recorded: str
        def __init__(self, model: _Optional[str] = ..., digest: _Optional[str] = ..., job: _Optional[str] = ..., verdict: _Optional[str] = ..., steps: _Optional[_Iterable[_Union[ReplayModelResponse.Step, _Mapping]]] = ..., reason: _Optional[str] = ..., recorded: _Optional[str] = ...) -> None: ...
    class File(_message.Message):
        __slots__ = ("path", "content")
        PATH_FIELD_NUMBER: _ClassVar[int]
        CONTENT_FIELD_NUMBER: _ClassVar[int]
        path: str
        content: bytes
        def __init__(self, path: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    progress: ReplayModelResponse.Progress
    report: ReplayModelResponse.Report
    file: ReplayModelResponse.File
    def __init__(self, progress: _Optional[_Union[ReplayModelResponse.Progress, _Mapping]] = ..., report: _Optional[_Union[ReplayModelResponse.Report, _Mapping]] = ..., file: _Optional[_Union[ReplayModelResponse.File, _Mapping]] = ...) -> None: ...
