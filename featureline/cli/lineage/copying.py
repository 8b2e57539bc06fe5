"""`featureline lineage copy|use|replay-spool`: where the lineage of a home is kept."""

from __future__ import annotations

import sys
from pathlib import Path

import click

import lineage
from featureline.cli.output import emit, progress
from featureline.cli.store import common_options, open_any, open_embedded
from lineage.store.postgres_link import without_password

__all__ = ["copy", "replay_spool", "use"]


@click.command()
@click.option(
    "--to",
    "target",
    required=True,
    help="postgresql://... or a new file; - "
    "reads it from stdin, where other users do not see its password.",
)
@common_options
def copy(target: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Copy the lineage log of a home, hashes and all, into a database or another file.

    A copy that is repeated brings what came since; one that was interrupted goes on.
    """
    target = _read(target)
    with open_embedded(home, connect, "lineage copy") as store, lineage.open(target) as other:
        with progress("lineage log", None, "events") as tick:
            copied = lineage.copy_log(
                store.graph.store, other.store, on_progress=lambda done, total: tick(done)
            )
        head = other.store.head()
    body = {"copied": copied, "events": head.sequence, "to": without_password(target)}
    text = f"{copied:,} events copied, {head.sequence:,} in {without_password(target)}"
    emit(body, as_json=as_json, text=text)


@click.command()
@click.argument("url")
@common_options
def use(url: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Keep the lineage of a home in PostgreSQL from now on; the home remembers the URL.

    - reads the URL from stdin, where other users do not see its password.

    What the home has recorded has to be there already: see `featureline lineage copy`. Stop the
    processes of the home first.
    """
    url = _read(url)
    if not url.startswith(("postgresql://", "postgres://")):
        raise click.UsageError(f"expected postgresql://..., got {without_password(url)!r}")
    with open_embedded(home, connect, "lineage use") as store:
        lineage.open_home(store.home, url).close()
    place = without_password(url)
    emit({"lineage": place}, as_json=as_json, text=f"lineage is kept in {place}")


@click.command(name="replay-spool")
@common_options
def replay_spool(home: Path | None, connect: str | None, as_json: bool) -> None:
    """Record the lineage events that waited on disk while their store was away.

    Every process that opens the store does so too. Events that the graph refuses are put aside,
    with the reason, and end the command with code 1.
    """
    body: dict[str, int | str]
    if connect is not None:
        with open_any(home, connect) as server:
            done = server.graph.replay_spool()
        body = {"recorded": done.recorded, "refused": done.refused}
        place = "on the server"
    else:
        with open_embedded(home, connect, "lineage replay-spool") as store:
            spool = lineage.spool_of(store.home)
            done = lineage.replay_spool(store.home)
        waiting = spool.waiting()
        body = {"recorded": done.recorded, "refused": done.refused, "waiting": waiting}
        place = f"see {spool.refused_path}"
    text = f"{done.recorded:,} events recorded"
    if done.refused:
        if connect is None:
            body["refused_in"] = str(spool.refused_path)
        text += f", {done.refused:,} refused: {place}"
    emit(body, as_json=as_json, text=text)
    if done.refused:
        sys.exit(1)


def _read(url: str) -> str:
    return sys.stdin.readline().strip() if url == "-" else url
