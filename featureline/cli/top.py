"""`featureline top`: a live view of a running server."""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from featureline.ingesting import pipelines_of_home
from featureline.top import Figures, Page, address_of_home, fetch, figures
from featurestore.errors import StoreUnavailable
from ingest.fleet.progress import PipelineStatus, State

__all__ = ["top"]

_WIDE: Final = 110
_BARS: Final = "▁▂▃▄▅▆▇█"
_HISTORY: Final = 240
_METHODS: Final = 8


@click.command()
@click.option(
    "--metrics",
    "--connect",
    "address",
    metavar="HOST:PORT",
    help="The server's --metrics address.  [default: that of the server on --home]",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path, file_okay=False),
    help="Find the server by its home, on this machine.  [default: $FEATURELINE_HOME or "
    "./.featureline]",
)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.2),
    default=1.0,
    show_default=True,
    help="Seconds between two looks; rates are over this time.",
)
@click.option("--once", is_flag=True, help="Print one frame as plain text.")
@click.option("--json", "as_json", is_flag=True, help="Print one frame as a JSON document.")
def top(
    address: str | None, home: Path | None, interval_s: float, once: bool, as_json: bool
) -> None:
    """Show what a server does: calls, times, batches, commits, what waits, and its stores.

    It reads the page that `featureline serve --metrics HOST:PORT` offers; of a home it also shows
    the pipelines that `featureline ingest run` runs on it. Ctrl-C ends it. Where the output is no
    terminal, it prints one frame.
    """
    if address is not None and home is not None:
        raise click.UsageError("give --metrics or --home, not both")
    folder: Path | None = None
    if address is None:
        folder = home or Path(os.environ.get("FEATURELINE_HOME") or ".featureline")
        address = address_of_home(folder)
    if once or as_json or not sys.stdout.isatty():
        frame = _one(address, interval_s)
        pipelines = [] if folder is None else pipelines_of_home(folder)
        if as_json:
            ingest = [one.to_json() for one in pipelines]
            click.echo(json.dumps({"metrics": address, **frame.to_json(), "ingest": ingest}))
        else:
            console = Console(file=sys.stdout, highlight=False, no_color=True, emoji=False)
            console.print(view(frame, address, width=console.width, pipelines=pipelines))
        return
    _watch(address, interval_s, folder)


def _one(address: str, interval_s: float) -> Figures:
    before = fetch(address)
    time.sleep(interval_s)
    return figures(before, fetch(address))


def _watch(address: str, interval_s: float, home: Path | None) -> None:
    """Draw frames until Ctrl-C; a server that goes away is shown as such, and looked for again."""
    console = Console(highlight=False, emoji=False)
    history: deque[float] = deque(maxlen=_HISTORY)
    before: Page | None = None
    frame: Figures | None = None
    lost: tuple[str, float] | None = None
    try:
        with Live(console=console, screen=True, auto_refresh=False) as live:
            for _ in _ticks(interval_s):
                try:
                    now = fetch(address)
                    if before is not None:
                        frame = figures(before, now)
                        history.append(frame.calls_per_s)
                    before, lost = now, None
                except StoreUnavailable as error:
                    lost = (error.message, lost[1] if lost else time.time())
                    before = None
                live.update(
                    view(
                        frame,
                        address,
                        width=console.width,
                        height=console.height,
                        history=history,
                        lost=lost,
                        pipelines=[] if home is None else pipelines_of_home(home),
                    ),
                    refresh=True,
                )
    except KeyboardInterrupt:
        return


def _ticks(interval_s: float) -> Iterator[None]:
    """Yield at regular times; those that a slow server made us miss are left out."""
    due = time.monotonic()
    # The first frame needs two looks: take the second soon.
    first = min(0.3, interval_s)
    while True:
        yield
        due = max(due + first, time.monotonic() + first / 10)
        first = interval_s
        time.sleep(max(0.0, due - time.monotonic()))


def view(
    frame: Figures | None,
    address: str,
    *,
    width: int,
    height: int = 100,
    history: Sequence[float] = (),
    lost: tuple[str, float] | None = None,
    pipelines: Sequence[PipelineStatus] = (),
) -> RenderableType:
    """Draw one frame.

    Args:
        frame: the latest; None before the first.
        address: of the server.
        width: of the terminal; from 110 columns on there are two columns of tables.
        height: of the terminal; long lists are cut to fit.
        history: calls per second of the frames so far.
        lost: why the server does not answer, and since when.
        pipelines: of fleets that ingest into the home.
    """
    parts: list[RenderableType] = [_title(frame, address, width, lost=lost is not None)]
    if lost is not None:
        since = dt.datetime.fromtimestamp(lost[1]).astimezone().strftime("%H:%M:%S")
        text = f" since {since}: {_reason(lost[0], address)}; looking again "
        parts.append(Text(text, style="bold white on red", overflow="fold"))
    if frame is None:
        if lost is None:
            parts.append(Text("looking …", style="dim"))
        return Group(*parts)
    parts += [_problem_line(name, text) for name, text in frame.problems.items()]
    parts += [Text(""), _summary(frame, width, history), Text("")]
    below: list[RenderableType] = [Text(""), _facts(frame, width)]
    if pipelines:
        below = [Text(""), _pipelines(pipelines, _METHODS), *below]
    # Beside these there are the tables' heads, what they say of left out rows, and all groups.
    wide = width >= _WIDE
    room = height - _lines([*parts, *below], width) - (3 if wide else 6)
    methods = _methods(frame, max(1, min(_METHODS, room if wide else room // 2)))
    outbox = _outbox(frame, max(1, room if wide else room - methods.row_count))
    if wide:
        both = Table.grid(padding=(0, 6, 0, 0))
        both.add_row(methods, outbox)
        parts.append(both)
    else:
        parts += [methods, Text(""), outbox]
    parts += below
    drawn = Group(*parts)
    if lost is None:
        return drawn
    faded = Table.grid(expand=True)
    for part in parts[2:]:
        faded.add_row(part, style="dim")
    return Group(*parts[:2], faded)


def _lines(parts: Sequence[RenderableType], width: int) -> int:
    console = Console(width=width, file=io.StringIO())
    return len(console.render_lines(Group(*parts), console.options))


def _title(frame: Figures | None, address: str, width: int, *, lost: bool) -> RenderableType:
    left = Text.assemble(("featureline top", "bold"), "  ", address)
    if frame is not None:
        fronts = ", ".join(sorted(frame.fronts)) or "?"
        count = len(frame.workers) or sum(frame.fronts.values())
        left.append(f"  {fronts}  {count} worker{'s' if count != 1 else ''}")
        if frame.uptime_s is not None:
            left.append(f"  up {_span(frame.uptime_s)}")
    if lost:
        state = Text("NO ANSWER", style="bold red")
    elif frame is None:
        state = Text("")
    else:
        state = Text("READY", "bold green") if frame.ready else Text("NOT READY", "bold red")
    clock = dt.datetime.now().astimezone().strftime("%H:%M:%S")
    line = Table.grid(expand=True)
    line.add_column(no_wrap=True, overflow="ellipsis")
    line.add_column(justify="right", no_wrap=True)
    line.add_row(left, Text.assemble(state, "  ", (clock, "dim")))
    return line


def _reason(message: str, address: str) -> str:
    return message.removeprefix(f"{address} ")


def _problem_line(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold red"), (text, "red"), overflow="fold")


def _summary(frame: Figures, width: int, history: Sequence[float]) -> RenderableType:
    shed = sum(frame.shed.values())
    throttled = sum(frame.throttled.values())
    line = Text.assemble(
        (_rate(frame.calls_per_s), "bold"),
        " calls/s   ",
        (_rate(frame.errors_per_s), "bold red" if frame.errors_per_s else "bold"),
        " errors/s   ",
        (_rate(shed), "bold red" if shed else "bold"),
        " shed/s   ",
    )
    if throttled:
        line.append(_rate(throttled), "bold yellow").append(" throttled/s   ")
    if frame.slow_per_s:
        line.append(_rate(frame.slow_per_s), "bold yellow").append(" slow/s   ")
    line.append("queue ").append(f"{frame.queue_depth:,.0f}", "bold")
    room = min(60, width - line.cell_len - 3)
    if len(history) > 1 and room >= 8:
        line.append("   ").append(_sparkline(list(history)[-room:]), "cyan")
    causes = [f"{status} {_rate(rate)}/s" for status, rate in _largest(frame.errors)]
    causes += [f"shed for {reason} {_rate(rate)}/s" for reason, rate in _largest(frame.shed)]
    if not causes:
        return line
    return Group(line, Text(" · ".join(causes), style="red", no_wrap=True, overflow="ellipsis"))


def _methods(frame: Figures, limit: int) -> Table:
    table = _table("METHOD", 20, "calls/s", "p50 ms", "p99 ms", "errors/s")
    # What was called stays in the list, so that rows do not jump in and out.
    for method in frame.methods[:limit]:
        table.add_row(
            method.method,
            _rate(method.calls_per_s),
            _time(method.p50_ms),
            _time(method.p99_ms),
            Text(_rate(method.errors_per_s), style="red" if method.errors_per_s else ""),
            style="" if method.calls_per_s else "dim",
        )
    if not frame.methods:
        table.add_row(Text("no calls yet", style="dim"))
    _more(table, len(frame.methods) - limit, "methods")
    return table


def _outbox(frame: Figures, limit: int) -> Table:
    table = _table("OUTBOX", 20, "records", "lag s", "flushed/s")
    if frame.outbox_records is not None and len(frame.groups) != 1:
        table.add_row("all groups", f"{frame.outbox_records:,.0f}", "", "", style="bold")
    for group in frame.groups[:limit]:
        table.add_row(
            group.group,
            f"{group.records:,.0f}",
            f"{group.lag_s:,.1f}" if group.records else "–",
            _rate(group.flushed_per_s),
            style="" if group.records or group.flushed_per_s else "dim",
        )
    _more(table, len(frame.groups) - limit, "groups")
    return table


def _pipelines(pipelines: Sequence[PipelineStatus], limit: int) -> Table:
    table = _table("INGEST", 20, "state", "lag", "lag s", "messages/s", "refused", "restarts")
    worst = sorted(pipelines, key=lambda one: (one.state == State.RUNNING, -(one.lag or 0)))
    for one in worst[:limit]:
        rate = one.messages_per_s[0]
        table.add_row(
            one.name,
            Text(one.state, style="red" if one.state in (State.FAILED, State.WAITING) else ""),
            "–" if one.lag is None else f"{one.lag:,}",
            _plain(one.lag_s),
            "–" if rate is None else _rate(rate),
            f"{one.refused:,}",
            f"{one.restarts:,}",
        )
    _more(table, len(pipelines) - limit, "pipelines")
    return table


def _facts(frame: Figures, width: int) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    commits = [f"{_rate(frame.commits_per_s)}/s"]
    if frame.commit_writes is not None:
        commits += [
            f"{_plain(frame.commit_writes)} writes each",
            f"p50 {_time(frame.commit_p50_ms)} ms",
            f"p99 {_time(frame.commit_p99_ms)} ms",
        ]
    table.add_row("COMMITS", " · ".join(commits))
    batches = [
        f"{kind} {_plain(size)} calls"
        for kind, size in (("reads", frame.read_batch), ("writes", frame.write_batch))
        if size is not None
    ]
    table.add_row("BATCHES", " · ".join(batches) or "none")
    table.add_row("STORE", " · ".join(_store(frame)) or "?")
    if frame.flush_failures:
        table.add_row("FLUSHES", Text(f"{frame.flush_failures:,.0f} failed since start", "red"))
    shown = 2 if width < _WIDE else 4
    workers = [
        f"{worker.pid} "
        + (f"{worker.cpu * 100:.0f} % cpu" if worker.cpu is not None else "")
        + (f" {_bytes(worker.resident_bytes)}" if worker.resident_bytes is not None else "")
        for worker in frame.workers
    ]
    for start in range(0, len(workers), shown):
        title = "WORKERS" if start == 0 else ""
        table.add_row(title, " · ".join(workers[start : start + shown]))
    return table


def _store(frame: Figures) -> Iterator[str]:
    online = frame.online
    if "records" in online:
        yield f"{online['records']:,.0f} records"
    if "used_bytes" in online and "limit_bytes" in online:
        yield f"{_bytes(online['used_bytes'])} of {_bytes(online['limit_bytes'])}"
    if "readers" in online:
        yield f"{online['readers']:,.0f} reader{'s' if online['readers'] != 1 else ''}"
    if "disk_free_bytes" in online:
        yield f"disk {_bytes(online['disk_free_bytes'])} free"
    if frame.swept_per_s:
        yield f"{_rate(frame.swept_per_s)} swept/s"


def _table(title: str, width: int, *columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold dim")
    table.add_column(title, min_width=width, max_width=32, no_wrap=True, overflow="ellipsis")
    for column in columns:
        table.add_column(column, justify="right", min_width=9, no_wrap=True)
    return table


def _more(table: Table, left_out: int, what: str) -> None:
    if left_out > 0:
        table.add_row(Text(f"… and {left_out:,} more {what}", style="dim"))


def _largest(rates: Mapping[str, float]) -> list[tuple[str, float]]:
    found = [(name, rate) for name, rate in rates.items() if rate]
    return sorted(found, key=lambda item: -item[1])[:4]


def _sparkline(values: Sequence[float]) -> str:
    peak = max(values)
    if peak <= 0:
        return _BARS[0] * len(values)
    return "".join(_BARS[round(value / peak * (len(_BARS) - 1))] for value in values)


def _rate(value: float) -> str:
    if value == 0:
        return "0"
    if value < 0.1:
        return "<0.1"
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def _plain(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"


def _time(ms: float | None) -> str:
    if ms is None:
        return "–"
    return f"{ms:.2f}" if ms < 10 else f"{ms:,.1f}" if ms < 100 else f"{ms:,.0f}"


def _bytes(value: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if value >= 10 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TB"


def _span(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02d}h"
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
