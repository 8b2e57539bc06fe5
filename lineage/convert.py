"""Lineage values as protobuf messages, and errors as the metadata of a failed call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp

from lineage import errors
from lineage.association import Association, AssociationType
from lineage.entity import JSON, Entity, Kind, from_us, stored_entity, to_us
from lineage.errors import InvalidEntity, InvalidQuery, LineageError
from lineage.query import Direction
from lineage.trailer import fit_facts
from lineage.v1 import lineage_pb2 as pb

MAX_MESSAGE_BYTES: Final = 64 << 20

ERROR_KEY: Final = "featureline-error"
FACTS_KEY: Final = "featureline-facts-bin"
_FACTS: Final = ("uid", "nearest", "path", "principal", "action", "resource", "statement")

# What a double, the only number of a Struct, holds exactly.
_EXACT: Final = 2**53

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
}
_FROM_DIRECTIONS: Final[dict[int, Direction]] = {
    number: direction for direction, number in _DIRECTIONS.items()
}


def entity_to_message(entity: Entity) -> pb.Entity:
    """An entity as a message.

    A Struct has no integers: those beyond 2^53 become their decimal text.
    """
    properties = Struct()
    properties.update({name: _doubles(value) for name, value in entity.properties.items()})
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
        created=_timestamp(entity.created),
        modified=_timestamp(entity.modified),
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
        properties=_properties(message.properties),
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
        properties=_properties(message.properties),
        created=_time(message.created),
        modified=_time(message.modified),
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


def _timestamp(time: datetime | None) -> Timestamp | None:
    if time is None:
        return None
    timestamp = Timestamp()
    timestamp.FromMicroseconds(to_us(time))
    return timestamp


def _time(timestamp: Timestamp) -> datetime | None:
    time_us = timestamp.ToMicroseconds()
    return from_us(time_us) if time_us else None
