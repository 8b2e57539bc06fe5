"""What a job's process tells its runner: one JSON array a line, down a pipe."""

from __future__ import annotations

import json
import math
import time
from typing import Any, TextIO, final

from training.metrics import progress_line
from training.run import Sink

__all__ = ["EventSink", "read_event"]


@final
class EventSink(Sink):
    """Sends a fit's reports to the runner, and log lines to standard output.

    Args:
        stream: the pipe, opened for text.

    Attributes:
        metrics: the last value of each metric that was sent.
        rows: (name, value, step) of every metric that was sent.
        properties: what describes the model.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.metrics: dict[str, float] = {}
        self.rows: list[tuple[str, float, int | None]] = []
        self.properties: dict[str, Any] = {}
        self._tenth = 0

    def metric(self, name: str, value: float, *, step: int | None = None) -> None:
        """Send a metric; one that is no finite number is only in the log."""
        if math.isfinite(value):
            self.metrics[name] = float(value)
            self.rows.append((name, float(value), step))
            self.send("metric", name, float(value), step, time.time_ns() // 1000)

    def progress(self, done: int, total: int) -> None:
        """Send the progress, and print it at every tenth of the way."""
        self.send("progress", done, total)
        tenth = 10 * done // total if total else 0
        if tenth > self._tenth:
            self._tenth = tenth
            self.log(progress_line(10 * tenth))

    def property(self, name: str, value: Any) -> None:
        """Send a property."""
        self.properties[name] = value
        self.send("property", name, value)

    def log(self, line: str) -> None:
        """Print a line."""
        print(line, flush=True)

    def send(self, kind: str, *values: Any) -> None:
        """Send an event of any kind."""
        self._stream.write(json.dumps([kind, *values]) + "\n")
        self._stream.flush()


def read_event(line: bytes) -> tuple[str, list[Any]]:
    """Read what `send` wrote: the kind and the values."""
    kind, *values = json.loads(line)
    return kind, values
