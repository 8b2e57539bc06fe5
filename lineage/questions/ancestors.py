"""Common ancestors and descendants: what several entities share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import final

from lineage.entity import JSON, Entity
from lineage.filter import Filter
from lineage.query import Direction
from lineage.questions.words import entity_json, plural, title
from lineage.store import View


@final
@dataclass(frozen=True)
class CommonEntity:
    """Something that lies upstream, or downstream, of all that was asked about.

    Args:
        entity: what it is.
        distances: associations from each of those asked about, in their order; 0 where it is one
            of them itself.
        is_closest: whether no other common one lies between it and them: a lowest common
            ancestor, or a first common descendant.
    """

    entity: Entity
    distances: tuple[int, ...]
    is_closest: bool

    def to_json(self) -> dict[str, JSON]:
        """What is common, as plain values."""
        return {
            **entity_json(self.entity),
            "distances": list(self.distances),
            "is_closest": self.is_closest,
        }


@final
@dataclass(frozen=True)
class CommonEntities:
    """What several entities have in common.

    Args:
        of: those asked about.
        direction: `ascendants` or `descendants`.
        found: nearest first, by the sum of the distances, then oldest.
        truncated: whether a limit left any out.
    """

    of: tuple[Entity, ...]
    direction: str
    found: tuple[CommonEntity, ...]
    truncated: bool

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[CommonEntity]:
        return iter(self.found)

    @property
    def closest(self) -> tuple[Entity, ...]:
        """The lowest common ancestors, or the first common descendants."""
        return tuple(common.entity for common in self.found if common.is_closest)

    def text(self) -> str:
        """The common entities for people: distances, then a star at the closest."""
        noun = "ancestor" if self.direction == Direction.ASCENDANTS else "descendant"
        of = " and ".join(title(entity) for entity in self.of)
        if not self.found:
            return f"no common {noun} of {of}"
        more = "; there are more" if self.truncated else ""
        lines = [f"{plural(len(self.found), f'common {noun}')} of {of}, nearest first{more}"]
        for common in self.found:
            distances = " + ".join(map(str, common.distances))
            mark = "*" if common.is_closest else " "
            lines.append(f"{mark} {distances:>7}  {title(common.entity)}")
        lines.append(f"* no other common {noun} lies between")
        return "\n".join(lines)

    def to_json(self) -> dict[str, JSON]:
        """The common entities as plain values."""
        return {
            "of": [entity_json(entity) for entity in self.of],
            "direction": self.direction,
            "found": [common.to_json() for common in self.found],
            "truncated": self.truncated,
        }


def find_common(
    view: View,
    starts: Sequence[int],
    *,
    upstream: bool,
    depth: int | None,
    through: frozenset[str],
    wanted: Filter,
    limit: int | None,
) -> CommonEntities:
    """Find what lies upstream, or downstream, of all of some nodes.

    Each of them counts as its own ancestor and descendant. Filters restrict what is returned; the
    closest ones are found before.

    Cost: one walk from each of them.
    """
    depths: list[dict[int, int]] = []
    steps: set[tuple[int, int]] = set()
    for start in starts:
        reached, walked = _walk(view, start, upstream=upstream, depth=depth, through=through)
        depths.append(reached)
        steps |= walked
    common = set(depths[0]).intersection(*depths[1:])
    # A node from which a step leads back to another common one is not the closest.
    inner = {far for near, far in steps if near in common and far in common}
    nodes = sorted(common, key=lambda node: (sum(d[node] for d in depths), node))
    if wanted:
        kept = set(view.matching(nodes, wanted))
        nodes = [node for node in nodes if node in kept]
    cut = nodes[:limit]
    entities = view.entities(cut)
    return CommonEntities(
        tuple(view.entities(starts)),
        (Direction.ASCENDANTS if upstream else Direction.DESCENDANTS).value,
        tuple(
            CommonEntity(entity, tuple(d[node] for d in depths), node not in inner)
            for node, entity in zip(cut, entities, strict=True)
        ),
        len(cut) < len(nodes),
    )


def _walk(
    view: View, start: int, *, upstream: bool, depth: int | None, through: frozenset[str]
) -> tuple[dict[int, int], set[tuple[int, int]]]:
    """The depth of all that is reached, and the steps to it, as (nearer, farther)."""
    depths = {start: 0}
    steps: set[tuple[int, int]] = set()
    frontier = [start]
    level = 0
    while frontier and (depth is None or level < depth):
        level += 1
        met = {
            (destination, source) if upstream else (source, destination)
            for source, destination, link in view.neighbours(frontier, upstream=upstream)
            if not through or link in through
        }
        steps |= met
        frontier = sorted({far for _, far in met}.difference(depths))
        depths.update(dict.fromkeys(frontier, level))
    return depths, steps
