"""A folder that grows: which files are new, and which of them are whole."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path, PurePath
from typing import Final, NamedTuple, final

from ingest.errors import IngestError, SourceNotFound

__all__ = ["FileIndex", "Folder", "Known", "Stamp"]

_log = logging.getLogger(__name__)

# A file system's clock may tick as rarely as this: two writes in one tick leave one time.
_TICK_NS: Final = 2_000_000_000
_MAX_STALE_LINES: Final = 1000


class Stamp(NamedTuple):
    """What changes when a file is written to or replaced."""

    size: int
    mtime_ns: int
    inode: int

    @staticmethod
    def of(stat: os.stat_result) -> Stamp:
        """Take it from a stat."""
        return Stamp(stat.st_size, stat.st_mtime_ns, stat.st_ino)


class Known(NamedTuple):
    """What an index knows of a file.

    Args:
        digest: SHA-256 of its bytes.
        end: the place after its last row; None: it was not read to the end.
    """

    digest: str
    end: int | None = None


@final
class Folder:
    """The files below a folder, look by look.

    Names that begin with `.` or `_` are left out, as are links to folders.

    Args:
        root: the folder.
        pattern: shell pattern of the files' names or, with a `/` in it, of their paths below the
            folder; None: all.
        settle_s: a file is whole when its size and time have not changed for so long.
    """

    def __init__(self, root: Path, pattern: str | None, settle_s: float) -> None:
        self.root = root
        self._pattern = pattern
        self._settle_s = settle_s
        self._taken: dict[str, Stamp] = {}
        self._settling: dict[str, tuple[Stamp, float]] = {}

    @property
    def settling(self) -> frozenset[str]:
        """The files that may still be being written."""
        return frozenset(self._settling)

    def look(self) -> list[Path]:
        """Return the whole files that were not returned before, or have changed since, by name.

        Raises:
            SourceNotFound: the folder is not there.
            IngestError: it cannot be read.

        Cost: a stat for each file.
        """
        clock, now_s = time.monotonic(), time.time()
        whole: list[Path] = []
        seen = dict(self.listed())
        for path, stamp in seen.items():
            if self._taken.get(path) == stamp:
                continue
            before, since = self._settling.get(path, (None, clock))
            if before != stamp:
                since = clock
            quiet_s = max(clock - since, now_s - stamp.mtime_ns / 1e9)
            if quiet_s >= self._settle_s:
                self._settling.pop(path, None)
                self._taken[path] = stamp
                whole.append(Path(path))
            else:
                self._settling[path] = (stamp, since)
        for gone in self._taken.keys() - seen.keys():
            del self._taken[gone]
        for gone in self._settling.keys() - seen.keys():
            del self._settling[gone]
        return sorted(whole)

    def forget(self, path: Path) -> None:
        """Take a file for a new one again, that has to become whole from now on."""
        stamp = self._taken.pop(str(path), None)
        if stamp is not None:
            self._settling[str(path)] = (stamp, time.monotonic())

    def listed(self) -> Iterator[tuple[str, Stamp]]:
        """Give the files that are there now, whole or not, in no order."""
        folders = [str(self.root)]
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    for entry in entries:
                        if entry.name.startswith((".", "_")):
                            continue
                        if entry.is_dir(follow_symlinks=False):
                            folders.append(entry.path)
                        elif entry.is_file() and self._is_meant(entry):
                            with contextlib.suppress(FileNotFoundError):  # gone meanwhile
                                yield entry.path, Stamp.of(entry.stat())
            except FileNotFoundError:
                # A folder may go at any moment; only without the root there is no input.
                if not self.root.is_dir():
                    raise SourceNotFound(f"{self.root}: no such file or folder") from None
            except OSError as error:
                raise IngestError(f"{folder}: cannot be read: {error}") from error

    def _is_meant(self, entry: os.DirEntry[str]) -> bool:
        if self._pattern is None:
            return True
        if "/" in self._pattern:
            below = PurePath(entry.path).relative_to(self.root).as_posix()
            return fnmatchcase(below, self._pattern)
        return fnmatchcase(entry.name, self._pattern)


@final
class FileIndex:
    """Digests of files that were read, so that a restart need not read them again.

    A cache in one file of JSON lines, of which the last about a path counts: it may be lost at any
    time, and what it says is believed only as long as a file's size, time and inode are the same.

    Args:
        path: the index; made when there is something to write. None: it is kept in memory.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._known: dict[str, tuple[Stamp, Known]] = {}
        if path is not None:
            self._load(path)

    def find(self, path: Path, stamp: Stamp) -> Known | None:
        """Return what is known of a file that still looks like this."""
        stored = self._known.get(os.path.abspath(path))
        return stored[1] if stored is not None and stored[0] == stamp else None

    def note(self, path: Path, stamp: Stamp, known: Known) -> None:
        """Remember a file, unless it was written to a moment ago: its time may not show more."""
        if time.time_ns() - stamp.mtime_ns < _TICK_NS:
            return
        name = os.path.abspath(path)
        self._known[name] = (stamp, known)
        if self.path is None:
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(_line(name, stamp, known))
        except OSError as error:
            _log.warning("index %s cannot be written: %s", self.path, error)

    def _load(self, path: Path) -> None:
        lines = 0
        try:
            with path.open(encoding="utf-8") as file:
                for line in file:
                    lines += 1
                    self._read(line)
        except FileNotFoundError:
            pass
        except (OSError, UnicodeDecodeError) as error:
            _log.warning(
                "index %s cannot be read, files are read for their digests: %s", path, error
            )
        if lines > 2 * len(self._known) + _MAX_STALE_LINES:
            self._rewrite(path)

    def _read(self, line: str) -> None:
        try:
            path, size, mtime_ns, inode, digest, end = json.loads(line)
            self._known[path] = (Stamp(size, mtime_ns, inode), Known(digest, end))
        except (ValueError, TypeError):
            return  # a write that was cut short

    def _rewrite(self, path: Path) -> None:
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with fresh.open("w", encoding="utf-8") as file:
                file.writelines(_line(name, *entry) for name, entry in self._known.items())
            fresh.replace(path)
        except OSError as error:
            _log.warning("index %s cannot be written: %s", path, error)


def _line(path: str, stamp: Stamp, known: Known) -> str:
    return json.dumps([path, *stamp, *known]) + "\n"
