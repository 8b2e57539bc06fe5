"""No job goes without lineage: each leaves an event, and fails where none can be left."""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featurestore
import lineage
import training
from featurestore import (
    FeatureGroup,
    FeatureStoreError,
    feature_definitions,
)
from ingest import DeadLetters, FileSource, Pipeline
from ingest import replay as replay_letters
from training.replaying import replay as replay_model

HOURS = [f"2026-01-01T{hour:02}:00:00Z" for hour in range(20)]
ROWS = pa.table({"id": ["a"] * 20, "at": HOURS, "wind": [float(n % 7) for n in range(20)]})
GROUP = FeatureGroup(
    "weather",
    record_identifier="id",
    event_time="at",
    features=feature_definitions([("id", "String"), ("at", "String"), ("wind", "Fractional")]),
)

NUMBERS = itertools.count()
Job = Callable[[Any, Path], object]


def training_job(folder: Path, name: str) -> training.TrainingJob:
    path = folder / "data.parquet"
    if not path.exists():
        late = pa.table({"wind": ROWS["wind"], "late": [n % 2 for n in range(20)]})
        pq.write_table(late, path)
    return training.TrainingJob(
        training_job_name=name,
        algorithm_name="xgboost",
        hyper_parameters={"num_round": 2, "objective": "binary:logistic"},
        input_data_config=[
            training.Channel(channel_name="train", path=str(path), label="late"),
        ],
        resource_config=training.ResourceConfig(threads=1, device="cpu"),
    )


def spine() -> pa.Table:
    times = pa.array([dt.datetime(2026, 1, 1, 12, tzinfo=dt.UTC)], pa.timestamp("us", "UTC"))
    return pa.table({"id": ["a"], "event_time": times})


def ingest(store: Any, folder: Path) -> object:
    path = folder / "rows.jsonl"
    bad = {"id": "a", "at": "never", "wind": 1.0}
    good = {"id": "b", "at": HOURS[0], "wind": 1.0}
    path.write_text(json.dumps(good) + "\n" + json.dumps(bad) + "\n")
    letters = DeadLetters(folder / "letters")
    return Pipeline(FileSource(path), store, "weather", dead_letters=letters).run()


def train(store: Any, folder: Path) -> object:
    return training.train(store, training_job(folder, f"j{next(NUMBERS)}")).check()


def transform(store: Any, folder: Path) -> object:
    pq.write_table(pa.table({"wind": [1.0]}), folder / "ask.parquet")
    return training.transform("j0", folder / "ask.parquet", folder / "out.jsonl", home=store)


def replayed(store: Any, folder: Path) -> object:
    models = store.graph.find(type="Model")
    return replay_model(store, models[0].uid)


# Every way in which work begins, with what stands for it in lineage; each needs those before.
JOBS: dict[str, Job] = {
    "FeatureGroup": lambda store, folder: store.create_feature_group(GROUP),
    "Load": lambda store, folder: store.load("weather", ROWS, key="k"),
    "Ingest": ingest,
    "Replay": lambda store, folder: replay_letters(
        DeadLetters(folder / "letters"), store, "weather"
    ),
    "Seek": lambda store, folder: store.move_source("s", {"0": 5}, expected={}),
    "Backfill": lambda store, folder: store.backfill("weather"),
    "Rebuild": lambda store, folder: store.rebuild_online("weather"),
    "DatasetBuild": lambda store, folder: store.dataset(spine(), ["weather"]),
    "DatasetBuild (builder)": lambda store, folder: store.create_dataset("weather").build(),
    "TrainingJob": train,
    "TransformJob": transform,
    "Replay (model)": replayed,
    "Restore": lambda store, folder: store.restore("weather", 0),
    "Erasure": lambda store, folder: store.erase("weather", "a"),
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Any]:
    with featurestore.open(tmp_path / "home") as opened:
        yield opened


def test_every_job_leaves_an_event_and_none_runs_without(store: Any, tmp_path: Path) -> None:
    for name, job in JOBS.items():
        before = store.graph.store.head().sequence
        job(store, tmp_path)
        with store.graph.store.log(before) as (events, _):
            bodies = b"".join(event.body for event in events)
        assert f'"{name.partition(" ")[0]}"'.encode() in bodies, name
    open_ = [one for one in store.graph.find() if one.state == "InProgress"]
    assert open_ == []
    home = store.home
    store.close()

    # A file that is none of ours stands where the lineage was: nothing can be written, or wait.
    for file in home.glob("lineage.db*"):
        file.unlink()
    (home / "lineage.db").write_text("not a lineage file, and long enough to be seen as none\n" * 9)
    with featurestore.open(home) as broken:
        for name, job in JOBS.items():
            if name in ("FeatureGroup", "Load", "Replay"):
                continue  # done already under this name
            with pytest.raises((lineage.LineageError, FeatureStoreError, training.TrainingError)):
                job(broken, tmp_path)
        fresh = FeatureGroup("g2", "id", "at", GROUP.features)
        with pytest.raises((lineage.LineageError, FeatureStoreError)):
            broken.create_feature_group(fresh)
        with pytest.raises((lineage.LineageError, FeatureStoreError)):
            broken.load("weather", ROWS, key="another")
