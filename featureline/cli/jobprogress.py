"""How far a training job is: a bar with the last metric on a terminal, otherwise plain lines."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, final

import click
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

import training
from featureline.cli.output import console

__all__ = ["job_progress"]

_LINE_S: Final = 10.0

Show = Callable[[training.Progress], None]


@contextmanager
def job_progress(title: str) -> Iterator[Show]:
    """Yield what shows a job's progress on stderr while it runs."""
    if not console.is_terminal:
        yield _Lines(title)
        return
    with Progress(
        TextColumn("[bold]{task.description}", markup=True),
        TextColumn("{task.fields[status]}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        TextColumn("{task.fields[metric]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=console,
        transient=True,
    ) as bar:
        task = bar.add_task(title, total=None, status="", metric="", left="")
        pace = _Pace()

        def show(seen: training.Progress) -> None:
            bar.update(
                task,
                total=seen.total or None,
                completed=seen.done,
                status=seen.status.value,
                metric=_last_metric(seen),
                left=pace.left(seen),
            )

        yield show


@final
class _Pace:
    """Tells how long the rest will take, by the steps done since the fit began."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began: tuple[float, int] | None = None

    def left(self, seen: training.Progress) -> str:
        """Return such as `0:01:30 left`, or "" while that is not known."""
        now = self._clock()
        if not seen.total or not seen.done:
            self._began = None
            return ""
        if self._began is None or seen.done < self._began[1]:
            # The first step pays for warming up, so the pace is that of those behind it.
            self._began = (now, seen.done)
        began, first = self._began
        if seen.done == first or seen.done >= seen.total:
            return ""
        seconds = (now - began) / (seen.done - first) * (seen.total - seen.done)
        return f"{dt.timedelta(seconds=round(seconds))} left"


@final
class _Lines:
    """Says each change of status, and every ten seconds how far the fit is."""

    def __init__(self, title: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._title = title
        self._clock = clock
        self._pace = _Pace(clock)
        self._status: training.SecondaryStatus | None = None
        self._said = clock()

    def __call__(self, seen: training.Progress) -> None:
        left = self._pace.left(seen)
        now = self._clock()
        if seen.status is not self._status:
            self._status = seen.status
            if seen.status.primary.is_final:
                return  # The result says so.
        elif now < self._said + _LINE_S:
            return
        self._said = now
        parts = [seen.status.value]
        if seen.total:
            parts.append(f"{seen.done:,} of {seen.total:,} steps")
        parts += [part for part in (_last_metric(seen), left) if part]
        click.echo(f"{self._title}: {', '.join(parts)}", err=True)


def _last_metric(seen: training.Progress) -> str:
    if not seen.metrics:
        return ""
    name, value = list(seen.metrics.items())[-1]
    return f"{name}={value:.6g}"
