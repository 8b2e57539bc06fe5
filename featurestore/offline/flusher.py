"""The flush: outbox entries into the Delta table, exactly once.

A slice of entries is committed with the store's application id and the sequence of its last
entry, then removed from the outbox. A kill between the two leaves entries whose sequence the
table already names; the next flush skips them. delta-rs takes the same application version
twice, so the check is made here, under a lock that one process holds.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, final

from featurestore import record as record_rules
from featurestore.codec import OutboxEntry
from featurestore.convert import entries_to_table
from featurestore.offline.base import OfflineTable
from featurestore.outbox import Outbox
from featurestore.registry import Registered

__all__ = ["Appending", "Flushed", "Flusher"]

SLICE_RECORDS: Final = 50_000
_DIGITS: Final = 20


@final
@dataclass(frozen=True, slots=True)
class Flushed:
    """What one flush of a group did.

    Args:
        records: rows appended by this flush.
        version: the table's version afterwards; None when nothing was ever written.
    """

    records: int
    version: int | None


@final
@dataclass(frozen=True, slots=True)
class Appending:
    """What the only one that appends to a table has to know.

    Args:
        flushed: sequence of the store's last write that the table has; later ones wait.
        write_time: gives the write time of what is appended next, µs: later than any before.
    """

    flushed: int
    write_time: Callable[[], int]


@final
class Flusher:
    """Moves the outbox of one store into offline tables.

    Args:
        outbox: of the online store.
        application: names the store in the tables; unique to it, so that a rebuilt online store,
            whose sequence begins again, never meets the old one's number.
        locks: folder for lock files; each also holds the last write time of its group.
        opened: returns the entries of a group with their records in clear.
        now: the clock, µs since the epoch.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        application: str,
        locks: Path,
        opened: Callable[[Registered, Sequence[OutboxEntry]], Sequence[OutboxEntry]] = (
            lambda entry, entries: entries
        ),
        now: Callable[[], int] = record_rules.now_us,
    ) -> None:
        self._outbox = outbox
        self._application = application
        self._locks = locks
        self._opened = opened
        self._now = now

    def flush(
        self,
        current: Callable[[], Registered],
        table: OfflineTable,
        *,
        slice_records: int = SLICE_RECORDS,
    ) -> Flushed:
        """Commit all entries of a group that wait now.

        Args:
            current: returns the group's registration; asked under the lock, after the entries
                were read, so that no entry has a feature its definition lacks.
            table: the group's table.
            slice_records: entries per Delta commit.

        Raises:
            StoreUnavailable, StoreFull: the table could not be written; the entries wait on.
            StoreCorrupt: an entry cannot be opened; it and those behind it wait on.
        """
        with self._lock(current().number) as lock:
            return self._flush(current, table, lock, slice_records)

    @contextmanager
    def appending(
        self, current: Callable[[], Registered], table: OfflineTable
    ) -> Iterator[Appending]:
        """Flush a group, then be the only one that appends to its table; puts go on.

        Args:
            current: see `flush`.
            table: the group's table.

        Raises:
            StoreUnavailable, StoreFull, StoreCorrupt: as for `flush`.
        """
        number = current().number
        with self._lock(number) as lock:
            self._flush(current, table, lock, SLICE_RECORDS)
            yield Appending(table.last_sequence(self._application), partial(self._write_time, lock))

    def _flush(
        self,
        current: Callable[[], Registered],
        table: OfflineTable,
        lock: int,
        slice_records: int,
    ) -> Flushed:
        number = current().number
        records = 0
        done = table.last_sequence(self._application)
        version: int | None = None
        while entries := self._outbox.read(number, after=done, limit=slice_records):
            entry = current()
            rows = entries_to_table(
                entry.group,
                self._opened(entry, entries),
                write_time_us=self._write_time(lock),
            )
            done = entries[-1].sequence
            version = table.append(rows, application=self._application, sequence=done)
            self._outbox.remove(number, through=done)
            records += len(entries)
            if len(entries) < slice_records:
                break  # what came behind it came meanwhile; under load that never ends
        if version is None:
            self._outbox.remove(number, through=done)  # left by a kill after a commit
            version = table.version()
        return Flushed(records, version)

    @contextmanager
    def paused(self, number: int) -> Iterator[None]:
        """Hold off the flushes of a group, in every process; puts go on."""
        with self._lock(number):
            yield

    def _write_time(self, lock: int) -> int:
        # Later flushes have later write times even when the clock is set back, in any process:
        # the write time decides between versions of one event time.
        last = os.pread(lock, _DIGITS, 0)
        us = max(self._now(), int(last) + 1 if last.isdigit() else 0)
        os.pwrite(lock, b"%0*d" % (_DIGITS, us), 0)
        return us

    @contextmanager
    def settling(self, number: int) -> Iterator[None]:
        """Be the only one, in any process, that brings a group's table online."""
        with self._lock(number, "load"):
            yield

    @contextmanager
    def maintaining(self, number: int) -> Iterator[None]:
        """Be the only one, in any process, that rewrites a group's table; flushes go on."""
        with self._lock(number, "maintain"):
            yield

    @contextmanager
    def _lock(self, number: int, kind: str = "flush") -> Iterator[int]:
        self._locks.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._locks / f"{kind}-{number}.lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)
