from featurestore.v1 import runtime_pb2 as _runtime_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class LoadSpec(_message.Message):
    __slots__ = ("feature_group_name", "key", "source", "feature_names")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FEATURE_NAMES_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    key: str
    source: str
    feature_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, feature_group_name: _Optional[str] = ..., key: _Optional[str] = ..., source: _Optional[str] = ..., feature_names: _Optional[_Iterable[str]] = ...) -> None: ...

class LoadRowsRequest(_message.Message):
    __slots__ = ("spec", "rows", "end")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    spec: LoadSpec
    rows: bytes
    end: int
    def __init__(self, spec: _Optional[_Union[LoadSpec, _Mapping]] = ..., rows: _Optional[bytes] = ..., end: _Optional[int] = ...) -> None: ...

class TransferProgress(_message.Message):
    __slots__ = ("step", "rows")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    step: str
    rows: int
    def __init__(self, step: _Optional[str] = ..., rows: _Optional[int] = ...) -> None: ...

class LoadRowsResponse(_message.Message):
    __slots__ = ("progress", "errors", "result")
    class Result(_message.Message):
        __slots__ = ("rows", "already", "table_version")
        ROWS_FIELD_NUMBER: _ClassVar[int]
        ALREADY_FIELD_NUMBER: _ClassVar[int]
        TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
        rows: int
        already: bool
        table_version: int
        def __init__(self, rows: _Optional[int] = ..., already: bool = ..., table_version: _Optional[int] = ...) -> None: ...
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: TransferProgress
    errors: WriteErrors
    result: LoadRowsResponse.Result
    def __init__(self, progress: _Optional[_Union[TransferProgress, _Mapping]] = ..., errors: _Optional[_Union[WriteErrors, _Mapping]] = ..., result: _Optional[_Union[LoadRowsResponse.Result, _Mapping]] = ...) -> None: ...

class WriteErrors(_message.Message):
    __slots__ = ("errors",)
    ERRORS_FIELD_NUMBER: _ClassVar[int]
    errors: _containers.RepeatedCompositeFieldContainer[_runtime_pb2.WriteError]
    def __init__(self, errors: _Optional[_Iterable[_Union[_runtime_pb2.WriteError, _Mapping]]] = ...) -> None: ...

class BackfillRequest(_message.Message):
    __slots__ = ("feature_group_name", "rebuild")
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    REBUILD_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    rebuild: bool
    def __init__(self, feature_group_name: _Optional[str] = ..., rebuild: bool = ...) -> None: ...

class BackfillResponse(_message.Message):
    __slots__ = ("progress", "result")
    class Result(_message.Message):
        __slots__ = ("table_version", "identifiers", "written", "removed", "resumed", "was_empty")
        TABLE_VERSION_FIELD_NUMBER: _ClassVar[int]
        IDENTIFIERS_FIELD_NUMBER: _ClassVar[int]
        WRITTEN_FIELD_NUMBER: _ClassVar[int]
        REMOVED_FIELD_NUMBER: _ClassVar[int]
        RESUMED_FIELD_NUMBER: _ClassVar[int]
        WAS_EMPTY_FIELD_NUMBER: _ClassVar[int]
        table_version: int
        identifiers: int
        written: int
        removed: int
        resumed: bool
        was_empty: bool
        def __init__(self, table_version: _Optional[int] = ..., identifiers: _Optional[int] = ..., written: _Optional[int] = ..., removed: _Optional[int] = ..., resumed: bool = ..., was_empty: bool = ...) -> None: ...
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: TransferProgress
    result: BackfillResponse.Result
    def __init__(self, progress: _Optional[_Union[TransferProgress, _Mapping]] = ..., result: _Optional[_Union[BackfillResponse.Result, _Mapping]] = ...) -> None: ...
