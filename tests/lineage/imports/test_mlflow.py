"""MLflow: runs that MLflow itself logged, read into the graph."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lineage import Graph, InvalidImport, MemoryStore, derived_uid
from lineage.entity import artifact
from lineage.imports import import_mlflow


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """A store with two experiments, three runs, a dataset, artifacts and a logged model."""
    from mlflow import MlflowClient
    from mlflow.entities import Dataset, DatasetInput, InputTag

    folder = tmp_path_factory.mktemp("mlflow") / "mlruns"
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    try:
        client = MlflowClient(folder.as_uri())
        flights = client.create_experiment("flights", tags={"team": "ops"})
        client.create_experiment("empty")
        run = client.create_run(flights, run_name="train").info.run_id
        client.log_param(run, "eta", 0.1)
        for step, value in enumerate((40.0, 33.5)):
            client.log_metric(run, "rmse", value, step=step)
        client.log_metric(run, "odd", float("nan"))
        client.set_tag(run, "team", "ops")
        given = Dataset(
            "flights", "ab12", "s3", '{"uri": "s3://b/flights.parquet"}', '{"x": "long"}', "3 rows"
        )
        no_uri = Dataset("in memory", "cd34", "code", '{"tags": {}}')
        bad = Dataset("bad", "two words", "s3", "s3://b/bad")
        client.log_inputs(
            run,
            [
                DatasetInput(given, [InputTag("mlflow.data.context", "training")]),
                DatasetInput(no_uri),
                DatasetInput(bad),
            ],
        )
        client.log_text(run, "hello", "notes.txt")
        client.log_text(run, "flavors: {}", "model/MLmodel")
        client.log_text(run, "x", "plots/a.txt")
        model = client.create_logged_model(flights, name="delays", source_run_id=run).model_id
        client.set_terminated(run)
        child = client.create_run(flights, run_name="child", tags={"mlflow.parentRunId": run})
        client.set_terminated(child.info.run_id, "FAILED")
        open_run = client.create_run(flights, run_name="still going").info.run_id
        yield SimpleNamespace(
            folder=folder,
            client=client,
            run=run,
            child=child.info.run_id,
            going=open_run,
            model=model,
        )
    finally:
        del os.environ["MLFLOW_ALLOW_FILE_STORE"]


@pytest.fixture
def graph() -> Graph:
    return Graph(MemoryStore())


def test_runs_become_trial_components(graph: Graph, logged: SimpleNamespace) -> None:
    read = import_mlflow(graph, logged.folder, actor="importer")
    run = graph.entity(f"runs:/{logged.run}")
    assert (run.kind.value, run.type, run.name) == ("TrialComponent", "MLflowRun", "train")
    assert run.state == "Completed"
    assert run.properties["parameters"] == {"eta": "0.1"}
    assert run.properties["metrics"] == {"rmse": 33.5, "odd": "nan"}
    tags = run.properties["tags"]
    assert isinstance(tags, dict)
    assert tags["team"] == "ops"
    execution = graph.runs(run)[0]
    assert execution.state == "Completed"
    assert execution.started_us is not None
    assert execution.ended_us is not None
    assert execution.ended_us >= execution.started_us
    child = graph.entity(f"runs:/{logged.child}")
    assert child.state == "Failed"
    assert graph.tags(child) == {"experiment": "flights", "parent_run": run.uid}
    assert graph.entity(f"runs:/{logged.going}").state == "InProgress"
    assert {e.name for e in graph.tagged("experiment", "flights")} == {
        "train",
        "child",
        "still going",
    }
    experiments = {e.name for e in graph.find(type="MLflowExperiment")}
    assert experiments >= {"mlflow:flights", "mlflow:empty"}
    assert len(read.notes) == 1
    assert "dataset 'bad'" in read.notes[0]
    assert graph.verify(projections=True).intact


def test_what_went_in_and_came_out(graph: Graph, logged: SimpleNamespace) -> None:
    import_mlflow(graph, logged.folder)
    run = graph.entity(f"runs:/{logged.run}")
    inputs = {e.name: e for e in graph.query(run, depth=1) if e.uid != run.uid}
    assert set(inputs) == {"flights", "in memory"}
    flights = inputs["flights"]
    assert flights.uid == derived_uid(
        artifact("DataSet", "s3://b/flights.parquet", content_hash="ab12")
    )
    assert flights.properties["schema"] == {"x": "long"}
    assert flights.properties["profile"] == "3 rows"
    assert run.properties["inputs"] == [
        {"name": "flights", "digest": "ab12", "context": "training"},
        {"name": "in memory", "digest": "cd34", "context": ""},
    ]
    result = graph.query(run, "descendants", depth=1)
    outputs = {(e.type, e.name) for e in result if e.uid != run.uid}
    assert outputs == {
        ("Model", "delays"), ("Model", "model"), ("File", "notes.txt"), ("Folder", "plots"),
    }  # fmt: skip
    assert {a.type.value for a in result.associations} == {"Produced"}
    assert graph.entity(f"models:/{logged.model}").name == "delays"


def test_only_what_changed_is_recorded(
    graph: Graph, logged: SimpleNamespace, tmp_path: Path
) -> None:
    from mlflow import MlflowClient

    folder = shutil.copytree(logged.folder, tmp_path / "mlruns")
    first = import_mlflow(graph, folder)
    events = graph.stats()["events"]
    assert events == first.events
    assert import_mlflow(graph, str(folder)) == first
    assert graph.stats()["events"] == events
    client = MlflowClient(folder.as_uri())
    client.log_metric(logged.going, "rmse", 30.0)
    client.update_run(logged.going, name="renamed")
    client.set_terminated(logged.going, "KILLED")
    import_mlflow(graph, folder.as_uri())
    assert graph.stats()["events"] == events + 1
    ended = graph.entity(f"runs:/{logged.going}")
    assert (ended.state, ended.name) == ("Stopped", "still going")
    assert ended.properties["run_name"] == "renamed"
    assert [run.state for run in graph.runs(ended)] == ["Stopped"]


def test_what_cannot_be_read_is_noted(
    graph: Graph, logged: SimpleNamespace, tmp_path: Path
) -> None:
    folder = shutil.copytree(logged.folder, tmp_path / "mlruns")
    (meta,) = folder.glob(f"*/{logged.child}/meta.yaml")
    (empty,) = folder.glob(f"*/{logged.going}/meta.yaml")
    (other,) = (one for one in folder.glob("*/meta.yaml") if "name: empty" in one.read_text())
    for torn in (meta, other):
        torn.write_text("torn: [")
    empty.write_text("")
    read = import_mlflow(graph, folder)
    notes = [note for note in read.notes if "dataset" not in note]
    assert {note.partition(":")[0] for note in notes} == {
        f"run {logged.child}",
        f"run {logged.going}",
        f"experiment {other.parent.name}",
    }
    assert graph.entity(f"runs:/{logged.run}").state == "Completed"


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("nowhere", "expected a folder of an MLflow tracking store"),
        ("", "expected a folder of an MLflow tracking store"),
        ("sqlite:///nowhere.db", "there is no such file"),
        ("what://ever", "MLflow cannot read it"),
    ],
)
def test_what_is_no_store_is_refused_and_not_made(
    graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidImport, match=problem):
        import_mlflow(graph, uri)
    assert list(tmp_path.iterdir()) == []
    assert graph.stats()["events"] == 0


def test_the_environment_stays_as_it_was(
    graph: Graph, logged: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for value in (None, "false"):
        if value is None:
            monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
        else:
            monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", value)
        import_mlflow(graph, logged.folder)
        assert os.environ.get("MLFLOW_ALLOW_FILE_STORE") == value


def test_without_mlflow_the_extra_is_named(
    graph: Graph, logged: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InvalidImport, match=r"featureline\[mlflow\]"):
        import_mlflow(graph, logged.folder)
