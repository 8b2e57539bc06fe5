"""From the graph to OpenLineage: what jobs, runs and datasets of ours are called there."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final, NamedTuple, final
from uuid import NAMESPACE_URL, UUID, uuid5

from lineage.association import AssociationType
from lineage.change import Change
from lineage.column import ColumnLineage, ColumnLink
from lineage.entity import Entity, Kind, amended
from lineage.errors import EntityNotFound
from lineage.graph import Graph
from lineage.log import Event as LogEvent
from lineage.openlineage.merge import said_name
from lineage.openlineage.moment import format_time
from lineage.openlineage.naming import DATASET, RUN, dataset_name, dataset_uri

__all__ = ["Outward", "dataset_events", "run_event", "run_events"]

SCHEMA: Final = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/"
_FACETS: Final = "https://openlineage.io/spec/facets/"
_URLS: Final = {
    "schema": "1-2-0/SchemaDatasetFacet",
    "version": "1-0-1/DatasetVersionDatasetFacet",
    "symlinks": "1-0-1/SymlinksDatasetFacet",
    "columnLineage": "1-2-0/ColumnLineageDatasetFacet",
    "inputStatistics": "1-0-0/InputStatisticsInputDatasetFacet",
    "outputStatistics": "1-0-2/OutputStatisticsOutputDatasetFacet",
    "jobType": "2-0-4/JobTypeJobFacet",
    "sourceCodeLocation": "1-1-0/SourceCodeLocationJobFacet",
    "errorMessage": "1-0-1/ErrorMessageRunFacet",
    "executionParameters": "1-0-0/ExecutionParametersRunFacet",
    "parent": "1-2-0/ParentRunFacet",
    "lineage": "1-0-0/LineageFacet",
}
_STATES: Final = {
    "InProgress": "RUNNING",
    "Completed": "COMPLETE",
    "Failed": "FAIL",
    "Stopped": "ABORT",
    "Stopping": "RUNNING",
}
_STARTED: Final = "JobStarted"
_DOINGS: Final = (Kind.TRIAL_COMPONENT, Kind.ACTION)
_CONTRIBUTED: Final = AssociationType.CONTRIBUTED_TO.value
_PRODUCED: Final = AssociationType.PRODUCED.value
_DERIVED: Final = AssociationType.DERIVED_FROM.value
_ASSOCIATED: Final = AssociationType.ASSOCIATED_WITH.value
_OPAQUE: Final = re.compile(r"(?!file:|bigquery:)([A-Za-z][A-Za-z0-9+.-]*):(?!//)(.+)", re.DOTALL)


class _Edge(NamedTuple):
    """An edge between columns whose source is known as a dataset."""

    source: Mapping[str, str]
    source_column: str
    column: str
    type: str
    subtype: str
    description: str
    masking: bool


@final
class Outward:
    """How this installation presents itself to others.

    Args:
        namespace: of its jobs, and of what it keeps that has no place of its own.
        producer: a uri that names it.
    """

    def __init__(self, namespace: str = "featureline", *, producer: str = "") -> None:
        self.namespace = namespace
        self.producer = producer or f"urn:featureline:{_version()}"

    def facet(self, name: str, **fields: Any) -> dict[str, Any]:
        """A facet with what every facet carries; empty fields are left out."""
        url = f"{_FACETS}{_URLS[name]}.json" if name in _URLS else f"urn:featureline:facet:{name}:1"
        given = {key: value for key, value in fields.items() if value is not None}
        return {"_producer": self.producer, "_schemaURL": url, **given}

    def name(self, entity: Entity) -> dict[str, str]:
        """Namespace and name of something as a dataset."""
        known = entity.facets.get("version_of") or entity.facets.get("openlineage")
        if known is not None and isinstance(known.value, Mapping) and "name" in known.value:
            said = known.value
            return {"namespace": str(said.get("namespace")), "name": str(said["name"])}
        if entity.type == "FeatureGroup":
            return {"namespace": self.namespace, "name": entity.name}
        if entity.type == "FeatureGroupVersion":
            return {"namespace": self.namespace, "name": entity.name.rpartition("@")[0]}
        opaque = _OPAQUE.fullmatch(entity.source_uri)
        if opaque is not None:
            return {"namespace": self.namespace, "name": f"{opaque[1]}/{opaque[2]}"}
        if entity.source_uri and entity.kind is Kind.ARTIFACT:
            namespace, name = dataset_name(entity.source_uri)
            return {"namespace": namespace, "name": name}
        return {"namespace": self.namespace, "name": f"{entity.type}/{entity.name}"}

    def dataset(self, entity: Entity, role: str = "") -> dict[str, Any]:
        """What a thing of the graph is as a dataset, with its facets.

        Args:
            entity: an artifact, or a context such as a feature group.
            role: `input`, `output` or neither.
        """
        said: dict[str, Any] = dict(self.name(entity))
        if entity.facets:
            facets = _said_facets(entity)
            if of := entity.facets.get("version_of"):
                facets["version"] = self.facet("version", datasetVersion=of.value["version"])  # type: ignore[index,call-overload]  # ours
        else:
            facets = self._own_facets(entity)
        if facets:
            said["facets"] = facets
        properties = entity.properties
        rows = _whole(properties.get("rows"))
        size = _whole(properties.get("bytes"))
        files = _whole(properties.get("files"))
        if role and (rows, size, files) != (None, None, None):
            facet = self.facet(f"{role}Statistics", rowCount=rows, size=size, fileCount=files)
            said[f"{role}Facets"] = {f"{role}Statistics": facet}
        return said

    def _own_facets(self, entity: Entity) -> dict[str, Any]:
        facets: dict[str, Any] = {}
        properties = entity.properties
        features = properties.get("features")
        if isinstance(features, Mapping):
            fields = [
                {"name": name, "type": kind if isinstance(kind, str) else str(kind)}
                for name, kind in features.items()
            ]
            facets["schema"] = self.facet("schema", fields=fields)
        number = properties.get("table_version")
        if number is None:
            number = entity.content_hash or None
        if number is not None:
            facets["version"] = self.facet("version", datasetVersion=str(number))
        if entity.type in ("FeatureGroup", "FeatureGroupVersion") and entity.source_uri:
            namespace, name = dataset_name(entity.source_uri)
            link = {"namespace": namespace, "name": name, "type": "LOCATION"}
            facets["symlinks"] = self.facet("symlinks", identifiers=[link])
        own = _CUSTOM.get(entity.type, "entity")
        facets[f"featureline_{own}"] = self.facet(
            own,
            uid=entity.uid,
            type=entity.type,
            contentHash=entity.content_hash or None,
            properties=dict(properties) or None,
        )
        return facets

    def columns(self, edges: Iterable[_Edge]) -> dict[str, Any]:
        """A columnLineage facet; edges of equal ends are one input with several transformations."""
        fields: dict[str, dict[tuple[str, str, str], list[Any]]] = {}
        whole: dict[tuple[str, str, str], list[Any]] = {}
        for edge in edges:
            key = (edge.source["namespace"], edge.source["name"], edge.source_column)
            inputs = fields.setdefault(edge.column, {}) if edge.column else whole
            how: dict[str, Any] = {"type": edge.type}
            if edge.subtype:
                how["subtype"] = edge.subtype
            if edge.description:
                how["description"] = edge.description
            if edge.masking:
                how["masking"] = True
            inputs.setdefault(key, []).append(how)
        return self.facet(
            "columnLineage",
            fields={column: {"inputFields": _inputs(inputs)} for column, inputs in fields.items()},
            dataset=_inputs(whole) or None,
        )


_CUSTOM: Final = {
    "Model": "model",
    "ModelData": "model",
    "FeatureGroup": "feature",
    "FeatureGroupVersion": "feature",
    "Endpoint": "endpoint",
}


def run_events(
    logged: LogEvent, change: Change, entity_of: Callable[[str], Entity], outward: Outward
) -> list[dict[str, Any]]:
    """The run events that one event of the log is: one for each job of ours that it tells of.

    Args:
        logged: the event.
        change: its body.
        entity_of: the entity of a uid.
        outward: names.
    """
    return [
        _own_run_event(logged, change, doing, entity_of, outward)
        for doing in change.entities
        if doing.kind in _DOINGS and doing.type != RUN and _state_of(logged, doing, change)
    ]


def dataset_events(logged: LogEvent, change: Change, outward: Outward) -> list[dict[str, Any]]:
    """The dataset events that one event of the log is: feature groups and endpoints as they are."""
    if any(entity.kind in _DOINGS for entity in change.entities):
        return []  # the run event has them
    return [
        {
            "eventTime": format_time(logged.time_us),
            "producer": outward.producer,
            "schemaURL": f"{SCHEMA}DatasetEvent",
            "dataset": outward.dataset(entity),
        }
        for entity in change.entities
        if entity.kind is Kind.CONTEXT and entity.type in ("FeatureGroup", "Endpoint")
    ]


def run_event(graph: Graph, run: str, *, outward: Outward | None = None) -> dict[str, Any]:
    """One event that says all the graph knows of a run that came from OpenLineage.

    It has the run's last state, its facets and job, and the inputs, outputs and columns of all
    its events.

    Args:
        graph: that has it.
        run: its id, or its uid.
        outward: names, for what did not come from OpenLineage.

    Raises:
        EntityNotFound: there is no such run.
    """
    names = outward or Outward()
    entity = graph.entity(run)
    if entity.type != RUN:
        raise EntityNotFound(run, nearest=None)
    around = graph.query(entity, "both", depth=1)
    known = {found.uid: found for found in around}
    job = entity.facets["job"].value
    assert isinstance(job, Mapping)
    inputs: dict[str, Entity] = {}
    outputs: dict[str, Entity] = {}
    loose: dict[str, Entity] = {}
    job_uid = ""
    for link in around.associations:
        source, destination = known[link.source], known[link.destination]
        if link.destination == entity.uid and source.type == DATASET:
            (inputs if link.type == _CONTRIBUTED else loose)[source.uid] = source
        elif link.source == entity.uid and link.type == _PRODUCED:
            outputs[destination.uid] = destination
        elif link.destination == entity.uid and source.type == "Job":
            job_uid = source.uid
    said = entity.facets.get("event")
    event = said.value if said is not None and isinstance(said.value, Mapping) else {}
    state = _STATES.get(entity.state, "OTHER")
    return {
        "eventType": state,
        "eventTime": event.get("eventTime") or format_time(0),
        "producer": event.get("producer") or names.producer,
        "schemaURL": f"{SCHEMA}RunEvent",
        "run": {
            "runId": entity.facets["openlineage"].value["runId"],  # type: ignore[index,call-overload]  # ours
            "facets": _said_facets(entity),
        },
        "job": {**job, "facets": _said_facets(known[job_uid]) if job_uid else {}},
        "inputs": _with_versions(names, inputs.values(), entity, "input"),
        "outputs": [
            _with_columns(graph, names, dataset, job_uid)
            for dataset in _with_versions(names, outputs.values(), entity, "output")
        ],
    }


def _with_versions(
    names: Outward, entities: Iterable[Entity], run: Entity, role: str
) -> list[dict[str, Any]]:
    """Datasets of a run, a version in place of the dataset where the run named it."""
    said: dict[tuple[str, str, str], dict[str, Any]] = {}
    for entity in entities:
        dataset = names.dataset(entity)
        of = entity.facets.get("version_of")
        if of is None:
            # Its facet tells the newest version by anybody, not the one of this run.
            dataset.get("facets", {}).pop("version", None)
        place = (dataset["namespace"], dataset["name"], "" if of is None else entity.source_uri)
        prefix, suffix = f"{role}/", f"/{entity.source_uri.partition('#version=')[0]}"
        facets = {
            name[len(prefix) : -len(suffix)]: facet.value
            for name, facet in run.facets.items()
            if name.startswith(prefix) and name.endswith(suffix) and facet.value is not None
        }
        if facets:
            dataset[f"{role}Facets"] = facets
        said[place] = dataset
    versioned = {place[:2] for place in said if place[2]}
    return [said[place] for place in sorted(said) if place[2] or place[:2] not in versioned]


def _with_columns(
    graph: Graph, names: Outward, dataset: dict[str, Any], job_uid: str
) -> dict[str, Any]:
    facets = dataset.setdefault("facets", {})
    facets.pop("columnLineage", None)  # the newest by any job
    uri = dataset_uri(dataset["namespace"], dataset["name"])
    found = graph.columns(uri, direction="ascendants", depth=1).links
    links = [link for link in found if link.by == job_uid]
    if links:
        facets["columnLineage"] = names.columns(_edges(links, graph.entity, names))
    return dataset


def _own_run_event(
    logged: LogEvent,
    change: Change,
    doing: Entity,
    entity_of: Callable[[str], Entity],
    outward: Outward,
) -> dict[str, Any]:
    known = {entity.uid: entity for entity in change.entities}
    for run in change.runs:
        if str(run.entity) == doing.uid:  # it may say more of itself than the job does
            doing = amended(doing, properties={**run.properties, **doing.properties})

    def end(uid: str) -> Entity:
        if uid not in known:
            known[uid] = entity_of(uid)
        return known[uid]

    inputs: dict[str, Entity] = {}
    outputs: dict[str, Entity] = {}
    for source, destination, link in change.associations:
        if destination == doing.uid and link in (_CONTRIBUTED, _ASSOCIATED):
            ends, other = inputs, end(source)
        elif source == doing.uid and link in (_PRODUCED, _ASSOCIATED, _CONTRIBUTED):
            ends, other = outputs, end(destination)
        else:
            continue
        if other.kind in (Kind.ARTIFACT, Kind.CONTEXT):
            ends[other.uid] = other
    job_facets = _job_facets(doing, outward)
    if entries := _between(change, end, {doing.uid, *outputs}, outward):
        job_facets["lineage"] = outward.facet("lineage", entries=entries)
    said_outputs = []
    for uid, entity in outputs.items():
        dataset = outward.dataset(entity, "output")
        edges = _columns_of(change.columns, uid, end, outward)
        if edges:
            dataset.setdefault("facets", {})["columnLineage"] = outward.columns(edges)
        said_outputs.append(dataset)
    return {
        "eventType": _state_of(logged, doing, change),
        "eventTime": format_time(logged.time_us),
        "producer": outward.producer,
        "schemaURL": f"{SCHEMA}RunEvent",
        "run": {
            "runId": _run_id(logged, change, doing),
            "facets": _run_facets(doing, outward),
        },
        "job": {
            "namespace": outward.namespace,
            "name": f"{doing.type}/{doing.name}",
            "facets": job_facets,
        },
        "inputs": [outward.dataset(entity, "input") for entity in inputs.values()],
        "outputs": said_outputs,
    }


def _between(
    change: Change,
    entity_of: Callable[[str], Entity],
    others: Collection[str],
    outward: Outward,
) -> list[dict[str, Any]]:
    """What a job says of datasets beside its outputs: which come from which, and columns.

    Args:
        change: of the event.
        entity_of: the entity of a uid.
        others: uids of what has its lineage elsewhere in the event.
        outward: names.

    Returns:
        entries of a LineageFacet.
    """
    entries: dict[tuple[str, ...], dict[str, Any]] = {}

    def entry(uid: str) -> dict[str, Any]:
        name = outward.name(entity_of(uid))
        return entries.setdefault(tuple(name.values()), {"type": "DATASET", **name})

    for source, destination, link in change.associations:
        ends = (entity_of(source), entity_of(destination))
        if link != _DERIVED or any(end.kind in _DOINGS for end in ends):
            continue
        names = [outward.name(end) for end in ends]
        if names[0] != names[1]:  # two versions of one dataset
            inputs = entry(destination).setdefault("inputs", [])
            inputs.append({"type": "DATASET", **names[0]})
    for uid in dict.fromkeys(str(said.destination) for said in change.columns):
        if uid in others:
            continue
        for edge in _columns_of(change.columns, uid, entity_of, outward):
            how = {"type": edge.type} | ({"subtype": edge.subtype} if edge.subtype else {})
            said: dict[str, Any] = {"type": "DATASET", **edge.source, "transformations": [how]}
            said["field"] = edge.source_column
            if edge.column:
                fields = entry(uid).setdefault("fields", {})
                fields.setdefault(edge.column, {"inputs": []})["inputs"].append(said)
            else:
                entry(uid).setdefault("inputs", []).append(said)
    return list(entries.values())


def _state_of(logged: LogEvent, doing: Entity, change: Change) -> str:
    if logged.kind == _STARTED:
        return "START"
    if doing.state:
        return _STATES.get(doing.state, "OTHER")
    # A doing without state, such as an approval, is over when it is recorded.
    is_named = any(doing.uid in link[:2] for link in change.associations)
    return "COMPLETE" if is_named else ""


def _run_id(logged: LogEvent, change: Change, doing: Entity) -> str:
    """The run's own id where it has one, else one that is always the same."""
    for run in change.runs:
        if str(run.entity) == doing.uid and _is_uuid(run.uid):
            return run.uid
    first = logged.event_uid.partition("/")[0]
    # The recorder names its events RUN/KIND; one event may tell of several jobs.
    if _is_uuid(first) and logged.kind.startswith("Job"):
        return first
    return str(uuid5(NAMESPACE_URL, doing.uid))


def _run_facets(doing: Entity, outward: Outward) -> dict[str, Any]:
    properties = doing.properties
    facets: dict[str, Any] = {}
    parameters = properties.get("parameters")
    if isinstance(parameters, Mapping) and parameters:
        listed = [{"key": name, "value": _plain(value)} for name, value in parameters.items()]
        facets["executionParameters"] = outward.facet("executionParameters", parameters=listed)
    if reason := properties.get("failure_reason"):
        facets["errorMessage"] = outward.facet(
            "errorMessage", message=str(reason), programmingLanguage="PYTHON"
        )
    parent = properties.get("parent")
    if isinstance(parent, Mapping) and _is_uuid(parent.get("run")):
        job = {"namespace": outward.namespace, "name": str(parent.get("job", ""))}
        facets["parent"] = outward.facet("parent", run={"runId": parent["run"]}, job=job)
    facets["featureline_run"] = outward.facet(
        "run", uid=doing.uid, type=doing.type, properties=dict(properties) or None
    )
    return facets


def _job_facets(doing: Entity, outward: Outward) -> dict[str, Any]:
    facets = {
        "jobType": outward.facet(
            "jobType", processingType="BATCH", integration="FEATURELINE", jobType=doing.type
        )
    }
    commit = doing.properties.get("code_version")
    if isinstance(commit, str) and commit:
        repository = doing.properties.get("code_repository")
        cloned = repository if isinstance(repository, str) and repository else None
        facets["sourceCodeLocation"] = outward.facet(
            "sourceCodeLocation",
            type="git",
            # A url is asked for; git's short form of an address is none.
            url=cloned if cloned and "://" in cloned else f"urn:git:{commit}",
            repoUrl=cloned,
            version=commit,
        )
    return facets


def _columns_of(
    columns: Sequence[ColumnLineage],
    uid: str,
    entity_of: Callable[[str], Entity],
    outward: Outward,
) -> list[_Edge]:
    return [
        _Edge(
            outward.name(entity_of(str(edge.source))),
            edge.source_column,
            edge.column,
            edge.type,
            edge.subtype,
            edge.description,
            edge.masking,
        )
        for said in columns
        if str(said.destination) == uid
        for edge in said.edges
    ]


def _edges(
    links: Iterable[ColumnLink], entity_of: Callable[[str], Entity], outward: Outward
) -> list[_Edge]:
    return [
        _Edge(
            outward.name(entity_of(link.source)),
            link.source_column,
            link.column,
            link.type,
            link.subtype,
            link.description,
            link.masking,
        )
        for link in links
    ]


def _inputs(inputs: Mapping[tuple[str, str, str], list[Any]]) -> list[dict[str, Any]]:
    return [
        {"namespace": namespace, "name": name, "field": field, "transformations": how}
        for (namespace, name, field), how in inputs.items()
    ]


def _said_facets(entity: Entity) -> dict[str, Any]:
    found = {}
    for name, facet in entity.facets.items():
        said = said_name(name)
        if said is not None and facet.value is not None:
            found[said] = facet.value
    return found


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _plain(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _is_uuid(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        UUID(value)
    except ValueError:
        return False
    return True


def _version() -> str:
    try:
        return version("featureline")
    except PackageNotFoundError:
        return "unknown"
