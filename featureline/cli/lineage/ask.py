"""`featureline lineage paths`, `ancestors`, `diff` and `explain`: how, from what, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.options import (
    as_of_option,
    filter_options,
    limit_option,
    through_option,
)
from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from lineage import Direction

__all__ = ["ancestors", "diff", "explain", "paths"]


@click.command()
@click.argument("a")
@click.argument("b")
@click.option(
    "--direction",
    type=click.Choice([each.value for each in Direction]),
    default=Direction.EITHER.value,
    show_default=True,
    help="From A with the arrows (descendants), against them, either, or regardless of them.",
)
@limit_option("Show at most so many paths, shortest first.", default=10, most=10_000)
@click.option("--max-length", type=click.IntRange(min=0), help="Most associations on a path.")
@click.option("--max-walked", type=click.IntRange(min=2), help="Visit at most so many entities.")
@through_option
@as_of_option
@common_options
def paths(
    a: str,
    b: str,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show how A led to B; exit code 1 when it did not."""
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.paths(find_start(graph, a), find_start(graph, b), **options)
    emit(found.to_json(), as_json=as_json, text=found.text())
    if not found:
        click.get_current_context().exit(1)


@click.command()
@click.argument("a")
@click.argument("b")
@click.argument("more", nargs=-1)
@click.option("--descendants", is_flag=True, help="What all of them reach instead.")
@filter_options
@click.option("--depth", type=click.IntRange(min=0), help="Associations from each.")
@limit_option("Show at most so many, nearest first.")
@through_option
@as_of_option
@common_options
def ancestors(
    a: str,
    b: str,
    more: tuple[str, ...],
    descendants: bool,
    wanted: dict[str, Any],
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """List what A and B both come from, nearest first, with a star at the closest."""
    with open_any(home, connect) as store:
        graph = store.graph
        ask = graph.common_descendants if descendants else graph.common_ancestors
        starts = [find_start(graph, one) for one in (a, b, *more)]
        found = ask(*starts, **options, **wanted)
    emit(found.to_json(), as_json=as_json, text=found.text())


@click.command()
@click.argument("a")
@click.argument("b")
@through_option
@as_of_option
@common_options
def diff(
    a: str,
    b: str,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Say why A and B differ: data, code, parameters, environment; exit code 1 when they do.

    Of data it says which files and how many rows, where the table's log can still be read.
    """
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.diff(find_start(graph, a), find_start(graph, b), **options)
    emit(found.to_json(), as_json=as_json, text=found.text())
    if not found.is_equal:
        click.get_current_context().exit(1)


@click.command()
@click.argument("start")
@as_of_option
@common_options
def explain(
    start: str, home: Path | None, connect: str | None, as_json: bool, **options: Any
) -> None:
    """Tell where START comes from: data, code, parameters, environment, who, when, metrics."""
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.explain(find_start(graph, start), **options)
    emit(found.to_json(), as_json=as_json, text=found.text())
