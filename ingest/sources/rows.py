"""Arrow batches as rows: typed values by column name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pyarrow as pa
import pyarrow.compute as pc

from ingest.errors import IngestError

__all__ = ["CHUNK_ROWS", "pieces", "refuse_naive_times", "rows_of"]

CHUNK_ROWS = 4096
"""So many rows are Python objects at a time."""


def refuse_naive_times(schema: pa.Schema, where: object, *, advice: str) -> None:
    """Refuse timestamps that do not say in which zone they are.

    Raises:
        IngestError: a column has them.
    """
    for field in schema:
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            raise IngestError(
                f"{where}: column {field.name!r}: expected timestamps with a zone, got "
                f"{field.type}; {advice}"
            )


def rows_of(batch: pa.RecordBatch) -> Iterator[Mapping[str, object]]:
    """Give each row as Python values by column name; timestamps are floored to microseconds.

    >>> list(rows_of(pa.record_batch({"station": [7], "temp": [2.5]})))
    [{'station': 7, 'temp': 2.5}]
    """
    names = batch.schema.names
    columns = [_python_values(column) for column in batch.columns]
    if not columns:
        return
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def pieces(batch: pa.RecordBatch, start: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Cut a batch, from one of its rows on, into pieces of at most CHUNK_ROWS with their place."""
    for first in range(start, batch.num_rows, CHUNK_ROWS):
        yield first, batch.slice(first, CHUNK_ROWS)


def _python_values(column: pa.Array) -> list[object]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's datetimes end at microseconds; the store floors event times the same way.
        column = pc.floor_temporal(column, unit="microsecond")
        column = column.cast(pa.timestamp("us", column.type.tz))
    return list(column.to_pylist())
