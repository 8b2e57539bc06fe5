"""`featureline lineage watch`: what comes within reach of an entity, as it is recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from featureline.cli.lineage.start import find_start
from featureline.cli.store import common_options, open_any
from lineage import AssociationType, Direction, Entity, Kind, Match

__all__ = ["watch"]


@click.command()
@click.argument("start")
@click.option(
    "--direction",
    type=click.Choice([one.value for one in Direction]),
    default=Direction.DESCENDANTS.value,
    show_default=True,
    help="Which way to follow from START.",
)
@click.option("--type", "types", multiple=True, help="Tell only of these types.")
@click.option(
    "--kind",
    "kinds",
    type=click.Choice([one.value for one in Kind]),
    multiple=True,
    help="Of these kinds.",
)
@click.option("--state", "states", multiple=True, help="Of these states.")
@click.option("--uri", "uris", multiple=True, help="Whose source uris begin like these.")
@click.option(
    "--through",
    type=click.Choice([one.value for one in AssociationType]),
    multiple=True,
    help="Walk along these associations only.",
)
@click.option(
    "--after",
    type=click.IntRange(min=0),
    metavar="SEQUENCE",
    help="Go on behind this event; 0 is the beginning.  [default: from now on]",
)
@click.option("--count", type=click.IntRange(min=1), help="End after so many matches.")
@common_options
def watch(
    start: str,
    direction: str,
    types: tuple[str, ...],
    kinds: tuple[str, ...],
    states: tuple[str, ...],
    uris: tuple[str, ...],
    through: tuple[str, ...],
    after: int | None,
    count: int | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Follow what comes within reach of START, a line a match, until Ctrl-C.

    Each line begins with the sequence of its event: with --after it goes on behind it, and no
    match is lost or comes twice. With --json each line is a document.
    """
    with open_any(home, connect) as store:
        graph = store.graph
        following = graph.subscribe(
            find_start(graph, start),
            direction,
            types=types,
            kinds=kinds,
            states=states,
            uris=uris,
            through=through,
            after=after,
        )
        with following:
            for told, match in enumerate(following, start=1):
                click.echo(json.dumps(_to_json(match)) if as_json else _to_text(match))
                if told == count:
                    break


def _to_json(match: Match) -> dict[str, Any]:
    return {
        "sequence": match.sequence,
        "time": match.time.isoformat(),
        "actor": match.actor,
        "kind": match.kind,
        "event_uid": match.event_uid,
        "reached": list(map(_entity, match.reached)),
        "changed": list(map(_entity, match.changed)),
        "lost": list(match.lost),
    }


def _entity(entity: Entity) -> dict[str, Any]:
    return {
        "uid": entity.uid,
        "kind": entity.kind.value,
        "type": entity.type,
        "name": entity.name,
        "version": entity.version,
        "state": entity.state,
    }


def _to_text(match: Match) -> str:
    parts = [
        f"{sign}{entity.type} {entity.name}{f' ({entity.state})' if entity.state else ''}"
        for sign, several in (("+", match.reached), ("~", match.changed))
        for entity in several
    ]
    parts += [f"-{uid}" for uid in match.lost]
    return f"{match.sequence:>7}  {match.time:%Y-%m-%d %H:%M:%S}  {match.kind}: {', '.join(parts)}"
