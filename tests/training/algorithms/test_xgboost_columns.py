"""What rows of XGBoost carry beside inputs: intervals of time, queries and weights in columns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost

from training.algorithms.tabular.boosting.learner import XGBoost
from training.data import Dataset, read_dataset
from training.errors import InvalidData, InvalidHyperparameter
from training.run import MemorySink, Run

AFT = {"num_round": 8, "objective": "survival:aft", "max_depth": 3}
INPUTS = ["x0", "x1", "x2"]


@pytest.fixture(scope="module")
def waits() -> pa.Table:
    random = np.random.default_rng(3)
    columns = {name: random.normal(size=300) for name in INPUTS}
    time = np.exp(columns["x0"] + 0.3 * random.normal(size=300))
    seen = random.random(300) < 0.7
    upper = pa.array(np.where(seen, time, np.nan), from_pandas=True)
    return pa.table({"since": time, "until": upper, **columns})


def read(path: Path, algorithm: XGBoost, **options: Any) -> Dataset:
    return read_dataset(
        path,
        channel="train",
        reading=algorithm.reading(),
        intervals=algorithm.intervals,
        beside=algorithm.beside(),
        **options,
    )


@pytest.mark.parametrize("form", ["columns", "vector", "csv"])
def test_intervals_give_what_bounds_give_the_plain_library(
    waits: pa.Table, tmp_path: Path, form: str
) -> None:
    lower = waits["since"].to_numpy()
    upper = np.where(waits["until"].is_null().to_numpy(), np.inf, lower)
    algorithm = XGBoost.of({**AFT, "aft_loss_distribution": "logistic"})
    if form == "columns":
        pq.write_table(waits, tmp_path / "waits.parquet")
        data = read(tmp_path / "waits.parquet", algorithm, label="since+until")
    elif form == "vector":
        ends = pa.array(np.column_stack([lower, upper]).tolist(), pa.list_(pa.float64(), 2))
        packed = waits.select(INPUTS).append_column("wait", ends)
        pq.write_table(packed, tmp_path / "waits.parquet")
        data = read(tmp_path / "waits.parquet", algorithm, label="wait")
    else:
        rows = np.column_stack([lower, upper, *(waits[name].to_numpy() for name in INPUTS)])
        (tmp_path / "waits.csv").write_text(
            "\n".join(",".join(map(repr, row)) for row in rows.tolist())
        )
        data = read(tmp_path / "waits.csv", algorithm, content_type="text/csv;label_size=2")
    assert len(data.inputs.names) == 3
    sink = MemorySink()
    model = algorithm.fit(data, Run(threads=1, sink=sink), validation=None)
    matrix = xgboost.QuantileDMatrix(
        data.features, label_lower_bound=lower, label_upper_bound=upper
    )
    plain = xgboost.train(
        {**AFT, "aft_loss_distribution": "logistic", "nthread": 1, "num_round": None},
        matrix,
        8,
    )
    got = model.predict(data.features)["score"].to_numpy()
    assert np.abs(got / plain.predict(matrix) - 1).max() <= 1e-6
    assert set(sink.metrics) == {"train:aft-nloglik"}
    assert algorithm.evaluate(model, data) == {
        "aft-nloglik": pytest.approx(sink.metrics["train:aft-nloglik"], abs=1e-5)
    }


def test_times_that_are_all_known_are_one_label(waits: pa.Table) -> None:
    known = waits.drop_columns(["until"])
    data = Dataset.of(known, label="since", intervals=True)
    both = Dataset.of(
        known.append_column("until", known["since"]), label="since+until", intervals=True
    )
    models = [XGBoost.of(AFT).fit(one, Run(threads=1)) for one in (data, both)]
    assert models[0].booster.save_raw("ubj") == models[1].booster.save_raw("ubj")
    folded = XGBoost.of({**AFT, "_kfold": 3}).fit(data, Run(threads=1))
    assert len(folded.boosters) == 3


def test_labels_that_are_no_interval_are_refused(waits: pa.Table) -> None:
    with pytest.raises(InvalidData, match="names an interval, and this fit takes one number"):
        Dataset.of(waits, label="since+until")
    with pytest.raises(InvalidData, match="label column 'til' is missing; did you mean 'until'"):
        Dataset.of(waits, label="since+til", intervals=True)
    ends = pa.table({"wait": [[1.0, 2.0], [3.0]], "x": [1, 2]})
    with pytest.raises(InvalidData, match=r"two numbers, the ends.* got \[3.0\] in row 2"):
        Dataset.of(ends, label="wait", intervals=True)
    turned = pa.table({"a": [1.0, 5.0], "b": [2.0, 4.0], "x": [1, 2]})
    data = Dataset.of(turned, label="a+b", intervals=True)
    with pytest.raises(InvalidData, match=r"0 <= lower <= upper.*, got 5 to 4 in row 2"):
        XGBoost.of(AFT).fit(data, Run(threads=1))
    with pytest.raises(InvalidHyperparameter, match="aft_\\* goes only with survival:aft"):
        XGBoost.of({"num_round": 1, "aft_loss_distribution": "normal"})


@pytest.mark.parametrize("kind", ["numbers", "words"])
def test_a_column_of_queries_ranks(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(1)
    queries = random.integers(0, 30, 300)
    columns = {name: random.normal(size=300) for name in INPUTS}
    label = np.digitize(columns["x0"] + random.normal(size=300), [0, 1])
    named = [f"q{query:02}" for query in queries] if kind == "words" else queries
    pq.write_table(pa.table({"label": label, "qid": named, **columns}), tmp_path / "a.parquet")
    algorithm = XGBoost.of({"num_round": 5, "objective": "rank:ndcg", "max_depth": 3})
    data = read(tmp_path / "a.parquet", algorithm)
    assert data.inputs.names == ("x0", "x1", "x2")
    model = algorithm.fit(data, Run(threads=1))
    order = np.argsort(queries, kind="stable")
    matrix = xgboost.QuantileDMatrix(
        data.features.take(pa.array(order)), label=label[order], qid=queries[order]
    )
    plain = xgboost.train({"objective": "rank:ndcg", "max_depth": 3, "nthread": 1}, matrix, 5)
    got = model.predict(data.features)["score"].to_numpy()
    assert np.abs(got - plain.predict(xgboost.DMatrix(data.features))).max() <= 1e-6
    # Where nothing is ranked, a column of that name is an input as any other.
    other = XGBoost.of({"num_round": 5, "objective": "reg:squarederror"})
    assert "qid" in read(tmp_path / "a.parquet", other).inputs.names


def test_a_column_of_weights_counts_where_that_is_said(waits: pa.Table, tmp_path: Path) -> None:
    weights = np.arange(300) % 4 / 2
    table = waits.drop_columns(["until"]).append_column("weight", pa.array(weights))
    pq.write_table(table, tmp_path / "a.parquet")
    algorithm = XGBoost.of({"num_round": 5, "csv_weights": 1, "max_depth": 3})
    data = read(tmp_path / "a.parquet", algorithm, label="since")
    assert data.inputs.names == ("x0", "x1", "x2")
    model = algorithm.fit(data, Run(threads=1))
    matrix = xgboost.QuantileDMatrix(data.features, label=data.labels(), weight=weights)
    plain = xgboost.train({"max_depth": 3, "nthread": 1}, matrix, 5)
    got = model.predict(data.features)["score"].to_numpy()
    assert np.abs(got - plain.predict(matrix)).max() <= 1e-6
    bare = Dataset.of(table.drop_columns(["weight"]), label="since", beside=algorithm.beside())
    with pytest.raises(InvalidData, match="csv_weights=1 and there are no weights: expected them"):
        algorithm.fit(bare, Run(threads=1))
    words = table.set_column(4, "weight", pa.array(["much"] * 300))
    with pytest.raises(InvalidData, match=r"is the weight of a row: expected a number.*'much'"):
        Dataset.of(words, label="since", beside=algorithm.beside())
