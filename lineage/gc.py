"""What has to be kept for what is in use, and the shortest reason for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, final

from lineage.association import AssociationType
from lineage.capture.environment import named_artifacts
from lineage.entity import Entity, Kind
from lineage.errors import EntityNotFound
from lineage.graph import Graph
from lineage.store import View

KEEP_TAG: Final = "keep"
"""Whoever tags an entity so wants it, and all that it comes from, to stay."""

_ENDED: Final = frozenset({"Deleted", "OutOfService", "Failed", "Stopped", "Completed"})
_REFUSED: Final = frozenset({"Rejected", "Refused", "Deleted"})
_AT_ONCE: Final = 10_000
_JOBS: Final = (Kind.TRIAL_COMPONENT, Kind.ACTION)
_YOUNG: Final = ("Model", "DataSet", "TrainingJob")


@final
@dataclass(frozen=True)
class Needed:
    """The entities in use, with all that they come from.

    Args:
        roots: uid and reason of each that is in use by itself.
        needed_by: uid → uid of the next entity on the shortest way to one of the roots.
    """

    roots: Mapping[str, str]
    needed_by: Mapping[str, str] = field(default_factory=dict)

    def __contains__(self, uid: object) -> bool:
        return uid in self.roots or uid in self.needed_by

    def chain(self, uid: str) -> tuple[str, ...]:
        """The shortest way from an entity to what is in use, the entity first; empty: it is not.

        The last is one of `roots`.
        """
        if uid not in self:
            return ()
        way = [uid]
        while way[-1] not in self.roots:
            way.append(self.needed_by[way[-1]])
        return tuple(way)


def needed(graph: Graph, roots: Mapping[str, str]) -> Needed:
    """Find all that entities come from: what a replay of them needs.

    Every association counts but one: that a version of something was made from the version before
    at the same place. A model that read version 7 of a table does not need version 6. And a job
    needs what its properties, or those of one of its runs, name by digest: the packages that were
    installed, and the changes of the code.

    Args:
        graph: to walk.
        roots: uid → why it is in use.

    Raises:
        EntityNotFound: one of the roots does not exist.

    Cost: grows with what the roots come from.
    """
    with graph.store.view() as view:
        uids: dict[int, str] = {}
        known: dict[int, Entity] = {}
        for uid in roots:
            node = view.node(uid)
            if node is None:
                raise EntityNotFound(uid, nearest=view.nearest(uid))
            uids[node] = uid
        known.update(zip(uids, view.entities(list(uids)), strict=True))
        needed_by: dict[str, str] = {}
        frontier = list(uids)
        while frontier:
            jobs = {node: known[node] for node in frontier if known[node].kind in _JOBS}
            named = _named_by(view, jobs)
            for uid in view.by_uid(named):
                if uid not in roots:
                    needed_by.setdefault(uid, named[uid])
            edges = []
            for first in range(0, len(frontier), _AT_ONCE):
                edges += view.neighbours(frontier[first : first + _AT_ONCE], upstream=True)
            new = list(dict.fromkeys(source for source, _, _ in edges if source not in known))
            known.update(zip(new, view.entities(new), strict=True))
            frontier = []
            for source, destination, link in edges:
                if source in uids or _is_history(known[source], known[destination], link):
                    continue
                uids[source] = known[source].uid
                needed_by[uids[source]] = uids[destination]
                frontier.append(source)
    return Needed(dict(roots), needed_by)


def in_use(graph: Graph, *, since: datetime | None = None, why: str = "recent") -> dict[str, str]:
    """What the graph itself says is in use: uid → why.

    That is what is tagged `keep`, what was approved, an endpoint that was not taken down, and a job
    that runs.

    Args:
        graph: to look through.
        since: models, datasets and training jobs that were recorded or changed after this time are
            in use, too; None: their age does not count.
        why: the reason for these.
    """
    roots: dict[str, str] = {}
    for entity in graph.tagged(KEEP_TAG):
        roots[entity.uid] = f"tagged {KEEP_TAG}"
    for entity in graph.find(type="Approval"):
        if entity.state not in _REFUSED:
            roots.setdefault(entity.uid, "approved")
    for entity in graph.find(kind=Kind.CONTEXT, type="Endpoint"):
        if entity.state not in _ENDED:
            roots.setdefault(entity.uid, "an endpoint in service")
    for entity in graph.find(kind=Kind.TRIAL_COMPONENT):
        if entity.state in ("InProgress", "Stopping"):
            roots.setdefault(entity.uid, "a job that runs")
    if since is not None:
        for entity in (entity for young in _YOUNG for entity in graph.find(type=young)):
            if entity.state != "Deleted" and entity.modified and entity.modified > since:
                roots.setdefault(entity.uid, why)
    return roots


def _named_by(view: View, jobs: Mapping[int, Entity]) -> dict[str, str]:
    """What jobs and their runs name by digest: uid of the artifact → uid of the job."""
    named: dict[str, str] = {}
    for node, job in jobs.items():
        said: Iterable[Mapping[str, object]] = (job.properties, *_of_runs(view, node))
        for properties in said:
            for uid in named_artifacts(properties):
                named.setdefault(uid, job.uid)
    return named


def _of_runs(view: View, node: int) -> list[Mapping[str, object]]:
    return [run.properties for run in view.runs(node)]


def _is_history(source: Entity, destination: Entity, link: str) -> bool:
    return (
        link == AssociationType.DERIVED_FROM.value
        and source.source_uri == destination.source_uri != ""
    )
