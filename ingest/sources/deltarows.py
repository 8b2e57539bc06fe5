"""Rows of a Delta table's files: with the table's columns and types, and what became of each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ingest.sources.deltalog import DataFile
from ingest.sources.rows import CHUNK_ROWS, rows_of

__all__ = ["ChangedRow", "FileRows", "partition_value", "shown_columns"]

_CHANGE_TYPE: Final = "_change_type"
# Columns that the store adds to the tables of its feature groups. A feature cannot have these
# names, nor one that begins with `_`.
_OWN: Final = frozenset({"write_time", "api_invocation_time", "is_deleted"})
_OWN_MARKS: Final = _OWN | {"_event_time", "_sequence"}


class ChangedRow(NamedTuple):
    """A row of a version.

    Args:
        number: its place in the version, counted through all of its files.
        values: by column name.
        time_us: when it changed, µs UTC; None: it is not said.
        is_deletion: it is gone.
    """

    number: int
    values: Mapping[str, object]
    time_us: int | None
    is_deletion: bool


@final
class FileRows:
    """One file's rows with the columns and types of the table.

    Args:
        parquet: the file, open.
        file: what the log says of it.
        schema: the table's; columns that the file has not are absent from its rows.
    """

    def __init__(self, parquet: pq.ParquetFile, file: DataFile, schema: pa.Schema) -> None:
        self._parquet = parquet
        self._shown = shown_columns(schema)
        self._is_own = _is_own(schema)
        self._schema = schema
        self._partition = {
            name: partition_value(text, schema.field(name).type)
            for name, text in file.partition.items()
            if name in schema.names
        }
        wanted = {*self._shown, _CHANGE_TYPE}
        if self._is_own:
            wanted |= {"is_deleted", "_event_time"}
        self._columns = [name for name in parquet.schema_arrow.names if name in wanted]

    def batches(self, group: int) -> Iterator[pa.RecordBatch]:
        """Read a row group, with no more columns than are needed."""
        yield from self._parquet.iter_batches(CHUNK_ROWS, row_groups=[group], columns=self._columns)

    def changes(
        self,
        batch: pa.RecordBatch,
        first: int,
        time_us: int | None,
        is_removed: bool,
        identifier: str | None,
        again: pa.ChunkedArray | None,
    ) -> Iterator[ChangedRow]:
        """Say what became of each row of a batch; rows as they were before an update are left out.

        Args:
            batch: as `batches` gave it.
            first: the number of its first row.
            time_us: when the version was committed.
            is_removed: the file was removed, and its rows with it.
            identifier: the column of the record identifier; needed for `again`.
            again: identifiers of rows that come again, and so were not removed.
        """
        kinds = None
        if _CHANGE_TYPE in batch.schema.names and _CHANGE_TYPE not in self._schema.names:
            kinds = batch.column(_CHANGE_TYPE).to_pylist()
        typed = self._typed(batch)
        comes_again = None
        if again is not None:
            assert identifier is not None
            comes_again = pc.is_in(typed.column(identifier), value_set=again).to_pylist()
        marks = times = None
        if self._is_own and not is_removed:
            marks = batch.column("is_deleted").to_pylist()
            times = _micros(batch.column("_event_time"))
        for place, values in enumerate(rows_of(typed)):
            kind = kinds[place] if kinds is not None else "delete" if is_removed else "insert"
            if kind == "update_preimage" or (comes_again is not None and comes_again[place]):
                continue
            if marks is not None and marks[place]:
                assert times is not None
                yield ChangedRow(first + place, values, times[place], True)
            else:
                yield ChangedRow(first + place, values, time_us, kind == "delete")

    def _typed(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns: dict[str, Any] = {}
        for name in self._shown:
            kind = self._schema.field(name).type
            if name in self._partition:
                columns[name] = pa.repeat(self._partition[name], len(batch))
            elif name in batch.schema.names:
                column = batch.column(name)
                # Timestamps in the form of old writers come without the zone that the table has.
                columns[name] = column.cast(kind) if pa.types.is_timestamp(kind) else column
        return pa.record_batch(columns) if columns else batch.select([])


def _is_own(schema: pa.Schema) -> bool:
    return set(schema.names) >= _OWN_MARKS


def shown_columns(schema: pa.Schema) -> list[str]:
    """Return a table's columns without those that the store adds to a feature group's own."""
    if not _is_own(schema):
        return list(schema.names)
    return [name for name in schema.names if not name.startswith("_") and name not in _OWN]


def partition_value(text: str | None, kind: pa.DataType) -> pa.Scalar:
    """Read a partition value as the log writes it; empty means null, whatever the type."""
    if not text:
        return pa.scalar(None, kind)
    if pa.types.is_timestamp(kind):
        moment = dt.datetime.fromisoformat(text)
        return pa.scalar(moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC), kind)
    return pa.scalar(text).cast(kind)


def _micros(column: pa.Array) -> list[int | None]:
    return list(column.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist())
