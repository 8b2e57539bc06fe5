from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class TraceRecordRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifier_value_as_string", "event_time", "until")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIER_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifier_value_as_string: str
    event_time: str
    until: str
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifier_value_as_string: _Optional[str] = ..., event_time: _Optional[str] = ..., until: _Optional[str] = ...) -> None: ...

class TraceRecordResponse(_message.Message):
    __slots__ = ("report_json",)
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    report_json: str
    def __init__(self, report_json: _Optional[str] = ...) -> None: ...

class ListRecordsBehindRequest(_message.Message):
    __slots__ = ("start",)
    START_FIELD_NUMBER: _ClassVar[int]
    start: str
    def __init__(self, start: _Optional[str] = ...) -> None: ...

class ListRecordsBehindResponse(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: bytes
    def __init__(self, rows: _Optional[bytes] = ...) -> None: ...
