from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from sklearn.datasets import load_digits

from tests.training.blobs import CENTRES, make_blobs, sparse_vectors, vectors
from training.algorithms.unsupervised.kmeans import KMeans
from training.algorithms.unsupervised.kmeans_model import KMeansModel
from training.algorithms.unsupervised.kmeans_state import LocalLloyd, State, merge
from training.data import Dataset
from training.errors import FitFailed, InvalidData, InvalidHyperparameter, TrainingStopped
from training.run import MemorySink, Run

DIGITS = load_digits().data
BEST_MSD = 648.41  # the best of ten starts of full Lloyd


def dataset(points: Any, *, channel: str = "train") -> Dataset:
    table = points if isinstance(points, pa.Table) else vectors(np.asarray(points))
    return Dataset.of(table, labels="optional", channel=channel)


def fit(points: Any, *, run: Run | None = None, **values: Any) -> KMeansModel:
    data = dataset(points)
    values = {"k": 3, "feature_dim": data.width, **values}
    return KMeans(**values).fit(data, run or Run(threads=1))


def msd(model: KMeansModel, points: np.ndarray) -> float:
    distance = ((points[:, None] - model.centres) ** 2).sum(axis=2).min(axis=1)
    return float(distance.mean())


def heaps(rows: int = 900) -> np.ndarray:
    random = np.random.default_rng(4)
    return CENTRES[random.integers(0, 3, rows)] + random.normal(0, 1, (rows, 3))


@pytest.mark.parametrize(("epochs", "bar"), [(1, 1.03), (5, 1.01)])
def test_digits_come_near_the_best_of_ten_full_fits(epochs: int, bar: float) -> None:
    found = [
        msd(fit(DIGITS, k=10, epochs=epochs, run=Run(seed=seed, threads=1)), DIGITS)
        for seed in range(5)
    ]
    assert statistics.median(found) <= bar * BEST_MSD


def test_the_heaps_are_found_and_numbered() -> None:
    points = heaps()
    model = fit(points, mini_batch_size=200)
    gaps = np.sqrt(((CENTRES[:, None] - model.centres) ** 2).sum(axis=2))
    assert sorted(gaps.argmin(axis=1)) == [0, 1, 2]
    assert gaps.min(axis=1).max() < 0.3
    reply = model.predict(vectors(CENTRES))
    assert reply["closest_cluster"].to_pylist() == gaps.argmin(axis=1).tolist()
    np.testing.assert_allclose(reply["distance_to_cluster"], gaps.min(axis=1), rtol=1e-5)
    assert model.counts.sum() == pytest.approx(900)


def test_the_metrics_are_the_mean_and_the_sum_of_squared_distances() -> None:
    points = heaps()
    algorithm = KMeans(k=3, feature_dim=3, eval_metrics='["msd","ssd"]')  # type: ignore[arg-type]
    model = algorithm.fit(dataset(points), Run(threads=1))
    measured = algorithm.evaluate(model, dataset(points[:50], channel="test"))
    assert measured["msd"] == pytest.approx(msd(model, points[:50]), rel=1e-5)
    assert measured["ssd"] == pytest.approx(50 * measured["msd"])
    only = replace(algorithm, eval_metrics=("ssd",))
    assert list(only.evaluate(model, dataset(points))) == ["ssd"]


def test_sparse_rows_give_the_model_of_dense_ones() -> None:
    points = np.where(DIGITS > 9, DIGITS, 0)[:600]
    dense = fit(points, k=5, mini_batch_size=150, epochs=2)
    sparse = fit(sparse_vectors(points), k=5, mini_batch_size=150, epochs=2)
    assert msd(sparse, points) == pytest.approx(msd(dense, points), rel=0.02)
    asked = sparse_vectors(points[:40])
    again = KMeansModel(dense.inputs, sparse.centres, sparse.counts).predict(vectors(points[:40]))
    np.testing.assert_allclose(
        sparse.predict(asked)["distance_to_cluster"], again["distance_to_cluster"], rtol=1e-5
    )


@pytest.mark.parametrize(
    "values",
    [
        {"epochs": 2},
        {"mini_batch_size": 50},
        {"extra_center_factor": 1},
        {"init_method": "kmeans++"},
        {"half_life_time_size": 100},
        {"local_lloyd_init_method": "random"},
        {"local_lloyd_max_iter": 1},
        {"local_lloyd_num_trials": 1},
        {"local_lloyd_tol": 1.0},
        {"full_lloyd_max_iter": 1},
    ],
)
def test_every_hyperparameter_changes_the_centres(values: dict[str, Any]) -> None:
    common = {"k": 5, "mini_batch_size": 200}
    plain = fit(DIGITS[:800], **common)
    assert not np.allclose(fit(DIGITS[:800], **{**common, **values}).centres, plain.centres)


def test_a_short_half_life_follows_the_newest_rows() -> None:
    random = np.random.default_rng(0)
    state = State(np.zeros((1, 1)), np.array([1000.0]))
    for _ in range(3):
        forgetful, _ = state.after(np.full((100, 1), 8.0), half_life=100, random=random)
        steady, _ = state.after(np.full((100, 1), 8.0), random=random)
    # 1,000 rows at 0 weigh 500 after one half-life, and then 100 come at 8.
    assert forgetful.counts[0] == 600
    assert forgetful.centres[0, 0] == pytest.approx(8 * 100 / 600)
    assert steady.centres[0, 0] == pytest.approx(8 * 100 / 1100)


def test_a_batch_moves_a_centre_by_the_share_of_its_rows() -> None:
    state = State(np.array([[0.0], [10.0]]), np.array([3.0, 5.0]))
    moved, total = state.after(np.array([[4.0], [1.0]]), random=np.random.default_rng(0))
    # p = 2 / (3 + 2): 0.6 · 0 + 0.4 · 2.5.
    assert moved.centres.ravel().tolist() == [1.0, 10.0]
    assert moved.counts.tolist() == [5.0, 5.0]
    assert total == 17.0


def test_a_centre_that_stands_for_nothing_is_put_on_a_row() -> None:
    state = State(np.array([[0.0], [900.0]]), np.zeros(2))
    rows = np.array([[0.0], [0.0], [7.0]])
    moved, _ = state.after(rows, random=np.random.default_rng(0))
    assert moved.centres[1, 0] == 7.0


def test_several_workers_states_merge_to_what_one_would_find() -> None:
    points = heaps(3000)
    random = np.random.default_rng(1)

    def read(rows: np.ndarray) -> State:
        state = State(rows[:30], np.zeros(30))
        for start in range(0, len(rows), 250):
            state, _ = state.after(rows[start : start + 250], random=random)
        return state

    states = [read(part) for part in np.array_split(points, 3)]
    merged = merge(states)
    assert merged.counts.sum() == len(points)
    few = merged.reduced(3, LocalLloyd(), np.random.default_rng(0))
    one = read(points).reduced(3, LocalLloyd(), np.random.default_rng(0))
    losses = [
        ((points[:, None] - c.centres) ** 2).sum(axis=2).min(axis=1).mean() for c in (few, one)
    ]
    assert losses[0] <= 1.02 * losses[1]
    turned = merge(states[::-1]).reduced(3, LocalLloyd(), np.random.default_rng(0))
    order = np.argsort(few.centres[:, 0]), np.argsort(turned.centres[:, 0])
    np.testing.assert_allclose(few.centres[order[0]], turned.centres[order[1]], atol=0.05)


@pytest.mark.parametrize(
    "points", [np.full((20, 2), 3.0), np.repeat([[0.0, 1.0], [5.0, 5.0]], 10, 0)]
)
def test_fewer_different_rows_than_clusters_are_all_centres(points: np.ndarray) -> None:
    model = fit(points, k=3)
    assert model.centres.shape == (3, 2)
    assert msd(model, points) == 0
    assert max(model.predict(vectors(points))["distance_to_cluster"].to_pylist()) == 0


def test_as_many_clusters_as_rows() -> None:
    points = np.arange(6.0).reshape(3, 2)
    model = fit(points, k=3)
    assert msd(model, points) == 0


def test_more_centres_than_a_mini_batch_has_rows() -> None:
    points = heaps(200)
    assert msd(fit(points, k=3, mini_batch_size=7, extra_center_factor=30), points) < 4


def test_clusters_without_rows_and_a_wrong_width_are_refused() -> None:
    with pytest.raises(InvalidData, match="k=4 clusters need as many rows, and there are 3"):
        fit(np.zeros((3, 2)), k=4)
    with pytest.raises(InvalidHyperparameter, match=r"feature_dim: .* is 2 \(features\), got 5"):
        fit(np.zeros((9, 2)), feature_dim=5)
    labelled = vectors(np.zeros((9, 2)), label=pa.array(np.zeros(9)))
    with pytest.raises(InvalidHyperparameter, match=r"got 3; column 'label' .*;label_size=0"):
        fit(labelled, feature_dim=3)
    for wrong in ({"k": "1"}, {"eval_metrics": "mse"}, {"local_lloyd_tol": "1.5"}):
        with pytest.raises(InvalidHyperparameter, match=next(iter(wrong))):
            KMeans.of({"k": "3", "feature_dim": "2", **wrong})


def test_auto_is_what_is_not_set() -> None:
    auto = KMeans.of({"k": "5", "feature_dim": "2", "extra_center_factor": "auto"})
    assert auto == KMeans(k=5, feature_dim=2)
    assert [replace(auto, k=k).factor for k in (2, 100, 150, 5000)] == [10, 10, 6, 4]


def test_a_model_is_gone_on_from() -> None:
    points = heaps()
    first = fit(points[:450])
    further = fit(points[450:], run=Run(threads=1, start=first))
    assert further.counts.sum() == pytest.approx(900)
    assert msd(further, points) < 3.2


def test_a_model_that_does_not_fit_is_not_gone_on_from() -> None:
    first = fit(heaps())
    with pytest.raises(InvalidHyperparameter, match=r"k: the model .* has 3 clusters, got 4"):
        fit(heaps(), k=4, run=Run(start=first))
    with pytest.raises(InvalidData, match="same inputs; it takes features and train has length"):
        fit(make_blobs(50, seed=0), run=Run(start=first))


def test_a_stopped_fit_says_where_and_its_checkpoint_is_its_own(tmp_path: Any) -> None:
    asked = iter(range(100))
    run = Run(checkpoints=tmp_path, should_stop=lambda: next(asked) >= 2)
    with pytest.raises(TrainingStopped, match="after mini-batch 2 of 10"):
        fit(heaps(), mini_batch_size=100, run=run)
    with pytest.raises(FitFailed, match=r"another fit .*k: 3, now 4"):
        fit(heaps(), mini_batch_size=100, k=4, run=Run(checkpoints=tmp_path))
    (tmp_path / "state.npz").write_bytes(b"not this")
    with pytest.raises(FitFailed, match="cannot be read as a checkpoint"):
        fit(heaps(), mini_batch_size=100, run=Run(checkpoints=tmp_path))


def test_each_epoch_reports_its_distances() -> None:
    sink = MemorySink()
    fit(heaps(), epochs=3, run=Run(sink=sink, threads=1))
    # Two of three epochs move the many centres, one the three that are left.
    assert [step for name, _, step in sink.rows if name == "train:msd"] == [0, 1, None]
    assert "#quality_metric: host=algo-1, epoch=1, train msd <loss>=" in "\n".join(sink.lines)
    assert sum(sink.properties["cluster_sizes"]) == 900
