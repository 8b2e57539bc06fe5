"""Files of event dates written anew, sorted by identifier and version, in place of the old ones.

Rows are read file by file and sorted within a bound of memory. The new files are written first;
one commit then puts them into the place of the old ones, if these are all there still: it is made
on exactly the version that was looked at, or not at all. (delta-rs by itself would let two
rewrites of one file pass each other, and have its rows twice.) What others append meanwhile
stays. A kill leaves the old files in the table, or the new ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, PostCommitHookProperties
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import RemoveAction

from featurestore import numpyview
from featurestore.errors import InternalError, StoreUnavailable
from featurestore.offline.delta import REWRITE_MARK, DeltaOfflineTable
from featurestore.offline.files import PARTITION, FilesOfCommit
from featurestore.sortedruns import in_order

__all__ = ["ActiveFile", "active_files", "rewrite_sorted"]

# What a rewrite takes, about; rows beyond it wait on the disk.
MEMORY_BYTES: Final = 512 << 20
_PIECES: Final = 4
_BATCH_ROWS: Final = 1 << 16
_TRIES: Final = 6
_WAIT_S: Final = 0.02
_COMPOSITE_BITS: Final = 63


class ActiveFile(NamedTuple):
    """A file of the newest version.

    Args:
        path: as the log has it.
        date: the event date's partition, as the log has it.
        size_bytes: of the file.
        rows: how many; None: unknown.
    """

    path: str
    date: str
    size_bytes: int
    rows: int | None


def active_files(table: DeltaOfflineTable, opened: Any) -> list[ActiveFile]:
    """Return the files of an open table."""
    actions = table.actions(opened)
    columns = ["path", f"partition.{PARTITION}", "size_bytes", "num_records"]
    facts = [actions[name] for name in columns]
    facts[1] = facts[1].cast(pa.string())
    return list(map(ActiveFile, *(column.to_pylist() for column in facts)))


def rewrite_sorted(
    table: DeltaOfflineTable,
    files: Sequence[ActiveFile],
    *,
    identifier: str,
    spill: Path,
    flushes_paused: Callable[[], AbstractContextManager[None]],
    memory_bytes: int = MEMORY_BYTES,
) -> bool:
    """Put files of sorted rows into the place of others, in one commit.

    Each date's rows are sorted by identifier, event time and what else decides between versions,
    so that of equal event times the last row is the one that counts. No row changes.

    Args:
        table: the group's table.
        files: of the newest version, > 0.
        identifier: the column of the record identifier.
        spill: an existing folder for what does not fit into memory.
        flushes_paused: holds off the flusher: only where its commits came first each time.
        memory_bytes: what it may take, about, beyond a row group of a file.

    Returns:
        False when another process has taken one of the files out of the table meanwhile; then
        nothing was changed.

    Raises:
        DeltaError, OSError: the table could not be read or written; it is whole.
    """
    opened = _reopened(table)
    schema = pa.schema(opened.schema())
    columns = schema.remove(schema.get_field_index(PARTITION))
    writer = FilesOfCommit(table, columns, identifier=identifier, kind="sorted", changes_data=False)
    is_in = False
    try:
        for date, paths in _by_date(files).items():
            for rows in in_order(
                _rows(table, paths, columns),
                arranged=lambda rows: _arranged(rows, identifier),
                keys=lambda block: [_ascending(key) for key in _keys(block, identifier)],
                piece_bytes=memory_bytes // _PIECES,
                spill=spill,
            ):
                for batch in rows.to_batches():
                    writer.add(date, batch)
        writer.close()
        expected = [file.rows for file in files]
        if None not in expected and sum(rows or 0 for rows in expected) != writer.rows:
            raise InternalError(
                f"{table.uri}: {sum(rows or 0 for rows in expected)} rows became {writer.rows} "
                f"when they were sorted; nothing was changed; please report it"
            )
        is_in = _commit(table, files, writer, identifier, flushes_paused)
    finally:
        if not is_in and not _may_be_in(table, writer):
            writer.remove()
    return is_in


def _reopened(table: DeltaOfflineTable) -> Any:
    opened = table.open()
    if opened is None:
        raise StoreUnavailable(f"the offline table {table.uri} is gone; restore a backup")
    return opened


def _by_date(files: Sequence[ActiveFile]) -> dict[str, list[str]]:
    dates: dict[str, list[str]] = {}
    for file in sorted(files, key=lambda file: (file.date, file.path)):
        dates.setdefault(file.date, []).append(file.path)
    return dates


# -- rows -----------------------------------------------------------------------------------------


def _rows(
    table: DeltaOfflineTable, paths: Sequence[str], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Read files one after another, in the table's columns; what an old one lacks is null."""
    folder = table.folder()
    for path in paths:
        # A file on an object store is read in few pieces.
        with (
            folder.open_input_file(unquote(path)) as source,
            pq.ParquetFile(source, pre_buffer=not table.is_local) as file,
        ):
            known = set(file.schema_arrow.names)
            names = [name for name in schema.names if name in known]
            for batch in file.iter_batches(_BATCH_ROWS, columns=names):
                arrays = [
                    _cast(batch.column(field.name), field.type)
                    if field.name in known
                    else pa.nulls(len(batch), field.type)
                    for field in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)


def _keys(rows: pa.Table | pa.RecordBatch, identifier: str) -> list[pa.Array | pa.ChunkedArray]:
    """Return what rows are sorted by, ascending: see `featurestore.pointintime.VERSION_ORDER`."""
    has = set(rows.schema.names)
    keys = [rows[identifier], rows["_event_time"].cast(pa.int64())]
    if "is_deleted" in has:
        keys.append(pc.invert(pc.fill_null(rows["is_deleted"], False)).cast(pa.int64()))
    keys += [
        pc.fill_null(rows[name].cast(pa.int64()), 0)
        for name in ("write_time", "_sequence")
        if name in has
    ]
    return keys


def _ascending(key: Any) -> pa.Array:
    return key.combine_chunks() if isinstance(key, pa.ChunkedArray) else key


def _arranged(rows: pa.Table, identifier: str) -> pa.Table:
    """Sort rows by identifier and version."""
    rows = rows.combine_chunks()
    keys = [_one_array(key) for key in _keys(rows, identifier)]
    codes = _ranks(keys[0])
    times, *others = (numpyview.int64(key) for key in keys[1:])
    order = _order(codes, times, others)
    return rows.take(numpyview.from_int64(order)).combine_chunks()


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)


def _ranks(identifiers: pa.Array) -> npt.NDArray[np.int64]:
    """Return the place of each identifier among the different ones in order."""
    encoded = identifiers.dictionary_encode()
    order = pc.sort_indices(encoded.dictionary)
    ranks = np.empty(len(order), np.int64)
    ranks[numpyview.int64(order)] = np.arange(len(order))
    found: npt.NDArray[np.int64] = ranks[numpyview.int32(encoded.indices)]
    return found


def _order(
    codes: npt.NDArray[np.int64],
    times: npt.NDArray[np.int64],
    others: Sequence[npt.NDArray[np.int64]],
) -> npt.NDArray[np.int64]:
    first = int(times.min())
    bits = (int(times.max()) - first).bit_length()
    if int(codes.max()).bit_length() + bits <= _COMPOSITE_BITS:
        keyed = (codes << bits) | (times - first)
        order = np.argsort(keyed)
        keyed = keyed[order]
        if not (keyed[1:] == keyed[:-1]).any():  # no two versions of one time
            return order
    return np.lexsort((*reversed(others), times, codes))


# -- the commit -----------------------------------------------------------------------------------


def _commit(
    table: DeltaOfflineTable,
    files: Sequence[ActiveFile],
    writer: FilesOfCommit,
    identifier: str,
    flushes_paused: Callable[[], AbstractContextManager[None]],
) -> bool:
    """Exchange the files; on the newest version as long as it has all the old ones."""
    now_ms = time.time_ns() // 1_000_000
    removed = [
        RemoveAction(file.path, False, now_ms, file.size_bytes, {PARTITION: file.date})
        for file in files
    ]
    properties = CommitProperties(
        custom_metadata={REWRITE_MARK: identifier},
        max_commit_retries=0,  # on this version, or not at all
    )
    old = {file.path for file in files}
    for attempt in range(1, _TRIES + 1):
        with flushes_paused() if attempt == _TRIES else nullcontext():
            opened = _reopened(table)
            active = {file.path for file in active_files(table, opened)}
            if active.issuperset(action.path for action in writer.actions):
                return True  # only the answer was lost
            if not active.issuperset(old):
                return False
            try:
                opened.create_write_transaction(
                    [*removed, *writer.actions],
                    mode="append",
                    schema=opened.schema(),
                    partition_by=[PARTITION],
                    commit_properties=properties,
                    post_commithook_properties=PostCommitHookProperties(cleanup_expired_logs=False),
                )
                return True
            except CommitFailedError:
                if attempt == _TRIES:
                    raise
        time.sleep(_WAIT_S * attempt)
    raise AssertionError


def _may_be_in(table: DeltaOfflineTable, writer: FilesOfCommit) -> bool:
    """Whether the new files belong to the table; True where that is not known."""
    try:
        names = set(table.names(_reopened(table)))
        return any(action.path in names for action in writer.actions)
    except (DeltaError, OSError, StoreUnavailable):
        return True
