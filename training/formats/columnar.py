"""Parquet and Arrow files: columns with names and types of their own."""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa
import pyarrow.parquet

from training.formats.packed import Source

__all__ = ["read_arrow", "read_parquet"]


def read_parquet(source: Source, parameters: Mapping[str, str]) -> pa.Table:
    """Read one Parquet file; the folders above it add no columns."""
    # Not `read_table`: that would take `name=value` folders in the path for partitions.
    opened = pa.BufferReader(source) if isinstance(source, bytes) else source
    with pyarrow.parquet.ParquetFile(opened) as file:
        return file.read()


def read_arrow(source: Source, parameters: Mapping[str, str]) -> pa.Table:
    """Read Arrow's file or stream format; a file is memory-mapped."""
    opened = pa.BufferReader(source) if isinstance(source, bytes) else pa.memory_map(str(source))
    try:
        return pa.ipc.open_file(opened).read_all()
    except pa.ArrowInvalid:
        opened.seek(0)
        return pa.ipc.open_stream(opened).read_all()
