import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from featurestore.v1 import control_pb2 as _control_pb2
from featurestore.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Aggregation(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AGGREGATION_UNSPECIFIED: _ClassVar[Aggregation]
    COUNT: _ClassVar[Aggregation]
    SUM: _ClassVar[Aggregation]
    MEAN: _ClassVar[Aggregation]
    STD: _ClassVar[Aggregation]
    MIN: _ClassVar[Aggregation]
    MAX: _ClassVar[Aggregation]
    FIRST: _ClassVar[Aggregation]
    LAST: _ClassVar[Aggregation]
    APPROX_UNIQUE: _ClassVar[Aggregation]
    TOP_K: _ClassVar[Aggregation]
AGGREGATION_UNSPECIFIED: Aggregation
COUNT: Aggregation
SUM: Aggregation
MEAN: Aggregation
STD: Aggregation
MIN: Aggregation
MAX: Aggregation
FIRST: Aggregation
LAST: Aggregation
APPROX_UNIQUE: Aggregation
TOP_K: Aggregation

class WindowedFeature(_message.Message):
    __slots__ = ("feature_name", "aggregation", "source_feature_name", "window_us", "k")
    FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    AGGREGATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    WINDOW_US_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    feature_name: str
    aggregation: Aggregation
    source_feature_name: str
    window_us: int
    k: int
    def __init__(self, feature_name: _Optional[str] = ..., aggregation: _Optional[_Union[Aggregation, str]] = ..., source_feature_name: _Optional[str] = ..., window_us: _Optional[int] = ..., k: _Optional[int] = ...) -> None: ...

class WindowedGroup(_message.Message):
    __slots__ = ("windowed_group_name", "source_feature_group_name", "by_feature_name", "windowed_features", "description", "retention_us")
    WINDOWED_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    BY_FEATURE_NAME_FIELD_NUMBER: _ClassVar[int]
    WINDOWED_FEATURES_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    RETENTION_US_FIELD_NUMBER: _ClassVar[int]
    windowed_group_name: str
    source_feature_group_name: str
    by_feature_name: str
    windowed_features: _containers.RepeatedCompositeFieldContainer[WindowedFeature]
    description: str
    retention_us: int
    def __init__(self, windowed_group_name: _Optional[str] = ..., source_feature_group_name: _Optional[str] = ..., by_feature_name: _Optional[str] = ..., windowed_features: _Optional[_Iterable[_Union[WindowedFeature, _Mapping]]] = ..., description: _Optional[str] = ..., retention_us: _Optional[int] = ...) -> None: ...

class WindowedGroupDescription(_message.Message):
    __slots__ = ("windowed_group", "feature_definitions", "status", "creation_time")
    WINDOWED_GROUP_FIELD_NUMBER: _ClassVar[int]
    FEATURE_DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    CREATION_TIME_FIELD_NUMBER: _ClassVar[int]
    windowed_group: WindowedGroup
    feature_definitions: _containers.RepeatedCompositeFieldContainer[_control_pb2.FeatureDefinition]
    status: str
    creation_time: _timestamp_pb2.Timestamp
    def __init__(self, windowed_group: _Optional[_Union[WindowedGroup, _Mapping]] = ..., feature_definitions: _Optional[_Iterable[_Union[_control_pb2.FeatureDefinition, _Mapping]]] = ..., status: _Optional[str] = ..., creation_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateWindowedGroupRequest(_message.Message):
    __slots__ = ("windowed_group",)
    WINDOWED_GROUP_FIELD_NUMBER: _ClassVar[int]
    windowed_group: WindowedGroup
    def __init__(self, windowed_group: _Optional[_Union[WindowedGroup, _Mapping]] = ...) -> None: ...

class CreateWindowedGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: WindowedGroupDescription
    def __init__(self, description: _Optional[_Union[WindowedGroupDescription, _Mapping]] = ...) -> None: ...

class DescribeWindowedGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class DescribeWindowedGroupResponse(_message.Message):
    __slots__ = ("description",)
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    description: WindowedGroupDescription
    def __init__(self, description: _Optional[_Union[WindowedGroupDescription, _Mapping]] = ...) -> None: ...

class ListWindowedGroupsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListWindowedGroupsResponse(_message.Message):
    __slots__ = ("descriptions",)
    DESCRIPTIONS_FIELD_NUMBER: _ClassVar[int]
    descriptions: _containers.RepeatedCompositeFieldContainer[WindowedGroupDescription]
    def __init__(self, descriptions: _Optional[_Iterable[_Union[WindowedGroupDescription, _Mapping]]] = ...) -> None: ...

class DeleteWindowedGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class DeleteWindowedGroupResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FillWindowedGroupRequest(_message.Message):
    __slots__ = ("feature_group_name",)
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    def __init__(self, feature_group_name: _Optional[str] = ...) -> None: ...

class FillWindowedGroupResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: int
    def __init__(self, events: _Optional[int] = ...) -> None: ...

class GetWindowsRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifiers_value_as_string", "at")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIERS_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifiers_value_as_string: _containers.RepeatedScalarFieldContainer[str]
    at: _timestamp_pb2.Timestamp
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifiers_value_as_string: _Optional[_Iterable[str]] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class GetWindowsResponse(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[_record_pb2.Record]
    def __init__(self, records: _Optional[_Iterable[_Union[_record_pb2.Record, _Mapping]]] = ...) -> None: ...
