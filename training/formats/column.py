"""Columns that readers make of vectors: dense, sparse, tokens and labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.encoding import SIZE_KEY
from training.errors import InvalidData
from training.formats.tensor import NO_SHAPE, Tensors

__all__ = [
    "ROLE_KEY",
    "TENSOR_KEY",
    "Refuse",
    "features_column",
    "label_column",
    "role_field",
    "sparse_column",
]

ROLE_KEY: Final = b"featureline.role"
"""Where the field of a column that is no input keeps what it is: `uid`, `weight`, `qid` …"""

TENSOR_KEY: Final = b"featureline.tensor"
"""Where the field of a label or of a reply keeps which type of number it is read from or written
as."""

_MOST_DIMENSIONS: Final = 2**31 - 1

Refuse = Callable[[int, str, str], InvalidData]
"""Makes the error of a row (from 0): what was expected, and what came."""


def features_column(
    name: str, tensors: Tensors, refuse: Refuse, *, where: str = "features", tokens: bool = False
) -> tuple[pa.Field, pa.Array]:
    """Make an input column: dense or sparse vectors, or lists of whole numbers.

    Vectors are sparse if a row has keys, or a shape and no values. Whole numbers of differing count
    are lists; other values must be as many in each row. A row that has none is null.

    Args:
        name: of the column.
        tensors: the vectors.
        refuse: makes the error of a row.
        where: what to call the vectors in an error.
        tokens: whether whole numbers are lists also where all rows have as many.

    Raises:
        InvalidData: a row does not fit the first, or a sparse vector's keys do not fit its shape.
    """
    thin = tensors.present & (tensors.counts == 0) & (tensors.shape != NO_SHAPE)
    if tensors.key_counts.any() or thin.any():
        return _sparse(name, tensors, refuse, where)
    if tensors.values.dtype.kind == "i":
        counts = tensors.counts[tensors.present]
        if tokens or (counts != counts[0]).any():
            offsets = pa.array(np.concatenate([[0], np.cumsum(tensors.counts)]), pa.int32())
            array = pa.ListArray.from_arrays(
                offsets, pa.array(tensors.values), mask=_mask(tensors.present)
            )
            return pa.field(name, array.type), array
    array = _fixed(tensors, _width(tensors, refuse, where))
    return pa.field(name, array.type), array


def label_column(
    name: str, tensors: Tensors, refuse: Refuse, *, where: str = "label"
) -> tuple[pa.Field, pa.Array]:
    """Make a label column: numbers, or vectors where a row has several; a row without is null.

    Column `label` is float64; the type its numbers had is kept in the field's metadata.

    Raises:
        InvalidData: a row has not as many numbers as the first, or none.
    """
    width = _width(tensors, refuse, where)
    present, values = tensors.present, tensors.values
    metadata = {TENSOR_KEY: str(values.dtype).encode()}
    if width > 1:
        array = _fixed(tensors, width)
        return pa.field(name, array.type, metadata=metadata), array
    if name == "label":
        values = values.astype(np.float64)
    if not present.all():
        spread = np.zeros(len(present), values.dtype)
        spread[present] = values
        array = pa.array(spread, mask=~present)
    else:
        array = pa.array(values)
    return pa.field(name, array.type, metadata=metadata), array


def role_field(name: str, type: pa.DataType) -> pa.Field:
    """Return the field of a column that is no input, such as `uid` or `weight`."""
    return pa.field(name, type, metadata={ROLE_KEY: name.encode()})


def sparse_column(
    indices: npt.NDArray[np.int32], values: npt.NDArray[Any], counts: npt.NDArray[np.int64]
) -> pa.StructArray:
    """Make a column of n sparse vectors, each with its indices in ascending order.

    Args:
        indices: of all rows, one row behind the other, in any order within a row.
        values: one for each index.
        counts: how many each of the n rows has.
    """
    ends = np.cumsum(counts)
    falls = indices[1:] < indices[:-1]
    # Between the last index of a row and the first of the next a fall is no disorder.
    falls[ends[(ends > 0) & (ends < len(indices))] - 1] = False
    if falls.any():
        order = np.lexsort((indices, np.repeat(np.arange(len(counts)), counts)))
        indices, values = indices[order], values[order]
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.StructArray.from_arrays(
        [
            pa.ListArray.from_arrays(offsets, pa.array(indices, pa.int32())),
            pa.ListArray.from_arrays(offsets, pa.array(values)),
        ],
        names=["indices", "values"],
    )


def _width(tensors: Tensors, refuse: Refuse, where: str) -> int:
    """Return how many values each row has."""
    first = int(tensors.present.argmax())
    width = int(tensors.counts[first])
    if not width:
        raise refuse(first, f"values in {where}", "none")
    wrong = tensors.present & (tensors.counts != width)
    if wrong.any():
        row = int(wrong.argmax())
        raise refuse(row, f"{width} values in {where} as before", str(int(tensors.counts[row])))
    return width


def _fixed(tensors: Tensors, width: int) -> pa.FixedSizeListArray:
    present, values = tensors.present, tensors.values
    if not present.all():
        spread = np.zeros((len(present), width), values.dtype)
        spread[present] = values.reshape(-1, width)
        values = spread.reshape(-1)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), width, mask=_mask(present))


def _sparse(
    name: str, tensors: Tensors, refuse: Refuse, where: str
) -> tuple[pa.Field, pa.StructArray]:
    shape, counts, keys = tensors.shape, tensors.counts, tensors.keys
    if not tensors.present.all():
        raise refuse(int((~tensors.present).argmax()), f"a sparse vector in {where}", "none")
    missing = shape == NO_SHAPE
    if missing.any():
        raise refuse(int(missing.argmax()), f"the shape of the sparse vector in {where}", "none")
    size = int(shape[0])
    if not 0 < size <= _MOST_DIMENSIONS:
        raise refuse(0, f"a shape of 1 to {_MOST_DIMENSIONS} in {where}", str(size))
    if (shape != size).any():
        row = int((shape != size).argmax())
        raise refuse(row, f"shape {size} in {where} as in the first row", str(int(shape[row])))
    full = (tensors.key_counts == 0) & (counts == size)
    wrong = (tensors.key_counts != counts) & ~full
    if wrong.any():
        row = int(wrong.argmax())
        expected = f"a key for each of {int(counts[row])} values in {where}"
        raise refuse(row, expected, f"{int(tensors.key_counts[row])} keys")
    if full.any():
        is_full = np.repeat(full, counts)
        filled = np.empty(len(is_full), np.uint64)
        filled[is_full] = np.tile(np.arange(size, dtype=np.uint64), int(full.sum()))
        filled[~is_full] = keys
        keys = filled
    beyond = keys >= size
    if beyond.any():
        place = int(beyond.argmax())
        row = int(np.searchsorted(np.cumsum(counts), place, side="right"))
        raise refuse(row, f"keys from 0 to {size - 1} in {where}", str(int(keys[place])))
    array = sparse_column(keys.astype(np.int32), tensors.values, counts)
    return pa.field(name, array.type, metadata={SIZE_KEY: str(size).encode()}), array


def _mask(present: npt.NDArray[np.bool_]) -> pa.Array | None:
    return None if present.all() else pa.array(~present)
