"""Answers to questions as protobuf messages, and back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from lineage.change import to_json
from lineage.column import ColumnLink, ColumnNode, ColumnResult
from lineage.entity import JSON, Entity
from lineage.questions.ancestors import CommonEntities, CommonEntity
from lineage.questions.cause import Cause, Difference
from lineage.questions.columns import FeatureUse
from lineage.questions.diff import LineageDiff, Outcome
from lineage.questions.events import EventSummary
from lineage.questions.explain import Explanation, Source
from lineage.questions.paths import LineagePath, Paths
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert


def paths_to_message(paths: Paths) -> pb.FindPathsResponse:
    """Paths as a message, each entity once."""
    places: dict[str, int] = {}
    entities: list[Entity] = []
    for entity in (paths.start, paths.end, *(one for path in paths for one in path.entities)):
        if entity.uid not in places:
            places[entity.uid] = len(entities)
            entities.append(entity)
    return pb.FindPathsResponse(
        entities=map(convert.entity_to_message, entities),
        paths=[
            pb.FindPathsResponse.Path(
                entities=[places[entity.uid] for entity in path.entities],
                associations=map(convert.association_to_message, path.associations),
            )
            for path in paths
        ],
        truncated=paths.truncated,
    )


def paths_from_message(message: pb.FindPathsResponse) -> Paths:
    """Paths; the ends are the first entities."""
    entities = _entities(message.entities)
    return Paths(
        entities[0],
        # From an entity to itself it is there once.
        entities[1] if len(entities) > 1 else entities[0],
        tuple(
            LineagePath(
                tuple(entities[place] for place in path.entities),
                tuple(map(convert.association_from_message, path.associations)),
            )
            for path in message.paths
        ),
        message.truncated,
    )


def common_to_message(common: CommonEntities) -> pb.CommonEntitiesResponse:
    """Common ancestors or descendants as a message."""
    return pb.CommonEntitiesResponse(
        of=map(convert.entity_to_message, common.of),
        found=[
            pb.CommonEntitiesResponse.Common(
                entity=convert.entity_to_message(one.entity),
                distances=one.distances,
                is_closest=one.is_closest,
            )
            for one in common
        ],
        truncated=common.truncated,
    )


def common_from_message(message: pb.CommonEntitiesResponse, direction: str) -> CommonEntities:
    """Common ancestors or descendants."""
    return CommonEntities(
        tuple(_entities(message.of)),
        direction,
        tuple(
            CommonEntity(
                convert.entity_from_reply(one.entity), tuple(one.distances), one.is_closest
            )
            for one in message.found
        ),
        message.truncated,
    )


def diff_to_message(diff: LineageDiff) -> pb.DiffLineageResponse:
    """A difference as a message."""
    return pb.DiffLineageResponse(
        a=convert.entity_to_message(diff.a),
        b=convert.entity_to_message(diff.b),
        is_equal=diff.is_equal,
        causes=[
            pb.DiffLineageResponse.Difference(
                cause=each.cause.value,
                name=each.name,
                old_json=to_json(each.old),
                new_json=to_json(each.new),
                a=None if each.a is None else convert.entity_to_message(each.a),
                b=None if each.b is None else convert.entity_to_message(each.b),
                weight=each.weight,
                details=each.details,
                facts_json=to_json(each.facts),
            )
            for each in diff.causes
        ],
        outcomes=[
            pb.DiffLineageResponse.Outcome(
                name=each.name, old_json=to_json(each.old), new_json=to_json(each.new)
            )
            for each in diff.outcomes
        ],
        compared=diff.compared,
    )


def diff_from_message(message: pb.DiffLineageResponse) -> LineageDiff:
    """A difference."""
    return LineageDiff(
        convert.entity_from_reply(message.a),
        convert.entity_from_reply(message.b),
        message.is_equal,
        tuple(
            Difference(
                Cause(each.cause),
                each.name,
                json.loads(each.old_json),
                json.loads(each.new_json),
                convert.entity_from_reply(each.a) if each.HasField("a") else None,
                convert.entity_from_reply(each.b) if each.HasField("b") else None,
                each.weight,
                tuple(each.details),
                json.loads(each.facts_json),
            )
            for each in message.causes
        ),
        tuple(
            Outcome(each.name, json.loads(each.old_json), json.loads(each.new_json))
            for each in message.outcomes
        ),
        message.compared,
    )


def explanation_to_message(account: Explanation) -> pb.ExplainEntityResponse:
    """An account as a message."""
    return pb.ExplainEntityResponse(
        entity=convert.entity_to_message(account.entity),
        jobs=map(convert.entity_to_message, account.jobs),
        data=map(_source_to_message, account.data),
        code=map(_source_to_message, account.code),
        code_words_json=_in_order(account.code_words),
        parameters_json=_in_order(account.parameters),
        environment_json=_in_order(account.environment),
        metrics_json=_in_order(account.metrics),
        features=map(use_to_message, account.features),
        events=map(event_to_message, account.events),
        used_by=account.used_by,
        belongs_to=map(convert.entity_to_message, account.belongs_to),
        tags=account.tags,
    )


def explanation_from_message(message: pb.ExplainEntityResponse) -> Explanation:
    """An account."""
    return Explanation(
        convert.entity_from_reply(message.entity),
        tuple(_entities(message.jobs)),
        tuple(map(_source_from_message, message.data)),
        tuple(map(_source_from_message, message.code)),
        json.loads(message.code_words_json),
        json.loads(message.parameters_json),
        json.loads(message.environment_json),
        json.loads(message.metrics_json),
        tuple(map(use_from_message, message.features)),
        tuple(map(event_from_message, message.events)),
        # A map of the wire has no order: the most first, as it was.
        dict(sorted(message.used_by.items(), key=lambda item: (-item[1], item[0]))),
        tuple(_entities(message.belongs_to)),
        dict(sorted(message.tags.items())),
    )


def use_to_message(use: FeatureUse) -> pb.FeatureUse:
    """A use of a feature as a message."""
    return pb.FeatureUse(
        entity=convert.entity_to_message(use.entity),
        column=use.column,
        input=use.input,
        importance=use.importance,
        user=convert.entity_to_message(use.user),
        depth=use.depth,
    )


def use_from_message(message: pb.FeatureUse) -> FeatureUse:
    """A use of a feature."""
    return FeatureUse(
        convert.entity_from_reply(message.entity),
        message.column,
        message.input,
        message.importance if message.HasField("importance") else None,
        convert.entity_from_reply(message.user),
        message.depth,
    )


def columns_to_message(result: ColumnResult) -> pb.QueryColumnsResponse:
    """A walk from column to column as a message."""
    return pb.QueryColumnsResponse(
        columns=[
            pb.QueryColumnsResponse.Column(entity=node.entity, column=node.column, depth=node.depth)
            for node in result.columns
        ],
        links=[
            pb.QueryColumnsResponse.Link(
                edge=pb.ColumnEdge(
                    source=link.source,
                    source_column=link.source_column,
                    column=link.column,
                    type=link.type,
                    subtype=link.subtype,
                    description=link.description,
                    masking=link.masking,
                    properties_json=to_json(link.properties),
                ),
                destination=link.destination,
                by=link.by,
            )
            for link in result.links
        ],
    )


def columns_from_message(message: pb.QueryColumnsResponse) -> ColumnResult:
    """A walk from column to column."""
    return ColumnResult(
        tuple(ColumnNode(node.entity, node.column, node.depth) for node in message.columns),
        tuple(
            ColumnLink(
                link.edge.source,
                link.edge.source_column,
                link.destination,
                link.edge.column,
                link.by,
                link.edge.type,
                link.edge.subtype,
                link.edge.description,
                link.edge.masking,
                json.loads(link.edge.properties_json),
            )
            for link in message.links
        ),
    )


def event_to_message(event: EventSummary) -> pb.EventSummary:
    """An event as a message."""
    return pb.EventSummary(
        sequence=event.sequence,
        time=convert.timestamp(event.time),
        actor=event.actor,
        kind=event.kind,
        event_uid=event.event_uid,
        entities=event.entities,
        associations=event.associations,
    )


def event_from_message(message: pb.EventSummary) -> EventSummary:
    """An event."""
    return EventSummary(
        message.sequence,
        convert.moment_of(message.time),
        message.actor,
        message.kind,
        message.event_uid,
        tuple(message.entities),
        message.associations,
    )


def _source_to_message(source: Source) -> pb.ExplainEntityResponse.Source:
    return pb.ExplainEntityResponse.Source(
        entity=convert.entity_to_message(source.entity),
        depth=source.depth,
        groups=map(convert.entity_to_message, source.groups),
    )


def _source_from_message(message: pb.ExplainEntityResponse.Source) -> Source:
    return Source(
        convert.entity_from_reply(message.entity), message.depth, tuple(_entities(message.groups))
    )


def _entities(messages: Iterable[pb.Entity]) -> Sequence[Entity]:
    return [convert.entity_from_reply(message) for message in messages]


def _in_order(values: Mapping[str, JSON]) -> str:
    """JSON that keeps the order of names, which says what is nearest."""
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
