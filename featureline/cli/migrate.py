"""`featureline migrate`: the online store from LMDB to Redis, while servers go on."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from featureline.cli.output import emit, progress
from featureline.cli.store import common_options
from featurestore import InvalidRequest
from featurestore.migrate import abort_migration
from featurestore.migrate import migrate as migrate_home

__all__ = ["migrate"]


@click.command()
@click.option(
    "--to",
    metavar="URL",
    help="An empty place: redis://HOST:PORT/0, rediss://… or redis+cluster://HOST:PORT; - reads "
    "the URL from stdin, where other users do not see its password.",
)
@click.option(
    "--from",
    "engine",
    type=click.Choice(["lmdb"]),
    default="lmdb",
    show_default=True,
    help="Where the records are now.",
)
@click.option("--abort", is_flag=True, help="Give up a migration that has not ended.")
@common_options
def migrate(
    to: str | None,
    engine: str,
    abort: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Move the online store of the home to Redis; go on with a migration that was killed.

    Servers go on reading and writing meanwhile. At the end they wait for a moment, then answer
    that the store has migrated until they are started again; no acknowledged record is lost.
    """
    if connect is not None:
        raise click.UsageError("migrate works on the files of a home; use --home")
    if abort == (to is not None):
        raise click.UsageError("give --to or --abort")
    chosen = Path(home or os.environ.get("FEATURELINE_HOME") or ".featureline").resolve()
    if to is None:
        if not abort_migration(chosen):
            raise InvalidRequest(f"{chosen}: there is no migration to abort")
        emit({"aborted": True}, as_json=as_json, text="aborted; the records stay in LMDB")
        return
    if to == "-":
        to = sys.stdin.readline().strip()
    with progress("migrate", None) as tick:
        done = migrate_home(chosen, to, on_progress=lambda copied, total: tick(copied))
    emit(
        {
            "migrated": True,
            "from": engine,
            "to": done.to,
            "records": done.records,
            "outbox": done.outbox,
            "held_s": round(done.held_s, 3),
        },
        as_json=as_json,
        text=f"migrated to {done.to}: {done.records:,} records copied, writers waited "
        f"{done.held_s:.2f} s; start the servers of {chosen} again",
    )
