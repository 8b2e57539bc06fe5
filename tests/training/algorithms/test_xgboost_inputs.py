"""What XGBoost reads: content types, weights and the queries of rankings."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import xgboost

from training import metrics
from training.algorithms.tabular.boosting.learner import XGBoost
from training.data import Dataset, read_dataset
from training.errors import InvalidData
from training.formats.recordio_protobuf import encode
from training.run import MemorySink, Run

CLASSIFY = {"num_round": 10, "objective": "binary:logistic", "max_depth": 3}
TYPES = {
    "text/csv": "part.csv",
    "text/libsvm": "part.libsvm.gz",
    "application/jsonlines": "part.jsonl",
    "application/x-recordio-protobuf": "part.pbr",
}


@pytest.fixture(scope="module")
def numbers() -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    rows = random.normal(size=(300, 4)).astype(np.float32)
    return rows, (rows[:, 0] - rows[:, 1] + random.normal(size=300) > 0).astype(np.float64)


def written(content_type: str, rows: Any, target: Any) -> bytes:
    match content_type:
        case "text/csv":
            lines = ([y, *row] for y, row in zip(target.tolist(), rows.tolist(), strict=True))
            return "\n".join(",".join(map(repr, line)) for line in lines).encode()
        case "text/libsvm":
            lines = [
                f"{y:g} " + " ".join(f"{place}:{value!r}" for place, value in enumerate(row))
                for y, row in zip(target, rows.tolist(), strict=True)
            ]
            return gzip.compress("\n".join(lines).encode())
        case "application/jsonlines":
            return "\n".join(
                json.dumps({"features": row, "label": y})
                for y, row in zip(target, rows.tolist(), strict=True)
            ).encode()
    flat = pa.array(rows.ravel())
    features = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    return encode(pa.table({"label": target.astype(np.float32), "features": features}))


@pytest.mark.parametrize("content_type", TYPES)
def test_every_content_type_gives_the_same_trees(
    tmp_path: Path, numbers: tuple[Any, Any], content_type: str
) -> None:
    rows, target = numbers
    path = tmp_path / TYPES[content_type]
    path.write_bytes(written(content_type, rows, target))
    assert content_type in XGBoost.channels[0].content_types
    data = read_dataset(path, channel="train", content_type=content_type)
    model = XGBoost.of(CLASSIFY).fit(data, Run(threads=1))
    plain = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1},
        xgboost.QuantileDMatrix(rows, label=target),
        10,
    )
    expected = plain.predict(xgboost.DMatrix(rows))
    got = model.predict(data.features)["score"].to_numpy()
    assert np.abs(got - expected).max() <= 1e-6


def test_the_second_csv_column_is_a_weight_where_that_is_said(
    tmp_path: Path, numbers: tuple[Any, Any]
) -> None:
    rows, target = numbers
    weights = np.arange(len(rows)) % 3
    path = tmp_path / "part.csv"
    columns = np.column_stack([target, weights, rows.astype(np.float64)])
    path.write_text("\n".join(",".join(map(repr, line)) for line in columns.tolist()))
    algorithm = XGBoost.of({**CLASSIFY, "csv_weights": 1})
    data = read_dataset(path, channel="train", reading=algorithm.reading())
    assert data.inputs.names == ("f0", "f1", "f2", "f3")
    assert data.weights is not None
    sink = MemorySink()
    model = algorithm.fit(data, Run(threads=1, sink=sink))
    # A weight of 0 is a row that is not there, one of 2 a row that is there twice.
    repeated = np.repeat(np.arange(len(rows)), weights)
    score = model.predict(data.features)["score"].to_numpy()
    expected = metrics.logloss(target[repeated], score[repeated])
    assert sink.metrics["train:logloss"] == pytest.approx(expected, abs=1e-6)
    plain = xgboost.train(
        {"objective": "binary:logistic", "max_depth": 3, "nthread": 1},
        xgboost.QuantileDMatrix(data.matrix(), label=target, weight=weights),
        10,
    )
    assert np.abs(score - plain.predict(xgboost.DMatrix(rows))).max() <= 1e-6
    # What is asked has neither a label nor a weight, and its columns have the same names.
    (tmp_path / "asked.csv").write_text("\n".join(",".join(map(repr, r)) for r in rows.tolist()))
    asked = read_dataset(
        tmp_path / "asked.csv",
        channel="asked",
        content_type="text/csv;label_size=0",
        inputs=data.inputs,
        labels="optional",
    )
    assert model.predict(asked.features)["score"].to_numpy() == pytest.approx(score, abs=1e-6)
    without = read_dataset(path, channel="train", reading=XGBoost.of(CLASSIFY).reading())
    assert without.inputs.names == ("f0", "f1", "f2", "f3", "f4")


def test_a_weight_below_zero_is_refused_by_row(numbers: tuple[Any, Any]) -> None:
    rows, target = numbers
    data = ranked(rows, target, weights=np.where(np.arange(len(rows)) == 4, -1.0, 1.0))
    with pytest.raises(InvalidData, match="train: weights are numbers >= 0, got -1 in row 5"):
        XGBoost.of(CLASSIFY).fit(data, Run(threads=1))


def ranked(rows: Any, target: Any, *, groups: Any = None, weights: Any = None) -> Dataset:
    table = pa.table({"label": target, **{f"f{n}": rows[:, n] for n in range(rows.shape[1])}})
    data = Dataset.of(table)
    return Dataset(
        data.features, data.target, data.inputs, groups=groups, weights=weights, channel="train"
    )


@pytest.fixture(scope="module")
def queries() -> tuple[Any, Any, Any]:
    random = np.random.default_rng(1)
    rows = random.normal(size=(400, 3)).astype(np.float32)
    groups = random.integers(0, 40, 400)
    gain = rows[:, 0] + 0.5 * random.normal(size=400)
    return rows, np.digitize(gain, [0.0, 1.0]).astype(np.float64), groups


@pytest.mark.parametrize("objective", ["rank:pairwise", "rank:ndcg", "rank:map"])
def test_rows_are_ranked_within_their_query_in_any_order(
    queries: tuple[Any, Any, Any], objective: str
) -> None:
    rows, target, groups = queries
    if objective == "rank:map":
        target = np.minimum(target, 1)
    # The library measures map on two classes only.
    measures = "map,ndcg@5" if objective == "rank:map" else "ndcg@5"
    values = {"num_round": 10, "max_depth": 3, "objective": objective, "eval_metric": measures}
    sink = MemorySink()
    model = XGBoost.of(values).fit(ranked(rows, target, groups=groups), Run(threads=1, sink=sink))
    order = np.argsort(groups, kind="stable")
    sizes = np.unique(groups, return_counts=True)[1]
    matrix = xgboost.QuantileDMatrix(rows[order], label=target[order], group=sizes)
    plain = xgboost.train({"objective": objective, "max_depth": 3, "nthread": 1}, matrix, 10)
    asked = pa.table({f"f{n}": rows[:, n] for n in range(3)})
    score = model.predict(asked)["score"].to_numpy()
    assert np.abs(score - plain.predict(xgboost.DMatrix(rows))).max() <= 1e-6
    within = []
    for query in np.unique(groups):
        chosen = groups == query
        gains = 2.0 ** target[chosen] - 1
        discount = 1 / np.log2(np.arange(2, 7))
        best = np.sort(gains)[::-1][:5]
        got = gains[np.argsort(-score[chosen], kind="stable")][:5]
        ideal = best @ discount[: len(best)]
        within.append(got @ discount[: len(got)] / ideal if ideal else 1.0)
    assert sink.metrics["train:ndcg@5"] == pytest.approx(np.mean(within), abs=1e-5)
    assert sink.metrics["train:ndcg@5"] > 0.8


def test_libsvm_brings_queries_and_their_weights(tmp_path: Path) -> None:
    lines = [f"{row % 3}:{1 + row // 4} qid:{row // 4} 0:{row % 3} 1:{row}" for row in range(20)]
    path = tmp_path / "part.libsvm"
    path.write_text("\n".join(lines))
    data = read_dataset(path, channel="train")
    values = {"num_round": 3, "objective": "rank:ndcg"}
    sink = MemorySink()
    model = XGBoost.of(values).fit(data, Run(threads=1, sink=sink))
    assert len(model.predict(data.features)) == 20
    assert data.weights is not None
    uneven = data.take(np.arange(20))
    assert uneven.weights is not None
    uneven.weights[1] = 7
    with pytest.raises(InvalidData, match="of a query need one weight, and query 0 has 1 and 7"):
        XGBoost.of(values).fit(uneven, Run(threads=1))


def test_a_ranking_without_queries_is_refused(queries: tuple[Any, Any, Any]) -> None:
    rows, target, _ = queries
    with pytest.raises(InvalidData, match=r"rank:\* ranks the rows of a query.* qid:NUMBER"):
        XGBoost.of({"num_round": 3, "objective": "rank:ndcg"}).fit(
            ranked(rows, target), Run(threads=1)
        )
