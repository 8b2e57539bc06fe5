"""Checkpoints beyond a job: restored before it starts, copied out as they are complete."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import Final, NamedTuple, final

from training.errors import InvalidData

__all__ = ["PART", "CheckpointCopy"]

_EVERY_S: Final = 0.5
PART: Final = ".part"
"""What ends the name of a file that is not yet whole."""


@final
class CheckpointCopy:
    """Keeps a folder that outlives the job like the job's own folder of checkpoints.

    A file is complete when it did not change between two looks, or has taken another's place: a
    checkpoint that is renamed over the last one may never stay for long. It is copied beside its
    name and renamed, so what is kept is always whole. Files that a job deletes stay kept; those
    that others add while it runs are not brought in.

    Args:
        local: the job's folder.
        kept: the one that outlives it; made when absent.
    """

    def __init__(self, local: Path, kept: Path) -> None:
        self._local = local
        self._kept = kept
        self._seen: dict[Path, _State] = {}
        self._copied: dict[Path, _State] = {}
        self._looked = 0.0

    def restore(self) -> int:
        """Bring what is kept into the job's folder; return how many files.

        Raises:
            InvalidData: a file cannot be read or written.
        """
        count = 0
        try:
            self._kept.mkdir(parents=True, exist_ok=True)
            for file in sorted(self._kept.rglob("*")):
                if file.is_file() and not file.name.endswith(PART):
                    to = self._local / file.relative_to(self._kept)
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(file, to)
                    self._copied[to] = _state(to)
                    count += 1
        except OSError as error:
            raise InvalidData(
                f"checkpoints of {self._kept} cannot be restored: {error}", path=str(self._kept)
            ) from error
        return count

    def sync(self, *, final: bool = False) -> None:
        """Copy out what is complete; with `final` everything, since nobody writes any more.

        Raises:
            InvalidData: a file cannot be written there.
        """
        now = time.monotonic()
        if not final and now < self._looked + _EVERY_S:
            return
        self._looked = now
        for file in sorted(self._local.rglob("*")):
            try:
                if not file.is_file() or file.name.endswith(PART):
                    continue
                state = _state(file)
            except FileNotFoundError:
                continue  # The job replaced or deleted it meanwhile.
            if self._copied.get(file) == state:
                continue
            before = self._seen.get(file)
            if final or before == state or (before is not None and before.inode != state.inode):
                self._copy(file, state)
            self._seen[file] = state

    def _copy(self, file: Path, state: _State) -> None:
        to = self._kept / file.relative_to(self._local)
        part = to.with_name(to.name + PART)
        try:
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, part)
            with part.open("rb") as copy:
                os.fsync(copy.fileno())
            if _state(file) == state:
                part.replace(to)
                self._copied[file] = state
            else:
                part.unlink()
        except FileNotFoundError:
            part.unlink(missing_ok=True)
        except OSError as error:
            raise InvalidData(
                f"checkpoint {file.name} cannot be kept in {self._kept}: {error}",
                path=str(self._kept),
            ) from error


class _State(NamedTuple):
    inode: int
    size: int
    changed_ns: int


def _state(file: Path) -> _State:
    found = file.stat()
    return _State(found.st_ino, found.st_size, found.st_mtime_ns)
