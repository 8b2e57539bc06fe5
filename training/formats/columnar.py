"""Parquet and Arrow files: columns with names and types of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

__all__ = ["read_arrow", "read_parquet"]


def read_parquet(path: Path, parameters: Mapping[str, str]) -> pa.Table:
    """Read one Parquet file; the folders above it add no columns."""
    # Not `read_table`: that would take `name=value` folders in the path for partitions.
    with pyarrow.parquet.ParquetFile(path) as file:
        return file.read()


def read_arrow(path: Path, parameters: Mapping[str, str]) -> pa.Table:
    """Read one Arrow IPC file, memory-mapped, in the file or the stream format."""
    source = pa.memory_map(str(path))
    try:
        return pa.ipc.open_file(source).read_all()
    except pa.ArrowInvalid:
        source.seek(0)
        return pa.ipc.open_stream(source).read_all()
