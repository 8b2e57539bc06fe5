"""`featureline lineage export` and `import`: the graph in other tools' forms, and theirs in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.options import walk_options
from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from lineage import LineageResult
from lineage.exports import FORMATS, as_format
from lineage.imports import Imported, import_mlflow, import_ndjson

__all__ = ["export", "imports"]


@click.command()
@partial(walk_options, is_optional=True)
@click.option("--all", "whole", is_flag=True, help="The whole graph instead of START's part.")
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, "parquet"]),
    help="By default the ending of --out decides; without --out, mermaid.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="File, or folder for parquet.  [default: stdout]"
)
@common_options
def export(
    start: str | None,
    options: dict[str, Any],
    whole: bool,
    form: str | None,
    out: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Write the graph around START, or all of it, as a page, picture, or file of another tool."""
    if (start is None) != whole:
        raise click.UsageError("give START, or --all for the whole graph")
    as_of = options["as_of"]
    chosen = as_format(form or ("mermaid" if out is None else None), out)
    if chosen == "parquet" and out is None:
        raise click.UsageError("parquet is a folder of files; give --out FOLDER")
    if out is not None and chosen != "parquet" and out.is_dir():
        raise click.UsageError(f"--out {out} is a folder; give the path of a file")
    with open_any(home, connect) as store:
        graph: Any = store.graph  # a LineageClient, when it is a server's
        result: LineageResult | None = None
        if start is not None:
            result = graph.query(find_start(graph, start), **options)
        if out is None:
            click.echo(graph.export_text(chosen, of=result, as_of=as_of), nl=False)
            return
        graph.export(out, chosen, of=result, as_of=as_of)
        count = graph.stats()["entities"] if result is None else len(result)
    body = {"out": str(out), "format": chosen, "entities": count}
    noun = "entity" if count == 1 else "entities"
    emit(body, as_json=as_json, text=f"{count:,} {noun} as {chosen}: {out}")


@click.group(name="import")
def imports() -> None:
    """Record what others know: an MLflow store, or the file of another graph."""


@imports.command()
@click.argument("uri")
@common_options
def mlflow(uri: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Record the experiments and runs of an MLflow store: a folder, sqlite:///FILE or a server.

    It is read here, also with --connect. Run it again at any time: only what has changed is
    recorded.
    """
    with open_any(home, connect) as store:
        _tell(import_mlflow(store.graph, uri), as_json)


@imports.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@common_options
def ndjson(file: Path, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Record a graph that `lineage export --format ndjson` wrote.

    The same file again changes nothing.
    """
    with open_any(home, connect) as store:
        _tell(import_ndjson(store.graph, file), as_json)


def _tell(found: Imported, as_json: bool) -> None:
    body = {
        "entities": found.entities,
        "associations": found.associations,
        "events": found.events,
        "notes": list(found.notes),
    }
    text = (
        f"read {found.entities:,} entities and {found.associations:,} associations "
        f"in {found.events:,} events"
    )
    emit(body, as_json=as_json, text=text)
    for note in () if as_json else found.notes:
        click.echo(f"not read: {note}", err=True)
