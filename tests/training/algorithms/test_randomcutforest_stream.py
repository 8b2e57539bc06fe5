from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from training.algorithms.unsupervised.randomcutforest import RandomCutForest
from training.algorithms.unsupervised.randomcutforest_model import RandomCutForestModel
from training.algorithms.unsupervised.randomcutforest_stream import RandomCutForestStream, shingle
from training.data import Dataset
from training.errors import InvalidData
from training.run import Run


def wave(rows: int, *, seed: int = 0, lift: float = 0.0) -> pa.Table:
    random = np.random.default_rng(seed)
    load = 50 * np.sin(2 * np.pi * np.arange(rows) / 50) + lift + random.normal(0, 2, rows)
    return pa.table({"load": load})


@pytest.fixture(scope="module")
def model() -> RandomCutForestModel:
    train = Dataset.of(shingle(wave(1000), 4), labels="optional")
    algorithm = RandomCutForest(feature_dim=4, num_trees=50, num_samples_per_tree=128)
    return algorithm.fit(train, Run(threads=1))


def test_a_shingle_has_the_oldest_row_first() -> None:
    table = pa.table({"a": [1, 2, 3], "b": [10.0, 20.0, 30.0]})
    assert shingle(table, 2)["shingle"].to_pylist() == [[1, 10, 2, 20], [2, 20, 3, 30]]
    assert shingle(table, 3)["shingle"].to_pylist() == [[1, 10, 2, 20, 3, 30]]
    assert shingle(table, 1)["shingle"].to_pylist() == [[1, 10], [2, 20], [3, 30]]
    assert len(shingle(table, 4)) == 0


def test_what_is_no_number_makes_no_shingle() -> None:
    with pytest.raises(InvalidData, match="column 'sky' is category, and a shingle takes numbers"):
        shingle(pa.table({"sky": ["wet", "dry"]}), 2)
    with pytest.raises(InvalidData, match="column 'a' has no value in row 2"):
        shingle(pa.table({"a": [1.0, None]}), 2)
    with pytest.raises(ValueError, match="size: expected an integer >= 1, got 0"):
        shingle(pa.table({"a": [1.0]}), 0)


def test_answers_are_the_same_however_the_stream_is_cut(model: RandomCutForestModel) -> None:
    rows = wave(200, seed=1)
    whole = RandomCutForestStream(model, size=4, every=64, decay=0.01)
    parts = RandomCutForestStream(model, size=4, every=64, decay=0.01)
    together = whole.process(rows)
    cut = [parts.process(rows.slice(a, b - a)) for a, b in [(0, 2), (2, 3), (3, 150), (150, 200)]]
    apart = pa.concat_tables(cut)
    assert together["score"].null_count == together["anomaly"].null_count == 3
    assert together["anomaly"].equals(apart["anomaly"])
    for name in ("score", "threshold"):
        np.testing.assert_allclose(together[name].to_numpy(), apart[name].to_numpy(), rtol=1e-12)
    assert whole.model.seen == model.seen + 192
    assert len(parts.process(rows.slice(0, 0))) == 0


def test_a_spike_is_an_anomaly_and_the_next_one_too(model: RandomCutForestModel) -> None:
    load = wave(400, seed=2)["load"].to_numpy().copy()
    load[[150, 300]] += 90
    told = RandomCutForestStream(model, size=4).process(pa.table({"load": load}))
    anomaly = np.flatnonzero(told["anomaly"].fill_null(False).to_numpy())
    assert {150, 300} <= set(anomaly.tolist())
    # A spike is in four shingles; little else is told.
    assert len(anomaly) <= 12


def test_the_forest_and_the_threshold_follow_what_becomes_usual(
    model: RandomCutForestModel,
) -> None:
    stream = RandomCutForestStream(model, size=4, decay=0.01, every=50, memory=100)
    told = stream.process(wave(600, seed=3, lift=120.0))
    score = told["score"].to_numpy()
    assert np.nanmean(score[:50]) > 2 * np.nanmean(score[-100:])
    assert told["anomaly"].slice(3, 20).to_pylist() == [True] * 20
    assert sum(told["anomaly"].slice(500).to_pylist()) < 10


def test_settings_out_of_range_are_refused(model: RandomCutForestModel) -> None:
    with pytest.raises(ValueError, match="every: expected an integer >= 1, got 0"):
        RandomCutForestStream(model, every=0)
