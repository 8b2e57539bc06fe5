"""`featureline lineage log` and `stats`: the events, and how many."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.listing import listing
from featureline.cli.lineage.options import limit_option, moment
from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any

__all__ = ["log", "stats"]

_NAMED = 2


@click.command()
@click.argument("start", required=False)
@click.option("--kind", "kinds", multiple=True, help="Only events of these kinds.")
@click.option("--actor", "actors", multiple=True, help="Only what these recorded.")
@click.option("--since", metavar="TIME", help="Recorded at or after it.")
@click.option("--until", metavar="TIME", help="Recorded before or at it.")
@click.option("--before", type=click.IntRange(min=1), help="Only before the event of this number.")
@limit_option("List at most so many, newest first.", default=20)
@common_options
def log(
    start: str | None,
    kinds: tuple[str, ...],
    actors: tuple[str, ...],
    since: str | None,
    until: str | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """List the events of the log, of START alone when given: when, who, and what happened."""
    times = {
        name: None if text is None else moment(f"--{name}", text)
        for name, text in (("since", since), ("until", until))
    }
    with open_any(home, connect) as store:
        graph = store.graph
        found = graph.events(
            None if start is None else find_start(graph, start),
            kinds=list(kinds) or None,
            actors=list(actors) or None,
            **times,
            **options,
        )
    rows = [
        {
            "sequence": event.sequence,
            "time": f"{event.time:%Y-%m-%d %H:%M:%S}",
            "actor": event.actor,
            "kind": event.kind,
            "recorded": _recorded(event.entities),
        }
        for event in found
    ]
    text = listing(rows, ("sequence", "time", "actor", "kind", "recorded"), empty="no events")
    emit([event.to_json() for event in found], as_json=as_json, text=text)


def _recorded(uids: Sequence[str]) -> str:
    """Name the first entities of an event, and count the others."""
    named = [uid.removeprefix("urn:fs:") for uid in uids[:_NAMED]]
    more = len(uids) - len(named)
    return ", ".join([*named, *([f"{more} more"] if more > 0 else [])])


@click.command()
@common_options
def stats(home: Path | None, connect: str | None, as_json: bool) -> None:
    """Count what the graph has."""
    with open_any(home, connect) as store:
        found = store.graph.stats()
    text = "\n".join(f"{count:>12,}  {name}" for name, count in found.items())
    emit(found, as_json=as_json, text=text)
