"""K-Means beside scikit-learn: how near to the best centres, and how fast on a million rows."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import numpy as np
from sklearn.cluster import KMeans as FullKMeans
from sklearn.cluster import MiniBatchKMeans
from sklearn.datasets import load_digits, make_blobs

from tests.benchmarks.quality.harness import Row, median_seconds
from tests.training.blobs import vectors
from training.algorithms.unsupervised.kmeans import KMeans, KMeansModel
from training.data import Dataset
from training.metrics import adjusted_rand_index, normalized_mutual_information
from training.run import Run

SEEDS = range(5)


def measure() -> list[Row]:
    """Measure digits in one and five epochs, and a million rows in one."""
    return [*_digits(), *_speed()]


def _digits() -> list[Row]:
    digits = load_digits()
    points, classes = digits.data.astype(np.float32), digits.target
    data = Dataset.of(vectors(points), labels="optional")
    best_took, best = median_seconds(
        lambda: FullKMeans(n_clusters=10, n_init=10, random_state=0).fit(points), repeats=1
    )
    best_msd = best.inertia_ / len(points)
    reference = "scikit-learn KMeans, best of 10 starts"
    rows = []
    for epochs, bar in ((1, 1.03), (5, 1.01)):
        algorithm = KMeans(k=10, feature_dim=64, epochs=epochs)
        timed = [median_seconds(partial(_fit, algorithm, data, s), repeats=1) for s in SEEDS]
        seconds = statistics.median(took for took, _ in timed)
        found: list[KMeansModel] = [model for _, model in timed]
        labels = [np.array(m.predict(data.features)["closest_cluster"]) for m in found]
        case = f"digits, k=10, epochs={epochs}, median of 5 seeds"
        msd = statistics.median(float(m.squared_distances(points).mean()) for m in found)
        rows.append(
            Row(
                case=case,
                measure="msd ÷ the reference's",
                ours=msd / best_msd,
                reference=reference,
                reference_value=1.0,
                bar=bar,
                sense="<=",
                seconds=seconds,
                reference_seconds=best_took,
            )
        )
        for name, metric in (("ARI", adjusted_rand_index), ("NMI", normalized_mutual_information)):
            rows.append(
                Row(
                    case=case,
                    measure=f"{name} with the ten classes",
                    ours=statistics.median(metric(classes, found) for found in labels),
                    reference=reference,
                    reference_value=metric(classes, best.labels_),
                )
            )
    batched = KMeans(k=10, feature_dim=64, mini_batch_size=500)
    ours = [float(_fit(batched, data, s).squared_distances(points).mean()) for s in SEEDS]
    small = [_minibatch(points, 10, 500, seed).inertia_ / len(points) / best_msd for seed in SEEDS]
    rows.append(
        Row(
            case="digits, k=10, batches of 500, one pass, median of 5 seeds",
            measure="msd ÷ that of the best of 10 full starts",
            ours=statistics.median(ours) / best_msd,
            reference="scikit-learn MiniBatchKMeans, one start",
            reference_value=statistics.median(small),
        )
    )
    return rows


def _speed() -> list[Row]:
    points, _ = make_blobs(n_samples=1_000_000, n_features=30, centers=10, random_state=0)
    points = points.astype(np.float32)
    data = Dataset.of(vectors(points), labels="optional")
    theirs, reference = median_seconds(lambda: _minibatch(points, 10, 5000, 0))
    ours, model = median_seconds(lambda: _fit(KMeans(k=10, feature_dim=30), data, 0))
    name = "scikit-learn MiniBatchKMeans, one start"
    case = "1 M × 30, ten heaps, k=10, batches of 5,000, one pass, one thread"
    return [
        Row(
            case=case,
            measure="seconds ÷ the reference's",
            ours=ours / theirs,
            reference=name,
            reference_value=1.0,
            bar=1.0,
            sense="<=",
            seconds=ours,
            reference_seconds=theirs,
        ),
        Row(
            case=case,
            measure="msd",
            ours=float(model.squared_distances(points).mean()),
            reference=name,
            reference_value=reference.inertia_ / len(points),
        ),
    ]


def _fit(algorithm: KMeans, data: Dataset, seed: int) -> KMeansModel:
    return algorithm.fit(data, Run(seed=seed, threads=1))


def _minibatch(points: np.ndarray, k: int, size: int, seed: int) -> Any:
    return MiniBatchKMeans(
        n_clusters=k,
        batch_size=size,
        max_iter=1,
        n_init=1,
        max_no_improvement=None,
        random_state=seed,
    ).fit(points)
