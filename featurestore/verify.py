"""Verification: the online store against the latest rows of the offline store.

Both sides are read in the order of the identifiers' bytes and compared as two streams, in
constant memory: the online store is in that order, and the offline rows are sorted on disk.
Expired records count as absent on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa

from featurestore import arrowcode, codec
from featurestore.convert import decode_record, encode_record
from featurestore.newest import latest_rows
from featurestore.offline.base import Snapshot
from featurestore.online.base import OnlineStore
from featurestore.registry import Registered
from featurestore.schema import FeatureGroup

__all__ = ["Difference", "VerifyReport", "verify"]

MAX_DIFFERENCES: Final = 1000
MEMORY_LIMIT: Final = "512MB"
_SLICE: Final = 10_000
_ANY_TIME: Final = 2**62


@final
@dataclass(frozen=True, slots=True)
class Difference:
    """One identifier on which the two stores do not agree."""

    identifier: str
    reason: str


@final
@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The result of a verification.

    Args:
        equal: whether both stores say the same of every identifier.
        online: readable records online.
        offline: identifiers whose latest row offline is a live record.
        differences: the first 1,000 of them.
    """

    equal: bool
    online: int
    offline: int
    differences: tuple[Difference, ...]

    def to_json(self) -> dict[str, Any]:
        """Write the report as JSON values."""
        return {
            "equal": self.equal,
            "online": self.online,
            "offline": self.offline,
            "differences": [
                {"identifier": entry.identifier, "reason": entry.reason}
                for entry in self.differences
            ],
        }


Opened = Callable[[Sequence[codec.StoredValue]], Sequence[codec.StoredValue | None]]


def verify(
    online: OnlineStore,
    entry: Registered,
    snapshot: Snapshot | None,
    *,
    now: int,
    memory_bytes: int,
    spill: Path,
    opened: Opened = lambda values: values,
    on_progress: Callable[[int], None] | None = None,
) -> VerifyReport:
    """Compare one group's stores; the caller has flushed the group.

    Args:
        online: the online store.
        entry: the group.
        snapshot: its offline table.
        now: µs since the epoch; decides what has expired.
        memory_bytes: for sorting the offline rows; what does not fit goes to disk.
        spill: an existing folder for it.
        opened: returns the stored values with their records in clear.
        on_progress: called with the number of identifiers compared so far.

    Raises:
        StoreCorrupt: a record online cannot be opened; it is named.
        InvalidRequest: the sort does not fit into the memory.
    """
    left = _online(online, entry, now, opened)
    batches: Iterable[pa.RecordBatch] = ()
    if snapshot is not None:
        batches = latest_rows(
            entry.group, snapshot, now=now, memory_bytes=memory_bytes, spill=spill
        )
    right = _offline(entry.group, batches)
    counts = [0, 0]
    differences: list[Difference] = []
    total = compared = 0
    a, b = next(left, None), next(right, None)
    while a is not None or b is not None:
        reason = ""
        if b is None or (a is not None and _rank(a[0]) < _rank(b[0])):
            assert a is not None
            identifier, reason = a[0], "only in the online store"
            counts[0] += 1
            a = next(left, None)
        elif a is None or _rank(b[0]) < _rank(a[0]):
            identifier, reason = b[0], "only in the offline store"
            counts[1] += 1
            b = next(right, None)
        else:
            identifier, reason = a[0], _compare(a, b)
            counts[0] += 1
            counts[1] += 1
            a, b = next(left, None), next(right, None)
        compared += 1
        if on_progress is not None and compared % _SLICE == 0:
            on_progress(compared)
        if reason:
            total += 1
            if len(differences) < MAX_DIFFERENCES:
                differences.append(Difference(identifier.decode(), reason))
    if on_progress is not None:
        on_progress(compared)
    return VerifyReport(total == 0, counts[0], counts[1], tuple(differences))


_Row = tuple[bytes, int, bytes]
"""Identifier, event time and the record's bytes."""


def _rank(identifier: bytes) -> tuple[bool, bytes]:
    """Sort as the online store does: identifiers too long for a key come last."""
    return len(identifier) + 4 > codec.MAX_KEY, identifier


def _compare(online: _Row, offline: _Row) -> str:
    if online[1:] == offline[1:]:
        return ""
    if online[1] != offline[1]:
        return f"event time: online {online[1]} µs, offline {offline[1]} µs"
    # The bytes depend on the order in which the features were given.
    left, right = decode_record(online[2]), decode_record(offline[2])
    for name in sorted(left.keys() | right.keys()):
        if left.get(name) != right.get(name):
            return f"{name}: online {left.get(name)!r}, offline {right.get(name)!r}"
    return ""


def _online(online: OnlineStore, entry: Registered, now: int, opened: Opened) -> Iterator[_Row]:
    """Readable records in the order of identifiers; those longer than a key are sorted in."""
    long: list[_Row] = []
    after: bytes | None = None
    while values := online.scan(entry.number, after=after, limit=_SLICE):
        after = values[-1][0]
        clear = opened([value for _, value in values])
        for (key, _), value in zip(values, clear, strict=True):
            if value is not None and value.is_readable(now):
                row = (value.identifier, value.event_time_us, value.record)
                if key[4:5] == b"\xff":
                    long.append(row)
                else:
                    yield row
    # Hashed keys come last in the scan, whatever their identifiers; _offline puts them last too.
    long.sort(key=lambda row: row[0])
    yield from long


def _offline(group: FeatureGroup, batches: Iterable[pa.RecordBatch]) -> Iterator[_Row]:
    for batch in batches:
        times = batch.column("_event_time").cast(pa.int64()).to_pylist()
        rows = batch.drop_columns(["_event_time"])
        encoded = arrowcode.encode_batch(group, rows, now=0, tolerance_us=_ANY_TIME)
        if encoded.refused:
            yield from _offline_slowly(group, rows, times)
        else:
            yield from zip(encoded.identifiers, times, encoded.records, strict=True)


def _offline_slowly(
    group: FeatureGroup, rows: pa.RecordBatch, times: Sequence[int]
) -> Iterator[_Row]:
    """Write rows of which a rule of today would refuse some; they were accepted once."""
    for row, time in zip(rows.to_pylist(), times, strict=True):
        values = {name: value for name, value in row.items() if value is not None}
        key = values[group.record_identifier]
        text = key if isinstance(key, str) else repr(key)
        yield text.encode(), time, encode_record(values, group.collections)
