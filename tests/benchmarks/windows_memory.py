"""Windowed features of many events, built within a limit of memory beside without one.

`… windows_memory REQUEST` builds once, in a process of its own, and prints its figures. The memory
is what the build takes beyond what the process holds with the store open.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import featurestore
from featurestore import FeatureGroup, WindowedFeature, WindowedGroup, feature_definitions
from featurestore.convert import offline_schema
from tests.benchmarks.child import peak_bytes, run_module
from tests.benchmarks.harness import Figure, Size, compare, note

__all__ = ["run"]

_EVENTS: Final = {Size.TINY: 5_000, Size.DEFAULT: 500_000, Size.FULL: 2_000_000}
_SPINE: Final = 100_000
_START_US: Final = 1_600_000_000_000_000
_SPAN_US: Final = 30 * 86_400_000_000
_TIME: Final = pa.timestamp("us", "UTC")
_LIMIT: Final = "256MB"
_MEGABYTE: Final = 1 << 20
_GROUP: Final = FeatureGroup(
    "payments",
    record_identifier="id",
    event_time="at",
    features=feature_definitions(
        [("id", "Integral"), ("at", "Fractional"), ("card", "Integral"), ("amount", "Fractional")]
    ),
)


def run(size: Size, work: Path) -> list[Figure]:
    """Measure memory and time of both.

    Raises:
        AssertionError: they gave other rows.
    """
    events = _EVENTS[size]
    note(f"{events:,} events × {_SPINE:,} spine rows × 8 windowed features")
    home, spine = work / "home", work / "spine.parquet"
    _make(home, spine, events)

    def built(limit: str) -> dict[str, Any]:
        asked = {"home": str(home), "spine": str(spine), "limit": limit}
        answer: dict[str, Any] = run_module(__name__, json.dumps(asked))[0]
        return answer

    limited, whole = built(_LIMIT), built("")
    if limited["fingerprint"] != whole["fingerprint"]:
        raise AssertionError("a limit of memory gives other rows")
    title = f"8 windowed features of {events:,} events within {_LIMIT}"
    return [
        compare(
            f"{title}: {name}",
            unit,
            [limited[key]],
            baseline="the same without a limit",
            baseline_values=[whole[key]],
        )
        for name, unit, key in (("memory", "MB", "megabytes"), ("CPU", "s", "cpu_seconds"))
    ]


def _make(home: Path, spine: Path, events: int) -> None:
    chance = np.random.default_rng(3)
    cards = max(10, events // 100)
    times = np.sort(_START_US + chance.integers(0, _SPAN_US, events))
    numbers = pa.array(np.arange(events))
    moments = pa.array(times, pa.int64()).cast(_TIME)
    columns: dict[str, Any] = {
        "id": numbers,
        "at": pa.array(times / 1e6),
        "card": pa.array(chance.integers(0, cards, events)),
        "amount": pa.array(chance.normal(0, 100, events)),
        "_event_time": moments,
        "write_time": moments,
        "api_invocation_time": moments,
        "is_deleted": pa.array(np.zeros(events, bool)),
        "_expires_at": pa.nulls(events, _TIME),
        "_sequence": numbers,
        "_event_date": moments.cast(pa.date32()),
    }
    schema = offline_schema(_GROUP)
    rows = pa.table({name: columns[name] for name in schema.names}).cast(schema)
    spans = (dt.timedelta(days=1), dt.timedelta(days=7))
    kinds = ("sum", "mean", "std", "max")
    features = [WindowedFeature(kind, of="amount", over=span) for kind in kinds for span in spans]
    with featurestore.open(home) as store:
        store.create_feature_group(_GROUP)
        # Past the online store, which keeps none of so old events.
        table = store.offline_table(store.registry.get(_GROUP.name))
        table.append(rows, application="benchmark", sequence=events)
        store.create_windowed_group(
            WindowedGroup("windows", source=_GROUP.name, by="card", features=features)
        )
    asked = {
        "card": chance.integers(0, cards, _SPINE),
        "event_time": pa.array(_START_US + chance.integers(0, _SPAN_US, _SPINE)).cast(_TIME),
    }
    pq.write_table(pa.table(asked), spine)


def _build(request: dict[str, str]) -> dict[str, Any]:
    out = Path(request["home"]).with_name(f"out-{request['limit']}.parquet")
    made: Any
    with featurestore.open(request["home"]) as store:
        before, began = peak_bytes(), time.process_time()
        if request["limit"]:
            made = store.write_dataset(
                request["spine"], ["windows"], out, memory_limit=request["limit"]
            )
        else:
            made = store.dataset(request["spine"], ["windows"])
            made.write(out)
        return {
            "fingerprint": made.fingerprint,
            "megabytes": (peak_bytes() - before) / _MEGABYTE,
            "cpu_seconds": time.process_time() - began,
        }


if __name__ == "__main__":
    print(json.dumps(_build(json.loads(sys.argv[1]))))
