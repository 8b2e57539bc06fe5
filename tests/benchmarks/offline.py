"""The offline store: point-in-time joins beside plain DuckDB, flushes beside plain Delta writes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import DeltaTable, write_deltalake

import featurestore
from featurestore.convert import INTERNAL_COLUMNS, offline_schema
from featurestore.offline import DeltaOfflineTable
from featurestore.offline.flusher import SLICE_RECORDS
from tests.benchmarks.child import run_module
from tests.benchmarks.harness import Bar, Figure, Size, compare, interleave, note
from tests.benchmarks.records import FEATURES, GROUP, START_US, make_rows, user

__all__ = ["run"]

_TIME: Final = pa.timestamp("us", "UTC")
_SPAN_US: Final = 30 * 86_400_000_000
_PLAIN_JOIN: Final = "plain DuckDB ASOF join of the same files"
_MEGABYTE: Final = 1_000_000


@final
@dataclass(frozen=True)
class _Join:
    """A point-in-time join of so many rows."""

    history: int
    spine: int
    repeats: int
    bars: dict[str, Bar]

    @property
    def users(self) -> int:
        return max(10, self.history // 100)


_RATIO: Final = Bar("ratio", "<=", 1.3)
_SMALL: Final = _Join(1_000_000, 100_000, 5, {"seconds": _RATIO, "peak": Bar("value", "<=", 700.0)})
_JOINS: Final = {
    Size.TINY: (_Join(20_000, 2_000, 1, {}),),
    Size.DEFAULT: (_SMALL,),
    Size.FULL: (_SMALL, _Join(10_000_000, 1_000_000, 3, {"seconds": _RATIO})),
}
_FLUSHES: Final = {Size.TINY: (2_000, 1), Size.DEFAULT: (50_000, 3), Size.FULL: (250_000, 5)}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure joins, then flushes."""
    figures: list[Figure] = []
    for number, join in enumerate(_JOINS[size]):
        figures += _join(join, work / f"join-{number}")
    rows, repeats = _FLUSHES[size]
    return [*figures, *_flush(rows, repeats, work / "flush")]


# -- point-in-time joins ----------------------------------------------------------------------


def _join(join: _Join, folder: Path) -> list[Figure]:
    shape = f"{join.history:,} × {len(FEATURES)} features × {join.spine:,} spine rows"
    note(f"writing {shape}")
    home = folder / "home"
    files = _write_history(join, home)
    spine = folder / "spine.parquet"
    pq.write_table(_make_spine(join), spine)

    def ask(engine: str) -> dict[str, Any]:
        request = {"engine": engine, "home": str(home), "group": GROUP.name, "files": files}
        request |= {"spine": str(spine), "features": list(FEATURES)}
        return run_module("tests.benchmarks.join", json.dumps(request))[0]

    note(f"joining {join.repeats} times with each engine")
    samples = interleave(
        {engine: partial(ask, engine) for engine in ("featureline", "duckdb")},
        repeats=join.repeats,
    )
    ours, plain = samples["featureline"], samples["duckdb"]
    answers = {(sample["rows"], sample["matched"], sample["sum"]) for sample in (*ours, *plain)}
    if len(answers) != 1:
        raise AssertionError(f"the joins differ in (rows, matched, sum): {sorted(answers)}")

    def figure(name: str, key: str, unit: str, scale: float = 1.0) -> Figure:
        return compare(
            f"point-in-time dataset, {shape}: {name}",
            unit,
            [sample[key] / scale for sample in ours],
            baseline=_PLAIN_JOIN,
            baseline_values=[sample[key] / scale for sample in plain],
            bar=join.bars.get(key),
        )

    return [
        figure("seconds", "seconds", "s"),
        figure("CPU seconds", "cpu_seconds", "s"),
        figure("peak memory of the process", "peak", "MB", _MEGABYTE),
        figure("rows out", "rows", "rows"),
    ]


def _write_history(join: _Join, home: Path) -> Sequence[str]:
    """Write the group's Delta table as flushes would, without the way through the online store.

    Returns its Parquet files.
    """
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
        table = DeltaOfflineTable(store.offline_uri(GROUP.name))
    for rows in _offline_slices(join):
        sequence = rows["_sequence"][-1].as_py()
        table.append(rows, application="benchmark", sequence=sequence)
    snapshot = table.scan()
    assert snapshot is not None
    return snapshot.files


def _offline_slices(join: _Join) -> Iterator[pa.Table]:
    step_us = _SPAN_US // join.history
    for first in range(0, join.history, SLICE_RECORDS):
        count = min(SLICE_RECORDS, join.history - first)
        rows = make_rows(first, count, users=join.users, step_us=step_us)
        numbers = pa.array(np.arange(first, first + count))
        times = pc.add(pc.multiply(numbers, step_us), START_US).cast(_TIME)
        internal = {
            "_event_time": times,
            "write_time": times,
            "api_invocation_time": times,
            "is_deleted": pa.array(np.zeros(count, dtype=bool)),
            "_expires_at": pa.nulls(count, _TIME),
            "_sequence": pc.add(numbers, 1),
            "_event_date": times.cast(pa.date32()),
        }
        for name in INTERNAL_COLUMNS:
            rows = rows.append_column(name, internal[name])
        yield rows.cast(offline_schema(GROUP))


def _make_spine(join: _Join) -> pa.Table:
    random = np.random.default_rng(7)
    times = START_US + random.integers(0, _SPAN_US, join.spine)
    return pa.table(
        {
            "user": [user(number) for number in random.integers(0, join.users, join.spine)],
            "event_time": pa.array(times).cast(_TIME),
            "label": random.integers(0, 2, join.spine),
        }
    )


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
