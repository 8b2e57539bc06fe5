import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CollectGarbageRequest(_message.Message):
    __slots__ = ("apply", "keep", "older_than", "kinds")
    APPLY_FIELD_NUMBER: _ClassVar[int]
    KEEP_FIELD_NUMBER: _ClassVar[int]
    OLDER_THAN_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    apply: bool
    keep: _containers.RepeatedScalarFieldContainer[str]
    older_than: _duration_pb2.Duration
    kinds: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, apply: bool = ..., keep: _Optional[_Iterable[str]] = ..., older_than: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., kinds: _Optional[_Iterable[str]] = ...) -> None: ...

class CollectGarbageResponse(_message.Message):
    __slots__ = ("items", "sequence", "applied", "recorded")
    class Item(_message.Message):
        __slots__ = ("kind", "uri", "uid", "size_bytes", "goes", "why", "chain", "pinned")
        KIND_FIELD_NUMBER: _ClassVar[int]
        URI_FIELD_NUMBER: _ClassVar[int]
        UID_FIELD_NUMBER: _ClassVar[int]
        SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
        GOES_FIELD_NUMBER: _ClassVar[int]
        WHY_FIELD_NUMBER: _ClassVar[int]
        CHAIN_FIELD_NUMBER: _ClassVar[int]
        PINNED_FIELD_NUMBER: _ClassVar[int]
        kind: str
        uri: str
        uid: str
        size_bytes: int
        goes: bool
        why: str
        chain: _containers.RepeatedScalarFieldContainer[str]
        pinned: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, kind: _Optional[str] = ..., uri: _Optional[str] = ..., uid: _Optional[str] = ..., size_bytes: _Optional[int] = ..., goes: bool = ..., why: _Optional[str] = ..., chain: _Optional[_Iterable[str]] = ..., pinned: _Optional[_Iterable[int]] = ...) -> None: ...
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CollectGarbageResponse.Item]
    sequence: int
    applied: bool
    recorded: str
    def __init__(self, items: _Optional[_Iterable[_Union[CollectGarbageResponse.Item, _Mapping]]] = ..., sequence: _Optional[int] = ..., applied: bool = ..., recorded: _Optional[str] = ...) -> None: ...
