"""The spine of a dataset, read from any form that it comes in."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from featurestore.arrowview import without_views
from featurestore.errors import InvalidSpine

__all__ = ["check_names", "is_query", "name_of", "read_spine", "spine_batches", "sql_spine"]

_QUERY: Final = re.compile(r"\s*(SELECT|WITH|FROM)\s", re.IGNORECASE)
_BATCH_ROWS: Final = 65_536


def read_spine(spine: object) -> pa.Table:
    """Take a spine in any form: Arrow, pandas, Polars, a Parquet, CSV or Arrow file, or a query.

    A text that begins with SELECT, WITH or FROM is a query of files; see `sql_spine`.

    Raises:
        InvalidSpine: none of these, a file that cannot be read, no columns, or two of one name.
    """
    table = _to_table(spine)
    check_names(table.schema.names)
    return table.replace_schema_metadata(None)


def spine_batches(spine: object) -> pa.RecordBatchReader:
    """Take a spine as `read_spine` does, but a file, a query or a reader batch by batch.

    Raises:
        InvalidSpine: see `read_spine`; a file that is damaged further on raises it later.
    """
    if isinstance(spine, pa.RecordBatchReader):
        reader = spine
    elif is_query(spine):
        reader = _query(str(spine), {}).to_arrow_reader(_BATCH_ROWS)
    elif isinstance(spine, str | Path) and Path(spine).suffix.lower() == ".parquet":
        reader = _parquet_batches(Path(spine))
    else:
        reader = read_spine(spine).to_reader()
    check_names(reader.schema.names)
    schema = reader.schema.remove_metadata()
    return pa.RecordBatchReader.from_batches(
        schema, (batch.replace_schema_metadata(None) for batch in reader)
    )


def sql_spine(query: str, **tables: object) -> pa.Table:
    """Return the rows of a query over tables and files, as a spine.

    DuckDB runs it, with times in UTC. Name an order in the query where the order of rows matters.

    Args:
        query: one SELECT. Files are named in it: `FROM 'flights.parquet'`.
        tables: what the query may name beside files: Arrow, pandas, Polars, or a file's path.

    Raises:
        InvalidSpine: the query cannot be run, or a table is none.

    >>> flights = pa.table({"plane": ["N1", "N2"], "minute": [3, 9]})
    >>> sql_spine("SELECT plane FROM flights WHERE minute > 5", flights=flights)["plane"][0].as_py()
    'N2'
    """
    return read_spine(_query(query, tables).to_arrow_table())


def is_query(spine: object) -> bool:
    """Whether a spine is a query rather than the path of a file."""
    return isinstance(spine, str) and _QUERY.match(spine) is not None


def name_of(spine: object) -> str:
    """Return what names a spine in lineage: its file's absolute path, "" for others."""
    return (
        str(Path(spine).absolute()) if isinstance(spine, str | Path) and not is_query(spine) else ""
    )


def check_names(names: list[str]) -> None:
    """Refuse a spine without columns, or with two of one name.

    Raises:
        InvalidSpine: it is one.
    """
    if not names:
        raise InvalidSpine("expected a spine with columns, got a table without any")
    if len(set(names)) != len(names):
        raise InvalidSpine(f"expected distinct column names, got {names}")


def _to_table(spine: object) -> pa.Table:
    if isinstance(spine, pa.Table):
        return without_views(spine)
    if isinstance(spine, pa.RecordBatch):
        return without_views(pa.Table.from_batches([spine]))
    if is_query(spine):
        table: pa.Table = _query(str(spine), {}).to_arrow_table()
        return table
    if isinstance(spine, str | Path):
        return _read_file(Path(spine))
    if isinstance(spine, Mapping):
        try:
            return without_views(pa.table(dict(spine)))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidSpine(f"expected columns of one length and type each: {error}") from error
    if hasattr(spine, "__arrow_c_stream__"):
        return without_views(pa.table(spine))
    raise InvalidSpine(
        f"expected a spine as Arrow, pandas, Polars or a file's path, got {type(spine).__name__}"
    )


def _read_file(path: Path) -> pa.Table:
    if not path.exists():
        raise InvalidSpine(f"spine file {path} does not exist")
    ending = path.suffix.lower()
    try:
        if ending == ".parquet":
            # A single file needs none of what reads folders, which takes 0.2 s to import.
            return pq.read_table(path) if path.is_dir() else pq.ParquetFile(path).read()
        if ending == ".csv":
            return pyarrow.csv.read_csv(path)
        if ending in (".arrow", ".feather"):
            return pyarrow.ipc.open_file(path).read_all()
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidSpine(f"spine file {path} cannot be read: {error}") from error
    raise InvalidSpine(f"spine file {path}: expected .parquet, .csv or .arrow, got {ending!r}")


def _parquet_batches(path: Path) -> pa.RecordBatchReader:
    if not path.is_file():
        return _read_file(path).to_reader()
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InvalidSpine(f"spine file {path} cannot be read: {error}") from error

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from file.iter_batches(_BATCH_ROWS)
        except (pa.ArrowInvalid, OSError) as error:
            raise InvalidSpine(f"spine file {path} cannot be read: {error}") from error

    return pa.RecordBatchReader.from_batches(file.schema_arrow, batches())


def _query(query: str, tables: Mapping[str, object]) -> Any:
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    for name, table in tables.items():
        connection.register(name, _to_table(table))
    try:
        return connection.sql(query)
    except duckdb.Error as error:
        raise InvalidSpine(f"the spine's query cannot be run: {error}") from error
