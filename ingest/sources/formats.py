"""The kinds of files that give rows: Parquet, Arrow IPC, CSV and JSON lines."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path, PurePath
from typing import BinaryIO, Final, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import IngestError, SourceNotFound, Undecodable
from ingest.sources.rows import CHUNK_ROWS, pieces, refuse_naive_times, rows_of

__all__ = ["HAS_COLUMNS", "Row", "Rows", "columns_of", "kind_of", "read_rows", "readable"]

Row: TypeAlias = tuple[int, bytes | Mapping[str, object], Undecodable | None]
"""Its place in the file, what it says, and why it could not be split into columns."""

Rows: TypeAlias = Generator[Row, None, None]

_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_ARROW_MAGIC: Final = b"ARROW1"
_ADVICE: Final = "cast the column to timestamp[us, UTC]"
_KINDS: Final = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
}
HAS_COLUMNS: Final = frozenset({"parquet", "arrow", "csv"})


def kind_of(path: str | PurePath) -> str:
    """Return a file's kind by its name.

    Raises:
        IngestError: the name is not that of a known kind.

    >>> kind_of("readings.jsonl.gz")
    'jsonl'
    """
    path = PurePath(path)
    kind = _KINDS.get(PurePath(path.name.removesuffix(".gz")).suffix.lower())
    if kind is None or (path.suffix == ".gz" and kind in ("parquet", "arrow")):
        raise IngestError(
            f"{path}: expected a file named {', '.join(_KINDS)} (or, if it is text, with .gz "
            f"behind it)"
        )
    return kind


def columns_of(path: Path, kind: str) -> Sequence[str]:
    """Return the names of a file's columns, none for JSON lines.

    Raises:
        IngestError: the file has no header, or columns that cannot be rows of a feature group.
    """
    if kind not in HAS_COLUMNS:
        return ()
    with path.open("rb") as file:
        return _COLUMNS[kind](file, path)


def read_rows(file: BinaryIO, path: Path, kind: str, start: int) -> Rows:
    """Give a file's rows from one on; `path` is for messages and the compression only."""
    return _ROWS[kind](file, path, start)


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside a file into an error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceNotFound(f"{path}: no such file") from error
    except (OSError, pa.ArrowException, EOFError, zlib.error, csv.Error) as error:
        raise IngestError(f"{path}: cannot be read: {error}") from error


def _parquet_columns(file: BinaryIO, path: Path) -> Sequence[str]:
    schema = pq.read_schema(file)
    refuse_naive_times(schema, path, advice=_ADVICE)
    return tuple(schema.names)


def _parquet_rows(file: BinaryIO, path: Path, start: int) -> Rows:
    with pq.ParquetFile(file) as parquet:
        first = 0
        for group in range(parquet.num_row_groups):
            after = first + parquet.metadata.row_group(group).num_rows
            if after > start:
                for batch in parquet.iter_batches(CHUNK_ROWS, row_groups=[group]):
                    skipped = min(max(start - first, 0), len(batch))
                    for row, values in enumerate(rows_of(batch.slice(skipped)), first + skipped):
                        yield row, values, None
                    first += len(batch)
            first = after


def _arrow_columns(file: BinaryIO, path: Path) -> Sequence[str]:
    schema = _arrow_schema(file)
    refuse_naive_times(schema, path, advice=_ADVICE)
    return tuple(schema.names)


def _arrow_schema(file: BinaryIO) -> pa.Schema:
    if _is_arrow_file(file):
        with pa.ipc.open_file(file) as reader:
            return reader.schema
    with pa.ipc.open_stream(file) as stream:
        return stream.schema


def _arrow_rows(file: BinaryIO, path: Path, start: int) -> Rows:
    first = 0
    for batch in _arrow_batches(file):
        if first + batch.num_rows > start:
            for place, piece in pieces(batch, max(start - first, 0)):
                for row, values in enumerate(rows_of(piece), first + place):
                    yield row, values, None
        first += batch.num_rows


def _arrow_batches(file: BinaryIO) -> Iterator[pa.RecordBatch]:
    if _is_arrow_file(file):
        with pa.ipc.open_file(file) as reader:
            for number in range(reader.num_record_batches):
                yield reader.get_batch(number)
    else:
        with pa.ipc.open_stream(file) as stream:
            yield from stream


def _is_arrow_file(file: BinaryIO) -> bool:
    """Whether it is of the form that ends with a table of its batches, else it is a stream."""
    magic = file.read(len(_ARROW_MAGIC))
    file.seek(0)
    return magic == _ARROW_MAGIC


def _csv_columns(file: BinaryIO, path: Path) -> Sequence[str]:
    with _csv_text(file, path) as text:
        header = next(_csv_reader(text, []), [])
    if not header:
        raise IngestError(f"{path}: expected a header line with the columns' names, got nothing")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise IngestError(f"{path}: header: expected each column once, got {twice[0]!r} twice")
    return header


def _csv_rows(file: BinaryIO, path: Path, start: int) -> Rows:
    with _csv_text(file, path) as text:
        lines: list[str] = []  # of the row that is being read
        reader = _csv_reader(text, lines)
        header = next(reader)
        for row in count():
            lines.clear()
            fault = None
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                # The reader goes on after the lines that it could not split.
                fault = Undecodable("row", expected="CSV (RFC 4180)", got=str(error))
            else:
                if not fields:  # an empty line
                    continue
                if len(fields) != len(header):
                    fault = Undecodable(
                        "row",
                        expected=f"{len(header)} fields, as the header has",
                        got=f"{len(fields)}",
                    )
            if row < start:
                continue
            if fault is not None:
                yield row, "".join(lines).encode(errors="surrogateescape"), fault
            else:
                pairs = zip(header, fields, strict=True)
                yield row, {name: field for name, field in pairs if field}, None


def _csv_text(file: BinaryIO, path: Path) -> io.TextIOWrapper:
    # Bytes that are not UTF-8 pass as lone surrogates, so that the record they are in is refused
    # and not the file.
    return io.TextIOWrapper(
        _plain(file, path), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def _csv_reader(text: io.TextIOWrapper, lines: list[str]) -> Iterator[list[str]]:
    """Split a text into rows, noting the lines that each row takes."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE_BYTES))

    def noted() -> Iterator[str]:
        for line in text:
            lines.append(line)
            yield line

    return csv.reader(noted(), strict=True)


def _json_lines(file: BinaryIO, path: Path, start: int) -> Rows:
    for row, line in enumerate(_lines(_plain(file, path), path)):
        if row == 0 and line.lstrip().startswith(b"["):
            raise IngestError(
                f"{path}: expected one JSON object per line, got a JSON array; write each "
                f"element on a line of its own"
            )
        text = line.strip()
        if row >= start and text:
            yield row, text, None


def _lines(file: BinaryIO, path: Path) -> Iterator[bytes]:
    number = 0
    while line := file.readline(_MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > _MAX_LINE_BYTES:
            raise IngestError(
                f"{path}, line {number}: expected at most {_MAX_LINE_BYTES} bytes in a line; "
                f"is this a file of JSON lines?"
            )
        yield line


def _plain(file: BinaryIO, path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(file, "rb")  # type: ignore[return-value]  # it has all that is used
    return file


_COLUMNS: Final[Mapping[str, Callable[[BinaryIO, Path], Sequence[str]]]] = {
    "parquet": _parquet_columns,
    "arrow": _arrow_columns,
    "csv": _csv_columns,
}
_ROWS: Final[Mapping[str, Callable[[BinaryIO, Path, int], Rows]]] = {
    "parquet": _parquet_rows,
    "arrow": _arrow_rows,
    "csv": _csv_rows,
    "jsonl": _json_lines,
}
