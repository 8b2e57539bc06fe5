"""`featureline lineage find` and `runs`: entities by what they are, and executions of a job."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.listing import listing
from featureline.cli.lineage.options import as_of_option, filter_options, limit_option
from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from lineage import Entity
from lineage.entity import from_us

__all__ = ["find", "runs"]


@click.command()
@click.argument("name", required=False)
@filter_options
@click.option("--source-uri", help="Only what is at this uri.")
@click.option("--digest", help="Only artifacts whose content hash begins like this.")
@click.option("--tag", "tags", multiple=True, metavar="KEY[=VALUE]", help="Only what has all.")
@limit_option("List at most so many, newest first.", default=100)
@as_of_option
@common_options
def find(
    name: str | None,
    wanted: dict[str, Any],
    source_uri: str | None,
    digest: str | None,
    tags: tuple[str, ...],
    limit: int,
    as_of: Any,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """List entities by name, type, property or tag, newest first; exit code 1 for none."""
    with open_any(home, connect) as store:
        found: list[Entity] = store.graph.search(
            name=name,
            source_uri=source_uri,
            content_hash=digest,
            tags=dict(_tag(text) for text in tags),
            limit=limit,
            as_of=as_of,
            **wanted,
        )
    rows = [
        {
            "type": entity.type,
            "name": entity.name,
            "version": entity.version,
            "state": entity.state,
            "modified": _time(entity.modified),
            "uid": entity.uid,
        }
        for entity in found
    ]
    body = [
        row
        | {
            "kind": entity.kind.value,
            "source_uri": entity.source_uri,
            "content_hash": entity.content_hash,
            "created": entity.created,
            "modified": entity.modified,
            "properties": entity.properties,
        }
        for row, entity in zip(rows, found, strict=True)
    ]
    shown = ("type", "name", "version", "state", "modified", "uid")
    emit(body, as_json=as_json, text=listing(rows, shown, empty="nothing fits"))
    if not found:
        click.get_current_context().exit(1)


@click.command()
@click.argument("start")
@common_options
def runs(start: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """List the executions of a job, in order of their start."""
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.runs(find_start(graph, start))
    rows = [
        {
            "run": run.uid,
            "state": run.state,
            "started": _time(None if run.started_us is None else from_us(run.started_us)),
            "seconds": ""
            if run.started_us is None or run.ended_us is None
            else f"{(run.ended_us - run.started_us) / 1e6:,.1f}",
        }
        for run in found
    ]
    body = [
        {
            "run": run.uid,
            "entity": run.entity,
            "state": run.state,
            "started_us": run.started_us,
            "ended_us": run.ended_us,
            "properties": run.properties,
        }
        for run in found
    ]
    text = listing(rows, ("run", "state", "started", "seconds"), empty="no runs")
    emit(body, as_json=as_json, text=text)


def _time(time: dt.datetime | None) -> str:
    return "" if time is None else f"{time:%Y-%m-%d %H:%M:%S}"


def _tag(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not key:
        raise click.UsageError(f"--tag: expected KEY or KEY=VALUE, got {text!r}")
    return key, value if equals else None
