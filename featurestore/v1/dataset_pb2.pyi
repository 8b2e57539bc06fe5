import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GroupPlan(_message.Message):
    __slots__ = ("feature_group_name", "version", "key", "lookback_us", "files", "files_read", "pruned_by_partition", "pruned_by_statistics", "rows", "rows_read", "size_bytes", "bytes_read", "columns_read", "columns", "memory_bytes", "pruned_by_write_time")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    LOOKBACK_US_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    FILES_READ_FIELD_NUMBER: _ClassVar[int]
    PRUNED_BY_PARTITION_FIELD_NUMBER: _ClassVar[int]
    PRUNED_BY_STATISTICS_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    ROWS_READ_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    BYTES_READ_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_READ_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    PRUNED_BY_WRITE_TIME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    version: int
    key: str
    lookback_us: int
    files: int
    files_read: int
    pruned_by_partition: int
    pruned_by_statistics: int
    rows: int
    rows_read: int
    size_bytes: int
    bytes_read: int
    columns_read: _containers.RepeatedScalarFieldContainer[str]
    columns: int
    memory_bytes: int
    pruned_by_write_time: int
    def __init__(self, feature_group_name: _Optional[str] = ..., version: _Optional[int] = ..., key: _Optional[str] = ..., lookback_us: _Optional[int] = ..., files: _Optional[int] = ..., files_read: _Optional[int] = ..., pruned_by_partition: _Optional[int] = ..., pruned_by_statistics: _Optional[int] = ..., rows: _Optional[int] = ..., rows_read: _Optional[int] = ..., size_bytes: _Optional[int] = ..., bytes_read: _Optional[int] = ..., columns_read: _Optional[_Iterable[str]] = ..., columns: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., pruned_by_write_time: _Optional[int] = ...) -> None: ...

class ExplainDatasetResponse(_message.Message):
    __slots__ = ("rows", "earliest", "latest", "columns", "groups", "memory_bytes")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    EARLIEST_FIELD_NUMBER: _ClassVar[int]
    LATEST_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    GROUPS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    earliest: str
    latest: str
    columns: int
    groups: _containers.RepeatedCompositeFieldContainer[GroupPlan]
    memory_bytes: int
    def __init__(self, rows: _Optional[int] = ..., earliest: _Optional[str] = ..., latest: _Optional[str] = ..., columns: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[GroupPlan, _Mapping]]] = ..., memory_bytes: _Optional[int] = ...) -> None: ...

class WriteDatasetResponse(_message.Message):
    __slots__ = ("rows_joined", "manifest_json", "file")
    ROWS_JOINED_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    rows_joined: int
    manifest_json: str
    file: bytes
    def __init__(self, rows_joined: _Optional[int] = ..., manifest_json: _Optional[str] = ..., file: _Optional[bytes] = ...) -> None: ...

class SavedDataset(_message.Message):
    __slots__ = ("fingerprint", "manifest_json", "statistics_json", "saved", "size_bytes", "path")
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    STATISTICS_JSON_FIELD_NUMBER: _ClassVar[int]
    SAVED_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    manifest_json: str
    statistics_json: str
    saved: _timestamp_pb2.Timestamp
    size_bytes: int
    path: str
    def __init__(self, fingerprint: _Optional[str] = ..., manifest_json: _Optional[str] = ..., statistics_json: _Optional[str] = ..., saved: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., size_bytes: _Optional[int] = ..., path: _Optional[str] = ...) -> None: ...

class SaveDatasetRequest(_message.Message):
    __slots__ = ("manifest_json", "rows")
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    manifest_json: str
    rows: bytes
    def __init__(self, manifest_json: _Optional[str] = ..., rows: _Optional[bytes] = ...) -> None: ...

class SaveDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: SavedDataset
    def __init__(self, dataset: _Optional[_Union[SavedDataset, _Mapping]] = ...) -> None: ...

class LoadDatasetRequest(_message.Message):
    __slots__ = ("fingerprint",)
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    def __init__(self, fingerprint: _Optional[str] = ...) -> None: ...

class RebuildDatasetRequest(_message.Message):
    __slots__ = ("fingerprint",)
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    def __init__(self, fingerprint: _Optional[str] = ...) -> None: ...

class ListDatasetsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeDatasetRequest(_message.Message):
    __slots__ = ("fingerprint",)
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    def __init__(self, fingerprint: _Optional[str] = ...) -> None: ...

class DescribeDatasetResponse(_message.Message):
    __slots__ = ("dataset",)
    DATASET_FIELD_NUMBER: _ClassVar[int]
    dataset: SavedDataset
    def __init__(self, dataset: _Optional[_Union[SavedDataset, _Mapping]] = ...) -> None: ...

class CheckDatasetRequest(_message.Message):
    __slots__ = ("spec", "rows")
    class Spec(_message.Message):
        __slots__ = ("manifest_json", "rows", "seed")
        MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
        ROWS_FIELD_NUMBER: _ClassVar[int]
        SEED_FIELD_NUMBER: _ClassVar[int]
        manifest_json: str
        rows: int
        seed: int
        def __init__(self, manifest_json: _Optional[str] = ..., rows: _Optional[int] = ..., seed: _Optional[int] = ...) -> None: ...
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    spec: CheckDatasetRequest.Spec
    rows: bytes
    def __init__(self, spec: _Optional[_Union[CheckDatasetRequest.Spec, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...

class CheckDatasetResponse(_message.Message):
    __slots__ = ("rows", "checked", "values", "future", "wrong", "examples")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FUTURE_FIELD_NUMBER: _ClassVar[int]
    WRONG_FIELD_NUMBER: _ClassVar[int]
    EXAMPLES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    checked: int
    values: int
    future: int
    wrong: int
    examples: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, rows: _Optional[int] = ..., checked: _Optional[int] = ..., values: _Optional[int] = ..., future: _Optional[int] = ..., wrong: _Optional[int] = ..., examples: _Optional[_Iterable[str]] = ...) -> None: ...

class DatasetBuilderSpec(_message.Message):
    __slots__ = ("feature_group", "rows", "joined", "point_in_time_accurate_join", "include_duplicated_records", "include_deleted_records", "number_of_recent_records", "number_of_records", "as_of_us", "starting_us", "ending_us")
    class JoinType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        JOIN_TYPE_UNSPECIFIED: _ClassVar[DatasetBuilderSpec.JoinType]
        INNER_JOIN: _ClassVar[DatasetBuilderSpec.JoinType]
        LEFT_JOIN: _ClassVar[DatasetBuilderSpec.JoinType]
        RIGHT_JOIN: _ClassVar[DatasetBuilderSpec.JoinType]
        FULL_JOIN: _ClassVar[DatasetBuilderSpec.JoinType]
        CROSS_JOIN: _ClassVar[DatasetBuilderSpec.JoinType]
    JOIN_TYPE_UNSPECIFIED: DatasetBuilderSpec.JoinType
    INNER_JOIN: DatasetBuilderSpec.JoinType
    LEFT_JOIN: DatasetBuilderSpec.JoinType
    RIGHT_JOIN: DatasetBuilderSpec.JoinType
    FULL_JOIN: DatasetBuilderSpec.JoinType
    CROSS_JOIN: DatasetBuilderSpec.JoinType
    class JoinComparator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        JOIN_COMPARATOR_UNSPECIFIED: _ClassVar[DatasetBuilderSpec.JoinComparator]
        EQUAL_TO: _ClassVar[DatasetBuilderSpec.JoinComparator]
        GREATER_THAN_VALUE: _ClassVar[DatasetBuilderSpec.JoinComparator]
        AT_LEAST: _ClassVar[DatasetBuilderSpec.JoinComparator]
        LESS_THAN_VALUE: _ClassVar[DatasetBuilderSpec.JoinComparator]
        AT_MOST: _ClassVar[DatasetBuilderSpec.JoinComparator]
        NOT_EQUAL_TO: _ClassVar[DatasetBuilderSpec.JoinComparator]
    JOIN_COMPARATOR_UNSPECIFIED: DatasetBuilderSpec.JoinComparator
    EQUAL_TO: DatasetBuilderSpec.JoinComparator
    GREATER_THAN_VALUE: DatasetBuilderSpec.JoinComparator
    AT_LEAST: DatasetBuilderSpec.JoinComparator
    LESS_THAN_VALUE: DatasetBuilderSpec.JoinComparator
    AT_MOST: DatasetBuilderSpec.JoinComparator
    NOT_EQUAL_TO: DatasetBuilderSpec.JoinComparator
    class Base(_message.Message):
        __slots__ = ("feature_group_name", "feature_names")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        feature_names: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, feature_group_name: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ...) -> None: ...
    class Rows(_message.Message):
        __slots__ = ("record_identifier_name", "event_time_name", "column_names")
        RECORD_IDENTIFIER_NAME_FIELD_NUMBER: _ClassVar[int]
        EVENT_TIME_NAME_FIELD_NUMBER: _ClassVar[int]
        COLUMN_NAMES_FIELD_NUMBER: _ClassVar[int]
        record_identifier_name: str
        event_time_name: str
        column_names: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, record_identifier_name: _Optional[str] = ..., event_time_name: _Optional[str] = ..., column_names: _Optional[_Iterable[str]] = ...) -> None: ...
    class Joined(_message.Message):
        __slots__ = ("feature_group_name", "feature_names", "target_feature_name_in_base", "feature_name_in_target", "join_comparator", "join_type")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
        TARGET_FEATURE_NAME_IN_BASE_FIELD_NUMBER: _ClassVar[int]
        FEATURE_NAME_IN_TARGET_FIELD_NUMBER: _ClassVar[int]
        JOIN_COMPARATOR_FIELD_NUMBER: _ClassVar[int]
        JOIN_TYPE_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        feature_names: _containers.RepeatedScalarFieldContainer[str]
        target_feature_name_in_base: str
        feature_name_in_target: str
        join_comparator: DatasetBuilderSpec.JoinComparator
        join_type: DatasetBuilderSpec.JoinType
        def __init__(self, feature_group_name: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ..., target_feature_name_in_base: _Optional[str] = ..., feature_name_in_target: _Optional[str] = ..., join_comparator: _Optional[_Union[DatasetBuilderSpec.JoinComparator, str]] = ..., join_type: _Optional[_Union[DatasetBuilderSpec.JoinType, str]] = ...) -> None: ...
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    JOINED_FIELD_NUMBER: _ClassVar[int]
    POINT_IN_TIME_ACCURATE_JOIN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DUPLICATED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_DELETED_RECORDS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_OF_RECENT_RECORDS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_OF_RECORDS_FIELD_NUMBER: _ClassVar[int]
    AS_OF_US_FIELD_NUMBER: _ClassVar[int]
    STARTING_US_FIELD_NUMBER: _ClassVar[int]
    ENDING_US_FIELD_NUMBER: _ClassVar[int]
    feature_group: DatasetBuilderSpec.Base
    rows: DatasetBuilderSpec.Rows
    joined: _containers.RepeatedCompositeFieldContainer[DatasetBuilderSpec.Joined]
    point_in_time_accurate_join: bool
    include_duplicated_records: bool
    include_deleted_records: bool
    number_of_recent_records: int
    number_of_records: int
    as_of_us: int
    starting_us: int
    ending_us: int
    def __init__(self, feature_group: _Optional[_Union[DatasetBuilderSpec.Base, _Mapping]] = ..., rows: _Optional[_Union[DatasetBuilderSpec.Rows, _Mapping]] = ..., joined: _Optional[_Iterable[_Union[DatasetBuilderSpec.Joined, _Mapping]]] = ..., point_in_time_accurate_join: bool = ..., include_duplicated_records: bool = ..., include_deleted_records: bool = ..., number_of_recent_records: _Optional[int] = ..., number_of_records: _Optional[int] = ..., as_of_us: _Optional[int] = ..., starting_us: _Optional[int] = ..., ending_us: _Optional[int] = ...) -> None: ...

class CreateDatasetRequest(_message.Message):
    __slots__ = ("spec", "base")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    BASE_FIELD_NUMBER: _ClassVar[int]
    spec: DatasetBuilderSpec
    base: bytes
    def __init__(self, spec: _Optional[_Union[DatasetBuilderSpec, _Mapping]] = ..., base: _Optional[bytes] = ...) -> None: ...

class CreateDatasetResponse(_message.Message):
    __slots__ = ("built", "rows")
    class Built(_message.Message):
        __slots__ = ("query", "manifest_json")
        QUERY_FIELD_NUMBER: _ClassVar[int]
        MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
        query: str
        manifest_json: str
        def __init__(self, query: _Optional[str] = ..., manifest_json: _Optional[str] = ...) -> None: ...
    BUILT_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    built: CreateDatasetResponse.Built
    rows: bytes
    def __init__(self, built: _Optional[_Union[CreateDatasetResponse.Built, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...
