"""Random Cut Forest beside krcf (AWS's forest in Rust) and scikit-learn's IsolationForest.

krcf goes into a folder of its own, which PYTHONPATH names for the run:
`pip install --no-deps --target FOLDER krcf==0.4.0`. Without it its rows have no reference value.
"""

from __future__ import annotations

import statistics
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from sklearn.ensemble import IsolationForest

from tests.benchmarks.quality.harness import Row, median_seconds
from training import metrics
from training.algorithms.unsupervised.randomcutforest import RandomCutForest, RandomCutForestModel
from training.algorithms.unsupervised.randomcutforest_stream import RandomCutForestStream, shingle
from training.data import Dataset
from training.run import Run

try:
    import krcf
except ImportError:
    krcf = None

__all__ = ["measure"]

Array = npt.NDArray[Any]

_SEEDS: Final = 5
_KRCF: Final = "krcf 0.4" if krcf else "krcf (not installed)"
_SHINGLE: Final = 4


def measure() -> list[Row]:
    """Measure mixtures with anomalies of known share, and a series with spikes."""
    return [*_mixture(), *_series(), *_large()]


def _mixture() -> list[Row]:
    rows, odd = _rows()
    train, later, target = rows[:10_000], rows[10_000:], odd[10_000:]
    case = f"20,000 × 10, 5 centres, 1 % odd; 100 × 256, {_SEEDS} seeds"
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}
    forest: list[float] = []
    for seed in range(_SEEDS):
        model = _fit(train, seed=seed)
        for name, value in _measures(target, model.scores(_table(later))).items():
            ours.setdefault(name, []).append(value)
        codisp = metrics.auc(target, model.scores(_table(later), "codisp"))
        ours.setdefault("auc by CoDisp", []).append(codisp)
        if krcf:
            reference = _krcf(train, seed=seed)
            score = np.array([reference.score(row) for row in later])
            for name, value in _measures(target, score).items():
                theirs.setdefault(name, []).append(value)
        trees = IsolationForest(n_estimators=100, max_samples=256, random_state=seed).fit(train)
        forest.append(metrics.auc(target, -trees.score_samples(later)))
    found = []
    for name, values in ours.items():
        other = statistics.mean(theirs[name]) if name in theirs else None
        bar = other - 0.01 if name == "auc" and other is not None else None
        found.append(
            Row(
                case=case,
                measure=f"{name}, mean",
                ours=statistics.mean(values),
                reference=_KRCF,
                reference_value=other,
                bar=bar,
            )
        )
    found.append(
        Row(
            case=case,
            measure="auc, mean",
            ours=statistics.mean(ours["auc"]),
            reference="scikit-learn IsolationForest",
            reference_value=statistics.mean(forest),
        )
    )
    return found + _speed(train, later)


def _speed(train: Array, later: Array) -> list[Row]:
    """Measure rates in turns, so that a noisy machine slows both."""
    case = "10,000 × 10, 100 trees × 256"
    table = _table(later)
    model = _fit(train, seed=0)
    reference = _krcf(train, seed=0) if krcf else None
    rates: list[float] = []
    others: list[float] = []
    for _ in range(5):
        rates.append(len(later) / median_seconds(lambda: model.scores(table), repeats=1)[0])
        if reference:
            work = median_seconds(lambda: [reference.score(r) for r in later], repeats=1)
            others.append(len(later) / work[0])
    other = statistics.median(others) if others else None
    seconds, _ = median_seconds(lambda: _fit(train, seed=0))
    rows = [
        Row(
            case=case,
            measure="scores/s, median of 5",
            ours=statistics.median(rates),
            reference=f"{_KRCF}, single calls",
            reference_value=other,
            bar=other,
        )
    ]
    fitted = None
    if krcf:
        fitted, _ = median_seconds(lambda: _krcf(train, seed=0))
    updated, _ = median_seconds(lambda: model.update(table, decay=1e-4))
    rows.append(
        Row(
            case=case,
            measure="rows/s of a fit",
            ours=len(train) / seconds,
            reference=f"{_KRCF}, updates",
            reference_value=len(train) / fitted if fitted else None,
            seconds=seconds,
            reference_seconds=fitted,
        )
    )
    rows.append(
        Row(
            case=case,
            measure="rows/s that join, one batch, decay 1e-4",
            ours=len(later) / updated,
            reference=f"{_KRCF}, updates",
            reference_value=len(train) / fitted if fitted else None,
            seconds=updated,
            reference_seconds=fitted,
        )
    )
    return rows


def _series() -> list[Row]:
    random = np.random.default_rng(0)
    time = np.arange(2000)
    load = 50 * np.sin(2 * np.pi * time / 100) + 80 + random.normal(0, 2, 2000)
    odd = np.zeros(2000, np.bool_)
    for start in (400, 900, 1300, 1700):
        load[start : start + 3] += 80
        odd[start : start + 3] = True
    windows = shingle(pa.table({"load": load}), _SHINGLE)
    target = np.lib.stride_tricks.sliding_window_view(odd, _SHINGLE).any(axis=1)[256:]
    case = "series with 4 spikes, shingle 4, 100 × 256, rows join after their score"
    matrix = windows["shingle"].combine_chunks().flatten().to_numpy().reshape(-1, _SHINGLE)
    ours, theirs = [], []
    for seed in range(_SEEDS):
        model = _fit(matrix[:256], seed=seed)
        stream = RandomCutForestStream(model, every=64)
        score = stream.process(_table(matrix[256:]))["score"].to_numpy()
        ours.append(metrics.auc(target, score))
        if krcf:
            reference = _krcf(matrix[:256], seed=seed)
            told = []
            for row in matrix[256:]:
                told.append(reference.score(row))
                reference.update(row)
            theirs.append(metrics.auc(target, np.array(told)))
    other = statistics.mean(theirs) if theirs else None
    return [
        Row(
            case=case,
            measure=f"auc, mean of {_SEEDS} seeds",
            ours=statistics.mean(ours),
            reference=_KRCF,
            reference_value=other,
            bar=other - 0.01 if other is not None else None,
        )
    ]


def _large() -> list[Row]:
    rows = np.random.default_rng(1).normal(0, 1, (1_000_000, 30)).astype(np.float32)
    train = Dataset.of(_table(rows), labels="optional")
    seconds, _ = median_seconds(lambda: RandomCutForest(feature_dim=30).fit(train, Run(threads=1)))
    return [
        Row(
            case="1 M × 30 from Arrow, 100 × 256",
            measure="seconds of a fit",
            ours=seconds,
            reference="none",
            seconds=seconds,
        )
    ]


def _rows() -> tuple[Array, Array]:
    """Make the rows, and mark those redrawn column by column: each value usual, the row not."""
    random = np.random.default_rng(0)
    centres = random.normal(0, 2, (5, 10))
    rows = centres[random.integers(0, 5, 20_000)] + random.normal(0, 1, (20_000, 10))
    odd = np.zeros(20_000)
    odd[random.choice(20_000, 200, replace=False)] = 1
    for column in range(10):
        rows[odd == 1, column] = random.choice(rows[odd == 0, column], 200)
    return rows.astype(np.float32), odd


def _table(rows: Array) -> pa.Table:
    flat = pa.array(np.ascontiguousarray(rows).ravel())
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])})


def _fit(rows: Array, *, seed: int) -> RandomCutForestModel:
    train = Dataset.of(_table(rows), labels="optional")
    return RandomCutForest(feature_dim=rows.shape[1]).fit(train, Run(threads=1, seed=seed))


def _krcf(rows: Array, *, seed: int) -> Any:
    # Another key would be ignored without a word.
    options = {"dimensions": rows.shape[1], "shingle_size": 1, "num_trees": 100}
    options |= {"sample_size": 256, "output_after": 1, "random_seed": seed}
    forest = krcf.RandomCutForest(options)
    for row in rows:
        forest.update(row)
    return forest


def _measures(target: Array, score: Array) -> dict[str, float]:
    called = (score > score.mean() + 3 * score.std()).astype(np.float64)
    return {
        "auc": metrics.auc(target, score),
        "ap": metrics.average_precision(target, score),
        "three-sigma f1": metrics.f1_binary(target, called),
    }
