"""How far a long work on a home has come: a small file that a kill leaves whole."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

__all__ = ["Journal"]


@final
class Journal:
    """One JSON object in a file. One process at a time may write it: the caller holds a lock.

    Args:
        path: of the file; its folder is made when something is written.

    >>> import tempfile
    >>> journal = Journal(Path(tempfile.mkdtemp()) / "load.json")
    >>> journal.read()
    {}
    >>> journal.write({"last": "N42"})
    >>> journal.read()["last"]
    'N42'
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Any]:
        """Return what was written last; nothing where there is no file, or it is damaged."""
        try:
            found = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def write(self, body: Mapping[str, Any]) -> None:
        """Replace what is there, durably."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_name(f"{self._path.name}.part")
        with part.open("w") as file:
            json.dump(body, file)
            file.flush()
            os.fsync(file.fileno())
        part.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def remove(self) -> None:
        """Delete the file, if it is there."""
        self._path.unlink(missing_ok=True)
