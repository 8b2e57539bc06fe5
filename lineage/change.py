"""What one event says: the draft a caller hands in, and the body that the log keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

from lineage.association import AssociationType
from lineage.entity import JSON, Entity, Kind, stored_entity
from lineage.errors import InvalidEntity

MAX_BODY_BYTES = 16 * 1024 * 1024

End: TypeAlias = Entity | str
"""An end of an association: an entity, or the uid of one that exists."""

Link: TypeAlias = tuple[str, str, str]
"""An association as plain values: source uid, destination uid, type."""

_FORM = 1
_ENCODER = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)


@final
@dataclass(frozen=True)
class Draft:
    """An event that is checked by itself, but not yet against the graph.

    Args:
        kind: what happened, such as `JobCompleted`.
        actor: who records it.
        event_uid: names the event; recorded once however often it is handed in.
        entities: to add or to merge into what is there.
        associations: (source, destination, type); an end that is an entity the graph
            does not know is recorded with the event.
    """

    kind: str
    actor: str
    event_uid: str
    entities: tuple[Entity, ...]
    associations: tuple[tuple[End, End, AssociationType], ...]


@final
@dataclass(frozen=True)
class Recorded:
    """The answer to a recorded event.

    Args:
        sequence: the event's place in the log.
        entities: as stored, with uid and version, in the order they were given.
    """

    sequence: int
    entities: tuple[Entity, ...]


@final
@dataclass(frozen=True)
class Change:
    """What an event adds to the graph, complete: no store is needed to read it.

    Args:
        entities: each with its uid and version, and the state and properties that
            this event gives it. First those that the draft named, in its order.
        associations: source uid, destination uid and type of each, none twice.
    """

    entities: tuple[Entity, ...]
    associations: tuple[Link, ...]

    def encode(self) -> bytes:
        """The body of the event in the log.

        Raises:
            InvalidEntity: the body is larger than 16 MiB.
        """
        body = to_json(
            {
                "form": _FORM,
                "entities": [_to_fields(entity) for entity in self.entities],
                "associations": self.associations,
            }
        ).encode()
        if len(body) > MAX_BODY_BYTES:
            raise InvalidEntity(
                f"event with {len(self.entities)} entities: expected at most {MAX_BODY_BYTES} "
                f"bytes, got {len(body)}; keep large values in files and record their digests"
            )
        return body

    @classmethod
    def decode(cls, body: bytes) -> Change:
        """Read a body back.

        Raises:
            ValueError: these are not the bytes of a body.
        """
        fields = json.loads(body)
        if not isinstance(fields, dict) or fields.get("form") != _FORM:
            raise ValueError(f"expected a lineage event of form {_FORM}")
        links = fields["associations"]
        return cls(
            tuple(_from_fields(entity) for entity in fields["entities"]),
            tuple((source, destination, link) for source, destination, link in links),
        )


def to_json(value: JSON) -> str:
    """Compact JSON with sorted names, the same text for equal values."""
    return _ENCODER.encode(value)


def _to_fields(entity: Entity) -> Mapping[str, JSON]:
    fields: dict[str, JSON] = {
        "kind": entity.kind.value,
        "type": entity.type,
        "name": entity.name,
        "uid": entity.uid,
        "version": entity.version,
    }
    if entity.source_uri:
        fields["source_uri"] = entity.source_uri
    if entity.content_hash:
        fields["content_hash"] = entity.content_hash
    if entity.state:
        fields["state"] = entity.state
    if entity.properties:
        fields["properties"] = entity.properties
    return fields


def _from_fields(fields: Mapping[str, JSON]) -> Entity:
    properties = fields.get("properties", {})
    version = fields["version"]
    if not isinstance(properties, dict) or not isinstance(version, int):
        raise ValueError(f"expected an entity, got {fields!r}")
    return stored_entity(
        kind=Kind(str(fields["kind"])),
        type=str(fields["type"]),
        name=str(fields["name"]),
        uid=str(fields["uid"]),
        source_uri=str(fields.get("source_uri", "")),
        content_hash=str(fields.get("content_hash", "")),
        version=version,
        state=str(fields.get("state", "")),
        properties=properties,
        created=None,
        modified=None,
    )
