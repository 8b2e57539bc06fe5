import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from featurestore.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class PutRecordRequest(_message.Message):
    __slots__ = ("feature_group_name", "record", "target_stores", "ttl_duration", "deletion")
    class Deletion(_message.Message):
        __slots__ = ("record_identifier_value_as_string", "event_time")
        RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
        EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
        record_identifier_value_as_string: str
        event_time: str
        def __init__(self, record_identifier_value_as_string: _Optional[str] = ..., event_time: _Optional[str] = ...) -> None: ...
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    TARGET_STORES_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    DELETION_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record: _record_pb2.Record
    target_stores: _containers.RepeatedScalarFieldContainer[_record_pb2.Store]
    ttl_duration: _record_pb2.TtlDuration
    deletion: PutRecordRequest.Deletion
    def __init__(self, feature_group_name: _Optional[str] = ..., record: _Optional[_Union[_record_pb2.Record, _Mapping]] = ..., target_stores: _Optional[_Iterable[_Union[_record_pb2.Store, str]]] = ..., ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ..., deletion: _Optional[_Union[PutRecordRequest.Deletion, _Mapping]] = ...) -> None: ...

class PutRecordResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetRecordRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifier_value_as_string", "feature_names", "expiration_time_response")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    EXPIRATION_TIME_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifier_value_as_string: str
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    expiration_time_response: bool
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_value_as_string: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ..., expiration_time_response: bool = ...) -> None: ...

class GetRecordResponse(_message.Message):
    __slots__ = ("record", "expires_at")
    RECORD_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    record: _record_pb2.Record
    expires_at: _timestamp_pb2.Timestamp
    def __init__(self, record: _Optional[_Union[_record_pb2.Record, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class BatchGetRecordRequest(_message.Message):
    __slots__ = ("identifiers",)
    class Identifier(_message.Message):
        __slots__ = ("feature_group_name", "record_identifiers_value_as_string", "feature_names")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        RECORD_IDENTIFIERS_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
        FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        record_identifiers_value_as_string: _containers.RepeatedScalarFieldContainer[str]
        feature_names: _containers.RepeatedScalarFieldContainer[str]
        def __init__(self, feature_group_name: _Optional[str] = ..., record_identifiers_value_as_string: _Optional[_Iterable[str]] = ..., feature_names: _Optional[_Iterable[str]] = ...) -> None: ...
    IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    identifiers: _containers.RepeatedCompositeFieldContainer[BatchGetRecordRequest.Identifier]
    def __init__(self, identifiers: _Optional[_Iterable[_Union[BatchGetRecordRequest.Identifier, _Mapping]]] = ...) -> None: ...

class BatchGetRecordResponse(_message.Message):
    __slots__ = ("records", "errors", "unprocessed_identifiers")
    class BatchRecord(_message.Message):
        __slots__ = ("feature_group_name", "record_identifier_value_as_string", "record", "expires_at")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
        RECORD_FIELD_NUMBER: _ClassVar[int]
        EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        record_identifier_value_as_string: str
        record: _record_pb2.Record
        expires_at: _timestamp_pb2.Timestamp
        def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_value_as_string: _Optional[str] = ..., record: _Optional[_Union[_record_pb2.Record, _Mapping]] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
    class BatchError(_message.Message):
        __slots__ = ("feature_group_name", "record_identifier_value_as_string", "code", "message")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
        CODE_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        record_identifier_value_as_string: str
        code: str
        message: str
        def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_value_as_string: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    UNPROCESSED_IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[BatchGetRecordResponse.BatchRecord]
    errors: _containers.RepeatedCompositeFieldContainer[BatchGetRecordResponse.BatchError]
    unprocessed_identifiers: _containers.RepeatedCompositeFieldContainer[BatchGetRecordRequest.Identifier]
    def __init__(self, records: _Optional[_Iterable[_Union[BatchGetRecordResponse.BatchRecord, _Mapping]]] = ..., errors: _Optional[_Iterable[_Union[BatchGetRecordResponse.BatchError, _Mapping]]] = ..., unprocessed_identifiers: _Optional[_Iterable[_Union[BatchGetRecordRequest.Identifier, _Mapping]]] = ...) -> None: ...

class SourcePosition(_message.Message):
    __slots__ = ("source", "partitions")
    class Partition(_message.Message):
        __slots__ = ("partition", "start", "next")
        PARTITION_FIELD_NUMBER: _ClassVar[int]
        START_FIELD_NUMBER: _ClassVar[int]
        NEXT_FIELD_NUMBER: _ClassVar[int]
        partition: str
        start: int
        next: int
        def __init__(self, partition: _Optional[str] = ..., start: _Optional[int] = ..., next: _Optional[int] = ...) -> None: ...
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    source: str
    partitions: _containers.RepeatedCompositeFieldContainer[SourcePosition.Partition]
    def __init__(self, source: _Optional[str] = ..., partitions: _Optional[_Iterable[_Union[SourcePosition.Partition, _Mapping]]] = ...) -> None: ...

class WriteError(_message.Message):
    __slots__ = ("index", "code", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    code: str
    message: str
    def __init__(self, index: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class BatchWriteRecordRequest(_message.Message):
    __slots__ = ("entries", "position", "ttl_duration")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[PutRecordRequest]
    position: SourcePosition
    ttl_duration: _record_pb2.TtlDuration
    def __init__(self, entries: _Optional[_Iterable[_Union[PutRecordRequest, _Mapping]]] = ..., position: _Optional[_Union[SourcePosition, _Mapping]] = ..., ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ...) -> None: ...

class BatchWriteRecordResponse(_message.Message):
    __slots__ = ("errors", "unprocessed")
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    UNPROCESSED_FIELD_NUMBER: _ClassVar[int]
    errors: _containers.RepeatedCompositeFieldContainer[WriteError]
    unprocessed: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, errors: _Optional[_Iterable[_Union[WriteError, _Mapping]]] = ..., unprocessed: _Optional[_Iterable[int]] = ...) -> None: ...

class UpdateRecordRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifier_value_as_string", "features", "target_stores", "ttl_duration")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    TARGET_STORES_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifier_value_as_string: str
    features: _containers.RepeatedCompositeFieldContainer[_record_pb2.FeatureValue]
    target_stores: _containers.RepeatedScalarFieldContainer[_record_pb2.Store]
    ttl_duration: _record_pb2.TtlDuration
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_value_as_string: _Optional[str] = ..., features: _Optional[_Iterable[_Union[_record_pb2.FeatureValue, _Mapping]]] = ..., target_stores: _Optional[_Iterable[_Union[_record_pb2.Store, str]]] = ..., ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ...) -> None: ...

class UpdateRecordResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DeleteRecordRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifier_value_as_string", "event_time", "mode", "target_stores")
    class DeletionMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DELETION_MODE_UNSPECIFIED: _ClassVar[DeleteRecordRequest.DeletionMode]
        SOFT: _ClassVar[DeleteRecordRequest.DeletionMode]
        HARD: _ClassVar[DeleteRecordRequest.DeletionMode]
    DELETION_MODE_UNSPECIFIED: DeleteRecordRequest.DeletionMode
    SOFT: DeleteRecordRequest.DeletionMode
    HARD: DeleteRecordRequest.DeletionMode
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    TARGET_STORES_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifier_value_as_string: str
    event_time: str
    mode: DeleteRecordRequest.DeletionMode
    target_stores: _containers.RepeatedScalarFieldContainer[_record_pb2.Store]
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_value_as_string: _Optional[str] = ..., event_time: _Optional[str] = ..., mode: _Optional[_Union[DeleteRecordRequest.DeletionMode, str]] = ..., target_stores: _Optional[_Iterable[_Union[_record_pb2.Store, str]]] = ...) -> None: ...

class DeleteRecordResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListRecordsRequest(_message.Message):
    __slots__ = ("feature_group_name", "max_results", "next_token", "include_soft_deleted")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_SOFT_DELETED_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    max_results: int
    next_token: str
    include_soft_deleted: bool
    def __init__(self, feature_group_name: _Optional[str] = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ..., include_soft_deleted: bool = ...) -> None: ...

class ListRecordsResponse(_message.Message):
    __slots__ = ("record_identifiers", "next_token")
    RECORD_IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    record_identifiers: _containers.RepeatedScalarFieldContainer[str]
    next_token: str
    def __init__(self, record_identifiers: _Optional[_Iterable[str]] = ..., next_token: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("last", "errors")
    LAST_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    last: int
    errors: _containers.RepeatedCompositeFieldContainer[WriteError]
    def __init__(self, last: _Optional[int] = ..., errors: _Optional[_Iterable[_Union[WriteError, _Mapping]]] = ...) -> None: ...

class GetSourcePositionRequest(_message.Message):
    __slots__ = ("source",)
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    source: str
    def __init__(self, source: _Optional[str] = ...) -> None: ...

class GetSourcePositionResponse(_message.Message):
    __slots__ = ("next",)
    class NextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    NEXT_FIELD_NUMBER: _ClassVar[int]
    next: _containers.ScalarMap[str, int]
    def __init__(self, next: _Optional[_Mapping[str, int]] = ...) -> None: ...
