"""Reads the logs of a job on, piece by piece, while it runs and afterwards."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

from training.errors import InvalidJob, nearest

__all__ = ["LOOK_S", "LogPiece", "LogReader", "follow_logs", "log_lines"]

LOOK_S: Final = 0.2
"""How often to look for more, in seconds."""
_PIECE_BYTES: Final = 65_536
_LINE_BYTES: Final = 1 << 20


@final
@dataclass(frozen=True)
class LogPiece:
    """Some bytes of a host's log.

    Args:
        host: whose log it is.
        data: at most 64 KiB, which need not end with a line.
        offset: of the byte behind it.
    """

    host: str
    data: bytes
    offset: int


@final
class LogReader:
    """Reads logs that may grow; it holds one piece at a time.

    Args:
        logs: by host; a file may come later.
        offsets: by host, where to begin; else at the start.

    Raises:
        InvalidJob: there is no such host, or an offset is negative or behind the log's end.
    """

    def __init__(self, logs: Mapping[str, Path], offsets: Mapping[str, int] | None = None) -> None:
        self._logs = logs
        self.hosts = tuple(logs)
        self._offsets = dict.fromkeys(logs, 0)
        for host, offset in (offsets or {}).items():
            if host not in logs:
                raise InvalidJob(
                    f"offsets: the job has no host {host!r}{nearest(host, logs)}; it has "
                    f"{', '.join(logs)}",
                    field="offsets",
                )
            size = logs[host].stat().st_size if logs[host].is_file() else 0
            if not 0 <= offset <= size:
                raise InvalidJob(
                    f"offsets: {host}: expected 0 to {size}, the bytes of its log, got {offset}",
                    field="offsets",
                )
            self._offsets[host] = offset

    def read(self) -> Iterator[LogPiece]:
        """Yield what is there by now and was not yielded yet, one host after the other."""
        for host, log in self._logs.items():
            if not log.is_file():
                continue
            with log.open("rb") as file:
                file.seek(self._offsets[host])
                while data := file.read(_PIECE_BYTES):
                    self._offsets[host] += len(data)
                    yield LogPiece(host, data, self._offsets[host])


def follow_logs(
    reader: LogReader, has_ended: Callable[[], bool], *, look_s: float = LOOK_S
) -> Iterator[LogPiece]:
    """Yield pieces as they are written, until the job has ended and all is read.

    Args:
        reader: of the logs.
        has_ended: whether nothing more is written.
        look_s: how often to look, in seconds.
    """
    while True:
        # Asked before reading: what is written before the end is read.
        is_over = has_ended()
        yield from reader.read()
        if is_over:
            return
        time.sleep(look_s)


def log_lines(pieces: Iterable[LogPiece], hosts: int) -> Iterator[str]:
    """Yield the lines in pieces of logs; a line beyond 1 MiB comes as several.

    Args:
        pieces: of each host in the order of its log.
        hosts: how many the job has; lines of several hosts say whose they are.
    """
    rests: dict[str, bytes] = {}
    for piece in pieces:
        before = f"{piece.host}: " if hosts > 1 else ""
        *lines, rest = (rests.get(piece.host, b"") + piece.data).split(b"\n")
        for line in lines:
            yield before + _text(line)
        if len(rest) >= _LINE_BYTES:
            yield before + _text(rest)
            rest = b""
        rests[piece.host] = rest
    for host, rest in rests.items():
        if rest:
            yield (f"{host}: " if hosts > 1 else "") + _text(rest)


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").removesuffix("\r")
