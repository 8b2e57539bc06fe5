"""What encryption at rest costs: the same load into an encrypted group and into one in clear."""

from __future__ import annotations

import base64
import os
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import featurestore
from featurestore.embedded import EmbeddedStore
from featurestore.encryption import MASTER_KEY, MASTER_KEY_FILE
from featurestore.server.runtime import Call, RuntimeService
from featurestore.v1 import runtime_pb2
from tests.benchmarks.harness import Figure, Size, compare, interleave, note
from tests.benchmarks.records import group_named, make_rows, user

__all__ = ["run"]

ROWS: Final = {Size.TINY: 200, Size.DEFAULT: 100_000, Size.FULL: 1_000_000}
_GETS: Final = {Size.TINY: 20, Size.DEFAULT: 10_000, Size.FULL: 50_000}
_REPEATS: Final = {Size.TINY: 1, Size.DEFAULT: 5, Size.FULL: 5}
_STEP_US: Final = 1_000_000


class _Round(NamedTuple):
    put_rows_s: float
    flush_rows_s: float
    table_rows_s: float
    get_us: float


def run(size: Size, work: Path) -> list[Figure]:
    """Measure put_table, flush, get_table, and a GetRecord in the server's data plane."""
    os.environ.pop(MASTER_KEY_FILE, None)
    os.environ[MASTER_KEY] = base64.b64encode(os.urandom(32)).decode()
    rows, gets = ROWS[size], _GETS[size]
    table = make_rows(0, rows, users=rows, step_us=_STEP_US)
    chance = random.Random(1)
    wanted = [user(chance.randrange(rows)) for _ in range(gets)]
    with featurestore.open(work / "home") as store:
        store.create_feature_group(group_named("clear"))
        store.create_feature_group(replace(group_named("encrypted"), kms_key="benchmark"))
        note(f"{rows:,} rows and {gets:,} gets, in turns")
        samples = interleave(
            {
                name: lambda name=name: _round(store, name, table, wanted)  # type: ignore[misc]
                for name in ("clear", "encrypted")
            },
            repeats=_REPEATS[size],
        )

    def figure(name: str, unit: str, place: int) -> Figure:
        encrypted, clear = (
            [sample[place] for sample in samples[kind]] for kind in ("encrypted", "clear")
        )
        return compare(name, unit, encrypted, baseline="in clear", baseline_values=clear)

    return [
        figure(f"put_table of {rows:,} rows, encrypted", "rows/s", 0),
        figure(f"flush of {rows:,} rows, encrypted", "rows/s", 1),
        figure(f"get_table of {rows:,} rows, encrypted", "rows/s", 2),
        figure("GetRecord without the network, p50, encrypted", "µs", 3),
    ]


def _round(store: EmbeddedStore, group: str, table: object, wanted: Sequence[str]) -> _Round:
    began = time.perf_counter()
    rows = store.put_table(group, table).rows
    durable = time.perf_counter()
    store.flush(group)
    flushed = time.perf_counter()
    store.get_table(group, [user(number) for number in range(rows)])
    read = time.perf_counter()
    service = RuntimeService(store)
    took: list[int] = []
    for identifier in wanted:
        request = runtime_pb2.GetRecordRequest(
            feature_group_name=group, record_identifier_value_as_string=identifier
        )
        call = [Call("GetRecord", request)]
        start = time.perf_counter_ns()
        service.read(call)
        took.append(time.perf_counter_ns() - start)
    return _Round(
        rows / (durable - began),
        rows / (flushed - durable),
        rows / (read - flushed),
        statistics.median(took) / 1000,
    )
