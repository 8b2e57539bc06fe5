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

class FeatureType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FEATURE_TYPE_UNSPECIFIED: _ClassVar[FeatureType]
    INTEGRAL: _ClassVar[FeatureType]
    FRACTIONAL: _ClassVar[FeatureType]
    STRING: _ClassVar[FeatureType]
FEATURE_TYPE_UNSPECIFIED: FeatureType
INTEGRAL: FeatureType
FRACTIONAL: FeatureType
STRING: FeatureType

class FeatureDefinition(_message.Message):
    __slots__ = ("feature_name", "feature_type")
    FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_TYPE_FIELD_NUMBER: _ClassVar[int]
    feature_name: str
    feature_type: FeatureType
    def __init__(self, feature_name: _Optional[str] = ..., feature_type: _Optional[_Union[FeatureType, str]] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("key", "value")
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    key: str
    value: str
    def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class FeatureGroup(_message.Message):
    __slots__ = ("feature_group_name", "record_identifier_feature_name", "event_time_feature_name", "feature_definitions", "enable_online_store", "enable_offline_store", "ttl_duration", "description", "tags")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIER_FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    ENABLE_ONLINE_STORE_FIELD_NUMBER: _ClassVar[int]
    ENABLE_OFFLINE_STORE_FIELD_NUMBER: _ClassVar[int]
    TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifier_feature_name: str
    event_time_feature_name: str
    feature_definitions: _containers.RepeatedCompositeFieldContainer[FeatureDefinition]
    enable_online_store: bool
    enable_offline_store: bool
    ttl_duration: _record_pb2.TtlDuration
    description: str
    tags: _containers.RepeatedCompositeFieldContainer[Tag]
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_feature_name: _Optional[str] = ..., event_time_feature_name: _Optional[str] = ..., feature_definitions: _Optional[_Iterable[_Union[FeatureDefinition, _Mapping]]] = ..., enable_online_store: bool = ..., enable_offline_store: bool = ..., ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ..., description: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[Tag, _Mapping]]] = ...) -> None: ...

class CreateFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group",)
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    feature_group: FeatureGroup
    def __init__(self, feature_group: _Optional[_Union[FeatureGroup, _Mapping]] = ...) -> None: ...

class CreateFeatureGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: FeatureGroupDescription
    def __init__(self, description: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ...) -> None: ...

class DescribeFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class FeatureGroupDescription(_message.Message):
    __slots__ = ("feature_group", "version", "status", "creation_time", "last_modified_time", "offline_store_uri")
    FEATURE_GROUP_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    LAST_MODIFIED_TIME_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_STORE_URI_FIELD_NUMBER: _ClassVar[int]
    feature_group: FeatureGroup
    version: int
    status: str
    creation_time: _timestamp_pb2.Timestamp
    last_modified_time: _timestamp_pb2.Timestamp
    offline_store_uri: str
    def __init__(self, feature_group: _Optional[_Union[FeatureGroup, _Mapping]] = ..., version: _Optional[int] = ..., status: _Optional[str] = ..., creation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., last_modified_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., offline_store_uri: _Optional[str] = ...) -> None: ...

class DescribeFeatureGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: FeatureGroupDescription
    def __init__(self, description: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ...) -> None: ...

class UpdateFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group_name", "feature_additions", "ttl_change")
    class TtlChange(_message.Message):
        __slots__ = ("ttl_duration",)
        TTL_DURATION_FIELD_NUMBER: _ClassVar[int]
        ttl_duration: _record_pb2.TtlDuration
        def __init__(self, ttl_duration: _Optional[_Union[_record_pb2.TtlDuration, _Mapping]] = ...) -> None: ...
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_ADDITIONS_FIELD_NUMBER: _ClassVar[int]
    TTL_CHANGE_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_additions: _containers.RepeatedCompositeFieldContainer[FeatureDefinition]
    ttl_change: UpdateFeatureGroupRequest.TtlChange
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_additions: _Optional[_Iterable[_Union[FeatureDefinition, _Mapping]]] = ..., ttl_change: _Optional[_Union[UpdateFeatureGroupRequest.TtlChange, _Mapping]] = ...) -> None: ...

class UpdateFeatureGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: FeatureGroupDescription
    def __init__(self, description: _Optional[_Union[FeatureGroupDescription, _Mapping]] = ...) -> None: ...

class DeleteFeatureGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class DeleteFeatureGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListFeatureGroupsRequest(_message.Message):
    __slots__ = ("name_contains", "max_results", "next_token")
    NAME_CONTAINS_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    name_contains: str
    max_results: int
    next_token: str
    def __init__(self, name_contains: _Optional[str] = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ...) -> None: ...

class ListFeatureGroupsResponse(_message.Message):
    __slots__ = ("descriptions", "next_token")
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    descriptions: _containers.RepeatedCompositeFieldContainer[FeatureGroupDescription]
    next_token: str
    def __init__(self, descriptions: _Optional[_Iterable[_Union[FeatureGroupDescription, _Mapping]]] = ..., next_token: _Optional[str] = ...) -> None: ...

class FlushRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class FlushResponse(_message.Message):
    __slots__ = ("flushed",)
    class Flushed(_message.Message):
        __slots__ = ("feature_group_name", "records", "table_version")
        FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
        RECORDS_FIELD_NUMBER: _ClassVar[int]
        TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
        feature_group_name: str
        records: int
        table_version: int
        def __init__(self, feature_group_name: _Optional[str] = ..., records: _Optional[int] = ..., table_version: _Optional[int] = ...) -> None: ...
    FLUSHED_FIELD_NUMBER: _ClassVar[int]
    flushed: _containers.RepeatedCompositeFieldContainer[FlushResponse.Flushed]
    def __init__(self, flushed: _Optional[_Iterable[_Union[FlushResponse.Flushed, _Mapping]]] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class VerifyResponse(_message.Message):
    __slots__ = ("equal", "online", "offline", "differences")
    class Difference(_message.Message):
        __slots__ = ("record_identifier_value_as_string", "reason")
        RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
        REASON_FIELD_NUMBER: _ClassVar[int]
        record_identifier_value_as_string: str
        reason: str
        def __init__(self, record_identifier_value_as_string: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...
    EQUAL_FIELD_NUMBER: _ClassVar[int]
    ONLINE_FIELD_NUMBER: _ClassVar[int]
    OFFLINE_FIELD_NUMBER: _ClassVar[int]
    DIFFERENCES_FIELD_NUMBER: _ClassVar[int]
    equal: bool
    online: int
    offline: int
    differences: _containers.RepeatedCompositeFieldContainer[VerifyResponse.Difference]
    def __init__(self, equal: bool = ..., online: _Optional[int] = ..., offline: _Optional[int] = ..., differences: _Optional[_Iterable[_Union[VerifyResponse.Difference, _Mapping]]] = ...) -> None: ...

class FeatureSelection(_message.Message):
    __slots__ = ("feature_group_name", "feature_names", "key", "prefix", "lookback_us", "version")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    LOOKBACK_US_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    key: str
    prefix: str
    lookback_us: int
    version: int
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ..., key: _Optional[str] = ..., prefix: _Optional[str] = ..., lookback_us: _Optional[int] = ..., version: _Optional[int] = ...) -> None: ...

class DatasetSpec(_message.Message):
    __slots__ = ("selections", "time_column", "as_of", "spine_name")
    SELECTIONS_FIELD_NUMBER: _ClassVar[int]
    TIME_COLUMN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    SPINE_NAME_FIELD_NUMBER: _ClassVar[int]
    selections: _containers.RepeatedCompositeFieldContainer[FeatureSelection]
    time_column: str
    as_of: _timestamp_pb2.Timestamp
    spine_name: str
    def __init__(self, selections: _Optional[_Iterable[_Union[FeatureSelection, _Mapping]]] = ..., time_column: _Optional[str] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., spine_name: _Optional[str] = ...) -> None: ...

class DatasetManifest(_message.Message):
    __slots__ = ("fingerprint", "spine_digest", "rows", "versions", "manifest_json")
    class VersionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    SPINE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    fingerprint: str
    spine_digest: str
    rows: int
    versions: _containers.ScalarMap[str, int]
    manifest_json: str
    def __init__(self, fingerprint: _Optional[str] = ..., spine_digest: _Optional[str] = ..., rows: _Optional[int] = ..., versions: _Optional[_Mapping[str, int]] = ..., manifest_json: _Optional[str] = ...) -> None: ...

class BuildDatasetRequest(_message.Message):
    __slots__ = ("spec", "spine")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    SPINE_FIELD_NUMBER: _ClassVar[int]
    spec: DatasetSpec
    spine: bytes
    def __init__(self, spec: _Optional[_Union[DatasetSpec, _Mapping]] = ..., spine: _Optional[bytes] = ...) -> None: ...

class BuildDatasetResponse(_message.Message):
    __slots__ = ("dataset", "rows")
    DATASET_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    dataset: DatasetManifest
    rows: bytes
    def __init__(self, dataset: _Optional[_Union[DatasetManifest, _Mapping]] = ..., rows: _Optional[bytes] = ...) -> None: ...
