"""Files of dead letters: JSON lines, to read with the eye, and Parquet, to query."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ingest.errors import IngestError
from ingest.letters.letter import DeadLetter, json_text

__all__ = ["FORMATS", "PARQUET_SCHEMA", "read_file", "write_whole"]

PARQUET_SCHEMA: Final = pa.schema(
    [
        pa.field("group", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("partition", pa.string(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("payload", pa.binary()),
        pa.field("payload_row", pa.string()),
        pa.field("key", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
        pa.field("error", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("time", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("timestamp_us", pa.int64()),
        pa.field("schema", pa.string()),
        pa.field("attempt", pa.int32(), nullable=False),
        pa.field("replayed", pa.timestamp("us", "UTC")),
    ]
)
"""The columns of a Parquet file of dead letters. `payload_row` is a row as a JSON object."""


class _Format(NamedTuple):
    dump: Callable[[Sequence[DeadLetter]], bytes]
    load: Callable[[Path], Iterator[DeadLetter]]


def read_file(path: Path) -> Iterator[DeadLetter]:
    """Give the letters of a file, whatever its format.

    Raises:
        IngestError: it is no file of dead letters.
    """
    return FORMATS[path.suffix.removeprefix(".")].load(path)


def write_whole(path: Path, letters: Sequence[DeadLetter]) -> None:
    """Make a file with these letters durable; it appears whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    missing = [folder for folder in path.parents if not folder.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(FORMATS[path.suffix.removeprefix(".")].dump(letters))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    # A new name is only as durable as the folder that lists it.
    for folder in (path.parent, *(made.parent for made in missing)):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _dump_lines(letters: Sequence[DeadLetter]) -> bytes:
    return b"".join(json.dumps(letter.to_json()).encode() + b"\n" for letter in letters)


def _load_lines(path: Path) -> Iterator[DeadLetter]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                yield DeadLetter.from_json(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise _altered(f"{path}, line {number}", repr(line[:80]), error) from error


def _dump_parquet(letters: Sequence[DeadLetter]) -> bytes:
    rows = [
        {
            "group": letter.group,
            "source": letter.source,
            "partition": letter.partition,
            "offset": letter.offset,
            "payload": letter.payload if isinstance(letter.payload, bytes) else None,
            "payload_row": (
                _utf8(json_text(letter.payload)) if isinstance(letter.payload, Mapping) else None
            ),
            "key": letter.key,
            "headers": [{"name": _utf8(name), "value": value} for name, value in letter.headers],
            "error": letter.error,
            "reason": _utf8(letter.reason),
            "time": letter.time,
            "timestamp_us": letter.timestamp_us,
            "schema": letter.schema,
            "attempt": letter.attempt,
            "replayed": letter.replayed,
        }
        for letter in letters
    ]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows, PARQUET_SCHEMA), sink, compression="zstd")
    return bytes(sink.getvalue())


def _load_parquet(path: Path) -> Iterator[DeadLetter]:
    try:
        rows = pq.ParquetFile(path).read().to_pylist()
        letters = [_from_row(row) for row in rows]
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:
        raise _altered(str(path), "another file", error) from error
    yield from letters


def _from_row(row: Mapping[str, Any]) -> DeadLetter:
    fields = row["payload_row"]
    return DeadLetter(
        group=row["group"],
        source=row["source"],
        partition=row["partition"],
        offset=row["offset"],
        payload=row["payload"] if fields is None else json.loads(fields),
        key=row["key"],
        error=row["error"],
        reason=row["reason"],
        time=row["time"],
        headers=tuple((header["name"], header["value"]) for header in row["headers"] or ()),
        timestamp_us=row["timestamp_us"],
        schema=row["schema"] or "",
        attempt=row["attempt"],
        replayed=row["replayed"],
    )


def _altered(where: str, got: str, error: Exception) -> IngestError:
    return IngestError(
        f"{where}: expected a dead letter, got {got} ({error}); the file was altered: restore it "
        f"or move it away"
    )


def _utf8(text: str) -> str:
    # A reason may quote half a character of a message, which is no text for Arrow.
    return text.encode(errors="replace").decode()


FORMATS: Final[Mapping[str, _Format]] = {
    "jsonl": _Format(_dump_lines, _load_lines),
    "parquet": _Format(_dump_parquet, _load_parquet),
}
"""Ending of a file's name → how it is written and read."""
