import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from lineage.v1 import entity_pb2 as _entity_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchEntitiesRequest(_message.Message):
    __slots__ = ("filter", "name", "source_uri", "content_hash", "tags", "limit", "as_of")
    FILTER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URI_FIELD_NUMBER: _ClassVar[int]
    CONTENT_HASH_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    filter: _entity_pb2.EntityFilter
    name: str
    source_uri: str
    content_hash: str
    tags: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Tag]
    limit: int
    as_of: _entity_pb2.AsOf
    def __init__(self, filter: _Optional[_Union[_entity_pb2.EntityFilter, _Mapping]] = ..., name: _Optional[str] = ..., source_uri: _Optional[str] = ..., content_hash: _Optional[str] = ..., tags: _Optional[_Iterable[_Union[_entity_pb2.Tag, _Mapping]]] = ..., limit: _Optional[int] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class SearchEntitiesResponse(_message.Message):
    __slots__ = ("entities",)
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    def __init__(self, entities: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ...) -> None: ...

class FindPathsRequest(_message.Message):
    __slots__ = ("start", "end", "direction", "limit", "max_length", "through", "max_walked", "as_of")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_LENGTH_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    MAX_WALKED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    start: str
    end: str
    direction: _entity_pb2.Direction
    limit: int
    max_length: int
    through: _containers.RepeatedScalarFieldContainer[str]
    max_walked: int
    as_of: _entity_pb2.AsOf
    def __init__(self, start: _Optional[str] = ..., end: _Optional[str] = ..., direction: _Optional[_Union[_entity_pb2.Direction, str]] = ..., limit: _Optional[int] = ..., max_length: _Optional[int] = ..., through: _Optional[_Iterable[str]] = ..., max_walked: _Optional[int] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class FindPathsResponse(_message.Message):
    __slots__ = ("entities", "paths", "truncated")
    class Path(_message.Message):
        __slots__ = ("entities", "associations")
        ENTITIES_FIELD_NUMBER: _ClassVar[int]
        ASSOCIATIONS_FIELD_NUMBER: _ClassVar[int]
        entities: _containers.RepeatedScalarFieldContainer[int]
        associations: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Association]
        def __init__(self, entities: _Optional[_Iterable[int]] = ..., associations: _Optional[_Iterable[_Union[_entity_pb2.Association, _Mapping]]] = ...) -> None: ...
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    PATHS_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    paths: _containers.RepeatedCompositeFieldContainer[FindPathsResponse.Path]
    truncated: bool
    def __init__(self, entities: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., paths: _Optional[_Iterable[_Union[FindPathsResponse.Path, _Mapping]]] = ..., truncated: bool = ...) -> None: ...

class CommonEntitiesRequest(_message.Message):
    __slots__ = ("entities", "depth", "filter", "through", "limit", "as_of")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedScalarFieldContainer[str]
    depth: int
    filter: _entity_pb2.EntityFilter
    through: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    as_of: _entity_pb2.AsOf
    def __init__(self, entities: _Optional[_Iterable[str]] = ..., depth: _Optional[int] = ..., filter: _Optional[_Union[_entity_pb2.EntityFilter, _Mapping]] = ..., through: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class CommonEntitiesResponse(_message.Message):
    __slots__ = ("of", "found", "truncated")
    class Common(_message.Message):
        __slots__ = ("entity", "distances", "is_closest")
        ENTITY_FIELD_NUMBER: _ClassVar[int]
        DISTANCES_FIELD_NUMBER: _ClassVar[int]
        IS_CLOSEST_FIELD_NUMBER: _ClassVar[int]
        entity: _entity_pb2.Entity
        distances: _containers.RepeatedScalarFieldContainer[int]
        is_closest: bool
        def __init__(self, entity: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., distances: _Optional[_Iterable[int]] = ..., is_closest: bool = ...) -> None: ...
    OF_FIELD_NUMBER: _ClassVar[int]
    FOUND_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    of: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    found: _containers.RepeatedCompositeFieldContainer[CommonEntitiesResponse.Common]
    truncated: bool
    def __init__(self, of: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., found: _Optional[_Iterable[_Union[CommonEntitiesResponse.Common, _Mapping]]] = ..., truncated: bool = ...) -> None: ...

class DiffLineageRequest(_message.Message):
    __slots__ = ("a", "b", "through", "as_of")
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    a: str
    b: str
    through: _containers.RepeatedScalarFieldContainer[str]
    as_of: _entity_pb2.AsOf
    def __init__(self, a: _Optional[str] = ..., b: _Optional[str] = ..., through: _Optional[_Iterable[str]] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class DiffLineageResponse(_message.Message):
    __slots__ = ("a", "b", "is_equal", "causes", "outcomes", "compared")
    class Difference(_message.Message):
        __slots__ = ("cause", "name", "old_json", "new_json", "a", "b", "weight", "details", "facts_json")
        CAUSE_FIELD_NUMBER: _ClassVar[int]
        NAME_FIELD_NUMBER: _ClassVar[int]
        OLD_JSON_FIELD_NUMBER: _ClassVar[int]
        NEW_JSON_FIELD_NUMBER: _ClassVar[int]
        A_FIELD_NUMBER: _ClassVar[int]
        B_FIELD_NUMBER: _ClassVar[int]
        WEIGHT_FIELD_NUMBER: _ClassVar[int]
        DETAILS_FIELD_NUMBER: _ClassVar[int]
        FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
        cause: str
        name: str
        old_json: str
        new_json: str
        a: _entity_pb2.Entity
        b: _entity_pb2.Entity
        weight: float
        details: _containers.RepeatedScalarFieldContainer[str]
        facts_json: str
        def __init__(self, cause: _Optional[str] = ..., name: _Optional[str] = ..., old_json: _Optional[str] = ..., new_json: _Optional[str] = ..., a: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., b: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., weight: _Optional[float] = ..., details: _Optional[_Iterable[str]] = ..., facts_json: _Optional[str] = ...) -> None: ...
    class Outcome(_message.Message):
        __slots__ = ("name", "old_json", "new_json")
        NAME_FIELD_NUMBER: _ClassVar[int]
        OLD_JSON_FIELD_NUMBER: _ClassVar[int]
        NEW_JSON_FIELD_NUMBER: _ClassVar[int]
        name: str
        old_json: str
        new_json: str
        def __init__(self, name: _Optional[str] = ..., old_json: _Optional[str] = ..., new_json: _Optional[str] = ...) -> None: ...
    A_FIELD_NUMBER: _ClassVar[int]
    B_FIELD_NUMBER: _ClassVar[int]
    IS_EQUAL_FIELD_NUMBER: _ClassVar[int]
    CAUSES_FIELD_NUMBER: _ClassVar[int]
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    COMPARED_FIELD_NUMBER: _ClassVar[int]
    a: _entity_pb2.Entity
    b: _entity_pb2.Entity
    is_equal: bool
    causes: _containers.RepeatedCompositeFieldContainer[DiffLineageResponse.Difference]
    outcomes: _containers.RepeatedCompositeFieldContainer[DiffLineageResponse.Outcome]
    compared: int
    def __init__(self, a: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., b: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., is_equal: bool = ..., causes: _Optional[_Iterable[_Union[DiffLineageResponse.Difference, _Mapping]]] = ..., outcomes: _Optional[_Iterable[_Union[DiffLineageResponse.Outcome, _Mapping]]] = ..., compared: _Optional[int] = ...) -> None: ...

class ExplainEntityRequest(_message.Message):
    __slots__ = ("entity", "as_of")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entity: str
    as_of: _entity_pb2.AsOf
    def __init__(self, entity: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class ExplainEntityResponse(_message.Message):
    __slots__ = ("entity", "jobs", "data", "code", "code_words_json", "parameters_json", "environment_json", "metrics_json", "features", "events", "used_by", "belongs_to", "tags")
    class Source(_message.Message):
        __slots__ = ("entity", "depth", "groups")
        ENTITY_FIELD_NUMBER: _ClassVar[int]
        DEPTH_FIELD_NUMBER: _ClassVar[int]
        GROUPS_FIELD_NUMBER: _ClassVar[int]
        entity: _entity_pb2.Entity
        depth: int
        groups: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
        def __init__(self, entity: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., depth: _Optional[int] = ..., groups: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ...) -> None: ...
    class UsedByEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    JOBS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    CODE_WORDS_JSON_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_JSON_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    METRICS_JSON_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    USED_BY_FIELD_NUMBER: _ClassVar[int]
    BELONGS_TO_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    entity: _entity_pb2.Entity
    jobs: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    data: _containers.RepeatedCompositeFieldContainer[ExplainEntityResponse.Source]
    code: _containers.RepeatedCompositeFieldContainer[ExplainEntityResponse.Source]
    code_words_json: str
    parameters_json: str
    environment_json: str
    metrics_json: str
    features: _containers.RepeatedCompositeFieldContainer[FeatureUse]
    events: _containers.RepeatedCompositeFieldContainer[EventSummary]
    used_by: _containers.ScalarMap[str, int]
    belongs_to: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    tags: _containers.ScalarMap[str, str]
    def __init__(self, entity: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., jobs: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., data: _Optional[_Iterable[_Union[ExplainEntityResponse.Source, _Mapping]]] = ..., code: _Optional[_Iterable[_Union[ExplainEntityResponse.Source, _Mapping]]] = ..., code_words_json: _Optional[str] = ..., parameters_json: _Optional[str] = ..., environment_json: _Optional[str] = ..., metrics_json: _Optional[str] = ..., features: _Optional[_Iterable[_Union[FeatureUse, _Mapping]]] = ..., events: _Optional[_Iterable[_Union[EventSummary, _Mapping]]] = ..., used_by: _Optional[_Mapping[str, int]] = ..., belongs_to: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FeatureUse(_message.Message):
    __slots__ = ("entity", "column", "input", "importance", "user", "depth")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    IMPORTANCE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    entity: _entity_pb2.Entity
    column: str
    input: str
    importance: float
    user: _entity_pb2.Entity
    depth: int
    def __init__(self, entity: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., column: _Optional[str] = ..., input: _Optional[str] = ..., importance: _Optional[float] = ..., user: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ..., depth: _Optional[int] = ...) -> None: ...

class ListInputFeaturesRequest(_message.Message):
    __slots__ = ("entity", "as_of")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entity: str
    as_of: _entity_pb2.AsOf
    def __init__(self, entity: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class ListInputFeaturesResponse(_message.Message):
    __slots__ = ("features",)
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedCompositeFieldContainer[FeatureUse]
    def __init__(self, features: _Optional[_Iterable[_Union[FeatureUse, _Mapping]]] = ...) -> None: ...

class ListFeatureUsersRequest(_message.Message):
    __slots__ = ("entity", "column", "types", "as_of")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entity: str
    column: str
    types: _containers.RepeatedScalarFieldContainer[str]
    as_of: _entity_pb2.AsOf
    def __init__(self, entity: _Optional[str] = ..., column: _Optional[str] = ..., types: _Optional[_Iterable[str]] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class ListFeatureUsersResponse(_message.Message):
    __slots__ = ("users",)
    USERS_FIELD_NUMBER: _ClassVar[int]
    users: _containers.RepeatedCompositeFieldContainer[FeatureUse]
    def __init__(self, users: _Optional[_Iterable[_Union[FeatureUse, _Mapping]]] = ...) -> None: ...

class QueryColumnsRequest(_message.Message):
    __slots__ = ("start", "column", "direction", "depth", "as_of")
    START_FIELD_NUMBER: _ClassVar[int]
    COLUMN_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    start: str
    column: str
    direction: _entity_pb2.Direction
    depth: int
    as_of: _entity_pb2.AsOf
    def __init__(self, start: _Optional[str] = ..., column: _Optional[str] = ..., direction: _Optional[_Union[_entity_pb2.Direction, str]] = ..., depth: _Optional[int] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class QueryColumnsResponse(_message.Message):
    __slots__ = ("columns", "links")
    class Column(_message.Message):
        __slots__ = ("entity", "column", "depth")
        ENTITY_FIELD_NUMBER: _ClassVar[int]
        COLUMN_FIELD_NUMBER: _ClassVar[int]
        DEPTH_FIELD_NUMBER: _ClassVar[int]
        entity: str
        column: str
        depth: int
        def __init__(self, entity: _Optional[str] = ..., column: _Optional[str] = ..., depth: _Optional[int] = ...) -> None: ...
    class Link(_message.Message):
        __slots__ = ("edge", "destination", "by")
        EDGE_FIELD_NUMBER: _ClassVar[int]
        DESTINATION_FIELD_NUMBER: _ClassVar[int]
        BY_FIELD_NUMBER: _ClassVar[int]
        edge: _entity_pb2.ColumnEdge
        destination: str
        by: str
        def __init__(self, edge: _Optional[_Union[_entity_pb2.ColumnEdge, _Mapping]] = ..., destination: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    columns: _containers.RepeatedCompositeFieldContainer[QueryColumnsResponse.Column]
    links: _containers.RepeatedCompositeFieldContainer[QueryColumnsResponse.Link]
    def __init__(self, columns: _Optional[_Iterable[_Union[QueryColumnsResponse.Column, _Mapping]]] = ..., links: _Optional[_Iterable[_Union[QueryColumnsResponse.Link, _Mapping]]] = ...) -> None: ...

class ListRunsRequest(_message.Message):
    __slots__ = ("entity", "as_of")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entity: str
    as_of: _entity_pb2.AsOf
    def __init__(self, entity: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class ListRunsResponse(_message.Message):
    __slots__ = ("runs",)
    RUNS_FIELD_NUMBER: _ClassVar[int]
    runs: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Run]
    def __init__(self, runs: _Optional[_Iterable[_Union[_entity_pb2.Run, _Mapping]]] = ...) -> None: ...

class EventSummary(_message.Message):
    __slots__ = ("sequence", "time", "actor", "kind", "event_uid", "entities", "associations")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    EVENT_UID_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATIONS_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    actor: str
    kind: str
    event_uid: str
    entities: _containers.RepeatedScalarFieldContainer[str]
    associations: int
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., kind: _Optional[str] = ..., event_uid: _Optional[str] = ..., entities: _Optional[_Iterable[str]] = ..., associations: _Optional[int] = ...) -> None: ...

class ListEventsRequest(_message.Message):
    __slots__ = ("entity", "kinds", "actors", "since", "until", "before", "limit")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    entity: str
    kinds: _containers.RepeatedScalarFieldContainer[str]
    actors: _containers.RepeatedScalarFieldContainer[str]
    since: _timestamp_pb2.Timestamp
    until: _timestamp_pb2.Timestamp
    before: int
    limit: int
    def __init__(self, entity: _Optional[str] = ..., kinds: _Optional[_Iterable[str]] = ..., actors: _Optional[_Iterable[str]] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., until: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., before: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class ListEventsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[EventSummary]
    def __init__(self, events: _Optional[_Iterable[_Union[EventSummary, _Mapping]]] = ...) -> None: ...

class AddTagsRequest(_message.Message):
    __slots__ = ("entity", "tags", "actor")
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    entity: str
    tags: _containers.ScalarMap[str, str]
    actor: str
    def __init__(self, entity: _Optional[str] = ..., tags: _Optional[_Mapping[str, str]] = ..., actor: _Optional[str] = ...) -> None: ...

class AddTagsResponse(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class DeleteTagsRequest(_message.Message):
    __slots__ = ("entity", "keys", "actor")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    entity: str
    keys: _containers.RepeatedScalarFieldContainer[str]
    actor: str
    def __init__(self, entity: _Optional[str] = ..., keys: _Optional[_Iterable[str]] = ..., actor: _Optional[str] = ...) -> None: ...

class DeleteTagsResponse(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class ListTagsRequest(_message.Message):
    __slots__ = ("entity", "as_of")
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    entity: str
    as_of: _entity_pb2.AsOf
    def __init__(self, entity: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class ListTagsResponse(_message.Message):
    __slots__ = ("tags",)
    class TagsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.ScalarMap[str, str]
    def __init__(self, tags: _Optional[_Mapping[str, str]] = ...) -> None: ...

class DescribeGraphRequest(_message.Message):
    __slots__ = ("time",)
    TIME_FIELD_NUMBER: _ClassVar[int]
    time: _timestamp_pb2.Timestamp
    def __init__(self, time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class DescribeGraphResponse(_message.Message):
    __slots__ = ("counts", "sequence")
    class CountsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: int
        def __init__(self, key: _Optional[str] = ..., value: _Optional[int] = ...) -> None: ...
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    counts: _containers.ScalarMap[str, int]
    sequence: int
    def __init__(self, counts: _Optional[_Mapping[str, int]] = ..., sequence: _Optional[int] = ...) -> None: ...
