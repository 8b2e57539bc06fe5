"""The writes of one LMDB transaction: one look at all keys, then values and outbox in key order.

What is left is what putting the writes one after the other would leave; a version that a later
write replaces at once never reaches the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

import numpy as np

from featurestore import codec
from featurestore.online.base import Outcome, Version, Write, decide
from featurestore.online.columns import PutColumns

__all__ = ["put_batches"]


def put_batches(
    txn: Any, records: Any, outbox: Any, batches: Sequence[Sequence[Write]], sequence: int
) -> tuple[list[list[Outcome]], int]:
    """Put batches of writes in their order.

    Args:
        txn: a write transaction.
        records: the database of the latest versions.
        outbox: the database of the outbox.
        batches: checked puts and deletes.
        sequence: the store's running number before them.

    Returns:
        One list of outcomes per batch, one outcome per write, and the running number after them.
    """
    outcomes: list[Outcome] = []
    waiting: list[Write] = []
    for batch in batches:
        # What a compare-and-set refuses has no place in the outbox: those go one by one.
        if isinstance(batch, PutColumns) and (batch.expected is None or not batch.offline):
            keys = _distinct_keys(batch)
            if keys is not None:
                found, sequence = _put_writes(txn, records, outbox, waiting, sequence)
                outcomes += found
                waiting = []
                found, sequence = _put_columns(txn, records, outbox, batch, keys, sequence)
                outcomes += found
                continue
        waiting.extend(batch)
    found, sequence = _put_writes(txn, records, outbox, waiting, sequence)
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
    txn: Any, records: Any, outbox: Any, puts: PutColumns, keys: list[bytes], sequence: int
) -> tuple[list[Outcome], int]:
    """Put records of different identifiers: no one waits for the outcome of another."""
    outcomes = [Outcome.APPLIED] * len(puts)
    sequences = np.arange(sequence + 1, sequence + 1 + len(puts))
    times, expires, version = puts.event_times_us, puts.expires_us, puts.schema_version
    if puts.online:
        known = _versions(txn, records, keys)
        if not known and puts.expected is not None:
            outcomes = [Outcome.CHANGED if number else Outcome.APPLIED for number in puts.expected]
        elif known:
            for place, (key, write) in enumerate(zip(keys, puts, strict=True)):
                stored = known.get(key)
                if stored is not None or write.expected is not None:
                    outcomes[place] = decide(write, stored and Version(*stored))
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
        _put(txn, outbox, zip(codec.outbox_keys(puts.group, sequences), entries, strict=True))
    return outcomes, sequence + len(puts)


def _put_writes(
    txn: Any, records: Any, outbox: Any, writes: Sequence[Write], sequence: int
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
    # Every put passes here: no value object for any.
    for key, write in zip(keys, writes, strict=True):
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
