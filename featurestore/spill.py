"""Folders for what a sort cannot keep in memory, gone afterwards, a killed process's as well."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

__all__ = ["spill_folder"]

_LOCK: Final = "lock"


@contextmanager
def spill_folder(home: Path, purpose: str) -> Iterator[Path]:
    """Make a folder in the home for one piece of work, and remove it at its end.

    Folders that killed processes left behind are removed first: nobody holds their locks.

    Args:
        home: the home of the store.
        purpose: begins the folder's name.

    >>> with spill_folder(Path(tempfile.mkdtemp()), "verify") as folder:
    ...     folder.is_dir()
    True
    >>> folder.exists(), folder.parent.exists()
    (False, False)
    """
    parent = home / "spill"
    while True:
        parent.mkdir(exist_ok=True)
        _remove_left_behind(parent)
        try:
            folder = Path(tempfile.mkdtemp(prefix=f"{purpose}-", dir=parent))
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except FileNotFoundError:
            continue  # another process was done, or took it for one left behind
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / _LOCK).exists():
            break
        os.close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)
        with contextlib.suppress(OSError):  # another process has a folder there
            parent.rmdir()


def _remove_left_behind(parent: Path) -> None:
    for folder in parent.iterdir():
        try:
            lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except (FileNotFoundError, NotADirectoryError):
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue
        else:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)
