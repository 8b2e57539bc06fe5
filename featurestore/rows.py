"""Rows for a load, read batch by batch from any form that they come in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet as pq

from featurestore.arrowview import without_views
from featurestore.errors import InvalidRequest
from featurestore.feature import FeatureType
from featurestore.schema import FeatureGroup
from featurestore.spine import is_query

__all__ = ["numbers_of_text", "pieces", "row_batches"]

BLOCK_ROWS: Final = 2_048
PIECE_ROWS: Final = 4 * BLOCK_ROWS
PIECE_BYTES: Final = 32 << 20
_BATCH_ROWS: Final = 65_536
# What Arrow and the record rules read alike; other texts are left to the rules.
_WHOLE: Final = r"^-?[0-9]{1,18}$"
_NUMBER: Final = r"^-?[0-9]{1,15}(\.[0-9]{1,15})?([eE][-+]?[0-9]{1,2})?$"


def row_batches(data: object) -> Iterator[pa.RecordBatch]:
    """Read rows of any form; files are read as they are asked for.

    Args:
        data: an Arrow table, batch or reader; pandas, Polars or anything else with the Arrow C
            stream interface; columns by name; a DuckDB relation; a text that begins with SELECT,
            WITH or FROM, which DuckDB runs with times in UTC; the path of a Parquet, CSV or Arrow
            file, or of a folder of files of one of these kinds, in the order of their paths; or
            a sequence of paths.

    Raises:
        InvalidRequest: none of these, or a file that cannot be read, also when it comes up later.
    """
    return map(without_views, _row_batches(data))


def _row_batches(data: object) -> Iterator[pa.RecordBatch]:
    if isinstance(data, pa.RecordBatch):
        return iter([data])
    if isinstance(data, pa.Table):
        return iter(data.to_batches())
    if isinstance(data, pa.RecordBatchReader):
        return _told(data, "the rows")
    if is_query(data):
        return _query(str(data))
    if isinstance(data, str | Path):
        return _files([Path(data)])
    if isinstance(data, duckdb.DuckDBPyRelation):
        return _told(data.to_arrow_reader(_BATCH_ROWS), "the query")
    if hasattr(data, "__arrow_c_stream__"):
        return _told(pa.RecordBatchReader.from_stream(data), "the rows")
    if isinstance(data, Mapping):
        try:
            return iter(pa.table(dict(data)).to_batches())
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise InvalidRequest(
                f"expected columns of one length and type each: {error}"
            ) from error
    if isinstance(data, Sequence) and data and all(isinstance(p, str | Path) for p in data):
        return _files([Path(path) for path in data])
    raise InvalidRequest(
        f"expected rows as Arrow, pandas, Polars, a DuckDB query or the path of a file or folder, "
        f"got {type(data).__name__}"
    )


def pieces(
    batches: Iterator[pa.RecordBatch], *, on_block: Callable[[pa.Table], None]
) -> Iterator[pa.RecordBatch]:
    """Cut batches anew into pieces of up to 8,192 rows, and of 32 MiB if rows allow.

    Args:
        batches: of any sizes; their columns may change from one to the next.
        on_block: called with all rows in blocks of 2,048, whatever the batches were; a block of
            less is the last one before the columns change, or at the end.
    """
    held: list[pa.Table] = []
    held_rows = held_bytes = 0
    for block in _blocks(batches):
        on_block(block)
        if held and (
            held_rows + len(block) > PIECE_ROWS
            or held_bytes + block.nbytes > PIECE_BYTES
            or block.schema != held[0].schema
        ):
            yield _one_batch(held)
            held, held_rows, held_bytes = [], 0, 0
        held.append(block)
        held_rows += len(block)
        held_bytes += block.nbytes
    if held:
        yield _one_batch(held)


def numbers_of_text(group: FeatureGroup, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Read text as numbers in the columns of numeric features where every text plainly is one.

    A CSV file has nothing but text, and columns of numbers are checked all at once. A column with
    any other text stays: the rules of records say what becomes of each.
    """
    wanted = {
        FeatureType.INTEGRAL: (_WHOLE, pa.int64()),
        FeatureType.FRACTIONAL: (_NUMBER, pa.float64()),
    }
    arrays = list(batch.columns)
    for place, (name, column) in enumerate(zip(batch.schema.names, arrays, strict=True)):
        found = wanted.get(group.scalars.get(name, FeatureType.STRING))
        if found is None or not (
            pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        ):
            continue
        pattern, kind = found
        fits = pc.all(pc.match_substring_regex(column, pattern), min_count=0).as_py()
        if fits:
            arrays[place] = column.cast(kind)
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)


def _blocks(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.Table]:
    held: list[pa.RecordBatch] = []
    rows = 0
    for raw in batches:
        batch = _plain(raw)
        if held and batch.schema != held[0].schema:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
        start = 0
        while len(batch) - start >= BLOCK_ROWS - rows:
            part = batch.slice(start, BLOCK_ROWS - rows)
            start += len(part)
            yield pa.Table.from_batches([*held, part])
            held, rows = [], 0
        if start < len(batch):
            held.append(batch.slice(start))
            rows += len(batch) - start
    if held:
        yield pa.Table.from_batches(held)


def _plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Decode dictionaries, which may differ from batch to batch, and drop metadata."""
    columns = [
        column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, batch.schema.names)


def _one_batch(tables: list[pa.Table]) -> pa.RecordBatch:
    batches = [batch for table in tables for batch in table.to_batches()]
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _query(query: str) -> Iterator[pa.RecordBatch]:
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        reader = connection.sql(query).to_arrow_reader(_BATCH_ROWS)
    except duckdb.Error as error:
        connection.close()
        raise InvalidRequest(f"the query cannot be run: {error}") from error

    def batches() -> Iterator[pa.RecordBatch]:
        with connection:
            yield from _told(reader, "the query")

    return batches()


def _files(paths: Sequence[Path]) -> Iterator[pa.RecordBatch]:
    files = [file for path in paths for file in _listed(path)]
    # What is there and of a kind that is read is known before the first row is.
    readers = [(file, _READERS[_kind(file)]) for file in files]

    def batches() -> Iterator[pa.RecordBatch]:
        for file, reader in readers:
            try:
                yield from reader(file)
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
                raise InvalidRequest(f"{file} cannot be read: {error}") from error

    return batches()


def _listed(path: Path) -> list[Path]:
    if not path.exists():
        raise InvalidRequest(f"{path} does not exist; expected a file or a folder")
    if not path.is_dir():
        return [path]
    files = sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not any(p[0] in "._" for p in _names(file, path))
    )
    kinds = {_kind(file) for file in files}
    if len(kinds) != 1:
        raise InvalidRequest(
            f"{path}: expected a folder with files of one kind, got "
            f"{', '.join(sorted(kinds)) or 'none'}"
        )
    return files


def _names(file: Path, folder: Path) -> list[str]:
    """Return the parts of a path in a folder; those of a partition are no hidden ones."""
    return [part for part in file.relative_to(folder).parts if "=" not in part]


def _kind(file: Path) -> str:
    kind = _KINDS.get(file.suffix.lower())
    if kind is None:
        raise InvalidRequest(f"{file}: expected .parquet, .csv or .arrow, got {file.suffix!r}")
    return kind


def _told(reader: pa.RecordBatchReader, what: str) -> Iterator[pa.RecordBatch]:
    try:
        yield from reader
    except (pa.ArrowException, OSError, duckdb.Error) as error:
        raise InvalidRequest(f"{what} cannot be read: {error}") from error


def _parquet(file: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(file) as opened:
        rows = opened.metadata.num_rows or 1
        size = sum(
            opened.metadata.row_group(i).total_byte_size for i in range(opened.num_row_groups)
        )
        step = max(1, min(_BATCH_ROWS, PIECE_BYTES * rows // max(1, size)))
        yield from opened.iter_batches(step)


def _csv(file: Path) -> Iterator[pa.RecordBatch]:
    with pyarrow.csv.open_csv(file) as first:
        names = first.schema.names
    options = pyarrow.csv.ConvertOptions(
        # A feature's type says what a text is, not the text: `0012` may be a String.
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
    )
    with pyarrow.csv.open_csv(file, convert_options=options) as reader:
        yield from reader


def _arrow(file: Path) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(file)) as source:
        opened: Any
        try:
            opened = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            opened = pa.ipc.open_stream(source)
            yield from opened
            return
        for number in range(opened.num_record_batches):
            yield opened.get_batch(number)


_KINDS: Final = {
    ".parquet": "Parquet",
    ".csv": "CSV",
    ".arrow": "Arrow",
    ".arrows": "Arrow",
    ".feather": "Arrow",
}
_READERS: Final[dict[str, Callable[[Path], Iterator[pa.RecordBatch]]]] = {
    "Parquet": _parquet,
    "CSV": _csv,
    "Arrow": _arrow,
}
