"""What it costs a function to be tracked, beside the two commits that say so.

`capture_figures` is called by the benchmark `lineage`; alone: `python -m
tests.benchmarks.lineage_capture`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

import lineage
from tests.benchmarks.harness import Bar, Figure, Size, compare, interleave, note
from tests.benchmarks.lineage_openlineage import main

__all__ = ["capture_figures"]

_CALLS: Final = {Size.TINY: 5, Size.DEFAULT: 100, Size.FULL: 1_000}
_REPEATS: Final = {Size.TINY: 1, Size.DEFAULT: 5, Size.FULL: 7}


def capture_figures(size: Size, work: Path) -> list[Figure]:
    """Measure calls of a function with three parameters, a table in and a table out."""
    calls = _CALLS[size]
    note(f"tracked calls: {calls:,} of a function with a table in and a table out")
    given, made = pa.table({"x": range(100)}), pa.table({"y": range(100)})
    with lineage.open(work / "capture.db") as graph:
        tracked = lineage.track(_function(made), graph=graph)
        numbers = iter(range(10_000_000))

        def track() -> float:
            return _ms(calls, lambda: tracked(given, eta=0.1, depth=6, note="n"))

        def record() -> float:
            return _ms(calls, lambda: _bare(graph, next(numbers)))

        def experiment() -> float:
            with lineage.start_run("r", graph=graph) as run:
                return _ms(calls * 10, lambda: run.log_metric("loss", 0.5, next(numbers)))

        track()
        samples = interleave(
            {"track": track, "record": record, "metric": experiment}, repeats=_REPEATS[size]
        )
    beside = [one - other for one, other in zip(samples["track"], samples["record"], strict=True)]
    return [
        compare(
            "tracked call, beside its two commits",
            "ms",
            beside,
            baseline="the two commits alone",
            baseline_values=samples["record"],
            bar=Bar("value", "<=", 1.0),
        ),
        compare(
            "point of a metric's series",
            "ms",
            samples["metric"],
            baseline="two commits",
            baseline_values=samples["record"],
        ),
    ]


def _function(made: pa.Table) -> Callable[..., pa.Table]:
    def work(table: pa.Table, *, eta: float, depth: int, note: str) -> pa.Table:
        return made

    return work


def _bare(graph: lineage.Graph, number: int) -> None:
    """The events of such a call, ready made."""
    properties: Any = {"parameters": {"eta": 0.1, "depth": 6, "note": "n"}, "started_us": number}
    name = f"bare-{number}"
    job = lineage.trial_component("Function", name, state="InProgress", properties=properties)
    graph.record([job], kind="JobStarted")
    ends = [lineage.artifact("DataSet", f"memory:{way}", content_hash=way) for way in ("in", "out")]
    done = lineage.trial_component("Function", name, state="Completed", properties=properties)
    graph.record(
        [done, *ends],
        [(ends[0], done, "ContributedTo"), (done, ends[1], "Produced")],
        kind="JobCompleted",
    )


def _ms(calls: int, call: Callable[[], object]) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - began) / calls * 1e3


if __name__ == "__main__":
    main(capture_figures, "capture")
