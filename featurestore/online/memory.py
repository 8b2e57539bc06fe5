"""The online store in memory: the reference for the contract, and for tests of other parts."""

from __future__ import annotations

import bisect
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import final

from featurestore.codec import (
    DELETED,
    ERASED,
    HARD,
    NEVER,
    OutboxEntry,
    StoredValue,
    erased_key,
    record_key,
)
from featurestore.errors import FeatureStoreError, PositionConflict, StoreUnavailable
from featurestore.online.base import (
    Batch,
    Erased,
    OnlineStore,
    Outcome,
    Version,
    Write,
    decide,
    decide_erasure,
)
from featurestore.online.windows import (
    SpaceWindows,
    WindowStore,
    by_source,
    erase_events,
    note_writes,
)
from featurestore.outbox import Outbox
from featurestore.window.tile import Space

__all__ = ["MemoryStore"]


@final
class MemoryStore(OnlineStore):
    """An online store that ends with the process."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._groups: dict[int, dict[bytes, StoredValue]] = {}
        self._positions: dict[str, dict[str, int]] = {}
        self._outbox = _MemoryOutbox(self._lock, self._check_open)
        self._sequence = 0
        self._space = _MemorySpace()
        self._windows = SpaceWindows(self._opened)
        self._id = uuid.uuid4().hex
        self._open = True

    def put(self, batches: Sequence[Batch]) -> list[list[Outcome] | FeatureStoreError]:
        """See OnlineStore.put."""
        with self._lock:
            self._check_open()
            before = self._sequence
            answers = [self._put_batch(batch) for batch in batches]
            known = by_source(self._space)
            if known:
                stored = [
                    (batch.writes, answer)
                    for batch, answer in zip(batches, answers, strict=True)
                    if isinstance(answer, list)
                ]
                note_writes(
                    self._space,
                    known,
                    [writes for writes, _ in stored],
                    [answer for _, answer in stored],
                    before,
                )
            return answers

    def get(self, group: int, identifiers: Sequence[bytes]) -> list[StoredValue | None]:
        """See OnlineStore.get."""
        with self._lock:
            self._check_open()
            values = self._groups.get(group, {})
            return [values.get(record_key(group, identifier)) for identifier in identifiers]

    def scan(
        self, group: int, *, after: bytes | None, limit: int
    ) -> list[tuple[bytes, StoredValue]]:
        """See OnlineStore.scan."""
        with self._lock:
            self._check_open()
            values = self._groups.get(group, {})
            keys = sorted(values)
            start = 0 if after is None else bisect.bisect_right(keys, after)
            return [(key, values[key]) for key in keys[start : start + limit]]

    def erase(self, group: int, identifier: bytes, *, through_us: int) -> Erased:
        """See OnlineStore.erase."""
        with self._lock:
            self._check_open()
            values = self._groups.setdefault(group, {})
            key, mark = record_key(group, identifier), erased_key(group, identifier, self._id)
            stored, erased = values.get(key), values.get(mark)
            done = decide_erasure(
                through_us, stored and stored.event_time_us, erased and erased.event_time_us
            )
            if done is None:
                assert erased is not None
                return Erased(False, erased.event_time_us)
            values.pop(key, None)
            erase_events(self._space, group, identifier)
            flags = DELETED | HARD | ERASED
            values[mark] = StoredValue(mark[4:], flags, 0, done.through_us, NEVER, 0, b"")
            return done

    def erased_through(self, group: int, identifiers: Sequence[bytes]) -> list[int | None]:
        """See OnlineStore.erased_through."""
        with self._lock:
            self._check_open()
            values = self._groups.get(group, {})
            found = [values.get(erased_key(group, each, self._id)) for each in identifiers]
            return [None if erased is None else erased.event_time_us for erased in found]

    def scrub(self, group: int, identifiers: Sequence[bytes]) -> int | None:
        """See OnlineStore.scrub: memory that was freed is the process's."""
        return 0

    def drop(self, group: int) -> None:
        """See OnlineStore.drop."""
        with self._lock:
            self._check_open()
            self._groups.pop(group, None)
            self._outbox.entries.pop(group, None)

    def source_position(self, source: str) -> dict[str, int]:
        """See OnlineStore.source_position."""
        with self._lock:
            self._check_open()
            return dict(self._positions.get(source, {}))

    def last_sequence(self, group: int) -> int:
        """See OnlineStore.last_sequence."""
        with self._lock:
            self._check_open()
            return self._sequence

    @property
    def outbox(self) -> Outbox:
        """See OnlineStore.outbox."""
        return self._outbox

    @property
    def store_id(self) -> str:
        """See OnlineStore.store_id."""
        return self._id

    @property
    def windows(self) -> WindowStore:
        """See OnlineStore.windows."""
        return self._windows

    def close(self) -> None:
        """See OnlineStore.close."""
        self._open = False

    @contextmanager
    def _opened(self, write: bool) -> Iterator[Space]:
        with self._lock:
            self._check_open()
            yield self._space

    def _put_batch(self, batch: Batch) -> list[Outcome] | FeatureStoreError:
        if batch.position is not None:
            source = batch.position.source
            try:
                self._positions[source] = batch.position.advance(self._positions.get(source, {}))
            except PositionConflict as conflict:
                return conflict
        return [self._put_one(write) for write in batch.writes]

    def _put_one(self, write: Write) -> Outcome:
        values = self._groups.setdefault(write.group, {})
        key = record_key(write.group, write.identifier)
        erased = values.get(erased_key(write.group, write.identifier, self._id))
        if erased is not None and write.event_time_us <= erased.event_time_us:
            return Outcome.ERASED
        outcome = Outcome.APPLIED
        if write.online:
            current = values.get(key)
            stored = current and Version(current.event_time_us, current.sequence)
            outcome = decide(write, stored)
        if outcome >= Outcome.REFUSED:
            return outcome
        self._sequence += 1
        if write.online and outcome is Outcome.APPLIED:
            values[key] = StoredValue(
                write.identifier,
                write.flags,
                write.schema_version,
                write.event_time_us,
                write.expires_us,
                self._sequence,
                b"" if write.flags else write.record,
            )
        if write.offline:
            self._outbox.entries.setdefault(write.group, []).append(
                OutboxEntry(
                    self._sequence,
                    write.flags,
                    write.schema_version,
                    write.event_time_us,
                    write.expires_us,
                    write.invocation_us,
                    write.record,
                )
            )
        return outcome

    def _check_open(self) -> None:
        if not self._open:
            raise StoreUnavailable("the online store is closed")


@final
class _MemorySpace:
    """An ordered space of keys in memory."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []
        self._values: dict[bytes, bytes] = {}

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self._values:
            bisect.insort(self._keys, key)
        self._values[key] = value

    def delete(self, key: bytes) -> None:
        if self._values.pop(key, None) is not None:
            del self._keys[bisect.bisect_left(self._keys, key)]

    def scan(self, first: bytes, end: bytes) -> Iterator[tuple[bytes, bytes]]:
        keys = self._keys[
            bisect.bisect_left(self._keys, first) : bisect.bisect_left(self._keys, end)
        ]
        return iter([(key, self._values[key]) for key in keys])


@final
class _MemoryOutbox(Outbox):
    def __init__(self, lock: threading.RLock, check_open: Callable[[], None]) -> None:
        self._lock = lock
        self._check_open = check_open
        self.entries: dict[int, list[OutboxEntry]] = {}

    def read(self, group: int, *, after: int, limit: int) -> Sequence[OutboxEntry]:
        with self._lock:
            self._check_open()
            entries = self.entries.get(group, [])
            start = bisect.bisect_right(entries, after, key=lambda entry: entry.sequence)
            return entries[start : start + limit]

    def remove(self, group: int, *, through: int) -> int:
        with self._lock:
            self._check_open()
            entries = self.entries.get(group, [])
            end = bisect.bisect_right(entries, through, key=lambda entry: entry.sequence)
            del entries[:end]
            return end

    def pending(self, group: int | None = None, *, limit: int | None = None) -> int:
        with self._lock:
            self._check_open()
            if group is not None:
                return len(self.entries.get(group, []))
            return sum(map(len, self.entries.values()))

    def size_bytes(self) -> int | None:
        with self._lock:
            return sum(len(e.record) for entries in self.entries.values() for e in entries)
