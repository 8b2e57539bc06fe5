"""A dataset of 30 float32 columns as batches of torch and as a matrix of XGBoost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xgboost

import training
from tests.benchmarks.harness import Bar, Figure, Size, compare, cores, interleave, note

__all__ = ["figures"]

_WIDTH: Final = 30
_BATCH: Final = 1_024
_LABEL: Final = "label"
_UNIT: Final = "M rows/s"
_FASTEST: Final = Bar("value", ">=", 5.0)
_STREAMED: Final = Bar("value", ">=", 1.2)
_BARE: Final = Bar("ratio", ">=", 0.9)


@final
@dataclass(frozen=True)
class _Sizes:
    rows: int
    repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(3_000, 1),
    Size.DEFAULT: _Sizes(300_000, 5),
    Size.FULL: _Sizes(1_000_000, 5),
}


def figures(size: Size, work: Path) -> list[Figure]:
    """Measure epochs from memory and from a file, and the making of a matrix."""
    sizes = _SIZES[size]
    note(f"reading {sizes.rows:,} × {_WIDTH} as batches and as a matrix")
    table = _table(sizes.rows)
    path = work / "feed.parquet"
    pq.write_table(table, path, compression="zstd", row_group_size=131_072)
    inputs, labels = table.drop([_LABEL]), table[_LABEL].to_numpy()
    whole = torch.from_numpy(np.stack([column.to_numpy() for column in inputs.columns], axis=1))
    asked: dict[str, Callable[[], int]] = {
        "memory": _epochs(training.to_torch(table, label=_LABEL, seed=1)),
        "indexed": lambda: _indexed(whole),
        "file": _epochs(training.to_torch(path, label=_LABEL, seed=1)),
        "read": lambda: pq.read_table(path).num_rows,
        "matrix": lambda: training.to_quantile_dmatrix(
            table, label=_LABEL, nthread=cores()
        ).num_row(),
        "bare": lambda: xgboost.QuantileDMatrix(inputs, label=labels, nthread=cores()).num_row(),
    }
    for subject in ("memory", "indexed", "file", "read"):
        asked[subject]()  # a first epoch also makes what later ones have
    rates = interleave(
        {name: _rate(work, sizes.rows) for name, work in asked.items()}, repeats=sizes.repeats
    )
    is_tiny = size is Size.TINY

    def figure(name: str, subject: str, what: str, beside: str, bar: Bar) -> Figure:
        return compare(
            f"{name}, {sizes.rows:,} × {_WIDTH} float32",
            _UNIT,
            rates[subject],
            baseline=what,
            baseline_values=rates[beside],
            bar=None if is_tiny else bar,
        )

    return [
        figure(
            "to_torch from memory: an epoch of shuffled batches of 1,024",
            *("memory", "rows of one torch tensor by shuffled index", "indexed"),
            _FASTEST,
        ),
        figure(
            "to_torch from a Parquet file: an epoch of shuffled batches of 1,024",
            *("file", "pyarrow reads the file and does nothing with it", "read"),
            _STREAMED,
        ),
        figure(
            "to_quantile_dmatrix from memory",
            *("matrix", "xgboost.QuantileDMatrix on the same Arrow table", "bare"),
            _BARE,
        ),
    ]


def _rate(work: Callable[[], int], rows: int) -> Callable[[], float]:
    def measured() -> float:
        began = time.perf_counter()
        count = work()
        seconds = time.perf_counter() - began
        if count != rows:
            raise AssertionError(f"expected {rows:,} rows, got {count:,}")
        return rows / seconds / 1e6

    return measured


def _epochs(batches: Any) -> Callable[[], int]:
    return lambda: sum(len(inputs) for inputs, _ in batches)


def _indexed(whole: torch.Tensor) -> int:
    order = torch.randperm(len(whole))
    return sum(len(whole[order[start : start + _BATCH]]) for start in range(0, len(whole), _BATCH))


def _table(rows: int) -> pa.Table:
    random = np.random.default_rng(7)
    columns = {f"x{n}": random.normal(size=rows).astype(np.float32) for n in range(_WIDTH)}
    return pa.table({**columns, _LABEL: random.integers(0, 2, rows).astype(np.float32)})
