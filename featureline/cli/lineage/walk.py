"""`featureline lineage query` and `show`: what something comes from, and what it reaches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.options import walk_options
from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from lineage import Entity, LineageResult

__all__ = ["answer", "query", "result_json", "show"]


@click.command()
@walk_options
@click.option("--edges", is_flag=True, help="List the associations too; --json always does.")
@common_options
def query(
    start: str,
    options: dict[str, Any],
    edges: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """List what START comes from, or what it reaches, nearest first."""
    result = answer(start, options, home, connect)
    lines = [_line(entity, result.depths[entity.uid]) for entity in result.entities]
    if result.truncated:
        lines.append("… there is more")
    if edges:
        names = {each.uid: each.name for each in (*result.entities, *result.path_entities)}
        lines += ["", "associations"] + [
            f"  {names.get(edge.source, edge.source)} ─{edge.type}→ "
            f"{names.get(edge.destination, edge.destination)}"
            for edge in result.associations
        ]
    emit(result_json(result), as_json=as_json, text="\n".join(lines) or "nothing")


@click.command()
@walk_options
@common_options
def show(
    start: str,
    options: dict[str, Any],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Draw the graph around START in the terminal."""
    result = answer(start, options, home, connect)
    emit(result_json(result), as_json=as_json, text=result.to_tree())


def answer(
    start: str, options: dict[str, Any], home: Path | None, connect: str | None
) -> LineageResult:
    """Ask the graph, with what `walk_options` gave.

    Raises:
        EntityNotFound: nothing is called START.
        UsageError: several things are.
    """
    with open_any(home, connect) as store:
        graph = store.graph
        result: LineageResult = graph.query(find_start(graph, start), **options)
        _ = result.entities  # read while the graph is open
        return result


def result_json(result: LineageResult) -> dict[str, Any]:
    """Give an answer as plain values."""
    return {
        "entities": [
            {
                "uid": entity.uid,
                "kind": entity.kind.value,
                "type": entity.type,
                "name": entity.name,
                "version": entity.version,
                "state": entity.state,
                "source_uri": entity.source_uri,
                "content_hash": entity.content_hash,
                "depth": result.depths[entity.uid],
                "properties": entity.properties,
            }
            for entity in result.entities
        ],
        "associations": [
            {"source": edge.source, "destination": edge.destination, "type": edge.type.value}
            for edge in result.associations
        ],
        "truncated": result.truncated,
    }


def _line(entity: Entity, depth: int) -> str:
    state = f" ({entity.state})" if entity.state else ""
    return f"{depth:>3}  {entity.type:<22} {entity.name}{state}"
