"""From an event of OpenLineage to the event of the graph, in a form that no order changes.

    job (Context) ─AssociatedWith→ run (TrialComponent) ─Produced→ dataset (Artifact)
    dataset ─ContributedTo→ run        the same arrows at the job, where a job event says so
    run ─AssociatedWith→ RunGroup (Context) ─AssociatedWith→ the runs that it started

Where a version is named, the precise arrow is that of the version, and the dataset as a whole is
tied to it: run ─Produced→ version ─AssociatedWith→ dataset; version ─ContributedTo→ run and
dataset ─AssociatedWith→ run. So a walk through ContributedTo and Produced goes from a run to what
it wrote and on to who read exactly that, and a walk through everything misses nothing where only
one side names versions.

Everything that events say over and over is a facet, of which the latest stays; arrows are a union.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, final

from lineage.association import AssociationType
from lineage.change import Draft
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import STATE, TERMINAL, Entity, Facet, Kind, amended, derived_uid, stored_facet
from lineage.graph import as_draft
from lineage.openlineage import naming
from lineage.openlineage.columns import SaidEdge, Source, column_edges, explicit_inputs
from lineage.openlineage.event import TERMINAL_TYPES, Event, SaidDataset, SaidJob
from lineage.projection import later_facets

__all__ = [
    "DELETED",
    "EXPLICIT",
    "RESERVED",
    "event_kind",
    "facet_name",
    "role_facet_name",
    "said_name",
    "to_draft",
]

RESERVED: Final = frozenset(
    {STATE, "openlineage", "event", "validation", "started", "ended", "job", "version_of"}
)
"""Facets of an entity that are ours; a facet of OpenLineage of such a name gets a prefix."""

DELETED: Final = "_deleted"
_NO_JOB: Final = "openlineage"
EXPLICIT: Final = "#lineage"
"""Ends the name of who says column edges by a LineageFacet."""

_PREFIX: Final = "openlineage."
_STATES: Final = {
    "START": "InProgress",
    "RUNNING": "InProgress",
    "COMPLETE": "Completed",
    "FAIL": "Failed",
    "ABORT": "Stopped",
}
# The text of an event is kept whole up to here; a larger one is there in its parts.
_MAX_RAW: Final = 16 * 1024
# Beyond, facets are not copied to the version and the dataset beside the run.
_MAX_COPIED: Final = 1024 * 1024
_MAX_ALIAS: Final = 4096
_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CONTRIBUTED: Final = AssociationType.CONTRIBUTED_TO
_PRODUCED: Final = AssociationType.PRODUCED
_DERIVED: Final = AssociationType.DERIVED_FROM
_ASSOCIATED: Final = AssociationType.ASSOCIATED_WITH
_SAME: Final = AssociationType.SAME_AS


def event_kind(event: Event) -> str:
    """What the log calls the event, such as `OpenLineageRunEvent`."""
    return f"OpenLineage{event.type}"


def to_draft(event: Event, *, actor: str | None = None) -> Draft:
    """What an event adds to the graph, to be handed to `Graph.record_all`.

    Args:
        event: as read.
        actor: who sent it; by default the user of this process.

    Raises:
        InvalidEvent: it was read strictly, and a facet that says lineage cannot be understood.
        InvalidEntity: it is larger than the graph takes.
    """
    return _Merge(event).draft(actor)


def facet_name(said: str) -> str:
    """What a facet of OpenLineage is called at an entity.

    >>> facet_name("schema"), facet_name("state"), said_name(facet_name("state"))
    ('schema', 'openlineage.state', 'state')
    """
    ours = said in RESERVED or said.startswith((_PREFIX, "input/", "output/"))
    return f"{_PREFIX}{said}" if ours else said


def said_name(facet: str) -> str | None:
    """The name in OpenLineage of an entity's facet, or None where it is ours alone."""
    if facet.startswith(_PREFIX):
        return facet[len(_PREFIX) :]
    return None if facet in RESERVED or facet.startswith(("input/", "output/")) else facet


def role_facet_name(role: str, said: str, uri: str) -> str:
    """What a run calls a facet of one of its inputs or outputs."""
    return f"{role}/{said}/{uri}"


@final
class _Merge:
    """The state of one `to_draft`."""

    def __init__(self, event: Event) -> None:
        self._event = event
        self._rank = event.time_us
        self._entities: dict[str, Entity] = {}
        self._facets: dict[str, dict[str, Facet]] = {}
        self._links: dict[tuple[str, str, AssociationType], None] = {}
        self._edges: dict[tuple[str, str], dict[SaidEdge, None]] = {}
        self._aliases: dict[str, str] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._versions: dict[tuple[str, str, str], str] = {}
        self._copies = len(event.text) <= _MAX_COPIED
        self._job_uid = ""
        self._doer_uid = ""

    def draft(self, actor: str | None) -> Draft:
        event = self._event
        if event.job is not None:
            self._doer(event.job)
        for dataset in event.inputs:
            self._input(dataset)
        for dataset in event.outputs:
            self._output(dataset)
        subject = self._doer_uid
        if event.dataset is not None:
            subject = self._dataset(event.dataset)
        self._said(subject)
        entities = {
            uid: amended(entity, facets=self._facets.get(uid, {}))
            for uid, entity in self._entities.items()
        }
        return as_draft(
            tuple(entities.values()),
            tuple(
                (entities[source], entities[destination], link)
                for source, destination, link in self._links
            ),
            kind=event_kind(event),
            event_uid=event.uid,
            actor=actor,
            columns=[
                ColumnLineage(
                    entities[uid],
                    by,
                    tuple(self._column_edge(edge, entities) for edge in edges),
                    self._rank,
                )
                for (uid, by), edges in self._edges.items()
            ],
            aliases=[(alias, entities[uid]) for alias, uid in self._aliases.items()],
            cycles="allow",  # a job reads what it wrote, and so does a run
        )

    # -- jobs and runs ------------------------------------------------------------------------

    def _doer(self, said: SaidJob) -> None:
        """What does it: the run of a run event, the job of a job event."""
        event = self._event
        self._job_uid = self._doer_uid = job = self._job(said)
        self._set(job, said.facets)
        if event.run_id:
            self._doer_uid = run = self._run(event.run_id, said, rank=self._rank)
            self._set(run, event.run_facets)
            self._state(run)
            self._parents(run)
            self._dependencies(job)
        self._explicit_entries(said)

    def _job(self, said: SaidJob) -> str:
        uid = self._add(naming.job_entity(said.namespace, said.name))
        self._own(uid, "openlineage", {"namespace": said.namespace, "name": said.name}, 0)
        self._alias(naming.job_alias(said.namespace, said.name), uid)
        return uid

    def _run(self, run_id: str, job: SaidJob | None, *, rank: int) -> str:
        uid = self._add(naming.run_entity(run_id))
        self._own(uid, "openlineage", {"runId": run_id}, 0)
        if _UUID.fullmatch(run_id):  # any other text could be the short name of a job
            self._alias(run_id, uid)
        if job is not None:
            self._own(uid, "job", {"namespace": job.namespace, "name": job.name}, rank)
            self._link(self._job(job), uid, _ASSOCIATED)
        return uid

    def _state(self, run: str) -> None:
        said, time_us = self._event.state, self._rank
        if said not in _STATES:
            return
        is_end = said in TERMINAL_TYPES
        self._own(run, STATE, _STATES[said], time_us + TERMINAL if is_end else time_us)
        if is_end:
            self._own(run, "ended", time_us, time_us)
        if said == "START":
            # The earliest start counts.
            self._own(run, "started", time_us, TERMINAL - time_us)

    def _parents(self, run: str) -> None:
        parent = self._event.run_facets.get("parent")
        if not isinstance(parent, dict) or parent.get(DELETED):
            return
        places = [(parent, "run.facets.parent")]
        if isinstance(parent.get("root"), dict):
            places.append((parent["root"], "run.facets.parent.root"))
        for said, where in places:
            run_id = _text_in(said, "run", "runId")
            if not run_id:
                self._event.notes.problem(f"{where}.run.runId", "a UUID", None)
                continue
            starter = self._run(run_id, _job_in(said, where), rank=0)
            if starter == run:
                continue
            group = self._add(naming.run_group_entity(run_id))
            self._link(starter, group, _ASSOCIATED)
            self._link(group, run, _ASSOCIATED)

    def _dependencies(self, job: str) -> None:
        facet = self._event.run_facets.get("jobDependencies")
        if not isinstance(facet, dict) or facet.get(DELETED):
            return
        for direction in ("upstream", "downstream"):
            listed = facet.get(direction)
            for place, said in enumerate(listed if isinstance(listed, list) else ()):
                other = _job_in(said, f"run.facets.jobDependencies.{direction}[{place}]")
                if other is not None:
                    ends = (self._job(other), job)
                    source, destination = ends if direction == "upstream" else ends[::-1]
                    self._link(source, destination, _ASSOCIATED)

    # -- datasets -----------------------------------------------------------------------------

    def _input(self, said: SaidDataset) -> None:
        dataset = self._dataset(said, "input")
        version = self._version(said)
        if version is None:
            self._link(dataset, self._doer_uid, _CONTRIBUTED)
        else:
            self._link(version, self._doer_uid, _CONTRIBUTED)
            self._link(dataset, self._doer_uid, _ASSOCIATED)

    def _output(self, said: SaidDataset) -> None:
        dataset = self._dataset(said, "output")
        # At the start the version of an output is the one before this run.
        version = None if self._event.state == "START" else self._version(said)
        self._link(self._doer_uid, dataset if version is None else version, _PRODUCED)

    def _dataset(self, said: SaidDataset, role: str = "") -> str:
        uid = self._named(said.namespace, said.name)
        self._set(uid, said.facets)
        for name, facet in said.role_facets.items():
            uri = naming.dataset_uri(said.namespace, said.name)
            named = role_facet_name(role, name, uri)
            self._own(self._doer_uid, named, _value(facet), self._rank)
        if self._copies:
            self._set(uid, said.role_facets)
        version = self._version(said)
        if version is not None:
            self._link(version, uid, _ASSOCIATED)
            is_of_before = role == "output" and self._event.state == "START"
            if self._copies and not is_of_before:
                self._set(version, said.facets)
                self._set(version, said.role_facets)
        self._symlinks(said, uid)
        self._lifecycle(said, uid)
        self._columns(said, uid)
        self._explicit(said.facets.get("lineage"), f"{said.where}.facets.lineage", uid)
        return uid

    def _named(self, namespace: str, name: str) -> str:
        known = self._names.get((namespace, name))
        if known is not None:
            return known
        entity = naming.dataset_entity(namespace, name)
        self._names[namespace, name] = uid = self._add(entity)
        self._own(uid, "openlineage", {"namespace": namespace, "name": name}, 0)
        self._alias(entity.source_uri, uid)
        return uid

    def _version(self, said: SaidDataset) -> str | None:
        facet = said.facets.get("version")
        if not isinstance(facet, dict) or facet.get(DELETED):
            return None
        version = facet.get("datasetVersion")
        if isinstance(version, bool | dict | list | None) or not str(version).strip():
            where = f"{said.where}.facets.version.datasetVersion"
            self._event.notes.problem(where, "text", version)
            return None
        key = (said.namespace, said.name, str(version))
        known = self._versions.get(key)
        if known is not None:
            return known
        self._versions[key] = uid = self._add(naming.version_entity(*key))
        of = {
            "namespace": said.namespace,
            "name": said.name,
            "version": str(version),
            "uri": naming.dataset_uri(said.namespace, said.name),
        }
        self._own(uid, "version_of", of, 0)
        return uid

    def _symlinks(self, said: SaidDataset, uid: str) -> None:
        for name in _listed(said.facets.get("symlinks"), "identifiers"):
            other = self._identified(name)
            if other is not None:
                # In both directions, so that a walk either way finds what has the other name.
                self._link(uid, other, _SAME)
                self._link(other, uid, _SAME)

    def _lifecycle(self, said: SaidDataset, uid: str) -> None:
        facet = said.facets.get("lifecycleStateChange")
        if not isinstance(facet, dict) or facet.get("lifecycleStateChange") != "RENAME":
            return
        before = self._identified(facet.get("previousIdentifier"))
        if before is not None:
            self._link(before, uid, _DERIVED)

    def _identified(self, said: Any) -> str | None:
        name = _text_in(said, "name")
        return self._named(_text_in(said, "namespace") or "default", name) if name else None

    # -- columns ------------------------------------------------------------------------------

    @property
    def _by(self) -> str:
        return self._job_uid or _NO_JOB

    def _columns(self, said: SaidDataset, uid: str) -> None:
        facet = said.facets.get("columnLineage")
        if not isinstance(facet, dict):
            return
        # An empty set, which a facet that is deleted says too, replaces the one before.
        edges = self._edges.setdefault((uid, self._by), {})
        if facet.get(DELETED):
            return
        where = f"{said.where}.facets.columnLineage"
        for edge in column_edges(facet, where, self._event.notes):
            edges[edge] = None
            source = self._named(edge.source.namespace, edge.source.name)
            if not self._job_uid:
                self._link(source, uid, _DERIVED)

    def _explicit_entries(self, job: SaidJob) -> None:
        for place, entry in enumerate(_listed(job.facets.get("lineage"), "entries")):
            where = f"job.facets.lineage.entries[{place}]"
            namespace, name = _text_in(entry, "namespace"), _text_in(entry, "name")
            if _text_in(entry, "type") == "JOB":
                source = Source(True, namespace or "default", name, _text_in(entry, "runId"))
                self._explicit(entry, where, self._source(source))
            elif name:
                self._explicit(entry, where, self._named(namespace or "default", name))
            else:
                self._event.notes.problem(f"{where}.name", "the name of a dataset", None)

    def _explicit(self, facet: Any, where: str, target: str) -> None:
        """What a LineageFacet says of one target, a dataset or a job or run."""
        if not isinstance(facet, dict):
            return
        is_dataset = self._entities[target].kind is Kind.ARTIFACT
        edges: dict[SaidEdge, None] = {}
        if not facet.get(DELETED):
            for _, source, edge in explicit_inputs(facet, where, self._event.notes):
                uid = self._source(source)
                if not uid:
                    self._event.notes.problem(f"{where}.inputs", "the name of a job", None)
                    continue
                if edge is not None:
                    edges[edge] = None
                if source.is_job:
                    self._link(uid, target, _PRODUCED if is_dataset else _ASSOCIATED)
                elif edge is None or not is_dataset:
                    self._link(uid, target, _DERIVED if is_dataset else _CONTRIBUTED)
        if is_dataset:
            self._edges.setdefault((target, f"{self._by}{EXPLICIT}"), {}).update(edges)

    def _source(self, source: Source) -> str:
        """The uid of a source; empty where an event without job means its own job."""
        if not source.is_job:
            return self._named(source.namespace, source.name)
        if not source.name:
            return self._doer_uid
        job = SaidJob(source.namespace, source.name)
        return self._run(source.run_id, job, rank=0) if source.run_id else self._job(job)

    def _column_edge(self, said: SaidEdge, entities: Mapping[str, Entity]) -> ColumnEdge:
        return ColumnEdge(entities[self._source(said.source)], *said[1:])

    # -- parts --------------------------------------------------------------------------------

    def _said(self, subject: str) -> None:
        """Keep the event itself, and what was wrong with it."""
        event = self._event
        self._own(
            subject,
            "event",
            {
                "type": event.type,
                "eventType": event.state,
                "eventTime": event.raw.get("eventTime"),
                "producer": event.raw.get("producer"),
                "schemaURL": event.raw.get("schemaURL"),
                "bytes": len(event.text),
                "raw": event.text if len(event.text) <= _MAX_RAW else None,
            },
            self._rank,
        )
        if validation := event.validation:
            self._own(subject, "validation", validation, self._rank)

    def _add(self, entity: Entity) -> str:
        uid = entity.uid or derived_uid(entity)
        self._entities.setdefault(uid, entity)
        return uid

    def _set(self, uid: str, facets: Mapping[str, Any]) -> None:
        for name, facet in facets.items():
            self._own(uid, facet_name(name), _value(facet), self._rank)

    def _own(self, uid: str, name: str, value: Any, rank: int) -> None:
        # Reading the event has made plain JSON of it, and its time is in range.
        facet = stored_facet(rank, value)
        known = self._facets.setdefault(uid, {})
        other = known.get(name)
        if other is None:
            known[name] = facet
        elif other != facet:  # one dataset may be named twice
            known[name] = later_facets({name: other}, {name: facet})[name]

    def _link(self, source: str, destination: str, link: AssociationType) -> None:
        if source == destination:
            return
        ends = (self._entities[source], self._entities[destination])
        if all(end.kind.is_experiment for end in ends):
            # Two runs are associated through the group of those that one of them started.
            self._event.notes.change(f"{source} {link} {destination}", "two runs; kept as a facet")
            return
        self._links[source, destination, link] = None

    def _alias(self, alias: str, uid: str) -> None:
        if len(alias) <= _MAX_ALIAS:
            self._aliases[alias] = uid


def _value(facet: Any) -> Any:
    return None if isinstance(facet, dict) and facet.get(DELETED) else facet


def _listed(facet: Any, name: str) -> Iterable[Any]:
    if not isinstance(facet, dict) or facet.get(DELETED):
        return ()
    listed = facet.get(name)
    return listed if isinstance(listed, list) else ()


def _job_in(said: Any, where: str) -> SaidJob | None:
    name = _text_in(said, "job", "name")
    if not name:
        return None
    return SaidJob(_text_in(said, "job", "namespace") or "default", name, where=f"{where}.job")


def _text_in(said: Any, *path: str) -> str:
    for name in path:
        said = said.get(name) if isinstance(said, dict) else None
    return said if isinstance(said, str) and said.strip() else ""
