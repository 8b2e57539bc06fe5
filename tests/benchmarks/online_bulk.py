"""Arrow tables into the store and back, embedded and over gRPC, beside bare LMDB."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb

import featurestore
from featurestore import FeatureStore
from featurestore.batches import TABLE_CHUNK
from featurestore.codec import (
    NEVER,
    OutboxEntry,
    StoredValue,
    encode_outbox,
    encode_value,
    outbox_key,
    record_key,
)
from featurestore.convert import encode_record
from tests.benchmarks.harness import Bar, Figure, compare, interleave, note
from tests.benchmarks.records import FEATURES, GROUP, START_US, group_named, make_rows

__all__ = ["measure_bulk"]

_BARE: Final = "bare LMDB: ready bytes into two tables, no checks"
_BARE_READ: Final = "bare LMDB: a get of each key, as bytes"
_MAP_BYTES: Final = 16 << 30
_STEP_US: Final = 1_000_000

_Rates = tuple[float, float, float, float, float]
"""Rows a second: stored, stored and flushed, read, loaded into both stores, backfilled."""

_Entry = tuple[bytes, bytes, bytes, bytes]
"""Key and value of a record, key and value of its outbox entry."""


def measure_bulk(
    remote: FeatureStore, *, rows: int, repeats: int, work: Path, bar: Bar | None
) -> list[Figure]:
    """Load a table of `rows` identifiers into new groups, embedded and through `remote`.

    The records are durable in both stores when `put_table` returns: online as values, offline as
    outbox entries. A second figure of each counts the flush into the Delta table too, a third is
    `get_table` of all identifiers, a fourth `load` of the same rows straight into both stores, and
    a fifth the rebuild of what that brought online.
    """
    note(f"bulk loads of {rows:,} rows")
    table = make_rows(0, rows, users=rows, step_us=_STEP_US)
    ready = list(_entries(table.to_pylist()))
    number = itertools.count()

    def embedded() -> _Rates:
        with featurestore.open(work / f"bulk-{next(number)}") as store:
            return load(store, GROUP.name)

    def load(store: FeatureStore, name: str) -> _Rates:
        store.create_feature_group(group_named(name))
        began = time.perf_counter()
        store.put_table(name, table)
        durable = time.perf_counter()
        store.flush(name)
        flushed = time.perf_counter()
        got = store.get_table(name, table["user"])
        read = time.perf_counter()
        assert got.num_rows == rows
        store.create_feature_group(group_named(f"{name}-load"))
        ready_s = time.perf_counter()
        assert store.load(f"{name}-load", table, key="bulk").rows == rows
        loaded = time.perf_counter()
        assert store.rebuild_online(f"{name}-load").written == rows
        rebuilt = time.perf_counter()
        return (
            rows / (durable - began),
            rows / (flushed - began),
            rows / (read - flushed),
            rows / (loaded - ready_s),
            rows / (rebuilt - loaded),
        )

    def bare() -> _Rates:
        written_s, read_s = _measure_bare(work / f"bare-{next(number)}", ready)
        written = rows / written_s
        return written, written, rows / read_s, written, written

    samples = interleave(
        {
            "embedded": embedded,
            "over gRPC": lambda: load(remote, f"bulk-{next(number)}"),
            "bare": bare,
        },
        repeats=repeats,
    )
    return [
        compare(
            f"{verb} of {rows:,} rows × {len(FEATURES)} features, {way}{end}",
            "rows/s",
            [sample[place] for sample in samples[way]],
            baseline=baseline,
            baseline_values=[sample[place] for sample in samples["bare"]],
            bar=bar if place in (0, 3) else None,
        )
        for way in ("embedded", "over gRPC")
        for place, (verb, end, baseline) in enumerate(
            (
                ("put_table", ": durable in both stores", _BARE),
                ("put_table", ": and flushed to Delta", _BARE),
                ("get_table", "", _BARE_READ),
                ("load", ": in both stores, offline in Delta", _BARE),
                ("rebuild_online", "", _BARE),
            )
        )
    ]


def _measure_bare(path: Path, entries: Sequence[_Entry]) -> tuple[float, float]:
    """Put values and outbox entries into LMDB, as many in a transaction as the store takes.

    Returns:
        Seconds to write, and seconds to read all values.
    """
    environment: Any = lmdb.open(str(path), map_size=_MAP_BYTES, max_dbs=2)
    try:
        values, outbox = (environment.open_db(name) for name in (b"values", b"outbox"))
        began = time.perf_counter()
        for first in range(0, len(entries), TABLE_CHUNK):
            with environment.begin(write=True) as transaction:
                for key, value, entry_key, entry in entries[first : first + TABLE_CHUNK]:
                    transaction.put(key, value, db=values)
                    transaction.put(entry_key, entry, db=outbox)
        written = time.perf_counter()
        with environment.begin(db=values) as transaction:
            for key, _, _, _ in entries:
                transaction.get(key)
        return written - began, time.perf_counter() - written
    finally:
        environment.close()


def _entries(rows: Sequence[Mapping[str, Any]]) -> Iterator[_Entry]:
    for sequence, row in enumerate(rows, 1):
        record = encode_record(row)
        identifier = row["user"].encode()
        value = StoredValue(identifier, 0, 1, START_US, NEVER, sequence, record)
        entry = OutboxEntry(sequence, 0, 1, START_US, NEVER, START_US, record)
        yield (
            record_key(1, identifier),
            encode_value(value),
            outbox_key(1, sequence),
            encode_outbox(entry),
        )
