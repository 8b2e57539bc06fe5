"""Cuts files into records and packs records into requests."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.errors import InvalidData
from training.formats.inference import encode_request
from training.formats.packed import is_packed
from training.formats.recordio.framing import HEADER_BYTES, find_frames
from training.formats.tfrecord import read_frames, unframed

__all__ = ["Request", "requests_of"]

_PARQUET: Final = "application/x-parquet"
_ARROW: Final = "application/vnd.apache.arrow.file"
_PLAIN: Final = (
    *("text/csv", "application/json", "application/jsonlines"),
    "application/x-recordio-protobuf",
)
_ROWS: Final = 4096


@final
@dataclass(frozen=True)
class Request:
    """What is asked at once.

    Attributes:
        first: the number of its first record in the file, from 1; 0: it is the whole file.
        records: their bytes, lines without their ends.
    """

    first: int
    records: tuple[bytes, ...]

    def body(self, *, lines: bool) -> bytes:
        """Return what is sent; `lines`: each record is one."""
        if not lines or not self.first:
            return b"".join(self.records)
        return b"\n".join(self.records) + b"\n"

    def part(self, start: int, end: int) -> Request:
        """Return some of its records."""
        return Request(self.first + start, self.records[start:end])

    @property
    def named(self) -> str:
        """What errors call its records."""
        if not self.first:
            return "the whole file"
        last = self.first + len(self.records) - 1
        return f"record {self.first}" if last == self.first else f"records {self.first} to {last}"


def requests_of(
    path: Path,
    *,
    base: str,
    split: str,
    single: bool,
    compressed: bool,
    most_bytes: int,
) -> Iterator[Request]:
    """Cut a file into requests, in its order.

    Blank lines are no records. Each row of a Parquet or Arrow file is a record of JSON.

    Args:
        path: the file.
        base: its content type, without parameters.
        split: None, Line, RecordIO or TFRecord.
        single: whether each record is a request of its own, a TFRecord then without its frame.
        compressed: whether it is unpacked from gzip; text and records that are packed always are.
        most_bytes: of a request.

    Raises:
        InvalidData: it cannot be read, or a record is larger than a request may be; the message
            has the record.
    """
    try:
        # None of these begins as gzip does; what a script reads may well do.
        compressed = compressed or (base in _PLAIN and is_packed(path))
        if split == "None":
            with _opened(path, compressed) as file:
                body = file.read()
            _check_size(len(body), most_bytes, "the whole file; cut it with SplitType")
            if body:
                yield Request(0, (body,))
            return
        if base in (_PARQUET, _ARROW):
            records = _rows(path, base)
        elif split == "Line":
            records = _lines(path, compressed)
        elif split == "TFRecord":
            records = _records(path, compressed, framed=not single)
        else:
            records = _frames(path, compressed)
        yield from _packed(records, 1 if split == "Line" else 0, single, most_bytes)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InvalidData(f"it cannot be read: {why}", path=str(path)) from error


def _packed(
    records: Iterable[bytes], between: int, single: bool, most_bytes: int
) -> Iterator[Request]:
    waiting: list[bytes] = []
    size, first = 0, 1
    for record in records:
        length = len(record) + between
        if length > most_bytes:
            _check_size(length, most_bytes, f"record {first + len(waiting)}")
        if waiting and (single or size + length > most_bytes):
            yield Request(first, tuple(waiting))
            first += len(waiting)
            waiting, size = [], 0
        waiting.append(record)
        size += length
    if waiting:
        yield Request(first, tuple(waiting))


def _check_size(size: int, most_bytes: int, what: str) -> None:
    if size > most_bytes:
        raise InvalidData(
            f"{what}: expected at most MaxPayloadInMB={most_bytes >> 20}, got {size / 2**20:.1f} MB"
        )


def _lines(path: Path, compressed: bool) -> Iterator[bytes]:
    with _opened(path, compressed) as file:
        for line in file:
            line = line.rstrip(b"\r\n")
            if line.strip():
                yield line


def _frames(path: Path, compressed: bool) -> Iterator[bytes]:
    with _opened(path, compressed) as file:
        data = file.read()
    frames = find_frames(data)
    for start, end in zip(frames.starts.tolist(), frames.ends.tolist(), strict=True):
        yield data[start - HEADER_BYTES : start + (end - start + 3) // 4 * 4]


def _records(path: Path, compressed: bool, *, framed: bool) -> Iterator[bytes]:
    with _opened(path, compressed) as file:
        for record in read_frames(file):
            yield record if framed else unframed(record)


def _rows(path: Path, base: str) -> Iterator[bytes]:
    for batch in _batches(path, base):
        table = pa.Table.from_batches([batch])
        for place, field in enumerate(table.schema):
            if pa.types.is_temporal(field.type) or pa.types.is_decimal(field.type):
                # JSON has no such values.
                table = table.set_column(place, field.name, _as_text(table.column(place)))
        yield from encode_request(table, "application/jsonlines").splitlines()


def _batches(path: Path, base: str) -> Iterator[pa.RecordBatch]:
    if base == _PARQUET:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(_ROWS)
        return
    with pa.memory_map(str(path)) as source, pa.ipc.open_file(source) as stored:
        for number in range(stored.num_record_batches):
            yield stored.get_batch(number)


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Write times as ISO text, those with a zone in UTC, and what else JSON lacks as text."""
    kind = column.type
    if not pa.types.is_timestamp(kind):
        return column.cast(pa.string())
    utc = column if kind.tz is None else column.cast(pa.timestamp(kind.unit, "UTC"))
    return pc.strftime(utc, "%Y-%m-%dT%H:%M:%S" + ("" if kind.tz is None else "Z"))


@contextmanager
def _opened(path: Path, compressed: bool) -> Iterator[IO[bytes] | Any]:
    with gzip.open(path, "rb") if compressed else path.open("rb") as file:
        yield file
