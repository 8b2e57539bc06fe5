from lineage.v1 import collect_pb2 as _collect_pb2
from lineage.v1 import entity_pb2 as _entity_pb2
from lineage.v1 import proof_pb2 as _proof_pb2
from lineage.v1 import questions_pb2 as _questions_pb2
from lineage.v1 import subscribe_pb2 as _subscribe_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union
from lineage.v1.collect_pb2 import CollectGarbageRequest as CollectGarbageRequest
from lineage.v1.collect_pb2 import CollectGarbageResponse as CollectGarbageResponse
from lineage.v1.entity_pb2 import Entity as Entity
from lineage.v1.entity_pb2 import Facet as Facet
from lineage.v1.entity_pb2 import Association as Association
from lineage.v1.entity_pb2 import Run as Run
from lineage.v1.entity_pb2 import ColumnEdge as ColumnEdge
from lineage.v1.entity_pb2 import ColumnLineage as ColumnLineage
from lineage.v1.entity_pb2 import Tag as Tag
from lineage.v1.entity_pb2 import Alias as Alias
from lineage.v1.entity_pb2 import EntityFilter as EntityFilter
from lineage.v1.entity_pb2 import AsOf as AsOf
from lineage.v1.entity_pb2 import Kind as Kind
from lineage.v1.entity_pb2 import Direction as Direction
from lineage.v1.proof_pb2 import Checkpoint as Checkpoint
from lineage.v1.proof_pb2 import LogEvent as LogEvent
from lineage.v1.proof_pb2 import MakeCheckpointRequest as MakeCheckpointRequest
from lineage.v1.proof_pb2 import MakeCheckpointResponse as MakeCheckpointResponse
from lineage.v1.proof_pb2 import ListCheckpointsRequest as ListCheckpointsRequest
from lineage.v1.proof_pb2 import ListCheckpointsResponse as ListCheckpointsResponse
from lineage.v1.proof_pb2 import ProveEntityRequest as ProveEntityRequest
from lineage.v1.proof_pb2 import ProveEntityResponse as ProveEntityResponse
from lineage.v1.proof_pb2 import ProveGrowthRequest as ProveGrowthRequest
from lineage.v1.proof_pb2 import ProveGrowthResponse as ProveGrowthResponse
from lineage.v1.questions_pb2 import SearchEntitiesRequest as SearchEntitiesRequest
from lineage.v1.questions_pb2 import SearchEntitiesResponse as SearchEntitiesResponse
from lineage.v1.questions_pb2 import FindPathsRequest as FindPathsRequest
from lineage.v1.questions_pb2 import FindPathsResponse as FindPathsResponse
from lineage.v1.questions_pb2 import CommonEntitiesRequest as CommonEntitiesRequest
from lineage.v1.questions_pb2 import CommonEntitiesResponse as CommonEntitiesResponse
from lineage.v1.questions_pb2 import DiffLineageRequest as DiffLineageRequest
from lineage.v1.questions_pb2 import DiffLineageResponse as DiffLineageResponse
from lineage.v1.questions_pb2 import ExplainEntityRequest as ExplainEntityRequest
from lineage.v1.questions_pb2 import ExplainEntityResponse as ExplainEntityResponse
from lineage.v1.questions_pb2 import FeatureUse as FeatureUse
from lineage.v1.questions_pb2 import ListInputFeaturesRequest as ListInputFeaturesRequest
from lineage.v1.questions_pb2 import ListInputFeaturesResponse as ListInputFeaturesResponse
from lineage.v1.questions_pb2 import ListFeatureUsersRequest as ListFeatureUsersRequest
from lineage.v1.questions_pb2 import ListFeatureUsersResponse as ListFeatureUsersResponse
from lineage.v1.questions_pb2 import QueryColumnsRequest as QueryColumnsRequest
from lineage.v1.questions_pb2 import QueryColumnsResponse as QueryColumnsResponse
from lineage.v1.questions_pb2 import ListRunsRequest as ListRunsRequest
from lineage.v1.questions_pb2 import ListRunsResponse as ListRunsResponse
from lineage.v1.questions_pb2 import EventSummary as EventSummary
from lineage.v1.questions_pb2 import ListEventsRequest as ListEventsRequest
from lineage.v1.questions_pb2 import ListEventsResponse as ListEventsResponse
from lineage.v1.questions_pb2 import AddTagsRequest as AddTagsRequest
from lineage.v1.questions_pb2 import AddTagsResponse as AddTagsResponse
from lineage.v1.questions_pb2 import DeleteTagsRequest as DeleteTagsRequest
from lineage.v1.questions_pb2 import DeleteTagsResponse as DeleteTagsResponse
from lineage.v1.questions_pb2 import ListTagsRequest as ListTagsRequest
from lineage.v1.questions_pb2 import ListTagsResponse as ListTagsResponse
from lineage.v1.questions_pb2 import DescribeGraphRequest as DescribeGraphRequest
from lineage.v1.questions_pb2 import DescribeGraphResponse as DescribeGraphResponse
from lineage.v1.subscribe_pb2 import SubscribeRequest as SubscribeRequest
from lineage.v1.subscribe_pb2 import SubscribeResponse as SubscribeResponse

DESCRIPTOR: _descriptor.FileDescriptor
KIND_UNSPECIFIED: _entity_pb2.Kind
TRIAL_COMPONENT: _entity_pb2.Kind
TRIAL: _entity_pb2.Kind
EXPERIMENT: _entity_pb2.Kind
CONTEXT: _entity_pb2.Kind
ACTION: _entity_pb2.Kind
ARTIFACT: _entity_pb2.Kind
DIRECTION_UNSPECIFIED: _entity_pb2.Direction
ASCENDANTS: _entity_pb2.Direction
DESCENDANTS: _entity_pb2.Direction
BOTH: _entity_pb2.Direction
EITHER: _entity_pb2.Direction

class RecordRequest(_message.Message):
    __slots__ = ("event_uid", "actor", "kind", "entities", "associations", "cycles", "columns", "runs", "tags", "aliases", "retract", "ends")
    EVENT_UID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATIONS_FIELD_NUMBER: _ClassVar[int]
    CYCLES_FIELD_NUMBER: _ClassVar[int]
    COLUMNS_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    RETRACT_FIELD_NUMBER: _ClassVar[int]
    ENDS_FIELD_NUMBER: _ClassVar[int]
    event_uid: str
    actor: str
    kind: str
    entities: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    associations: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Association]
    cycles: bool
    columns: _containers.RepeatedCompositeFieldContainer[_entity_pb2.ColumnLineage]
    runs: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Run]
    tags: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Tag]
    aliases: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Alias]
    retract: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Association]
    ends: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    def __init__(self, event_uid: _Optional[str] = ..., actor: _Optional[str] = ..., kind: _Optional[str] = ..., entities: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., associations: _Optional[_Iterable[_Union[_entity_pb2.Association, _Mapping]]] = ..., cycles: bool = ..., columns: _Optional[_Iterable[_Union[_entity_pb2.ColumnLineage, _Mapping]]] = ..., runs: _Optional[_Iterable[_Union[_entity_pb2.Run, _Mapping]]] = ..., tags: _Optional[_Iterable[_Union[_entity_pb2.Tag, _Mapping]]] = ..., aliases: _Optional[_Iterable[_Union[_entity_pb2.Alias, _Mapping]]] = ..., retract: _Optional[_Iterable[_Union[_entity_pb2.Association, _Mapping]]] = ..., ends: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ...) -> None: ...

class RecordResponse(_message.Message):
    __slots__ = ("sequence", "entities")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    entities: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    def __init__(self, sequence: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ...) -> None: ...

class RecordBatchRequest(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[RecordRequest]
    def __init__(self, events: _Optional[_Iterable[_Union[RecordRequest, _Mapping]]] = ...) -> None: ...

class RecordBatchResponse(_message.Message):
    __slots__ = ("outcomes",)
    class Refusal(_message.Message):
        __slots__ = ("error", "message", "facts_json")
        ERROR_FIELD_NUMBER: _ClassVar[int]
        MESSAGE_FIELD_NUMBER: _ClassVar[int]
        FACTS_JSON_FIELD_NUMBER: _ClassVar[int]
        error: str
        message: str
        facts_json: str
        def __init__(self, error: _Optional[str] = ..., message: _Optional[str] = ..., facts_json: _Optional[str] = ...) -> None: ...
    class Outcome(_message.Message):
        __slots__ = ("recorded", "refused")
        RECORDED_FIELD_NUMBER: _ClassVar[int]
        REFUSED_FIELD_NUMBER: _ClassVar[int]
        recorded: RecordResponse
        refused: RecordBatchResponse.Refusal
        def __init__(self, recorded: _Optional[_Union[RecordResponse, _Mapping]] = ..., refused: _Optional[_Union[RecordBatchResponse.Refusal, _Mapping]] = ...) -> None: ...
    OUTCOMES_FIELD_NUMBER: _ClassVar[int]
    outcomes: _containers.RepeatedCompositeFieldContainer[RecordBatchResponse.Outcome]
    def __init__(self, outcomes: _Optional[_Iterable[_Union[RecordBatchResponse.Outcome, _Mapping]]] = ...) -> None: ...

class DescribeEntityRequest(_message.Message):
    __slots__ = ("uid", "as_of")
    UID_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    uid: str
    as_of: _entity_pb2.AsOf
    def __init__(self, uid: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class DescribeEntityResponse(_message.Message):
    __slots__ = ("entity",)
    ENTITY_FIELD_NUMBER: _ClassVar[int]
    entity: _entity_pb2.Entity
    def __init__(self, entity: _Optional[_Union[_entity_pb2.Entity, _Mapping]] = ...) -> None: ...

class FindEntitiesRequest(_message.Message):
    __slots__ = ("kind", "type", "name", "source_uri", "as_of")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SOURCE_URI_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    kind: _entity_pb2.Kind
    type: str
    name: str
    source_uri: str
    as_of: _entity_pb2.AsOf
    def __init__(self, kind: _Optional[_Union[_entity_pb2.Kind, str]] = ..., type: _Optional[str] = ..., name: _Optional[str] = ..., source_uri: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class FindEntitiesResponse(_message.Message):
    __slots__ = ("entities",)
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    def __init__(self, entities: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ...) -> None: ...

class QueryLineageRequest(_message.Message):
    __slots__ = ("start", "direction", "depth", "types", "kinds", "include_edges", "max_results", "next_token", "filter", "through", "limit", "max_walked", "as_of")
    START_FIELD_NUMBER: _ClassVar[int]
    DIRECTION_FIELD_NUMBER: _ClassVar[int]
    DEPTH_FIELD_NUMBER: _ClassVar[int]
    TYPES_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EDGES_FIELD_NUMBER: _ClassVar[int]
    MAX_RESULTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    THROUGH_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    MAX_WALKED_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    start: str
    direction: _entity_pb2.Direction
    depth: int
    types: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[_entity_pb2.Kind]
    include_edges: bool
    max_results: int
    next_token: str
    filter: _entity_pb2.EntityFilter
    through: _containers.RepeatedScalarFieldContainer[str]
    limit: int
    max_walked: int
    as_of: _entity_pb2.AsOf
    def __init__(self, start: _Optional[str] = ..., direction: _Optional[_Union[_entity_pb2.Direction, str]] = ..., depth: _Optional[int] = ..., types: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[_Union[_entity_pb2.Kind, str]]] = ..., include_edges: bool = ..., max_results: _Optional[int] = ..., next_token: _Optional[str] = ..., filter: _Optional[_Union[_entity_pb2.EntityFilter, _Mapping]] = ..., through: _Optional[_Iterable[str]] = ..., limit: _Optional[int] = ..., max_walked: _Optional[int] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class QueryLineageResponse(_message.Message):
    __slots__ = ("entities", "associations", "next_token", "depths", "matches", "count", "truncated", "start")
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DEPTHS_FIELD_NUMBER: _ClassVar[int]
    MATCHES_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    TRUNCATED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    entities: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Entity]
    associations: _containers.RepeatedCompositeFieldContainer[_entity_pb2.Association]
    next_token: str
    depths: _containers.RepeatedScalarFieldContainer[int]
    matches: _containers.RepeatedScalarFieldContainer[bool]
    count: int
    truncated: bool
    start: str
    def __init__(self, entities: _Optional[_Iterable[_Union[_entity_pb2.Entity, _Mapping]]] = ..., associations: _Optional[_Iterable[_Union[_entity_pb2.Association, _Mapping]]] = ..., next_token: _Optional[str] = ..., depths: _Optional[_Iterable[int]] = ..., matches: _Optional[_Iterable[bool]] = ..., count: _Optional[int] = ..., truncated: bool = ..., start: _Optional[str] = ...) -> None: ...

class VerifyLogRequest(_message.Message):
    __slots__ = ("against", "projections")
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    PROJECTIONS_FIELD_NUMBER: _ClassVar[int]
    against: _containers.RepeatedCompositeFieldContainer[_proof_pb2.Checkpoint]
    projections: bool
    def __init__(self, against: _Optional[_Iterable[_Union[_proof_pb2.Checkpoint, _Mapping]]] = ..., projections: bool = ...) -> None: ...

class VerifyLogResponse(_message.Message):
    __slots__ = ("intact", "events", "first_altered", "reason", "checkpoints")
    INTACT_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    FIRST_ALTERED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_FIELD_NUMBER: _ClassVar[int]
    intact: bool
    events: int
    first_altered: int
    reason: str
    checkpoints: int
    def __init__(self, intact: bool = ..., events: _Optional[int] = ..., first_altered: _Optional[int] = ..., reason: _Optional[str] = ..., checkpoints: _Optional[int] = ...) -> None: ...

class ExportGraphRequest(_message.Message):
    __slots__ = ("format", "as_of")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    format: str
    as_of: _entity_pb2.AsOf
    def __init__(self, format: _Optional[str] = ..., as_of: _Optional[_Union[_entity_pb2.AsOf, _Mapping]] = ...) -> None: ...

class ExportGraphResponse(_message.Message):
    __slots__ = ("file", "content")
    FILE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    file: str
    content: bytes
    def __init__(self, file: _Optional[str] = ..., content: _Optional[bytes] = ...) -> None: ...

class RebuildGraphRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RebuildGraphResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: int
    def __init__(self, events: _Optional[int] = ...) -> None: ...

class ReplaySpoolRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReplaySpoolResponse(_message.Message):
    __slots__ = ("recorded", "refused", "waiting")
    RECORDED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    recorded: int
    refused: int
    waiting: int
    def __init__(self, recorded: _Optional[int] = ..., refused: _Optional[int] = ..., waiting: _Optional[int] = ...) -> None: ...

class ListOpenLineageEventsRequest(_message.Message):
    __slots__ = ("after", "namespace", "producer", "limit")
    AFTER_FIELD_NUMBER: _ClassVar[int]
    NAMESPACE_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    after: int
    namespace: str
    producer: str
    limit: int
    def __init__(self, after: _Optional[int] = ..., namespace: _Optional[str] = ..., producer: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class ListOpenLineageEventsResponse(_message.Message):
    __slots__ = ("told", "last")
    class Told(_message.Message):
        __slots__ = ("sequence", "events")
        SEQUENCE_FIELD_NUMBER: _ClassVar[int]
        EVENTS_FIELD_NUMBER: _ClassVar[int]
        sequence: int
        events: _containers.RepeatedScalarFieldContainer[bytes]
        def __init__(self, sequence: _Optional[int] = ..., events: _Optional[_Iterable[bytes]] = ...) -> None: ...
    TOLD_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    told: _containers.RepeatedCompositeFieldContainer[ListOpenLineageEventsResponse.Told]
    last: int
    def __init__(self, told: _Optional[_Iterable[_Union[ListOpenLineageEventsResponse.Told, _Mapping]]] = ..., last: _Optional[int] = ...) -> None: ...
