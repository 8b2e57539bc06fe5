"""Tables and identifiers that callers give, as batches and texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa

from featurestore import record as record_rules
from featurestore.arrowview import without_views
from featurestore.errors import InvalidRequest
from featurestore.schema import FeatureGroup

__all__ = ["TABLE_CHUNK", "TABLE_CHUNK_BYTES", "arrow_values", "identifier_texts", "record_batches"]

# A commit of so many rows holds other writers up for 30 to 100 ms.
TABLE_CHUNK: Final = 10_000
TABLE_CHUNK_BYTES: Final = 32 << 20


def record_batches(
    table: Any, rows: int = TABLE_CHUNK, size_bytes: int = TABLE_CHUNK_BYTES
) -> Iterator[pa.RecordBatch]:
    """Read anything with the Arrow C stream interface as batches, not larger than asked.

    Args:
        table: a table, a record batch, a reader, pandas or Polars; small batches are joined.
        rows: at most so many in a batch.
        size_bytes: at most so large is a batch of more than one row.
    """
    waiting: list[pa.RecordBatch] = []
    held = held_bytes = 0
    for batch in map(without_views, _stream(table)):
        pieces = max(1, -(-batch.nbytes // size_bytes))
        step = max(1, min(rows, -(-len(batch) // pieces)))
        for start in range(0, len(batch), step):
            part = batch.slice(start, step)
            if waiting and (held + len(part) > rows or held_bytes + part.nbytes > size_bytes):
                yield pa.concat_batches(waiting)
                waiting, held, held_bytes = [], 0, 0
            waiting.append(part)
            held += len(part)
            held_bytes += part.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


def _stream(table: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(table, pa.RecordBatch):
        yield table
        return
    if isinstance(table, pa.Table):
        yield from table.to_batches()
        return
    if not hasattr(table, "__arrow_c_stream__"):
        raise InvalidRequest(
            f"expected an Arrow table or reader, pandas or Polars, got {type(table).__name__}"
        )
    yield from pa.RecordBatchReader.from_stream(table)


def identifier_texts(group: FeatureGroup, identifiers: Iterable[object]) -> list[str]:
    """Return record identifiers as the texts they are stored under.

    Raises:
        InvalidRecord: one is null or has another type.
    """
    return [record_rules.identifier_text(group, each) for each in arrow_values(identifiers)]


def arrow_values(values: Iterable[object]) -> Iterable[object]:
    """Return values given as an Arrow array as Python's, others as they are."""
    return values.to_pylist() if isinstance(values, pa.Array | pa.ChunkedArray) else values
