"""A channel's files as tables of bounded size, and how large they would be as one."""

from __future__ import annotations

import importlib
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from training.errors import InvalidData
from training.formats import ContentType, read_file
from training.formats.columnar import read_arrow
from training.formats.packed import is_packed, open_stream

__all__ = ["COLUMNAR", "parts_of", "table_bytes"]

COLUMNAR: Final = frozenset({"application/x-parquet", "application/vnd.apache.arrow.file"})
"""Content types whose files can be read again and again, a part at a time."""

_SAMPLE_BYTES: Final = 1 << 20
_BUFFER_BYTES: Final = 1 << 16
_QUOTE: Final = b'"'
_WORD_BYTES: Final = 32

_BY_LINES: Final = {
    "text/csv": "csv",
    "text/libsvm": "libsvm",
    "application/jsonlines": "jsonlines",
}
"""Of each content type that is rows of text, the module that reads them."""


def parts_of(
    file: Path,
    kind: ContentType,
    *,
    channel: str,
    part_bytes: int,
    columns: Sequence[str] | None = None,
) -> Iterator[pa.Table]:
    """Read a file as tables of about `part_bytes`, in order.

    Text is cut between rows. Other files than Parquet, Arrow, CSV, libsvm and JSON lines are one
    table each, however large.

    Args:
        file: of this content type.
        kind: with its parameters.
        channel: what errors call the data.
        part_bytes: of a table in memory, or of its text.
        columns: of a Parquet or Arrow file, those that are wanted; None: all.

    Raises:
        InvalidData: it is not what its content type says.
    """
    try:
        if kind.base == "application/x-parquet":
            yield from _parquet(file, part_bytes, columns)
        elif kind.base == "application/vnd.apache.arrow.file":
            yield from _arrow(file, part_bytes, columns)
        elif _is_by_lines(kind):
            yield from _text(file, kind, channel, part_bytes)
        else:
            yield read_file(file, kind, channel=channel)
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{channel}: {file.name!r} cannot be read as {kind}: {error}",
            channel=channel,
            path=str(file),
        ) from error


def table_bytes(files: Sequence[Path], kind: ContentType) -> int:
    """Estimate how many bytes the files are as one table in memory.

    Of Parquet by rows and types, of lines by what the first of them become, else by the files'
    sizes. Files that cannot be read count nothing: whoever reads them says why.
    """
    try:
        if kind.base == "application/x-parquet":
            return sum(_parquet_bytes(file) for file in files)
        if not _is_by_lines(kind):
            return sum(_unpacked_bytes(file) for file in files)
        with open_stream(files[0]) as stream:
            sample, _ = _cut(bytes(stream.read(_SAMPLE_BYTES)), kind)
        if not sample:
            return sum(_unpacked_bytes(file) for file in files)
        grows = _decode(sample, kind).nbytes / len(sample)
        return int(grows * sum(_unpacked_bytes(file) for file in files))
    except (InvalidData, pa.ArrowException, OSError):
        return 0


def _is_by_lines(kind: ContentType) -> bool:
    return kind.base in _BY_LINES and "attributes" not in kind.parameters


def _parquet(file: Path, part_bytes: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    # Through small buffers: a row group may be larger than the memory there is.
    with pq.ParquetFile(file, buffer_size=_BUFFER_BYTES, pre_buffer=False) as opened:
        schema = opened.schema_arrow
        names = [name for name in schema.names if columns is None or name in columns]
        rows = _rows(part_bytes, pa.schema([schema.field(name) for name in names]))
        for batch in opened.iter_batches(rows, columns=names, use_threads=False):
            yield pa.Table.from_batches([batch])


def _arrow(file: Path, part_bytes: int, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    table = read_arrow(file, {})
    if columns is not None:
        table = table.select([name for name in table.column_names if name in columns])
    rows = _rows(part_bytes, table.schema)
    for start in range(0, len(table), rows):
        yield table.slice(start, rows)


def _text(file: Path, kind: ContentType, channel: str, part_bytes: int) -> Iterator[pa.Table]:
    begin, rest = 0, b""
    with open_stream(file) as stream:
        while block := bytes(stream.read(part_bytes)):
            whole, rest = _cut(rest + block, kind)
            if whole:
                yield _decoded(whole, file, kind, channel, begin)
                begin += len(whole)
    if rest.strip():
        # Arrow takes one line without an end for none at all.
        yield _decoded(rest + b"\n", file, kind, channel, begin)


def _decoded(text: bytes, file: Path, kind: ContentType, channel: str, begin: int) -> pa.Table:
    try:
        return _decode(text, kind)
    except (InvalidData, pa.ArrowException) as error:
        place = f", rows counted from byte {begin}" if begin else ""
        raise InvalidData(
            f"{channel}: {file.name!r}{place}: {error}", channel=channel, path=str(file)
        ) from error


def _decode(text: bytes, kind: ContentType) -> pa.Table:
    # Late, as all readers: a job starts without those that it does not need.
    module = importlib.import_module(f"training.formats.{_BY_LINES[kind.base]}")
    found: pa.Table = (
        module.decode(text)
        if kind.base == "application/jsonlines"
        else module.decode(text, kind.parameters)
    )
    return found


def _cut(text: bytes, kind: ContentType) -> tuple[bytes, bytes]:
    """Cut a text behind its last whole row: in CSV a quoted field may hold ends of lines."""
    end = text.rfind(b"\n") + 1
    while kind.base == "text/csv" and end and text.count(_QUOTE, 0, end) % 2:
        end = text.rfind(b"\n", 0, end - 1) + 1
    return text[:end], text[end:]


def _rows(part_bytes: int, schema: pa.Schema) -> int:
    return max(1, part_bytes // max(1, sum(_width(field.type) for field in schema)))


def _width(type: pa.DataType) -> int:
    """Return about how many bytes a value takes."""
    if pa.types.is_fixed_size_list(type):
        return int(type.list_size) * _width(type.value_type)
    try:
        return max(1, int(type.bit_width) // 8)
    except ValueError:
        # Words and lists have no width of their own.
        return _WORD_BYTES


def _parquet_bytes(file: Path) -> int:
    metadata = pq.read_metadata(file)
    schema = metadata.schema.to_arrow_schema()
    return int(metadata.num_rows) * sum(_width(field.type) for field in schema)


def _unpacked_bytes(file: Path) -> int:
    """Return how many bytes a file stands for."""
    size = file.stat().st_size
    if not size or not is_packed(file):
        return size
    with file.open("rb") as stream:
        stream.seek(-4, 2)
        # gzip ends with the size, without what is beyond 4 GiB.
        (unpacked,) = struct.unpack("<I", stream.read(4))
    return max(size, int(unpacked))
