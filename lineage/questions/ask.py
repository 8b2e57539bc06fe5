"""The questions of a graph as functions over its store: what `Graph` has thin methods for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from lineage.association import AssociationType, as_association_type
from lineage.column_walk import walk_columns
from lineage.entity import Entity, Kind, derived_uid, to_us
from lineage.errors import InvalidQuery
from lineage.filter import Filter
from lineage.query import Direction, as_direction, located, viewed
from lineage.questions.ancestors import CommonEntities, find_common
from lineage.questions.cause import DataChanges
from lineage.questions.columns import FeatureUse, features_of, users_of
from lineage.questions.diff import History, LineageDiff, find_difference
from lineage.questions.events import EventFilter, EventSummary, find_events, recorded_by
from lineage.questions.explain import Explanation, explained, find_account
from lineage.questions.paths import LineagePath, Paths, find_paths, find_shortest
from lineage.store import LineageStore, View

MAX_PATHS = 10_000

_FEATURES_SHOWN = 50


def uid_of(entity: str | Entity) -> str:
    """The uid or alias by which an entity is asked for."""
    return (entity.uid or derived_uid(entity)) if isinstance(entity, Entity) else entity


def paths(
    store: LineageStore,
    start: str | Entity,
    end: str | Entity,
    *,
    direction: Direction | str,
    limit: int,
    max_length: int | None,
    through: Collection[AssociationType | str] | None,
    max_walked: int | None,
    as_of: int | datetime | None,
) -> Paths:
    """See `Graph.paths`."""
    way, links = as_direction(direction), as_links(through)
    check_paths(limit)
    check_count("max_length", max_length, 0)
    check_count("max_walked", max_walked, 2)
    with viewed(store, as_of) as view:
        return find_paths(
            view,
            located(view, uid_of(start))[1],
            located(view, uid_of(end))[1],
            direction=way,
            limit=limit,
            max_length=max_length,
            through=links,
            max_walked=max_walked,
        )


def shortest_path(
    store: LineageStore,
    start: str | Entity,
    end: str | Entity,
    *,
    direction: Direction | str,
    through: Collection[AssociationType | str] | None,
    as_of: int | datetime | None,
) -> LineagePath | None:
    """See `Graph.shortest_path`."""
    way, links = as_direction(direction), as_links(through)
    with viewed(store, as_of) as view:
        ends = [located(view, uid_of(one))[1] for one in (start, end)]
        return find_shortest(view, *ends, direction=way, through=links)


def common(
    store: LineageStore,
    entities: Collection[str | Entity],
    *,
    upstream: bool,
    depth: int | None,
    wanted: Filter,
    through: Collection[AssociationType | str] | None,
    limit: int | None,
    as_of: int | datetime | None,
) -> CommonEntities:
    """See `Graph.common_ancestors` and `Graph.common_descendants`."""
    if len(entities) < 2:
        raise InvalidQuery(f"expected two or more entities, got {len(entities)}")
    check_count("depth", depth, 0)
    check_count("limit", limit, 1)
    links = as_links(through)
    with viewed(store, as_of) as view:
        return find_common(
            view,
            [located(view, uid_of(one))[1] for one in entities],
            upstream=upstream,
            depth=depth,
            through=links,
            wanted=wanted,
            limit=limit,
        )


def diff(
    store: LineageStore,
    a: str | Entity,
    b: str | Entity,
    *,
    through: Collection[AssociationType | str] | None,
    changes: DataChanges | None,
    as_of: int | datetime | None,
) -> LineageDiff:
    """See `Graph.diff`."""
    links = as_links(through)
    with viewed(store, as_of) as view:
        return find_difference(
            view,
            located(view, uid_of(a))[1],
            located(view, uid_of(b))[1],
            through=links,
            changes=changes,
            history=History(store),
        )


def explain(
    store: LineageStore, entity: str | Entity, *, as_of: int | datetime | None
) -> Explanation:
    """See `Graph.explain`."""
    with viewed(store, as_of) as view:
        _, node = located(view, uid_of(entity))
        account = find_account(view, node)
        tags = view.tags([node]).get(node, {})
        uses = _features(view, account.entity)[:_FEATURES_SHOWN]
    return explained(account, features=uses, events=recorded_by(store, account.entity), tags=tags)


def features(
    store: LineageStore, entity: str | Entity, *, as_of: int | datetime | None
) -> list[FeatureUse]:
    """See `Graph.features`."""
    with viewed(store, as_of) as view:
        uid, _ = located(view, uid_of(entity))
        return _features(view, view.by_uid([uid])[uid])


def feature_users(
    store: LineageStore,
    entity: str | Entity,
    column: str,
    *,
    types: Collection[str] | None,
    as_of: int | datetime | None,
) -> list[FeatureUse]:
    """See `Graph.feature_users`."""
    wanted = frozenset((types,) if isinstance(types, str) else types or ())
    found: list[FeatureUse] = []
    with viewed(store, as_of) as view:
        uid, node = located(view, uid_of(entity))
        # The columns of a group may be recorded as those of its table's versions.
        starts = [uid]
        feature = view.by_uid([uid])[uid]
        if feature.kind is Kind.CONTEXT:
            tied = [
                destination
                for _, destination, link in view.neighbours([node], upstream=False)
                if link == AssociationType.ASSOCIATED_WITH
            ]
            starts += [one.uid for one in view.entities(sorted(tied))]
        for start in starts:
            result = walk_columns(view, start, column, Direction.DESCENDANTS, None)
            known = view.by_uid({link.destination for link in result.links} | {start})
            found += users_of(result, known[start], column, known, types=wanted)
    return sorted(
        found,
        key=lambda use: (-(use.importance or 0.0), use.user.name, use.user.version, use.input),
    )


def events(
    store: LineageStore,
    entity: str | Entity | None,
    *,
    kinds: Collection[str] | str | None,
    actors: Collection[str] | str | None,
    since: datetime | None,
    until: datetime | None,
    before: int | None,
    limit: int,
) -> list[EventSummary]:
    """See `Graph.events`."""
    check_count("limit", limit, 1, is_optional=False)
    check_count("before", before, 1)
    uid = ""
    if entity is not None:
        with store.view() as view:
            uid, _ = located(view, uid_of(entity))
    check_time("since", since)
    check_time("until", until)
    wanted = EventFilter(
        uid,
        frozenset((kinds,) if isinstance(kinds, str) else kinds or ()),
        frozenset((actors,) if isinstance(actors, str) else actors or ()),
        None if since is None else to_us(since),
        None if until is None else to_us(until),
        before,
    )
    return find_events(store, wanted, limit)


def search(
    store: LineageStore,
    *,
    name: str | None,
    source_uri: str | None,
    content_hash: str | None,
    tags: Mapping[str, str | None] | None,
    wanted: Filter,
    limit: int | None,
    as_of: int | datetime | None,
) -> list[Entity]:
    """See `Graph.search`."""
    check_count("limit", limit, 1)
    with viewed(store, as_of) as view:
        found = _named(view, name, source_uri, content_hash or "", tags or {}, wanted)
    found = [
        entity
        for entity in found
        if (name is None or entity.name == name)
        and (source_uri is None or entity.source_uri == source_uri)
        and (not content_hash or _begins(entity, content_hash))
        and wanted.matches(entity)
    ]
    found.reverse()
    return found[:limit]


def _named(
    view: View,
    name: str | None,
    source_uri: str | None,
    content_hash: str,
    tags: Mapping[str, str | None],
    wanted: Filter,
) -> list[Entity]:
    """What an index finds, oldest first: a few too many."""
    if tags:
        nodes = set.intersection(*(set(view.tagged(key, value)) for key, value in tags.items()))
        return list(view.entities(sorted(nodes)))
    if content_hash and name is None and source_uri is None:
        return list(view.entities(view.beginning(content_hash)))
    kinds: list[Kind | None] = [*wanted.kinds] if len(wanted.kinds) == 1 else [None]
    if name is not None or source_uri is not None or not wanted.types:
        return view.find(kind=kinds[0], type=None, name=name, source_uri=source_uri)
    found = [
        entity
        for one in sorted(wanted.types)
        for entity in view.find(kind=kinds[0], type=one, name=None, source_uri=None)
    ]
    if len(wanted.types) > 1:
        found.sort(key=lambda entity: (to_us(entity.created) if entity.created else 0, entity.uid))
    return found


def _begins(entity: Entity, content_hash: str) -> bool:
    return entity.kind is Kind.ARTIFACT and entity.content_hash.startswith(content_hash)


def _features(view: View, user: Entity) -> list[FeatureUse]:
    result = walk_columns(view, user.uid, "", Direction.ASCENDANTS, None)
    known = view.by_uid({link.source for link in result.links})
    return features_of(result, user, known)


def as_links(through: Collection[AssociationType | str] | None) -> frozenset[str]:
    """The association types to walk along; empty for all.

    Raises:
        InvalidAssociation: an unknown one.
    """
    values = (through,) if isinstance(through, str) else through or ()
    return frozenset(as_association_type(link).value for link in values)


def check_count(name: str, value: int | None, least: int, *, is_optional: bool = True) -> None:
    """Refuse what is no number of at least so many.

    Raises:
        InvalidQuery: it is none, or too small.
    """
    if value is None and is_optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        none = ", or None" if is_optional else ""
        raise InvalidQuery(f"{name}: expected an int of at least {least}{none}; got {value!r}")


def check_paths(limit: int) -> None:
    """Refuse a number of paths that is none, or that nobody reads.

    Raises:
        InvalidQuery: it is not from 1 to `MAX_PATHS`.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= MAX_PATHS:
        raise InvalidQuery(f"limit: expected 1 to {MAX_PATHS} paths, got {limit!r}")


def check_time(name: str, time: datetime | None) -> None:
    """Refuse what is no time with a zone; None is.

    Raises:
        InvalidQuery: it is none.
    """
    if time is not None and (not isinstance(time, datetime) or time.tzinfo is None):
        raise InvalidQuery(f"{name}: expected a datetime with a zone, got {time!r}")
