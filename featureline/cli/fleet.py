"""`featureline ingest run` and what steers it: status, pause, resume, seek, replay."""

from __future__ import annotations

import datetime as dt
import json
import logging
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console

from featureline import logs
from featureline.cli.output import emit
from featureline.cli.store import login
from featureline.pages import Pages
from ingest import IngestError, Report
from ingest.fleet.control import Control, replay, seek, status
from ingest.fleet.fleet import Fleet
from ingest.fleet.progress import PartitionStatus, PipelineStatus, State, metrics_page
from ingest.fleet.settings import FleetSettings, PipelineSettings, StoreSettings, read_settings

__all__ = ["COMMANDS", "run_fleet"]

_PAGE_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_file = click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
_fleet = click.option(
    "--fleet",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    default="ingest.toml",
    envvar="FEATURELINE_INGEST",
    show_default=True,
    show_envvar=True,
    help="The settings file of `ingest run`.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_log_format = click.option(
    "--log-format",
    type=click.Choice(logs.FORMATS),
    default="text",
    show_default=True,
    help="Lines on stderr for people, or one JSON object each.",
)


@click.command()
@_file
@click.option("--check", is_flag=True, help="Only say whether the file is right.")
@click.option(
    "--metrics", metavar="HOST:PORT", help="Where to offer /metrics; port 0 takes a free one."
)
@_log_format
def run(file: Path, check: bool, metrics: str | None, log_format: str) -> None:
    """Run the pipelines of a TOML FILE until SIGTERM or Ctrl-C; a second one ends them at once.

    Prints one line of JSON when the workers were started. SIGHUP, or a change of the file, lets
    what changed stop after its batch and start anew; the rest goes on undisturbed.
    """
    settings = read_settings(file)
    if check:
        for one in settings.pipelines:
            kind = one.source["kind"]
            click.echo(f"{one.name}: {kind} → {one.group}, workers: {one.workers}")
        click.echo(f"{file}: right; state in {settings.state}")
        return
    logs.configure(log_format)
    logging.getLogger("kafka").setLevel(logging.WARNING)  # it tells of every connection
    run_fleet(settings, reload=lambda: read_settings(file), metrics=metrics, log_format=log_format)


def run_fleet(
    settings: FleetSettings,
    *,
    reload: Callable[[], FleetSettings] | None = None,
    metrics: str | None = None,
    log_format: str = "text",
    says_ready: bool = True,
) -> list[PipelineStatus]:
    """Run a fleet until a signal ends it, or all of its pipelines have come to their end.

    Args:
        settings: what to run.
        reload: reads the settings anew, on SIGHUP and when the files change.
        metrics: where to offer /metrics; None: nowhere.
        log_format: of the workers' lines.
        says_ready: whether a line of JSON says that the workers were started.
    """
    command = (sys.executable, "-m", "featureline.ingestworker", log_format)
    fleet = Fleet(settings, reload=reload, command=command)
    pages = None if metrics is None else Pages(metrics, _answering(fleet))

    def on_ready(body: Mapping[str, Any]) -> None:
        if pages is not None:
            pages.start()
            body = {**body, "metrics": pages.address}
        if says_ready:
            click.echo(json.dumps(body))

    try:
        with _signals(fleet) as stop:
            return list(fleet.run(stop, on_ready=on_ready))
    finally:
        if pages is not None:
            pages.stop()


def run_workers(settings: PipelineSettings, home: Path | None, connect: str | None) -> Report:
    """Run one pipeline by several processes, as the options of a command say.

    Raises:
        IngestError: it cannot go on.
    """
    token, tls = login() if connect is not None else (None, None)
    files = (None, None, None) if tls is None else (tls.ca, tls.certificate, tls.key)
    ca, certificate, key = (None if file is None else str(file) for file in files)
    store = StoreSettings(
        None if home is None else str(home),
        connect,
        token,
        ca,
        certificate,
        key,
        None if tls is None else tls.server_name,
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="featureline-ingest-") as state:
        fleet = FleetSettings(store, (settings,), Path(state))
        (one,) = run_fleet(fleet, says_ready=False)
    if one.state == State.FAILED:
        raise IngestError(f"{settings.name}: {one.reason}")
    return Report(
        read=one.read,
        written=one.written,
        refused=one.refused,
        skipped=one.skipped,
        bytes=one.bytes,
        seconds=time.monotonic() - began,
        positions={p.partition: p.position for p in one.partitions if p.position is not None},
        conflicts=one.conflicts,
    )


@click.command("status")
@click.argument("name", required=False)
@_fleet
@click.option("--watch", is_flag=True, help="Show it again and again, until Ctrl-C.")
@_json
def status_command(name: str | None, file: Path, watch: bool, as_json: bool) -> None:
    """Show where pipelines stand: state, lag, rates, per partition.

    Works without a running fleet too: then store and source are asked.
    """
    settings = read_settings(file)
    with settings.store.open() as store:
        while True:
            found = status(settings, store, name=name)
            if watch and not as_json and sys.stdout.isatty():
                click.clear()
            _show(found, Control(settings.state).told(), as_json=as_json)
            if not watch:
                return
            sys.stdout.flush()
            time.sleep(2.0)


@click.command()
@click.argument("name")
@_fleet
@_json
def pause(name: str, file: Path, as_json: bool) -> None:
    """Let a pipeline stop after its batch, and stay stopped until it is resumed."""
    settings = read_settings(file)
    settings.pipeline(name)
    control = Control(settings.state)
    control.pause(name)
    _say_order(name, "paused", control, as_json=as_json)


@click.command()
@click.argument("name")
@_fleet
@_json
def resume(name: str, file: Path, as_json: bool) -> None:
    """Let a pipeline go on that was paused, or that failed for good."""
    settings = read_settings(file)
    settings.pipeline(name)
    control = Control(settings.state)
    control.resume(name)
    _say_order(name, "resumed", control, as_json=as_json)


@click.command("seek")
@click.argument("name")
@click.option("--partition", required=True, help="Which partition.")
@click.option("--offset", required=True, help="The next offset to be stored, beginning or end.")
@_fleet
@_json
def seek_command(name: str, partition: str, offset: str, file: Path, as_json: bool) -> None:
    """Move the stored position of one partition, back or on.

    What is stored again is put again: the latest records stay what they are, the offline store
    gets each row once more.
    """
    if not (offset.isascii() and offset.isdecimal()) and offset not in ("beginning", "end"):
        raise click.UsageError(f"--offset: expected a number, beginning or end, got {offset!r}")
    to = int(offset) if offset.isdecimal() else offset
    settings, moved = _moved(file, name, lambda one, store: seek(one, store, {partition: to}))
    _say_moved(settings, moved, as_json=as_json)


@click.command("replay")
@click.argument("name")
@click.option("--from", "since", required=True, metavar="TIME", help="ISO 8601 with a zone.")
@_fleet
@_json
def replay_command(name: str, since: str, file: Path, as_json: bool) -> None:
    """Move a pipeline back to the messages that came at a time or later."""
    try:
        moment = dt.datetime.fromisoformat(since)
    except ValueError:
        raise click.UsageError(
            f"--from: expected a time such as 2026-01-01T06:00:00Z, got {since!r}"
        ) from None
    settings, moved = _moved(file, name, lambda one, store: replay(one, store, moment))
    _say_moved(settings, moved, as_json=as_json)


COMMANDS: Final = (run, status_command, pause, resume, seek_command, replay_command)


def _answering(fleet: Fleet) -> Callable[[str, str], tuple[int, bytes, str]]:
    def answer(path: str, accept: str) -> tuple[int, bytes, str]:
        if path == "/metrics":
            return 200, metrics_page(fleet.status).encode(), _PAGE_TYPE
        if path == "/healthz":
            return 200, b'{"alive": true}\n', "application/json"
        return 404, b"no such page: expected /metrics or /healthz\n", "text/plain; charset=utf-8"

    return answer


@contextmanager
def _signals(fleet: Fleet) -> Iterator[threading.Event]:
    """Let SIGTERM and Ctrl-C end the fleet, and SIGHUP read its settings anew."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, lambda *_: fleet.reload())
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


_Moves = Mapping[str, tuple[int | None, int]]


def _moved(
    file: Path, name: str, move: Callable[[PipelineSettings, Any], _Moves]
) -> tuple[FleetSettings, _Moves]:
    settings = read_settings(file)
    one = settings.pipeline(name)
    with settings.store.open() as store:
        return settings, move(one, store)


def _say_moved(settings: FleetSettings, moved: _Moves, *, as_json: bool) -> None:
    body = {p: {"from": before, "to": after} for p, (before, after) in moved.items()}
    lines = [
        f"partition {partition}: {'the beginning' if before is None else before} → {after}"
        for partition, (before, after) in moved.items()
    ]
    emit(body, as_json=as_json, text="\n".join(lines) or "nothing to move: it stands there")


def _say_order(name: str, what: str, control: Control, *, as_json: bool) -> None:
    runs = control.is_held()
    note = "" if runs else "; no fleet runs here now, the next one will hold to it"
    emit(
        {"pipeline": name, "order": what, "fleet": runs},
        as_json=as_json,
        text=f"{name}: {what}{note}",
    )


def _show(found: list[PipelineStatus], told: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([one.to_json() for one in found]))
        return
    if told.get("settings_problem"):
        Console(stderr=True, highlight=False).print(
            f"the settings file was changed and not taken: {told['settings_problem']}", markup=False
        )
    for one in found:
        click.echo(_summary(one))
        if len(one.partitions) > _MOST:
            click.echo(f"  {len(one.partitions):,} partitions; --json names them")
            continue
        for part in one.partitions:
            click.echo(f"  {_partition(part)}")


_MOST: Final = 64


def _summary(one: PipelineStatus) -> str:
    since = "" if one.since is None else f" since {_moment(one.since)}"
    reason = f": {one.reason}" if one.reason else ""
    minute, ten = (_number(rate) for rate in one.messages_per_s)
    return (
        f"{one.name} → {one.group}: {one.state}{since}{reason}\n"
        f"  workers {one.workers} of {one.wanted}, restarts {one.restarts:,}; "
        f"read {one.read:,}, refused {one.refused:,}, conflicts {one.conflicts:,}; "
        f"messages/s {minute} (1 min), {ten} (10 min); "
        f"lag {_number(one.lag)} messages, {_number(one.lag_s)} s"
    )


def _partition(part: PartitionStatus) -> str:
    position = "nothing stored" if part.position is None else f"position {part.position:,}"
    if part.end is None:
        return f"partition {part.partition}: {position}"
    return (
        f"partition {part.partition}: {position} of {part.end:,}, "
        f"lag {_number(part.lag)} messages, {_number(part.lag_s)} s"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def _moment(us: int) -> str:
    moment = dt.datetime.fromtimestamp(us / 1e6, tz=dt.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")
