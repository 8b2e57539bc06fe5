from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EraseRecordsRequest(_message.Message):
    __slots__ = ("feature_group_name", "record_identifiers_value_as_string", "reason", "saved_datasets")
    class SavedDatasets(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SAVED_DATASETS_UNSPECIFIED: _ClassVar[EraseRecordsRequest.SavedDatasets]
        KEEP: _ClassVar[EraseRecordsRequest.SavedDatasets]
        DELETE: _ClassVar[EraseRecordsRequest.SavedDatasets]
    SAVED_DATASETS_UNSPECIFIED: EraseRecordsRequest.SavedDatasets
    KEEP: EraseRecordsRequest.SavedDatasets
    DELETE: EraseRecordsRequest.SavedDatasets
    FEATURE_GROUP_NAME_FIELD_NUMBER: _ClassVar[int]
    RECORD_IDENTIFIERS_VALUE_AS_STRING_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SAVED_DATASETS_FIELD_NUMBER: _ClassVar[int]
    feature_group_name: str
    record_identifiers_value_as_string: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    saved_datasets: EraseRecordsRequest.SavedDatasets
    def __init__(self, feature_group_name: _Optional[str] = ..., record_identifiers_value_as_string: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., saved_datasets: _Optional[_Union[EraseRecordsRequest.SavedDatasets, str]] = ...) -> None: ...

class EraseRecordsResponse(_message.Message):
    __slots__ = ("report_json",)
    REPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    report_json: str
    def __init__(self, report_json: _Optional[str] = ...) -> None: ...
