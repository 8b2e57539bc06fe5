"""Records written in one home: checked, and committed to the online store and its outbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final, final

from featurestore.arrowcode import check_records, encode_batch
from featurestore.batches import record_batches
from featurestore.checked import CheckedBatch
from featurestore.embedded.prepare import Preparer
from featurestore.embedded.reads import Reader
from featurestore.errors import FeatureGroupNotFound, InvalidRecord, InvalidRequest
from featurestore.online import Batch, Committer, Outcome, PutColumns, Write
from featurestore.position import SourcePosition
from featurestore.record import Delete, Put
from featurestore.registry import Registered, Registry, named
from featurestore.requested import refused_delete, write_error
from featurestore.schema import Ttl
from featurestore.store import PutResult, WriteError

__all__ = ["Records"]

_LIST_CHUNK: Final = 1_000


@final
class Records:
    """The verbs that write records in one home, and the one that lists them.

    Args:
        registry: of the home.
        committer: writes into the online store.
        prepare: makes the writes.
        reader: reads the online store.
        now: the clock, µs since the epoch.
        tolerance_us: how far ahead of the clock an event time may lie.
    """

    def __init__(
        self,
        registry: Registry,
        committer: Committer,
        prepare: Preparer,
        reader: Reader,
        *,
        now: Callable[[], int],
        tolerance_us: int,
    ) -> None:
        self._registry = registry
        self._committer = committer
        self._prepare = prepare
        self._reader = reader
        self._now = now
        self._tolerance_us = tolerance_us

    def put(
        self,
        group: str,
        record: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.put."""
        write = self._prepare.put(self._registry.current(), Put(group, record, ttl, stores))
        self._committer.put(Batch([write]))

    def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.batch_write."""
        if not entries and position is None:
            raise InvalidRequest("entries: expected at least one record in the batch, got none")
        writes: list[Write] = []
        errors: list[WriteError] = []
        groups = self._registry.current()
        for index, entry in enumerate(entries):
            try:
                if isinstance(entry, Delete):
                    writes.append(self._prepare.soft_delete(named(groups, entry.group), entry))
                else:
                    writes.append(self._prepare.put(groups, entry))
            except (InvalidRequest, FeatureGroupNotFound) as error:
                errors.append(write_error(index, len(entries), error))
        self.commit(writes, position)
        return errors

    def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.put_checked."""
        if not batch and position is None:
            raise InvalidRequest("batch: expected at least one accepted record, got none")
        entry = self._registry.get(batch.group.name)
        encoded, now = batch.encoded, self._now()
        errors: list[WriteError] = []
        if entry.group == batch.group:
            puts, rows = self._prepare.columns(entry, encoded, None, now), encoded.rows
        else:
            checked = check_records(
                entry.group, encoded.records, now=now, tolerance_us=self._tolerance_us
            )
            puts, rows = (
                self._prepare.columns(entry, checked, None, now),
                encoded.rows[checked.rows],
            )
            errors = [
                WriteError(int(encoded.rows[place]), type(error).__name__, error.message)
                for place, error in checked.refused
            ]
        if not batch.deletes:
            self.commit(puts, position)
            return errors
        numbered: list[tuple[int, Write]] = list(zip(rows.tolist(), puts, strict=True))
        for number, delete in batch.deletes:
            try:
                write = self._prepare.soft_delete(entry, delete)
            except InvalidRecord as error:
                errors.append(WriteError(number, type(error).__name__, error.message))
            else:
                numbered.append((number, write))
        numbered.sort(key=itemgetter(0))
        self.commit([write for _, write in numbered], position)
        return sorted(errors, key=attrgetter("index"))

    def put_rows(
        self,
        entry: Registered,
        table: Any,
        position: SourcePosition | None,
        on_progress: Callable[[int], None] | None,
    ) -> PutResult:
        """See FeatureStore.put_table."""
        group = entry.group.name
        rows = 0
        errors: list[WriteError] = []
        waiting: list[PutColumns] = []
        for batch in record_batches(table):
            now = self._now()
            encoded = encode_batch(entry.group, batch, now=now, tolerance_us=self._tolerance_us)
            waiting.append(self._prepare.columns(entry, encoded, None, now))
            errors.extend(
                WriteError(rows + row, type(error).__name__, f"{error} (row {rows + row})")
                for row, error in encoded.refused
            )
            rows += len(batch)
            if position is None:
                self.commit(waiting.pop(), None)
            if on_progress is not None:
                on_progress(rows)
        if rows == 0:
            raise InvalidRequest(f"{group}: expected a table with rows, got an empty one")
        if waiting:
            self.commit(PutColumns.join(waiting), position)
        return PutResult(rows - len(errors), errors)

    def update(
        self,
        group: str,
        identifier: object,
        features: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.update."""
        while True:
            # Another writer may put a newer version between the look and the write: look again.
            entry = self._registry.get(group)
            write = self._prepare.update(entry, identifier, features, ttl, stores)
            if self._committer.put(Batch([write]))[0] is not Outcome.CHANGED:
                return

    def delete(
        self, group: str, identifier: object, *, event_time: object, hard: bool = False
    ) -> None:
        """See FeatureStore.delete."""
        entry = self._registry.get(group)
        write = self._prepare.delete(entry, identifier, event_time, hard=hard)
        if self._committer.put(Batch([write]))[0] is Outcome.REFUSED:
            raise refused_delete(entry, write)

    def records(self, group: str, *, include_soft_deleted: bool = False) -> Iterator[str]:
        """See FeatureStore.records."""
        entry = self._registry.get(group)
        after: bytes | None = None
        while True:
            identifiers, after = self._reader.page(
                entry, after=after, limit=_LIST_CHUNK, include_soft_deleted=include_soft_deleted
            )
            yield from identifiers
            if after is None:
                return

    def commit(self, writes: Sequence[Write], position: SourcePosition | None) -> None:
        """Store checked writes, and a position with them, in one transaction."""
        if writes or position is not None:
            self._committer.put(Batch(writes, position))
