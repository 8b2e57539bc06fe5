"""A table of many small commits: what an append takes, and what maintenance does for a join."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from collections import deque
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

import featurestore
from featurestore.offline import DeltaOfflineTable
from tests.benchmarks.child import run_module
from tests.benchmarks.harness import Figure, Size, compare, note
from tests.benchmarks.offline_join import make_spine, slices
from tests.benchmarks.records import FEATURES, GROUP

__all__ = ["measure", "run"]

_COMMITS: Final = {Size.TINY: 20, Size.DEFAULT: 300, Size.FULL: 10_000}
_RECORDS: Final = 100
_MARKS: Final = (200, 1_000, 5_000)
# The appends between two checkpoints, so that each stands for its share.
_LAST: Final = 100
_APPLICATION: Final = "benchmark"
_SPINE: Final = 10_000
_JOINS: Final = 3
_MEGABYTE: Final = 1_000_000
_BEFORE: Final = "the same before the maintenance"


def run(size: Size, work: Path) -> list[Figure]:
    """Make the commits, and measure before and after the maintenance."""
    return measure(_COMMITS[size], work)


def measure(commits: int, work: Path) -> list[Figure]:
    """Measure with so many commits of 100 records.

    Raises:
        AssertionError: the join gave other rows afterwards.
    """
    home = work / "home"
    users = max(10, commits)
    note(f"making {commits:,} commits")
    with featurestore.open(home) as store:
        store.create_feature_group(GROUP)
        table = DeltaOfflineTable(store.offline_uri(GROUP.name))
    appends = _append(table, commits, users)
    spine = work / "spine.parquet"
    pq.write_table(make_spine(_SPINE, users=users), spine)

    def join() -> list[dict[str, Any]]:
        groups = [{"name": GROUP.name, "files": [], "features": list(FEATURES)}]
        request = {"engine": "featureline", "home": str(home), "spine": str(spine)}
        asked = json.dumps({**request, "groups": groups})
        return [run_module("tests.benchmarks.join", asked)[0] for _ in range(_JOINS)]

    before, bytes_before = join(), _bytes(table.uri)
    began = time.perf_counter()
    with featurestore.open(home) as store:
        report = store.maintain(GROUP.name, retention=dt.timedelta(0))
    seconds = time.perf_counter() - began
    after, bytes_after = join(), _bytes(table.uri)
    if {(one["rows"], one["matched"], one["sum"]) for one in (*before, *after)} != {
        (before[0]["rows"], before[0]["matched"], before[0]["sum"])
    }:
        raise AssertionError("the join gives other rows after the maintenance")
    shape = f"{commits:,} commits of {_RECORDS} records × {len(FEATURES)} features"

    def figure(name: str, unit: str, now: list[float], then: list[float]) -> Figure:
        title = f"maintenance of {shape}: {name}"
        return compare(title, unit, now, baseline=_BEFORE, baseline_values=then)

    def joins(key: str) -> tuple[list[float], list[float]]:
        return [one[key] for one in after], [one[key] for one in before]

    return [
        *appends,
        figure("files", "files", [report.files_after], [report.files_before]),
        figure("table", "MB", [report.bytes_after / _MEGABYTE], [report.bytes_before / _MEGABYTE]),
        figure("folder", "MB", [bytes_after / _MEGABYTE], [bytes_before / _MEGABYTE]),
        figure(f"join of {_SPINE:,} spine rows", "s", *joins("seconds")),
        figure(f"join of {_SPINE:,} spine rows, CPU", "s", *joins("cpu_seconds")),
        figure(
            "its own duration, beside that of a join before",
            "s",
            [seconds] * _JOINS,
            joins("seconds")[1],
        ),
    ]


def _append(table: DeltaOfflineTable, commits: int, users: int) -> list[Figure]:
    """Make the commits as flushes do; say what one takes when so many are there."""
    marks = sorted({commits, *(mark for mark in _MARKS if mark < commits)})
    figures = []
    lasted: deque[float] = deque(maxlen=_LAST)
    pieces = slices(
        GROUP, commits * _RECORDS, users=users, features=len(FEATURES), slice_rows=_RECORDS
    )
    for number, piece in enumerate(pieces, 1):
        began = time.perf_counter()
        table.last_sequence(_APPLICATION)
        table.append(piece, application=_APPLICATION, sequence=number)
        lasted.append((time.perf_counter() - began) * 1000)
        if number in marks:
            figures.append(
                compare(
                    f"append of {_RECORDS} records after {number:,} commits",
                    "ms",
                    lasted,
                    baseline="opening the table",
                    baseline_values=[_opening(table) for _ in lasted],
                )
            )
            note(f"{figures[-1].name}: {figures[-1].value:.1f} ms")
    return figures


def _opening(table: DeltaOfflineTable) -> float:
    began = time.perf_counter()
    table.open()
    return (time.perf_counter() - began) * 1000


def _bytes(folder: str) -> float:
    return float(
        sum(os.path.getsize(Path(at, name)) for at, _, names in os.walk(folder) for name in names)
    )
