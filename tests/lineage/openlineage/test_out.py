"""Our jobs as events, sent at least once; and what came from OpenLineage given back."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import lineage
from lineage import Graph, InvalidLogin, MemoryStore, Recorder, StoreUnavailable
from lineage.column import ColumnEdge, ColumnLineage
from lineage.openlineage import (
    Emitter,
    FileSink,
    HttpSink,
    Outward,
    open_sink,
    read_event,
    record_event,
)
from lineage.openlineage import (
    run_event as told,
)
from tests.lineage.openlineage.events import (
    RUN_A,
    RUN_B,
    content,
    dataset,
    facet,
    graph_of,
    run_event,
)


@pytest.fixture
def graph() -> Graph:
    return Graph(MemoryStore())


def _train(graph: Graph, *, fails: bool = False) -> Recorder:
    """A job with everything that one has."""
    job = Recorder(graph, "TrainingJob", "flights-1", parameters={"eta": 0.1})
    try:
        with job:
            group = lineage.context(
                "FeatureGroup",
                "flights",
                source_uri="s3://bucket/offline/flights",
                properties={"features": {"delay": "Fractional"}},
            )
            job.input(group)
            job.input(
                lineage.artifact(
                    "FeatureGroupVersion",
                    "s3://bucket/offline/flights",
                    content_hash="51b2",
                    name="flights@12",
                    properties={"table_version": 12},
                )
            )
            job.input(
                lineage.artifact("DataSet", "dataset:9f", content_hash="9f", properties={"rows": 5})
            )
            job.output(lineage.artifact("Model", "s3://bucket/model.tar.gz", content_hash="77"))
            if fails:
                raise ValueError("no rows")
    except ValueError:
        pass
    return job


def _sent(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_job_is_told_from_its_start_to_its_end(graph: Graph, tmp_path: Path) -> None:
    _train(graph)
    path = tmp_path / "events.jsonl"
    with Emitter(graph, FileSink(path), tmp_path / "cursor", outward=Outward("prod")) as emitter:
        assert emitter.step().sent == 2
        assert emitter.step().sent == 2  # nothing new
    start, complete = _sent(path)
    for event in (start, complete):
        assert read_event(event, strict=True).validation == []
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"]["namespace"] == "prod"
    assert complete["job"]["name"] == "TrainingJob/flights-1"
    group, version, data = complete["inputs"]
    assert (group["namespace"], group["name"]) == ("prod", "flights")
    assert group["facets"]["schema"]["fields"] == [{"name": "delay", "type": "Fractional"}]
    assert group["facets"]["symlinks"]["identifiers"][0]["name"] == "offline/flights"
    assert (version["name"], version["facets"]["version"]["datasetVersion"]) == ("flights", "12")
    assert data["name"] == "dataset/9f"
    assert data["inputFacets"]["inputStatistics"]["rowCount"] == 5
    (model,) = complete["outputs"]
    assert (model["namespace"], model["name"]) == ("s3://bucket", "model.tar.gz")
    assert model["facets"]["featureline_model"]["contentHash"] == "77"
    parameters = complete["run"]["facets"]["executionParameters"]["parameters"]
    assert parameters == [{"key": "eta", "value": "0.1"}]


def test_what_a_job_says_of_its_inputs_is_told_as_explicit_lineage(
    graph: Graph, tmp_path: Path
) -> None:
    built = lineage.artifact("DataSet", "dataset:9f", content_hash="9f")
    file = lineage.artifact("DataSet", "file:///data/train.parquet", content_hash="51")
    job = lineage.trial_component("TrainingJob", "flights-1", state="Completed")
    edge = ColumnEdge(built, "late", "delay", subtype="IDENTITY")
    graph.record(
        [built, file, job],
        [(file, job, "ContributedTo"), (built, file, "DerivedFrom")],
        kind="JobCompleted",
        columns=[ColumnLineage(file, "train", (edge,))],
    )
    path = tmp_path / "events.jsonl"
    with Emitter(graph, FileSink(path), tmp_path / "cursor") as emitter:
        emitter.step()
    (event,) = _sent(path)
    (entry,) = event["job"]["facets"]["lineage"]["entries"]
    assert (entry["name"], entry["inputs"][0]["name"]) == ("/data/train.parquet", "dataset/9f")
    assert entry["fields"]["delay"]["inputs"][0]["field"] == "late"
    with graph_of([event]) as there:
        found = there.query("file:///data/train.parquet", through=["DerivedFrom"])
        assert [entity.name for entity in found] == ["/data/train.parquet", "dataset/9f"]
        links = there.columns("file:///data/train.parquet", "delay").links
        assert [link.source_column for link in links] == ["late"]


def test_a_job_that_fails_says_why(graph: Graph, tmp_path: Path) -> None:
    _train(graph, fails=True)
    path = tmp_path / "events.jsonl"
    with Emitter(graph, FileSink(path), tmp_path / "cursor") as emitter:
        emitter.step()
    failed = _sent(path)[-1]
    assert failed["eventType"] == "FAIL"
    assert "no rows" in failed["run"]["facets"]["errorMessage"]["message"]


def test_what_is_recorded_without_a_job_is_told_as_a_dataset(graph: Graph, tmp_path: Path) -> None:
    group = lineage.context(
        "FeatureGroup", "flights", properties={"features": {"delay": "Integral"}}
    )
    graph.record([group], kind="FeatureGroupVersion")
    record_event(graph, run_event("COMPLETE"))  # not ours
    path = tmp_path / "events.jsonl"
    with Emitter(graph, FileSink(path), tmp_path / "cursor") as emitter:
        emitter.step()
    (event,) = _sent(path)
    assert read_event(event, strict=True).type == "DatasetEvent"
    assert event["dataset"]["name"] == "flights"


def test_columns_of_our_jobs_are_told(graph: Graph, tmp_path: Path) -> None:
    raw = lineage.artifact("DataSet", "s3://bucket/raw")
    out = lineage.artifact("DataSet", "s3://bucket/out")
    code = {"code_version": "51b2", "code_repository": "https://example.org/code.git"}
    job = lineage.action("Transform", "clean", state="Completed", properties=code)
    edges = (ColumnEdge(raw, "late", "delay", subtype="SUM"), ColumnEdge(raw, "key", ""))
    graph.record(
        [raw, out, job],
        [(raw, job, "ContributedTo"), (job, out, "Produced")],
        kind="JobCompleted",
        columns=[ColumnLineage(out, "clean", edges)],
    )
    path = tmp_path / "events.jsonl"
    with Emitter(graph, FileSink(path), tmp_path / "cursor") as emitter:
        emitter.step()
    (event,) = _sent(path)
    columns = event["outputs"][0]["facets"]["columnLineage"]
    (delay,) = columns["fields"]["delay"]["inputFields"]
    assert delay["field"] == "late"
    assert delay["transformations"] == [{"type": "DIRECT", "subtype": "SUM"}]
    assert columns["dataset"][0]["field"] == "key"
    location = event["job"]["facets"]["sourceCodeLocation"]
    assert (location["url"], location["version"]) == ("https://example.org/code.git", "51b2")


class _Endpoint:
    """An endpoint that can be away, refuse, and keep what it took."""

    def __init__(self) -> None:
        self.taken: list[Mapping[str, Any]] = []
        self.status = 200
        self.headers: list[Mapping[str, str]] = []
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                endpoint.headers.append(dict(self.headers))
                if endpoint.status == 200:
                    endpoint.taken.append(json.loads(body))
                self.send_response(endpoint.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def endpoint() -> Iterator[_Endpoint]:
    made = _Endpoint()
    yield made
    made.close()


def test_an_endpoint_that_is_away_gets_everything_once_it_is_back(
    graph: Graph, endpoint: _Endpoint, tmp_path: Path
) -> None:
    _train(graph)
    cursor = tmp_path / "cursor"
    endpoint.status = 503
    with Emitter(graph, HttpSink(endpoint.url, token="secret"), cursor) as emitter:
        with pytest.raises(StoreUnavailable, match="503"):
            emitter.step()
        endpoint.status = 200
        assert emitter.step().sent == 2
    assert [event["eventType"] for event in endpoint.taken] == ["START", "COMPLETE"]
    assert endpoint.headers[-1]["Authorization"] == "Bearer secret"
    _train(graph)  # later, by another process
    with Emitter(graph, HttpSink(endpoint.url), cursor) as emitter:
        assert emitter.step().sent == 2
    assert len(endpoint.taken) == 4


def test_an_event_that_is_refused_for_good_does_not_hold_up_the_others(
    graph: Graph, endpoint: _Endpoint, tmp_path: Path
) -> None:
    _train(graph)
    endpoint.status = 422
    with Emitter(graph, HttpSink(endpoint.url), tmp_path / "cursor") as emitter:
        done = emitter.step()
        assert (done.sent, done.refused) == (0, 2)
        endpoint.status = 200
        _train(graph)
        assert emitter.step().sent == 2


def test_following_sends_what_is_recorded_meanwhile(
    graph: Graph, endpoint: _Endpoint, tmp_path: Path
) -> None:
    emitter = Emitter(graph, HttpSink(endpoint.url), tmp_path / "cursor")
    following = threading.Thread(target=emitter.follow)
    following.start()
    _train(graph)
    while len(endpoint.taken) < 2:
        following.join(0.01)
    emitter.stop()
    following.join()
    emitter.close()
    assert json.loads((tmp_path / "cursor").read_text())["sequence"] == 2


def test_a_cursor_of_another_graph_is_refused(graph: Graph, tmp_path: Path) -> None:
    (tmp_path / "cursor").write_text('{"sequence": 17}')
    with pytest.raises(StoreUnavailable, match="another graph"):
        Emitter(graph, FileSink(tmp_path / "events"), tmp_path / "cursor")
    (tmp_path / "cursor").write_text("oops")
    with pytest.raises(StoreUnavailable, match="expected the place"):
        Emitter(graph, FileSink(tmp_path / "events"), tmp_path / "cursor")


@pytest.mark.parametrize("target", ["ftp://host/x", "http://name:word@host/", "kafka://h/t"])
def test_a_target_that_is_none_is_refused_without_its_secrets(target: str) -> None:
    with pytest.raises(InvalidLogin) as caught:
        open_sink(target)
    assert "word" not in str(caught.value)


def test_inputs_outputs_and_columns_survive_the_way_there_and_back() -> None:
    columns = facet(
        fields={
            "delay": {
                "inputFields": [
                    {
                        **dataset("raw"),
                        "field": "late",
                        "transformations": [
                            {"type": "DIRECT", "subtype": "SUM", "description": "sum(late)"},
                            {"type": "INDIRECT", "subtype": "FILTER", "masking": True},
                        ],
                    }
                ]
            }
        },
        dataset=[
            {**dataset("weather"), "field": "hour", "transformations": [{"type": "INDIRECT"}]}
        ],
    )
    raw = dataset(
        "raw",
        facets={"version": facet(datasetVersion="3")},
        inputFacets={"inputStatistics": facet(rowCount=3)},
    )
    events = [
        run_event("START", 0, inputs=[raw, dataset("weather", "kafka://broker:9092")]),
        run_event(
            "COMPLETE",
            1,
            outputs=[
                dataset(
                    "flights",
                    facets={"columnLineage": columns, "state": facet(x=1)},
                    outputFacets={"outputStatistics": facet(rowCount=2)},
                )
            ],
            run_facets={"parent": facet(run={"runId": RUN_B}, job={"namespace": "n", "name": "p"})},
        ),
    ]
    with graph_of(events) as graph:
        back = told(graph, RUN_A)
        assert read_event(back, strict=True).validation == []
        assert [said["name"] for said in back["inputs"]] == ["weather", "raw"]
        assert back["inputs"][1]["facets"]["version"]["datasetVersion"] == "3"
        assert back["inputs"][1]["inputFacets"]["inputStatistics"]["rowCount"] == 3
        with graph_of([back]) as again:
            for name in ("entities", "associations", "columns"):
                first, second = content(graph)[name], content(again)[name]
                if name == "entities":
                    first, second = set(first), set(second)
                assert second == first, name
            assert told(again, RUN_A) == back
