"""`featureline lineage import openlineage` and `featureline lineage emit`: to and from others."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from featureline.cli.output import emit as print_out
from featureline.cli.store import common_options, home_of, open_any
from featureline.server.emitting import TOKEN, cursor_path
from lineage.openlineage import Cursor, Emitter, Imported, Outward, import_file, open_sink

__all__ = ["emit_command", "import_command"]

_SHOWN: Final = 20


@click.command(name="openlineage")
@click.argument(
    "files",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
)
@click.option("--strict", is_flag=True, help="Refuse what OpenLineage's schema does not allow.")
@click.option(
    "--from-start", is_flag=True, help="Read files from their start, also those read before."
)
@common_options
def import_command(
    files: tuple[Path, ...],
    strict: bool,
    from_start: bool,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Record events of OpenLineage from FILES, which have one JSON object in each line.

    An event is recorded once, however often it comes. A file that has grown is read on from where
    the last import of this home ended; with --connect it is read from its start, which changes
    nothing that is there. Lines that are refused are named, leave the others in, and
    make the exit code 1.
    """
    with open_any(home, connect) as store:
        cursor = None
        if connect is None:
            cursor = Cursor(home_of(store) / "openlineage" / "imported.json")
            for path in files if from_start else ():
                cursor.forget(path)
        graph: Any = store.graph
        imports = [
            import_file(graph, path, strict=strict, cursor=cursor, on_batch=_progress())
            for path in files
        ]
    lines = [_said(imported) for imported in imports]
    body = {"files": [_to_json(imported) for imported in imports]}
    print_out(body, as_json=as_json, text="\n".join(lines))
    refused = sum(len(imported.refused) for imported in imports)
    if refused:
        if not as_json:
            for imported in imports:
                _name_refused(imported)
        sys.exit(1)


@click.command(name="emit")
@click.option(
    "--to",
    "target",
    required=True,
    metavar="URL|FILE",
    help=f"http(s)://HOST:PORT, by default with the path /api/v1/lineage, or a file to append to. "
    f"The token of an endpoint is taken from ${TOKEN}.",
)
@click.option("--follow", is_flag=True, help="Go on with what is recorded later, until Ctrl-C.")
@click.option(
    "--namespace",
    default="featureline",
    show_default=True,
    help="Of the jobs, and of datasets that have no place of their own.",
)
@click.option(
    "--cursor",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File that keeps how much was sent; needed with --connect.  "
    "[default: one in the home for each target]",
)
@common_options
def emit_command(
    target: str,
    follow: bool,
    namespace: str,
    cursor: Path | None,
    home: Path | None,
    connect: str | None,
    as_json: bool,
) -> None:
    """Send the jobs of a home as events of OpenLineage, each at least once.

    It begins with the oldest, and the next time with what is new. Where the endpoint is away,
    --follow waits for it, longer each time; without it the exit code is 1 and what was taken is
    noted. Jobs wait for none of this. With --connect they are asked from the server, and sent from
    here.
    """
    if connect is not None and cursor is None:
        raise click.UsageError(
            "--connect needs --cursor FILE: it keeps how much was sent, and there is no home here"
        )
    sink = open_sink(target, token=os.environ.get(TOKEN, ""))
    with (
        open_any(home, connect) as store,
        Emitter(
            store.graph,
            sink,
            cursor or cursor_path(home_of(store), target),
            outward=Outward(namespace),
        ) as emitter,
    ):
        if follow:
            with _until_interrupted(emitter.stop):
                emitter.follow()
        else:
            emitter.step()
        done = emitter.done
    refused = f", {done.refused:,} refused" if done.refused else ""
    print_out(
        {"to": target, "sent": done.sent, "refused": done.refused, "sequence": done.sequence},
        as_json=as_json,
        text=f"{done.sent:,} events sent{refused}; the log is read up to event {done.sequence:,}",
    )
    if done.refused:
        sys.exit(1)


@contextmanager
def _until_interrupted(stop: Callable[[], None]) -> Iterator[None]:
    """SIGINT and SIGTERM call `stop`; a second one ends the process."""
    before: dict[signal.Signals, Any] = {}

    def asked(number: int, frame: object) -> None:
        for known, handler in before.items():
            signal.signal(known, handler)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        before[number] = signal.signal(number, asked)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _progress() -> Callable[[Imported], None]:
    if not sys.stderr.isatty():
        return lambda imported: None

    def show(imported: Imported) -> None:
        click.echo(f"\r{imported.path}: {imported.events:,} events", nl=False, err=True)

    return show


def _said(imported: Imported) -> str:
    parts = [f"{imported.path}: {imported.events:,} events"]
    if imported.noted:
        parts.append(f"{imported.noted:,} of them with problems noted")
    if imported.skipped:
        parts.append(f"{imported.skipped:,} lines read before")
    if imported.refused:
        parts.append(f"{len(imported.refused):,} refused")
    return ", ".join(parts)


def _name_refused(imported: Imported) -> None:
    for one in imported.refused[:_SHOWN]:
        click.echo(f"{imported.path}:{one.place}: {one.error}", err=True)
    if len(imported.refused) > _SHOWN:
        more = len(imported.refused) - _SHOWN
        click.echo(f"{imported.path}: and {more:,} more; --json names all", err=True)


def _to_json(imported: Imported) -> dict[str, Any]:
    return {
        "file": str(imported.path),
        "events": imported.events,
        "noted": imported.noted,
        "skipped": imported.skipped,
        "refused": [{"line": one.place, "reason": str(one.error)} for one in imported.refused],
    }
