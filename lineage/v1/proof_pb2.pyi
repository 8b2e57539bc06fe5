import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Checkpoint(_message.Message):
    __slots__ = ("sequence", "root", "head", "time", "public_key", "signature")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    HEAD_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    root: bytes
    head: bytes
    time: _timestamp_pb2.Timestamp
    public_key: bytes
    signature: bytes
    def __init__(self, sequence: _Optional[int] = ..., root: _Optional[bytes] = ..., head: _Optional[bytes] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class LogEvent(_message.Message):
    __slots__ = ("sequence", "time_us", "actor", "kind", "event_uid", "body", "previous", "hash")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_US_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_UID_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    HASH_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time_us: int
    actor: str
    kind: str
    event_uid: str
    body: bytes
    previous: bytes
    hash: bytes
    def __init__(self, sequence: _Optional[int] = ..., time_us: _Optional[int] = ..., actor: _Optional[str] = ..., kind: _Optional[str] = ..., event_uid: _Optional[str] = ..., body: _Optional[bytes] = ..., previous: _Optional[bytes] = ..., hash: _Optional[bytes] = ...) -> None: ...

class MakeCheckpointRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class MakeCheckpointResponse(_message.Message):
    __slots__ = ("checkpoint",)
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    checkpoint: Checkpoint
    def __init__(self, checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class ListCheckpointsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListCheckpointsResponse(_message.Message):
    __slots__ = ("checkpoints",)
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    checkpoints: _containers.RepeatedCompositeFieldContainer[Checkpoint]
    def __init__(self, checkpoints: _Optional[_Iterable[_Union[Checkpoint, _Mapping]]] = ...) -> None: ...

class ProveEntityRequest(_message.Message):
    __slots__ = ("entity", "sequence", "checkpoint")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    entity: str
    sequence: int
    checkpoint: Checkpoint
    def __init__(self, entity: _Optional[str] = ..., sequence: _Optional[int] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class ProveEntityResponse(_message.Message):
    __slots__ = ("entity", "event", "checkpoint", "path")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    entity: str
    event: LogEvent
    checkpoint: Checkpoint
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, entity: _Optional[str] = ..., event: _Optional[_Union[LogEvent, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...

class ProveGrowthRequest(_message.Message):
    __slots__ = ("earlier", "later")
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    earlier: Checkpoint
    later: Checkpoint
    def __init__(self, earlier: _Optional[_Union[Checkpoint, _Mapping]] = ..., later: _Optional[_Union[Checkpoint, _Mapping]] = ...) -> None: ...

class ProveGrowthResponse(_message.Message):
    __slots__ = ("earlier", "later", "path")
    EARLIER_FIELD_NUMBER: _ClassVar[int]
    LATER_FIELD_NUMBER: _ClassVar[int]
    PATH_FIELD_NUMBER: _ClassVar[int]
    earlier: Checkpoint
    later: Checkpoint
    path: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, earlier: _Optional[_Union[Checkpoint, _Mapping]] = ..., later: _Optional[_Union[Checkpoint, _Mapping]] = ..., path: _Optional[_Iterable[bytes]] = ...) -> None: ...
