"""Lineage values as protobuf messages, and errors as the metadata of a failed call."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from lineage import errors
from lineage.association import Association, AssociationType
from lineage.change import to_json
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import (
    JSON,
    End,
    Entity,
    Facet,
    Kind,
    from_us,
    stored_entity,
    stored_facet,
    to_us,
)
from lineage.errors import InvalidEntity, InvalidQuery, LineageError
from lineage.filter import Filter
from lineage.query import Direction, check_as_of
from lineage.run import Run
from lineage.v1 import lineage_pb2 as pb
from lineage.wire.trailer import fit_facts

MAX_MESSAGE_BYTES: Final = 64 << 20

ERROR_KEY: Final = "featureline-error"
FACTS_KEY: Final = "featureline-facts-bin"
_FACTS: Final = ("uid", "nearest", "path", "principal", "action", "resource", "statement")

# What a double, the only number of a Struct, holds exactly.
_EXACT: Final = 2**53

MAX_SEQUENCE: Final = 2**63 - 1
_MAX_COUNT: Final = 2**31 - 1
_TIMES: Final = ("created_after", "created_before", "modified_after", "modified_before")

_KINDS: Final = {
    Kind.TRIAL_COMPONENT: pb.TRIAL_COMPONENT,
    Kind.TRIAL: pb.TRIAL,
    Kind.EXPERIMENT: pb.EXPERIMENT,
    Kind.CONTEXT: pb.CONTEXT,
    Kind.ACTION: pb.ACTION,
    Kind.ARTIFACT: pb.ARTIFACT,
}
_FROM_KINDS: Final[dict[int, Kind]] = {number: kind for kind, number in _KINDS.items()}
_DIRECTIONS: Final = {
    Direction.ASCENDANTS: pb.ASCENDANTS,
    Direction.DESCENDANTS: pb.DESCENDANTS,
    Direction.BOTH: pb.BOTH,
    Direction.EITHER: pb.EITHER,
}
_FROM_DIRECTIONS: Final[dict[int, Direction]] = {
    number: direction for direction, number in _DIRECTIONS.items()
}


def entity_to_message(entity: Entity) -> pb.Entity:
    """An entity as a message.

    A Struct has no integers: those beyond 2^53 become their decimal text there, and the
    properties are sent as JSON too.
    """
    properties = Struct()
    properties.update({name: _doubles(value) for name, value in entity.properties.items()})
    is_exact = all(map(_is_exact, entity.properties.values()))
    return pb.Entity(
        uid=entity.uid,
        kind=_KINDS[entity.kind],
        type=entity.type,
        name=entity.name,
        source_uri=entity.source_uri,
        content_hash=entity.content_hash,
        version=entity.version,
        state=entity.state,
        properties=properties,
        created=timestamp(entity.created),
        modified=timestamp(entity.modified),
        properties_json="" if is_exact else to_json(entity.properties),
        facets={
            name: pb.Facet(rank=facet.rank, value_json=to_json(facet.value))
            for name, facet in entity.facets.items()
        },
    )


def entity_from_request(message: pb.Entity) -> Entity:
    """An entity to record, checked.

    Raises:
        InvalidEntity: a field is not valid.
    """
    return Entity(
        kind_from_message(message.kind),
        message.type,
        message.name,
        uid=message.uid,
        source_uri=message.source_uri,
        content_hash=message.content_hash,
        version=message.version or 1,
        state=message.state,
        properties=_properties_of(message),
        facets={
            name: Facet(facet.rank, read_json(facet.value_json, f"facet {name!r}"))
            for name, facet in message.facets.items()
        },
    )


def entity_from_reply(message: pb.Entity) -> Entity:
    """A stored entity."""
    return stored_entity(
        kind=kind_from_message(message.kind),
        type=message.type,
        name=message.name,
        uid=message.uid,
        source_uri=message.source_uri,
        content_hash=message.content_hash,
        version=message.version,
        state=message.state,
        properties=_properties_of(message),
        created=time_of(message.created),
        modified=time_of(message.modified),
        facets={
            name: stored_facet(facet.rank, json.loads(facet.value_json))
            for name, facet in message.facets.items()
        },
    )


def association_to_message(association: Association) -> pb.Association:
    """An association as a message."""
    return pb.Association(
        source=association.source,
        destination=association.destination,
        type=association.type.value,
    )


def association_from_message(message: pb.Association) -> Association:
    """An association, checked."""
    return Association(message.source, message.destination, AssociationType(message.type))


def kind_to_message(kind: Kind) -> pb.Kind:
    """A kind as its number."""
    return _KINDS[kind]


def kind_from_message(number: int) -> Kind:
    """A kind.

    Raises:
        InvalidEntity: it was not given, or there is no such number.
    """
    try:
        return _FROM_KINDS[number]
    except KeyError:
        names = ", ".join(pb.Kind.keys()[1:])
        raise InvalidEntity(f"kind: expected one of {names}; got number {number}") from None


def direction_to_message(direction: Direction) -> pb.Direction:
    """A direction as its number."""
    return _DIRECTIONS[direction]


def direction_from_message(number: int) -> Direction:
    """A direction.

    Raises:
        InvalidQuery: it was not given, or there is no such number.
    """
    try:
        return _FROM_DIRECTIONS[number]
    except KeyError:
        names = ", ".join(pb.Direction.keys()[1:])
        raise InvalidQuery(f"direction: expected one of {names}; got number {number}") from None


def timestamp(time: datetime | None) -> Timestamp | None:
    """A time as a message; None stays unset."""
    if time is None:
        return None
    message = Timestamp()
    message.FromMicroseconds(to_us(time))
    return message


def time_of(message: Timestamp) -> datetime | None:
    """A time from a message; None when it was not set.

    Raises:
        InvalidQuery: it is out of range.
    """
    return moment_of(message) if message.seconds or message.nanos else None


def moment_of(message: Timestamp) -> datetime:
    """A time from a message that was set.

    Raises:
        InvalidQuery: it is out of range.
    """
    if not 0 <= message.nanos < 1_000_000_000:
        raise InvalidQuery(f"time: expected 0 to 999,999,999 nanoseconds, got {message.nanos}")
    try:
        return from_us(message.seconds * 1_000_000 + message.nanos // 1_000)
    except OverflowError as error:
        raise InvalidQuery(
            f"time: expected one in the years 1 to 9999, got {message.seconds} seconds since 1970"
        ) from error


def as_of_to_message(as_of: int | datetime | None) -> pb.AsOf | None:
    """A point in the history of the graph as a message.

    Raises:
        InvalidQuery: it is none.
    """
    check_as_of(as_of)
    if as_of is None:
        return None
    if isinstance(as_of, datetime):
        return pb.AsOf(time=timestamp(as_of))
    if as_of > MAX_SEQUENCE:
        raise InvalidQuery(f"as_of: expected a sequence of at most 2^63 - 1, got {as_of}")
    return pb.AsOf(sequence=as_of)


def as_of_from_message(message: pb.AsOf) -> int | datetime | None:
    """A point in the history of the graph; None when it was not given."""
    match message.WhichOneof("moment"):
        case "sequence":
            return message.sequence
        case "time":
            return moment_of(message.time)
        case _:
            return None


def count_to_message(count: int | None) -> int | None:
    """A limit as a message: what is more than it can say is as good as all it can say."""
    return None if count is None else min(count, _MAX_COUNT)


def filter_to_message(wanted: Filter) -> pb.EntityFilter:
    """A filter as a message."""
    message = pb.EntityFilter(
        kinds=sorted(_KINDS[kind] for kind in wanted.kinds),
        types=sorted(wanted.types),
        states=sorted(wanted.states),
        uris=sorted(wanted.uris),
        properties_json=to_json(wanted.properties) if wanted.properties else "",
    )
    for name in _TIMES:
        limit_us = getattr(wanted, name)
        if limit_us is not None:
            getattr(message, name).FromMicroseconds(limit_us)
    return message


def filter_arguments(message: pb.EntityFilter) -> dict[str, Any]:
    """The arguments of `Graph.query` that a filter stands for.

    Raises:
        InvalidEntity: an unknown kind.
        InvalidQuery: the properties are no JSON object.
    """
    found: dict[str, Any] = {
        "kinds": [kind_from_message(kind) for kind in message.kinds],
        "types": list(message.types),
        "states": list(message.states),
        "uris": list(message.uris),
    }
    if message.properties_json:
        try:
            found["properties"] = read_object(message.properties_json, "filter: properties")
        except InvalidEntity as error:
            raise InvalidQuery(str(error)) from error
    for name in _TIMES:
        if message.HasField(name):
            found[name] = moment_of(getattr(message, name))
    return found


def run_to_message(run: Run) -> pb.Run:
    """An execution of a job as a message; its job is a uid by now."""
    return pb.Run(
        uid=run.uid,
        entity=str(run.entity),
        state=run.state,
        started_us=run.started_us,
        ended_us=run.ended_us,
        properties_json=to_json(run.properties) if run.properties else "",
    )


def run_from_message(message: pb.Run, entity: End | None = None) -> Run:
    """An execution of a job, checked.

    Args:
        message: of it.
        entity: the job, when it is more than a uid.

    Raises:
        InvalidEntity: a field is not valid.
    """
    return Run(
        message.uid,
        message.entity if entity is None else entity,
        message.state,
        message.started_us if message.HasField("started_us") else None,
        message.ended_us if message.HasField("ended_us") else None,
        read_object(message.properties_json or "{}", f"run {message.uid!r}: properties"),
    )


def columns_to_message(lineage: ColumnLineage, uid: Callable[[End], str]) -> pb.ColumnLineage:
    """Column lineage as a message.

    Args:
        lineage: what.
        uid: gives the uid of an end.
    """
    return pb.ColumnLineage(
        destination=uid(lineage.destination),
        by=lineage.by,
        rank=lineage.rank,
        edges=[
            pb.ColumnEdge(
                source=uid(edge.source),
                source_column=edge.source_column,
                column=edge.column,
                type=edge.type,
                subtype=edge.subtype,
                description=edge.description,
                masking=edge.masking,
                properties_json=to_json(edge.properties) if edge.properties else "",
            )
            for edge in lineage.edges
        ],
    )


def columns_from_message(message: pb.ColumnLineage, end: Callable[[str], End]) -> ColumnLineage:
    """Column lineage, checked.

    Args:
        message: of it.
        end: gives what a uid stands for.

    Raises:
        InvalidAssociation: a field is not valid.
        InvalidEntity: a property is not JSON.
    """
    return ColumnLineage(
        end(message.destination),
        message.by,
        tuple(
            ColumnEdge(
                end(edge.source),
                edge.source_column,
                edge.column,
                edge.type,
                edge.subtype,
                edge.description,
                edge.masking,
                read_object(edge.properties_json or "{}", f"column {edge.column!r}: properties"),
            )
            for edge in message.edges
        ),
        message.rank,
    )


def read_json(text: str, where: str) -> JSON:
    """A JSON value that came over the network.

    Raises:
        InvalidEntity: it is none.
    """
    try:
        value: JSON = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidEntity(f"{where}: expected JSON: {error}") from error
    return value


def read_object(text: str, where: str) -> dict[str, JSON]:
    """A JSON object that came over the network.

    Raises:
        InvalidEntity: it is none.
    """
    value = read_json(text, where)
    if not isinstance(value, dict):
        raise InvalidEntity(f"{where}: expected a JSON object, got {type(value).__name__}")
    return value


def error_to_metadata(error: LineageError) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata from which `error_from_metadata` makes the same error."""
    facts = {name: value for name, value in vars(error).items() if name in _FACTS}
    # A store may refine an error; a client knows those of `lineage.errors`.
    name = next(
        kind.__name__ for kind in type(error).__mro__ if vars(errors).get(kind.__name__) is kind
    )
    return (ERROR_KEY, name), (FACTS_KEY, fit_facts(facts))


def error_from_metadata(
    metadata: Sequence[tuple[str, str | bytes]], message: str
) -> LineageError | None:
    """The error that a server of this package met, or None if it was another failure."""
    values = dict(metadata)
    kind = getattr(errors, str(values.get(ERROR_KEY)), None)
    if not (isinstance(kind, type) and issubclass(kind, LineageError)):
        return None
    # Its own constructor makes the text from the facts; here the text is there already.
    error = kind.__new__(kind)
    error.args = (message,)
    facts = json.loads(values.get(FACTS_KEY, b"{}"))
    vars(error).update({name: value for name, value in facts.items() if name in _FACTS})
    return error


def _doubles(value: JSON) -> JSON:
    """The value as a Struct can hold it without rounding."""
    if isinstance(value, Mapping):
        return {name: _doubles(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_doubles(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > _EXACT:
        return str(value)
    return value


def _is_exact(value: JSON) -> bool:
    """Whether a Struct gives the value back as it is: a whole float would become an integer."""
    if isinstance(value, Mapping):
        return all(map(_is_exact, value.values()))
    if isinstance(value, list):
        return all(map(_is_exact, value))
    if isinstance(value, float):
        return not value.is_integer()
    return isinstance(value, bool) or not isinstance(value, int) or abs(value) <= _EXACT


def _properties_of(message: pb.Entity) -> dict[str, JSON]:
    """The properties, from what has them exactly."""
    if message.properties_json:
        return read_object(message.properties_json, f"{message.type} {message.name!r}: properties")
    return _properties(message.properties)


def _properties(struct: Struct) -> dict[str, JSON]:
    """The properties, with whole numbers as int."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def _plain(value: Value) -> JSON:
    match value.WhichOneof("kind"):
        case "struct_value":
            return _properties(value.struct_value)
        case "list_value":
            return [_plain(item) for item in value.list_value.values]
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) <= _EXACT else number
        case _:
            return None
