"""What one finds: versions and their readers, parents, symlinks, columns, explicit lineage."""

from __future__ import annotations

from typing import Any

import pytest

from lineage import Direction, Graph
from lineage.openlineage import dataset_uri
from lineage.openlineage.naming import dataset_name
from tests.lineage.openlineage.events import (
    RUN_A,
    RUN_B,
    RUN_C,
    dataset,
    facet,
    graph_of,
    run_event,
)


def _version(number: int) -> dict[str, Any]:
    return {"version": facet(datasetVersion=str(number))}


def _column(name: str, field: str, **how: Any) -> dict[str, Any]:
    return {**dataset(name), "field": field, "transformations": [how] if how else []}


def _links(graph: Graph, column: str, uri: str = "s3://bucket/flights") -> set[tuple[str, ...]]:
    return {
        (link.source_column, link.column, link.type, link.subtype)
        for link in graph.columns(uri, column, depth=1).links
    }


@pytest.mark.parametrize(
    ("namespace", "name", "uri"),
    [
        ("s3://bucket", "a/b", "s3://bucket/a/b"),
        ("s3n://Bucket/", "/a/b/", "s3://bucket/a/b"),
        ("file", "/a/b.csv", "file:///a/b.csv"),
        ("file://host", "/a/b.csv", "file://host/a/b.csv"),
        ("kafka://h:9092", "topic", "kafka://h:9092/topic"),
        ("postgresql://h:5432", "db.s.t", "postgres://h:5432/db.s.t"),
        ("mysql://h:3306", "db.t", "mysql://h:3306/db.t"),
        ("snowflake://org-account", "DB.S.T", "snowflake://org-account/DB.S.T"),
        ("bigquery", "p.d.t", "bigquery:p.d.t"),
        ("hdfs://nn:8020", "/warehouse/t", "hdfs://nn:8020/warehouse/t"),
        ("gs://bucket", "t", "gs://bucket/t"),
        ("inmemory://", "t", "inmemory:///t"),
        ("food_delivery", "public.t", "openlineage://food_delivery/public.t"),
        ("a/b", "c", "openlineage://a%2Fb/c"),
        ("s3://bucket", "t#version=1", "s3://bucket/t%23version=1"),
        ("s3://bucket", "t%23", "s3://bucket/t%2523"),
    ],
)
def test_a_dataset_has_one_uri_which_says_its_name(namespace: str, name: str, uri: str) -> None:
    assert dataset_uri(namespace, name) == uri
    assert dataset_uri(*dataset_name(uri)) == uri


def test_a_walk_goes_from_a_run_to_the_version_it_wrote_and_to_who_read_that() -> None:
    events = [
        run_event("START", 0, RUN_A, outputs=[dataset("flights", facets=_version(6))]),
        run_event("COMPLETE", 1, RUN_A, outputs=[dataset("flights", facets=_version(7))]),
        run_event("COMPLETE", 2, RUN_B, "train", inputs=[dataset("flights", facets=_version(7))]),
        run_event("COMPLETE", 3, RUN_C, "train", inputs=[dataset("flights", facets=_version(6))]),
    ]
    with graph_of(events) as graph:
        exact = ["Produced", "ContributedTo"]
        found = graph.query(RUN_A, "descendants", through=exact)
        assert [entity.name for entity in found] == [RUN_A, "flights", "flights@7", RUN_B]
        # Through everything no reader is missed where versions are named on one side only.
        every = {entity.name for entity in graph.query(RUN_A, "descendants")}
        assert {RUN_B, RUN_C} <= every
        assert {entity.name for entity in graph.query("s3://bucket/flights", "descendants")} >= {
            RUN_B,
            RUN_C,
        }


def test_a_run_knows_who_started_it() -> None:
    parent = facet(
        run={"runId": RUN_B},
        job={"namespace": "airflow", "name": "dag.task"},
        root={"run": {"runId": RUN_C}, "job": {"namespace": "airflow", "name": "dag"}},
    )
    with graph_of([run_event("START", run_facets={"parent": parent})]) as graph:
        above = graph.query(RUN_A, types=["Run"], include_edges=False)
        assert {entity.name for entity in above} == {RUN_A, RUN_B, RUN_C}
        below = graph.query("airflow/dag", "descendants", types=["Run"], include_edges=False)
        assert {entity.name for entity in below} == {RUN_A, RUN_C}


def test_two_names_of_one_dataset_are_walked_as_one() -> None:
    names = {"symlinks": facet(identifiers=[{"namespace": "hive://h:1", "name": "db.flights"}])}
    events = [
        run_event("COMPLETE", 0, RUN_A, outputs=[dataset("flights", facets=names)]),
        run_event("COMPLETE", 1, RUN_B, "train", inputs=[dataset("db.flights", "hive://h:1")]),
    ]
    with graph_of(events) as graph:
        assert RUN_B in {entity.name for entity in graph.query(RUN_A, "descendants")}
        assert RUN_A in {entity.name for entity in graph.query(RUN_B, "ascendants")}


def test_columns_are_walked_and_replaced_by_the_job_that_said_them() -> None:
    def said(minute: int, run: str, job: str, *inputs: Any, **more: Any) -> dict[str, Any]:
        columns = facet(fields={"delay": {"inputFields": list(inputs)}}, **more)
        outputs = [dataset("flights", facets={"columnLineage": columns})]
        return run_event("COMPLETE", minute, run, job, outputs=outputs)

    mean = _column("raw", "late", type="DIRECT", subtype="AGGREGATION", masking=True)
    key = _column("weather", "hour", type="INDIRECT", subtype="JOIN")
    events = [
        said(5, RUN_A, "load", mean, dataset=[key]),
        said(1, RUN_B, "load", _column("raw", "old")),  # earlier, though told later
        said(2, RUN_C, "other", _column("raw", "x")),
    ]
    with graph_of(events) as graph:
        assert _links(graph, "delay") == {
            ("late", "delay", "DIRECT", "AGGREGATION"),
            ("hour", "", "INDIRECT", "JOIN"),
            ("x", "delay", "DIRECT", ""),
        }
        reached = graph.columns("s3://bucket/raw", "late", Direction.DESCENDANTS)
        assert [node.column for node in reached] == ["late", "delay"]
        gone = said(9, RUN_A, "load")
        gone["outputs"][0]["facets"]["columnLineage"] = {"_deleted": True}
        with graph_of([gone, *events]) as after:
            assert _links(after, "delay") == {("x", "delay", "DIRECT", "")}


def test_the_older_form_of_column_lineage_is_read() -> None:
    older = facet(
        fields={
            "card": {
                "inputFields": [_column("raw", "number")],
                "transformationType": "MASKED",
                "transformationDescription": "sha256(number)",
            },
            "id": {"inputFields": [_column("raw", "id")], "transformationType": "IDENTITY"},
        }
    )
    with graph_of(
        [run_event("COMPLETE", outputs=[dataset("flights", facets={"columnLineage": older})])]
    ) as graph:
        links = graph.columns("s3://bucket/flights", depth=1).links
        card, identity = sorted(links, key=lambda link: link.column)
        assert (card.masking, card.description) == (True, "sha256(number)")
        assert (identity.masking, identity.subtype) == (False, "IDENTITY")


def test_explicit_lineage_of_datasets_and_jobs_is_walked() -> None:
    entries = [
        {
            "type": "DATASET",
            **dataset("flights"),
            "inputs": [
                {"type": "DATASET", **dataset("raw")},
                {"type": "DATASET", **dataset("weather"), "field": "hour"},
                {"type": "JOB", "namespace": "airflow", "name": "generate"},
            ],
            "fields": {
                "delay": {"inputs": [{"type": "DATASET", **dataset("raw"), "field": "late"}]},
                "noise": {"inputs": [{"type": "JOB"}]},
            },
        },
        {"type": "JOB", "inputs": [{"type": "JOB", "namespace": "airflow", "name": "before"}]},
        {
            "type": "JOB",
            "namespace": "airflow",
            "name": "after",
            "inputs": [{"type": "DATASET", **dataset("flights")}],
        },
    ]
    event = {
        "eventTime": "2026-01-31T12:00:00Z",
        "job": {
            "namespace": "airflow",
            "name": "load",
            "facets": {"lineage": facet(entries=entries)},
        },
    }
    with graph_of([event]) as graph:
        above = {entity.name for entity in graph.query("s3://bucket/flights")}
        assert above == {"flights", "raw", "generate", "load", "before"}
        assert {entity.name for entity in graph.query("airflow/load")} == {"load", "before"}
        assert "after" in {entity.name for entity in graph.query("s3://bucket/raw", "descendants")}
        assert _links(graph, "delay") == {
            ("late", "delay", "DIRECT", ""),
            ("hour", "", "INDIRECT", ""),
        }
        (noise,) = [
            link
            for link in graph.columns("s3://bucket/flights", "noise", depth=1).links
            if link.column
        ]
        assert graph.entity(noise.source).name == "load"


def test_a_dataset_that_was_renamed_comes_from_the_one_before() -> None:
    change = facet(
        lifecycleStateChange="RENAME",
        previousIdentifier={"namespace": "s3://bucket", "name": "old"},
    )
    event = {"dataset": dataset("new", facets={"lifecycleStateChange": change})}
    with graph_of([event]) as graph:
        assert [entity.name for entity in graph.query("s3://bucket/new")] == ["new", "old"]


def test_facets_are_found_by_what_they_hold() -> None:
    facets = {
        "ownership": facet(owners=[{"name": "team:flights"}]),
        "dataQualityMetrics": facet(rowCount=7),
        "storage": facet(storageLayer="delta"),
    }
    outputs = [
        dataset("flights", facets=facets, outputFacets={"outputStatistics": facet(rowCount=5)})
    ]
    inputs = [dataset("raw", inputFacets={"dataQualityAssertions": facet(assertions=[])})]
    with graph_of([run_event("COMPLETE", inputs=inputs, outputs=outputs)]) as graph:
        for name, value in (
            ("storage.storageLayer", "delta"),
            ("outputStatistics.rowCount", 5),
            ("dataQualityMetrics.rowCount", 7),
        ):
            found = graph.query(RUN_A, "descendants", properties={name: value}, include_edges=False)
            assert [entity.name for entity in found] == ["flights"], name
        run = graph.entity(RUN_A)
        assert "input/dataQualityAssertions/s3://bucket/raw" in run.facets
        assert run.facets["job"].value == {"namespace": "airflow", "name": "load"}
