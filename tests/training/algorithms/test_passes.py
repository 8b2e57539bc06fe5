"""K-Means, PCA and Random Cut Forest on rows that do not fit into memory."""

from __future__ import annotations

import itertools
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

import training
from tests.training.blobs import CENTRES, make_blobs, sparse_vectors, vectors
from training.algorithms import find_algorithm
from training.algorithms.lloyd import refined, swept
from training.algorithms.passes import Passes
from training.algorithms.unsupervised.kmeans import KMeans
from training.algorithms.unsupervised.kmeans_model import KMeansModel
from training.algorithms.unsupervised.pca import PCA
from training.data import Dataset
from training.errors import InvalidData, InvalidHyperparameter, TrainingStopped
from training.run import MemorySink, Run
from training.streaming import Stream

FOREST = {"num_trees": 50, "num_samples_per_tree": 20}
FITS: dict[str, dict[str, Any]] = {
    "kmeans": {"k": 3, "mini_batch_size": 100},
    "pca": {"num_components": 2, "mini_batch_size": 70},
    "randomcutforest": FOREST,
}
MORE: list[tuple[str, dict[str, Any]]] = [
    *FITS.items(),
    ("kmeans", {**FITS["kmeans"], "epochs": 4}),
    ("pca", {**FITS["pca"], "algorithm_mode": "randomized"}),
]


def opened(table: pa.Table, folder: Path, *, part_rows: int = 150) -> Stream:
    """Rows that come in parts, and begin in the order of the heaps they are from."""
    path = folder / "rows.parquet"
    pq.write_table(table, path, row_group_size=40)
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    size = part_rows * table.nbytes // len(table)
    return Stream.open(path, channel="train", folder=scratch, part_bytes=size, labels="optional")


def algorithm(name: str, data: Dataset | Stream, values: dict[str, Any]) -> Any:
    return find_algorithm(name).of({"feature_dim": data.width, **values})


def answers(model: Any, table: pa.Table) -> np.ndarray:
    return np.array(model.predict(table).columns[-1].to_pylist(), np.float64)


def blobs() -> pa.Table:
    return make_blobs(900, seed=5).sort_by("side")


@pytest.mark.parametrize(("name", "values"), MORE)
def test_the_model_is_that_of_memory(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    stream, data = opened(blobs(), tmp_path), Dataset.of(blobs(), labels="optional")
    assert len(stream.bounds) > 4
    assert (len(stream), stream.inputs, stream.target) == (900, data.inputs, None)
    sinks = MemorySink(), MemorySink()
    found = algorithm(name, stream, values).fit_stream(stream, Run(threads=1, sink=sinks[0]))
    expected = algorithm(name, data, values).fit(data, Run(threads=1, sink=sinks[1]))
    assert sinks[0].metrics.keys() == sinks[1].metrics.keys()
    assert sinks[0].done[0] == sinks[0].done[1] > 0
    if name == "kmeans":
        # Rows come in another order, but the first centres are drawn from all of them.
        assert sinks[0].metrics["train:msd"] == pytest.approx(
            sinks[1].metrics["train:msd"], rel=0.03
        )
        assert found.counts.sum() == 900
    else:
        np.testing.assert_allclose(
            answers(found, blobs()), answers(expected, blobs()), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize(("epochs", "bar"), [(1, 1.03), (5, 1.01)])
def test_rows_that_lie_in_the_order_of_their_classes_are_clustered_as_well(
    epochs: int, bar: float, tmp_path: Path
) -> None:
    points, classes = load_digits(return_X_y=True)
    table = vectors(points[np.argsort(classes, kind="stable")])
    stream = opened(table, tmp_path)
    found = []
    for seed in range(3):
        run = Run(seed=seed, threads=1, sink=MemorySink())
        KMeans(k=10, feature_dim=64, epochs=epochs).fit_stream(stream, run)
        found.append(run.sink.metrics["train:msd"])  # type: ignore[attr-defined]
    assert statistics.median(found) <= bar * 648.41  # the best of ten starts of full Lloyd


@pytest.mark.parametrize("name", FITS)
def test_sparse_rows_stay_on_disk_too(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    table = sparse_vectors((random.random((300, 8)) < 0.3) * random.normal(3, 1, (300, 8)))
    stream = opened(table, tmp_path, part_rows=50)
    assert Passes(stream).is_sparse
    found = algorithm(name, stream, FITS[name]).fit_stream(stream, Run(threads=1))
    data = Dataset.of(table, labels="optional")
    expected = algorithm(name, data, FITS[name]).fit(data, Run(threads=1))
    if name == "kmeans":
        assert (
            found.squared_distances(data.csr()).sum()
            <= 1.2 * expected.squared_distances(data.csr()).sum()
        )
    else:
        np.testing.assert_allclose(answers(found, table), answers(expected, table), atol=1e-4)


@pytest.mark.parametrize("name", ["kmeans", "pca"])
def test_a_stopped_fit_goes_on_in_the_middle_of_a_part(name: str, tmp_path: Path) -> None:
    values = {**FITS[name], "mini_batch_size": 50}
    if name == "pca":
        values["algorithm_mode"] = "randomized"
    stream = opened(blobs(), tmp_path)
    whole = algorithm(name, stream, values).fit_stream(stream, Run(threads=1))
    kept = tmp_path / "kept"
    for least in (4, 5):
        asked = itertools.count()
        stopping = Run(
            threads=1, checkpoints=kept, should_stop=lambda n=asked, most=least: next(n) >= most
        )
        with pytest.raises(TrainingStopped):
            algorithm(name, stream, values).fit_stream(stream, stopping)
    resumed = algorithm(name, stream, values).fit_stream(stream, Run(threads=1, checkpoints=kept))
    assert (answers(resumed, blobs()) == answers(whole, blobs())).all()


@pytest.mark.parametrize("name", FITS)
def test_a_missing_value_is_named_by_its_row_also_where_no_sample_has_it(
    name: str, tmp_path: Path
) -> None:
    table = make_blobs(20_000, seed=6)
    width = table["width"].to_numpy().copy()
    width[17_654] = np.nan
    table = table.set_column(1, "width", pa.array(width))
    data = Dataset.of(table, labels="optional")
    with pytest.raises(InvalidData, match="column 'width' has no value in row 17655,"):
        algorithm(name, data, FITS[name]).fit(data, Run(threads=1))
    stream = opened(table, tmp_path, part_rows=5000)
    reason = r"counted from row (\d+): column 'width' has no value in row (\d+),"
    with pytest.raises(InvalidData, match=reason) as caught:
        algorithm(name, stream, FITS[name]).fit_stream(stream, Run(threads=1))
    found = re.search(reason, str(caught.value))
    assert found is not None
    assert int(found[1]) + int(found[2]) - 1 == 17_655


def test_sweeps_find_what_bounds_find_also_where_a_centre_is_left_without_rows() -> None:
    random = np.random.default_rng(2)
    points = CENTRES[random.integers(0, 3, 600)] + random.normal(0, 1, (600, 3))
    start = np.array([points[0], points[1], [500.0, 0, 0], [900.0, 0, 0]])
    options = {"max_iterations": 20, "tolerance": 0.0}
    expected = refined(points, start, **options)  # type: ignore[arg-type]
    found = swept(lambda: iter(np.array_split(points, 7)), start, **options)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.centres, expected.centres, rtol=1e-9)
    assert found.counts.tolist() == expected.counts.tolist()
    assert found.loss == pytest.approx(expected.loss)
    assert found.counts.min() > 0


def test_rows_are_taken_in_any_order_from_their_parts(tmp_path: Path) -> None:
    points = np.arange(600.0).reshape(200, 3)
    rows = Passes(opened(vectors(points), tmp_path, part_rows=30))
    asked = np.array([150, 3, 199, 0, 31, 30])
    assert rows.take(asked).tolist() == points[asked].tolist()
    assert [len(part) for part in rows.parts()] == list(np.diff([0, *rows.ends]))
    assert rows.batches(20) == sum(-(-len(part) // 20) for part in rows.parts())


def test_a_forest_goes_on_from_a_model_with_rows_on_disk(tmp_path: Path) -> None:
    table = blobs()
    data = Dataset.of(table, labels="optional")
    forest = algorithm("randomcutforest", data, FOREST)
    first = forest.fit(data, Run(threads=1))
    run = Run(threads=1, start=first)
    stream = opened(table, tmp_path)
    found, expected = forest.fit_stream(stream, run), forest.fit(data, run)
    assert found.seen == expected.seen == 1800
    assert (answers(found, table) == answers(expected, table)).all()


def test_wide_rows_on_disk_are_for_the_randomized_mode(tmp_path: Path) -> None:
    stream = opened(sparse_vectors(np.eye(3, 40_000)), tmp_path)
    wide = {"feature_dim": 40_000, "mini_batch_size": 2, "num_components": 1}
    with pytest.raises(InvalidHyperparameter, match=r"do not fit into memory, .* use randomized"):
        PCA(**wide).fit_stream(stream, Run())
    model = PCA(**wide, algorithm_mode="randomized").fit_stream(stream, Run(threads=1))
    assert model.s[0] == pytest.approx(1)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_job_with_little_memory_leaves_rows_on_disk(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(7)
    heap = random.integers(0, 3, 30_000)
    points = CENTRES[heap] + random.normal(0, 1, (len(heap), 3))
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(vectors(points), path)
    else:
        np.savetxt(path, points, fmt="%.4f", delimiter=",")
    job = training.TrainingJob(
        training_job_name="little",
        algorithm_name="kmeans",
        hyper_parameters={"k": 3, "feature_dim": 3},
        input_data_config=[
            training.Channel(
                channel_name=name,
                path=str(path),
                content_type="text/csv;label_size=0" if ending == "csv" else None,
            )
            for name in ("train", "test")
        ],
        resource_config=training.ResourceConfig(threads=1, device="cpu", memory_mb=1),
    )
    result = training.train(tmp_path / "home", job).check()
    assert result.metrics["test:msd"] == pytest.approx(3, rel=0.03)
    log = (tmp_path / "home" / "jobs" / "little" / "training.log").read_text()
    assert re.search(r"the data would take about \d+ MB and the job has 1 MB of memory", log)
    model = training.load_model("little", home=tmp_path / "home")
    assert isinstance(model, KMeansModel)
    assert model.counts.sum() == 30_000


def test_what_is_not_given_is_not_learned_from(tmp_path: Path) -> None:
    """A label column is left out of rows on disk as it is of those in memory."""
    labelled = vectors(np.arange(60.0).reshape(20, 3), label=pa.array(np.arange(20.0)))
    stream = opened(labelled, tmp_path, part_rows=7)
    assert stream.inputs.names == ("features",)
    assert stream.labels().tolist() == list(range(20))
    assert KMeans(k=2, feature_dim=3).fit_stream(stream, Run(threads=1)).centres.shape == (2, 3)
