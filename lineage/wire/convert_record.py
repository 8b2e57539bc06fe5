"""Between what is recorded and its protobuf messages: events, batches of them, and refusals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from lineage.association import as_association_type
from lineage.change import Draft, Recorded
from lineage.column import ColumnLineage
from lineage.entity import End, Entity, derived_uid
from lineage.errors import LineageError
from lineage.log import new_uid
from lineage.run import Run
from lineage.v1 import lineage_pb2 as pb
from lineage.wire import convert


def record_to_message(
    entities: Sequence[Entity] = (),
    associations: Sequence[tuple[End, End, str]] = (),
    *,
    kind: str,
    event_uid: str | None = None,
    actor: str | None = None,
    columns: Sequence[ColumnLineage] = (),
    runs: Sequence[Run] = (),
    tags: Sequence[tuple[End, str, str | None]] = (),
    aliases: Sequence[tuple[str, End]] = (),
    retract: Sequence[tuple[End, End, str]] = (),
    cycles: Literal["refuse", "allow"] = "refuse",
) -> pb.RecordRequest:
    """The arguments of `Graph.record` as a message; an end that came from a graph as its uid.

    Raises:
        InvalidAssociation: an unknown type.
    """
    given = {entity.uid or derived_uid(entity) for entity in entities}
    extra: dict[str, Entity] = {}

    def end(value: End) -> str:
        if isinstance(value, str):
            return value
        uid = value.uid or derived_uid(value)
        if uid not in given and value.created is None:
            extra[uid] = value
        return uid

    def linked(links: Sequence[tuple[End, End, str]]) -> list[pb.Association]:
        return [
            pb.Association(
                source=end(source),
                destination=end(destination),
                type=as_association_type(link).value,
            )
            for source, destination, link in links
        ]

    request = pb.RecordRequest(
        # Settled here, so that a call that gRPC sends twice is recorded once.
        event_uid=new_uid() if event_uid is None else event_uid,
        actor=actor or "",
        kind=kind,
        entities=map(convert.entity_to_message, entities),
        associations=linked(associations),
        columns=[convert.columns_to_message(one, end) for one in columns],
        runs=[convert.run_to_message(replace(run, entity=end(run.entity))) for run in runs],
        tags=[pb.Tag(entity=end(one), key=key, value=value) for one, key, value in tags],
        aliases=[pb.Alias(alias=alias, entity=end(one)) for alias, one in aliases],
        retract=linked(retract),
        cycles=cycles == "allow",
    )
    # Last: the ends above have named them.
    request.ends.extend(map(convert.entity_to_message, extra.values()))
    return request


def draft_to_message(draft: Draft) -> pb.RecordRequest:
    """A draft as a message."""
    return record_to_message(
        draft.entities,
        draft.associations,
        kind=draft.kind,
        event_uid=draft.event_uid,
        actor=draft.actor,
        columns=draft.columns,
        runs=draft.runs,
        tags=draft.tags,
        aliases=draft.aliases,
        retract=draft.retractions,
        cycles="allow" if draft.cycles else "refuse",
    )


def record_arguments(request: pb.RecordRequest, *, by: str | None = None) -> dict[str, Any]:
    """The arguments of `Graph.record` that a message stands for.

    Args:
        request: the message.
        by: who records, unless the message says it.

    Raises:
        InvalidEntity, InvalidAssociation: a field is not valid.
    """
    entities = [convert.entity_from_request(message) for message in request.entities]
    # An end may be the uid of an entity of the same request, whose identity the graph
    # may know under another uid.
    ends: dict[str, Entity] = {}
    for entity in (*entities, *map(convert.entity_from_request, request.ends)):
        ends.setdefault(entity.uid or derived_uid(entity), entity)

    def end(uid: str) -> End:
        return ends.get(uid, uid)

    return {
        "entities": entities,
        "associations": [(end(a.source), end(a.destination), a.type) for a in request.associations],
        "kind": request.kind,
        "event_uid": request.event_uid or None,
        "actor": request.actor or by,
        "columns": [convert.columns_from_message(one, end) for one in request.columns],
        "runs": [convert.run_from_message(one, end(one.entity)) for one in request.runs],
        "tags": [
            (end(tag.entity), tag.key, tag.value if tag.HasField("value") else None)
            for tag in request.tags
        ],
        "aliases": [(alias.alias, end(alias.entity)) for alias in request.aliases],
        "retract": [(end(a.source), end(a.destination), a.type) for a in request.retract],
        "cycles": "allow" if request.cycles else "refuse",
    }


def recorded_to_message(recorded: Recorded) -> pb.RecordResponse:
    """What was recorded as a message."""
    return pb.RecordResponse(
        sequence=recorded.sequence,
        entities=map(convert.entity_to_message, recorded.entities),
    )


def recorded_from_message(message: pb.RecordResponse) -> Recorded:
    """What was recorded."""
    return Recorded(message.sequence, tuple(map(convert.entity_from_reply, message.entities)))


def outcome_to_message(outcome: Recorded | LineageError) -> pb.RecordBatchResponse.Outcome:
    """The answer to one event of a batch as a message."""
    if isinstance(outcome, Recorded):
        return pb.RecordBatchResponse.Outcome(recorded=recorded_to_message(outcome))
    said = dict(convert.error_to_metadata(outcome))
    refusal = pb.RecordBatchResponse.Refusal(
        error=str(said[convert.ERROR_KEY]),
        message=str(outcome).encode(errors="backslashreplace").decode(),
        facts_json=bytes(said[convert.FACTS_KEY]),  # type: ignore[arg-type]  # bytes it is
    )
    return pb.RecordBatchResponse.Outcome(refused=refusal)


def outcome_from_message(message: pb.RecordBatchResponse.Outcome) -> Recorded | LineageError:
    """The answer to one event of a batch."""
    if message.WhichOneof("outcome") == "recorded":
        return recorded_from_message(message.recorded)
    refused = message.refused
    said = ((convert.ERROR_KEY, refused.error), (convert.FACTS_KEY, refused.facts_json or "{}"))
    return convert.error_from_metadata(said, refused.message) or LineageError(refused.message)
