from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetRecordsAsOfRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifiers_value_as_string", "times_us", "feature_names", "lookback_us")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIERS_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    TIMES_US_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    LOOKBACK_US_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifiers_value_as_string: _containers.RepeatedScalarFieldContainer[str]
    times_us: _containers.RepeatedScalarFieldContainer[int]
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    lookback_us: int
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifiers_value_as_string: _Optional[_Iterable[str]] = ..., times_us: _Optional[_Iterable[int]] = ..., feature_names: _Optional[_Iterable[str]] = ..., lookback_us: _Optional[int] = ...) -> None: ...

class GetRecordsAsOfResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    def __init__(self, rows: _Optional[bytes] = ...) -> None: ...
