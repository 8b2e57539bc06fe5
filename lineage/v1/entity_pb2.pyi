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
    EITHER: _ClassVar[Direction]
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
EITHER: Direction

class Entity(_message.Message):
    __slots__ = ("uid", "kind", "type", "name", "source_uri", "content_hash", "version", "state", "properties", "created", "modified", "properties_json", "facets")
    class FacetsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Facet
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Facet, _Mapping]] = ...) -> None: ...
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
    PROPERTIES_JSON_FIELD_NUMBER: _ClassVar[int]
    FACETS_FIELD_NUMBER: _ClassVar[int]
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
    properties_json: str
    facets: _containers.MessageMap[str, Facet]
    def __init__(self, uid: _Optional[str] = ..., kind: _Optional[_Union[Kind, str]] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., source_uri: _Optional[str] = ..., content_hash: _Optional[str] = ..., version: _Optional[int] = ..., state: _Optional[str] = ..., properties: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., modified: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., properties_json: _Optional[str] = ..., facets: _Optional[_Mapping[str, Facet]] = ...) -> None: ...

class Facet(_message.Message):
    __slots__ = ("rank", "value_json")
    RANK_FIELD_NUMBER: _ClassVar[int]
    VALUE_JSON_FIELD_NUMBER: _ClassVar[int]
    rank: int
    value_json: str
    def __init__(self, rank: _Optional[int] = ..., value_json: _Optional[str] = ...) -> None: ...

class Association(_message.Message):
    __slots__ = ("source", "destination", "type")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    source: str
    destination: str
    type: str
    def __init__(self, source: _Optional[str] = ..., destination: _Optional[str] = ..., type: _Optional[str] = ...) -> None: ...

class Run(_message.Message):
    __slots__ = ("uid", "entity", "state", "started_us", "ended_us", "properties_json")
    UID_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    STARTED_US_FIELD_NUMBER: _ClassVar[int]
    ENDED_US_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_JSON_FIELD_NUMBER: _ClassVar[int]
    uid: str
    entity: str
    state: str
    started_us: int
    ended_us: int
    properties_json: str
    def __init__(self, uid: _Optional[str] = ..., entity: _Optional[str] = ..., state: _Optional[str] = ..., started_us: _Optional[int] = ..., ended_us: _Optional[int] = ..., properties_json: _Optional[str] = ...) -> None: ...

class ColumnEdge(_message.Message):
    __slots__ = ("source", "source_column", "column", "type", "subtype", "description", "masking", "properties_json")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_COLUMN_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    SUBTYPE_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    MASKING_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_JSON_FIELD_NUMBER: _ClassVar[int]
    source: str
    source_column: str
    column: str
    type: str
    subtype: str
    description: str
    masking: bool
    properties_json: str
    def __init__(self, source: _Optional[str] = ..., source_column: _Optional[str] = ..., column: _Optional[str] = ..., type: _Optional[str] = ..., subtype: _Optional[str] = ..., description: _Optional[str] = ..., masking: bool = ..., properties_json: _Optional[str] = ...) -> None: ...

class ColumnLineage(_message.Message):
    __slots__ = ("destination", "by", "rank", "edges")
    DESTINATION_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    EDGES_FIELD_NUMBER: _ClassVar[int]
    destination: str
    by: str
    rank: int
    edges: _containers.RepeatedCompositeFieldContainer[ColumnEdge]
    def __init__(self, destination: _Optional[str] = ..., by: _Optional[str] = ..., rank: _Optional[int] = ..., edges: _Optional[_Iterable[_Union[ColumnEdge, _Mapping]]] = ...) -> None: ...

class Tag(_message.Message):
    __slots__ = ("entity", "key", "value")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    entity: str
    key: str
    value: str
    def __init__(self, entity: _Optional[str] = ..., key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ("alias", "entity")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    alias: str
    entity: str
    def __init__(self, alias: _Optional[str] = ..., entity: _Optional[str] = ...) -> None: ...

class EntityFilter(_message.Message):
    __slots__ = ("kinds", "types", "states", "properties_json", "created_after", "created_before", "modified_after", "modified_before", "uris")
    KINDS_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    PROPERTIES_JSON_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_AFTER_FIELD_NUMBER: _ClassVar[int]
    MODIFIED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    URIS_FIELD_NUMBER: _ClassVar[int]
    kinds: _containers.RepeatedScalarFieldContainer[Kind]
    types: _containers.RepeatedScalarFieldContainer[str]
    states: _containers.RepeatedScalarFieldContainer[str]
    properties_json: str
    created_after: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    modified_after: _timestamp_pb2.Timestamp
    modified_before: _timestamp_pb2.Timestamp
    uris: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kinds: _Optional[_Iterable[_Union[Kind, str]]] = ..., types: _Optional[_Iterable[str]] = ..., states: _Optional[_Iterable[str]] = ..., properties_json: _Optional[str] = ..., created_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., modified_after: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., modified_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., uris: _Optional[_Iterable[str]] = ...) -> None: ...

class AsOf(_message.Message):
    __slots__ = ("sequence", "time")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...
