"""Many rows into an offline table at once: sorted files, one commit, under a name of its own.

The files are written before the commit and belong to no version until it is there. A kill leaves
files that a later vacuum takes away. The commit carries an application transaction, so that who
tries again can ask the table whether it is in.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, create_table_with_add_actions

from featurestore import eventtime
from featurestore.errors import StoreFull, StoreUnavailable
from featurestore.offline.delta import TABLE_PROPERTIES, DeltaOfflineTable

__all__ = ["append_sorted"]

TARGET_BYTES: Final = 128 << 20
ROW_GROUP_ROWS: Final = 1 << 17
ROW_GROUP_BYTES: Final = 32 << 20
_PARTITION: Final = "_event_date"
_DAY_US: Final = 86_400_000_000
_TRIES: Final = 5


def append_sorted(
    table: DeltaOfflineTable,
    rows: pa.RecordBatchReader,
    *,
    application: str,
    transaction: int,
    metadata: Mapping[str, str],
    on_rows: Callable[[int], None] = lambda rows: None,
    on_files: Callable[[], None] = lambda: None,
) -> int:
    """Append rows as one commit; return the table's version.

    Holds a row group of one event date at a time. The caller is the only one that appends to the
    table, and has looked whether the transaction is in.

    Args:
        table: the group's table; made when absent.
        rows: with the columns of the table, sorted by `_event_date`.
        application: names the transaction.
        transaction: its number, > 0.
        metadata: kept in the commit.
        on_rows: called with the number of rows written so far.
        on_files: called when all files are written and nothing is committed.

    Raises:
        StoreUnavailable, StoreFull: nothing was committed.
    """
    columns = rows.schema.remove(rows.schema.get_field_index(_PARTITION))
    writer = _Files(table, columns)
    try:
        try:
            written = 0
            for batch in rows:
                writer.add(batch)
                written += len(batch)
                on_rows(written)
            writer.close()
            on_files()
            return _commit(
                table, rows.schema, writer.actions, metadata, Transaction(application, transaction)
            )
        except BaseException:
            # A commit may be in although its answer was lost: then the files belong to the table.
            if not _is_in(table, application, transaction):
                writer.remove()
            raise
    except (DeltaError, OSError) as error:
        kind = StoreFull if isinstance(table.failure(error), StoreFull) else StoreUnavailable
        raise kind(
            f"the offline table {table.uri}: {error}; load again with the same key: what is stored "
            f"already is not stored twice"
        ) from error


@final
class _Files:
    """Writes the files of one append, one event date after another."""

    def __init__(self, table: DeltaOfflineTable, columns: pa.Schema) -> None:
        self._table = table
        self._columns = columns
        self._times = columns.get_field_index("_event_time")
        self._day: int | None = None
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self._open: _File | None = None
        self._paths: list[str] = []
        self.actions: list[AddAction] = []
        if table.is_local:
            Path(table.uri).mkdir(parents=True, exist_ok=True)

    def add(self, batch: pa.RecordBatch) -> None:
        """Take the next rows."""
        days = batch.column(_PARTITION).cast(pa.int32()).to_numpy()
        (ends,) = np.nonzero(np.diff(days))
        data = batch.select(self._columns.names)
        start = 0
        for end in [*(ends + 1).tolist(), len(batch)]:
            if end > start:
                self._add_to(int(days[start]), data.slice(start, end - start))
            start = end

    def close(self) -> None:
        """End the last file."""
        self._end_file()

    def remove(self) -> None:
        """Delete what was written."""
        if self._open is not None:
            self._open.sink.close()
        folder = self._table.folder()
        for path in self._paths:
            with suppress(OSError):
                folder.delete_file(path)

    def _add_to(self, day: int, rows: pa.RecordBatch) -> None:
        if day != self._day:
            self._end_file()
            self._day = day
        self._held.append(rows)
        self._held_rows += len(rows)
        self._held_bytes += rows.nbytes
        if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
            self._write_held()

    def _write_held(self) -> None:
        if not self._held:
            return
        if self._open is None:
            assert self._day is not None
            self._open = self._begin(self._day)
        rows = pa.Table.from_batches(self._held, self._columns)
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        self._open.writer.write_table(rows, row_group_size=len(rows))
        ends = pc.min_max(rows.column(self._times).cast(pa.int64())).as_py()
        self._open.took(len(rows), ends["min"], ends["max"])
        if self._open.sink.tell() >= TARGET_BYTES:
            self._end_file()

    def _begin(self, day: int) -> _File:
        date = eventtime.format_iso(day * _DAY_US)[:10]
        path = f"{_PARTITION}={date}/part-load-{uuid.uuid4()}.snappy.parquet"
        self._paths.append(path)
        if self._table.is_local:
            place = Path(self._table.uri, path)
            place.parent.mkdir(exist_ok=True)
            sink: Any = place.open("xb")
        else:
            sink = self._table.folder().open_output_stream(path)
        writer = pq.ParquetWriter(sink, self._columns, compression="snappy")
        return _File(path, date, sink, writer)

    def _end_file(self) -> None:
        self._write_held()
        file, self._open = self._open, None
        if file is None:
            return
        file.writer.close()
        size = file.sink.tell()
        if self._table.is_local:
            file.sink.flush()
            os.fsync(file.sink.fileno())  # no outbox has these rows
        file.sink.close()
        self.actions.append(file.action(size))


class _Ends(NamedTuple):
    earliest_us: int
    latest_us: int


@final
class _File:
    """A file that is being written."""

    def __init__(self, path: str, date: str, sink: Any, writer: Any) -> None:
        self.path = path
        self.date = date
        self.sink = sink
        self.writer = writer
        self._rows = 0
        self._ends: _Ends | None = None

    def took(self, rows: int, earliest_us: int, latest_us: int) -> None:
        """Note what was written."""
        self._rows += rows
        if self._ends is not None:
            earliest_us = min(earliest_us, self._ends.earliest_us)
            latest_us = max(latest_us, self._ends.latest_us)
        self._ends = _Ends(earliest_us, latest_us)

    def action(self, size_bytes: int) -> AddAction:
        """Return what the log says of the file."""
        assert self._ends is not None
        statistics = {
            "numRecords": self._rows,
            "minValues": {"_event_time": _milliseconds(self._ends.earliest_us)},
            "maxValues": {"_event_time": _milliseconds(self._ends.latest_us)},
            "nullCount": {"_event_time": 0},
        }
        now_ms = time.time_ns() // 1_000_000
        return AddAction(
            self.path, size_bytes, {_PARTITION: self.date}, now_ms, True, json.dumps(statistics)
        )


def _milliseconds(us: int) -> str:
    """Write a time as the log has it; readers allow for what is cut off."""
    text = eventtime.format_iso(us // 1000 * 1000).removesuffix("Z")
    seconds, _, fraction = text.partition(".")
    return f"{seconds}.{fraction[:3]:0<3}Z"


def _commit(
    table: DeltaOfflineTable,
    schema: pa.Schema,
    actions: list[AddAction],
    metadata: Mapping[str, str],
    transaction: Transaction,
) -> int:
    commit = CommitProperties(custom_metadata=dict(metadata), app_transactions=[transaction])
    attempt = 0
    while True:
        try:
            return _commit_once(table, schema, actions, commit)
        except CommitFailedError:
            # Another writer changed what no append can pass, such as the properties.
            attempt += 1
            if _is_in(table, transaction.app_id, transaction.version):
                return int(table.version() or 0)
            if attempt == _TRIES:
                raise
            time.sleep(0.05 * 2**attempt)


def _commit_once(
    table: DeltaOfflineTable, schema: pa.Schema, actions: list[AddAction], commit: CommitProperties
) -> int:
    opened = table.open()
    if opened is None:
        # The folder's first commit carries files and transaction together.
        create_table_with_add_actions(
            table.uri,
            Schema.from_arrow(schema),
            actions,
            mode="error",
            partition_by=[_PARTITION],
            configuration=dict[str, str | None](TABLE_PROPERTIES),
            storage_options=table.storage_options,
            commit_properties=commit,
        )
        return int(table.version() or 0)
    has = {field.name for field in opened.schema().fields}
    added = [field for field in Schema.from_arrow(schema).fields if field.name not in has]
    if added:
        opened.alter.add_columns(added)
        opened = table.open()
        assert opened is not None
    opened.create_write_transaction(
        list(actions),
        mode="append",
        schema=opened.schema(),
        partition_by=[_PARTITION],
        commit_properties=commit,
    )
    return int(table.version() or 0)


def _is_in(table: DeltaOfflineTable, application: str, transaction: int) -> bool:
    try:
        opened = table.open()
        return opened is not None and opened.transaction_version(application) == transaction
    except (DeltaError, OSError):
        return True  # not known
