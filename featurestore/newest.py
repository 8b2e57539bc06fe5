"""The newest version of every identifier of an offline table, in the online store's order.

Pieces of the table are sorted in memory, keep the newest version of each identifier, and are
merged from the disk: memory grows neither with the table nor with the versions of one identifier.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import codec, pointintime
from featurestore.errors import InvalidRequest
from featurestore.feature import FeatureType
from featurestore.offline.base import Snapshot
from featurestore.pointintime import quoted
from featurestore.schema import FeatureGroup
from featurestore.sortedruns import in_order

__all__ = ["latest_rows"]

_SLICE: Final = 10_000
_THREAD_BYTES: Final = 64 << 20
# Of the memory, the table's reader takes a half, and a piece an eighth, three times while sorted.
_PIECES: Final = 8
_KEY: Final = "_key"
# pointintime.VERSION_ORDER, backwards.
_NEWEST_FIRST: Final = [
    (_KEY, "ascending"),
    ("_event_time", "descending"),
    ("is_deleted", "ascending"),
    ("write_time", "descending"),
    ("_sequence", "descending"),
]


def latest_rows(
    group: FeatureGroup, snapshot: Snapshot, *, now: int, memory_bytes: int, spill: Path
) -> Iterator[pa.RecordBatch]:
    """Yield what can be read offline: of each identifier the newest version, unless it is a marker.

    Args:
        group: the definition.
        snapshot: the table version.
        now: µs since the epoch; rows that have expired by then are left out.
        memory_bytes: what it may take, about.
        spill: an existing folder for what does not fit; it takes up to the size of the table.

    Yields:
        The group's features that the table has, then `_event_time`. Identifiers sort by the bytes
        of their text, those too long for a key of the online store after all others.

    Raises:
        InvalidRequest: the table cannot be read within the memory.

    Cost: O(n log n) time for n versions.
    """
    if not snapshot.files:
        return
    names = [name for name in group.feature_names if name in snapshot.columns]
    merged = in_order(
        _rows(group, snapshot, names, memory_bytes),
        arranged=_newest,
        keys=lambda block: [block.column(_KEY)],
        piece_bytes=memory_bytes // _PIECES,
        spill=spill,
    )
    for table in merged:
        readable = table.filter(_is_readable(table, now)).select([*names, "_event_time"])
        yield from readable.combine_chunks().to_batches(max_chunksize=_SLICE)


def _rows(
    group: FeatureGroup, snapshot: Snapshot, names: Sequence[str], memory_bytes: int
) -> Iterator[pa.RecordBatch]:
    """Read the table in any order."""
    identifier = quoted(group.record_identifier)
    if group.types[group.record_identifier] is FeatureType.STRING:
        # No UTF-8 text begins with this byte.
        key = (
            rf"CASE WHEN strlen({identifier}) + 4 > {codec.MAX_KEY} "
            rf"THEN '\xFF'::BLOB || encode({identifier}) ELSE encode({identifier}) END"
        )
    else:
        # DuckDB and Python write all numbers alike, which a test checks.
        key = f"encode(CAST({identifier} AS VARCHAR))"
    internal = ["_event_time", "is_deleted", "write_time", "_sequence", "_expires_at"]
    columns = ", ".join(map(quoted, [*names, *internal]))
    # Each thread holds rows of its own: many threads do not fit into little memory.
    threads = max(1, min(os.cpu_count() or 1, memory_bytes // 2 // _THREAD_BYTES))
    connection = pointintime.connect(threads=threads, memory_limit=f"{memory_bytes // 2}B")
    try:
        connection.execute("SET preserve_insertion_order = false")
        yield from connection.sql(
            f"SELECT {key} AS {_KEY}, {columns} "
            f"FROM read_parquet($files, union_by_name = true, hive_partitioning = false)",
            params={"files": list(snapshot.files)},
        ).to_arrow_reader(_SLICE)
    except (duckdb.OutOfMemoryException, OSError) as error:
        if "Out of Memory" not in str(error):
            raise
        raise InvalidRequest(
            f"memory_limit: {group.name} cannot be read within {memory_bytes >> 20} MB; allow "
            f"more: {error}"
        ) from error
    finally:
        connection.close()


def _newest(table: pa.Table) -> pa.Table:
    """Sort versions by key, and keep the newest of each."""
    table = table.take(pc.sort_indices(table, sort_keys=_NEWEST_FIRST))
    keys = table[_KEY].combine_chunks()
    if len(keys) > 1:
        changes = pc.not_equal(keys.slice(1), keys.slice(0, len(keys) - 1))
        if not pc.all(changes).as_py():
            table = table.filter(pa.concat_arrays([pa.array([True]), changes]))
    return table


def _is_readable(table: pa.Table, now: int) -> Any:
    expires = table["_expires_at"].cast(pa.int64())
    return pc.and_(
        pc.invert(table["is_deleted"]),
        pc.fill_null(pc.greater(expires, pa.scalar(now, pa.int64())), True),
    )
