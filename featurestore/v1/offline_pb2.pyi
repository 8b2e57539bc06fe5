import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MaintainRequest(_message.Message):
    __slots__ = ("feature_group_name", "retention_us", "zorder")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RETENTION_US_FIELD_NUMBER: _ClassVar[int]
    ZORDER_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    retention_us: int
    zorder: bool
    def __init__(self, feature_group_name: _Optional[str] = ..., retention_us: _Optional[int] = ..., zorder: bool = ...) -> None: ...

class MaintainResponse(_message.Message):
    __slots__ = ("feature_group_name", "version", "dates", "files_before", "files_after", "bytes_before", "bytes_after", "files_removed", "seconds")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DATES_FIELD_NUMBER: _ClassVar[int]
    FILES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    FILES_AFTER_FIELD_NUMBER: _ClassVar[int]
    BYTES_BEFORE_FIELD_NUMBER: _ClassVar[int]
    BYTES_AFTER_FIELD_NUMBER: _ClassVar[int]
    FILES_REMOVED_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    version: int
    dates: int
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    files_removed: int
    seconds: float
    def __init__(self, feature_group_name: _Optional[str] = ..., version: _Optional[int] = ..., dates: _Optional[int] = ..., files_before: _Optional[int] = ..., files_after: _Optional[int] = ..., bytes_before: _Optional[int] = ..., bytes_after: _Optional[int] = ..., files_removed: _Optional[int] = ..., seconds: _Optional[float] = ...) -> None: ...

class ReadHistoryRequest(_message.Message):
    __slots__ = ("feature_group_name", "feature_names", "version", "as_of")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    version: int
    as_of: _timestamp_pb2.Timestamp
    def __init__(self, feature_group_name: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ..., version: _Optional[int] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ReadHistoryResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    def __init__(self, rows: _Optional[bytes] = ...) -> None: ...

class ListTableVersionsRequest(_message.Message):
    __slots__ = ("feature_group_name", "limit")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    limit: int
    def __init__(self, feature_group_name: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class TableVersion(_message.Message):
    __slots__ = ("version", "time", "operation", "files")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    version: int
    time: _timestamp_pb2.Timestamp
    operation: str
    files: int
    def __init__(self, version: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., operation: _Optional[str] = ..., files: _Optional[int] = ...) -> None: ...

class ListTableVersionsResponse(_message.Message):
    __slots__ = ("versions",)
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[TableVersion]
    def __init__(self, versions: _Optional[_Iterable[_Union[TableVersion, _Mapping]]] = ...) -> None: ...

class RestoreRequest(_message.Message):
    __slots__ = ("feature_group_name", "version")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    version: int
    def __init__(self, feature_group_name: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class RestoreResponse(_message.Message):
    __slots__ = ("version",)
    VERSION_FIELD_NUMBER: _ClassVar[int]
    version: int
    def __init__(self, version: _Optional[int] = ...) -> None: ...
