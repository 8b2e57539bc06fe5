"""Metrics that are read from what a job prints."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from training.jobs.execution import MetricDefinition

__all__ = ["LogMetric", "LogScanner"]

_HOST: Final = re.compile(r"\bhost=([A-Za-z0-9\-]+)")
_EPOCH: Final = re.compile(r"\bepoch[\s=:\[]+(\d+)", re.IGNORECASE)
_CHUNK: Final = 1 << 20


@final
@dataclass(frozen=True)
class LogMetric:
    """One value found in a line; host and epoch where the line names them."""

    name: str
    value: float
    host: str | None = None
    epoch: int | None = None


@final
class LogScanner:
    """Reads on in a log that grows, and finds metrics in its whole lines.

    Args:
        log: the file; it need not be there yet.
        definitions: what to look for.
    """

    def __init__(self, log: Path, definitions: Sequence[MetricDefinition]) -> None:
        self._log = log
        self._definitions = definitions
        self._offset = 0
        self._rest = b""

    def scan(self, *, final: bool = False) -> Iterator[LogMetric]:
        """Yield what is new; with `final` also from a last line without an end.

        Values that are no finite number are left out.
        """
        if not self._definitions or not self._log.is_file():
            return
        with self._log.open("rb") as file:
            file.seek(self._offset)
            while chunk := file.read(_CHUNK):
                self._offset += len(chunk)
                *lines, self._rest = (self._rest + chunk).split(b"\n")
                for line in lines:
                    yield from self._find(line)
        if final and self._rest:
            rest, self._rest = self._rest, b""
            yield from self._find(rest)

    def _find(self, line: bytes) -> Iterator[LogMetric]:
        text = line.decode("utf-8", errors="replace")
        for definition in self._definitions:
            value = definition.value(text)
            if value is not None and math.isfinite(value):
                host, epoch = _HOST.search(text), _EPOCH.search(text)
                yield LogMetric(
                    definition.name,
                    value,
                    host[1] if host else None,
                    int(epoch[1]) if epoch else None,
                )
