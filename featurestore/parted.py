"""A dataset in a folder: Parquet files in the order of their names, and what describes them all.

`part-00000.parquet` and on have the rows; `_common_metadata`, a Parquet file without rows as other
readers know it, has the columns' types and the manifest. The files may hold a column in the type
that their writer knows; it is read in the type that the schema names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from featurestore.errors import InvalidRequest

__all__ = ["batches", "file_rows", "parts_of", "read", "schema_of", "seal"]

_SCHEMA: Final = "_common_metadata"


def schema_of(path: Path) -> pa.Schema:
    """Return the columns of a dataset's folder, with the metadata that carries its manifest.

    Raises:
        InvalidRequest: it is no dataset's folder.
    """
    try:
        return pq.read_schema(path / _SCHEMA)
    except FileNotFoundError:
        raise InvalidRequest(
            f"{path}: expected a dataset's folder with a file {_SCHEMA}, there is none"
        ) from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidRequest(f"{path / _SCHEMA} cannot be read: {error}") from error


def parts_of(path: Path) -> list[Path]:
    """Return the files with the rows, in order."""
    return sorted(path.glob("part-*.parquet"))


def file_rows(files: Sequence[Path]) -> int:
    """Return how many rows Parquet files have, by their footers."""
    return sum(pq.read_metadata(file).num_rows for file in files)


def batches(
    files: Sequence[Path], schema: pa.Schema, batch_rows: int, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Read files one after another, in the types of the schema.

    Args:
        files: in order.
        schema: of all columns.
        batch_rows: of each batch but the last of all.
        columns: which, in the schema's order; None: all.
    """
    wanted = schema.remove_metadata()
    if columns is not None:
        wanted = pa.schema([wanted.field(name) for name in columns])
    held: list[pa.RecordBatch] = []
    rows = 0
    for file in files:
        with pq.ParquetFile(file) as opened:
            for batch in opened.iter_batches(batch_rows, columns=columns):
                start = 0
                while start < len(batch):
                    held.append(batch.slice(start, batch_rows - rows))
                    start += len(held[-1])
                    rows += len(held[-1])
                    if rows == batch_rows:
                        yield _batch(held, wanted)
                        held, rows = [], 0
    if held:
        yield _batch(held, wanted)


def read(path: Path) -> pa.Table:
    """Read a dataset's folder whole; the schema's metadata comes with it.

    Raises:
        InvalidRequest: it is no dataset's folder, or a file of it cannot be read.
    """
    schema = schema_of(path)
    try:
        found = list(batches(parts_of(path), schema, 1 << 20))
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidRequest(f"{path} cannot be read as a dataset: {error}") from error
    table = pa.Table.from_batches(found, schema.remove_metadata())
    return table.replace_schema_metadata(schema.metadata)


def seal(path: Path, schema: pa.Schema) -> None:
    """Write what describes the files; a folder is a dataset when it has it."""
    pq.write_metadata(schema, path / _SCHEMA)


def _batch(held: Sequence[pa.RecordBatch], schema: pa.Schema) -> pa.RecordBatch:
    arrays = []
    for number, field in enumerate(schema):
        pieces = [batch.column(number) for batch in held]
        array = pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
        arrays.append(_restored(array, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _restored(array: pa.Array, kind: pa.DataType) -> pa.Array:
    return array if array.type == kind else array.cast(kind)
