"""Walking the graph from one entity, frontier by frontier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import chain
from typing import Protocol, final

from lineage.association import AssociationType, as_association_type, stored_association
from lineage.entity import Entity, derived_uid, to_us
from lineage.errors import EntityNotFound, InvalidQuery
from lineage.filter import Filter
from lineage.result import Content, LineageResult
from lineage.store import Edge, LineageStore, View

# Larger answers read their entities when first asked for them: most callers of a hub
# with 90,000 descendants want the number, or a page.
_EAGER_ENTITIES = 5_000


class Direction(StrEnum):
    """Which way a query walks.

    Ascendants follows associations backwards, descendants forwards. Both follows both
    from every visited entity: the connected part of the graph. Either is what ascendants
    and descendants find together.
    """

    ASCENDANTS = "ascendants"
    DESCENDANTS = "descendants"
    BOTH = "both"
    EITHER = "either"


@final
@dataclass(frozen=True)
class Query:
    """A checked question to the graph.

    Args:
        start: uid to walk from.
        direction: which way.
        depth: associations from the start, or None for no limit.
        wanted: what is returned.
        include_edges: whether to return associations, and the entities on the paths.
        limit: most entities to return, or None.
        through: association types to walk along; empty for all.
        max_walked: most entities to visit, or None.
        as_of: sequence of the last event that counts, or time in UTC microseconds as a
            datetime; None for the present.
    """

    start: str
    direction: Direction
    depth: int | None
    wanted: Filter
    include_edges: bool
    limit: int | None
    through: frozenset[str] = frozenset()
    max_walked: int | None = None
    as_of: int | datetime | None = None

    def __post_init__(self) -> None:
        for name, value, least in (
            ("depth", self.depth, 0),
            ("limit", self.limit, 1),
            ("max_walked", self.max_walked, 1),
        ):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidQuery(
                    f"{name}: expected an int of at least {least}, or None for no limit; "
                    f"got {value!r}"
                )
        check_as_of(self.as_of)


def check_as_of(as_of: object) -> None:
    """Refuse what is no point in the history of the graph.

    Raises:
        InvalidQuery: it is neither a sequence nor a time with a zone.
    """
    is_sequence = isinstance(as_of, int) and not isinstance(as_of, bool) and as_of >= 0
    is_time = isinstance(as_of, datetime) and as_of.tzinfo is not None
    if as_of is not None and not is_sequence and not is_time:
        raise InvalidQuery(
            f"as_of: expected the sequence of an event (0 or more), a datetime with a zone, or "
            f"None for the present; got {as_of!r}"
        )


def as_direction(value: Direction | str) -> Direction:
    """The direction with this name, in any case.

    Raises:
        InvalidQuery: there is no such direction.
    """
    try:
        return Direction(str(value).lower())
    except ValueError:
        raise InvalidQuery(
            f"direction: expected one of {', '.join(Direction)}; got {value!r}"
        ) from None


def as_query(
    start: str | Entity,
    direction: Direction | str,
    *,
    depth: int | None,
    wanted: Filter,
    include_edges: bool,
    limit: int | None,
    through: Collection[AssociationType | str] | None = None,
    max_walked: int | None = None,
    as_of: int | datetime | None = None,
) -> Query:
    """The query that the arguments of `Graph.query` ask for.

    Raises:
        InvalidQuery: an unknown direction, or a depth, limit or point in time out of range.
        InvalidAssociation: an unknown association type.
    """
    links = (through,) if isinstance(through, str) else through or ()
    return Query(
        start=(start.uid or derived_uid(start)) if isinstance(start, Entity) else start,
        direction=as_direction(direction),
        depth=depth,
        wanted=wanted,
        include_edges=include_edges,
        limit=limit,
        through=frozenset(as_association_type(link).value for link in links),
        max_walked=max_walked,
        as_of=as_of,
    )


@contextmanager
def viewed(store: LineageStore, as_of: int | datetime | None) -> Iterator[View]:
    """The graph as it was then.

    Raises:
        InvalidQuery: `as_of` is neither a sequence nor a time with a zone.
    """
    check_as_of(as_of)
    sequence = as_of if isinstance(as_of, int) else None
    if isinstance(as_of, datetime):
        with store.view() as view:
            sequence = view.sequence_at(to_us(as_of))
    with store.view(sequence) as view:
        yield view


def located(view: View, name: str) -> tuple[str, int]:
    """The uid and node of what has this uid or alias.

    Raises:
        EntityNotFound: there is none.
    """
    uid, node = name, view.node(name)
    if node is None and (alias := view.alias(name)) is not None:
        uid, node = alias, view.node(alias)
    if node is None:
        raise EntityNotFound(name, nearest=view.nearest(name))
    return uid, node


def run_query(store: LineageStore, query: Query) -> LineageResult:
    """Walk one state of the graph and keep what the query asks for.

    Raises:
        EntityNotFound: the start does not exist.
    """
    with viewed(store, query.as_of) as view:
        uid, start = located(view, query.start)
        picked = pick(query, start, view.neighbours, view.matching)
        read = picked.read(view.entities) if len(picked) <= _EAGER_ENTITIES else None

    def content() -> Content:
        if read is not None:
            return picked.content(*read)
        with viewed(store, query.as_of) as later:
            return picked.content(*picked.read(later.entities))

    return LineageResult(
        start=uid,
        direction=query.direction.value,
        count=len(picked.found),
        truncated=picked.truncated,
        content=content,
    )


@final
@dataclass(frozen=True)
class Picked:
    """What a query returns, as nodes.

    Args:
        found: those that match, nearest first, then oldest.
        on_paths: those that do not match but lie on the paths to them, in the same order.
        edges: the associations.
        depths: of every node visited.
        truncated: whether the limit left any out.
    """

    found: list[int]
    on_paths: list[int]
    edges: list[Edge]
    depths: dict[int, int]
    truncated: bool

    def __len__(self) -> int:
        return len(self.found) + len(self.on_paths)

    def read(
        self, entities_of: Callable[[list[int]], Sequence[Entity]]
    ) -> tuple[Sequence[Entity], Sequence[Entity]]:
        """The entities found, and those on the paths to them."""
        return entities_of(self.found), entities_of(self.on_paths) if self.on_paths else ()

    def content(self, found: Sequence[Entity], on_paths: Sequence[Entity]) -> Content:
        """What the result holds, from the entities that `read` gave."""
        entities, path_entities = tuple(found), tuple(on_paths)
        uids = {
            node: entity.uid
            for node, entity in zip(
                chain(self.found, self.on_paths), chain(entities, path_entities), strict=True
            )
        }
        return Content(
            entities,
            path_entities,
            tuple(
                stored_association(uids[source], uids[destination], link)
                for source, destination, link in self.edges
            ),
            {uid: self.depths[node] for node, uid in uids.items()},
        )


class Neighbours(Protocol):
    """The associations that end (upstream) or start (downstream) at any of `nodes`."""

    def __call__(  # noqa: D102 - the class says it
        self, nodes: Sequence[int], *, upstream: bool
    ) -> list[Edge]: ...


class Matching(Protocol):
    """Those of `nodes` that pass a filter, in the same order."""

    def __call__(  # noqa: D102 - the class says it
        self, nodes: Sequence[int], wanted: Filter
    ) -> list[int]: ...


def pick(query: Query, start: int, neighbours: Neighbours, matching: Matching) -> Picked:
    """Walk from `start` and keep what the query asks for."""
    is_filtered = bool(query.wanted)
    # One more than the limit tells whether the limit cuts anything off.
    enough = None if is_filtered or query.limit is None else query.limit + 1
    directions = (
        (Direction.ASCENDANTS, Direction.DESCENDANTS)
        if query.direction is Direction.EITHER
        else (query.direction,)
    )
    walks = [
        _walk(neighbours, start, direction, query.depth, enough, query.max_walked, query.through)
        for direction in directions
    ]
    depths, edges = walks[0].depths, walks[0].edges
    if len(walks) > 1:
        for node, depth in walks[1].depths.items():
            depths[node] = min(depth, depths.get(node, depth))
        depths = dict(sorted(depths.items(), key=lambda item: (item[1], item[0])))
        edges = list(dict.fromkeys((*edges, *walks[1].edges)))
    found = matching(list(depths), query.wanted) if is_filtered else list(depths)
    is_cut = query.limit is not None and len(found) > query.limit
    found = found[: query.limit]
    on_paths: list[int] = []
    if not query.include_edges:
        edges = []
    elif is_filtered:
        edges = list(
            dict.fromkeys(
                edge
                for walk, direction in zip(walks, directions, strict=True)
                for edge in _on_paths(
                    walk.edges, walk.depths, direction, start, walk.depths.keys() & set(found)
                )
            )
        )
        ends = {node for source, destination, _ in edges for node in (source, destination)}
        on_paths = sorted(ends.difference(found), key=lambda node: (depths[node], node))
    elif is_cut:
        kept = set(found)
        edges = [edge for edge in edges if edge[0] in kept and edge[1] in kept]
    return Picked(found, on_paths, edges, depths, is_cut or any(walk.is_cut for walk in walks))


@final
@dataclass(frozen=True)
class _Walked:
    """Where a walk came: the depth of each node visited, nearest first, and every association
    walked, which are those of the nodes nearer than the depth asked for.
    """

    depths: dict[int, int]
    edges: list[Edge]
    is_cut: bool


def _walk(
    neighbours: Neighbours,
    start: int,
    direction: Direction,
    depth: int | None,
    enough: int | None,
    max_walked: int | None,
    through: Collection[str],
) -> _Walked:
    """Visit each node once, nearest first."""
    depths = {start: 0}
    edges: list[Edge] = []
    frontier: Sequence[int] = [start]
    level = 0
    is_cut = False
    while frontier and not is_cut and (depth is None or level < depth):
        if enough is not None and len(depths) >= enough:
            break
        level += 1
        reached: set[int] = set()
        if direction is not Direction.DESCENDANTS:
            upstream = neighbours(frontier, upstream=True)
            if through:
                upstream = [edge for edge in upstream if edge[2] in through]
            reached.update(edge[0] for edge in upstream)
            edges += upstream
        if direction is not Direction.ASCENDANTS:
            downstream = neighbours(frontier, upstream=False)
            if through:
                downstream = [edge for edge in downstream if edge[2] in through]
            reached.update(edge[1] for edge in downstream)
            edges += downstream
        frontier = sorted(reached.difference(depths))
        if max_walked is not None and len(depths) + len(frontier) > max_walked:
            frontier = frontier[: max_walked - len(depths)]
            is_cut = True
        depths.update(dict.fromkeys(frontier, level))
    if is_cut:
        edges = [edge for edge in edges if edge[0] in depths and edge[1] in depths]
    if direction is Direction.BOTH:  # where each association is met at both of its ends
        edges = list(dict.fromkeys(edges))
    return _Walked(depths, edges, is_cut)


def _on_paths(
    edges: Sequence[Edge],
    depths: dict[int, int],
    direction: Direction,
    start: int,
    targets: Collection[int],
) -> list[Edge]:
    """The walked associations on a path from the start to any of the targets.

    Walking both ways every association lies on some path, so there only the shortest count.
    """
    arriving: dict[int, list[Edge]] = {}
    for edge in edges:
        source, destination, _ = edge
        near, far = (source, destination)
        if direction is Direction.ASCENDANTS:
            near, far = far, near
        elif direction is Direction.BOTH:
            near, far = sorted((source, destination), key=depths.__getitem__)
            if depths[near] == depths[far]:
                continue
        arriving.setdefault(far, []).append(edge)
    kept: dict[Edge, None] = {}
    reached = set(targets) - {start}
    waiting = list(reached)
    while waiting:
        node = waiting.pop()
        for edge in arriving.get(node, ()):
            kept[edge] = None
            near = edge[0] if edge[1] == node else edge[1]
            if near not in reached and near != start:
                reached.add(near)
                waiting.append(near)
    return [edge for edge in edges if edge in kept]
