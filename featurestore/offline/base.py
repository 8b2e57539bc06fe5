"""What an offline table promises."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

import pyarrow as pa

__all__ = ["OfflineTable", "Snapshot"]


@final
@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of an offline table: the files that make it up.

    Args:
        uri: the table's folder.
        version: Delta version.
        files: Parquet files, sorted.
        columns: the names of the table's columns at this version.
    """

    uri: str
    version: int
    files: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def content_hash(self) -> str:
        """A digest of the set of files. A file's name is unique and its bytes never change."""
        names = "\n".join(file.rsplit("/", 1)[-1] for file in self.files)
        return hashlib.sha256(names.encode()).hexdigest()


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
