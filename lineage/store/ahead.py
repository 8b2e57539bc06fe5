"""Reading a file ahead: the system is told that all of it is wanted, and brings it into memory."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

__all__ = ["read_ahead"]

# The system takes in no more at one call than its window, which may be as small as this.
_PIECE_BYTES: Final = 128 << 10
_LEAST_BYTES: Final = 4 << 20
# Of the memory that is free or holds files: a file that does not fit drives out what is needed.
_MOST_OF_MEMORY: Final = 0.5


def read_ahead(path: Path) -> threading.Thread | None:
    """Bring a file that this process has open into memory, in a thread of its own.

    A gigabyte that lies on disk in pages all over is there in half a second, where page after page
    takes many. It is advice: nothing fails, and where the system takes none nothing is done.

    Args:
        path: of the file.

    Returns:
        The thread; None when the file is small, or too large for the memory.
    """
    advise = getattr(os, "posix_fadvise", None)
    if advise is None:
        return None
    try:
        size = path.stat().st_size
        is_worth_it = _LEAST_BYTES <= size <= _available_bytes() * _MOST_OF_MEMORY
        descriptor = _descriptor(path) if is_worth_it else None
    except OSError:
        return None
    if descriptor is None:
        return None

    def advise_all() -> None:
        try:
            for first in range(0, size, _PIECE_BYTES):
                advise(descriptor, first, _PIECE_BYTES, os.POSIX_FADV_WILLNEED)
        except OSError:  # closed meanwhile
            return

    thread = threading.Thread(target=advise_all, name="lineage read-ahead", daemon=True)
    thread.start()
    return thread


def _descriptor(path: Path) -> int | None:
    """A descriptor of the file that is open already.

    One of our own would have to be closed, and closing any descriptor of a database drops the locks
    that SQLite holds for this process.
    """
    wanted = os.path.realpath(path)
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == wanted:
                return int(name)
        except OSError:  # that of the listing itself
            continue
    return None


def _available_bytes() -> int:
    with open("/proc/meminfo", encoding="ascii") as lines:
        for line in lines:
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return 0
