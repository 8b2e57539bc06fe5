"""How commands read and print: JSON, or text for people with progress on a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from featurestore import InvalidRequest

__all__ = ["Ticker", "console", "emit", "emit_table", "progress", "read_json", "steps"]

# Progress and notes go to stderr: stdout has the result and nothing else.
console = Console(stderr=True, highlight=False)


def emit(value: Any, *, as_json: bool, text: str) -> None:
    """Print a result: the value as one JSON document, or the text."""
    click.echo(json.dumps(value, default=str) if as_json else text)


def emit_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool, empty: str
) -> None:
    """Print rows as a JSON list, or as a table for people."""
    if as_json:
        click.echo(json.dumps(list(rows), default=str))
        return
    if not rows:
        click.echo(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    Console(highlight=False, soft_wrap=not sys.stdout.isatty()).print(table)


def read_json(file: Path) -> Any:
    """Read a JSON file; - is stdin.

    Raises:
        InvalidRequest: it holds something else.
    """
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return json.loads(data)
    except ValueError as error:
        raise InvalidRequest(f"{file}: expected JSON: {error}") from error


class Ticker(Protocol):
    """Told how far some work is."""

    def __call__(self, done: int) -> None:
        """Report the units done so far."""


@contextmanager
def progress(title: str, total: int | None, unit: str = "records") -> Iterator[Ticker]:
    """Show how far some work is: a bar on a terminal, a plain line at the end otherwise."""
    if not console.is_terminal:
        yield lambda done: None
        return
    with Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn() if total else TextColumn("{task.completed}"),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=total, rate="")

        def tick(done: int) -> None:
            speed = bar.tasks[0].speed
            bar.update(task, completed=done, rate=f"{speed:,.0f}/s" if speed else "")

        yield tick


@contextmanager
def steps(title: str) -> Iterator[Callable[[str, int], None]]:
    """Show the step that some work is in and the rows done: a bar, or a plain line a step."""
    if console.is_terminal:
        with Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.completed:,.0f} rows"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        ) as bar:
            task = bar.add_task(title, total=None)
            yield lambda step, rows: bar.update(
                task, description=f"{title}: {step}", completed=rows
            )
        return
    latest: dict[str, int] = {}

    def tell(step: str, rows: int) -> None:
        if latest and step not in latest:
            said()
        latest[step] = rows

    def said() -> None:
        step, rows = latest.popitem()
        console.print(f"{title}: {step}, {rows:,} rows", markup=False)

    try:
        yield tell
    finally:
        if latest:
            said()
