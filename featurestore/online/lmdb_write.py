"""The writes of one LMDB transaction: one look at all keys, then values and outbox in key order.

What is left is what putting the writes one after the other would leave; a version that a later
write replaces at once never reaches the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, final

import numpy as np

from featurestore import codec
from featurestore.online.base import (
    Erased,
    Outcome,
    Version,
    Write,
    decide,
    decide_erasure,
)
from featurestore.online.columns import PutColumns

__all__ = ["erase_record", "put_batches"]


def put_batches(
    txn: Any,
    records: Any,
    outbox: Any,
    batches: Sequence[Sequence[Write]],
    sequence: int,
    store_id: str,
) -> tuple[list[list[Outcome]], int]:
    """Put batches of writes in their order.

    Args:
        txn: a write transaction.
        records: the database of the latest versions.
        outbox: the database of the outbox.
        batches: checked puts and deletes.
        sequence: the store's running number before them.
        store_id: see OnlineStore.store_id.

    Returns:
        One list of outcomes per batch, one outcome per write, and the running number after them.
    """
    outcomes: list[Outcome] = []
    waiting: list[Write] = []
    erasures = _Erasures(txn, records, store_id)
    for batch in batches:
        # What a compare-and-set refuses has no place in the outbox: those go one by one.
        if isinstance(batch, PutColumns) and (batch.expected is None or not batch.offline):
            keys = _distinct_keys(batch)
            if keys is not None:
                found, sequence = _put_writes(txn, records, outbox, waiting, sequence, erasures)
                outcomes += found
                waiting = []
                found, sequence = _put_columns(
                    txn, records, outbox, batch, keys, sequence, erasures
                )
                outcomes += found
                continue
        waiting.extend(batch)
    found, sequence = _put_writes(txn, records, outbox, waiting, sequence, erasures)
    settled = iter([*outcomes, *found])
    return [list(islice(settled, len(batch))) for batch in batches], sequence


def _distinct_keys(puts: PutColumns) -> list[bytes] | None:
    """Return the keys of puts; None when two have the same, or one is hashed."""
    longest = max(map(len, puts.identifiers), default=0)
    if longest > codec.MAX_IDENTIFIER_IN_KEY:
        return None
    keys = codec.record_keys(puts.group, puts.identifiers)
    return keys if len(set(keys)) == len(keys) else None


def _put_columns(
    txn: Any,
    records: Any,
    outbox: Any,
    puts: PutColumns,
    keys: list[bytes],
    sequence: int,
    erasures: _Erasures,
) -> tuple[list[Outcome], int]:
    """Put records of different identifiers: no one waits for the outcome of another."""
    outcomes = [Outcome.APPLIED] * len(puts)
    times, expires, version = puts.event_times_us, puts.expires_us, puts.schema_version
    covered = erasures.covering(puts)
    # What is erased on arrival takes no number.
    counted = np.ones(len(puts), np.int64)
    counted[list(covered)] = 0
    sequences = sequence + np.cumsum(counted)
    if puts.online:
        known = _versions(txn, records, keys)
        if not known and puts.expected is not None:
            outcomes = [Outcome.CHANGED if number else Outcome.APPLIED for number in puts.expected]
        elif known:
            for place, (key, write) in enumerate(zip(keys, puts, strict=True)):
                stored = known.get(key)
                if stored is not None or write.expected is not None:
                    outcomes[place] = decide(write, stored and Version(*stored))
    for place in covered:
        outcomes[place] = Outcome.ERASED
    if puts.online:
        values = codec.pack_values(version, times, expires, sequences, puts.records)
        _put(
            txn,
            records,
            sorted(
                item
                for item, outcome in zip(zip(keys, values, strict=True), outcomes, strict=True)
                if outcome is Outcome.APPLIED
            ),
        )
    if puts.offline:
        entries = codec.pack_entries(version, times, expires, puts.invocation_us, puts.records)
        waiting = zip(codec.outbox_keys(puts.group, sequences), entries, strict=True)
        kept = (item for place, item in enumerate(waiting) if place not in covered)
        _put(txn, outbox, kept if covered else waiting)
    return outcomes, sequence + len(puts) - len(covered)


def _put_writes(
    txn: Any,
    records: Any,
    outbox: Any,
    writes: Sequence[Write],
    sequence: int,
    erasures: _Erasures,
) -> tuple[list[Outcome], int]:
    """Put writes in their order."""
    if not writes:
        return [], sequence
    record_key, pack_value = codec.record_key, codec.pack_value
    pack_entry, outbox_key = codec.pack_entry, codec.outbox_key
    keys = [record_key(write.group, write.identifier) for write in writes]
    known = _versions(txn, records, keys)
    values: dict[bytes, bytes] = {}
    entries: list[tuple[bytes, bytes]] = []
    outcomes: list[Outcome] = []
    applied, refused = Outcome.APPLIED, Outcome.REFUSED
    covered = erasures.covering(writes)
    # Every put passes here: no value object for any.
    for place, (key, write) in enumerate(zip(keys, writes, strict=True)):
        if place in covered:
            outcomes.append(Outcome.ERASED)
            continue
        group, identifier, time, record, flags, expires, version, called, online, offline, _ = write
        outcome = applied
        if online:
            stored = known.get(key)
            if stored is not None or write.expected is not None:
                outcome = decide(write, stored and Version(*stored))
        outcomes.append(outcome)
        if outcome >= refused:
            continue
        sequence += 1
        if online and outcome is applied:
            known[key] = (time, sequence)
            kept = b"" if flags else record
            values[key] = pack_value(identifier, flags, version, time, expires, sequence, kept)
        if offline:
            entry = pack_entry(flags, version, time, expires, called, record)
            entries.append((outbox_key(group, sequence), entry))
    _put(txn, records, sorted(values.items()))
    _put(txn, outbox, sorted(entries))
    return outcomes, sequence


def erase_record(
    txn: Any, records: Any, group: int, identifier: bytes, *, through_us: int, store_id: str
) -> tuple[Erased, list[bytes]]:
    """Do OnlineStore.erase in a write transaction; return the keys that changed, too."""
    key = codec.record_key(group, identifier)
    mark = codec.erased_key(group, identifier, store_id)
    known = _versions(txn, records, [key, mark])
    stored_us, erased_us = (known[name][0] if name in known else None for name in (key, mark))
    done = decide_erasure(through_us, stored_us, erased_us)
    if done is None:
        assert erased_us is not None
        return Erased(False, erased_us), []
    flags = codec.DELETED | codec.HARD | codec.ERASED
    value = codec.pack_value(b"", flags, 0, done.through_us, codec.NEVER, 0, b"")
    txn.put(mark, value, db=records)
    if stored_us is not None:
        txn.delete(key, db=records)
    return done, [key, mark]


def erased_times(
    txn: Any, records: Any, group: int, identifiers: Sequence[bytes], store_id: str
) -> list[int | None]:
    """Return up to which event time, µs, each identifier was erased; None: it was not."""
    if not _has_erasures(txn, records, group):
        return [None] * len(identifiers)
    marks = [codec.erased_key(group, identifier, store_id) for identifier in identifiers]
    known = _versions(txn, records, sorted(set(marks)))
    return [known[mark][0] if mark in known else None for mark in marks]


def _has_erasures(txn: Any, records: Any, group: int) -> bool:
    prefix = codec.erased_prefix(group)
    with txn.cursor(db=records) as cursor:
        return bool(cursor.set_range(prefix)) and bool(cursor.key().startswith(prefix))


@final
class _Erasures:
    """The tombstones that erasures left, as one transaction sees them."""

    def __init__(self, txn: Any, records: Any, store_id: str) -> None:
        self._txn = txn
        self._records = records
        self._store_id = store_id
        self._groups: dict[int, bool] = {}

    def covering(self, writes: Sequence[Write]) -> set[int]:
        """Return the places of writes at or before an erasure of their identifier."""
        groups = [writes.group] if isinstance(writes, PutColumns) else {w.group for w in writes}
        if not any(map(self._has, groups)):
            return set()  # nothing of a group was ever erased: one look, no hashes
        marks = [codec.erased_key(w.group, w.identifier, self._store_id) for w in writes]
        known = _versions(self._txn, self._records, sorted(set(marks)))
        return {
            place
            for place, (mark, write) in enumerate(zip(marks, writes, strict=True))
            if mark in known and write.event_time_us <= known[mark][0]
        }

    def _has(self, group: int) -> bool:
        found = self._groups.get(group)
        if found is None:
            found = self._groups[group] = _has_erasures(self._txn, self._records, group)
        return found


def _put(txn: Any, database: Any, items: Iterable[tuple[bytes, bytes]]) -> None:
    """Put items in key order, so that neighbours are found without another way down the tree."""
    with txn.cursor(db=database) as cursor:
        cursor.putmulti(items, dupdata=False)


def _versions(txn: Any, records: Any, keys: Sequence[bytes]) -> dict[bytes, tuple[int, int]]:
    """Return event time and sequence of the stored versions, by key."""
    unpack = codec.unpack_value_header
    with txn.cursor(db=records) as cursor:
        found = cursor.getmulti(sorted(keys))
    versions: dict[bytes, tuple[int, int]] = {}
    for key, data in found:
        _, _, _, event_time_us, _, sequence = unpack(data)
        versions[key] = (event_time_us, sequence)
    return versions
