"""Any order, any duplication and any gap: one graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.lineage.openlineage.events import (
    RUN_A,
    RUN_B,
    RUN_C,
    content,
    dataset,
    facet,
    graph_of,
    run_event,
)

_RUNS = (RUN_A, RUN_B, RUN_C)
_NAMES = ("raw", "flights", "weather")


def _column(source: str, *, subtype: str = "IDENTITY") -> dict[str, Any]:
    how = [{"type": "DIRECT", "subtype": subtype}]
    return {**dataset(source), "field": "x", "transformations": how}


_FACETS = st.fixed_dictionaries(
    {},
    optional={
        "version": st.sampled_from([facet(datasetVersion="1"), facet(datasetVersion="2")]),
        "schema": st.sampled_from(
            [
                facet(fields=[{"name": "x", "type": "int"}]),
                facet(fields=[{"name": "x", "type": "long"}]),
                {"_deleted": True},
            ]
        ),
        "symlinks": st.just(
            facet(identifiers=[{"namespace": "hive://h", "name": "db.raw", "type": "TABLE"}])
        ),
        "columnLineage": st.sampled_from(
            [
                facet(fields={"x": {"inputFields": [_column("raw")]}}),
                facet(fields={"x": {"inputFields": [_column("weather", subtype="SUM")]}}),
                facet(fields={}, dataset=[_column("raw", subtype="JOIN")]),
                {"_deleted": True},
            ]
        ),
        "lifecycleStateChange": st.just(
            facet(
                lifecycleStateChange="RENAME",
                previousIdentifier={"namespace": "s3://bucket", "name": "old"},
            )
        ),
        "state": st.sampled_from([facet(is_ours=False), facet(is_ours=True)]),
    },
)
_INPUT = st.builds(
    lambda name, slash, facets, rows: dataset(
        f"{slash}{name}", facets=facets, inputFacets={"inputStatistics": facet(rowCount=rows)}
    ),
    st.sampled_from(_NAMES),
    st.sampled_from(["", "/"]),  # another spelling of the same dataset
    _FACETS,
    st.integers(0, 2),
)
_OUTPUT = st.builds(
    lambda name, facets, rows: dataset(
        name, facets=facets, outputFacets={"outputStatistics": facet(rowCount=rows)}
    ),
    st.sampled_from(_NAMES),
    _FACETS,
    st.integers(0, 2),
)
_PARENT = st.builds(
    lambda run, root: facet(
        run={"runId": run},
        job={"namespace": "airflow", "name": "dag"},
        root={"run": {"runId": root}, "job": {"namespace": "airflow", "name": "all"}},
    ),
    st.sampled_from(_RUNS),
    st.sampled_from(_RUNS),
)
_RUN_EVENT = st.builds(
    lambda state, minute, run, job, inputs, outputs, run_facets, time: run_event(
        state,
        minute,
        run,
        job,
        inputs=inputs,
        outputs=outputs,
        run_facets=run_facets,
        **time,
    ),
    st.sampled_from(["START", "RUNNING", "COMPLETE", "FAIL", "ABORT", "OTHER", None]),
    st.integers(0, 3),  # few, so that several events have the same time
    st.sampled_from(_RUNS),
    st.sampled_from(["load", "train"]),
    st.lists(_INPUT, max_size=2),
    st.lists(_OUTPUT, max_size=2),
    st.fixed_dictionaries({}, optional={"parent": _PARENT}),
    st.sampled_from([{}, {}, {"eventTime": None}, {"eventTime": "2026-01-31T14:01:00+02:00"}]),
)
_EVENT = st.one_of(
    _RUN_EVENT,
    _RUN_EVENT,
    st.builds(
        lambda event, entries: (
            {name: value for name, value in event.items() if name not in ("run", "eventType")}
            | {
                "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/JobEvent",
                "job": {**event["job"], "facets": {"lineage": facet(entries=entries)}},
            }
        ),
        _RUN_EVENT,
        st.sampled_from(
            [
                [],
                [{"type": "DATASET", **dataset("raw"), "inputs": [{"type": "JOB"}]}],
                [{"type": "JOB", "inputs": [{"type": "DATASET", **dataset("weather")}]}],
            ]
        ),
    ),
    st.builds(
        lambda event, dataset: {"eventTime": event["eventTime"], "dataset": dataset},
        _RUN_EVENT.filter(lambda event: "eventTime" in event),
        _OUTPUT.map(lambda said: {name: said[name] for name in ("namespace", "name", "facets")}),
    ),
)


@settings(max_examples=30)
@given(st.data())
def test_any_order_and_any_duplication_give_the_same_graph(data: st.DataObject) -> None:
    events = data.draw(st.lists(_EVENT, min_size=2, max_size=7))
    again = data.draw(st.lists(st.sampled_from(events), max_size=3))
    shuffled = data.draw(st.permutations([*events, *again]))
    with graph_of(events) as first, graph_of(shuffled) as second:
        assert content(second) == content(first)
        assert first.verify(projections=True).intact


def _whole_run() -> list[dict[str, Any]]:
    parent = facet(run={"runId": RUN_B}, job={"namespace": "airflow", "name": "dag"})
    inputs = [dataset("raw", facets={"version": facet(datasetVersion="3")})]
    outputs = [dataset("flights", facets={"version": facet(datasetVersion="7")})]
    return [
        run_event("START", 0, inputs=inputs, run_facets={"parent": parent}),
        run_event("OTHER", 1, inputs=inputs),
        run_event("RUNNING", 2, outputs=outputs),
        run_event("COMPLETE", 3, outputs=outputs),
    ]


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 3, 0, 2), (2, 3, 1, 0, 0, 3)])
def test_a_run_told_in_another_order_is_the_same_run(order: Sequence[int]) -> None:
    events = _whole_run()
    with graph_of(events) as told, graph_of(events[place] for place in order) as retold:
        assert content(retold) == content(told)
        assert retold.entity(RUN_A).state == "Completed"


def test_the_last_end_by_time_counts_and_no_event_after_it_opens_the_run_again() -> None:
    events = [run_event("FAIL", 5), run_event("COMPLETE", 3), run_event("RUNNING", 9)]
    with graph_of(events) as graph:
        assert graph.entity(RUN_A).state == "Failed"


@pytest.mark.parametrize("state", ["START", "RUNNING"])
def test_a_stream_shows_with_one_event_that_does_not_end_it(state: str) -> None:
    kind = facet(processingType="STREAMING", integration="FLINK")
    event = run_event(
        state,
        inputs=[dataset("clicks", "kafka://broker:9092")],
        outputs=[dataset("sessions")],
        job_facets={"jobType": kind},
    )
    with graph_of([event]) as graph:
        assert graph.entity(RUN_A).state == "InProgress"
        found = graph.query("s3://bucket/sessions", types=["DataSet"])
        assert [entity.name for entity in found] == ["sessions", "clicks"]
        streaming = graph.query(
            RUN_A, "both", properties={"jobType.processingType": "STREAMING"}, include_edges=False
        )
        assert [entity.name for entity in streaming] == ["load"]


def test_a_facet_is_replaced_by_a_later_one_and_deleted_by_its_mark() -> None:
    def said(minute: int, **facets: Any) -> dict[str, Any]:
        return run_event("RUNNING", minute, outputs=[dataset("flights", facets=facets)])

    old, new = facet(fields=[{"name": "a"}]), facet(fields=[{"name": "b"}])
    events = [said(2, schema=new), said(1, schema=old), said(3, ownership={"_deleted": True})]
    events.append(said(1, ownership=facet(owners=[{"name": "team"}])))
    with graph_of(events) as graph:
        flights = graph.entity("s3://bucket/flights")
        assert flights.facets["schema"].value == new
        assert flights.facets["ownership"].value is None


def test_the_same_event_in_another_formatting_is_recorded_once() -> None:
    event = run_event("START")
    other = dict(reversed(list(copy.deepcopy(event).items())))
    with graph_of([event, other]) as graph:
        assert graph.stats()["events"] == 1
