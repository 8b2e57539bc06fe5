"""Temporary files of calls: gone when the call is, and after a kill when the next one begins."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Final, final

__all__ = ["Place", "Scratch"]

_LOCK: Final = ".lock"


@final
class Scratch:
    """Makes folders for the temporary files of calls.

    Args:
        folder: of all of them; several processes may share it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self) -> Place:
        """Make a folder, and remove those of processes that are gone."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._sweep()
        while True:
            place = Place(Path(tempfile.mkdtemp(dir=self._folder)))
            if place.path.exists():
                return place
            place.release()  # another process swept it away before it was locked

    def _sweep(self) -> None:
        for path in self._folder.iterdir():
            # Without a lock yet: another process has made it just now.
            with contextlib.suppress(OSError):
                lock = os.open(path / _LOCK, os.O_RDWR)
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
                finally:
                    os.close(lock)


@final
class Place:
    """A folder that is removed when nobody holds it any more; its maker holds it at first.

    May be used from many threads. The system frees its lock however the process ends.

    Args:
        path: of the folder, which is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._holders = 1
        self._guard = threading.Lock()

    def hold(self) -> None:
        """Keep the folder until one more `release`."""
        with self._guard:
            self._holders += 1

    def release(self) -> None:
        """Hold it no more; the last one removes it."""
        with self._guard:
            self._holders -= 1
            last = not self._holders
        if last:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
