"""`featureline lineage columns`: which columns feed something, and which use a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.listing import listing
from featureline.cli.lineage.options import as_of_option
from featureline.cli.lineage.start import find_model, find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from lineage import Direction

__all__ = ["columns", "features", "models"]


@click.command()
@click.argument("start")
@click.option("--column", default="", help="One column.  [default: all]")
@click.option(
    "--direction",
    type=click.Choice([each.value for each in Direction if each is not Direction.BOTH]),
    default="ascendants",
    show_default=True,
    help="What its columns are made of, or what is made of them.",
)
@click.option("--depth", type=click.IntRange(min=0), help="Steps from START.")
@as_of_option
@common_options
def columns(
    start: str,
    column: str,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Walk from column to column, and list each step."""
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.columns(find_start(graph, start), column, **options)
        uids = {uid for link in found.links for uid in (link.source, link.destination)}
        names = {uid: graph.entity(uid).name for uid in sorted(uids)}
    depths = {(node.entity, node.column): node.depth for node in found.columns}
    rows = [
        {
            "from": f"{names[link.source]}.{link.source_column or '*'}",
            "to": f"{names[link.destination]}.{link.column or '*'}",
            "kind": " ".join(filter(None, (link.type, link.subtype))),
            "importance": _share(link.properties.get("importance")),
            "description": link.description,
        }
        for link in found.links
    ]
    if as_json:
        body = {
            "columns": [
                {"entity": uid, "column": name, "depth": depth}
                for (uid, name), depth in depths.items()
            ],
            "links": [vars(link) | {"properties": dict(link.properties)} for link in found.links],
        }
        emit(body, as_json=True, text="")
        return
    shown = ("from", "to", "kind", "importance", "description")
    click.echo(listing(rows, shown, empty="no columns are recorded there"))


def _share(importance: object) -> str:
    return f"{importance:.3f}" if isinstance(importance, int | float) else ""


@click.command()
@click.argument("start")
@as_of_option
@common_options
def features(
    start: str, home: Path | None, connect: str | None, as_json: bool, **options: Any
) -> None:
    """List the features that feed a model, or a job's model, the most important first."""
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.features(find_model(graph, start), **options)
    lines = [use.text() for use in found]
    text = "\n".join(["importance  feature", *lines]) if lines else "no columns are recorded there"
    emit([use.to_json() for use in found], as_json=as_json, text=text)


@click.command()
@click.argument("start")
@click.argument("column")
@click.option(
    "--type",
    "types",
    multiple=True,
    default=("Model",),
    show_default=True,
    help="Types of what counts as a user.",
)
@as_of_option
@common_options
def models(
    start: str,
    column: str,
    types: tuple[str, ...],
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """List the models that use a feature, COLUMN of the feature group START."""
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.feature_users(find_start(graph, start), column, types=list(types), **options)
    rows = [
        {
            "importance": "" if use.importance is None else f"{use.importance:.3f}",
            "type": use.user.type,
            "name": use.user.name,
            "version": use.user.version,
            "as": use.input,
        }
        for use in found
    ]
    shown = ("importance", "type", "name", "version", "as")
    text = listing(rows, shown, empty="nothing is recorded to use it")
    emit([use.to_json() for use in found], as_json=as_json, text=text)
