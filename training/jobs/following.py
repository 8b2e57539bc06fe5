"""Follows the logs of a job while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

__all__ = ["follow_logs"]

_LOOK_S: Final = 0.2


def follow_logs(
    logs: Mapping[str, Path], has_ended: Callable[[], bool], *, look_s: float = _LOOK_S
) -> Iterator[str]:
    """Yield lines as they are written, until the job has ended and all is read.

    Lines of several hosts say whose they are.

    Args:
        logs: by host; a file may come later.
        has_ended: whether nothing more is written.
        look_s: how often to look, in seconds.
    """
    rests = dict.fromkeys(logs, b"")
    offsets = dict.fromkeys(logs, 0)
    is_over = False
    while True:
        # Asked before reading: what is written before the end is read.
        is_over = has_ended()
        for host, log in logs.items():
            before = f"{host}: " if len(logs) > 1 else ""
            if log.is_file():
                with log.open("rb") as file:
                    file.seek(offsets[host])
                    for line in file:
                        offsets[host] += len(line)
                        rests[host] += line
                        if line.endswith(b"\n"):
                            yield before + _text(rests[host])
                            rests[host] = b""
            if is_over and rests[host]:
                yield before + _text(rests[host])
        if is_over:
            return
        time.sleep(look_s)


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").removesuffix("\n").removesuffix("\r")
