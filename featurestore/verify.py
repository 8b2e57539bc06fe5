"""Verification: the online store against the latest rows of the offline store.

Both sides are read in the order of the identifiers' bytes and compared as two streams, in
constant memory. Expired records count as absent on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import pyarrow as pa

from featurestore import codec, pointintime
from featurestore.convert import decode_record
from featurestore.feature import FeatureType, Value
from featurestore.offline.base import Snapshot
from featurestore.online.base import OnlineStore
from featurestore.registry import Registered

__all__ = ["Difference", "VerifyReport", "verify"]

MAX_DIFFERENCES: Final = 1000
_SLICE: Final = 10_000


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
    opened: Opened = lambda values: values,
) -> VerifyReport:
    """Compare one group's stores; the caller has flushed the group.

    Args:
        online: the online store.
        entry: the group.
        snapshot: its offline table.
        now: µs since the epoch; decides what has expired.
        opened: returns the stored values with their records in clear.

    Raises:
        StoreCorrupt: a record online cannot be opened; it is named.
    """
    left, right = _online(online, entry, now, opened), _offline(entry, snapshot, now)
    counts = [0, 0]
    differences: list[Difference] = []
    total = 0
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
            identifier, reason = a[0], _compare(a[1], a[2], b[1], b[2])
            counts[0] += 1
            counts[1] += 1
            a, b = next(left, None), next(right, None)
        if reason:
            total += 1
            if len(differences) < MAX_DIFFERENCES:
                differences.append(Difference(identifier.decode(), reason))
    return VerifyReport(total == 0, counts[0], counts[1], tuple(differences))


_Row = tuple[bytes, int, Mapping[str, Value]]


def _rank(identifier: bytes) -> tuple[bool, bytes]:
    """Sort as the online store does: identifiers too long for a key come last."""
    return len(identifier) + 4 > codec.MAX_KEY, identifier


def _compare(
    online_time: int, online: Mapping[str, Value], offline_time: int, offline: Mapping[str, Value]
) -> str:
    if online_time != offline_time:
        return f"event time: online {online_time} µs, offline {offline_time} µs"
    for name in sorted(online.keys() | offline.keys()):
        if online.get(name) != offline.get(name):
            return f"{name}: online {online.get(name)!r}, offline {offline.get(name)!r}"
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
                row = (value.identifier, value.event_time_us, decode_record(value.record))
                if key[4:5] == b"\xff":
                    long.append(row)
                else:
                    yield row
    # Hashed keys come last in the scan, whatever their identifiers; _offline puts them last too.
    long.sort(key=lambda row: row[0])
    yield from long


def _offline(entry: Registered, snapshot: Snapshot | None, now: int) -> Iterator[_Row]:
    if snapshot is None or not snapshot.files:
        return
    group = entry.group
    names = [name for name in group.feature_names if name in snapshot.columns]
    identifier = f'"{group.record_identifier}"'
    connection = pointintime.connect()
    try:
        columns = ", ".join(f'"{name}"' for name in names)
        reader = connection.sql(
            f"""
            SELECT {columns}, _event_time
            FROM (
                SELECT * FROM read_parquet($files, union_by_name = true, hive_partitioning = false)
                QUALIFY row_number() OVER (PARTITION BY {identifier}
                    ORDER BY {pointintime.VERSION_ORDER} DESC) = 1
            )
            WHERE NOT is_deleted
              AND (_expires_at IS NULL OR epoch_us(_expires_at) > $now)
            ORDER BY {_key_order(group.types[group.record_identifier], identifier)}
            """,
            params={"files": list(snapshot.files), "now": now},
        ).to_arrow_reader(_SLICE)
        for batch in reader:
            times = batch.column("_event_time").cast(pa.int64()).to_pylist()
            for row, time in zip(batch.select(names).to_pylist(), times, strict=True):
                values = {name: value for name, value in row.items() if value is not None}
                key = values[group.record_identifier]
                text = key if isinstance(key, str) else repr(key)
                yield text.encode(), time, values
    finally:
        connection.close()


def _key_order(kind: FeatureType, identifier: str) -> str:
    if kind is FeatureType.STRING:
        return f"strlen({identifier}) + 4 > {codec.MAX_KEY}, {identifier}"
    return f"CAST({identifier} AS VARCHAR)"
