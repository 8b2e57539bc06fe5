"""k-NN beside scikit-learn and faiss called directly: accuracy, recall, projections, seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import faiss
import numpy as np
import pyarrow as pa
from scipy.spatial.distance import pdist
from sklearn.datasets import load_diabetes, load_digits
from sklearn.model_selection import KFold, train_test_split
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.preprocessing import StandardScaler

from tests.benchmarks.quality.harness import Row
from tests.training.blobs import vectors
from training.algorithms.tabular.knn import KNN, KNNModel
from training.algorithms.tabular.knn_reduction import Reduction
from training.data import Dataset
from training.metrics import mse
from training.run import Run

SEEDS = range(5)
BRUTE = "scikit-learn, brute force"


def measure() -> list[Row]:
    """Measure digits by every index and projection, diabetes, and faiss' own speed."""
    return [*_digits(), *_diabetes(), *_speed()]


def _digits() -> list[Row]:
    digits = load_digits()
    points, later, classes, expected = train_test_split(
        digits.data.astype(np.float32),
        digits.target,
        test_size=0.3,
        stratify=digits.target,
        random_state=0,
    )
    brute = KNeighborsClassifier(5, algorithm="brute").fit(points, classes)
    score = float(brute.score(later, expected))
    theirs, numbers = brute.kneighbors(later)
    asked = vectors(later)

    def right(model: KNNModel) -> float:
        return float(np.mean(np.array(model.predict(asked)["predicted_label"]) == expected))

    def recall(model: KNNModel) -> float:
        found = model.neighbours(later, 5)[1]
        shared = [len(set(a) & set(b)) / 5 for a, b in zip(found, numbers, strict=True)]
        return float(np.mean(shared))

    flat = _fit(points, classes)
    distances, found = flat.neighbours(later, 5)
    differ = (found != numbers).any(axis=1)
    exact = float(np.abs(np.sqrt(distances) - theirs).max())
    case = "digits 70/30, k=5"
    rows = [
        Row(
            case=f"{case}, faiss.Flat",
            measure="accuracy",
            ours=right(flat),
            reference=BRUTE,
            reference_value=score,
            bar=score,
        ),
        Row(
            case=f"{case}, faiss.Flat",
            measure="distances of the neighbours, largest difference",
            ours=exact,
            reference=BRUTE,
            bar=1e-3,
            sense="<=",
        ),
        Row(
            case=f"{case}, faiss.Flat",
            measure="queries with other neighbours, not counting ties",
            ours=float((differ & ~(np.diff(theirs, axis=1) == 0).any(axis=1)).sum()),
            reference=BRUTE,
            bar=0,
            sense="<=",
        ),
    ]
    lists = [_fit(points, classes, seed=seed, index_type="faiss.IVFFlat") for seed in SEEDS]
    rows.append(
        Row(
            case=f"{case}, faiss.IVFFlat with 35 lists, default nprobe, median of 5 seeds",
            measure="recall@5",
            ours=statistics.median(recall(model) for model in lists),
            reference=BRUTE,
            reference_value=1.0,
            bar=0.95,
        )
    )
    codes = [
        _fit(points, classes, seed=seed, index_type="faiss.IVFPQ", faiss_index_pq_m=16)
        for seed in SEEDS
    ]
    rows.append(
        Row(
            case=f"{case}, faiss.IVFPQ 16 × 4 bits, default nprobe, median of 5 seeds",
            measure="accuracy lost, points",
            ours=(score - statistics.median(right(model) for model in codes)) * 100,
            reference=BRUTE,
            reference_value=0.0,
            bar=3,
            sense="<=",
        )
    )
    before = pdist(points[:300])
    for kind in ("sign", "fjlt"):
        for trials, bar in ((32, 3), (1, None)):
            reduced = [
                _fit(
                    points,
                    classes,
                    seed=seed * trials,
                    dimension_reduction_type=kind,
                    dimension_reduction_target=16,
                    dimension_reduction_trials=trials,
                )
                for seed in SEEDS
            ]
            name = f"{case}, {kind} from 64 to 16, {trials} tried, median of 5 seeds"
            rows.append(
                Row(
                    case=name,
                    measure="accuracy lost, points",
                    ours=(score - statistics.median(right(model) for model in reduced)) * 100,
                    reference=BRUTE,
                    reference_value=0.0,
                    bar=bar,
                    sense="<=",
                )
            )
            made = [model.reduction for model in reduced if model.reduction is not None]
            rows.append(
                Row(
                    case=name,
                    measure="distances, median change",
                    ours=statistics.median(_change(one, points[:300], before) for one in made),
                    reference="the distances before",
                    reference_value=0.0,
                    bar=0.15,
                    sense="<=",
                )
            )
    return rows


def _diabetes() -> list[Row]:
    points, target = load_diabetes(return_X_y=True)
    points = StandardScaler().fit_transform(points)
    ours, theirs = [], []
    for train, test in KFold(5, shuffle=True, random_state=0).split(points):
        model = _fit(points[train], target[train], k=15, predictor_type="regressor")
        found = np.array(model.predict(vectors(points[test]))["predicted_label"])
        ours.append(mse(target[test], found))
        reference = KNeighborsRegressor(15, algorithm="brute").fit(points[train], target[train])
        theirs.append(mse(target[test], reference.predict(points[test])))
    return [
        Row(
            case="diabetes standardised, k=15, 5 folds, faiss.Flat",
            measure="mean squared error",
            ours=statistics.mean(ours),
            reference=BRUTE,
            reference_value=statistics.mean(theirs),
            bar=statistics.mean(theirs) * 1.0001,
            sense="<=",
        )
    ]


def _speed() -> list[Row]:
    random = np.random.default_rng(0)
    points = random.normal(size=(100_000, 64)).astype(np.float32)
    labels = random.integers(0, 10, len(points))
    later = random.normal(size=(1000, 64)).astype(np.float32)
    model = _fit(points, labels, sample_size=len(points))
    direct = faiss.IndexFlatL2(64)
    direct.add(points)
    asked = vectors(later)
    faiss.omp_set_num_threads(1)
    # Processor time, one after the other: what else runs meanwhile touches both alike.
    pairs = [
        (_cpu_seconds(lambda: model.predict(asked)), _cpu_seconds(lambda: direct.search(later, 5)))
        for _ in range(9)
    ]
    ours, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return [
        Row(
            case="100 k × 64, 1,000 queries, k=5, faiss.Flat, from table to answers, one thread",
            measure="processor seconds ÷ faiss called directly",
            ours=statistics.median(a / b for a, b in pairs),
            reference="faiss IndexFlatL2.search",
            reference_value=1.0,
            bar=1.1,
            sense="<=",
            seconds=ours,
            reference_seconds=theirs,
        )
    ]


def _cpu_seconds(work: Callable[[], Any]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _change(reduction: Reduction, points: np.ndarray, before: np.ndarray) -> float:
    return float(np.median(np.abs(pdist(reduction.apply(points)) / before - 1)))


def _fit(points: np.ndarray, labels: np.ndarray, *, seed: int = 0, **values: Any) -> KNNModel:
    common = {"k": 5, "sample_size": 2000, "predictor_type": "classifier"}
    algorithm = KNN(**{**common, "feature_dim": points.shape[1], **values})
    data = Dataset.of(vectors(points, label=pa.array(labels)), label="label")
    return algorithm.fit(data, Run(seed=seed, threads=1))
