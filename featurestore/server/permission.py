"""Which permission each call needs: one table of every method of every service.

A method that is not in it is refused. Health and reflection are not services of the store: they
stay open, so that a load balancer needs no token.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from featurestore.auth import arn, group_arn
from featurestore.errors import AccessDenied, InvalidRequest
from featurestore.window import WindowedGroup
from featurestore.wire.dataset import manifest_features, read_manifest

__all__ = [
    "ACTIONS",
    "DELETE",
    "METHODS",
    "Needs",
    "action_and_resources",
    "built_from",
    "position_needs",
    "readable_features",
]

Needs = list[tuple[str, str]]


def action_and_resources(method: str, request: Any) -> Needs:
    """Return the permissions that a call needs, all of them, as (action, resource).

    Actions have SageMaker's names where it has the call, and begin with `featureline:` elsewhere.
    Calls about all groups or jobs have the resource `…:feature-group/*`, `…:training-job/*`.

    Args:
        method: the method's name, without its service.
        request: its message; for a stream, one of its messages.

    Raises:
        AccessDenied: the method is not known here.

    >>> from featurestore.v1 import runtime_pb2
    >>> action_and_resources(
    ...     "GetRecord", runtime_pb2.GetRecordRequest(feature_group_name="weather")
    ... )
    [('sagemaker:GetRecord', 'arn:aws:sagemaker:us-east-1:123456789012:feature-group/weather')]
    """
    needs = _NEEDS.get(method)
    if needs is None:
        raise AccessDenied(
            f"{method}: no permission is defined for this method",
            principal="",
            action=method,
            resource="*",
            statement=None,
        )
    return needs(request)


def _on_group(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, group_arn(request.feature_group_name))]


def _on(action: str, resource: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, resource)]


def _on_job(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, arn("training-job", request.training_job_name))]


def _each_group(action: str, entries: Iterable[Any]) -> Needs:
    names = dict.fromkeys(entry.feature_group_name for entry in entries)
    return [(action, group_arn(name)) for name in names]


def built_from(spec: Any) -> list[Any]:
    """Return the groups that a builder's options name, the base first."""
    base = [spec.feature_group] if spec.WhichOneof("base") == "feature_group" else []
    return [*base, *spec.joined]


def readable_features(
    request: Any, windowed: Mapping[str, WindowedGroup]
) -> Mapping[str, tuple[str, ...]]:
    """Return the features in a dataset to be checked; none where its manifest cannot be read."""
    try:
        return manifest_features(read_manifest(request.spec.manifest_json), windowed)
    except InvalidRequest:  # the call answers so itself
        return {}


def _checked_groups(request: Any) -> Needs:
    if request.WhichOneof("part") != "spec":
        return []
    names = tuple(readable_features(request, {})) or ("*",)
    return [("featureline:CheckDataset", group_arn(name)) for name in names]


def _new_dataset(request: Any) -> Needs:
    if request.WhichOneof("part") != "manifest_json":
        return []
    try:
        fingerprint = read_manifest(request.manifest_json)["fingerprint"]
    except InvalidRequest:
        fingerprint = "*"
    return [("featureline:SaveDataset", arn("dataset", fingerprint))]


def _kept(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, arn("dataset", request.fingerprint))]


def position_needs(request: Any) -> Needs:
    """Return what a batch needs for the source position that it moves."""
    if not request.HasField("position"):
        return []
    return [("featureline:PutSourcePosition", arn("source", request.position.source))]


def _training(request: Any) -> Needs:
    """Creating a job also reads and writes: files of the server's machine, or kept datasets."""
    needs = [("sagemaker:CreateTrainingJob", arn("training-job", request.training_job_name))]
    for channel in request.input_data_config:
        if channel.WhichOneof("data_source") == "path":
            needs.append(("featureline:ReadPath", _place(channel.path)))
        else:
            needs.append(("featureline:ReadDataset", arn("dataset", channel.dataset)))
    kept = (request.checkpoint_config.path, request.tensor_board_output_config.path)
    needs += [("featureline:WritePath", _place(path)) for path in kept if path]
    return needs


def _replay(request: Any) -> Needs:
    """The lineage names the job and its data; who also gets the model may read models."""
    actions = ["featureline:ReplayModel", *["featureline:ReadModel"] * request.keep]
    return [(action, _GRAPH) for action in actions]


def _transform(request: Any) -> Needs:
    """Creating a job also uses a model, reads, and writes: files here, or feature groups."""
    needs = [("sagemaker:CreateTransformJob", arn("transform-job", request.transform_job_name))]
    model, source, where = request.model_name, request.transform_input, request.transform_output
    if "/" in model:
        needs.append(("featureline:ReadPath", _place(model)))
    else:
        needs.append(("sagemaker:DescribeTrainingJob", arn("training-job", model)))
    if source.WhichOneof("data_source") == "feature_group":
        needs.append(("featureline:ReadHistory", group_arn(source.feature_group)))
    else:
        needs.append(("featureline:ReadPath", _place(source.path)))
    if where.WhichOneof("destination") == "feature_group":
        needs.append(("featureline:LoadRows", group_arn(where.feature_group)))
    else:
        needs.append(("featureline:WritePath", _place(where.path)))
    return needs


def _place(path: str) -> str:
    """Name a file or folder as the job will find it: `..` leads out of no permission."""
    return arn("path", os.path.abspath(path.removeprefix("file://")))


def _on_transform(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, arn("transform-job", request.transform_job_name))]


DELETE: Final = "sagemaker:DeleteRecord"
_GRAPH: Final = arn("lineage-group", "sagemaker-default-lineage-group")
_ALL_GROUPS: Final = group_arn("*")
_NEEDS: Final[dict[str, Callable[[Any], Needs]]] = {
    # FeatureStoreRuntime
    "PutRecord": _on_group("sagemaker:PutRecord"),
    "GetRecord": _on_group("sagemaker:GetRecord"),
    "BatchGetRecord": lambda request: _each_group("sagemaker:BatchGetRecord", request.identifiers),
    "BatchWriteRecord": lambda request: [
        *_each_group(
            "sagemaker:BatchWriteRecord",
            (entry for entry in request.entries if not entry.HasField("deletion")),
        ),
        *_each_group(DELETE, (entry for entry in request.entries if entry.HasField("deletion"))),
        *position_needs(request),
    ],
    "UpdateRecord": _on_group("sagemaker:UpdateRecord"),
    "DeleteRecord": _on_group("sagemaker:DeleteRecord"),
    "ListRecords": _on_group("sagemaker:ListRecords"),
    "StreamRecords": _on_group("sagemaker:BatchWriteRecord"),
    "GetSourcePosition": lambda request: [
        ("featureline:GetSourcePosition", arn("source", request.source))
    ],
    # FeatureStore
    "CreateFeatureGroup": lambda request: [
        ("sagemaker:CreateFeatureGroup", group_arn(request.feature_group.feature_group_name))
    ],
    "DescribeFeatureGroup": _on_group("sagemaker:DescribeFeatureGroup"),
    "UpdateFeatureGroup": _on_group("sagemaker:UpdateFeatureGroup"),
    "DeleteFeatureGroup": _on_group("sagemaker:DeleteFeatureGroup"),
    "ListFeatureGroups": _on("sagemaker:ListFeatureGroups", _ALL_GROUPS),
    "UpdateFeatureMetadata": _on_group("sagemaker:UpdateFeatureMetadata"),
    "DescribeFeatureMetadata": _on_group("sagemaker:DescribeFeatureMetadata"),
    "Search": _on("sagemaker:Search", _ALL_GROUPS),
    "Flush": lambda request: [("featureline:Flush", group_arn(request.feature_group_name or "*"))],
    "Verify": _on_group("featureline:Verify"),
    "BuildDataset": lambda request: _each_group(
        "featureline:BuildDataset", request.spec.selections
    ),
    "EraseRecords": _on_group("featureline:EraseRecords"),
    "TraceRecord": _on_group("featureline:TraceRecord"),
    "ListRecordsBehind": _on("featureline:ListRecordsBehind", _ALL_GROUPS),
    "MoveSource": lambda request: [("featureline:MoveSource", arn("source", request.source))],
    "WriteDataset": lambda request: _each_group(
        "featureline:BuildDataset", request.spec.selections
    ),
    "ExplainDataset": lambda request: _each_group(
        "featureline:ExplainDataset", request.spec.selections
    ),
    "CreateDataset": lambda request: _each_group(
        "featureline:CreateDataset", built_from(request.spec)
    ),
    "CheckDataset": _checked_groups,
    "SaveDataset": _new_dataset,
    "LoadDataset": _kept("featureline:ReadDataset"),
    "RebuildDataset": _kept("featureline:RebuildDataset"),
    "DescribeDataset": _kept("featureline:DescribeDataset"),
    "ListDatasets": _on("featureline:ListDatasets", arn("dataset", "*")),
    "Maintain": _on_group("featureline:Maintain"),
    "ReadHistory": _on_group("featureline:ReadHistory"),
    "GetRecordsAsOf": _on_group("featureline:BuildDataset"),
    "ListTableVersions": _on_group("featureline:ListTableVersions"),
    "Restore": _on_group("featureline:Restore"),
    "LoadRows": lambda request: (
        _each_group("featureline:LoadRows", [request.spec])
        if request.WhichOneof("part") == "spec"
        else []
    ),
    "Backfill": lambda request: _on_group(
        "featureline:RebuildOnline" if request.rebuild else "featureline:Backfill"
    )(request),
    # WindowedFeatures
    "CreateWindowedGroup": lambda request: [
        (
            "featureline:CreateWindowedGroup",
            group_arn(request.windowed_group.windowed_group_name),
        )
    ],
    "DescribeWindowedGroup": _on_group("featureline:DescribeWindowedGroup"),
    "ListWindowedGroups": _on("featureline:ListWindowedGroups", _ALL_GROUPS),
    "DeleteWindowedGroup": _on_group("featureline:DeleteWindowedGroup"),
    "FillWindowedGroup": _on_group("featureline:FillWindowedGroup"),
    "GetWindows": _on_group("sagemaker:GetRecord"),
    # Lineage: one graph, one resource
    "Record": _on("featureline:RecordLineage", _GRAPH),
    "RecordBatch": _on("featureline:RecordLineage", _GRAPH),
    "DescribeEntity": _on("featureline:DescribeEntity", _GRAPH),
    "FindEntities": _on("featureline:FindEntities", _GRAPH),
    "QueryLineage": _on("sagemaker:QueryLineage", _GRAPH),
    "VerifyLog": _on("featureline:VerifyLog", _GRAPH),
    "Subscribe": _on("featureline:SubscribeLineage", _GRAPH),
    "MakeCheckpoint": _on("featureline:MakeCheckpoint", _GRAPH),
    "ListCheckpoints": _on("featureline:ListCheckpoints", _GRAPH),
    "ProveEntity": _on("featureline:ProveEntity", _GRAPH),
    "ProveGrowth": _on("featureline:ProveGrowth", _GRAPH),
    "SearchEntities": _on("featureline:SearchEntities", _GRAPH),
    "FindPaths": _on("featureline:FindPaths", _GRAPH),
    "CommonAncestors": _on("featureline:CommonAncestors", _GRAPH),
    "CommonDescendants": _on("featureline:CommonDescendants", _GRAPH),
    "DiffLineage": _on("featureline:DiffLineage", _GRAPH),
    "ExplainEntity": _on("featureline:ExplainEntity", _GRAPH),
    "QueryColumns": _on("featureline:QueryColumns", _GRAPH),
    "ListInputFeatures": _on("featureline:ListInputFeatures", _GRAPH),
    "ListFeatureUsers": _on("featureline:ListFeatureUsers", _GRAPH),
    "ListRuns": _on("featureline:ListRuns", _GRAPH),
    "ListEvents": _on("featureline:ListEvents", _GRAPH),
    "AddTags": _on("sagemaker:AddTags", _GRAPH),
    "DeleteTags": _on("sagemaker:DeleteTags", _GRAPH),
    "ListTags": _on("sagemaker:ListTags", _GRAPH),
    "DescribeGraph": _on("featureline:DescribeGraph", _GRAPH),
    "ExportGraph": _on("featureline:ExportGraph", _GRAPH),
    "ListOpenLineageEvents": _on("featureline:ListOpenLineageEvents", _GRAPH),
    "RebuildGraph": _on("featureline:RebuildGraph", _GRAPH),
    "ReplaySpool": _on("featureline:ReplaySpool", _GRAPH),
    "CollectGarbage": _on("featureline:CollectGarbage", _GRAPH),
    # Training
    "CreateTrainingJob": _training,
    "DescribeTrainingJob": _on_job("sagemaker:DescribeTrainingJob"),
    "ReadTrainingJobLogs": _on_job("featureline:ReadTrainingJobLogs"),
    "ReadTrainingJobMetrics": _on_job("featureline:ReadTrainingJobMetrics"),
    "ReadTrainingJobReport": _on_job("featureline:ReadTrainingJobReport"),
    "DescribeTrainingBudget": _on("featureline:DescribeTrainingBudget", arn("training-job", "*")),
    "UpdateTrainingBudget": _on("featureline:UpdateTrainingBudget", arn("training-job", "*")),
    "ListTrainingJobs": _on("sagemaker:ListTrainingJobs", arn("training-job", "*")),
    "StopTrainingJob": _on_job("sagemaker:StopTrainingJob"),
    "ReplayModel": _replay,
    # BatchTransform
    "CreateTransformJob": _transform,
    "DescribeTransformJob": _on_transform("sagemaker:DescribeTransformJob"),
    "ListTransformJobs": _on("sagemaker:ListTransformJobs", arn("transform-job", "*")),
    "StopTransformJob": _on_transform("sagemaker:StopTransformJob"),
}
METHODS: Final = frozenset(_NEEDS)
ACTIONS: Final = frozenset(
    {
        "featureline:Backfill",
        "featureline:BuildDataset",
        "featureline:CheckDataset",
        "featureline:CollectGarbage",
        "featureline:CommonAncestors",
        "featureline:CommonDescendants",
        "featureline:CreateDataset",
        "featureline:CreateWindowedGroup",
        "featureline:DeleteWindowedGroup",
        "featureline:DescribeDataset",
        "featureline:DescribeEntity",
        "featureline:DescribeGraph",
        "featureline:DescribeTrainingBudget",
        "featureline:DescribeWindowedGroup",
        "featureline:DiffLineage",
        "featureline:EraseRecords",
        "featureline:ExplainDataset",
        "featureline:ExplainEntity",
        "featureline:ExportGraph",
        "featureline:FillWindowedGroup",
        "featureline:FindEntities",
        "featureline:FindPaths",
        "featureline:Flush",
        "featureline:GetSourcePosition",
        "featureline:ListCheckpoints",
        "featureline:ListDatasets",
        "featureline:ListEvents",
        "featureline:ListFeatureUsers",
        "featureline:ListInputFeatures",
        "featureline:ListOpenLineageEvents",
        "featureline:ListRecordsBehind",
        "featureline:ListRuns",
        "featureline:ListTableVersions",
        "featureline:ListWindowedGroups",
        "featureline:LoadRows",
        "featureline:Maintain",
        "featureline:MakeCheckpoint",
        "featureline:MoveSource",
        "featureline:ProveEntity",
        "featureline:ProveGrowth",
        "featureline:PutSourcePosition",
        "featureline:QueryColumns",
        "featureline:ReadDataset",
        "featureline:ReadHistory",
        "featureline:ReadModel",
        "featureline:ReadPath",
        "featureline:ReadTrainingJobLogs",
        "featureline:ReadTrainingJobMetrics",
        "featureline:ReadTrainingJobReport",
        "featureline:RebuildDataset",
        "featureline:RebuildGraph",
        "featureline:RebuildOnline",
        "featureline:RecordLineage",
        "featureline:ReplayModel",
        "featureline:ReplaySpool",
        "featureline:Restore",
        "featureline:SaveDataset",
        "featureline:SearchEntities",
        "featureline:SubscribeLineage",
        "featureline:TraceRecord",
        "featureline:UpdateTrainingBudget",
        "featureline:Verify",
        "featureline:VerifyLog",
        "featureline:WritePath",
        "sagemaker:AddTags",
        "sagemaker:BatchGetRecord",
        "sagemaker:BatchWriteRecord",
        "sagemaker:CreateFeatureGroup",
        "sagemaker:CreateTrainingJob",
        "sagemaker:CreateTransformJob",
        "sagemaker:DeleteFeatureGroup",
        "sagemaker:DeleteRecord",
        "sagemaker:DeleteTags",
        "sagemaker:DescribeFeatureGroup",
        "sagemaker:DescribeFeatureMetadata",
        "sagemaker:DescribeTrainingJob",
        "sagemaker:DescribeTransformJob",
        "sagemaker:GetRecord",
        "sagemaker:ListFeatureGroups",
        "sagemaker:ListRecords",
        "sagemaker:ListTags",
        "sagemaker:ListTrainingJobs",
        "sagemaker:ListTransformJobs",
        "sagemaker:PutRecord",
        "sagemaker:QueryLineage",
        "sagemaker:Search",
        "sagemaker:StopTrainingJob",
        "sagemaker:StopTransformJob",
        "sagemaker:UpdateFeatureGroup",
        "sagemaker:UpdateFeatureMetadata",
        "sagemaker:UpdateRecord",
    }
)
