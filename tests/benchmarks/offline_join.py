"""Point-in-time joins beside plain DuckDB and Polars on the same files: sizes, groups, shares."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import featurestore
from featurestore import FeatureGroup
from featurestore.convert import INTERNAL_COLUMNS, offline_schema
from featurestore.offline import DeltaOfflineTable
from featurestore.offline.flusher import SLICE_RECORDS
from tests.benchmarks.child import run_module
from tests.benchmarks.harness import Bar, Figure, Size, compare, interleave, note
from tests.benchmarks.records import START_US, group_named, make_rows, user

__all__ = ["append_history", "make_spine", "run", "slices"]

_TIME: Final = pa.timestamp("us", "UTC")
SPAN_US: Final = 30 * 86_400_000_000
_MEGABYTE: Final = 1_000_000
_BASELINES: Final = {
    "duckdb": "plain DuckDB ASOF join of the same files",
    "polars": "Polars join_asof of the same files",
}


@final
@dataclass(frozen=True)
class _Join:
    """A point-in-time join.

    Args:
        title: what it shows.
        history: rows of each group.
        spine: rows.
        groups: how many feature groups.
        features: of each group.
        selected: how many of them are asked for; 0: all.
        touched: share of the identifiers that the spine has.
        is_maintained: whether the tables were compacted and sorted by identifier before.
        repeats: runs of each engine.
        bars: by figure, for the comparison with DuckDB.
    """

    title: str
    history: int
    spine: int
    groups: int = 1
    features: int = 10
    selected: int = 0
    touched: float = 1.0
    is_maintained: bool = False
    repeats: int = 1
    bars: dict[str, Bar] = field(default_factory=dict)

    @property
    def users(self) -> int:
        return max(10, self.history // 100)


_RATIO: Final = Bar("ratio", "<=", 1.3)
_FASTER: Final = Bar("ratio", "<=", 1.0)
_SMALL: Final = _Join(
    "all features",
    1_000_000,
    100_000,
    repeats=5,
    bars={"seconds": _RATIO, "peak": Bar("value", "<=", 700.0)},
)
_LARGE: Final = _Join("all features", 10_000_000, 1_000_000, repeats=3, bars={"seconds": _RATIO})
_FEW: Final = _Join(
    "1 % of the identifiers, maintained table",
    1_000_000,
    10_000,
    touched=0.01,
    is_maintained=True,
    repeats=5,
    bars={"seconds": _FASTER, "cpu_seconds": _FASTER},
)
_FEW_UNSORTED: Final = _Join(
    "1 % of the identifiers, as flushed", 1_000_000, 10_000, touched=0.01, repeats=5
)
_NARROW: Final = _Join(
    "5 of 100 features",
    200_000,
    100_000,
    features=100,
    selected=5,
    repeats=5,
    bars={"seconds": _RATIO},
)
_GROUPS: Final = _Join("3 groups", 300_000, 100_000, groups=3, repeats=5, bars={"seconds": _RATIO})
_JOINS: Final = {
    Size.TINY: (
        _Join("all features", 20_000, 2_000),
        _Join("1 % of the identifiers", 20_000, 200, touched=0.01, is_maintained=True),
        _Join("2 groups, 5 of 20 features", 5_000, 500, groups=2, features=20, selected=5),
    ),
    Size.DEFAULT: (_SMALL, _FEW, _FEW_UNSORTED, _NARROW, _GROUPS),
    Size.FULL: (_SMALL, _FEW, _FEW_UNSORTED, _NARROW, _GROUPS, _LARGE),
}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure every case with every engine that is there."""
    figures: list[Figure] = []
    for number, join in enumerate(_JOINS[size]):
        figures += _join(join, work / f"join-{number}")
    return figures


def _join(join: _Join, folder: Path) -> list[Figure]:
    selected = f"{join.selected} of {join.features}" if join.selected else f"{join.features}"
    shape = f"{join.history:,} × {selected} features × {join.spine:,} spine rows"
    note(f"writing {shape}: {join.title}")
    home = folder / "home"
    groups = [group_named(f"profiles_{n}", join.features) for n in range(join.groups)]
    sources = [_write_history(join, group, home) for group in groups]
    spine = folder / "spine.parquet"
    pq.write_table(make_spine(join.spine, users=join.users, touched=join.touched), spine)

    def ask(engine: str) -> dict[str, Any]:
        request = {"engine": engine, "home": str(home), "spine": str(spine), "groups": sources}
        return run_module("tests.benchmarks.join", json.dumps(request))[0]

    engines = ("featureline", *_BASELINES)
    note(f"joining {join.repeats} times with each of {', '.join(engines)}")
    samples = interleave({engine: partial(ask, engine) for engine in engines}, repeats=join.repeats)
    found = [sample for each in samples.values() for sample in each]
    answers = {(sample["rows"], sample["matched"], sample["sum"]) for sample in found}
    if len(answers) != 1:
        raise AssertionError(f"the joins differ in (rows, matched, sum): {sorted(answers)}")

    def figure(name: str, key: str, unit: str, engine: str, scale: float = 1.0) -> Figure:
        return compare(
            f"point-in-time, {join.title}, {shape}: {name}",
            unit,
            [sample[key] / scale for sample in samples["featureline"]],
            baseline=_BASELINES[engine],
            baseline_values=[sample[key] / scale for sample in samples[engine]],
            bar=join.bars.get(key) if engine == "duckdb" else None,
        )

    figures = []
    for engine in _BASELINES:
        figures += [
            figure("seconds", "seconds", "s", engine),
            figure("CPU seconds", "cpu_seconds", "s", engine),
            figure("peak memory of the process", "peak", "MB", engine, _MEGABYTE),
        ]
    return [*figures, figure("rows out", "rows", "rows", "duckdb")]


def _write_history(join: _Join, group: FeatureGroup, home: Path) -> dict[str, Any]:
    """Write a group's table, and say what of it is asked for."""
    with featurestore.open(home) as store:
        store.create_feature_group(group)
        table = DeltaOfflineTable(store.offline_uri(group.name))
        append_history(
            table,
            group,
            join.history,
            users=join.users,
            features=join.features,
            # Several files a date, or maintenance finds nothing worth a rewrite.
            slice_rows=SLICE_RECORDS // 10 if join.is_maintained else SLICE_RECORDS,
        )
        if join.is_maintained:
            store.maintain(group.name)
    snapshot = table.scan()
    assert snapshot is not None
    names = [name for name in group.feature_names if name not in ("user", "event_time")]
    if join.selected:
        names = names[:: max(1, len(names) // join.selected)][: join.selected]
    return {"name": group.name, "files": snapshot.files, "features": names}


def append_history(
    table: DeltaOfflineTable,
    group: FeatureGroup,
    rows: int,
    *,
    users: int,
    features: int,
    slice_rows: int = SLICE_RECORDS,
) -> None:
    """Write a group's Delta table as flushes would, without the way through the online store."""
    for piece in slices(group, rows, users=users, features=features, slice_rows=slice_rows):
        sequence = piece["_sequence"][-1].as_py()
        table.append(piece, application="benchmark", sequence=sequence)


def slices(
    group: FeatureGroup, rows: int, *, users: int, features: int, slice_rows: int
) -> Iterator[pa.Table]:
    """Yield the rows of a history in the order of their times, as the table has them."""
    step_us = SPAN_US // rows
    for first in range(0, rows, slice_rows):
        count = min(slice_rows, rows - first)
        made = make_rows(first, count, users=users, step_us=step_us, features=features)
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
            made = made.append_column(name, internal[name])
        yield made.cast(offline_schema(group))


def make_spine(rows: int, *, users: int, touched: float = 1.0) -> pa.Table:
    """Make a spine of random identifiers and times; it has a share of all identifiers."""
    random = np.random.default_rng(7)
    times = START_US + random.integers(0, SPAN_US, rows)
    chosen: Sequence[Any] = random.choice(users, max(1, round(users * touched)), replace=False)
    return pa.table(
        {
            "user": [user(number) for number in random.choice(chosen, rows)],
            "event_time": pa.array(times).cast(_TIME),
            "label": random.integers(0, 2, rows),
        }
    )
