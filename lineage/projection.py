"""What an event does to the graph: resolving a draft, and merging entities.

Both stores run these functions, and a rebuild runs `project` on the log alone, so
the graph never depends on which store kept it or when it was projected.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import final

from lineage.association import TYPE_TEXTS, Association, AssociationType, check_kinds
from lineage.change import Change, Draft, Link, to_json
from lineage.circle import refuse_circles
from lineage.column import ColumnLineage
from lineage.digest import bytes_digest
from lineage.entity import (
    MAX_VERSION,
    STATE,
    End,
    Entity,
    Facet,
    Kind,
    amended,
    derived_uid,
    from_us,
)
from lineage.errors import EntityConflict, EntityNotFound, InvalidAssociation, InvalidEntity
from lineage.store import View

_SHA256 = re.compile("[0-9a-f]{64}")
# Of such a size different things have the same bytes: an empty list, a flag, a version.
_LEAST_BYTES = 64
# What is so short is known without its size being recorded.
_TRIVIAL = {
    bytes_digest(content)
    for content in (b"", *(bytes([byte]) for byte in range(256)), b"{}", b"[]", b"{}\n", b"[]\n")
}
_HAS_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
_DERIVED_FROM = AssociationType.DERIVED_FROM.value
_MAX_TAG_KEY, _MAX_TAG_VALUE, _MAX_ALIAS = 256, 1024, 4096


def resolve(draft: Draft, graph: View) -> tuple[Change, dict[str, Entity]]:
    """Settle uids, versions and ends against the graph, and refuse what does not fit.

    New content at a known source uri gets the next version and a DerivedFrom
    association from the version before. A new artifact whose content hash, a SHA-256, is
    known of another uri gets a SameAs association from the oldest of its type that has it, where
    both are places and the content is no trifle. Only reads.

    Returns:
        What the event adds, and the entities that it touches as they were before it.

    Raises:
        EntityNotFound: an end is a uid that does not exist.
        EntityConflict: a uid stands for something else.
        InvalidAssociation: both ends are the same, both are experiment entities, it would
            close a circle of causes, or an association to end is not there.
    """
    resolution = _Resolution(draft, graph)
    for entity in draft.entities:
        resolution.add(entity)
    for source, destination, link in draft.associations:
        resolution.associate(source, destination, link)
    resolution.tell_copies()
    if draft.columns or draft.runs or draft.tags or draft.aliases or draft.retractions:
        change = resolution.whole(draft)
    else:
        change = Change(tuple(resolution.recorded), tuple(resolution.associations))
    if not draft.cycles:
        refuse_circles(change.associations, resolution.before, graph)
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
            else amended(recorded, created=at, modified=at, state=_state(recorded))
        )
    return list(after.values())


def past(uid: str, events: Iterable[tuple[int, Change]]) -> Entity:
    """An entity as it was after some of the events that touched it.

    Args:
        uid: of the entity.
        events: time and change of each, from the one that made the entity on, in order.
    """
    known: dict[str, Entity] = {}
    for time_us, change in events:
        own = tuple(entity for entity in change.entities if entity.uid == uid)
        for entity in project(Change(own, ()), time_us, known):
            known[entity.uid] = entity
    return known[uid]


def later_facets(known: Mapping[str, Facet], recorded: Mapping[str, Facet]) -> dict[str, Facet]:
    """Of each facet the one with the greater rank, and of equal ranks always the same."""
    merged = dict(known)
    for name, facet in recorded.items():
        other = merged.get(name)
        if other is None or _is_before(other, facet):
            merged[name] = facet
    return merged


@final
class _Resolution:
    """The state of one `resolve`: the graph, and what the draft has added to it so far.

    All that the draft names is read at once, before anything else.
    """

    def __init__(self, draft: Draft, graph: View) -> None:
        self.recorded: list[Entity] = []
        self.associations: dict[Link, None] = {}
        self._graph = graph
        self._new: dict[str, Entity] = {}
        self._new_artifacts: dict[tuple[str, str], Entity] = {}
        # By identity of the object: a job names the same entities over and over.
        self._uids: dict[int, str] = {}
        self._settled: dict[int, Entity] = {}
        named = {id(entity): entity for entity in draft.entities}
        uids = set()
        for end in _ends(draft):
            if isinstance(end, str):
                uids.add(end)
            else:
                named[id(end)] = end
        for place, entity in named.items():
            self._uids[place] = entity.uid or derived_uid(entity)
        uids.update(self._uids.values())
        self.before = graph.by_uid(uids)
        uris = {
            entity.source_uri
            for place, entity in named.items()
            if entity.kind is Kind.ARTIFACT and self._uids[place] not in self.before
        }
        self._latest = graph.latest(uris) if uris else {}

    def add(self, entity: Entity) -> Entity:
        """Settle uid and version of an entity to record."""
        uid = self._uids[id(entity)]
        known = self._identified(entity, uid)
        if known:
            _check_same(known, entity)
            version = max(known.version, entity.version)
            if entity.kind is Kind.ARTIFACT:
                version = known.version
            settled = amended(entity, uid=known.uid, version=version)
        else:
            settled = amended(entity, uid=uid)
            if entity.kind is Kind.ARTIFACT:
                if entity.source_uri in self._latest:
                    settled = self._number(settled)
                else:
                    self._latest[entity.source_uri] = settled
                self._new_artifacts[entity.source_uri, entity.content_hash] = settled
            self._new[uid] = settled
        self.recorded.append(settled)
        self._settled[id(entity)] = settled
        return settled

    def associate(self, source: End, destination: End, link: AssociationType) -> None:
        """Settle the ends of an association to record."""
        upstream = self._settled.get(id(source)) or self._end(source)
        downstream = self._settled.get(id(destination)) or self._end(destination)
        if upstream.kind.is_experiment and downstream.kind.is_experiment:
            check_kinds(
                upstream.kind,
                downstream.kind,
                where=f"association {upstream.uid!r} {link} {downstream.uid!r}",
            )
        if upstream.uid == downstream.uid:
            Association(upstream.uid, downstream.uid, link)  # raises
        self.associations[upstream.uid, downstream.uid, TYPE_TEXTS[link]] = None

    def tell_copies(self) -> None:
        """Connect each new artifact with the oldest of its type that has the same bytes.

        With that one alone: a thousand copies are a star, and not half a million associations.
        """
        fresh: dict[tuple[str, str], list[Entity]] = {}
        for entity in self._new_artifacts.values():
            if _may_be_copied(entity):
                fresh.setdefault((entity.content_hash, entity.type), []).append(entity)
        known = self._graph.same_content(fresh) if fresh else {}
        for content, copies in fresh.items():
            oldest = known.get(content) or copies[0]
            for copy in copies if _may_be_copied(oldest) else ():
                if copy.source_uri != oldest.source_uri:
                    self.associations[oldest.uid, copy.uid, AssociationType.SAME_AS.value] = None

    def whole(self, draft: Draft) -> Change:
        """The change, with all that a draft says beyond entities and associations."""
        retractions = {self._retracted(*association): None for association in draft.retractions}
        columns = tuple(map(self._columns, draft.columns))
        runs = tuple(replace(run, entity=self._end(run.entity).uid) for run in draft.runs)
        tags = tuple((self._end(end).uid, *_tag(key, value)) for end, key, value in draft.tags)
        aliases = tuple((alias, self._alias(alias, end)) for alias, end in draft.aliases)
        return Change(
            tuple(self.recorded),
            tuple(self.associations),
            columns,
            runs,
            tags,
            aliases,
            tuple(retractions),
        )

    def _columns(self, said: ColumnLineage) -> ColumnLineage:
        edges = {}
        for given in said.edges:
            edge = replace(given, source=self._end(given.source).uid)
            edges[edge.source, edge.source_column, edge.column, edge.type, edge.subtype] = edge
        return replace(
            said, destination=self._end(said.destination).uid, edges=tuple(edges.values())
        )

    def _retracted(self, source: End, destination: End, link: AssociationType) -> Link:
        found = (self._end(source).uid, self._end(destination).uid, link.value)
        if found in self.associations:
            raise InvalidAssociation(
                f"association {found[0]!r} {link} {found[1]!r}: added and ended by one event; "
                f"record two"
            )
        if not self._graph.has_association(*found):
            raise InvalidAssociation(
                f"association {found[0]!r} {link} {found[1]!r}: there is none that could end"
            )
        return found

    def _alias(self, alias: str, end: End) -> str:
        uid = self._end(end).uid
        if not isinstance(alias, str) or not alias.strip() or len(alias) > _MAX_ALIAS:
            raise InvalidAssociation(
                f"alias of {uid!r}: expected text of 1 to {_MAX_ALIAS} characters, "
                f"got {alias!r:.200}"
            )
        known = self._graph.alias(alias)
        if known is not None and known != uid:
            raise EntityConflict(
                known, f"has the alias {alias!r} already; it cannot name {uid!r} too"
            )
        if self._known(alias) is not None and alias != uid:
            raise EntityConflict(alias, f"is the uid of an entity; it cannot name {uid!r} too")
        return uid

    def _end(self, end: End) -> Entity:
        if isinstance(end, str):
            named = self._known(end) or self._aliased(end)
            if named is None:
                raise EntityNotFound(end, nearest=self._graph.nearest(end))
            return named
        settled = self._settled.get(id(end))
        if settled is None:
            known = self._identified(end, self._uids[id(end)])
            if known is None:
                return self.add(end)
            _check_same(known, end)
            self._settled[id(end)] = settled = known
        return settled

    def _aliased(self, alias: str) -> Entity | None:
        uid = self._graph.alias(alias)
        if uid is None:
            return None
        self.before.update(self._graph.by_uid([uid]))
        return self.before[uid]

    def _identified(self, entity: Entity, uid: str) -> Entity | None:
        """The entity that is already there under the identity of this one."""
        known = self._new.get(uid) or self.before.get(uid)
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
        """Give a new artifact its place among the versions that there are at its uri."""
        uri, version = entity.source_uri, entity.version
        latest = self._latest[uri]
        below: Entity | None = latest
        at: Entity | None = None
        above: Entity | None = None
        if version <= latest.version:
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
        if version > latest.version:
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


def _may_be_copied(entity: Entity) -> bool:
    """Whether equal bytes elsewhere say that something was copied.

    So they do where an artifact lies somewhere: at a path or a `scheme://` uri. What is named
    `dataset:…`, `memory:…` or `algorithm:…` is in no place.
    """
    content, uri = entity.content_hash, entity.source_uri
    if not _SHA256.fullmatch(content) or content in _TRIVIAL:
        return False
    size = entity.properties.get("bytes")
    if isinstance(size, int) and size < _LEAST_BYTES:
        return False
    return "://" in uri or not _HAS_SCHEME.match(uri)


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
    facets = known.facets
    if recorded.facets:
        facets = later_facets(facets, recorded.facets)
    state = recorded.state or known.state
    return amended(
        known,
        source_uri=recorded.source_uri or known.source_uri,
        content_hash=recorded.content_hash or known.content_hash,
        version=recorded.version,
        state=_state(amended(recorded, state=state, facets=facets)) if facets else state,
        properties={**known.properties, **recorded.properties},
        modified=modified,
        facets=facets,
    )


def _state(entity: Entity) -> str:
    facet = entity.facets.get(STATE)
    return entity.state if facet is None or facet.value is None else str(facet.value)


def _is_before(facet: Facet, other: Facet) -> bool:
    if facet.rank != other.rank:
        return facet.rank < other.rank
    return to_json(facet.value) < to_json(other.value)


def _ends(draft: Draft) -> Iterable[End]:
    """Everything that a draft names beside its entities."""
    for associations in (draft.associations, draft.retractions):
        for source, destination, _ in associations:
            yield source
            yield destination
    for said in draft.columns:
        yield said.destination
        for edge in said.edges:
            yield edge.source
    for run in draft.runs:
        yield run.entity
    for end, _, _ in draft.tags:
        yield end
    for _, end in draft.aliases:
        yield end


def _tag(key: str, value: str | None) -> tuple[str, str | None]:
    if not isinstance(key, str) or not key.strip() or len(key) > _MAX_TAG_KEY:
        raise InvalidEntity(
            f"tag: expected a key of 1 to {_MAX_TAG_KEY} characters, got {key!r:.300}"
        )
    if value is not None and (not isinstance(value, str) or len(value) > _MAX_TAG_VALUE):
        raise InvalidEntity(
            f"tag {key!r}: expected text of at most {_MAX_TAG_VALUE} characters, got {value!r:.300}"
        )
    return key, value
