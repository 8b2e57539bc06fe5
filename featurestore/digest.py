"""A digest of an Arrow table's content, whatever its chunks and buffers look like."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["table_digest"]


def table_digest(table: pa.Table) -> str:
    """Return the SHA-256 of column names, types, nulls and values, in order.

    Equal for equal content: chunking, offsets, the bytes behind nulls, dictionary encoding and
    32- or 64-bit string offsets do not matter.

    Cost: one pass, about 1 GB/s; memory of one column.

    >>> a = pa.chunked_array([["x"], [None, "y"]])
    >>> table_digest(pa.table({"a": a})) == table_digest(pa.table({"a": ["x", None, "y"]}))
    True
    """
    digest = hashlib.sha256(f"{len(table)}\n".encode())
    for name, column in zip(table.schema.names, table.columns, strict=True):
        _feed(digest, name, _one_array(column))
    return digest.hexdigest()


def _feed(digest: Any, name: str, array: pa.Array) -> None:
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    kind = array.type
    if pa.types.is_string(kind) or pa.types.is_string_view(kind):
        array = array.cast(pa.large_string())
    elif pa.types.is_binary(kind) or pa.types.is_binary_view(kind):
        array = array.cast(pa.large_binary())
    kind = array.type
    digest.update(f"{(name, str(kind))!r}\n".encode())
    digest.update(np.packbits(_numpy(pc.is_valid(array))))
    if pa.types.is_boolean(kind):
        digest.update(np.packbits(_numpy(pc.fill_null(array, False))))
    elif pa.types.is_large_string(kind) or pa.types.is_large_binary(kind):
        lengths = pc.fill_null(pc.binary_length(array), 0)
        digest.update(np.ascontiguousarray(_numpy(lengths.cast(pa.int64()))))
        offsets = np.frombuffer(array.buffers()[1], np.int64)[
            array.offset : array.offset + len(array) + 1
        ]
        # A null has no bytes in what pyarrow and DuckDB build; drop them where it has.
        if array.null_count:
            array = array.drop_null()
            array = pa.concat_arrays([array]) if len(array) else array
            offsets = np.frombuffer(array.buffers()[1], np.int64)[
                array.offset : array.offset + len(array) + 1
            ]
        if len(array) and array.buffers()[2] is not None:
            digest.update(memoryview(array.buffers()[2])[int(offsets[0]) : int(offsets[-1])])
    elif pa.types.is_nested(kind):
        digest.update(repr(array.to_pylist()).encode())
    elif not pa.types.is_null(kind):
        width = kind.bit_width // 8
        counts: Any = {1: np.int8, 2: np.int16, 4: np.int32, 8: np.int64}.get(width)
        if counts is None:  # decimals
            digest.update(repr(array.to_pylist()).encode())
            return
        values = np.frombuffer(array.buffers()[1], counts)[array.offset : array.offset + len(array)]
        if array.null_count:
            values = np.where(_numpy(pc.is_valid(array)), values, counts(0))
        digest.update(np.ascontiguousarray(values))


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    if column.num_chunks == 0:
        return pa.array([], column.type)
    return pa.concat_arrays(
        column.unify_dictionaries().chunks if pa.types.is_dictionary(column.type) else column.chunks
    )


def _numpy(array: pa.Array) -> Any:
    return array.to_numpy(zero_copy_only=False)
