"""`featureline lineage`: questions to the lineage graph."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Any

import click

import lineage
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from lineage import Entity, LineageResult

__all__ = ["find_start", "lineage_commands"]


@click.group(name="lineage")
def lineage_commands() -> None:
    """Ask where something comes from and what it reaches.

    START is an entity's uid, its name, a feature group, a training job, the digest of a model or
    the fingerprint of a dataset.
    """


def _walk_options(command: Any) -> Any:
    for option in reversed(
        (
            click.argument("start"),
            click.option(
                "--direction",
                type=click.Choice(["ascendants", "descendants", "both"]),
                default="both",
                show_default=True,
                help="What it comes from, what it reaches, or both.",
            ),
            click.option("--depth", type=click.IntRange(min=1), help="Associations from START."),
            click.option("--type", "types", multiple=True, help="Return only these types."),
        )
    ):
        command = option(command)
    return command


@lineage_commands.command()
@_walk_options
@common_options
def query(
    start: str,
    direction: str,
    depth: int | None,
    types: tuple[str, ...],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """List what START comes from, or what it reaches, nearest first."""
    result = _query(start, direction, depth, types, home, connect)
    lines = [
        f"{result.depths[entity.uid]:>3}  {entity.type:<22} {entity.name}"
        f"{f' ({entity.state})' if entity.state else ''}"
        for entity in result.entities
    ]
    emit(_to_json(result), as_json=as_json, text="\n".join(lines) or "nothing")


@lineage_commands.command()
@_walk_options
@common_options
def show(
    start: str,
    direction: str,
    depth: int | None,
    types: tuple[str, ...],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Draw the graph around START in the terminal."""
    result = _query(start, direction, depth, types, home, connect)
    emit(_to_json(result), as_json=as_json, text=result.to_tree())


@lineage_commands.command()
@common_options
def verify(home: Path | None, connect: str | None, as_json: bool) -> None:
    """Check the hash chain of the log; exit code 1 and the first altered event when broken."""
    with open_any(home, connect) as store:
        report = store.graph.verify()
    body = {
        "intact": report.intact,
        "events": report.events,
        "first_altered": report.first_altered,
        "reason": report.reason,
    }
    text = (
        f"intact: {report.events:,} events, the hash chain is unbroken"
        if report.intact
        else f"ALTERED: event {report.first_altered}: {report.reason}"
    )
    emit(body, as_json=as_json, text=text)
    if not report.intact:
        sys.exit(1)


def find_start(graph: Any, start: str) -> Entity:
    """Find the entity that a person means.

    Raises:
        EntityNotFound: nothing fits; with the nearest uid.
        UsageError: several fit.
    """
    try:
        found: Entity = graph.entity(start)
    except lineage.EntityNotFound as missing:
        # Latest versions first: a name stands for its newest version.
        for candidate in (
            lineage.context("FeatureGroup", start),
            lineage.trial_component("TrainingJob", f"{start}-aws-training-job"),
            lineage.artifact("DataSet", f"dataset:{start}", content_hash=start),
        ):
            with contextlib.suppress(lineage.EntityNotFound):
                entity: Entity = graph.entity(lineage.derived_uid(candidate))
                return entity
        named: list[Entity] = graph.find(name=start) or [
            entity for entity in graph.find(type="Model") if entity.content_hash == start
        ]
        if not named:
            raise missing from None
        return max(named, key=lambda entity: entity.version)
    return found


def _query(
    start: str,
    direction: str,
    depth: int | None,
    types: tuple[str, ...],
    home: Path | None,
    connect: str | None,
) -> LineageResult:
    with open_any(home, connect) as store:
        graph = store.graph
        entity = find_start(graph, start)
        result: LineageResult = graph.query(
            entity, direction, depth=depth, types=list(types) or None
        )
        return result


def _to_json(result: LineageResult) -> dict[str, Any]:
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
    }
