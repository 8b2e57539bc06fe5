"""Algorithms on a table of 30 columns beside scikit-learn's, from a Parquet file to a fitted model.

Both have one thread: their OpenMP runtimes would spin against each other in one process.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, final

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.linear_model import SGDClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import training
from tests.benchmarks.harness import Figure, Size, compare, interleave, note
from training.data import read_dataset

__all__ = ["figures"]

Array = npt.NDArray[Any]

_WIDTH: Final = 30
_HEAPS: Final = 10
_LABEL: Final = "label"
_ASKED: Final = 1_000
_KEPT: Final = 20_000
_FEW: Final = "few.parquet"
_BINARY: Final = {"predictor_type": "binary_classifier"}


@final
@dataclass(frozen=True)
class _Sizes:
    rows: int
    repeats: int


_SIZES: Final = {
    Size.TINY: _Sizes(2_000, 1),
    Size.DEFAULT: _Sizes(100_000, 3),
    Size.FULL: _Sizes(1_000_000, 3),
}


@final
@dataclass(frozen=True, kw_only=True)
class _Match:
    """An algorithm, and what a user would take in its place.

    Args:
        name: of the algorithm.
        values: its hyperparameters.
        about: what both do.
        instead: what it is compared with.
        fit: makes and fits that on rows and labels.
        ours: how good our model is on other rows; larger is better.
        theirs: the same of the other.
        short: by how much ours may be worse, as a share, before the comparison is refused.
    """

    name: str
    values: Mapping[str, Any]
    about: str
    instead: str
    fit: Callable[[Array, Array], Any]
    ours: Callable[[Any, pa.Table, Array], float]
    theirs: Callable[[Any, Array, Array], float]
    short: float


def figures(size: Size, work: Path) -> list[Figure]:
    """Measure each algorithm that has a match, in turns with it."""
    sizes = _SIZES[size]
    rows, labels = _rows(sizes.rows + _ASKED)
    path = work / "rows.parquet"
    table = _table(rows, labels)
    pq.write_table(table.slice(0, sizes.rows), path, compression="zstd")
    pq.write_table(table.slice(0, min(_KEPT, sizes.rows)), path.with_name(_FEW), compression="zstd")
    asked = (table.slice(sizes.rows), rows[sizes.rows :], labels[sizes.rows :])
    with threadpool_limits(limits=1):
        return [_figure(match, path, sizes, asked, size) for match in _matches(sizes.rows)]


def _figure(
    match: _Match, path: Path, sizes: _Sizes, asked: tuple[pa.Table, Array, Array], size: Size
) -> Figure:
    note(f"{match.name}: {sizes.repeats} times {sizes.rows:,} rows each way")
    algorithm = training.find_algorithm(match.name).of(match.values)
    table, rows, labels = asked

    def ours(path: Path = path) -> tuple[float, float]:
        began = time.perf_counter()
        data = read_dataset(path, channel="train", label=_LABEL)
        model = algorithm.fit(data, training.Run(threads=1))
        good = match.ours(model, table, labels)
        return time.perf_counter() - began, good

    def theirs(path: Path = path) -> tuple[float, float]:
        began = time.perf_counter()
        frame = pd.read_parquet(path)
        given = frame.drop(columns=_LABEL).to_numpy(np.float32)
        model = match.fit(given, frame[_LABEL].to_numpy())
        good = match.theirs(model, rows, labels)
        return time.perf_counter() - began, good

    # What a first fit imports is not what is compared.
    for subject in (ours, theirs):
        subject(path.with_name(_FEW))
    samples = interleave({"ours": ours, "theirs": theirs}, repeats=sizes.repeats)
    good, best = samples["ours"][0][1], samples["theirs"][0][1]
    if size is not Size.TINY and good < best - match.short * abs(best):
        raise AssertionError(f"{match.name}: {good:.4g}, and {match.instead}: {best:.4g}")
    return compare(
        f"{match.name}: {match.about}, {sizes.rows:,} × {_WIDTH} from Parquet",
        "s",
        [seconds for seconds, _ in samples["ours"]],
        baseline=f"pandas and scikit-learn: {match.instead}",
        baseline_values=[seconds for seconds, _ in samples["theirs"]],
    )


def _matches(rows: int) -> list[_Match]:
    kept = min(_KEPT, rows)
    dimensions = {"feature_dim": _WIDTH}
    return [
        _Match(
            name="linear-learner",
            values={**dimensions, **_BINARY, "num_models": 1, "epochs": 3},
            about="two classes, one model, 3 passes",
            instead="StandardScaler, SGDClassifier, 3 passes",
            fit=lambda x, y: _linear(passes=3).fit(x, y),
            ours=_agreement,
            theirs=lambda model, x, y: float(model.score(x, y)),
            short=0.02,
        ),
        _Match(
            name="factorization-machines",
            values={
                **dimensions,
                **_BINARY,
                "num_factors": 8,
                "epochs": 1,
                "linear_lr": 0.01,
                "factors_lr": 0.001,
            },
            about="two classes, 8 factors, 1 pass",
            instead="StandardScaler, SGDClassifier, 1 pass, without pairs",
            fit=lambda x, y: _linear(passes=1).fit(x, y),
            ours=_agreement,
            theirs=lambda model, x, y: float(model.score(x, y)),
            short=0.05,
        ),
        _Match(
            name="kmeans",
            values={**dimensions, "k": _HEAPS, "mini_batch_size": 5_000},
            about=f"k={_HEAPS}, one pass",
            instead="MiniBatchKMeans, one start, one pass",
            fit=lambda x, y: MiniBatchKMeans(
                n_clusters=_HEAPS,
                batch_size=5_000,
                max_iter=1,
                n_init=1,
                max_no_improvement=None,
                random_state=0,
            ).fit(x),
            ours=lambda model, table, y: (
                -float(np.mean(np.array(model.predict(table)["distance_to_cluster"]) ** 2))
            ),
            theirs=lambda model, x, y: -float(np.mean(model.transform(x).min(axis=1) ** 2)),
            short=0.05,
        ),
        _Match(
            name="pca",
            values={**dimensions, "num_components": 10, "mini_batch_size": 5_000},
            about="10 components",
            instead="PCA by the covariance",
            fit=lambda x, y: PCA(10, svd_solver="covariance_eigh").fit(x),
            ours=lambda model, table, y: _variance(_stacked(model.predict(table)["projection"])),
            theirs=lambda model, x, y: _variance(model.transform(x)),
            short=1e-3,
        ),
        _Match(
            name="knn",
            values={
                **dimensions,
                "k": 10,
                "sample_size": kept,
                "predictor_type": "classifier",
            },
            about=f"{kept:,} rows kept, {_ASKED:,} asked",
            instead=f"KNeighborsClassifier by brute force, {kept:,} rows at random",
            fit=lambda x, y: _neighbours(x, y, kept),
            ours=_agreement,
            theirs=lambda model, x, y: float(model.score(x, y)),
            short=0.05,
        ),
        _Match(
            name="randomcutforest",
            values={**dimensions, "num_trees": 50, "num_samples_per_tree": 256},
            about=f"50 trees of 256 rows, {_ASKED:,} scored",
            instead="IsolationForest, 50 trees of 256 rows",
            fit=lambda x, y: IsolationForest(
                n_estimators=50, max_samples=min(256, len(x)), random_state=0
            ).fit(x),
            ours=lambda model, table, y: _finite(model.predict(table)["score"].to_numpy()),
            theirs=lambda model, x, y: _finite(model.score_samples(x)),
            short=0.0,
        ),
    ]


def _linear(*, passes: int) -> Any:
    return make_pipeline(
        StandardScaler(),
        SGDClassifier(loss="log_loss", max_iter=passes, tol=None, random_state=0),
    )


def _neighbours(rows: Array, labels: Array, kept: int) -> KNeighborsClassifier:
    chosen = np.random.default_rng(0).choice(len(rows), kept, replace=False)
    return KNeighborsClassifier(10, algorithm="brute").fit(rows[chosen], labels[chosen])


def _agreement(model: Any, table: pa.Table, labels: Array) -> float:
    return float(np.mean(np.array(model.predict(table)["predicted_label"]) == labels))


def _stacked(lists: pa.ChunkedArray) -> Array:
    return np.array(lists.to_pylist())


def _variance(rows: Array) -> float:
    return float(rows.var(axis=0).sum())


def _finite(scores: Array) -> float:
    return float(np.isfinite(scores).all())


def _rows(count: int) -> tuple[Array, Array]:
    """Ten heaps that lean, and two classes that a plane parts but for noise."""
    random = np.random.default_rng(11)
    centres = random.normal(0, 2, (_HEAPS, _WIDTH))
    mixed = random.normal(0, 1 / math.sqrt(_WIDTH), (_WIDTH, _WIDTH))
    rows = centres[random.integers(0, _HEAPS, count)] + random.normal(size=(count, _WIDTH)) @ mixed
    score = rows @ random.normal(0, 1 / math.sqrt(_WIDTH), _WIDTH)
    labels = score + random.normal(0, 0.3, count) > np.median(score)
    return rows.astype(np.float32), labels.astype(np.int64)


def _table(rows: Array, labels: Array) -> pa.Table:
    columns = {f"x{place}": np.ascontiguousarray(rows[:, place]) for place in range(_WIDTH)}
    return pa.table({_LABEL: labels, **columns})
