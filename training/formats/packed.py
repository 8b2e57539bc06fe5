"""Text, plain or compressed with gzip, in a file or in memory; which shows in its first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa

__all__ = ["Source", "is_packed", "open_stream", "read_bytes"]

Source = Path | bytes
"""What a reader reads: a file, or what a pipe has brought of one."""

_GZIP: Final = b"\x1f\x8b"


def is_packed(source: Source) -> bool:
    """Whether a source is compressed with gzip, whatever its name says."""
    if isinstance(source, bytes):
        return source.startswith(_GZIP)
    with source.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def open_stream(source: Source) -> Any:
    """Open a source to read the bytes it stands for, as an Arrow stream."""
    raw = pa.BufferReader(source) if isinstance(source, bytes) else str(source)
    return pa.input_stream(raw, compression="gzip" if is_packed(source) else None)


def read_bytes(source: Source) -> bytes:
    """Return the bytes a source stands for."""
    if not is_packed(source):
        return source if isinstance(source, bytes) else source.read_bytes()
    with open_stream(source) as stream:
        return bytes(stream.read())
