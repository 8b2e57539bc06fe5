"""What an offline table promises."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple, final

import pyarrow as pa

__all__ = ["FileStatistics", "OfflineTable", "Snapshot"]


class FileStatistics(NamedTuple):
    """What the table's log says of one file.

    Args:
        rows: how many; None: unknown.
        size_bytes: of the file.
        earliest_us: no event time in the file is earlier; None: unknown.
        latest_us: no event time in the file is later; None: unknown.
        day_us: the first µs of the file's event-date partition; None: unknown.
        first_written_us: no write time in the file is earlier; None: unknown.
    """

    rows: int | None
    size_bytes: int
    earliest_us: int | None = None
    latest_us: int | None = None
    day_us: int | None = None
    first_written_us: int | None = None


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of an offline table: the files that make it up.

    Args:
        uri: the table's folder.
        version: Delta version.
        files: Parquet files, sorted.
        columns: the names of the table's columns at this version.
        statistics: one per file, in their order; empty: nothing is known of the files.
    """

    uri: str
    version: int
    files: tuple[str, ...]
    columns: tuple[str, ...]
    statistics: tuple[FileStatistics, ...] = field(default=(), repr=False)

    @property
    def content_hash(self) -> str:
        """A digest of the set of files. A file's name is unique and its bytes never change."""
        names = "\n".join(file.rsplit("/", 1)[-1] for file in self.files)
        return hashlib.sha256(names.encode()).hexdigest()

    def between(self, earliest_us: int | None, latest_us: int | None) -> Snapshot:
        """Leave out the files all of whose event times lie outside; the ends are inside.

        Args:
            earliest_us: µs since the epoch; None: any.
            latest_us: µs since the epoch; None: any.

        >>> day = FileStatistics(rows=1, size_bytes=9, earliest_us=0, latest_us=5)
        >>> Snapshot("uri", 0, ("a", "b"), (), (day, day._replace(earliest_us=3))).between(0, 2)
        Snapshot(uri='uri', version=0, files=('a',), columns=())
        """
        return self._where(lambda known: not _outside(known, earliest_us, latest_us))

    def written_by(self, as_of_us: int | None) -> Snapshot:
        """Leave out the files all of whose rows were written later.

        Args:
            as_of_us: µs since the epoch, inclusive; None: any.
        """
        if as_of_us is None:
            return self
        return self._where(
            lambda known: known.first_written_us is None or known.first_written_us <= as_of_us
        )

    def _where(self, seen: Callable[[FileStatistics], bool]) -> Snapshot:
        if not self.statistics:
            return self
        kept = [
            (file, known)
            for file, known in zip(self.files, self.statistics, strict=True)
            if seen(known)
        ]
        if len(kept) == len(self.files):
            return self
        return replace(
            self,
            files=tuple(file for file, _ in kept),
            statistics=tuple(known for _, known in kept),
        )


class OfflineTable(ABC):
    """The history of one feature group."""

    @abstractmethod
    def append(self, rows: pa.Table, *, application: str, sequence: int) -> int:
        """Commit rows together with the application's sequence; return the table's version.

        The table is made by its first append, and new columns are added to it. Not safe for two
        writers of one application at once: the caller holds the flush lock.
        """

    @abstractmethod
    def last_sequence(self, application: str) -> int:
        """Return the sequence of the application's last append, 0 when there was none."""

    @abstractmethod
    def version(self) -> int | None:
        """Return the newest version; None when nothing was written yet."""

    @abstractmethod
    def scan(self, *, version: int | None = None) -> Snapshot | None:
        """Return the files of a version (None: the newest); None when nothing was written yet."""


def _outside(known: FileStatistics, earliest_us: int | None, latest_us: int | None) -> bool:
    if latest_us is not None and known.earliest_us is not None and known.earliest_us > latest_us:
        return True
    return earliest_us is not None and known.latest_us is not None and known.latest_us < earliest_us
