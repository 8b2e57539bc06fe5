"""Training jobs beside the bare library call on the same file, formats, and other algorithms."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import featurestore
import training
from featurestore.embedded import EmbeddedStore
from tests.benchmarks import (
    training_algorithms,
    training_feed,
    training_formats,
    training_peers,
)
from tests.benchmarks.bare_xgboost import PARAMETERS, fit
from tests.benchmarks.child import run_module
from tests.benchmarks.harness import (
    Bar,
    Figure,
    Size,
    compare,
    cores,
    interleave,
    note,
)

__all__ = ["run"]

_FEATURES: Final = 25
_WARM_UP_ROWS: Final = 1_000
_LABEL: Final = "label"
_METRIC: Final = "train:logloss"
_OVERHEAD: Final = Bar("ratio", "<=", 1.1)


@final
@dataclass(frozen=True)
class _Sizes:
    rows: int
    rounds: int
    repeats: int
    rounds_in_process: int


_SIZES: Final = {
    Size.TINY: _Sizes(2_000, 5, 1, 5),
    Size.DEFAULT: _Sizes(300_000, 100, 3, 40),
    Size.FULL: _Sizes(300_000, 500, 5, 200),
}


def run(size: Size, work: Path) -> list[Figure]:
    """Measure whole jobs, fits in this process, formats, feeds, then the other algorithms."""
    sizes = _SIZES[size]
    table = _make_table(sizes.rows)
    path = work / "train.parquet"
    pq.write_table(table, path, compression="zstd")
    bar = None if size is Size.TINY else _OVERHEAD
    return [
        *_jobs(sizes, path, work / "home", bar),
        _fits(sizes, table),
        *training_formats.figures(size),
        *training_feed.figures(size, work),
        *training_algorithms.figures(size, work),
        *training_peers.figures(size, work / "peers"),
    ]


def _jobs(sizes: _Sizes, path: Path, home: Path, bar: Bar | None) -> list[Figure]:
    note(f"training {sizes.repeats} jobs of {sizes.rounds} rounds each way")
    parameters = _parameters(sizes.rounds)
    numbers = itertools.count()

    def job(store: EmbeddedStore) -> tuple[float, float]:
        asked = training.TrainingJob(
            training_job_name=f"job-{next(numbers)}",
            algorithm_name="xgboost",
            hyper_parameters=parameters,
            input_data_config=[
                training.Channel(channel_name="train", path=str(path), label=_LABEL)
            ],
            resource_config=training.ResourceConfig(threads=cores(), device="cpu"),
        )
        began = time.perf_counter()
        result = training.train(store, asked).check()
        return time.perf_counter() - began, result.metrics[_METRIC]

    def script(*options: str) -> tuple[float, float]:
        model = home / f"bare-{next(numbers)}.ubj"
        arguments = (path, _LABEL, model, sizes.rounds, cores(), *options)
        reply, seconds = run_module("tests.benchmarks.bare_xgboost", *arguments)
        return seconds, reply[_METRIC]

    with featurestore.open(home) as store:
        assert isinstance(store, EmbeddedStore)
        samples = interleave(
            {"job": lambda: job(store), "bare": script, "lean": lambda: script("lean")},
            repeats=sizes.repeats,
        )
    _check_equal({metric for runs in samples.values() for _, metric in runs})
    return [
        compare(
            f"training job: xgboost, {sizes.rounds} rounds, {sizes.rows:,} × {_FEATURES}: wall "
            "time with process, imports, model and lineage",
            "s",
            [seconds for seconds, _ in samples["job"]],
            baseline=f"a script that imports xgboost{how}, reads the file, trains and saves",
            baseline_values=[seconds for seconds, _ in samples[key]],
            bar=bar,
        )
        for key, how in (("bare", ""), ("lean", " without scikit-learn"))
    ]


def _fits(sizes: _Sizes, table: pa.Table) -> Figure:
    rounds = sizes.rounds_in_process
    note(f"fitting {sizes.repeats} times {rounds} rounds each way in this process")

    def ours(table: pa.Table = table) -> tuple[float, float]:
        algorithm = training.find_algorithm("xgboost").of(_parameters(rounds))
        began = time.perf_counter()
        run = training.Run(threads=cores())
        algorithm.fit(training.Dataset.of(table, label=_LABEL), run)
        seconds = time.perf_counter() - began
        assert isinstance(run.sink, training.MemorySink)
        return seconds, run.sink.metrics[_METRIC]

    def bare(table: pa.Table = table) -> tuple[float, float]:
        began = time.perf_counter()
        _, metric = fit(table, _LABEL, rounds=rounds, threads=cores())
        return time.perf_counter() - began, metric

    for subject in (ours, bare):
        subject(table.slice(0, _WARM_UP_ROWS))
    samples = interleave({"ours": ours, "bare": bare}, repeats=sizes.repeats)
    _check_equal({metric for _, metric in (*samples["ours"], *samples["bare"])})
    return compare(
        f"fit in this process: xgboost, {rounds} rounds, {sizes.rows:,} × {_FEATURES}, from Arrow",
        "s",
        [seconds for seconds, _ in samples["ours"]],
        baseline="xgboost.train on a QuantileDMatrix of the same Arrow table",
        baseline_values=[seconds for seconds, _ in samples["bare"]],
    )


def _parameters(rounds: int) -> dict[str, Any]:
    return {**PARAMETERS, "num_round": rounds}


def _make_table(rows: int) -> pa.Table:
    random = np.random.default_rng(7)
    columns = {f"x{n}": random.normal(size=rows) for n in range(_FEATURES)}
    score = sum(columns[f"x{n}"] / (n + 1) for n in range(_FEATURES))
    label = (score + random.normal(size=rows) > 0).astype(np.int64)
    return pa.table({_LABEL: label, **columns})


def _check_equal(metrics: set[float]) -> None:
    if len(metrics) != 1:
        raise AssertionError(f"the models differ: {_METRIC} {sorted(metrics)}")
