"""What an event does to the graph: resolving a draft, and merging entities.

Both stores run these functions, and a rebuild runs `project` on the log alone, so
the graph never depends on which store kept it or when it was projected.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import final

from lineage.association import Association, AssociationType, check_kinds
from lineage.change import Change, Draft, End, Link
from lineage.entity import MAX_VERSION, Entity, Kind, amended, derived_uid, from_us
from lineage.errors import EntityConflict, EntityNotFound
from lineage.store import Lookup

_DERIVED_FROM = AssociationType.DERIVED_FROM.value


def resolve(draft: Draft, graph: Lookup) -> tuple[Change, dict[str, Entity]]:
    """Settle uids, versions and ends against the graph, and refuse what does not fit.

    New content at a known source uri gets the next version and a DerivedFrom
    association from the version before. Only reads.

    Returns:
        What the event adds, and the entities that it touches as they were before it.

    Raises:
        EntityNotFound: an end is a uid that does not exist.
        EntityConflict: a uid stands for something else.
        InvalidAssociation: both ends are the same, or both are experiment entities.
    """
    resolution = _Resolution(draft, graph)
    for entity in draft.entities:
        resolution.add(entity)
    for source, destination, link in draft.associations:
        resolution.associate(source, destination, link)
    change = Change(tuple(resolution.recorded), tuple(resolution.associations))
    return change, resolution.before


def project(change: Change, time_us: int, before: Mapping[str, Entity]) -> list[Entity]:
    """The entities that an event touches, each once, as they are after it."""
    at = from_us(time_us)
    after: dict[str, Entity] = {}
    for recorded in change.entities:
        known = after.get(recorded.uid) or before.get(recorded.uid)
        after[recorded.uid] = (
            _merge(known, recorded, modified=at)
            if known
            else amended(recorded, created=at, modified=at)
        )
    return list(after.values())


@final
class _Resolution:
    """The state of one `resolve`: the graph, and what the draft has added to it so far.

    All that the draft names is read at once, before anything else.
    """

    def __init__(self, draft: Draft, graph: Lookup) -> None:
        self.recorded: list[Entity] = []
        self.associations: dict[Link, None] = {}
        self._graph = graph
        self._new: dict[str, Entity] = {}
        self._new_artifacts: dict[tuple[str, str], Entity] = {}
        # By identity of the object: a job names the same entities over and over.
        self._uids: dict[int, str] = {}
        self._settled: dict[int, Entity] = {}
        ends = [*draft.entities]
        uids = set()
        for source, destination, _ in draft.associations:
            for end in (source, destination):
                if isinstance(end, str):
                    uids.add(end)
                else:
                    ends.append(end)
        for entity in ends:
            if id(entity) not in self._uids:
                self._uids[id(entity)] = entity.uid or derived_uid(entity)
        self.before = graph.by_uid(uids.union(self._uids.values()))
        self._latest = graph.latest(
            {
                entity.source_uri
                for entity in ends
                if entity.kind is Kind.ARTIFACT and self._uids[id(entity)] not in self.before
            }
        )

    def add(self, entity: Entity) -> Entity:
        """Settle uid and version of an entity to record."""
        known = self._identified(entity)
        if known:
            _check_same(known, entity)
            version = max(known.version, entity.version)
            if entity.kind is Kind.ARTIFACT:
                version = known.version
            settled = amended(entity, uid=known.uid, version=version)
        else:
            settled = amended(entity, uid=self._uids[id(entity)])
            if entity.kind is Kind.ARTIFACT:
                settled = self._number(settled)
                self._new_artifacts[entity.source_uri, entity.content_hash] = settled
            self._new[settled.uid] = settled
        self.recorded.append(settled)
        self._settled[id(entity)] = settled
        return settled

    def associate(self, source: End, destination: End, link: AssociationType) -> None:
        """Settle the ends of an association to record."""
        upstream, downstream = self._end(source), self._end(destination)
        if upstream.kind.is_experiment and downstream.kind.is_experiment:
            check_kinds(
                upstream.kind,
                downstream.kind,
                where=f"association {upstream.uid!r} {link} {downstream.uid!r}",
            )
        if upstream.uid == downstream.uid:
            Association(upstream.uid, downstream.uid, link)  # raises
        self.associations[upstream.uid, downstream.uid, link.value] = None

    def _end(self, end: End) -> Entity:
        if isinstance(end, str):
            named = self._known(end)
            if named is None:
                raise EntityNotFound(end, nearest=self._graph.nearest(end))
            return named
        settled = self._settled.get(id(end))
        if settled is None:
            known = self._identified(end)
            if known is None:
                return self.add(end)
            _check_same(known, end)
            self._settled[id(end)] = settled = known
        return settled

    def _identified(self, entity: Entity) -> Entity | None:
        """The entity that is already there under the identity of this one."""
        uid = self._uids[id(entity)]
        known = self._known(uid)
        if known is None and entity.kind is Kind.ARTIFACT:
            known = self._artifact(entity.source_uri, entity.content_hash)
            if known is not None and uid != derived_uid(entity):
                raise EntityConflict(
                    uid,
                    f"the artifact at {entity.source_uri!r} with content hash "
                    f"{entity.content_hash!r} exists as {known.uid!r}; refer to it by that "
                    f"uid, or leave the uid empty",
                )
        return known

    def _known(self, uid: str) -> Entity | None:
        return self._new.get(uid) or self.before.get(uid)

    def _artifact(self, source_uri: str, content_hash: str) -> Entity | None:
        """The artifact with this identity, under whatever uid."""
        new = self._new_artifacts.get((source_uri, content_hash))
        if new is not None or source_uri not in self._latest:
            return new
        known = self._graph.artifact(source_uri, content_hash)
        if known is not None:
            self.before[known.uid] = known
        return known

    def _number(self, entity: Entity) -> Entity:
        """Give a new artifact its place among the versions at its uri."""
        uri, version = entity.source_uri, entity.version
        latest = self._latest.get(uri)
        below, at, above = latest, None, None
        if latest is not None and version <= latest.version:
            if version > 1:
                below, at, above = self._around(uri, version)
            if version == 1 or at is not None:
                version, below, above = latest.version + 1, latest, None
        if version > MAX_VERSION:
            raise EntityConflict(entity.uid, f"{uri!r} has no version left after {MAX_VERSION}")
        if below is not None:
            self._derive(below, entity)
        if above is not None:
            self._derive(entity, above)
        numbered = amended(entity, version=version)
        if latest is None or version > latest.version:
            self._latest[uri] = numbered
        return numbered

    def _around(self, uri: str, version: int) -> tuple[Entity | None, ...]:
        """The artifacts nearest to a version, those of this draft included."""
        known = [entity for entity in self._graph.around(uri, version) if entity is not None]
        known += [new for (source, _), new in self._new_artifacts.items() if source == uri]
        by_version = {entity.version: entity for entity in known}
        return (
            by_version.get(max((v for v in by_version if v < version), default=0)),
            by_version.get(version),
            by_version.get(min((v for v in by_version if v > version), default=0)),
        )

    def _derive(self, older: Entity, newer: Entity) -> None:
        self.associations[older.uid, newer.uid, _DERIVED_FROM] = None


def _check_same(known: Entity, entity: Entity) -> None:
    """Refuse a uid that stands for something else.

    An artifact keeps the type and name it was first recorded with: its identity says
    that it is the same, whatever a later job calls it.
    """
    if known.kind is not entity.kind:
        raise EntityConflict(
            known.uid, f"is of kind {known.kind}, not {entity.kind}; use another uid"
        )
    if entity.kind is Kind.ARTIFACT:
        stored = (known.source_uri, known.content_hash)
        if stored != (entity.source_uri, entity.content_hash):
            raise EntityConflict(
                known.uid,
                f"is the artifact at {known.source_uri!r} with content hash "
                f"{known.content_hash!r}; other content is another artifact: leave the uid empty",
            )
    elif (known.type, known.name) != (entity.type, entity.name):
        raise EntityConflict(
            known.uid,
            f"is {known.type} {known.name!r}, not {entity.type} {entity.name!r}; use another uid",
        )


def _merge(known: Entity, recorded: Entity, *, modified: datetime) -> Entity:
    return amended(
        known,
        source_uri=recorded.source_uri or known.source_uri,
        content_hash=recorded.content_hash or known.content_hash,
        version=recorded.version,
        state=recorded.state or known.state,
        properties={**known.properties, **recorded.properties},
        modified=modified,
    )
