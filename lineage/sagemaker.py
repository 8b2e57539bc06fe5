"""What SageMaker records by itself, under its names, for what has no service here yet.

Each function records one event and returns the entity that stands for the whole. Recorded again,
an entity is merged into itself, so telling twice changes nothing. Ends may be entities, uids, or
uris, which are data sets then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TypeAlias

from lineage.capture.recorder import RecordsLineage
from lineage.entity import (
    JSON,
    End,
    Entity,
    action,
    artifact,
    context,
    plain_json,
    to_us,
    trial_component,
)
from lineage.errors import InvalidEntity

Ends: TypeAlias = Sequence[End]
GroupVersion: TypeAlias = tuple[str, datetime] | tuple[str, datetime, int]
_Link: TypeAlias = tuple[End, End, str]

_CONTRIBUTED, _PRODUCED, _ASSOCIATED = "ContributedTo", "Produced", "AssociatedWith"


def processing_job(
    graph: RecordsLineage,
    name: str,
    *,
    arn: str = "",
    image: str = "",
    inputs: Ends = (),
    outputs: Ends = (),
    parameters: Mapping[str, object] | None = None,
    state: str = "Completed",
) -> Entity:
    """Record a processing job: what it read, what it made, the image it ran in.

    Args:
        graph: where to record.
        name: of the job; the trial component is called `NAME-aws-processing-job`.
        arn: of the job.
        image: uri of the container image.
        inputs: entities, uids or uris.
        outputs: the same; a feature group is one too.
        parameters: of the job; JSON values.
        state: such as InProgress, Completed, Failed, Stopped.

    >>> from lineage import Graph, MemoryStore
    >>> graph = Graph(MemoryStore())
    >>> job = processing_job(graph, "clean", inputs=["s3://b/raw"], outputs=["s3://b/clean"])
    >>> [entity.name for entity in graph.query(job, "both")]
    ['clean-aws-processing-job', 'raw', 'clean']
    """
    return _job(graph, "ProcessingJob", name, arn, image, inputs, outputs, parameters, state)


def transform_job(
    graph: RecordsLineage,
    name: str,
    *,
    model: End,
    arn: str = "",
    inputs: Ends = (),
    outputs: Ends = (),
    rows_in: int | None = None,
    rows_out: int | None = None,
    state: str = "Completed",
) -> Entity:
    """Record a batch transform: rows in, the exact model, rows out; as `processing_job`.

    Args:
        graph: where to record.
        name: of the job; the trial component is called `NAME-aws-transform-job`.
        model: the version of the model that answered.
        arn: of the job.
        inputs: what was answered.
        outputs: the replies.
        rows_in: how many rows went in; None: not known.
        rows_out: how many came out.
        state: as for `processing_job`.
    """
    counts = {"rows_in": rows_in, "rows_out": rows_out}
    known = {key: value for key, value in counts.items() if value is not None}
    read = [*inputs, _end(model, "Model")]
    return _job(graph, "TransformJob", name, arn, "", read, outputs, None, state, known)


def model_package_group(graph: RecordsLineage, name: str, *, arn: str = "") -> Entity:
    """Record a group of model packages: the versions of one model."""
    group = context("ModelGroup", name, source_uri=arn)
    return _record(graph, [group], [], "ModelPackageGroupCreated")


def model_package(
    graph: RecordsLineage,
    arn: str,
    *,
    group: str | Entity,
    version: int,
    models: Ends = (),
    images: Sequence[str] = (),
    evaluation: End | None = None,
) -> Entity:
    """Record a version in the model registry, and how it came about.

    Args:
        graph: where to record.
        arn: of the package; it is the artifact's source.
        group: the package group, or its name.
        version: in the group, from 1.
        models: the artifacts or uris of its model data.
        images: uris of its containers' images.
        evaluation: a report on its quality.
    """
    inside = context("ModelGroup", group) if isinstance(group, str) else group
    package = artifact(
        "Model", arn, name=f"{inside.name}/{version}", properties={"package_version": version}
    )
    name = f"{inside.name}/{version}-aws-model-package"
    made = action("ModelPackage", name, source_uri=arn, state="Completed")
    parts = [_end(one, "Model") for one in models]
    parts += [artifact("Image", uri) for uri in images]
    links: list[_Link] = [(part, package, _CONTRIBUTED) for part in parts]
    links += [(part, made, _CONTRIBUTED) for part in parts]
    links += [(made, package, _PRODUCED), (package, inside, _ASSOCIATED)]
    if evaluation is not None:
        links.append((_end(evaluation, "EvaluationReport"), package, _ASSOCIATED))
    return _record(graph, [package, made], links, "ModelPackageCreated")


def approval(
    graph: RecordsLineage,
    package: End,
    *,
    by: str,
    status: str = "Approved",
    reason: str = "",
) -> Entity:
    """Record that a model package was approved, rejected, or waits: an action behind it.

    Args:
        graph: where to record.
        package: the artifact, or the package's ARN.
        by: who decided.
        status: Approved, Rejected or PendingManualApproval; it is the action's state.
        reason: why.

    Raises:
        InvalidEntity: another status.
    """
    if status not in ("Approved", "Rejected", "PendingManualApproval"):
        raise InvalidEntity(
            f"approval: expected Approved, Rejected or PendingManualApproval, got {status!r}"
        )
    known = _end(package, "Model")
    name = f"{_named(known)}-aws-model-package-approval"
    properties: dict[str, JSON] = {"by": by, "reason": reason}
    decided = action("Approval", name, state=status, properties=properties)
    return _record(graph, [decided], [(known, decided, _CONTRIBUTED)], f"ModelPackage{status}")


def endpoint(
    graph: RecordsLineage,
    name: str,
    *,
    models: Ends,
    arn: str = "",
    images: Sequence[str] = (),
    config: str = "",
    approvals: Ends = (),
    is_update: bool = False,
    at: datetime | None = None,
) -> Entity:
    """Record that models are live behind an endpoint: models → deployment → endpoint.

    Args:
        graph: where to record.
        name: of the endpoint.
        models: artifacts, ARNs of packages, or uris of model data.
        arn: of the endpoint.
        images: uris of the containers' images.
        config: name of the endpoint configuration: each is a deployment of its own.
        approvals: actions that allowed it.
        is_update: whether it took the place of an earlier deployment.
        at: since when it is live, with a zone.
    """
    live = context("Endpoint", name, source_uri=arn, properties={"config": config})
    since: dict[str, JSON] = {} if at is None else {"live_us": to_us(at)}
    deployed = action(
        "ModelReplaced" if is_update else "ModelDeployment",
        f"{name}-{config}-aws-endpoint" if config else f"{name}-aws-endpoint",
        source_uri=arn,
        state="Completed",
        properties={"config": config, **since},
    )
    parts = [_end(one, "Model") for one in models]
    parts += [artifact("Image", uri) for uri in images]
    links: list[_Link] = [(part, deployed, _CONTRIBUTED) for part in (*parts, *approvals)]
    links.append((deployed, live, _ASSOCIATED))
    return _record(graph, [live, deployed], links, "EndpointDeployed")


def feature_group_pipeline(name: str, created: datetime, version: int = 1) -> tuple[Entity, Entity]:
    """The two contexts that stand for a feature group in SageMaker's pipelines of features.

    Args:
        name: of the feature group.
        created: when it was made.
        version: of its definition: each has a second context of its own. The first is called as
            SageMaker's SDK looks for it, the others have their number behind that.
    """
    pipeline = f"{name}-{to_us(created) // 1_000_000}-feature-group-pipeline"
    number = "" if version == 1 else f"-{version}"
    return (
        context("FeatureGroupPipeline", pipeline),
        context(
            "FeatureGroupPipelineVersion",
            f"{pipeline}-version{number}",
            properties={"version": version},
        ),
    )


def feature_processor(
    graph: RecordsLineage,
    name: str,
    *,
    created: datetime,
    updated: datetime,
    groups: Sequence[GroupVersion] = (),
    raw_data: Sequence[str] = (),
    output: GroupVersion,
    code: Mapping[str, str] | None = None,
    schedule: Mapping[str, str] | None = None,
    trigger: Mapping[str, str] | None = None,
) -> Entity:
    """Record a feature processor: a pipeline that makes a feature group from groups and files.

    Args:
        graph: where to record.
        name: of the pipeline.
        created: when it was made; names its context.
        updated: when its inputs or output last changed; names the context of its version.
        groups: name and creation time of each feature group that it reads, and the version of its
            definition where that is not the first.
        raw_data: uris that it reads.
        output: the same of the feature group that it writes.
        code: `uri`, and `name`, `author`, `state` of the transformation code.
        schedule: `name`, `schedule_expression`, `state`, `start_date`.
        trigger: `name`, `event_pattern`, `state`.

    Returns:
        the context of the pipeline.
    """
    pipeline = context(
        "FeatureEngineeringPipeline", f"sm-fs-fe-{name}-{to_us(created) // 1_000_000}-fep"
    )
    epoch = to_us(updated) // 1_000_000
    version = context("FeatureEngineeringPipelineVersion", f"sm-fs-fe-{name}-{epoch}-fep-ver")
    links: list[_Link] = [(pipeline, version, _ASSOCIATED)]
    for group in groups:
        read, read_version = feature_group_pipeline(*group)
        links.append((context("FeatureGroup", group[0]), read, _ASSOCIATED))
        links += [(read, pipeline, _CONTRIBUTED), (read_version, version, _CONTRIBUTED)]
    for uri in raw_data:
        data = artifact("DataSet", uri, name="sm-fs-fe-raw-data")
        links += [(data, pipeline, _CONTRIBUTED), (data, version, _CONTRIBUTED)]
    about: list[Entity] = []
    if code is not None:
        label = f"sm-fs-fe-transformation-code-{epoch}"
        about.append(_described("TransformationCode", code["uri"], label, code))
    if schedule is not None:
        label = f"sm-fs-fe-{schedule['name']}"
        about.append(_described("PipelineSchedule", f"schedule:{name}", label, schedule))
    if trigger is not None:
        label = f"sm-fs-fe-trigger-{trigger['name']}"
        about.append(_described("PipelineTrigger", f"trigger:{name}", label, trigger))
    links += [(one, version, _CONTRIBUTED) for one in about]
    made, made_version = feature_group_pipeline(*output)
    links += [(pipeline, made, _CONTRIBUTED), (version, made_version, _CONTRIBUTED)]
    links.append((made, context("FeatureGroup", output[0]), _ASSOCIATED))
    return _record(graph, [pipeline, version, *about], links, "FeatureProcessorUpdated")


def _job(
    graph: RecordsLineage,
    type: str,
    name: str,
    arn: str,
    image: str,
    inputs: Ends,
    outputs: Ends,
    parameters: Mapping[str, object] | None,
    state: str,
    properties: Mapping[str, JSON] | None = None,
) -> Entity:
    suffix = {"ProcessingJob": "processing", "TransformJob": "transform"}[type]
    where = f"{type} {name!r}: parameters"
    job = trial_component(
        type,
        f"{name}-aws-{suffix}-job",
        source_uri=arn,
        state=state,
        properties={
            "job": name,
            "source_type": f"SageMaker{type}",
            "parameters": plain_json(dict(parameters or {}), where),
            **(properties or {}),
        },
    )
    links: list[_Link] = [(_end(one, "DataSet"), job, _CONTRIBUTED) for one in inputs]
    if image:
        links.append((artifact("Image", image), job, _CONTRIBUTED))
    links += [(job, _end(one, "DataSet"), _PRODUCED) for one in outputs]
    return _record(graph, [job], links, f"{type}{state}")


def _record(
    graph: RecordsLineage, entities: Sequence[Entity], links: Sequence[_Link], kind: str
) -> Entity:
    # A job may write what it reads: a table, a feature group.
    return graph.record(entities, links, kind=kind, cycles="allow").entities[0]


def _end(end: End, type: str) -> End:
    """An entity or a uid as it is; any other text is the uri of an artifact."""
    if isinstance(end, Entity) or end.startswith("urn:"):
        return end
    return artifact(type, end)


def _named(end: End) -> str:
    return end.name if isinstance(end, Entity) else end


def _described(type: str, uri: str, name: str, facts: Mapping[str, str]) -> Entity:
    properties: dict[str, JSON] = {key: value for key, value in facts.items() if key != "uri"}
    return artifact(type, uri, name=name, properties=properties)
