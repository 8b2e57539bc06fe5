"""`featureline lineage gc`: what may be deleted without breaking a replay, and its deletion."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import click

from featureline.cli.lineage.start import find_start
from featureline.cli.output import emit
from featureline.cli.store import common_options, open_any
from featureline.collecting import collect, plan_collection
from featurestore.embedded import EmbeddedStore
from lineage.collection import KINDS, Collection, Item

__all__ = ["collect_garbage"]

_AGE = re.compile(r"(\d+)([dhms])")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@click.command(name="gc")
@click.option("--apply", is_flag=True, help="Delete it, and record that.  [default: only say so]")
@click.option("--keep", "kept", multiple=True, metavar="START", help="In use, too: a model, …")
@click.option(
    "--older-than",
    default="30d",
    show_default=True,
    metavar="AGE",
    help="Younger things stay: 90d, 12h, 0d.",
)
@click.option("--kind", "kinds", type=click.Choice(KINDS), multiple=True, help="Only these may go.")
@common_options
def collect_garbage(
    apply: bool,
    kept: tuple[str, ...],
    older_than: str,
    kinds: tuple[str, ...],
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """List what of a home may be deleted without breaking the replay of anything in use.

    With --connect it is the server's home.

    In use is what --keep names, what is tagged keep, what was approved, endpoints in service, jobs
    that run, and what is younger than --older-than; and all that these come from, up to the
    versions of tables that datasets have read. What stays is listed with the shortest way to what
    needs it. The lineage itself stays whole: what is deleted has the state Deleted there.
    """
    age = _age(older_than)
    with open_any(home, connect) as store:
        graph: Any = store.graph
        uids = [find_start(graph, start).uid for start in kept]
        chosen = kinds or KINDS
        if connect is not None:
            found = graph.collect(apply=apply, keep=uids, older_than=age, kinds=chosen)
        else:
            found = _collect(cast(EmbeddedStore, store), uids, age, chosen, apply=apply)
    emit(found.to_json(), as_json=as_json, text=_text(found))


def _collect(
    store: EmbeddedStore,
    uids: Sequence[str],
    age: dt.timedelta,
    kinds: Sequence[str],
    *,
    apply: bool,
) -> Collection:
    def plan() -> Collection:
        return plan_collection(store, keep=uids, older_than=age, kinds=kinds)

    return collect(store, plan, older_than=age) if apply else plan()


def _age(text: str) -> dt.timedelta:
    match = _AGE.fullmatch(text)
    if match is None:
        raise click.UsageError(f"--older-than: expected a number and d, h, m or s; got {text!r}")
    return dt.timedelta(**{_UNITS[match[2]]: int(match[1])})


def _text(found: Collection) -> str:
    lines = [
        f"{'deleted' if found.applied else 'may go':<8} {item.size_bytes:>14,}  {_line(item)}"
        for item in found.going
    ]
    lines += [
        f"{'stays':<8} {item.size_bytes:>14,}  {_line(item)}"
        + (f"\n{'':<25}{' < '.join(item.chain)}" if len(item.chain) > 1 else "")
        for item in found.items
        if not item.goes
    ]
    verb = "deleted" if found.applied else "may go; --apply deletes it"
    lines.append(f"{found.size_bytes:,} bytes {verb}")
    return "\n".join(lines)


def _line(item: Item) -> str:
    return f"{item.kind} {item.uri}: {item.why}"
