"""What is done to lineage over gRPC: imports, replay, rebuilding, collection; who may, who did."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import featurestore
import lineage
import training
from featurestore.auth import AccessDatabase, Guard
from lineage.openlineage import Emitter, Outward, import_file, open_sink
from tests.inprocess import Ended, run_command
from tests.server.conftest import WEATHER, Loop, Serving
from training import Channel, TrainingJob
from training.kept_model import ArrivingModel, LeavingModel
from training.v1 import training_pb2, training_pb2_grpc

READS = ["sagemaker:QueryLineage", "featureline:Describe*", "featureline:*Entities"]
MAY = {
    "importer": ["featureline:RecordLineage", *READS],
    "keeper": [
        *("featureline:CollectGarbage", "featureline:RebuildGraph", "featureline:ReplaySpool"),
        *("featureline:ExportGraph", "featureline:DescribeGraph"),
        *("featureline:VerifyLog", *READS),
    ],
    "trainer": ["featureline:ReplayModel", *READS],
    "receiver": ["featureline:ReplayModel", "featureline:ReadModel", *READS],
    "teller": ["featureline:ListOpenLineageEvents", *READS],
    "reader": READS,
}


@pytest.fixture(scope="module")
def served(
    loop: Loop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Serving, Callable[..., Ended]]]:
    """A server that asks for tokens, and a command line that shows that of somebody."""
    home = tmp_path_factory.mktemp("served")
    tokens = {}
    with closing(AccessDatabase(home)) as access:
        for name, actions in MAY.items():
            allow = {"Effect": "Allow", "Action": actions, "Resource": "*"}
            access.put_policy(name, json.dumps({"Statement": [allow]}))
            tokens[name] = access.create_token(name, policies=[name]).text
    guard = Guard.open(home)
    serving = Serving(loop, home, "grpc", guard=guard)

    def run(name: str, *arguments: object) -> Ended:
        return run_command(
            "lineage", *arguments, "--connect", serving.address, FEATURELINE_TOKEN=tokens[name]
        )

    run.tokens = tokens  # type: ignore[attr-defined]
    yield serving, run
    serving.stop()
    guard.close()


def audited(serving: Serving, action: str) -> list[tuple[str, str]]:
    """Who called for an action, and what came of it."""
    lines = map(json.loads, (serving.home / "audit.log").read_text().splitlines())
    return [
        (line["principal"], line["outcome"])
        for line in lines
        if line["action"] == f"featureline:{action}"
    ]


def actors(serving: Serving, kind: str) -> set[str]:
    return {event.actor for event in serving.store.graph.events(kinds=[kind])}


def wait_for(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


def event(run: int) -> dict[str, Any]:
    return {
        "eventType": "COMPLETE",
        "eventTime": "2026-01-31T12:00:00Z",
        "run": {"runId": f"01890a5d-ac96-774b-bcce-b302099a80{run:02}"},
        "job": {"namespace": "airflow", "name": f"load-{run}"},
        "inputs": [{"namespace": "s3://bucket", "name": "raw"}],
        "outputs": [
            {
                "namespace": "s3://bucket",
                "name": f"flights-{run}",
                "facets": {"schema": {"fields": [{"name": "delay", "type": "DOUBLE"}]}},
            }
        ],
    }


def shape(graph: Any) -> list[Any]:
    """What a walk finds, without when it was recorded."""
    found = graph.query("s3://bucket/raw", "descendants")
    return [
        [(e.uid, e.type, e.state, e.properties, e.facets) for e in found],
        sorted((one.source, one.destination, one.type) for one in found.associations),
    ]


def test_events_of_openlineage_are_imported_as_here(
    served: tuple[Serving, Callable[..., Ended]], tmp_path: Path
) -> None:
    serving, run = served
    lines = [json.dumps(event(number)) for number in range(3)]
    (tmp_path / "events.ndjson").write_text("\n".join([*lines, '{"run": 1}', ""]))
    command = ("import", "openlineage", tmp_path / "events.ndjson", "--json")

    done = run("importer", *command)

    assert done.returncode == 1, done.stderr  # one line is refused, and the others are in
    [said] = json.loads(done.stdout)["files"]
    assert (said["events"], [one["line"] for one in said["refused"]]) == (3, [4])
    with lineage.Graph(lineage.MemoryStore()) as here:
        import_file(here, tmp_path / "events.ndjson")
        assert shape(serving.store.graph) == shape(here)
    before = serving.store.graph.last_sequence()
    assert run("importer", *command).returncode == 1
    assert serving.store.graph.last_sequence() == before  # the same events change nothing

    refused = run("reader", *command)
    assert refused.returncode != 0
    assert "featureline:RecordLineage" in refused.stderr
    assert audited(serving, "RecordLineage")[-1] == ("reader", "PERMISSION_DENIED")
    assert ("importer", "OK") in audited(serving, "RecordLineage")


def test_a_graph_of_another_is_imported(
    served: tuple[Serving, Callable[..., Ended]], tmp_path: Path
) -> None:
    serving, run = served
    with lineage.Graph(lineage.MemoryStore()) as other:
        data = lineage.artifact("DataSet", "s3://other/data", content_hash="1", state="Ready")
        job = lineage.trial_component("TrainingJob", "elsewhere")
        other.record([data, job], [(data, job, "ContributedTo")], kind="T", tags=[(data, "a", "b")])
        other.export(tmp_path / "graph.ndjson")

    done = run("importer", "import", "ndjson", tmp_path / "graph.ndjson")

    assert done.returncode == 0, done.stderr
    graph = serving.store.graph
    assert [one.name for one in graph.query(job, "ascendants")] == ["elsewhere", "data"]
    assert graph.tags(data) == {"a": "b"}
    assert actors(serving, "Imported") == {"importer"}  # and not who runs the server
    refused = run("reader", "import", "ndjson", tmp_path / "graph.ndjson")
    assert "featureline:RecordLineage" in refused.stderr


def test_runs_of_mlflow_are_imported(
    served: tuple[Serving, Callable[..., Ended]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    serving, run = served
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = mlflow.tracking.MlflowClient(tracking_uri=(tmp_path / "mlruns").as_uri())
    experiment = client.create_experiment("delays")
    logged = client.create_run(experiment, run_name="first")
    client.log_param(logged.info.run_id, "depth", 6)
    client.set_terminated(logged.info.run_id)

    done = run("importer", "import", "mlflow", tmp_path / "mlruns")

    assert done.returncode == 0, done.stderr
    found = serving.store.graph.entity(f"runs:/{logged.info.run_id}")
    assert (found.type, found.state) == ("MLflowRun", "Completed")
    assert "featureline:" in run("reader", "import", "mlflow", tmp_path / "mlruns").stderr


def test_the_graph_is_made_anew_and_compared(
    served: tuple[Serving, Callable[..., Ended]],
) -> None:
    serving, run = served
    before = serving.store.graph.stats()

    done = run("keeper", "rebuild", "--json")

    assert json.loads(done.stdout) == {"events": before["events"]}
    assert serving.store.graph.stats() == before
    verified = run("keeper", "verify", "--projections", "--json")
    assert json.loads(verified.stdout)["intact"]
    assert "featureline:RebuildGraph" in run("reader", "rebuild").stderr
    assert audited(serving, "RebuildGraph") == [("keeper", "OK"), ("reader", "PERMISSION_DENIED")]


@pytest.mark.parametrize("form", ["ndjson", "graphml", "tree", "parquet"])
def test_the_whole_graph_is_written_as_here(
    served: tuple[Serving, Callable[..., Ended]], tmp_path: Path, form: str
) -> None:
    serving, run = served
    serving.store.graph.record([lineage.action("Export", "exported")], kind="T")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"

    done = run("keeper", "export", "--all", "--format", form, "--out", theirs)

    assert done.returncode == 0, done.stderr
    serving.store.graph.export(ours, form)
    names = [Path(name.name) for name in ours.iterdir()] if form == "parquet" else [Path()]
    assert [(theirs / name).read_bytes() for name in names] == [
        (ours / name).read_bytes() for name in names
    ]
    assert {path.name for path in tmp_path.iterdir()} == {"ours", "theirs"}  # no partial ones
    if form == "ndjson":
        assert run("keeper", "export", "--all", "--format", form).stdout == ours.read_text()
    refused = run("reader", "export", "--all", "--format", form, "--out", tmp_path / "refused")
    assert "featureline:ExportGraph" in refused.stderr
    assert not (tmp_path / "refused").exists()


def test_what_waited_on_the_servers_disk_is_recorded(
    served: tuple[Serving, Callable[..., Ended]],
) -> None:
    serving, run = served
    spool = serving.store.graph.spool
    assert spool is not None
    late = lineage.action("Late", "late")
    spool.put(lineage.as_draft([late], kind="T"))

    done = run("keeper", "replay-spool", "--json")

    assert json.loads(done.stdout) == {"recorded": 1, "refused": 0}
    assert serving.store.graph.entity(lineage.derived_uid(late)).name == "late"
    assert "featureline:ReplaySpool" in run("reader", "replay-spool").stderr


@pytest.fixture(scope="module")
def trained(
    served: tuple[Serving, Callable[..., Ended]], tmp_path_factory: pytest.TempPathFactory
) -> SimpleNamespace:
    """A model of the server's home."""
    serving, _ = served
    rows = tmp_path_factory.mktemp("rows") / "rows.parquet"
    late = [n % 2 for n in range(20)]
    pq.write_table(pa.table({"wind": [float(n % 7) for n in range(20)], "late": late}), rows)
    job = TrainingJob(
        training_job_name="late",
        algorithm_name="xgboost",
        hyper_parameters={"num_round": 2, "objective": "binary:logistic"},
        input_data_config=[Channel(channel_name="train", path=str(rows), label="late")],
    )
    result = training.train(serving.store, job)
    result.check()
    return SimpleNamespace(digest=result.digest)


def test_a_model_is_trained_again_there(
    served: tuple[Serving, Callable[..., Ended]], trained: SimpleNamespace, tmp_path: Path
) -> None:
    serving, run = served

    done = run("trainer", "replay", "late", "--json")

    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["digest"], said["verdict"]) == (trained.digest, "equal")
    action = serving.store.graph.entity(said["recorded"])
    assert action.properties["verdict"] == "equal"
    [by] = {one.actor for one in serving.store.graph.events(action)}
    assert by == "trainer"
    assert "featureline:ReplayModel" in run("reader", "replay", "late").stderr
    assert audited(serving, "ReplayModel") == [("trainer", "OK"), ("reader", "PERMISSION_DENIED")]
    unknown = run("trainer", "replay", "nobody")
    assert "nobody" in unknown.stderr


def test_the_model_that_came_out_is_sent_to_who_may_read_it(
    served: tuple[Serving, Callable[..., Ended]], trained: SimpleNamespace, tmp_path: Path
) -> None:
    serving, run = served
    command = ("replay", "late", "--keep", tmp_path / "kept", "--json")

    refused = run("trainer", *command)

    assert "featureline:ReadModel" in refused.stderr
    assert not (tmp_path / "kept").exists()

    done = run("receiver", *command)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["digest"] == trained.digest
    kept = training.Artifact.read(tmp_path / "kept")  # checks every file
    assert kept.digest == trained.digest
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert list((serving.home / "tmp").iterdir()) == []
    again = run("receiver", *command)
    assert f"{tmp_path / 'kept'}: exists" in again.stderr


def test_a_model_of_many_pieces_arrives_whole_and_stays_in_its_folder(tmp_path: Path) -> None:
    leaving = LeavingModel(tmp_path / "there")
    (leaving.folder / "deep").mkdir(parents=True)
    (leaving.folder / "deep" / "weights").write_bytes(bytes(range(256)) * 10_000)
    (leaving.folder / "empty").touch()
    with ArrivingModel(tmp_path / "here") as arriving:
        while (piece := leaving.next()) is not None:
            arriving.write(piece.file)
        assert not (tmp_path / "here").exists()
        arriving.finish()
    assert lineage.folder_digest(tmp_path / "here") == lineage.folder_digest(leaving.folder)
    leaving.remove()
    assert list((tmp_path / "there").iterdir()) == []
    for name in ("../out", "/etc/out", ""):
        piece = training_pb2.ReplayModelResponse.File(path=name, content=b"x")
        with pytest.raises(training.InternalError), ArrivingModel(tmp_path / "bad") as arriving:
            arriving.write(piece)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["here", "there"]


def test_jobs_of_the_server_are_told_as_openlineage_from_where_the_last_time_ended(
    served: tuple[Serving, Callable[..., Ended]], tmp_path: Path
) -> None:
    serving, run = served
    there, here = tmp_path / "there.jsonl", tmp_path / "here.jsonl"
    command = ("emit", "--to", there, "--cursor", tmp_path / "cursor", "--namespace", "prod")
    local = Emitter(
        serving.store.graph, open_sink(str(here)), tmp_path / "own", outward=Outward("prod")
    )
    for name in ("first", "second"):
        with lineage.Recorder(serving.store.graph, "Job", name) as job:
            job.output(lineage.artifact("DataSet", f"s3://bucket/{name}"))
            job.property("much", "x" * 100_000)

        done = run("teller", *command, "--json")

        assert done.returncode == 0, done.stderr
        local.step()
        assert json.loads(done.stdout)["sequence"] == serving.store.graph.last_sequence()
        assert there.read_text() == here.read_text()
    local.close()
    assert json.loads(run("teller", *command, "--json").stdout)["sent"] == 0
    told = [json.loads(line) for line in there.read_text().splitlines()]
    assert [event["eventType"] for event in told][-2:] == ["START", "COMPLETE"]
    assert "featureline:ListOpenLineageEvents" in run("reader", *command).stderr
    assert ("reader", "PERMISSION_DENIED") in audited(serving, "ListOpenLineageEvents")
    assert "--cursor" in run("teller", "emit", "--to", there).stderr
    (tmp_path / "cursor").write_text('{"sequence": 1000000}')
    assert "another graph" in run("teller", *command).stderr
    with (
        lineage.connect(serving.address, token=run.tokens["teller"]) as graph,  # type: ignore[attr-defined]
        pytest.raises(lineage.InvalidQuery, match="limit"),
    ):
        graph.openlineage_events(0, limit=101)


def test_a_program_of_a_caller_is_not_run_again(
    served: tuple[Serving, Callable[..., Ended]], tmp_path: Path
) -> None:
    serving, run = served
    (tmp_path / "train.py").write_text(
        "import os, pathlib\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'model').write_text('weights')\n"
    )
    job = TrainingJob(
        training_job_name="own",
        algorithm_name="script",
        hyper_parameters=training.script_hyperparameters(tmp_path / "train.py"),
        input_data_config=[Channel(channel_name="train", path=str(tmp_path / "train.py"))],
    )
    training.train(serving.store, job).check()

    refused = run("trainer", "replay", "own")

    assert refused.returncode != 0
    assert "featureline serve --scripts" in refused.stderr


def test_garbage_of_the_servers_home_is_collected(
    served: tuple[Serving, Callable[..., Ended]],
) -> None:
    serving, run = served
    graph = serving.store.graph
    idle = serving.home.resolve() / "artifacts" / "models" / "idle"
    idle.mkdir(parents=True)
    (idle / "weights").write_bytes(b"x" * 1000)
    graph.record([lineage.artifact("Model", idle.as_uri(), content_hash="2")], kind="T")
    command = ("gc", "--older-than", "0d", "--kind", "model", "--json")

    planned = json.loads(run("keeper", *command).stdout)

    uris = {item["uri"]: item for item in planned["items"]}
    assert uris[idle.as_uri()]["goes"]
    assert (planned["applied"], idle.is_dir()) == (False, True)
    assert "featureline:CollectGarbage" in run("reader", *command, "--apply").stderr
    assert idle.is_dir()
    kept = json.loads(run("keeper", *command, "--apply", "--keep", "idle").stdout)
    assert idle.as_uri() not in {item["uri"] for item in kept["items"] if item["goes"]}
    assert idle.is_dir()

    done = json.loads(run("keeper", *command, "--apply").stdout)

    assert done["applied"]
    assert not idle.exists()
    action = graph.entity(done["recorded"])
    assert action.properties["by"] == "keeper"
    assert actors(serving, "CollectionCompleted") == {"keeper"}
    assert ("reader", "PERMISSION_DENIED") in audited(serving, "CollectGarbage")
    assert run("keeper", "gc", "--keep", "nobody").returncode != 0


def test_a_replay_ends_with_its_caller(loop: Loop, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import os, pathlib, time\n"
        f"here = pathlib.Path({str(tmp_path)!r})\n"
        "(here / 'runs').write_text('')\n"
        "while (here / 'wait').exists():\n"
        "    time.sleep(0.02)\n"
        "pathlib.Path(os.environ['SM_MODEL_DIR'], 'model').write_text('weights')\n"
    )
    serving = Serving(loop, tmp_path / "home", "grpc", scripts=True)
    job = TrainingJob(
        training_job_name="own",
        algorithm_name="script",
        hyper_parameters=training.script_hyperparameters(tmp_path / "train.py"),
        input_data_config=[Channel(channel_name="train", path=str(tmp_path / "train.py"))],
    )
    made = training.train(serving.store, job)
    (tmp_path / "runs").unlink()
    (tmp_path / "wait").touch()
    try:
        with grpc.insecure_channel(serving.address) as channel:
            stub = training_pb2_grpc.TrainingStub(channel)
            replies = stub.ReplayModel(training_pb2.ReplayModelRequest(model=made.digest))
            assert next(replies).WhichOneof("said") == "progress"
            wait_for(lambda: (tmp_path / "runs").exists())
            replies.cancel()
        find = serving.store.graph.find
        wait_for(lambda: {one.state for one in find(type="Replay")} == {"Completed"})
        [ended] = find(type="Replay")
        assert ended.properties["verdict"] == "failed"
    finally:
        (tmp_path / "wait").unlink()
        serving.stop()


@pytest.mark.parametrize("missing", ["RecordLineage", "DescribeEntity"])
def test_what_a_client_records_itself_is_refused_before_anything_is_done(
    loop: Loop, tmp_path: Path, missing: str
) -> None:
    home = tmp_path / "home"
    with featurestore.open(home) as store:
        store.create_feature_group(WEATHER)
    may = {"featureline:RecordLineage", "featureline:DescribeEntity"} - {f"featureline:{missing}"}
    with closing(AccessDatabase(home)) as access:
        allow = {"Effect": "Allow", "Action": ["sagemaker:*", *may], "Resource": "*"}
        access.put_policy("some", json.dumps({"Statement": [allow]}))
        token = access.create_token("ada", policies=["some"]).text
    (tmp_path / "rows.jsonl").write_text('{"origin":"JFK","hour":"2013-01-01T06:00:00Z"}\n')
    (tmp_path / "bad.jsonl").write_text('{"origin":"JFK","hour":"never"}\n')
    letters = ("--dead-letters", home / "letters")
    ingest = ("ingest", "files", "--group", "weather", *letters, "--until-caught-up")
    run_command(*ingest, tmp_path / "bad.jsonl", "--home", home)
    guard = Guard.open(home)
    serving = Serving(loop, home, "grpc", guard=guard)
    before = serving.store.graph.last_sequence()
    try:
        for command in (
            ("put", "weather", tmp_path / "rows.jsonl"),
            (*ingest, tmp_path / "rows.jsonl"),
            ("deadletter", "replay", "--group", "weather", *letters),
            ("deadletter", "purge", "--yes", *letters),
        ):
            refused = run_command(*command, "--connect", serving.address, FEATURELINE_TOKEN=token)
            assert refused.returncode == 1
            assert f"ada may not featureline:{missing}" in refused.stderr
        with (
            featurestore.connect(serving.address, token=token) as store,
            pytest.raises(lineage.RecordingFailed, match=missing),
        ):
            store.put_table("weather", pa.table({"origin": ["a"]}))
        assert list(serving.store.records("weather")) == []
        assert serving.store.graph.last_sequence() == before
        listed = run_command("deadletter", "list", *letters, "--home", home, "--json")
        assert [row["waiting"] for row in json.loads(listed.stdout)] == [1]
    finally:
        serving.stop()
        guard.close()
