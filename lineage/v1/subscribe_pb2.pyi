import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lineage.v1 import entity_pb2 as _entity_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SubscribeRequest(_message.Message):
    __slots__ = ("start", "direction", "filter", "through", "after")
    START_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    start: str
    direction: _entity_pb2.Direction
    filter: _entity_pb2.EntityFilter
    through: _containers.RepeatedScalarFieldContainer[str]
    after: int
    def __init__(self, start: _Optional[str] = ..., direction: _Optional[_Union[_entity_pb2.Direction, str]] = ..., filter: _Optional[_Union[_entity_pb2.EntityFilter, _Mapping]] = ..., through: _Optional[_Iterable[str]] = ..., after: _Optional[int] = ...) -> None: ...

class SubscribeResponse(_message.Message):
    __slots__ = ("sequence", "time", "actor", "kind", "event_uid", "reached", "changed", "lost")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_UID_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    actor: str
    kind: str
    event_uid: str
    reached: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    changed: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    lost: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., kind: _Optional[str] = ..., event_uid: _Optional[str] = ..., reached: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., changed: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., lost: _Optional[_Iterable[str]] = ...) -> None: ...
