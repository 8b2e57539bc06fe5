"""Events of OpenLineage over HTTP: the client as it is, bad requests, tokens, several workers."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import signal
import ssl
import threading
import time
import urllib.request
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    column_lineage_dataset,
    dataset_version_dataset,
    input_statistics_input_dataset,
    schema_dataset,
)
from openlineage.client.transport.file import FileConfig, FileTransport
from openlineage.client.transport.http import HttpConfig, HttpTransport
from openlineage.client.uuid import generate_new_uuid

import featurestore
import lineage
from featureline.server import Tls, httplineage
from featureline.server.http import HttpServer
from featurestore.auth import AccessDatabase, Guard
from featurestore.embedded import EmbeddedStore, open_store
from featurestore.server.metrics import Metrics
from lineage.openlineage import Emitter, import_file, open_sink
from tests.server.certificates import Authority
from tests.server.conftest import Loop
from tests.soak.server import ServerProcess

RUN = "01890a5d-ac96-774b-bcce-b302099a8057"
JSON = {"content-type": "application/json"}
MAY_RECORD = json.dumps(
    {"Statement": [{"Effect": "Allow", "Action": "featureline:RecordLineage", "Resource": "*"}]}
)
MAY_READ = json.dumps(
    {"Statement": [{"Effect": "Allow", "Action": "sagemaker:QueryLineage", "Resource": "*"}]}
)


def run_event(state: RunState, run_id: str, number: int = 0) -> RunEvent:
    """A run that reads one table and writes another, as the client makes it."""
    columns = column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={
            "delay": column_lineage_dataset.Fields(
                inputFields=[
                    column_lineage_dataset.InputField(
                        namespace="s3://bucket",
                        name="raw",
                        field="late",
                        transformations=[
                            column_lineage_dataset.Transformation(type="DIRECT", subtype="IDENTITY")
                        ],
                    )
                ]
            )
        }
    )
    fields = [schema_dataset.SchemaDatasetFacetFields(name="delay", type="DOUBLE")]
    version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion="3")
    rows = input_statistics_input_dataset.InputStatisticsInputDatasetFacet(rowCount=7)
    return RunEvent(
        eventType=state,
        eventTime=f"2026-01-31T12:00:0{state is RunState.COMPLETE:d}Z",
        run=Run(runId=run_id),
        job=Job(namespace="airflow", name=f"load-{number}"),
        producer="https://example.org/job",
        inputs=[
            InputDataset(
                namespace="s3://bucket",
                name="raw",
                facets={"version": version},
                inputFacets={"inputStatistics": rows},
            )
        ],
        outputs=[
            OutputDataset(
                namespace="s3://bucket",
                name=f"flights-{number}",
                facets={
                    "schema": schema_dataset.SchemaDatasetFacet(fields=fields),
                    "columnLineage": columns,
                },
            )
        ],
    )


def client(address: str, **options: Any) -> OpenLineageClient:
    """The client, as its users configure it."""
    config = HttpConfig.from_dict({"type": "http", "url": f"http://{address}", **options})
    return OpenLineageClient(transport=HttpTransport(config))


class Listening:
    """The listener alone, over a home in this process."""

    def __init__(self, loop: Loop, home: Path, **options: Any) -> None:
        self._loop = loop
        self.store: EmbeddedStore = open_store(home)
        self.metrics = Metrics()
        self.server = HttpServer(self.store, "127.0.0.1:0", metrics=self.metrics, **options)
        loop.run(self.server.start())
        self.address = self.server.address

    def call(
        self,
        path: str,
        body: bytes = b"",
        *,
        method: str = "POST",
        **headers: str,
    ) -> tuple[int, dict[str, Any]]:
        """Make one request; `content_type` and so on name headers."""
        with closing(http.client.HTTPConnection(self.address, timeout=30)) as connection:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            named.setdefault("content-type", "application/json")
            connection.request(method, path, body, named)
            response = connection.getresponse()
            said = response.read()
        return response.status, json.loads(said) if said else {}

    def stop(self) -> None:
        self._loop.run(self.server.stop(1.0))
        self.store.close()


@pytest.fixture(scope="module")
def listening(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listening]:
    started = Listening(loop, tmp_path_factory.mktemp("home"))
    yield started
    started.stop()


def _wait_for(acknowledged: list[str], count: int) -> None:
    while len(acknowledged) < count:
        time.sleep(0.01)


def _event(**changes: Any) -> bytes:
    event = {
        "eventType": "START",
        "run": {"runId": RUN},
        "job": {"namespace": "airflow", "name": "load"},
        **changes,
    }
    return json.dumps(event).encode()


# -- the client as it is --------------------------------------------------------------------------


def test_the_client_over_http_and_into_a_file_gives_the_same_graph(
    listening: Listening, tmp_path: Path
) -> None:
    run_ids = [str(generate_new_uuid()) for _ in range(4)]
    over_http = client(listening.address, compression="gzip")
    log = tmp_path / "events.jsonl"
    into_file = OpenLineageClient(
        transport=FileTransport(FileConfig(log_file_path=str(log), append=True))
    )

    def run(number: int) -> None:
        for state in (RunState.START, RunState.COMPLETE):
            event = run_event(state, run_ids[number], number)
            over_http.emit(event)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(run, range(4)))
    for number, run_id in enumerate(run_ids):
        for state in (RunState.COMPLETE, RunState.START):
            into_file.emit(run_event(state, run_id, number))
    over_http.close()
    with lineage.open(tmp_path / "lineage.db") as other:
        imported = import_file(other, log, strict=True)
        assert (imported.events, imported.refused, imported.noted) == (8, [], 0)
        for number, run_id in enumerate(run_ids):
            graph = listening.store.graph
            for found in (graph, other):
                run_entity = found.entity(run_id)
                assert run_entity.state == "Completed"
                assert run_entity.facets["started"].value is not None
            ours = graph.query(f"s3://bucket/flights-{number}")
            theirs = other.query(f"s3://bucket/flights-{number}")
            assert {e.uid for e in ours} == {e.uid for e in theirs}
            links = graph.columns(f"s3://bucket/flights-{number}", "delay").links
            assert [link.source_column for link in links] == ["late"]
    counted = listening.metrics.snapshot().numbers["featureline_calls_total"]
    assert counted["OpenLineage", "OK"] >= 8


def test_our_jobs_arrive_at_another_installation(listening: Listening, tmp_path: Path) -> None:
    with lineage.open(tmp_path / "lineage.db") as graph:
        with lineage.Recorder(
            graph, "TrainingJob", "sent-1", parameters={"text": "x" * 2000}
        ) as job:
            job.input(lineage.artifact("DataSet", "s3://bucket/sent"))
        sink = open_sink(f"http://{listening.address}")
        with Emitter(graph, sink, tmp_path / "cursor.json") as emitter:
            assert emitter.step().sent == 2
    there = listening.store.graph
    (run,) = there.query("s3://bucket/sent", "descendants", types=["Run"], include_edges=False)
    assert run.state == "Completed"
    assert there.entity("featureline/TrainingJob/sent-1").type == "Job"


# -- requests -------------------------------------------------------------------------------------


def test_one_event_is_durable_and_its_problems_are_told(listening: Listening) -> None:
    status, said = listening.call("/api/v1/lineage", _event(), x_request_id="mine-1")
    assert status == 200
    assert said["sequence"] >= 1
    assert any(line.startswith("producer:") for line in said["validation"])
    again, repeated = listening.call("/api/v1/lineage", _event())
    assert (again, repeated["sequence"]) == (200, said["sequence"])
    assert listening.store.graph.entity(RUN).state == "InProgress"


def test_a_batch_tells_which_events_failed(listening: Listening) -> None:
    good = json.loads(_event())
    assert listening.call("/api/v1/lineage/batch", json.dumps([good]).encode()) == (204, {})
    assert listening.call("/api/v1/lineage/batch", b"[]") == (204, {})
    body = json.dumps([good, 3, {"eventType": "START"}]).encode()
    status, said = listening.call("/api/v1/lineage/batch", body)
    assert status == 200
    assert said["status"] == "partial_success"
    assert said["summary"] == {"received": 3, "successful": 1, "failed": 2}
    assert [(one["index"], one["retriable"]) for one in said["failed_events"]] == [
        (1, False),
        (2, False),
    ]
    assert "run.runId" in said["failed_events"][1]["reason"]
    assert listening.call("/api/v1/lineage/batch", b"[3]")[1]["status"] == "failure"


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "where"),
    [
        ("/api/v1/lineage", b"", {}, 400, ""),
        ("/api/v1/lineage", b"{", {}, 400, ""),
        ("/api/v1/lineage", b"[]", {}, 400, ""),
        ("/api/v1/lineage", b"\xff\x00", {}, 400, ""),
        ("/api/v1/lineage", b"[" * 200_000, {}, 400, ""),
        ("/api/v1/lineage", b'{"eventType": "START"}', {}, 400, "run.runId"),
        ("/api/v1/lineage?strict=true", _event(), {}, 400, "eventTime"),
        ("/api/v1/lineage/batch", b"{}", {}, 400, ""),
        ("/api/v1/lineage/batch", b"[" * 200_000, {}, 400, ""),
        ("/api/v1/lineage", _event(), {"content_type": "text/plain"}, 415, "Content-Type"),
        ("/api/v1/lineage", _event(), {"content_encoding": "br"}, 415, "Content-Encoding"),
        ("/api/v1/lineage", _event(), {"content_encoding": "gzip"}, 400, "body"),
        (
            "/api/v1/lineage",
            gzip.compress(_event())[:-9],
            {"content_encoding": "gzip"},
            400,
            "body",
        ),
    ],
)
def test_a_bad_request_is_told_what_is_wrong(
    listening: Listening,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
    where: str,
) -> None:
    got, said = listening.call(path, body, **headers)
    assert got == status
    assert said["where"] == where
    assert {"error", "message", "expected", "got", "request_id"} <= set(said)


def test_sizes_are_limited_also_when_unpacked(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httplineage, "MAX_EVENT_BYTES", 100_000)
    large = _event(padding="x" * 200_000)
    assert listening.call("/api/v1/lineage", large)[0] == 413
    bomb = zlib.compressobj(wbits=31)
    packed = bomb.compress(b" " * 50_000_000) + bomb.flush()
    assert len(packed) < 100_000
    assert listening.call("/api/v1/lineage", packed, content_encoding="gzip")[0] == 413
    two = gzip.compress(_event()[:40]) + gzip.compress(_event()[40:])
    assert listening.call("/api/v1/lineage", two, content_encoding="gzip")[0] == 200
    monkeypatch.setattr(httplineage, "MAX_BATCH_EVENTS", 2)
    assert listening.call("/api/v1/lineage/batch", b"[1, 2, 3]")[0] == 413


def test_a_body_without_length_and_one_that_ends_early(
    listening: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(http.client.HTTPConnection(listening.address, timeout=30)) as connection:
        parts = iter([_event()[:20], _event()[20:]])
        headers = {"content-type": "application/json"}
        connection.request("POST", "/api/v1/lineage", parts, headers, encode_chunked=True)
        assert connection.getresponse().status == 200
    with closing(http.client.HTTPConnection(listening.address, timeout=30)) as connection:
        connection.putrequest("POST", "/api/v1/lineage")
        connection.putheader("content-type", "application/json")
        connection.putheader("content-length", "100")
        connection.endheaders(b"{")
    monkeypatch.setattr(httplineage, "_READ_S", 0.05)
    with closing(http.client.HTTPConnection(listening.address, timeout=30)) as connection:
        connection.putrequest("POST", "/api/v1/lineage")
        connection.putheader("content-length", "100")
        connection.endheaders(b"{")
        assert connection.getresponse().status == 408


def test_other_routes_say_what_there_is(listening: Listening) -> None:
    assert listening.call("/healthz", method="GET") == (200, {"alive": True})
    assert listening.call("/readyz", method="GET") == (200, {"ready": True})
    status, said = listening.call("/api/v2/lineage", b"{}")
    assert (status, said["error"]) == (404, "UnknownRoute")
    assert listening.call("/api/v1/lineage", method="GET")[0] == 405


def test_a_store_that_is_away_is_told_as_such(loop: Loop, tmp_path: Path) -> None:
    started = Listening(loop, tmp_path)
    try:
        graph = started.store.graph
        graph.close()
        status, said = started.call("/api/v1/lineage", _event())
        assert (status, said["error"]) == (409, "StoreClosed")
    finally:
        started.stop()


def test_a_closing_listener_answers_that_it_ends(listening: Listening) -> None:
    door = listening.server._door
    door.close()
    try:
        assert listening.call("/api/v1/lineage", _event())[0] == 503
        assert listening.call("/readyz", method="GET")[0] == 503
    finally:
        door.is_closing = False


def test_calls_come_over_tls_too(loop: Loop, tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    authority = Authority(tmp_path, "authority")
    pair = authority.issue("server")
    started = Listening(loop, tmp_path / "home", tls=Tls(pair.certificate, pair.key))
    try:
        context = ssl.create_default_context(cafile=str(authority.file))
        with urllib.request.urlopen(
            f"https://{started.address}/healthz", context=context, timeout=30
        ) as response:
            assert response.status == 200
    finally:
        started.stop()


# -- who may ---------------------------------------------------------------------------------------


def test_tokens_are_those_of_grpc_and_calls_are_audited(loop: Loop, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with closing(AccessDatabase(home)) as access:
        access.put_policy("recorder", MAY_RECORD)
        access.put_policy("reader", MAY_READ)
        recorder, reader = (
            access.create_token(name, policies=[name]).text for name in ("recorder", "reader")
        )
    guard = Guard.open(home)
    started = Listening(loop, home, guard=guard)
    try:
        assert started.call("/api/v1/lineage", _event())[0] == 401
        assert started.call("/api/v1/lineage", _event(), authorization="Bearer no")[0] == 401
        status, said = started.call("/api/v1/lineage", _event(), authorization=f"Bearer {reader}")
        assert (status, said["error"]) == (403, "AccessDenied")
        assert started.call("/api/v1/lineage", b"{", authorization=f"Bearer {recorder}")[0] == 400
        with closing(
            client(started.address, auth={"type": "api_key", "apiKey": recorder})
        ) as emitting:
            emitting.emit(run_event(RunState.START, RUN))
        with started.store.graph.store.log() as (events, _):
            assert [event.actor for event in events] == ["recorder"]
    finally:
        started.stop()
        guard.close()
    lines = [json.loads(line) for line in (home / "audit.log").read_text().splitlines()]
    assert [(line["principal"], line["outcome"]) for line in lines] == [
        ("", "UNAUTHENTICATED"),
        ("", "UNAUTHENTICATED"),
        ("reader", "PERMISSION_DENIED"),
        ("recorder", "INVALID_ARGUMENT"),
        ("recorder", "OK"),
    ]
    assert {line["action"] for line in lines[2:]} == {"featureline:RecordLineage"}


# -- the server as a process -----------------------------------------------------------------------


def test_several_workers_take_events_and_send_ours_and_lose_none_when_killed(
    tmp_path: Path,
) -> None:
    home, out = tmp_path / "home", tmp_path / "out.jsonl"
    server = ServerProcess(
        home,
        tmp_path / "server.log",
        *("--workers", 2, "--http", "127.0.0.1:0", "--emit-lineage", out),
    )
    run_ids = [str(generate_new_uuid()) for _ in range(8)]
    ending = threading.Event()
    try:
        address = str(server.ready["http"])

        def run(number: int) -> None:
            with closing(client(address, compression="gzip")) as emitting:
                for state in (RunState.START, RunState.COMPLETE):
                    emitting.emit(run_event(state, run_ids[number], number))

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(run, range(8)))
        with featurestore.connect(server.address) as store:
            with lineage.Recorder(store.graph, "TrainingJob", "flights-1") as job:
                job.input(lineage.artifact("DataSet", "s3://bucket/flights-0"))
            found = store.graph.query(job.entity, "ascendants")
            assert run_ids[0] in {entity.name for entity in found}
        while not (out.exists() and out.read_text().count("\n") == 2):
            assert server.is_up
            time.sleep(0.02)
        acknowledged: list[str] = []

        def post() -> None:
            """Post events over connections that may break, until the server ends."""
            while not ending.is_set():
                with (
                    closing(http.client.HTTPConnection(address, timeout=30)) as connection,
                    contextlib.suppress(OSError, http.client.HTTPException),
                ):
                    status = 200
                    while status == 200:
                        run_id = str(generate_new_uuid())
                        body = _event(run={"runId": run_id})
                        connection.request("POST", "/api/v1/lineage", body, JSON)
                        response = connection.getresponse()
                        response.read()
                        status = response.status
                        if status == 200:
                            acknowledged.append(run_id)

        posting = [threading.Thread(target=post) for _ in range(4)]
        for thread in posting:
            thread.start()
        _wait_for(acknowledged, 20)
        assert server.kill_one(0)  # with -9, while it answers
        _wait_for(acknowledged, len(acknowledged) + 40)
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        ending.set()
        for thread in posting:
            thread.join()
    finally:
        ending.set()
        server.kill()
    told = [json.loads(line) for line in out.read_text().splitlines()]
    assert [event["eventType"] for event in told] == ["START", "COMPLETE"]
    assert "Traceback" not in (tmp_path / "server.log").read_text()
    with lineage.open(home / "lineage.db") as graph:
        assert {graph.entity(run_id).state for run_id in run_ids} == {"Completed"}
        assert {graph.entity(run_id).state for run_id in acknowledged} == {"InProgress"}
        assert graph.verify(projections=True).intact
