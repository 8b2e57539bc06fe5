import datetime

from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KIND_UNSPECIFIED: _ClassVar[Kind]
    TRIAL_COMPONENT: _ClassVar[Kind]
    TRIAL: _ClassVar[Kind]
    EXPERIMENT: _ClassVar[Kind]
    CONTEXT: _ClassVar[Kind]
    ACTION: _ClassVar[Kind]
    ARTIFACT: _ClassVar[Kind]

class Direction(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DIRECTION_UNSPECIFIED: _ClassVar[Direction]
    ASCENDANTS: _ClassVar[Direction]
    DESCENDANTS: _ClassVar[Direction]
    BOTH: _ClassVar[Direction]
KIND_UNSPECIFIED: Kind
TRIAL_COMPONENT: Kind
TRIAL: Kind
EXPERIMENT: Kind
CONTEXT: Kind
ACTION: Kind
ARTIFACT: Kind
DIRECTION_UNSPECIFIED: Direction
ASCENDANTS: Direction
DESCENDANTS: Direction
BOTH: Direction

class Entity(_message.Message):
    __slots__ = ("uid", "kind", "type", "name", "source_uri", "content_hash", "version", "state", "properties", "created", "modified")
    UID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URI_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_FIELD_NUMBER: _ClassVar[int]
    uid: str
    kind: Kind
    type: str
    name: str
    source_uri: str
    content_hash: str
    version: int
    state: str
    properties: _struct_pb2.Struct
    created: _timestamp_pb2.Timestamp
    modified: _timestamp_pb2.Timestamp
    def __init__(self, uid: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., source_uri: _Optional[str] = ..., content_hash: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., properties: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., modified: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Association(_message.Message):
    __slots__ = ("source", "destination", "type")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    source: str
    destination: str
    type: str
    def __init__(self, source: _Optional[str] = ..., destination: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class RecordRequest(_message.Message):
    __slots__ = ("event_uid", "actor", "kind", "entities", "associations", "cycles")
    EVENT_UID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATIONS_FIELD_NUMBER: _ClassVar[int]
    CYCLES_FIELD_NUMBER: _ClassVar[int]
    event_uid: str
    actor: str
    kind: str
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    associations: _containers.RepeatedCompositeFieldContainer[Association]
    cycles: bool
    def __init__(self, event_uid: _Optional[str] = ..., actor: _Optional[str] = ..., kind: _Optional[str] = ..., entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ..., associations: _Optional[_Iterable[_Union[Association, _Mapping]]] = ..., cycles: bool = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("sequence", "entities")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    def __init__(self, sequence: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ...) -> None: ...

class DescribeEntityRequest(_message.Message):
    __slots__ = ("uid",)
    UID_FIELD_NUMBER: _ClassVar[int]
    uid: str
    def __init__(self, uid: _Optional[str] = ...) -> None: ...

class DescribeEntityResponse(_message.Message):
    __slots__ = ("entity",)
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    entity: Entity
    def __init__(self, entity: _Optional[_Union[Entity, _Mapping]] = ...) -> None: ...

class FindEntitiesRequest(_message.Message):
    __slots__ = ("kind", "type", "name", "source_uri")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URI_FIELD_NUMBER: _ClassVar[int]
    kind: Kind
    type: str
    name: str
    source_uri: str
    def __init__(self, kind: _Optional[_Union[Kind, str]] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., source_uri: _Optional[str] = ...) -> None: ...

class FindEntitiesResponse(_message.Message):
    __slots__ = ("entities",)
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    def __init__(self, entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ...) -> None: ...

class QueryLineageRequest(_message.Message):
    __slots__ = ("start", "direction", "depth", "types", "kinds", "include_edges", "max_results", "next_token")
    START_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EDGES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    start: str
    direction: Direction
    depth: int
    types: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[Kind]
    include_edges: bool
    max_results: int
    next_token: str
    def __init__(self, start: _Optional[str] = ..., direction: _Optional[_Union[Direction, str]] = ..., depth: _Optional[int] = ..., types: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[_Union[Kind, str]]] = ..., include_edges: bool = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ...) -> None: ...

class QueryLineageResponse(_message.Message):
    __slots__ = ("entities", "associations", "next_token")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    associations: _containers.RepeatedCompositeFieldContainer[Association]
    next_token: str
    def __init__(self, entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ..., associations: _Optional[_Iterable[_Union[Association, _Mapping]]] = ..., next_token: _Optional[str] = ...) -> None: ...

class VerifyLogRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class VerifyLogResponse(_message.Message):
    __slots__ = ("intact", "events", "first_altered", "reason")
    INTACT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_ALTERED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    intact: bool
    events: int
    first_altered: int
    reason: str
    def __init__(self, intact: bool = ..., events: _Optional[int] = ..., first_altered: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...
