"""Files of text, plain or compressed with gzip; which of them shows in the first bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa

__all__ = ["is_packed", "open_stream", "read_bytes"]

_GZIP: Final = b"\x1f\x8b"


def is_packed(path: Path) -> bool:
    """Whether a file is compressed with gzip, whatever its name says."""
    with path.open("rb") as file:
        return file.read(len(_GZIP)) == _GZIP


def open_stream(path: Path) -> Any:
    """Open a file to read the bytes it stands for, as an Arrow stream."""
    return pa.input_stream(str(path), compression="gzip" if is_packed(path) else None)


def read_bytes(path: Path) -> bytes:
    """Return the bytes a file stands for."""
    if not is_packed(path):
        return path.read_bytes()
    with open_stream(path) as stream:
        return bytes(stream.read())
