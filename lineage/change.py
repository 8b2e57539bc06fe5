"""What one event says: the draft a caller hands in, and the body that the log keeps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from json.encoder import encode_basestring as _quoted
from typing import Any, TypeAlias, final

from lineage.association import AssociationType
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import (
    JSON,
    KIND_TEXTS,
    End,
    Entity,
    Facet,
    Kind,
    check_storable,
    stored_entity,
    stored_facet,
)
from lineage.errors import InvalidEntity
from lineage.run import Run

MAX_BODY_BYTES = 16 * 1024 * 1024

Link: TypeAlias = tuple[str, str, str]
"""An association as plain values: source uid, destination uid, type."""

# Form 1 has entities and associations alone; an event that needs no more is still written so.
_FORM = 1
_FULL_FORM = 2
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

    Raises:
        InvalidEntity: a uid, tag or alias has a NUL or a lone surrogate.
    """

    kind: str
    actor: str
    event_uid: str
    entities: tuple[Entity, ...]
    associations: tuple[tuple[End, End, AssociationType], ...]
    columns: tuple[ColumnLineage, ...] = ()
    runs: tuple[Run, ...] = ()
    tags: tuple[tuple[End, str, str | None], ...] = ()
    aliases: tuple[tuple[str, End], ...] = ()
    retractions: tuple[tuple[End, End, AssociationType], ...] = ()
    cycles: bool = False

    def __post_init__(self) -> None:
        # Here and not by the store: what it refuses half way would take others with it.
        for links in (self.associations, self.retractions):
            for source, destination, _ in links:
                if isinstance(source, str):
                    check_storable(source, "association: source")
                if isinstance(destination, str):
                    check_storable(destination, "association: destination")
        for said in self.columns:
            check_storable(said.destination, "column lineage: destination")
            for edge in said.edges:
                check_storable(edge.source, "column lineage: source")
        for run in self.runs:
            check_storable(run.entity, f"run {run.uid!r}: entity")
        for end, key, value in self.tags:
            check_storable(end, "tag: entity")
            check_storable(key, "tag: key")
            check_storable(value, f"tag {key!a:.100}")
        for alias, end in self.aliases:
            check_storable(alias, "alias")
            check_storable(end, f"alias {alias!a:.100}")


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

    Ends are uids here.

    Args:
        entities: each with its uid and version, and the state, properties and facets
            that this event gives it. First those that the draft named, in its order.
        associations: source uid, destination uid and type of each, none twice.
        columns: as in the draft.
        runs: as in the draft.
        tags: uid, key and value.
        aliases: another name, and the uid that it stands for.
        retractions: associations that end, none twice.
        checkpoint: sequence and root (in hex) of a checkpoint that somebody made at the event
            before: without it in the store, it was removed.
    """

    entities: tuple[Entity, ...]
    associations: tuple[Link, ...]
    columns: tuple[ColumnLineage, ...] = ()
    runs: tuple[Run, ...] = ()
    tags: tuple[tuple[str, str, str | None], ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    retractions: tuple[Link, ...] = ()
    checkpoint: tuple[int, str] | None = None

    @property
    def touched(self) -> set[str]:
        """The uids of all that it needs to know to be projected."""
        uids = {entity.uid for entity in self.entities}
        for links in (self.associations, self.retractions):
            uids.update(uid for link in links for uid in link[:2])
        for lineage in self.columns:
            uids.add(str(lineage.destination))
            uids.update(str(edge.source) for edge in lineage.edges)
        uids.update(str(run.entity) for run in self.runs)
        uids.update(uid for uid, _, _ in self.tags)
        uids.update(uid for _, uid in self.aliases)
        return uids

    def encode(self) -> bytes:
        """The body of the event in the log.

        Raises:
            InvalidEntity: the body is larger than 16 MiB.
        """
        more: dict[str, JSON] = {
            "columns": [_columns_to_fields(lineage) for lineage in self.columns],
            "runs": [_run_to_fields(run) for run in self.runs],
            "tags": self.tags,
            "aliases": self.aliases,
            "checkpoint": self.checkpoint,
        }
        texts = {name: to_json(values) for name, values in more.items() if values}
        if self.retractions:
            texts["retractions"] = _links_to_json(self.retractions)
        is_full = bool(texts) or any(entity.facets for entity in self.entities)
        texts["form"] = str(_FULL_FORM if is_full else _FORM)
        texts["entities"] = f"[{','.join(map(_entity_text, self.entities))}]"
        texts["associations"] = _links_to_json(self.associations)
        # The text that `to_json` would make of all of it, at half the cost.
        members = ",".join([f'"{name}":{texts[name]}' for name in sorted(texts)])
        body = f"{{{members}}}".encode()
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
        if not isinstance(fields, dict) or fields.get("form") not in (_FORM, _FULL_FORM):
            raise ValueError(f"expected a lineage event of form {_FORM} or {_FULL_FORM}")
        entities = tuple(entity_from_json(entity) for entity in fields["entities"])
        associations = _links(fields["associations"])
        if fields["form"] == _FORM:
            return cls(entities, associations)
        return cls(
            entities,
            associations,
            tuple(_columns_from_fields(columns) for columns in fields.get("columns", ())),
            tuple(_run_from_fields(run) for run in fields.get("runs", ())),
            tuple((uid, key, value) for uid, key, value in fields.get("tags", ())),
            tuple((alias, uid) for alias, uid in fields.get("aliases", ())),
            _links(fields.get("retractions", ())),
            _noted(fields.get("checkpoint")),
        )


def noted_checkpoint(body: bytes) -> tuple[int, str] | None:
    """The checkpoint that the body of an event tells of; see `Change`.

    Cost: next to nothing where there is none.
    """
    if b'"checkpoint":[' not in body:
        return None
    try:
        return Change.decode(body).checkpoint
    except (ValueError, LookupError, TypeError, AttributeError):
        return None  # altered, which others say


def to_json(value: JSON) -> str:
    """Compact JSON with sorted names, the same text for equal values."""
    return _ENCODER.encode(value)


def columns_digest(said: ColumnLineage) -> str:
    """SHA-256 of settled column edges, which orders what was said at the same time."""
    return hashlib.sha256(to_json([edge_to_json(edge) for edge in said.edges]).encode()).hexdigest()


def facets_to_json(facets: Mapping[str, Facet]) -> dict[str, JSON]:
    """Facets as JSON: rank and value by name."""
    return {name: [facet.rank, facet.value] for name, facet in facets.items()}


def facets_from_json(fields: Mapping[str, Any]) -> dict[str, Facet]:
    """The facets back from JSON."""
    return {name: stored_facet(rank, value) for name, (rank, value) in fields.items()}


def edge_to_json(edge: ColumnEdge) -> dict[str, JSON]:
    """A settled edge between columns as JSON, without what is empty."""
    fields: dict[str, JSON] = {
        "source": str(edge.source),
        "source_column": edge.source_column,
        "column": edge.column,
        "type": edge.type,
    }
    if edge.subtype:
        fields["subtype"] = edge.subtype
    if edge.description:
        fields["description"] = edge.description
    if edge.masking:
        fields["masking"] = True
    if edge.properties:
        fields["properties"] = edge.properties
    return fields


def entity_to_json(entity: Entity) -> Mapping[str, JSON]:
    """An entity as JSON, without what is empty and without its times."""
    fields: dict[str, JSON] = {
        "kind": KIND_TEXTS[entity.kind],
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
    if entity.facets:
        fields["facets"] = facets_to_json(entity.facets)
    return fields


def _entity_text(entity: Entity) -> str:
    """The text that `to_json` makes of `entity_to_json`: names in order, put down as they come."""
    parts = []
    if entity.content_hash:
        parts.append(f'"content_hash":{_quoted(entity.content_hash)},')
    if entity.facets:
        parts.append(f'"facets":{to_json(facets_to_json(entity.facets))},')
    parts.append(f'"kind":"{KIND_TEXTS[entity.kind]}","name":{_quoted(entity.name)},')
    if entity.properties:
        parts.append(f'"properties":{to_json(entity.properties)},')
    if entity.source_uri:
        parts.append(f'"source_uri":{_quoted(entity.source_uri)},')
    if entity.state:
        parts.append(f'"state":{_quoted(entity.state)},')
    parts.append(f'"type":{_quoted(entity.type)},"uid":{_quoted(entity.uid)},')
    return f'{{{"".join(parts)}"version":{entity.version:d}}}'


def _links_to_json(links: Iterable[Link]) -> str:
    texts = [f"[{_quoted(one)},{_quoted(other)},{_quoted(link)}]" for one, other, link in links]
    return f"[{','.join(texts)}]"


def entity_from_json(fields: Mapping[str, JSON]) -> Entity:
    """The entity back from JSON.

    Raises:
        ValueError: it is none.
    """
    properties, facets = fields.get("properties", {}), fields.get("facets")
    version = fields["version"]
    if (
        not isinstance(properties, dict)
        or not isinstance(version, int)
        or not isinstance(facets, dict | None)
    ):
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
        facets=facets_from_json(facets) if facets else None,
    )


def _links(links: Sequence[Sequence[str]]) -> tuple[Link, ...]:
    return tuple((source, destination, link) for source, destination, link in links)


def _columns_to_fields(lineage: ColumnLineage) -> JSON:
    return {
        "destination": str(lineage.destination),
        "by": lineage.by,
        "rank": lineage.rank,
        "edges": [edge_to_json(edge) for edge in lineage.edges],
    }


def _columns_from_fields(fields: Mapping[str, Any]) -> ColumnLineage:
    edges = tuple(
        ColumnEdge(
            edge["source"],
            edge["source_column"],
            edge["column"],
            edge["type"],
            edge.get("subtype", ""),
            edge.get("description", ""),
            edge.get("masking", False),
            edge.get("properties", {}),
        )
        for edge in fields["edges"]
    )
    return ColumnLineage(fields["destination"], fields["by"], edges, fields["rank"])


def _run_to_fields(run: Run) -> JSON:
    fields: dict[str, JSON] = {"uid": run.uid, "entity": str(run.entity)}
    if run.state:
        fields["state"] = run.state
    if run.started_us is not None:
        fields["started_us"] = run.started_us
    if run.ended_us is not None:
        fields["ended_us"] = run.ended_us
    if run.properties:
        fields["properties"] = run.properties
    return fields


def _run_from_fields(fields: Mapping[str, Any]) -> Run:
    return Run(
        fields["uid"],
        fields["entity"],
        fields.get("state", ""),
        fields.get("started_us"),
        fields.get("ended_us"),
        fields.get("properties", {}),
    )


def _noted(fields: object) -> tuple[int, str] | None:
    if not isinstance(fields, list) or len(fields) != 2:
        return None
    sequence, root = fields
    return (sequence, root) if isinstance(sequence, int) and isinstance(root, str) else None
