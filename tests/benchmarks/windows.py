"""Windowed features: what they cost a put, a read by tiles beside single events, datasets."""

from __future__ import annotations

import datetime as dt
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa

import featurestore
from featurestore import WindowedFeature, WindowedGroup, pointintime
from featurestore.embedded import EmbeddedStore
from featurestore.window.history import window_join
from featurestore.window.tile import TiledWindows, Tiles
from tests.benchmarks import windows_memory
from tests.benchmarks.harness import Figure, Size, compare, interleave, note
from tests.benchmarks.records import FEATURES, group_named

__all__ = ["run"]

_SPANS: Final = (dt.timedelta(hours=1), dt.timedelta(days=1), dt.timedelta(days=7))
_KINDS: Final = ("count", "sum", "mean", "max")
_TIME: Final = pa.timestamp("us", "UTC")


@final
@dataclass(frozen=True)
class _Sizes:
    events: int
    busy: int
    spine: int
    gets: int
    repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(500, 500, 50, 5, 1),
    Size.DEFAULT: _Sizes(100_000, 100_000, 10_000, 200, 3),
    Size.FULL: _Sizes(1_000_000, 1_000_000, 100_000, 500, 5),
}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure puts, reads and datasets."""
    sizes = _SIZES[size]
    number = "mean_0"
    with featurestore.open(work / "home") as store:
        for name in ("bare", "aggregated"):
            store.create_feature_group(group_named(name))
        store.create_windowed_group(
            WindowedGroup(
                "windows",
                source="aggregated",
                by="user",
                features=[
                    WindowedFeature(kind, of=number, over=span)
                    for span in _SPANS
                    for kind in _KINDS
                ],
            )
        )
        return [
            *_puts(store, sizes),
            *_reads(store, sizes),
            *_datasets(store, sizes, number),
            *windows_memory.run(size, work / "memory"),
        ]


def _events(count: int, users: int, seed: int) -> pa.Table:
    """Events of the last seven days, of random users, in the order of time."""
    chance = np.random.default_rng(seed)
    now = time.time_ns() // 1000
    times = np.sort(now - chance.integers(0, 7 * 86_400_000_000, count))
    columns: dict[str, Any] = {
        "user": [f"user-{number}" for number in chance.integers(0, users, count)],
        "event_time": pa.array(times, pa.int64()).cast(_TIME),
    }
    for name in FEATURES:
        if name.startswith("mean"):
            columns[name] = chance.normal(0, 100, count)
        elif name.startswith("count_"):
            columns[name] = chance.integers(0, 1000, count)
        else:
            columns[name] = [f"v{number}" for number in chance.integers(0, 50, count)]
    return pa.table(columns)


def _stored(store: EmbeddedStore, group: str, table: pa.Table) -> None:
    errors = store.put_table(group, table).errors
    if errors:
        raise AssertionError(f"{len(errors)} records were refused: {errors[0].message}")


def _puts(store: EmbeddedStore, sizes: _Sizes) -> list[Figure]:
    note(f"{sizes.events:,} events of {sizes.events // 100 + 1:,} users into both groups, in turns")
    seeds = iter(range(1000))

    def put(group: str) -> float:
        table = _events(sizes.events // sizes.repeats, sizes.events // 100 + 1, next(seeds))
        began = time.perf_counter()
        _stored(store, group, table)
        return len(table) / (time.perf_counter() - began)

    samples = interleave(
        {name: partial(put, name) for name in ("aggregated", "bare")}, repeats=sizes.repeats
    )
    return [
        compare(
            "put_table with 12 windowed features kept up to date",
            "rows/s",
            samples["aggregated"],
            baseline="the same without windowed features",
            baseline_values=samples["bare"],
        )
    ]


def _reads(store: EmbeddedStore, sizes: _Sizes) -> list[Figure]:
    note(f"{sizes.busy:,} events of one user, read {sizes.gets:,} times")
    busy = _events(sizes.busy, 1, 7)
    _stored(store, "aggregated", busy)
    entry = store.windowed.get("windows")
    bare = replace(entry.tiled)
    bare.__dict__["levels"] = ()  # no tiles: every event is read
    now = time.time_ns() // 1000

    def read(windows: TiledWindows, key: str, repeats: int) -> float:
        seconds = []
        for _ in range(repeats):
            began = time.perf_counter()
            with store.online._space(False) as space:  # type: ignore[attr-defined]
                Tiles(space, windows).read(key.encode(), now)
            seconds.append(time.perf_counter() - began)
        return 1e3 * statistics.median(seconds)

    chance = random.Random(2)
    usual = f"user-{1 + chance.randrange(max(1, sizes.events // 100))}"
    figures = []
    for what, key, repeats in (
        (f"of {sizes.busy:,} events in seven days", "user-0", max(1, sizes.gets // 50)),
        ("of about 100 events in seven days", usual, sizes.gets),
    ):
        ways: dict[str, Callable[[], float]] = {
            "tiles": partial(read, entry.tiled, key, sizes.gets),
            "events": partial(read, bare, key, repeats),
        }
        samples = interleave(ways, repeats=sizes.repeats)
        figures.append(
            compare(
                f"read of 12 windowed features {what}, p50",
                "ms",
                samples["tiles"],
                baseline="the same from single events",
                baseline_values=samples["events"],
            )
        )
    return figures


def _datasets(store: EmbeddedStore, sizes: _Sizes, number: str) -> list[Figure]:
    entry = store.windowed.get("windows")
    store.flush("aggregated")
    snapshot = store.offline_table(entry.source).scan()
    assert snapshot is not None
    chance = np.random.default_rng(4)
    now = time.time_ns() // 1000
    times = now - chance.integers(0, 7 * 86_400_000_000, sizes.spine)
    users = chance.integers(1, sizes.events // 100 + 1, sizes.spine)
    spine = pa.table(
        {
            "key": [f"user-{user}" for user in users],
            "time": pa.array(times, pa.int64()).cast(_TIME),
        }
    )
    rows = snapshot.statistics and sum(known.rows or 0 for known in snapshot.statistics)
    note(f"{rows:,} events × {sizes.spine:,} spine rows × 12 windowed features")
    names = [feature.name for feature in entry.group.features]

    def ours() -> float:
        began = time.perf_counter()
        connection = pointintime.connect()
        window_join(spine, snapshot, entry.windows, names, connection=connection)
        connection.close()
        return time.perf_counter() - began

    def plain() -> float:
        began = time.perf_counter()
        connection = pointintime.connect()
        numbered = spine.append_column("row", pa.array(np.arange(len(spine))))
        connection.register("spine", numbered)
        for span in _SPANS:
            us = span // dt.timedelta(microseconds=1)
            connection.sql(
                f"SELECT s.row, count(h.{number}), sum(h.{number}), avg(h.{number}), "
                f"max(h.{number}) FROM spine s LEFT JOIN read_parquet($files) h "
                f"ON h.user = s.key AND h._event_time <= s.time "
                f"AND epoch_us(h._event_time) > epoch_us(s.time) - {us} "
                f"GROUP BY s.row ORDER BY s.row",
                params={"files": list(snapshot.files)},
            ).to_arrow_table()
        connection.close()
        return time.perf_counter() - began

    samples = interleave({"ours": ours, "plain": plain}, repeats=sizes.repeats)
    return [
        compare(
            f"12 windowed features for {sizes.spine:,} spine rows",
            "s",
            samples["ours"],
            baseline="DuckDB's range join and GROUP BY, whose sums depend on the threads",
            baseline_values=samples["plain"],
        )
    ]
