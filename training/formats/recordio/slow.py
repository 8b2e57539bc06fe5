"""Records read one by one with protobuf's own objects: any form, and the error of a broken one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
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
            for name in TEXTS.values():
                if record.HasField(name):
                    text = getattr(record, name)
                    # Protobuf gives text that is not UTF-8 as bytes.
                    text = text.decode() if isinstance(text, bytes) else text
                    texts.setdefault(name, [None] * count)[row] = text
            for side in MAPS.values():
                for key, value in getattr(record, side).items():
                    kind = value.WhichOneof("value")
                    if kind == "bytes":
                        blob = _only_value(value.bytes.value, (side, key), number, offset)
                        blobs.setdefault((side, key), [None] * count)[row] = blob
                    elif kind is not None:
                        tensor = _tensor(getattr(value, kind), kind)
                        found.setdefault((side, key), {})[row] = tensor
        except (DecodeError, UnicodeDecodeError) as error:
            raise refused(number, offset, "a Record of aialgs.data", str(error)) from error
    return Records(
        {name: _tensors(rows, count) for name, rows in found.items()},
        {name: pa.array(column, pa.string()) for name, column in texts.items()},
        {name: pa.array(column, pa.binary()) for name, column in blobs.items()},
    )


def _only_value(values: Sequence[bytes], name: _Name, number: int, offset: int) -> bytes:
    if len(values) != 1:
        where = f"{name[0]}[{name[1]!r}]"
        raise refused(number, offset, f"one value of bytes in {where}", str(len(values)))
    return values[0]


def _tensor(tensor: Any, kind: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.uint64], int]:
    values = np.array(tensor.values, _DTYPES[kind])
    return values, np.array(tensor.keys, np.uint64), _product(tensor.shape)


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
