from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from training import predict_file, replies
from training.algorithms.tabular.boosting.learner import XGBoost
from training.algorithms.tabular.boosting.model import XGBoostModel
from training.data import Dataset
from training.errors import InvalidData
from training.run import Run


@pytest.fixture(scope="module")
def model(flights: pa.Table) -> XGBoostModel:
    algorithm = XGBoost(num_round=5, objective="binary:logistic")
    return algorithm.fit(Dataset.of(flights, label="late"), Run(threads=1))


def test_every_row_of_a_file_gets_one_reply_in_order(
    model: XGBoostModel, tmp_path: Path, later_flights: pa.Table
) -> None:
    path = tmp_path / "later.parquet"
    pq.write_table(later_flights, path)
    expected = model.predict(later_flights)["score"].to_pylist()
    lines = [json.dumps(reply) for reply in predict_file(model, path)]
    assert [json.loads(line) for line in lines] == [{"score": score} for score in expected]


def test_many_rows_are_answered_in_batches(model: XGBoostModel, later_flights: pa.Table) -> None:
    many = pa.concat_tables([later_flights] * 300)
    expected = model.predict(later_flights)["score"].to_pylist() * 300
    assert [reply["score"] for reply in replies(model, many)] == expected


@pytest.mark.parametrize("content_type", [None, "text/csv", "text/csv;label_size=0"])
def test_csv_for_prediction_has_no_label(
    tmp_path: Path, flights: pa.Table, content_type: str | None
) -> None:
    rows = flights.select(["late", "wind", "delay"])
    model = XGBoost(num_round=3).fit(
        Dataset.of(rows.rename_columns(["label", "f0", "f1"])), Run(threads=1)
    )
    path = tmp_path / "rows.csv"
    options = pyarrow.csv.WriteOptions(include_header=False)
    pyarrow.csv.write_csv(rows.drop_columns(["late"]), path, options)
    found = [reply["score"] for reply in predict_file(model, path, content_type=content_type)]
    expected = model.predict(rows.rename_columns(["label", "f0", "f1"]))["score"].to_pylist()
    assert found == pytest.approx(expected, abs=1e-6)
    pyarrow.csv.write_csv(rows, path, options)
    with pytest.raises(InvalidData, match=r"rows\.csv: expected 2 values in a row, got 3; .*label"):
        list(predict_file(model, path, content_type=content_type))


def test_a_file_that_lacks_a_column_is_refused_by_name(model: XGBoostModel, tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"wind": [1.0]}), path)
    with pytest.raises(InvalidData, match="input: column 'delay' is missing"):
        list(predict_file(model, path))


def test_several_scores_are_a_list(flights: pa.Table) -> None:
    data = Dataset.of(flights.select(["late", "wind"]), label="late")
    soft = XGBoost(num_round=2, objective="multi:softprob", num_class=2).fit(data, Run(threads=1))
    (reply,) = replies(soft, flights.slice(0, 1))
    assert len(reply["score"]) == 2
