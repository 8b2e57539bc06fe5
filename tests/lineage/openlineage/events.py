"""Events of OpenLineage for tests, and what a graph holds of them whatever order they came in."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any

import lineage
from lineage import Graph, MemoryStore
from lineage.change import facets_to_json, to_json
from lineage.openlineage import record_event

FACET = {"_producer": "https://example.org/job", "_schemaURL": "https://example.org/facet.json"}
SCHEMA = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
RUN_A = "01890a5d-ac96-774b-bcce-b302099a8057"
RUN_B = "01890a5d-ac96-774b-bcce-b302099a8058"
RUN_C = "01890a5d-ac96-774b-bcce-b302099a8059"


def facet(**fields: Any) -> dict[str, Any]:
    """A facet with what every facet carries."""
    return {**FACET, **fields}


def dataset(name: str, namespace: str = "s3://bucket", **parts: Any) -> dict[str, Any]:
    """A dataset; `facets`, `inputFacets` and `outputFacets` as they are."""
    return {"namespace": namespace, "name": name, **parts}


def run_event(
    state: str | None, minute: int = 0, run: str = RUN_A, job: str = "load", **parts: Any
) -> dict[str, Any]:
    """A run event that the schema allows.

    Args:
        state: its eventType.
        minute: of its time.
        run: id of the run.
        job: name of the job.
        parts: `inputs`, `outputs`, `run_facets`, `job_facets`, or any other field.
    """
    run_facets, job_facets = parts.pop("run_facets", None), parts.pop("job_facets", None)
    event: dict[str, Any] = {
        "eventType": state,
        "eventTime": f"2026-01-31T12:{minute:02}:00.000Z",
        "producer": "https://example.org/job",
        "schemaURL": f"{SCHEMA}RunEvent",
        "run": {"runId": run} | ({"facets": run_facets} if run_facets else {}),
        "job": {"namespace": "airflow", "name": job}
        | ({"facets": job_facets} if job_facets else {}),
        **parts,
    }
    return {name: value for name, value in event.items() if value is not None}


def graph_of(events: Iterable[Mapping[str, Any]]) -> Graph:
    """A graph in memory with these events."""
    graph = Graph(MemoryStore())
    for event in events:
        record_event(graph, event, actor="tester")
    return graph


def content(graph: Graph) -> Mapping[str, Any]:
    """All that a graph holds, without when and in what order it was recorded."""
    entities = graph.find()
    links = set()
    columns = set()
    for entity in entities:
        found = graph.query(entity, "both", depth=1)
        links |= {(a.source, a.destination, a.type.value) for a in found.associations}
        for link in graph.columns(entity, direction="either", depth=1).links:
            columns.add(to_json({**vars(link), "properties": dict(link.properties)}))
    aliases = {}
    for entity in entities:
        for name in (entity.source_uri, entity.name):
            with contextlib.suppress(lineage.EntityNotFound):
                aliases[name] = graph.entity(name).uid
    return {
        "entities": {
            entity.uid: (
                entity.kind.value,
                entity.type,
                entity.name,
                entity.source_uri,
                entity.version,
                entity.state,
                to_json(entity.properties),
                to_json(facets_to_json(entity.facets)),
            )
            for entity in entities
        },
        "associations": sorted(links),
        "columns": sorted(columns),
        "aliases": aliases,
    }
