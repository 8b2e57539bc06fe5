"""PCA beside scikit-learn: singular values and axes, what a sketch keeps, and a million rows."""

from __future__ import annotations

import statistics
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA as ReferencePCA

from tests.benchmarks.quality.harness import Row, median_seconds
from tests.training.blobs import vectors
from training.algorithms.unsupervised.pca import PCA, PCAModel
from training.data import Dataset
from training.run import Run

SEEDS = range(5)


def measure() -> list[Row]:
    """Measure digits in both modes, and a million rows."""
    return [*_digits(), *_speed()]


def _digits() -> list[Row]:
    points = load_digits().data.astype(np.float32)
    data = Dataset.of(vectors(points), labels="optional")
    name = "scikit-learn PCA, full SVD"
    full = ReferencePCA(n_components=10, svd_solver="full")
    theirs, exact = median_seconds(lambda: full.fit(points.astype(np.float64)))
    ours, model = median_seconds(partial(_fit, data))
    share = float(exact.explained_variance_ratio_.sum())
    error = np.abs(model.s[::-1] / exact.singular_values_ - 1).max()
    cosine = np.linalg.svd(exact.components_ @ model.v)[1].min()
    case = "digits, 10 components, regular"
    rows = [
        Row(
            case=case,
            measure="explained variance ratio",
            ours=float(model.explained.sum()),
            reference=name,
            reference_value=share,
            seconds=ours,
            reference_seconds=theirs,
        ),
        Row(
            case=case,
            measure="singular values, largest relative difference",
            ours=float(error),
            reference=name,
            bar=1e-4,
            sense="<=",
        ),
        Row(
            case=case,
            measure="subspace, smallest cosine",
            ours=float(cosine),
            reference=name,
            bar=0.9999,
        ),
    ]
    for passes, bar in ((2, 0.98), (1, None), (3, None)):
        kept = [
            _fit(data, seed=seed, algorithm_mode="randomized", passes=passes).captured(points)
            for seed in SEEDS
        ]
        random = ReferencePCA(
            n_components=10, svd_solver="randomized", random_state=0, iterated_power=passes - 1
        ).fit(points.astype(np.float64))
        rows.append(
            Row(
                case=f"digits, 10 components, randomized, passes={passes}, median of 5 seeds",
                measure="variance kept ÷ exact",
                ours=statistics.median(kept) / share,
                reference=f"scikit-learn PCA, randomized, {2 * passes} passes",
                reference_value=float(random.explained_variance_ratio_.sum()) / share,
                bar=bar,
            )
        )
    return rows


def _speed() -> list[Row]:
    random = np.random.default_rng(0)
    points = random.normal(size=(1_000_000, 30)) @ random.normal(size=(30, 30))
    points = points.astype(np.float32)
    columns = pa.table({f"f{place}": points[:, place].copy() for place in range(30)})
    packed = vectors(points)
    theirs, _ = median_seconds(lambda: ReferencePCA(10, svd_solver="covariance_eigh").fit(points))
    rows = []
    for case, table in (("30 columns", columns), ("one vector column", packed)):
        for mode, bar in (("regular", 1.0), ("randomized", None)):
            read = partial(_read_and_fit, table, mode)
            seconds, _ = median_seconds(read, repeats=5)
            rows.append(
                Row(
                    case=f"1 M × 30 float32, {case} of an Arrow table, {mode}, one thread",
                    measure="seconds from the table to the model",
                    ours=seconds,
                    reference="scikit-learn PCA on its array, covariance_eigh",
                    reference_value=theirs,
                    bar=bar,
                    sense="<=",
                    seconds=seconds,
                    reference_seconds=theirs,
                )
            )
    return rows


def _read_and_fit(table: pa.Table, mode: str) -> PCAModel:
    data = Dataset.of(table, labels="optional")
    return _fit(data, mini_batch_size=5000, algorithm_mode=mode)


def _fit(data: Dataset, *, seed: int = 0, mini_batch_size: int = 500, **values: Any) -> PCAModel:
    algorithm = PCA(
        feature_dim=data.width, mini_batch_size=mini_batch_size, num_components=10, **values
    )
    return algorithm.fit(data, Run(seed=seed, threads=1))
