"""The latest versions of the offline store brought online, beside puts, by the one rule of order.

Two stores meet here. Of two records with one event time the offline store takes the one with the
later write time, and a flush gives write times; the online store takes the later write. Whoever
brings offline versions online knows a *mark*: all versions online with a sequence up to it were
flushed before the versions at hand got their write times, and all later ones get later write times.
So at equal event times a version behind the mark stays, and one up to it is replaced. Every write
is compare-and-set against what the decision was made from, so that a put in between counts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import convert, eventtime
from featurestore.arrowcode import encode_batch
from featurestore.codec import DELETED, HARD, NEVER, StoredValue
from featurestore.errors import StoreCorrupt
from featurestore.offline import DeltaOfflineTable, Flusher
from featurestore.offline.flusher import Appending
from featurestore.online import Batch, OnlineStore, Outcome, PutColumns, Write
from featurestore.registry import Registered, Registry
from featurestore.sealing import Sealing

__all__ = ["Stores", "remove_unknown", "settle"]

SLICE: Final = 10_000


@final
@dataclass(frozen=True)
class Stores:
    """The two stores of a home, for what moves rows between them.

    Args:
        home: the folder.
        registry: of the home.
        online: the online store.
        put: stores a batch online; writes of others share its transaction.
        flusher: of the home.
        sealing: of the home.
        table: returns the offline table of a group.
        graph: returns the lineage graph.
        now: the clock, µs since the epoch.
        tolerance_us: how far ahead of the clock an event time may lie.
        on_step: called before each step; for tests of faults.
    """

    home: Path
    registry: Registry
    online: OnlineStore
    put: Callable[[Batch], list[Outcome]]
    flusher: Flusher
    sealing: Sealing
    table: Callable[[Registered], DeltaOfflineTable]
    graph: Callable[[], Any]
    now: Callable[[], int]
    tolerance_us: int
    on_step: Callable[[str], None] = lambda step: None

    @contextmanager
    def appending(self, entry: Registered) -> Iterator[tuple[Appending, int]]:
        """Flush a group, then be the only one that appends to its table; give the mark too."""
        # As before every flush: what a killed writer left is seen only behind the next writer.
        self.online.put(())
        name = entry.group.name
        with self.flusher.appending(
            lambda: self.registry.get(name), self.table(entry)
        ) as appending:
            yield appending, _mark_of(self.online, entry.number, appending)


def _mark_of(online: OnlineStore, number: int, appending: Appending) -> int:
    """Return the mark of this moment for a group: see this module.

    Args:
        online: the online store.
        number: the group's.
        appending: held by the caller, who brings nothing of the group online meanwhile.
    """
    # In this order: a put between the two waits, or has a greater sequence than the last one.
    last = online.last_sequence(number)
    waiting = online.outbox.read(number, after=appending.flushed, limit=1)
    return min(last, waiting[0].sequence - 1) if waiting else last


def settle(
    stores: Stores, entry: Registered, rows: pa.RecordBatch, *, mark: int, replace: bool = False
) -> int:
    """Bring the latest offline versions of some identifiers online; return how many were written.

    Expired records and markers go online as tombstones. Done again, nothing is written.

    Args:
        stores: of the home.
        entry: the group.
        rows: at most one of each identifier: the features, `_event_time`, `is_deleted` and
            `_expires_at`.
        mark: see this module.
        replace: whether every version up to the mark gives way, also a newer or an equal one.
    """
    latest = _Latest.of(stores, entry, rows)
    places = range(len(latest.identifiers))
    written = 0
    while len(places):
        stores.on_step("online")
        found = stores.online.get(entry.number, [latest.identifiers[place] for place in places])
        chosen: list[int] = []
        expected: list[int] = []
        for place, stored in zip(places, found, strict=True):
            if stored is None:
                chosen.append(place)
                expected.append(0)
            elif latest.wins(stores, entry, place, stored, mark=mark, replace=replace):
                chosen.append(place)
                expected.append(stored.sequence)
        left: list[int] = []
        for part, writes in latest.writes(stores, entry, chosen, expected):
            outcomes = stores.put(Batch(writes))
            written += outcomes.count(Outcome.APPLIED)
            left += [
                place
                for place, outcome in zip(part, outcomes, strict=True)
                if outcome is Outcome.CHANGED  # another put came between: look again
            ]
        places = left  # type: ignore[assignment]
    return written


def remove_unknown(stores: Stores, entry: Registered, *, mark: int) -> int:
    """Hide the versions online up to a mark: no offline version has replaced them.

    Their tombstones are older than anything, so that any record may follow.

    Returns:
        How many records there were.
    """
    removed = 0
    after: bytes | None = None
    while versions := stores.online.scan(entry.number, after=after, limit=SLICE):
        after = versions[-1][0]
        unknown = [
            value
            for _, value in versions
            if value.sequence <= mark
            and not (value.is_deleted and value.event_time_us == eventtime.MIN_US)
        ]
        if not unknown:
            continue
        writes = [
            _tombstone(
                entry, value.identifier, eventtime.MIN_US, stores.now(), expected=value.sequence
            )
            for value in unknown
        ]
        outcomes = stores.put(Batch(writes))
        removed += sum(
            outcome is Outcome.APPLIED and not value.is_deleted
            for value, outcome in zip(unknown, outcomes, strict=True)
        )
    return removed


@final
@dataclass(frozen=True)
class _Latest:
    """The latest offline versions of some identifiers, by the column.

    Args:
        identifiers: UTF-8.
        event_times_us: of each.
        records: bytes of each, in clear; of a dead one they are not used.
        expires_us: of each.
        deleted: which are markers.
        dead: which are markers or have expired.
        now: when the dead were told from the others.
    """

    identifiers: Sequence[bytes]
    event_times_us: Any
    records: Sequence[bytes]
    expires_us: Any
    deleted: Any
    dead: Any
    now: int

    @classmethod
    def of(cls, stores: Stores, entry: Registered, rows: pa.RecordBatch) -> _Latest:
        names = [name for name in entry.group.feature_names if name in rows.schema.names]
        # Its own store accepted each of them once; the clock does not count any more.
        encoded = encode_batch(
            entry.group, rows.select(names), now=eventtime.MAX_US, tolerance_us=0
        )
        if encoded.refused:
            raise StoreCorrupt(
                f"{entry.group.name}: a row of the offline table cannot be read as a record: "
                f"{encoded.refused[0][1]}; restore the table from a backup",
                group=entry.group.name,
            )
        times = rows.column("_event_time").cast(pa.int64()).to_numpy()
        ends = rows.column("_expires_at").cast(pa.int64())
        expires = pc.fill_null(ends, NEVER).to_numpy(zero_copy_only=False)
        deleted = rows.column("is_deleted").to_numpy(zero_copy_only=False)
        now = stores.now()
        return cls(
            encoded.identifiers,
            times,
            encoded.records,
            expires,
            deleted,
            deleted | (expires <= now),
            now,
        )

    def wins(
        self,
        stores: Stores,
        entry: Registered,
        place: int,
        stored: StoredValue,
        *,
        mark: int,
        replace: bool,
    ) -> bool:
        """Whether a version comes behind the one that is stored."""
        if replace and stored.sequence <= mark:
            return True
        ours = int(self.event_times_us[place])
        if ours != stored.event_time_us:
            return ours > stored.event_time_us
        if self.deleted[place]:
            return False  # a delete must be later than what it deletes
        if stored.is_deleted:
            return not self.dead[place]
        return stored.sequence <= mark and not self._is_same(stores, entry, place, stored)

    def _is_same(self, stores: Stores, entry: Registered, place: int, stored: StoredValue) -> bool:
        if self.dead[place]:
            return stored.expires_us <= self.now
        if stored.expires_us != int(self.expires_us[place]):
            return False
        (clear,) = stores.sealing.open(entry, [stored])
        assert clear is not None
        ours = self.records[place]
        return clear.record == ours or _values(clear.record) == _values(ours)

    def writes(
        self, stores: Stores, entry: Registered, places: Sequence[int], expected: Sequence[int]
    ) -> list[tuple[Sequence[int], Sequence[Write]]]:
        """Make the writes of some versions: the records, then the tombstones."""
        known = dict(zip(places, expected, strict=True))
        live = [place for place in places if not self.dead[place]]
        dead = [place for place in places if self.dead[place]]
        made: list[tuple[Sequence[int], Sequence[Write]]] = []
        if live:
            identifiers = [self.identifiers[place] for place in live]
            records = [self.records[place] for place in live]
            columns = PutColumns(
                entry.number,
                identifiers,
                self.event_times_us[live],
                stores.sealing.seal_all(entry, identifiers, records),
                self.expires_us[live],
                entry.version,
                self.now,
                offline=False,
                expected=np.array([known[place] for place in live], np.int64),
            )
            made.append((live, columns))
        if dead:
            tombstones = [
                _tombstone(
                    entry,
                    self.identifiers[place],
                    int(self.event_times_us[place]),
                    self.now,
                    expected=known[place],
                    # The table does not say how a record was deleted; what expired is not listed.
                    flags=DELETED if self.deleted[place] else DELETED | HARD,
                )
                for place in dead
            ]
            made.append((dead, tombstones))
        return made


def _tombstone(
    entry: Registered,
    identifier: bytes,
    event_time_us: int,
    now: int,
    *,
    expected: int,
    flags: int = DELETED | HARD,
) -> Write:
    return Write(
        entry.number,
        identifier,
        event_time_us,
        b"",
        flags,
        NEVER,
        entry.version,
        now,
        offline=False,
        expected=expected,
    )


def _values(record: bytes) -> Mapping[str, Any]:
    return convert.decode_record(record)
