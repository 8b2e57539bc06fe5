"""Walking the graph from one entity, frontier by frontier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from typing import Protocol, final

from lineage.association import stored_association
from lineage.entity import Entity, Kind, as_kind, derived_uid
from lineage.errors import EntityNotFound, InvalidQuery
from lineage.result import Content, LineageResult
from lineage.store import Edge, LineageStore

# Larger answers read their entities when first asked for them: most callers of a hub
# with 90,000 descendants want the number, or a page.
_EAGER_ENTITIES = 5_000


class Direction(StrEnum):
    """Which way a query walks.

    Ascendants follows associations backwards, descendants forwards, and both
    follows both from every visited entity: the connected part of the graph.
    """

    ASCENDANTS = "ascendants"
    DESCENDANTS = "descendants"
    BOTH = "both"


@final
@dataclass(frozen=True)
class Query:
    """A checked question to the graph.

    Args:
        start: uid to walk from.
        direction: which way.
        depth: associations from the start, or None for no limit.
        types: entity types to return; empty for all.
        kinds: kinds to return; empty for all.
        include_edges: whether to return associations, and the entities on the paths.
        limit: most entities to return, or None.
    """

    start: str
    direction: Direction
    depth: int | None
    types: frozenset[str]
    kinds: frozenset[Kind]
    include_edges: bool
    limit: int | None

    def __post_init__(self) -> None:
        for name, value, least in (("depth", self.depth, 0), ("limit", self.limit, 1)):
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InvalidQuery(
                    f"{name}: expected an int of at least {least}, or None for no limit; "
                    f"got {value!r}"
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
    types: Collection[str] | None,
    kinds: Collection[Kind | str] | None,
    include_edges: bool,
    limit: int | None,
) -> Query:
    """The query that the arguments of `Graph.query` ask for.

    Raises:
        InvalidQuery: an unknown direction, or a depth or limit out of range.
        InvalidEntity: an unknown kind.
    """
    return Query(
        start=(start.uid or derived_uid(start)) if isinstance(start, Entity) else start,
        direction=as_direction(direction),
        depth=depth,
        types=frozenset((types,) if isinstance(types, str) else types or ()),
        kinds=frozenset(map(as_kind, (kinds,) if isinstance(kinds, str) else kinds or ())),
        include_edges=include_edges,
        limit=limit,
    )


def run_query(store: LineageStore, query: Query) -> LineageResult:
    """Walk one state of the graph and keep what the query asks for.

    Raises:
        EntityNotFound: the start does not exist.
    """
    with store.view() as view:
        start = view.node(query.start)
        if start is None:
            raise EntityNotFound(query.start, nearest=view.nearest(query.start))
        picked = pick(query, start, view.neighbours, view.matching)
        read = picked.read(view.entities) if len(picked) <= _EAGER_ENTITIES else None

    def content() -> Content:
        if read is not None:
            return picked.content(*read)
        with store.view() as later:
            return picked.content(*picked.read(later.entities))

    return LineageResult(
        start=query.start,
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
    """Those of `nodes` with any of the types and any of the kinds; empty means all."""

    def __call__(  # noqa: D102 - the class says it
        self, nodes: Sequence[int], *, types: Collection[str], kinds: Collection[Kind]
    ) -> list[int]: ...


def pick(query: Query, start: int, neighbours: Neighbours, matching: Matching) -> Picked:
    """Walk from `start` and keep what the query asks for."""
    filtered = bool(query.types or query.kinds)
    # One more than the limit tells whether the limit cuts anything off.
    enough = None if filtered or query.limit is None else query.limit + 1
    depths, edges = _walk(neighbours, start, query.direction, query.depth, enough)
    found = list(depths)
    if filtered:
        found = matching(found, types=query.types, kinds=query.kinds)
    truncated = query.limit is not None and len(found) > query.limit
    found = found[: query.limit]
    on_paths: list[int] = []
    if not query.include_edges:
        edges = []
    elif filtered:
        edges = _on_paths(edges, depths, query.direction, start, found)
        ends = {node for source, destination, _ in edges for node in (source, destination)}
        on_paths = sorted(ends.difference(found), key=lambda node: (depths[node], node))
    elif truncated:
        kept = set(found)
        edges = [edge for edge in edges if edge[0] in kept and edge[1] in kept]
    return Picked(found, on_paths, edges, depths, truncated)


def _walk(
    neighbours: Neighbours,
    start: int,
    direction: Direction,
    depth: int | None,
    enough: int | None,
) -> tuple[dict[int, int], list[Edge]]:
    """Visit each node once, nearest first.

    Returns:
        The depth of each visited node, and every association walked: those of the
        nodes nearer than `depth`.
    """
    depths = {start: 0}
    edges: list[Edge] = []
    frontier: Sequence[int] = [start]
    level = 0
    while frontier and (depth is None or level < depth):
        if enough is not None and len(depths) >= enough:
            break
        level += 1
        reached: set[int] = set()
        if direction is not Direction.DESCENDANTS:
            upstream = neighbours(frontier, upstream=True)
            reached.update(edge[0] for edge in upstream)
            edges += upstream
        if direction is not Direction.ASCENDANTS:
            downstream = neighbours(frontier, upstream=False)
            reached.update(edge[1] for edge in downstream)
            edges += downstream
        frontier = sorted(reached.difference(depths))
        depths.update(dict.fromkeys(frontier, level))
    if direction is Direction.BOTH:  # where each association is met at both of its ends
        edges = list(dict.fromkeys(edges))
    return depths, edges


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
