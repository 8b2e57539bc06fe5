"""Records read one by one with protobuf's own objects: any form, and the error of a broken one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from google.protobuf.message import DecodeError

from training.formats.recordio.framing import HEADER_BYTES, Frames, refused
from training.formats.recordio.message import record_class
from training.formats.recordio.parse import MAPS, TEXTS, Records
from training.formats.tensor import DTYPES, NO_SHAPE, Tensors

__all__ = ["parse_slowly"]

_DTYPES = {"float32_tensor": DTYPES[2], "float64_tensor": DTYPES[3], "int32_tensor": DTYPES[7]}
_Name = tuple[str, str]


def parse_slowly(frames: Frames, first: int) -> Records:
    """Read the records of frames.

    Args:
        frames: n payloads.
        first: how many records come before them, to name one in an error.

    Raises:
        InvalidData: a payload is not a `Record`.
    """
    count = len(frames)
    found: dict[_Name, dict[int, Any]] = {}
    blobs: dict[_Name, list[bytes | None]] = {}
    texts: dict[str, list[str | None]] = {}
    record = record_class()()
    for row in range(count):
        offset = int(frames.starts[row]) - HEADER_BYTES
        number = first + row + 1
        try:
            record.ParseFromString(frames.payload(row))
        except DecodeError as error:
            raise refused(number, offset, "a Record of aialgs.data", str(error)) from error
        for name in TEXTS.values():
            if record.HasField(name):
                texts.setdefault(name, [None] * count)[row] = getattr(record, name)
        for side in MAPS.values():
            for key, value in getattr(record, side).items():
                kind = value.WhichOneof("value")
                if kind == "bytes":
                    if len(value.bytes.value) != 1:
                        got = f"{len(value.bytes.value)} in {side}[{key!r}]"
                        raise refused(number, offset, "one value of bytes", got)
                    blobs.setdefault((side, key), [None] * count)[row] = value.bytes.value[0]
                elif kind is not None:
                    tensor = getattr(value, kind)
                    found.setdefault((side, key), {})[row] = (
                        np.array(tensor.values, _DTYPES[kind]),
                        np.array(tensor.keys, np.uint64),
                        _product(tensor.shape),
                    )
    return Records(
        {name: _tensors(rows, count) for name, rows in found.items()},
        {name: pa.array(column, pa.string()) for name, column in texts.items()},
        {name: pa.array(column, pa.binary()) for name, column in blobs.items()},
    )


def _product(shape: Any) -> int:
    product = 1
    for size in shape:
        product *= size
    return min(product, 2**62) if len(shape) else NO_SHAPE


def _tensors(rows: dict[int, Any], count: int) -> Tensors:
    counts, key_counts = np.zeros(count, np.int64), np.zeros(count, np.int64)
    shape, present = np.full(count, NO_SHAPE), np.zeros(count, np.bool_)
    for row, (values, keys, size) in rows.items():
        counts[row], key_counts[row], shape[row], present[row] = len(values), len(keys), size, True
    return Tensors(
        np.concatenate([values for values, _, _ in rows.values()]),
        counts,
        np.concatenate([keys for _, keys, _ in rows.values()]),
        key_counts,
        shape,
        present,
    )
