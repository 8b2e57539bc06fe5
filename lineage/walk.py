"""The walk itself: frontier by frontier, each entity once, nearest first."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from itertools import chain
from typing import Any, Protocol, final

from lineage.store import Edge


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


class Neighbours(Protocol):
    """The associations that end (upstream) or start (downstream) at any of `nodes`."""

    def __call__(  # noqa: D102 - the class says it
        self, nodes: Sequence[int], *, upstream: bool
    ) -> list[Edge]: ...


class Wide(Protocol):
    """Steps of a walk in arrays, for frontiers of thousands."""

    @property
    def least(self) -> int:
        """From so many nodes in a frontier on, arrays cost less than sets."""

    def begin(self, nodes: Collection[int]) -> Any:
        """A set of nodes seen so far, one flag for each node there may be."""

    def step(
        self,
        frontier: Any,
        seen: Any,
        *,
        upstream: bool,
        downstream: bool,
        through: Collection[str],
    ) -> tuple[Any, Callable[[], list[Edge]]]:
        """The next frontier in order, marked as seen, and what gives the associations walked."""


@final
@dataclass(frozen=True)
class Walked:
    """Where a walk came.

    Args:
        depths: of each entity visited, nearest first, then oldest.
        is_cut: whether `max_walked` left any out.
        walked: gives the associations walked: those of the entities nearer than the depth
            asked for. Of a hub they are many, and most callers want the entities alone.
    """

    depths: dict[int, int]
    is_cut: bool
    walked: Callable[[], list[Edge]] = field(repr=False)

    @cached_property
    def edges(self) -> list[Edge]:
        """The associations walked, none twice."""
        return self.walked()


def walk(
    neighbours: Neighbours,
    start: int,
    direction: Direction,
    *,
    depth: int | None,
    enough: int | None = None,
    max_walked: int | None = None,
    through: Collection[str] = (),
    wide: Wide | None = None,
) -> Walked:
    """Visit each entity once, nearest first.

    Args:
        neighbours: the associations of a frontier.
        start: to walk from.
        direction: ascendants, descendants or both.
        depth: most associations from the start; None for no limit.
        enough: once so many are visited, the rest is of no interest.
        max_walked: most to visit.
        through: association types to walk along; empty for all.
        wide: the same associations, for wide frontiers.
    """
    upstream = direction is not Direction.DESCENDANTS
    downstream = direction is not Direction.ASCENDANTS
    depths = {start: 0}
    edges: list[Edge] = []
    parts: list[Callable[[], list[Edge]]] = []
    frontier: Any = [start]
    level = 0
    is_cut = False
    seen: Any = None
    while len(frontier) and not is_cut and (depth is None or level < depth):
        if enough is not None and len(depths) >= enough:
            # The last of what is of interest may be associated among itself: asked, not visited.
            last = [node for node in list(depths)[: enough - 1] if depths[node] == level]
            edges += _step(neighbours, last, depths, through, upstream, downstream)[1]
            break
        level += 1
        if wide is not None and len(frontier) >= wide.least:
            if seen is None:
                seen = wide.begin(depths)
            frontier, part = wide.step(
                frontier, seen, upstream=upstream, downstream=downstream, through=through
            )
            parts.append(part)
            met = frontier.tolist()
        else:
            nodes = frontier if seen is None else frontier.tolist()
            met, more_edges = _step(neighbours, nodes, depths, through, upstream, downstream)
            edges += more_edges
            frontier, seen = met, None
        if max_walked is not None and len(depths) + len(met) > max_walked:
            met = met[: max_walked - len(depths)]
            is_cut = True
        depths.update(dict.fromkeys(met, level))

    def walked() -> list[Edge]:
        found = list(chain(edges, *(part() for part in parts)))
        if is_cut:
            found = [edge for edge in found if edge[0] in depths and edge[1] in depths]
        # Walking both ways each association is met at both of its ends.
        return list(dict.fromkeys(found)) if direction is Direction.BOTH else found

    return Walked(depths, is_cut, walked)


def _step(
    neighbours: Neighbours,
    frontier: Sequence[int],
    depths: dict[int, int],
    through: Collection[str],
    upstream: bool,
    downstream: bool,
) -> tuple[list[int], list[Edge]]:
    reached: set[int] = set()
    edges: list[Edge] = []
    if upstream:
        found = neighbours(frontier, upstream=True)
        if through:
            found = [edge for edge in found if edge[2] in through]
        reached.update(edge[0] for edge in found)
        edges += found
    if downstream:
        found = neighbours(frontier, upstream=False)
        if through:
            found = [edge for edge in found if edge[2] in through]
        reached.update(edge[1] for edge in found)
        edges += found
    return sorted(reached.difference(depths)), edges
