"""Every facet that OpenLineage's own emitters write: kept, found by what it holds, given back."""

from __future__ import annotations

from typing import Any

import pytest

from lineage import Graph, MemoryStore
from lineage.openlineage import record_event, run_event
from tests.lineage.openlineage.events import RUN_A, RUN_B, RUN_C, dataset, facet
from tests.lineage.openlineage.events import run_event as event_of

RUN: dict[str, Any] = {
    "parent": facet(
        run={"runId": RUN_B},
        job={"namespace": "airflow", "name": "daily"},
        root={"run": {"runId": RUN_C}, "job": {"namespace": "airflow", "name": "all"}},
    ),
    "nominalTime": facet(nominalStartTime="2026-01-31T00:00:00Z"),
    "errorMessage": facet(message="no space", programmingLanguage="PYTHON"),
    "processing_engine": facet(version="3.5", name="spark"),
    "externalQuery": facet(externalQueryId="q-1", source="bigquery"),
    "environmentVariables": facet(environmentVariables=[{"name": "TZ", "value": "UTC"}]),
    "executionParameters": facet(parameters=[{"key": "k", "name": "n", "value": "v"}]),
    "jobDependencies": facet(
        upstream=[{"job": {"namespace": "airflow", "name": "before"}}], downstream=[]
    ),
    "tags": facet(tags=[{"key": "team", "value": "late", "source": "USER"}]),
}
JOB: dict[str, Any] = {
    "jobType": facet(processingType="BATCH", integration="SPARK", jobType="JOB"),
    "sql": facet(query="SELECT 1", dialect="duckdb"),
    "sourceCode": facet(language="python", sourceCode="x = 1"),
    "sourceCodeLocation": facet(type="git", url="https://example.org/repository"),
    "documentation": facet(description="loads flights"),
    "ownership": facet(owners=[{"name": "team:flights", "type": "MAINTAINER"}]),
    "lineage": facet(
        entries=[
            {
                "type": "DATASET",
                **dataset("flights"),
                "inputs": [{"type": "DATASET", **dataset("raw")}],
            }
        ]
    ),
}
INPUT: dict[str, Any] = {
    "schema": facet(fields=[{"name": "late", "type": "INT", "description": "minutes"}]),
    "version": facet(datasetVersion="7"),
    "dataSource": facet(name="lake", uri="s3://bucket"),
    "lifecycleStateChange": facet(lifecycleStateChange="OVERWRITE"),
    "hierarchy": facet(hierarchy=[{"type": "DATABASE", "name": "lake"}]),
    "storage": facet(storageLayer="delta", fileFormat="parquet"),
    "catalog": facet(framework="iceberg", type="hive", name="main"),
    "datasetType": facet(datasetType="TABLE"),
    "documentation": facet(description="as it came"),
    "ownership": facet(owners=[{"name": "team:lake"}]),
    "tags": facet(tags=[{"key": "pii", "value": "no"}]),
}
OUTPUT: dict[str, Any] = {
    **INPUT,
    "symlinks": facet(
        identifiers=[{"namespace": "hive://host:9083", "name": "lake.flights", "type": "TABLE"}]
    ),
    "columnLineage": facet(
        fields={
            "delay": {
                "inputFields": [
                    {
                        **dataset("raw"),
                        "field": "late",
                        "transformations": [
                            {
                                "type": "DIRECT",
                                "subtype": "AGGREGATION",
                                "description": "mean",
                                "masking": True,
                            }
                        ],
                    }
                ]
            }
        },
        dataset=[
            {
                **dataset("raw"),
                "field": "key",
                "transformations": [{"type": "INDIRECT", "subtype": "JOIN"}],
            }
        ],
    ),
}
READ: dict[str, Any] = {
    "inputStatistics": facet(rowCount=3, size=9, fileCount=1),
    "dataQualityMetrics": facet(rowCount=3, columnMetrics={"late": {"nullCount": 1}}),
    "dataQualityAssertions": facet(
        assertions=[{"assertion": "not_null", "success": False, "column": "late"}]
    ),
    "subset": facet(inputCondition={"type": "partition", "partitions": []}),
}
WRITTEN: dict[str, Any] = {"outputStatistics": facet(rowCount=3, size=9, fileCount=1)}


@pytest.fixture
def graph() -> Graph:
    event = event_of(
        "FAIL",
        run_facets=RUN,
        job_facets=JOB,
        inputs=[dataset("raw", facets=INPUT, inputFacets=READ)],
        outputs=[dataset("flights", facets=OUTPUT, outputFacets=WRITTEN)],
    )
    graph = Graph(MemoryStore())
    record_event(graph, event, strict=True)
    return graph


def test_each_is_kept_where_it_was_said_and_found_by_what_it_holds(graph: Graph) -> None:
    for name, facets in (
        (RUN_A, RUN),
        ("airflow/load", JOB),
        ("s3://bucket/raw", INPUT | READ),
        ("s3://bucket/flights", OUTPUT | WRITTEN),
    ):
        assert facets.keys() <= graph.entity(name).facets.keys(), name
    for path, value, names in (
        ("nominalTime.nominalStartTime", "2026-01-31T00:00:00Z", {RUN_A}),
        ("sql.dialect", "duckdb", {"load"}),
        ("catalog.framework", "iceberg", {"raw", "flights"}),
        ("subset.inputCondition.type", "partition", {"raw"}),
        ("outputStatistics.size", 9, {"flights"}),
    ):
        found = graph.query(RUN_A, "both", properties={path: value}, include_edges=False)
        assert {one.name for one in found if "@" not in one.name} == names, path


def test_each_is_given_back_as_it_came(graph: Graph) -> None:
    said = run_event(graph, RUN_A)
    assert said["eventType"] == "FAIL"
    ((read,), (written,)) = said["inputs"], said["outputs"]
    for what, wanted, got in (
        ("run", RUN, said["run"]["facets"]),
        ("job", JOB, said["job"]["facets"]),
        ("input", INPUT, read["facets"]),
        ("input", READ, read["inputFacets"]),
        ("output", OUTPUT, written["facets"]),
        ("output", WRITTEN, written["outputFacets"]),
    ):
        for name, value in wanted.items():
            content = {key: one for key, one in got[name].items() if key[0] != "_"}
            assert content == {key: one for key, one in value.items() if key[0] != "_"}, (
                what,
                name,
            )
