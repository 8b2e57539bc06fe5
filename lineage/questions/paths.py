"""Paths: how one entity led to another, shortest first."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias, final

from lineage.association import Association, stored_association
from lineage.entity import JSON, Entity
from lineage.query import Direction
from lineage.questions.words import entity_json, plural, title
from lineage.store import Edge, View

# Hubs are met on the way down: the walk up may be so many associations ahead.
_HEAD_START = 1_000

Steps: TypeAlias = Mapping[int, Collection[int]]


@final
@dataclass(frozen=True)
class LineagePath:
    """One way from an entity to another, on which no entity stands twice.

    Args:
        entities: from the start to the end, both included.
        associations: those between neighbours on the way, in its order; several where two
            neighbours are associated in several ways.
    """

    entities: tuple[Entity, ...]
    associations: tuple[Association, ...]

    @property
    def length(self) -> int:
        """The number of steps; 0 from an entity to itself."""
        return len(self.entities) - 1

    def text(self) -> str:
        """One line per entity, each but the first with the arrow that leads to it."""
        lines = [title(self.entities[0])]
        for before, after in pairwise(self.entities):
            arrows = [
                f"─{each.type}→" if each.source == before.uid else f"←{each.type}─"
                for each in self.associations
                if {each.source, each.destination} == {before.uid, after.uid}
            ]
            lines.append(f"{' '.join(arrows)} {title(after)}")
        return "\n".join(lines)

    def to_json(self) -> dict[str, JSON]:
        """The path as plain values."""
        return {
            "length": self.length,
            "entities": [entity_json(entity) for entity in self.entities],
            "associations": [
                {"source": each.source, "destination": each.destination, "type": each.type.value}
                for each in self.associations
            ],
        }


@final
@dataclass(frozen=True)
class Paths:
    """The paths between two entities.

    Args:
        start: where they begin.
        end: where they end.
        paths: shortest first; of equal length in the order in which their entities were recorded.
        truncated: whether a limit left any out.
    """

    start: Entity
    end: Entity
    paths: tuple[LineagePath, ...]
    truncated: bool

    def __len__(self) -> int:
        return len(self.paths)

    def __iter__(self) -> Iterator[LineagePath]:
        return iter(self.paths)

    def __getitem__(self, place: int) -> LineagePath:
        return self.paths[place]

    def text(self) -> str:
        """The paths for people, numbered."""
        ends = f"from {title(self.start)} to {title(self.end)}"
        if not self.paths:
            # Cut short, nothing found proves nothing.
            return f"no path {ends}{' as far as was walked' if self.truncated else ''}"
        more = "; there may be more" if self.truncated else ""
        blocks = [f"{plural(len(self.paths), 'path')} {ends}, shortest first{more}"]
        for number, path in enumerate(self.paths, 1):
            body = "\n".join(f"  {line}" for line in path.text().splitlines())
            blocks.append(f"{number}. {plural(path.length, 'step')}\n{body}")
        return "\n".join(blocks)

    def to_json(self) -> dict[str, JSON]:
        """The paths as plain values."""
        return {
            "start": entity_json(self.start),
            "end": entity_json(self.end),
            "paths": [path.to_json() for path in self.paths],
            "truncated": self.truncated,
        }


def find_paths(
    view: View,
    start: int,
    end: int,
    *,
    direction: Direction,
    limit: int,
    max_length: int | None,
    through: frozenset[str],
    max_walked: int | None,
) -> Paths:
    """Find the shortest simple paths from one node to another.

    Cost: walks from both ends at once, from the one with fewer associations so far first, and
    ends when paths enough are known or all that is up- or downstream of one end: a hub on the
    other side is not walked. Each path costs at most its length times what lies between the ends
    (Lawler 1972), however many paths there are.
    """
    reader = _Reader(view, through)
    ways = {
        Direction.ASCENDANTS: (_UP,),
        Direction.DESCENDANTS: (_DOWN,),
        Direction.EITHER: (_DOWN, _UP),
        Direction.BOTH: (_ANY,),
    }[direction]
    found: dict[tuple[int, ...], None] = {}
    truncated = False
    for way in ways:
        search = _search(reader, way, start, end, limit + 1, max_length, max_walked)
        found.update(dict.fromkeys(search.paths))
        truncated |= search.cut
    ordered = sorted(found, key=lambda nodes: (len(nodes), nodes))
    truncated |= len(ordered) > limit
    return _as_paths(view, start, end, ordered[:limit], reader, truncated)


def find_shortest(
    view: View, start: int, end: int, *, direction: Direction, through: frozenset[str]
) -> LineagePath | None:
    """Find one shortest path; of several always the same one.

    Cost: walks from both ends until they meet.
    """
    reader = _Reader(view, through)
    ways = {
        Direction.ASCENDANTS: (_UP,),
        Direction.DESCENDANTS: (_DOWN,),
        Direction.EITHER: (_DOWN, _UP),
        Direction.BOTH: (_ANY,),
    }[direction]
    found = [nodes for way in ways for nodes in _search(reader, way, start, end, 1).paths]
    if not found:
        return None
    shortest = min(found, key=lambda nodes: (len(nodes), nodes))
    return _as_paths(view, start, end, [shortest], reader, False).paths[0]


class _Way(NamedTuple):
    """Which associations a step may follow: along them, against them, or both."""

    along: bool
    against: bool


_DOWN, _UP, _ANY = _Way(True, False), _Way(False, True), _Way(True, True)


@final
class _Reader:
    """Reads associations of some types, and remembers those that were read."""

    def __init__(self, view: View, through: frozenset[str]) -> None:
        self._view = view
        self._through = through
        self.types: dict[tuple[int, int], set[str]] = {}

    def steps(self, nodes: Sequence[int], way: _Way) -> list[tuple[int, int]]:
        """The steps from any of the nodes, as (from, to)."""
        found: list[tuple[int, int]] = []
        if way.along:
            found += [edge[:2] for edge in self._edges(nodes, upstream=False)]
        if way.against:
            found += [(edge[1], edge[0]) for edge in self._edges(nodes, upstream=True)]
        return found

    def _edges(self, nodes: Sequence[int], *, upstream: bool) -> Iterable[Edge]:
        edges = self._view.neighbours(nodes, upstream=upstream)
        if self._through:
            edges = [edge for edge in edges if edge[2] in self._through]
        for source, destination, link in edges:
            self.types.setdefault((source, destination), set()).add(link)
        return edges


class _Search(NamedTuple):
    """What a search found: the paths, and whether it was cut short by what it may walk."""

    paths: list[tuple[int, ...]]
    cut: bool


@final
class _Side:
    """The walk from one of the ends."""

    def __init__(self, node: int, read: Callable[[Sequence[int]], list[tuple[int, int]]]) -> None:
        self._read = read
        self.reached = {node}
        self.frontier: list[int] = [node]
        self.level = 0
        # Each step as (nearer to this end, farther).
        self.steps: list[tuple[int, int]] = []

    def widen(self) -> None:
        """Go one step further."""
        steps = self._read(self.frontier)
        self.steps += steps
        self.frontier = sorted({far for _, far in steps}.difference(self.reached))
        self.reached.update(self.frontier)
        self.level += 1


def _search(
    reader: _Reader,
    way: _Way,
    start: int,
    end: int,
    wanted: int,
    max_length: int | None = None,
    max_walked: int | None = None,
) -> _Search:
    """Walk from both ends until enough paths are known, or all there are."""
    if start == end:
        return _Search([(start,)], cut=False)
    back = _Way(way.against, way.along)
    ahead = _Side(start, lambda nodes: reader.steps(nodes, way))
    behind = _Side(end, lambda nodes: reader.steps(nodes, back))
    while True:
        # Every step of a path this long has been read from one end or the other.
        known = ahead.level + behind.level
        cut = max_walked is not None and len(ahead.reached) + len(behind.reached) > max_walked
        is_all = not ahead.frontier or not behind.frontier or cut
        longest = max_length
        if max_length is not None and known >= max_length:
            is_all = True
        elif not is_all:
            longest = known
        if not ahead.reached.isdisjoint(behind.reached):
            steps: dict[int, set[int]] = {}
            for near, far in ahead.steps:
                steps.setdefault(near, set()).add(far)
            for near, far in behind.steps:
                steps.setdefault(far, set()).add(near)
            paths = _simple_paths(steps, start, end, wanted, longest)
            if is_all or len(paths) >= wanted:
                return _Search(paths, cut)
        elif is_all:
            return _Search([], cut)
        ahead_cost = len(ahead.steps) - (0 if way.along else _HEAD_START)
        behind_cost = len(behind.steps) - (0 if way.against else _HEAD_START)
        (ahead if ahead_cost < behind_cost else behind).widen()


def _simple_paths(
    steps: Steps, start: int, end: int, wanted: int, longest: int | None
) -> list[tuple[int, ...]]:
    """The shortest paths, in the order of length and then of nodes.

    Beginnings wait in a queue by the length of the shortest path that each begins. Where there
    are circles, that length is measured around the beginning itself, so each can be completed.
    """
    before: dict[int, list[int]] = {}
    for near, fars in steps.items():
        for far in fars:
            before.setdefault(far, []).append(near)
    distance = _distances(before, end, ())
    if start not in distance:
        return []
    has_circles = _has_circles(steps, distance)
    waiting: list[tuple[int, tuple[int, ...]]] = [(distance[start], (start,))]
    found: list[tuple[int, ...]] = []
    while waiting and len(found) < wanted:
        _, path = heapq.heappop(waiting)
        if path[-1] == end:
            found.append(path)
            continue
        if has_circles:
            distance = _distances(before, end, path)
        ways = (
            (len(path) + distance[node], (*path, node))
            for node in steps.get(path[-1], ())
            if node in distance and (not has_circles or node not in path)
        )
        # More than are wanted would only wait, each with a path that is shorter before it.
        for way in heapq.nsmallest(wanted - len(found), ways):
            if longest is None or way[0] <= longest:
                heapq.heappush(waiting, way)
    return found


def _distances(before: Steps, end: int, avoided: Collection[int]) -> dict[int, int]:
    """How far each node is from the end, on ways around some nodes."""
    around = set(avoided)
    distance = {end: 0}
    waiting = deque([end])
    while waiting:
        node = waiting.popleft()
        for near in before.get(node, ()):
            if near not in distance and near not in around:
                distance[near] = distance[node] + 1
                waiting.append(near)
    return distance


def _has_circles(steps: Steps, between: Collection[int]) -> bool:
    """Whether the nodes between cannot be put in an order that all steps follow."""
    arriving = dict.fromkeys(between, 0)
    for near in between:
        for far in steps.get(near, ()):
            if far in arriving:
                arriving[far] += 1
    free = [node for node, count in arriving.items() if not count]
    ordered = 0
    while free:
        node = free.pop()
        ordered += 1
        for far in steps.get(node, ()):
            if far in arriving:
                arriving[far] -= 1
                if not arriving[far]:
                    free.append(far)
    return ordered < len(arriving)


def _as_paths(
    view: View,
    start: int,
    end: int,
    found: Sequence[tuple[int, ...]],
    reader: _Reader,
    truncated: bool,
) -> Paths:
    nodes = sorted({start, end}.union(*found))
    entities = dict(zip(nodes, view.entities(nodes), strict=True))

    def associations(path: tuple[int, ...]) -> Iterator[Association]:
        for near, far in pairwise(path):
            for source, destination in ((near, far), (far, near)):
                for link in sorted(reader.types.get((source, destination), ())):
                    yield stored_association(entities[source].uid, entities[destination].uid, link)

    return Paths(
        entities[start],
        entities[end],
        tuple(
            LineagePath(tuple(entities[node] for node in path), tuple(associations(path)))
            for path in found
        ),
        truncated,
    )
