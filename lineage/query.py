"""Walking the graph from one entity, frontier by frontier."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Protocol, final

from lineage.association import AssociationType, as_association_type
from lineage.entity import Entity, derived_uid, to_us
from lineage.errors import EntityNotFound, InvalidQuery
from lineage.filter import Filter
from lineage.frontier import Frontiers
from lineage.mirror import Mirroring
from lineage.result import Content, LineageResult
from lineage.rows import EntityRows
from lineage.store import Edge, LineageStore, View
from lineage.walk import Direction as Direction
from lineage.walk import Neighbours, Wide, walk

# Larger answers read their entities when first asked for them: most callers of a hub
# with 90,000 descendants want the number, or a page.
_EAGER_ENTITIES = 5_000


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


def run_query(
    store: LineageStore, query: Query, mirroring: Mirroring | None = None
) -> LineageResult:
    """Walk one state of the graph and keep what the query asks for.

    Args:
        store: that keeps the graph.
        query: what is asked.
        mirroring: the associations in memory, when it is worth it.

    Raises:
        EntityNotFound: the start does not exist.
    """
    with viewed(store, query.as_of) as view:
        uid, start = located(view, query.start)
        frontiers = _frontiers(store, view, query)
        picked = _picked(view, query, start, mirroring, frontiers)
        read = None
        if len(picked) <= _EAGER_ENTITIES:
            read = picked.read(view.entities)
            if frontiers is not None:
                frontiers.settle()

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


def _frontiers(store: LineageStore, view: View, query: Query) -> Frontiers | None:
    """How the store itself takes wide steps; None where each association is needed at once."""
    reaching = view.reaching
    if reaching is None or (query.include_edges and query.wanted):
        return None
    return Frontiers(reaching, view, store)


def _picked(
    view: View,
    query: Query,
    start: int,
    mirroring: Mirroring | None,
    frontiers: Frontiers | None,
) -> Picked:
    if mirroring is None or query.as_of is not None:
        return pick(query, start, view.neighbours, view.matching, frontiers)
    with mirroring.walking(view) as mirror:
        if mirror is None:
            picked = pick(query, start, view.neighbours, view.matching, frontiers)
        else:
            picked = pick(query, start, mirror.neighbours, view.matching, mirror)
    mirroring.walked(len(picked.depths))
    return picked


@final
@dataclass(frozen=True)
class Picked:
    """What a query returns, as nodes.

    Args:
        found: those that match, nearest first, then oldest.
        on_paths: those that do not match but lie on the paths to them, in the same order.
        depths: of every node visited.
        truncated: whether a limit left any out.
        walked: gives the associations.
    """

    found: list[int]
    on_paths: list[int]
    depths: dict[int, int]
    truncated: bool
    walked: Callable[[], list[Edge]]

    def __len__(self) -> int:
        return len(self.found) + len(self.on_paths)

    def read(
        self, entities_of: Callable[[list[int]], Sequence[Entity]]
    ) -> tuple[Sequence[Entity], Sequence[Entity]]:
        """The entities found, and those on the paths to them."""
        return entities_of(self.found), entities_of(self.on_paths) if self.on_paths else ()

    def content(self, found: Sequence[Entity], on_paths: Sequence[Entity]) -> Content:
        """What the result holds, from the entities that `read` gave."""
        uids = dict(zip(chain(self.found, self.on_paths), _uids(found, on_paths), strict=True))
        return Content(
            found,
            on_paths,
            {uid: self.depths[node] for node, uid in uids.items()},
            lambda: [(uids[source], uids[end], link) for source, end, link in self.walked()],
        )


def _uids(*parts: Sequence[Entity]) -> Iterator[str]:
    for entities in parts:
        if isinstance(entities, EntityRows):
            yield from entities.uids()
        else:
            yield from (entity.uid for entity in entities)


class Matching(Protocol):
    """Those of `nodes` that pass a filter, in the same order."""

    def __call__(  # noqa: D102 - the class says it
        self, nodes: Sequence[int], wanted: Filter
    ) -> list[int]: ...


def pick(
    query: Query,
    start: int,
    neighbours: Neighbours,
    matching: Matching,
    wide: Wide | None = None,
) -> Picked:
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
        walk(
            neighbours,
            start,
            direction,
            depth=query.depth,
            enough=enough,
            max_walked=query.max_walked,
            through=query.through,
            wide=wide,
        )
        for direction in directions
    ]
    depths = walks[0].depths
    if len(walks) > 1:
        for node, depth in walks[1].depths.items():
            depths[node] = min(depth, depths.get(node, depth))
        depths = dict(sorted(depths.items(), key=lambda item: (item[1], item[0])))
    found = matching(list(depths), query.wanted) if is_filtered else list(depths)
    is_cut = query.limit is not None and len(found) > query.limit
    found = found[: query.limit]
    is_truncated = is_cut or any(one.is_cut for one in walks)

    def walked() -> list[Edge]:
        if len(walks) == 1:
            return walks[0].edges
        return list(dict.fromkeys((*walks[0].edges, *walks[1].edges)))

    def between() -> list[Edge]:
        kept = set(found)
        return [edge for edge in walked() if edge[0] in kept and edge[1] in kept]

    if not query.include_edges:
        return Picked(found, [], depths, is_truncated, list)
    if not is_filtered:
        return Picked(found, [], depths, is_truncated, between if is_cut else walked)
    edges = list(
        dict.fromkeys(
            edge
            for one, direction in zip(walks, directions, strict=True)
            for edge in _on_paths(
                one.edges, one.depths, direction, start, one.depths.keys() & set(found)
            )
        )
    )
    ends = {node for source, destination, _ in edges for node in (source, destination)}
    on_paths = sorted(ends.difference(found), key=lambda node: (depths[node], node))
    return Picked(found, on_paths, depths, is_truncated, lambda: edges)


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
