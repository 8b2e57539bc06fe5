"""`featureline lineage tag`: what people say of an entity."""

from __future__ import annotations

from pathlib import Path

import click

from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any

__all__ = ["tag"]


@click.command()
@click.argument("start")
@click.argument("tags", nargs=-1, metavar="[KEY=VALUE]...")
@click.option("--remove", multiple=True, metavar="KEY", help="Take this tag off.")
@common_options
def tag(
    start: str,
    tags: tuple[str, ...],
    remove: tuple[str, ...],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Put tags on START, or list those it has; both are recorded in the log."""
    given: dict[str, str] = {}
    for text in tags:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise click.UsageError(f"expected KEY=VALUE, got {text!r}")
        given[key] = value
    with open_any(home, connect) as store:
        graph = store.graph
        entity = find_start(graph, start)
        if given:
            graph.add_tags(entity, given)
        if remove:
            graph.delete_tags(entity, list(remove))
        found = dict(graph.tags(entity))
    text = "\n".join(f"{key} = {value}" for key, value in sorted(found.items()))
    emit({"uid": entity.uid, "tags": found}, as_json=as_json, text=text or "no tags")
