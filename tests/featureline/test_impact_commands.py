"""`featureline lineage impact|records|replay` as a person meets them."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

import featurestore
import training
from featureline.cli.main import cli
from featurestore import FeatureGroup, InvalidRequest, feature_definitions

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a group whose identifiers are numbers, a dataset of it, and a model."""
    folder = tmp_path_factory.mktemp("impact") / "home"
    with featurestore.open(folder) as store:
        store.create_feature_group(
            FeatureGroup(
                "weather",
                record_identifier="station",
                event_time="hour",
                features=feature_definitions(
                    [("station", "Integral"), ("hour", "String"), ("temp", "Fractional")]
                ),
            )
        )
        for n in range(20):
            store.put("weather", {"station": n, "hour": START.isoformat(), "temp": float(n)})
        store.flush("weather")
        spine = pa.table(
            {
                "station": list(range(20)),
                "event_time": pa.array([START] * 20, pa.timestamp("us", "UTC")),
                "late": [n % 2 for n in range(20)],
            }
        )
        dataset = store.dataset(spine, ["weather[temp]"])
        dataset.save()
        job = training.TrainingJob(
            training_job_name="late",
            algorithm_name="xgboost",
            hyper_parameters={"num_round": 2},
            input_data_config=[
                training.Channel(channel_name="train", dataset=dataset.fingerprint, label="late")
            ],
        )
        training.train(store, job).check()
    return folder


def run(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["lineage", *arguments, "--home", str(home)])


def body(result: Result) -> Any:
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_record_leads_to_its_model_and_back(home: Path, tmp_path: Path) -> None:
    report = body(run(home, "impact", "weather", "7", "--event-time", START.isoformat(), "--json"))
    assert [hit["rows"] for hit in report["datasets"]] == [1]
    [model] = [one["uid"] for one in report["downstream"] if one["type"] == "Model"]
    found = body(run(home, "records", model, "--json"))
    assert {one["record_identifier"] for one in found} == {str(n) for n in range(20)}
    out = tmp_path / "records.parquet"
    assert body(run(home, "records", "late", "--out", str(out), "--json"))["records"] == 20
    assert len(pq.read_table(out)) == 20
    assert "1 model(s)" in run(home, "impact", "weather", "7").stdout


def test_a_model_is_trained_again(home: Path, tmp_path: Path) -> None:
    [model] = [
        one["uid"]
        for one in body(run(home, "impact", "weather", "7", "--json"))["downstream"]
        if one["type"] == "Model"
    ]
    result = run(home, "replay", model, "--keep", str(tmp_path / "again"))
    assert result.exit_code == 0, result.output
    assert "equal, bit for bit" in result.stdout
    assert (tmp_path / "again" / "manifest.json").is_file()


def test_wrong_arguments_are_told_apart(home: Path, tmp_path: Path) -> None:
    assert (
        "expected a zone"
        in run(home, "impact", "weather", "7", "--event-time", "2026-01-01").output
    )
    assert "expected ISO 8601" in run(home, "impact", "weather", "7", "--event-time", "x").output
    refused = run(home, "impact", "weather", "seven").exception
    assert isinstance(refused, InvalidRequest)
    assert "type Integral, got 'seven'" in str(refused)
    assert ".parquet or .csv" in run(home, "records", "late", "--out", "x.txt").output
    nothing = tmp_path / "none.csv"
    assert isinstance(
        run(home, "records", "weather", "--out", str(nothing)).exception, InvalidRequest
    )
    assert not nothing.exists()
