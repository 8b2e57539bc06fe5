"""Writes the Parquet files of one commit: rows by event date, in the order of versions.

The files belong to no version until the commit is there; a kill leaves files that a later vacuum
takes away.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from featurestore import eventtime
from featurestore.offline.delta import DeltaOfflineTable

__all__ = ["ORDER_KEY", "PARTITION", "FilesOfCommit", "order_of"]

PARTITION: Final = "_event_date"
TARGET_BYTES: Final = 128 << 20
ROW_GROUP_ROWS: Final = 1 << 17
ROW_GROUP_BYTES: Final = 32 << 20
# The footer's member that says what a file's rows are sorted by. A claim, for who can check it.
ORDER_KEY: Final = b"featureline.order"
# Read with no row but its own, if ever.
_SELDOM_READ: Final = (
    "write_time",
    "api_invocation_time",
    "is_deleted",
    "_expires_at",
    "_sequence",
)
_TIMES: Final = ("_event_time", "write_time")


def order_of(identifier: str) -> bytes:
    """Return what a footer says of rows sorted by identifier and, of each, by version.

    >>> order_of("user")
    b'["user", "_event_time", "not is_deleted", "write_time", "_sequence"]'
    """
    order = [identifier, "_event_time", "not is_deleted", "write_time", "_sequence"]
    return json.dumps(order).encode()


@final
class FilesOfCommit:
    """Writes files, one event date after another; holds a row group at a time.

    Args:
        table: that they are for.
        columns: of the files: those of the table but for the partition.
        identifier: the column that the rows of a date are sorted by.
        kind: a part of the files' names.
        changes_data: whether the commit adds rows that the table did not have.
    """

    def __init__(
        self,
        table: DeltaOfflineTable,
        columns: pa.Schema,
        *,
        identifier: str,
        kind: str,
        changes_data: bool,
    ) -> None:
        self._table = table
        self._columns = columns
        self._kind = kind
        self._changes_data = changes_data
        self._properties = _properties(columns, identifier)
        self._order = {ORDER_KEY: order_of(identifier)}
        self._date: str | None = None
        self._held: list[pa.RecordBatch] = []
        self._held_rows = self._held_bytes = 0
        self._open: _File | None = None
        self._paths: list[str] = []
        self.rows = 0
        self.actions: list[AddAction] = []
        if table.is_local:
            Path(table.uri).mkdir(parents=True, exist_ok=True)

    def add(self, date: str, rows: pa.RecordBatch) -> None:
        """Take the next rows, of an event date such as `2024-01-31`."""
        if date != self._date:
            self._end_file()
            self._date = date
        self._held.append(rows)
        self._held_rows += len(rows)
        self._held_bytes += rows.nbytes
        if self._held_rows >= ROW_GROUP_ROWS or self._held_bytes >= ROW_GROUP_BYTES:
            self._write_held()

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

    def _write_held(self) -> None:
        if not self._held:
            return
        if self._open is None:
            assert self._date is not None
            self._open = self._begin(self._date)
        rows = pa.Table.from_batches(self._held, self._columns)
        self._held, self._held_rows, self._held_bytes = [], 0, 0
        self._open.writer.write_table(rows, row_group_size=len(rows))
        self._open.took(rows)
        self.rows += len(rows)
        if self._open.sink.tell() >= TARGET_BYTES:
            self._end_file()

    def _begin(self, date: str) -> _File:
        path = f"{PARTITION}={date}/part-{self._kind}-{uuid.uuid4()}.parquet"
        self._paths.append(path)
        if self._table.is_local:
            place = Path(self._table.uri, path)
            place.parent.mkdir(exist_ok=True)
            sink: Any = place.open("xb")
        else:
            sink = self._table.folder().open_output_stream(path)
        writer = pq.ParquetWriter(sink, self._columns, **self._properties)
        writer.add_key_value_metadata(self._order)
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
        self.actions.append(file.action(size, changes_data=self._changes_data))


class _Ends(NamedTuple):
    first_us: int
    last_us: int


@final
class _File:
    """A file that is being written."""

    def __init__(self, path: str, date: str, sink: Any, writer: Any) -> None:
        self.path = path
        self.date = date
        self.sink = sink
        self.writer = writer
        self._rows = 0
        self._ends: dict[str, _Ends] = {}

    def took(self, rows: pa.Table) -> None:
        """Note what was written."""
        self._rows += len(rows)
        for name in _TIMES:
            found = pc.min_max(rows[name].cast(pa.int64())).as_py()
            ends = _Ends(found["min"], found["max"])
            before = self._ends.get(name, ends)
            self._ends[name] = _Ends(
                min(ends.first_us, before.first_us), max(ends.last_us, before.last_us)
            )

    def action(self, size_bytes: int, *, changes_data: bool) -> AddAction:
        """Return what the log says of the file."""
        statistics = {
            "numRecords": self._rows,
            "minValues": {name: _milliseconds(e.first_us) for name, e in self._ends.items()},
            "maxValues": {name: _milliseconds(e.last_us) for name, e in self._ends.items()},
            "nullCount": dict.fromkeys(self._ends, 0),
        }
        return AddAction(
            self.path,
            size_bytes,
            {PARTITION: self.date},
            time.time_ns() // 1_000_000,
            changes_data,
            json.dumps(statistics),
        )


def _milliseconds(us: int) -> str:
    """Write a time as the log has it; readers allow for what is cut off."""
    text = eventtime.format_iso(us // 1000 * 1000).removesuffix("Z")
    seconds, _, fraction = text.partition(".")
    return f"{seconds}.{fraction[:3]:0<3}Z"


def _properties(columns: pa.Schema, identifier: str) -> Mapping[str, Any]:
    """Choose how columns are written: what joins go through is the fastest to read.

    Sorted identifiers are runs of one number; times and fractions compress hardly and have no
    use for a dictionary. What is seldom read is made small.
    """
    compression, texts = {}, []
    for field in columns:
        name, kind = field.name, field.type
        if pa.types.is_list(kind):
            name, kind = f"{name}.list.element", kind.value_type
        if pa.types.is_string(kind):
            texts.append(name)
        if field.name in (identifier, "_event_time"):
            compression[name] = "none"
        else:
            compression[name] = "zstd" if field.name in _SELDOM_READ else "lz4"
    return {"compression": compression, "use_dictionary": texts or False}
