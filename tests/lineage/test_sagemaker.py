"""What SageMaker records by itself: names, types and associations as its own service has them."""

from datetime import UTC, datetime

import pytest

import lineage
from lineage import Entity, Graph, InvalidEntity, MemoryStore, sagemaker

CREATED = datetime(2026, 1, 2, 3, 4, 5, 900_000, tzinfo=UTC)
UPDATED = datetime(2026, 2, 2, tzinfo=UTC)


@pytest.fixture
def graph() -> Graph:
    return Graph(MemoryStore())


def edges(graph: Graph, start: Entity) -> set[tuple[str, str, str]]:
    found = graph.query(start, "both")
    names = {one.uid: one.name for one in found}
    return {(names[e.source], names[e.destination], e.type.value) for e in found.associations}


def test_a_processing_job_from_its_inputs_to_its_outputs(graph: Graph) -> None:
    group = lineage.context("FeatureGroup", "flights")
    job = sagemaker.processing_job(
        graph,
        "clean",
        arn="arn:aws:sagemaker:eu-central-1:1:processing-job/clean",
        image="registry/sklearn:1",
        inputs=["s3://b/raw"],
        outputs=["s3://b/clean", group],
        parameters={"instances": 2},
    )
    assert (job.type, job.name, job.state) == (
        "ProcessingJob",
        "clean-aws-processing-job",
        "Completed",
    )
    assert job.properties["source_type"] == "SageMakerProcessingJob"
    assert job.properties["parameters"] == {"instances": 2}
    assert edges(graph, job) == {
        ("raw", "clean-aws-processing-job", "ContributedTo"),
        ("sklearn:1", "clean-aws-processing-job", "ContributedTo"),
        ("clean-aws-processing-job", "clean", "Produced"),
        ("clean-aws-processing-job", "flights", "Produced"),
    }
    types = {one.name: one.type for one in graph.query(job, "both")}
    assert (types["raw"], types["clean"], types["sklearn:1"]) == ("DataSet", "DataSet", "Image")


def test_from_data_to_a_live_endpoint(graph: Graph) -> None:
    model = lineage.artifact("Model", "s3://b/output/model.tar.gz", content_hash="9")
    with lineage.Recorder(graph, "TrainingJob", "j-aws-training-job") as job:
        data = job.input(lineage.artifact("DataSet", "s3://b/train"))
        job.output(model)
    group = sagemaker.model_package_group(graph, "late", arn="arn:group")
    assert group.type == "ModelGroup"
    package = sagemaker.model_package(
        graph,
        "arn:package/1",
        group=group,
        version=1,
        models=[model],
        images=["registry/xgb"],
        evaluation="s3://b/report",
    )
    assert (package.type, package.source_uri) == ("Model", "arn:package/1")
    allowed = sagemaker.approval(graph, "arn:package/1", by="ann", reason="good")
    assert (allowed.type, allowed.state, allowed.properties["by"]) == (
        "Approval",
        "Approved",
        "ann",
    )
    live = sagemaker.endpoint(
        graph,
        "late",
        models=[package],
        images=["registry/xgb"],
        config="late-1",
        approvals=[allowed],
        at=CREATED,
    )
    reached = {one.type for one in graph.query(data, "descendants")}
    assert reached == {
        *("DataSet", "TrainingJob", "Model", "ModelPackage", "ModelGroup"),
        *("Approval", "ModelDeployment", "Endpoint"),
    }
    assert ("late-late-1-aws-endpoint", "late", "AssociatedWith") in edges(graph, live)
    again = sagemaker.endpoint(graph, "late", models=[package], config="late-2", is_update=True)
    assert again.uid == live.uid
    assert [one.state for one in graph.find(type="ModelReplaced")] == ["Completed"]
    assert "EvaluationReport" in {one.type for one in graph.query(package)}
    with pytest.raises(InvalidEntity, match="expected Approved, Rejected"):
        sagemaker.approval(graph, package, by="ann", status="Fine")


def test_a_transform_job_names_the_exact_model(graph: Graph) -> None:
    model = lineage.artifact("Model", "s3://b/model", content_hash="9")
    job = sagemaker.transform_job(
        graph, "t", model=model, inputs=["s3://b/in"], outputs=["s3://b/out"], rows_in=3, rows_out=3
    )
    assert (job.name, job.properties["rows_out"]) == ("t-aws-transform-job", 3)
    assert edges(graph, job) == {
        ("in", "t-aws-transform-job", "ContributedTo"),
        ("model", "t-aws-transform-job", "ContributedTo"),
        ("t-aws-transform-job", "out", "Produced"),
    }


def test_a_feature_processor_between_feature_groups(graph: Graph) -> None:
    def record() -> Entity:
        return sagemaker.feature_processor(
            graph,
            "p",
            created=CREATED,
            updated=UPDATED,
            groups=[("raw", CREATED), ("more", CREATED, 3)],
            raw_data=["s3://b/x.csv"],
            output=("made", CREATED),
            code={"uri": "s3://b/code.py", "name": "code", "author": "ann", "state": "Active"},
            schedule={"name": "daily", "schedule_expression": "rate(1 day)", "state": "ENABLED"},
            trigger={"name": "t", "event_pattern": "{}", "state": "ENABLED"},
        )

    pipeline = record()
    at, then = int(CREATED.timestamp()), int(UPDATED.timestamp())
    fep, version = f"sm-fs-fe-p-{at}-fep", f"sm-fs-fe-p-{then}-fep-ver"
    assert (pipeline.name, pipeline.type) == (fep, "FeatureEngineeringPipeline")
    known = edges(graph, pipeline)
    assert known == {
        (fep, version, "AssociatedWith"),
        ("raw", f"raw-{at}-feature-group-pipeline", "AssociatedWith"),
        (f"made-{at}-feature-group-pipeline", "made", "AssociatedWith"),
        (f"raw-{at}-feature-group-pipeline", fep, "ContributedTo"),
        (f"raw-{at}-feature-group-pipeline-version", version, "ContributedTo"),
        ("more", f"more-{at}-feature-group-pipeline", "AssociatedWith"),
        (f"more-{at}-feature-group-pipeline", fep, "ContributedTo"),
        (f"more-{at}-feature-group-pipeline-version-3", version, "ContributedTo"),
        ("sm-fs-fe-raw-data", fep, "ContributedTo"),
        ("sm-fs-fe-raw-data", version, "ContributedTo"),
        (f"sm-fs-fe-transformation-code-{then}", version, "ContributedTo"),
        ("sm-fs-fe-daily", version, "ContributedTo"),
        ("sm-fs-fe-trigger-t", version, "ContributedTo"),
        (fep, f"made-{at}-feature-group-pipeline", "ContributedTo"),
        (version, f"made-{at}-feature-group-pipeline-version", "ContributedTo"),
    }
    record()
    assert edges(graph, pipeline) == known
