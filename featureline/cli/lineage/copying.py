"""`featureline lineage copy|use`: where the lineage of a home is kept."""

from __future__ import annotations

from pathlib import Path

import click

import lineage
from featureline.cli.output import emit, progress
from featureline.cli.store import common_options, open_embedded
from lineage.store.postgres_link import without_password

__all__ = ["copy", "use"]


@click.command()
@click.option("--to", "target", required=True, help="postgresql://... or a new file.")
@common_options
def copy(target: str, home: Path | None, connect: str | None, as_json: bool) -> None:
    """Copy the lineage log of a home, hashes and all, into a database or another file.

    A copy that is repeated brings what came since; one that was interrupted goes on.
    """
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

    What the home has recorded has to be there already: see `featureline lineage copy`. Stop the
    processes of the home first.
    """
    if not url.startswith(("postgresql://", "postgres://")):
        raise click.UsageError(f"expected postgresql://..., got {url!r}")
    with open_embedded(home, connect, "lineage use") as store:
        lineage.open_home(store.home, url).close()
    place = without_password(url)
    emit({"lineage": place}, as_json=as_json, text=f"lineage is kept in {place}")
