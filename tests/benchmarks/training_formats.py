"""Records of recordio-protobuf, many at once, beside protobuf's own objects one by one."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.benchmarks.harness import Bar, Figure, Size, compare, interleave, note
from training.encoding import SIZE_KEY
from training.formats.column import sparse_column
from training.formats.recordio.framing import find_frames, framed
from training.formats.recordio.message import record_class
from training.formats.recordio_protobuf import decode, encode

__all__ = ["figures"]

_WIDTH: Final = 30
_DIMENSIONS: Final = 2_000
_FILLED: Final = 20
_RATIO: Final = Bar("ratio", ">=", 5)
_FLOOR: Final = Bar("value", ">=", 200_000)


@final
@dataclass(frozen=True)
class _Sizes:
    rows: int
    repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(2_000, 1),
    Size.DEFAULT: _Sizes(50_000, 5),
    Size.FULL: _Sizes(200_000, 7),
}


def figures(size: Size) -> list[Figure]:
    """Measure writing and reading dense and sparse records."""
    sizes = _SIZES[size]
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, sizes.rows).astype(np.float32)
    values = random.normal(size=(sizes.rows, _WIDTH)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), _WIDTH)
    dense = pa.table({"features": vectors, "label": labels})
    keys = np.sort(random.integers(0, _DIMENSIONS, (sizes.rows, _FILLED)), axis=1)
    thin = random.normal(size=keys.shape).astype(np.float32)
    column = sparse_column(
        keys.reshape(-1).astype(np.int32), thin.reshape(-1), np.full(sizes.rows, _FILLED)
    )
    field = pa.field("features", column.type, metadata={SIZE_KEY: str(_DIMENSIONS).encode()})
    schema = pa.schema([field, pa.field("label", pa.float32())])
    sparse = pa.table([column, pa.array(labels)], schema=schema)
    return [
        *_figures("dense: 30 float32", sizes, dense, values, None, labels, size),
        *_figures(
            f"sparse: 20 of {_DIMENSIONS:,} float32", sizes, sparse, thin, keys, labels, size
        ),
    ]


def _figures(
    name: str,
    sizes: _Sizes,
    table: pa.Table,
    values: npt.NDArray[np.float32],
    keys: npt.NDArray[np.integer[Any]] | None,
    labels: npt.NDArray[np.float32],
    size: Size,
) -> list[Figure]:
    note(f"{sizes.repeats} times {sizes.rows:,} records, {name}")
    data = encode(table)
    if data != _objects_write(values, keys, labels):
        raise AssertionError(f"{name}: the bytes differ from protobuf's")
    writes = interleave(
        {
            "ours": lambda: _rate(sizes.rows, lambda: encode(table)),
            "objects": lambda: _rate(sizes.rows, lambda: _objects_write(values, keys, labels)),
        },
        repeats=sizes.repeats,
    )
    reads = interleave(
        {
            "ours": lambda: _rate(sizes.rows, lambda: decode(data)),
            "objects": lambda: _rate(
                sizes.rows, lambda: _objects_read(data, is_sparse=keys is not None)
            ),
        },
        repeats=sizes.repeats,
    )
    bars: tuple[Bar | None, ...] = (None,)
    if size is not Size.TINY:
        bars = (_RATIO, _FLOOR) if keys is None else (_RATIO,)
    return [
        compare(
            f"recordio-protobuf {verb}, {name} and a label, {sizes.rows:,} records",
            "records/s",
            samples["ours"],
            baseline="protobuf's objects, one record after the other",
            baseline_values=samples["objects"],
            bar=bar,
        )
        for verb, samples in (("written", writes), ("read", reads))
        for bar in bars
    ]


def _rate(rows: int, call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return rows / (time.perf_counter() - began)


def _objects_write(
    values: npt.NDArray[np.float32],
    keys: npt.NDArray[np.integer[Any]] | None,
    labels: npt.NDArray[np.float32],
) -> bytes:
    record = record_class()()
    payloads = []
    for row, (numbers, label) in enumerate(zip(values.tolist(), labels.tolist(), strict=True)):
        record.Clear()
        tensor = record.features["values"].float32_tensor
        tensor.values.extend(numbers)
        if keys is not None:
            tensor.keys.extend(keys[row].tolist())
            tensor.shape.append(_DIMENSIONS)
        record.label["values"].float32_tensor.values.append(label)
        payloads.append(record.SerializeToString(deterministic=True))
    return framed(payloads)


def _objects_read(data: bytes, *, is_sparse: bool) -> list[Any]:
    """Read records into arrays, as a training loop without a codec does."""
    frames = find_frames(data)
    record = record_class()()
    labels: list[float] = []
    values: list[float] = []
    keys: list[int] = []
    for start, end in zip(frames.starts.tolist(), frames.ends.tolist(), strict=True):
        record.ParseFromString(data[start:end])
        tensor = record.features["values"].float32_tensor
        values.extend(tensor.values)
        if is_sparse:
            keys.extend(tensor.keys)
        labels.append(record.label["values"].float32_tensor.values[0])
    return [np.array(values, np.float32), np.array(keys, np.int64), np.array(labels)]
