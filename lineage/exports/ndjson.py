"""NDJSON: one entity, association or other fact a line, without loss."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import TextIO

from lineage.change import edge_to_json, facets_to_json, to_json
from lineage.entity import JSON, Entity, to_us
from lineage.exports.part import Part

FORM = 1
"""Of the lines; a reader refuses what it does not know."""


def write_ndjson(part: Part, out: TextIO) -> None:
    """A header, then entities, associations, columns, runs, tags and aliases.

    `lineage.imports.import_ndjson` records them in another graph.
    """
    _line(out, "header", {"format": "featureline.lineage", "form": FORM, "sequence": part.sequence})
    for entity in part.entities():
        _line(out, "entity", entity_fields(entity))
    for source, destination, link in part.ties():
        ends = {"source": source.uid, "destination": destination.uid}
        _line(out, "association", {**ends, "type": link.value})
    for said in part.columns():
        fields: dict[str, JSON] = {
            "destination": str(said.destination),
            "by": said.by,
            "rank": said.rank,
            "edges": [edge_to_json(edge) for edge in said.edges],
        }
        _line(out, "columns", fields)
    for run in part.runs():
        fields = {"uid": run.uid, "entity": str(run.entity), "state": run.state}
        times = {"started_us": run.started_us, "ended_us": run.ended_us}
        fields |= {name: time for name, time in times.items() if time is not None}
        _line(out, "run", {**fields, "properties": run.properties})
    for uid, key, value in part.tags():
        _line(out, "tag", {"entity": uid, "key": key, "value": value})
    for alias, uid in part.aliases():
        _line(out, "alias", {"alias": alias, "entity": uid})


def entity_fields(entity: Entity) -> dict[str, JSON]:
    """The fields of an entity that are not empty; times as UTC microseconds."""
    fields: dict[str, JSON] = {
        "uid": entity.uid,
        "kind": entity.kind.value,
        "type": entity.type,
        "name": entity.name,
        "version": entity.version,
    }
    for name in ("source_uri", "content_hash", "state", "properties"):
        if value := getattr(entity, name):
            fields[name] = value
    if entity.facets:
        fields["facets"] = facets_to_json(entity.facets)
    if entity.created:
        fields["created_us"] = to_us(entity.created)
    if entity.modified:
        fields["modified_us"] = to_us(entity.modified)
    return fields


def ndjson_schema() -> str:
    """The JSON Schema (2020-12) of a line."""
    return files("lineage.exports").joinpath("ndjson.schema.json").read_text("utf-8")


def _line(out: TextIO, what: str, fields: Mapping[str, JSON]) -> None:
    out.write(f"{to_json({'is': what, **fields})}\n")
