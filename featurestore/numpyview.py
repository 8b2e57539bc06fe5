"""Arrow arrays as NumPy has them, without pandas.

pyarrow's own way (`Array.to_numpy`, `pa.array` of a NumPy array, even `pa.scalar`) imports pandas
wherever that is installed: 0.3 s and 40 MB, which a short process such as a command feels.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["booleans", "from_int64", "int32", "int64"]

_INT64_BITS: Final = 64


def booleans(array: pa.BooleanArray) -> npt.NDArray[np.bool_]:
    """Return the values of an array; what a null says is arbitrary.

    >>> booleans(pa.array([True, False, True]).slice(1)).tolist()
    [False, True]
    """
    if not len(array):
        return np.zeros(0, np.bool_)
    first = array.offset // 8
    bits: Any = np.frombuffer(array.buffers()[1], np.uint8, offset=first)
    bits = bits[: (array.offset % 8 + len(array) + 7) // 8]
    unpacked: Any = np.unpackbits(bits, bitorder="little").view(np.bool_)
    values: npt.NDArray[np.bool_] = unpacked[array.offset % 8 :][: len(array)]
    return values


def int32(array: pa.Int32Array) -> npt.NDArray[np.int32]:
    """Return the values of an array; what a null says is arbitrary.

    >>> int32(pa.array([1, 2, 3], pa.int32()).slice(1)).tolist()
    [2, 3]
    """
    if not len(array):
        return np.zeros(0, np.int32)
    values: npt.NDArray[np.int32] = np.frombuffer(array.buffers()[1], np.int32)
    return values[array.offset : array.offset + len(array)]


def int64(array: pa.Array) -> npt.NDArray[np.int64]:
    """Return the values of an array of 64 bits as whole numbers; what a null says is arbitrary.

    >>> int64(pa.array([1, 2, 3]).slice(1)).tolist()
    [2, 3]
    """
    assert array.type.bit_width == _INT64_BITS
    if not len(array):
        return np.zeros(0, np.int64)
    values: npt.NDArray[np.int64] = np.frombuffer(array.buffers()[1], np.int64)
    return values[array.offset : array.offset + len(array)]


def from_int64(
    values: npt.NDArray[np.int64], *, is_valid: npt.NDArray[np.bool_] | None = None
) -> pa.Int64Array:
    """Return whole numbers as an array, with nulls where they are not valid.

    >>> from_int64(np.arange(3), is_valid=np.array([True, False, True])).to_pylist()
    [0, None, 2]
    """
    validity = None
    if is_valid is not None:
        validity = pa.py_buffer(np.packbits(is_valid, bitorder="little"))
    data = pa.py_buffer(np.ascontiguousarray(values))
    return pa.Array.from_buffers(pa.int64(), len(values), [validity, data])
