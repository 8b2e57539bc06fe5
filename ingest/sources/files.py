"""Files as a source: Parquet, CSV and JSON lines, alone or as a folder of one kind."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import BinaryIO, Final, TextIO, final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import lineage
from featurestore import PartitionPosition
from ingest.errors import IngestError, SourceChanged, SourceNotFound, Undecodable
from ingest.source import Batch, Message, Source, StoredPositions

__all__ = ["FileSource"]

_MAX_LINE_BYTES: Final = 16 * 1024 * 1024
_PARQUET_ROWS: Final = 4096

_Row = tuple[int, bytes | Mapping[str, object], Undecodable | None]
_Rows = Generator[_Row, None, None]


@final
class FileSource(Source):
    """Reads the rows of one file, or of all files under a folder in order of name.

    A partition is a file by its uri and content, the position in it is the row, counted from 0:
    what was stored is not stored again, by whichever path it is read, and a load that was killed
    goes on at its row. A file whose content changed is another file, and is loaded whole.

    Parquet (`.parquet`) gives typed rows; timestamps need a zone and are floored to microseconds.
    CSV (`.csv`, with a header, RFC 4180, UTF-8) gives text, where an empty field is null; the
    feature group says what a text must be. JSON lines (`.jsonl`, `.ndjson`, `.json`) give bytes
    for a `JsonDecoder`. CSV and JSON lines may be compressed (`.gz`). Below a folder, names that
    begin with `.` or `_` are left out.

    Args:
        path: a file or a folder.

    Cost: each file is read once more for its digest; going on at row n of a CSV or JSON-lines
    file reads over n rows, Parquet skips row groups.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._waiting: list[_File] = []
        self._position: dict[str, int] = {}
        self._reading: _Reading | None = None
        self._inputs: dict[str, lineage.Entity] = {}

    @property
    def name(self) -> str:
        """`files`: one name for all, so that a file is known by whichever path it is reached."""
        return "files"

    def inputs(self) -> Sequence[lineage.Entity]:
        """Name each file that gave rows, by uri and SHA-256."""
        return tuple(self._inputs.values())

    def seek(self, stored: StoredPositions) -> None:
        """Find the files and go on in each where the store stands.

        Raises:
            SourceNotFound: there is no such file, or no file of a known kind in the folder.
            IngestError: the folder holds several kinds, or a file cannot be read.
        """
        self.close()
        files = [_File(path, _kind(path)) for path in self._paths()]
        columns: dict[str, None] = {}
        for file in files:
            columns.update(dict.fromkeys(file.columns()))
        self.columns = tuple(columns) if files[0].kind != "jsonl" else None
        self._position = dict(stored())
        self._waiting = files[::-1]

    def poll(self, max_records: int, timeout_s: float) -> Batch:
        """Return the next rows of one file; nothing is waited for.

        Raises:
            SourceChanged: the file was written to while it was read.
            IngestError: the file is damaged.
        """
        while True:
            if self._reading is None:
                if not self._waiting:
                    return Batch(is_caught_up=True, is_last=True)
                self._reading = _Reading(self._waiting.pop(), self._position)
            reading = self._reading
            rows = reading.take(max_records)
            if rows:
                break
            self._reading = None
        label, start = reading.partition, reading.position
        reading.position = rows[-1][0] + 1
        self._inputs[label] = reading.artifact
        return Batch(
            [Message(label, offset, value, fault=fault) for offset, value, fault in rows],
            (PartitionPosition(label, start, reading.position),),
            sum(len(value) for _, value, _ in rows if isinstance(value, bytes)),
        )

    def commit(self, position: Sequence[PartitionPosition]) -> None:
        """Do nothing: files have no tools of their own."""

    def close(self) -> None:
        """Close the file that is being read."""
        if self._reading is not None:
            self._reading.close()
        self._reading = None
        self._waiting = []

    def _paths(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if not self.path.is_dir():
            raise SourceNotFound(f"{self.path}: no such file or folder")
        found = [
            path
            for path in sorted(self.path.rglob("*"))
            if path.is_file()
            and not any(part.startswith((".", "_")) for part in path.relative_to(self.path).parts)
        ]
        kinds = {_kind(path): path for path in found}
        if not kinds:
            raise SourceNotFound(f"{self.path}: no files in the folder")
        if len(kinds) > 1:
            examples = ", ".join(str(path.name) for path in kinds.values())
            raise IngestError(
                f"{self.path}: expected files of one kind, got {sorted(kinds)} ({examples}); "
                f"load each kind from a folder of its own"
            )
        return found


@final
@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    kind: str

    def columns(self) -> Sequence[str]:
        with _readable(self.path):
            return _COLUMNS[self.kind](self.path)

    def stamp(self) -> tuple[int, int, int]:
        """What changes when the file is written to."""
        stat = self.path.stat()
        return stat.st_size, stat.st_mtime_ns, stat.st_ino


@final
class _Reading:
    """One file that is being read: where it stands, and that it stays what it was."""

    def __init__(self, file: _File, stored: Mapping[str, int]) -> None:
        with _readable(file.path):
            stamp = file.stamp()
            with file.path.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
        uri = file.path.resolve().as_uri()
        self.partition = f"{uri}#sha256={digest}"
        self.artifact = lineage.artifact("DataSet", uri, content_hash=f"sha256:{digest}")
        self.position = stored.get(self.partition, 0)
        self._rows = _ROWS[file.kind](file.path, self.position)
        self._file = file
        self._stamp = stamp

    def take(self, limit: int) -> list[_Row]:
        with _readable(self._file.path):
            rows = list(islice(self._rows, limit))
            if self._file.stamp() != self._stamp:
                raise SourceChanged(
                    f"{self._file.path}: the file changed while it was read, at about row "
                    f"{self.position}; rows before it are stored. Write files elsewhere and "
                    f"rename them into place, then load again"
                )
        return rows

    def close(self) -> None:
        self._rows.close()


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong inside a file into an error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise SourceNotFound(f"{path}: no such file") from error
    except (OSError, pa.ArrowException, EOFError, zlib.error, csv.Error) as error:
        raise IngestError(f"{path}: cannot be read: {error}") from error


def _parquet_columns(path: Path) -> Sequence[str]:
    schema = pq.read_schema(path)
    for field in schema:
        if pa.types.is_timestamp(field.type) and field.type.tz is None:
            raise IngestError(
                f"{path}: column {field.name!r}: expected timestamps with a zone, got "
                f"{field.type}; cast the column to timestamp[us, UTC]"
            )
    return tuple(schema.names)


def _parquet_rows(path: Path, start: int) -> _Rows:
    with pq.ParquetFile(path) as file:
        first = 0
        for group in range(file.num_row_groups):
            after = first + file.metadata.row_group(group).num_rows
            if after > start:
                for batch in file.iter_batches(_PARQUET_ROWS, row_groups=[group]):
                    skipped = min(max(start - first, 0), len(batch))
                    for row, values in enumerate(_rows_of(batch.slice(skipped)), first + skipped):
                        yield row, values, None
                    first += len(batch)
            first = after


def _rows_of(batch: pa.RecordBatch) -> Iterator[Mapping[str, object]]:
    names = batch.schema.names
    columns = [_python_values(column) for column in batch.columns]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _python_values(column: pa.Array) -> list[object]:
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        # Python's datetimes end at microseconds; the store floors event times the same way.
        column = pc.floor_temporal(column, unit="microsecond")
        column = column.cast(pa.timestamp("us", column.type.tz))
    return list(column.to_pylist())


def _csv_columns(path: Path) -> Sequence[str]:
    with _csv_text(path) as text:
        header = next(_csv_reader(text, []), [])
    if not header:
        raise IngestError(f"{path}: expected a header line with the columns' names, got nothing")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise IngestError(f"{path}: header: expected each column once, got {twice[0]!r} twice")
    return header


def _csv_rows(path: Path, start: int) -> _Rows:
    with _csv_text(path) as text:
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


def _csv_text(path: Path) -> TextIO:
    # Bytes that are not UTF-8 pass as lone surrogates, so that the record they are in is refused
    # and not the file.
    return io.TextIOWrapper(
        _opened(path), encoding="utf-8-sig", errors="surrogateescape", newline=""
    )


def _csv_reader(text: TextIO, lines: list[str]) -> Iterator[list[str]]:
    """Split a text into rows, noting the lines that each row takes."""
    csv.field_size_limit(max(csv.field_size_limit(), _MAX_LINE_BYTES))

    def noted() -> Iterator[str]:
        for line in text:
            lines.append(line)
            yield line

    return csv.reader(noted(), strict=True)


def _no_columns(path: Path) -> Sequence[str]:
    return ()


def _json_lines(path: Path, start: int) -> _Rows:
    with _opened(path) as file:
        for row, line in enumerate(_lines(file, path)):
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


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rb")  # type: ignore[return-value]  # it has all that is used
    return path.open("rb")


def _kind(path: Path) -> str:
    plain = Path(path.name.removesuffix(".gz"))
    kind = _KINDS.get(plain.suffix.lower())
    if kind is None or (kind == "parquet" and path.suffix == ".gz"):
        raise IngestError(
            f"{path}: expected a file named {', '.join(_KINDS)} (or, but for Parquet, with .gz "
            f"behind it)"
        )
    return kind


_KINDS: Final = {
    ".parquet": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
}
_COLUMNS: Final[Mapping[str, Callable[[Path], Sequence[str]]]] = {
    "parquet": _parquet_columns,
    "csv": _csv_columns,
    "jsonl": _no_columns,
}
_ROWS: Final[Mapping[str, Callable[[Path, int], _Rows]]] = {
    "parquet": _parquet_rows,
    "csv": _csv_rows,
    "jsonl": _json_lines,
}
