"""Records written one by one with protobuf's own objects: what the codec is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from training.encoding import SIZE_KEY
from training.formats.column import sparse_column
from training.formats.recordio.framing import framed
from training.formats.recordio.message import record_class

__all__ = ["dense_table", "record", "serialised", "sparse_table"]

TENSOR = {"f": "float32_tensor", "d": "float64_tensor", "i": "int32_tensor", "l": "int32_tensor"}


def record(fill: Callable[[Any], object]) -> Any:
    made = record_class()()
    fill(made)
    return made


def serialised(
    rows: Sequence[tuple[np.ndarray, Sequence[int] | None, int | None]],
    labels: np.ndarray | None = None,
    uids: Sequence[str | None] | None = None,
) -> bytes:
    """Write rows of (values, keys, size); keys are None for dense ones."""
    payloads = []
    for number, (values, keys, size) in enumerate(rows):
        made = record_class()()
        tensor = getattr(made.features["values"], TENSOR[values.dtype.char])
        tensor.SetInParent()
        tensor.values.extend(values.tolist())
        if keys is not None:
            tensor.keys.extend(int(key) for key in keys)
            tensor.shape.append(size)
        if labels is not None:
            label = getattr(made.label["values"], TENSOR[labels.dtype.char])
            label.values.append(labels[number].item())
        if uids is not None and uids[number] is not None:
            made.uid = uids[number]
        payloads.append(made.SerializeToString(deterministic=True))
    return framed(payloads)


def dense_table(values: np.ndarray, labels: np.ndarray | None = None) -> pa.Table:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    columns = {"features": vectors} | ({} if labels is None else {"label": pa.array(labels)})
    return pa.table(columns)


def sparse_table(
    rows: Sequence[tuple[np.ndarray, Sequence[int]]], size: int, labels: np.ndarray | None = None
) -> pa.Table:
    dtype = rows[0][0].dtype
    column = sparse_column(
        np.array([key for _, keys in rows for key in keys], np.int32),
        np.concatenate([values for values, _ in rows]).astype(dtype),
        np.array([len(values) for values, _ in rows]),
    )
    field = pa.field("features", column.type, metadata={SIZE_KEY: str(size).encode()})
    if labels is None:
        return pa.table([column], schema=pa.schema([field]))
    label = pa.array(labels)
    return pa.table([column, label], schema=pa.schema([field, pa.field("label", label.type)]))
