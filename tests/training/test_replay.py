"""A model trained again from its lineage, and what it says when the world has changed."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featurestore
import training
from featurestore import FeatureGroup, feature_definitions
from training import Channel, InvalidJob, ModelNotFound, ReplayReport, TrainingJob
from training.artifact import MANIFEST

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
KEYS = [f"k{n}" for n in range(40)]


@pytest.fixture
def store(home: Path):
    with featurestore.open(home) as opened:
        yield opened


def weather(store: Any) -> None:
    store.create_feature_group(
        FeatureGroup(
            "weather",
            record_identifier="origin",
            event_time="hour",
            features=feature_definitions(
                [("origin", "String"), ("hour", "String"), ("temp", "Fractional")]
            ),
        )
    )
    for n, key in enumerate(KEYS):
        store.put("weather", {"origin": key, "hour": START.isoformat(), "temp": float(n)})
    store.flush("weather")


def dataset_job(store: Any) -> TrainingJob:
    spine = pa.table(
        {
            "origin": KEYS,
            "event_time": pa.array([START] * len(KEYS), pa.timestamp("us", "UTC")),
            "late": [int(n >= len(KEYS) // 2) for n in range(len(KEYS))],
        }
    )
    dataset = store.dataset(spine, ["weather[temp]"])
    dataset.save()
    return TrainingJob(
        training_job_name="late",
        algorithm_name="xgboost",
        hyper_parameters={"num_round": 5, "objective": "binary:logistic", "subsample": 0.5},
        input_data_config=[
            Channel(channel_name="train", dataset=dataset.fingerprint, label="late")
        ],
    )


def model_of(store: Any) -> str:
    return str(store.graph.find(type="Model")[-1].uid)


def verdicts(report: ReplayReport) -> dict[str, str]:
    return {step.name: step.verdict for step in report.steps}


def test_a_model_of_a_dataset_comes_out_bit_for_bit(store: Any, tmp_path: Path) -> None:
    weather(store)
    made = training.train(store, dataset_job(store)).check()
    # What came in meanwhile is in no version that the dataset names.
    store.put("weather", {"origin": "k1", "hour": START.isoformat(), "temp": 99.0})
    store.flush("weather")

    report = training.replay(store, model_of(store), keep=tmp_path / "again")

    assert report.verdict == "equal", report.to_text()
    assert set(verdicts(report).values()) == {"equal"}, report.to_text()
    assert next(iter(verdicts(report))) == "dataset train"
    assert list(verdicts(report))[-1] == "model"
    assert report.first_difference is None
    again = json.loads((tmp_path / "again" / MANIFEST).read_text("utf-8"))
    assert again["digest"] == made.digest == report.digest
    told = store.graph.entity(report.recorded)
    assert (told.type, told.state, told.properties["verdict"]) == ("Replay", "Completed", "equal")
    assert report.model in {one.uid for one in store.graph.query(told, "ascendants", depth=1)}
    assert not list((store.home / "tmp").glob("replay-*"))
    assert "equal, bit for bit" in report.to_text()


def test_a_feature_is_followed_into_the_model_and_its_importance(store: Any) -> None:
    weather(store)
    training.train(store, dataset_job(store)).check()
    group = store.graph.find(type="FeatureGroup")[0]
    reached = store.graph.columns(group, "temp", "descendants")
    assert [(column.column, column.depth) for column in reached] == [
        ("temp", 0),
        ("temp", 1),
        ("temp", 2),
    ]
    assert reached.columns[-1].entity == model_of(store)
    assert reached.links[-1].properties == {"importance": 1.0}
    back = store.graph.columns(model_of(store), "temp")
    assert group.uid in {column.entity for column in back}
    assert {link.subtype for link in back.links} >= {"IDENTITY", "TRANSFORMATION", "JOIN"}


def test_other_data_is_named_as_the_first_difference(
    store: Any, make_job: Callable[..., TrainingJob], flight_files: dict[str, Path]
) -> None:
    training.train(store, make_job()).check()
    changed = pq.read_table(flight_files["train"]).slice(0, 300)
    kept = store.home / "jobs" / "flights-1" / "input" / "data" / "train" / "train.parquet"
    kept.unlink()
    pq.write_table(changed, kept)

    report = training.replay(store, model_of(store))

    assert report.verdict == "differs"
    assert report.first_difference is not None
    assert report.first_difference.name == "data train"
    assert "<- the first difference" in report.to_text()


def test_a_dataset_that_cannot_be_built_again_is_not_taken_for_equal(store: Any) -> None:
    weather(store)
    job = dataset_job(store)
    training.train(store, job).check()
    next(store.home.glob("artifacts/spines/*.arrow")).unlink()
    report = training.replay(store, model_of(store))
    step = report.steps[0]
    assert (step.name, step.verdict) == ("dataset train", "unknown")
    assert "spine" in step.note
    assert report.verdict == "equal"  # the dataset's file is still there


def test_what_cannot_be_replayed_says_why(store: Any, tmp_path: Path) -> None:
    import lineage

    store.graph.record([lineage.artifact("Model", "s3://b/m", content_hash="1")], kind="T")
    with pytest.raises(ModelNotFound, match="names no training job"):
        training.replay(store, model_of(store))
    with pytest.raises(ModelNotFound, match="does not exist"):
        training.replay(store, "nothing")
    with pytest.raises(InvalidJob, match="exists"):
        training.replay(store, model_of(store), keep=tmp_path)


@pytest.mark.parametrize(("data_type", "mode"), [("S3Prefix", "Pipe"), ("ManifestFile", "File")])
def test_files_in_an_order_of_their_own_are_read_again_in_that_order(
    data_type: str,
    mode: str,
    store: Any,
    make_job: Callable[..., TrainingJob],
    tmp_path: Path,
    flights: Any,
) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in range(4):
        pq.write_table(flights.slice(number * 150, 150), folder / f"{number}.parquet")
    path = folder
    if data_type == "ManifestFile":
        path = tmp_path / "order.json"
        names = [f"{number}.parquet" for number in (2, 0, 3, 1)]
        path.write_text(json.dumps([{"prefix": f"{folder}/"}, *names]))
    channel = Channel(
        channel_name="train",
        path=str(path),
        data_type=data_type,
        input_mode=mode,
        label="late",
        shuffle_seed=5 if data_type == "S3Prefix" else None,
    )
    # Drawing rows makes a model depend on their order.
    job = make_job(channels=[channel], hyper_parameters={"subsample": 0.5})
    training.train(store, job).check()
    for file in folder.iterdir():
        file.unlink()
    report = training.replay(store, model_of(store))
    assert report.verdict == "equal", report.to_text()
    assert set(verdicts(report).values()) == {"equal"}, report.to_text()
