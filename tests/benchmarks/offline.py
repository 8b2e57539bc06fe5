"""The offline store: point-in-time joins beside plain DuckDB, flushes beside plain Delta writes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake

import featurestore
from featurestore.convert import offline_schema
from tests.benchmarks import offline_join, offline_maintain
from tests.benchmarks.harness import Figure, Size, compare, interleave, note
from tests.benchmarks.records import FEATURES, GROUP, make_rows

__all__ = ["run"]

_SPAN_US: Final = 30 * 86_400_000_000
_FLUSHES: Final = {Size.TINY: (2_000, 1), Size.DEFAULT: (50_000, 3), Size.FULL: (250_000, 5)}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure joins, then flushes, then maintenance."""
    rows, repeats = _FLUSHES[size]
    return [
        *offline_join.run(size, work / "join"),
        *_flush(rows, repeats, work / "flush"),
        *offline_maintain.run(size, work / "maintain"),
    ]


# -- flushes ----------------------------------------------------------------------------------


def _flush(rows: int, repeats: int, folder: Path) -> list[Figure]:
    note(f"flushing {rows:,} rows {repeats} times")
    table = make_rows(0, rows, users=max(10, rows // 10), step_us=_SPAN_US // rows)
    homes = (folder / f"home-{number}" for number in range(repeats))
    flushed: list[pa.Table] = []

    def flush() -> float:
        with featurestore.open(next(homes)) as store:
            store.create_feature_group(GROUP)
            store.put_table(GROUP.name, table)
            began = time.perf_counter()
            store.flush(GROUP.name)
            seconds = time.perf_counter() - began
            flushed.append(DeltaTable(store.offline_uri(GROUP.name)).to_pyarrow_table())
        return rows / seconds

    def write() -> float:
        _check_rows(flushed, rows)
        # In the order and the types of the flush: the partition column was read back as the last.
        same = flushed.pop().sort_by("_sequence").cast(offline_schema(GROUP))
        uri = folder / f"plain-{time.monotonic_ns()}"
        began = time.perf_counter()
        write_deltalake(str(uri), same, partition_by=["_event_date"], mode="append")
        return rows / (time.perf_counter() - began)

    samples = interleave({"flush": flush, "write": write}, repeats=repeats)
    return [
        compare(
            f"flush of {rows:,} records × {len(FEATURES)} features into the Delta table",
            "rows/s",
            samples["flush"],
            baseline="plain write_deltalake of the same rows from Arrow",
            baseline_values=samples["write"],
        )
    ]


def _check_rows(tables: Sequence[pa.Table], rows: int) -> None:
    if len(tables[-1]) != rows:
        raise AssertionError(f"{rows} records were flushed as {len(tables[-1])} rows")
