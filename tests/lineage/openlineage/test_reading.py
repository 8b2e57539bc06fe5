"""What is taken, what is noted on it, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lineage import InvalidEvent
from lineage.openlineage import read_event, record_event
from lineage.openlineage import run_event as told
from lineage.openlineage.moment import read_time
from tests.lineage.openlineage.events import (
    RUN_A,
    SCHEMA,
    content,
    dataset,
    facet,
    graph_of,
    run_event,
)

_KNOWN = (
    "parent",
    "jobDependencies",
    "lineage",
    "columnLineage",
    "symlinks",
    "version",
    "lifecycleStateChange",
    "state",
    "schema",
)
_FIELDS = (
    *(
        "run",
        "runId",
        "job",
        "root",
        "name",
        "namespace",
        "upstream",
        "entries",
        "inputs",
        "fields",
    ),
    *("dataset", "inputFields", "field", "transformations", "type", "identifiers", "_deleted"),
    *("datasetVersion", "previousIdentifier", "lifecycleStateChange", "transformationType"),
)


@pytest.mark.parametrize(
    ("event", "where"),
    [
        ({"eventType": "START", "job": {"namespace": "n", "name": "j"}}, "run.runId"),
        ({"run": {}, "job": {"namespace": "n", "name": "j"}}, "run.runId"),
        ({"run": {"runId": ""}, "job": {"namespace": "n", "name": "j"}}, "run.runId"),
        ({"run": {"runId": RUN_A}}, "job.name"),
        ({"run": {"runId": RUN_A}, "job": {"namespace": "n", "name": "  "}}, "job.name"),
        ({"job": {"namespace": "n", "name": 7}}, "job.name"),
        ({"dataset": {"namespace": "n"}}, "dataset.name"),
        (run_event("START", inputs=[dataset("a"), {"namespace": "n"}]), "inputs[1].name"),
        (run_event("START", outputs=["a"]), "outputs[0].name"),
        ({}, ""),
        ({"schemaURL": f"{SCHEMA}RunEvent", "job": {"name": "j"}}, "run.runId"),
    ],
)
def test_what_cannot_be_placed_is_refused_with_its_path(event: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidEvent) as caught:
        read_event(json.dumps(event))
    assert caught.value.where == where
    assert caught.value.expected
    assert caught.value.got


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"3", b"null", b'"text"', b"\xff\xfe", b"{" * 100_000, b"[" * 100_000],
)
def test_what_is_no_object_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidEvent):
        read_event(text)


def test_what_the_schema_allows_is_taken_strictly_and_without_a_note() -> None:
    event = run_event(
        "COMPLETE",
        inputs=[dataset("raw", inputFacets={"inputStatistics": facet(rowCount=3)})],
        outputs=[dataset("flights", facets={"schema": facet(fields=[])})],
        run_facets={"custom": facet(anything={"goes": [1, None]})},
    )
    assert read_event(event, strict=True).validation == []
    del event["eventType"]  # which the schema does not require
    assert read_event(event, strict=True).state == ""


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ({"producer": None}, "producer"),
        ({"schemaURL": "no uri"}, "schemaURL"),
        ({"eventTime": None}, "eventTime"),
        ({"eventTime": "2026-01-31T12:00:00"}, "eventTime"),
        ({"eventTime": "yesterday"}, "eventTime"),
        ({"eventType": "complete"}, "eventType"),
        ({"eventType": "PAUSED"}, "eventType"),
        ({"run": {"runId": "run-17"}}, "run.runId"),
        ({"job": {"name": "j"}}, "job.namespace"),
        ({"inputs": {"namespace": "n", "name": "a"}}, "inputs"),
        ({"run": {"runId": RUN_A, "facets": {"custom": {"a": 1}}}}, "run.facets.custom._producer"),
        ({"run": {"runId": RUN_A, "facets": {"custom": "text"}}}, "run.facets.custom"),
        ({"run": {"runId": RUN_A, "facets": [1]}}, "run.facets"),
    ],
)
def test_what_real_emitters_get_wrong_is_taken_and_noted(change: dict[str, Any], note: str) -> None:
    event = {**run_event("START"), **change}
    said = {name: value for name, value in event.items() if value is not None}
    read = read_event(json.dumps(said))
    assert any(line.startswith(f"{note}:") for line in read.validation)
    with pytest.raises(InvalidEvent):
        read_event(json.dumps(said), strict=True)
    with graph_of([said]) as graph:
        run = graph.entity(f"urn:fs:trial-component:Run:{read.run_id}")
        assert run.facets["validation"].value == read.validation


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("2026-01-31T12:00:00Z", 1769860800_000000),
        ("2026-01-31T12:00:00.123456789Z", 1769860800_123456),
        ("2026-01-31T14:00:00.5+02:00", 1769860800_500000),
        ("2026-01-31T13:00+0100[Europe/Zurich]", 1769860800_000000),
        ("2026-01-31 12:00:00,25", 1769860800_250000),
        (1769860800000, 1769860800_000000),
        (1769860800, 1769860800_000000),
        ("2016-12-31T23:59:60Z", 1483228799_000000),
        ("2026-02-30T12:00:00Z", 0),
        ("1066-10-14T09:00:00Z", 0),
        ("2026-01-31T12:00:00+99:00", 0),
        (None, 0),
        (True, 0),
        ([], 0),
    ],
)
def test_times_are_read_in_every_usual_form(text: object, us: int) -> None:
    assert read_time(text).us == us


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_FIELDS) | st.text(max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
_FACETS = st.dictionaries(st.sampled_from(_KNOWN) | st.text(max_size=3), _JSON, max_size=4)
_DATASETS = st.lists(
    st.builds(
        lambda name, facets, own: dataset(f"d{name}", facets=facets, inputFacets=own),
        st.text(max_size=3),
        _FACETS,
        _FACETS,
    ),
    max_size=2,
)


@settings(max_examples=15)
@given(_FACETS, _FACETS, _DATASETS, _DATASETS, st.text(max_size=3), st.sampled_from([True, False]))
def test_facets_of_any_form_are_taken(
    run_facets: Any, job_facets: Any, inputs: Any, outputs: Any, name: str, is_run: bool
) -> None:
    event = run_event(
        "COMPLETE",
        job=f"j{name}",
        inputs=inputs,
        outputs=outputs,
        run_facets=run_facets,
        job_facets=job_facets,
    )
    if not is_run:
        del event["run"], event["eventType"], event["schemaURL"]
    events = [event]
    if outputs:
        only = {"namespace", "name", "facets"}
        events.append({"dataset": {key: outputs[0][key] for key in only}})
    with graph_of(events) as graph:
        assert graph.entity(f"airflow/j{name}").type == "Job"
        if is_run:
            assert read_event(told(graph, RUN_A)).run_id == RUN_A


def test_odd_names_and_unknown_facets_are_kept() -> None:
    names = [
        "数据/表",
        "a b",
        "tab\there",
        "line\nbreak",
        "right\u202eleft",
        "é" * 5000,
        "%41",
        "#",
    ]
    outputs = [
        dataset(name, "odd ns/с", facets={"my-facet": facet(深=[{"ü": None}])}) for name in names
    ]
    with graph_of([run_event("COMPLETE", outputs=outputs, job="jöb\u2028")]) as graph:
        found = graph.query(RUN_A, "descendants", types=["DataSet"], include_edges=False)
        assert len(found) == len(names)
        said = {entity.facets["openlineage"].value["name"] for entity in found}  # type: ignore[index,call-overload]
        assert said == set(names)
        assert all(entity.facets["my-facet"].value["深"] == [{"ü": None}] for entity in found)  # type: ignore[index,call-overload]


def test_what_json_cannot_hold_is_kept_as_text_and_noted() -> None:
    deep: Any = "bottom"
    for _ in range(60):
        deep = {"down": deep}
    event = run_event("START", run_facets={"custom": facet(big=2**70, deep=deep)})
    text = json.dumps(event)[:-1] + ', "odd": ["\\ud800", NaN, -Infinity]}'
    read = read_event(text, strict=True)  # none of it is against the schema
    assert len(read.validation) == 5
    assert read.raw["odd"] == ["\ufffd", "nan", "-inf"]
    assert read.run_facets["custom"]["big"] == hex(2**70)
    with graph_of([]) as graph:
        record_event(graph, text)
        assert "bottom" in json.dumps(graph.entity(RUN_A).facets["custom"].value)


def test_an_event_of_ten_megabytes_is_one_event() -> None:
    rows = [
        {"name": f"column_{place}", "type": "VARCHAR", "pad": "x" * 100} for place in range(70_000)
    ]
    event = run_event(
        "COMPLETE",
        outputs=[
            dataset(
                "wide", facets={"schema": facet(fields=rows), "version": facet(datasetVersion="1")}
            )
        ],
    )
    text = json.dumps(event)
    assert len(text) > 10_000_000
    with graph_of([]) as graph:
        record_event(graph, text)
        schema = graph.entity("s3://bucket/wide").facets["schema"].value
        assert isinstance(schema, dict)
        assert len(schema["fields"]) == 70_000


def test_dataset_and_job_events_say_the_same_of_things_without_a_run() -> None:
    events = [
        {
            "eventTime": "2026-01-31T12:00:00Z",
            "producer": "https://example.org/job",
            "schemaURL": f"{SCHEMA}JobEvent",
            "job": {"namespace": "airflow", "name": "load"},
            "inputs": [dataset("raw")],
            "outputs": [dataset("flights")],
        },
        {
            "eventTime": "2026-01-31T12:00:00Z",
            "producer": "https://example.org/job",
            "schemaURL": f"{SCHEMA}DatasetEvent",
            "dataset": dataset("flights", facets={"documentation": facet(description="of 2013")}),
        },
    ]
    with graph_of(events) as graph:
        found = graph.query(
            "s3://bucket/flights", properties={"documentation.description": "of 2013"}
        )
        assert [entity.name for entity in found] == ["flights"]
        assert [entity.name for entity in graph.query("airflow/load", "both", depth=1)] == [
            "load",
            "raw",
            "flights",
        ]
        assert not read_event(events[0], strict=True).run_id


def test_the_event_itself_is_kept() -> None:
    event = run_event("START", unknown={"field": 1})
    with graph_of([event]) as graph:
        kept = graph.entity(RUN_A).facets["event"].value
        assert isinstance(kept, dict)
        assert json.loads(str(kept["raw"])) == event
        assert content(graph)["entities"]
