"""`featureline lineage gc`: what goes, what stays and why, and replays that still come out."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

import featurestore
import lineage
import training
from featureline.cli.main import cli
from featureline.collecting import collect, plan_collection
from featurestore import FeatureGroup, InvalidRequest, feature_definitions
from training import Channel, TrainingJob

START = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
KEYS = [f"k{n}" for n in range(20)]
AT_ONCE = dt.timedelta(0)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Any]:
    with featurestore.open(home) as opened:
        opened.create_feature_group(
            FeatureGroup(
                "weather",
                record_identifier="origin",
                event_time="hour",
                features=feature_definitions(
                    [("origin", "String"), ("hour", "String"), ("temp", "Fractional")]
                ),
            )
        )
        yield opened


def flush(store: Any, temp: float) -> None:
    for key in KEYS:
        store.put("weather", {"origin": key, "hour": START.isoformat(), "temp": temp})
    store.flush("weather")


def dataset(store: Any, late: int) -> str:
    spine = pa.table(
        {
            "origin": KEYS,
            "event_time": pa.array([START] * len(KEYS), pa.timestamp("us", "UTC")),
            "late": [int(n >= late) for n in range(len(KEYS))],
        }
    )
    made = store.dataset(spine, ["weather[temp]"])
    made.save()
    return str(made.fingerprint)


def compact(store: Any) -> None:
    """Rewrite the table into one file, so that the older version's files are its alone."""
    table = store.offline_table(store.registry.get("weather"))
    table.open().optimize.compact()


def names(home: Path, pattern: str) -> set[str]:
    return {path.name for path in (home / "artifacts").glob(pattern)}


def test_what_goes_breaks_no_replay(store: Any, home: Path, tmp_path: Path) -> None:
    flush(store, 1.0)
    flush(store, 2.0)
    unused = dataset(store, 5)
    compact(store)
    used = dataset(store, 10)
    job = TrainingJob(
        training_job_name="late",
        algorithm_name="xgboost",
        hyper_parameters={"num_round": 2, "objective": "binary:logistic"},
        input_data_config=[Channel(channel_name="train", dataset=used, label="late")],
    )
    training.train(store, job).check()
    flush(store, 3.0)
    model = store.graph.find(type="Model")[-1]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "model").write_text("of somebody else")
    foreign = lineage.artifact("Model", (outside / "model").as_uri(), content_hash="1")
    idle = home / "artifacts" / "models" / "idle"
    idle.mkdir()
    (idle / "weights").write_bytes(b"x" * 1000)
    (idle / "link").symlink_to(outside)
    store.graph.record(
        [foreign, lineage.artifact("Model", idle.absolute().as_uri(), content_hash="2")], kind="T"
    )

    planned = plan_collection(store, keep=[model.uid], older_than=AT_ONCE)
    going = {(item.kind, Path(item.uri).stem): item for item in planned.going}
    assert ("model", "idle") in going
    assert ("dataset", unused) in going
    assert ("table", "weather") in {(item.kind, "weather") for item in planned.going}
    staying = {item.uid: item for item in planned.items if not item.goes}
    assert staying[model.uid].why == "named to be kept"
    [kept] = [item for item in staying.values() if item.kind == "dataset"]
    assert kept.chain[-1].startswith("Model ")
    assert len(kept.chain) == 3
    assert idle.is_dir()  # nothing is deleted by a plan

    done = collect(
        store,
        lambda: plan_collection(store, keep=[model.uid], older_than=AT_ONCE),
        older_than=AT_ONCE,
    )
    assert done.applied
    assert names(home, "models/*") == {model.content_hash}
    assert names(home, "datasets/*.parquet") == {f"{used}.parquet"}
    assert len(names(home, "spines/*")) == 1
    assert (outside / "model").read_text() == "of somebody else"
    graph = store.graph
    assert {entity.name for entity in graph.find(type="Model") if entity.state == "Deleted"} == {
        "idle"
    }
    assert [e.state for e in graph.find(type="DataSet", name=f"dataset {unused[:12]}")] == [
        "Deleted"
    ]
    action = graph.entity(done.recorded)
    assert action.state == "Completed"
    assert action.properties["bytes"] == done.size_bytes
    assert graph.verify(projections=True).intact
    assert training.replay(store, model.uid).verdict == "equal"
    with pytest.raises(InvalidRequest, match="cannot be read any more"):
        store.offline_table(store.registry.get("weather")).scan(version=going_version(store))
    again = plan_collection(store, keep=[model.uid], older_than=AT_ONCE)
    assert not [item for item in again.going if item.kind in ("model", "dataset", "job")]


def going_version(store: Any) -> int:
    """The version of the table that only the unused dataset has read."""
    [gone] = [v for v in store.graph.find(type="FeatureGroupVersion") if v.state == "Deleted"]
    return int(gone.properties["table_version"])


def test_the_command_and_its_mistakes(store: Any, home: Path) -> None:
    flush(store, 1.0)
    fingerprint = dataset(store, 5)
    store.close()

    def run(*arguments: str) -> Any:
        return CliRunner().invoke(
            cli, ["lineage", "gc", "--home", str(home), *arguments], catch_exceptions=False
        )

    young = json.loads(run("--json").output)
    [item] = [one for one in young["items"] if one["kind"] == "dataset"]
    assert (item["goes"], item["why"]) == (False, "younger than 30 days")
    text = run("--older-than", "0d").output
    assert f"{fingerprint}.parquet: nothing in use comes from it" in text
    assert "--apply deletes it" in text
    assert "no such option" in run("--all").output.lower()
    assert "expected a number" in run("--older-than", "month").output
    assert run("--older-than", "0d", "--kind", "model", "--apply").exit_code == 0
    assert names(home, "datasets/*.parquet")
    assert json.loads(run("--older-than", "0d", "--apply", "--json").output)["applied"]
    assert not names(home, "*/*")
