"""A drawing as a tree of box lines, for terminals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from lineage.entity import Entity
from lineage.render.drawing import Drawing, label


def to_tree(drawing: Drawing) -> str:
    """A tree of box lines from the start outwards.

    `◀` stands before what is upstream of the line it hangs on, `▶` before what is
    downstream. What is reached again is named with `(above)` and not unfolded twice.
    Entities that nothing connects follow, each on its own.
    """
    entities = drawing.entities
    links = _links(drawing)
    claimed: set[tuple[int, int]] = set()
    drawn: set[int] = set()
    lines: list[str] = []
    for root in sorted(range(len(entities)), key=lambda n: entities[n].uid != drawing.start):
        if root in drawn:
            continue
        drawn.add(root)
        lines.append(_one_line(entities[root]))
        # A stack of our own: lineage may be deeper than Python's recursion.
        stack = [("", _claim(links[root], claimed))]
        while stack:
            indent, branches = stack[-1]
            if not branches:
                stack.pop()
                continue
            branch = branches.pop()
            corner, below = ("├─", "│  ") if branches else ("└─", "   ")
            line = f"{indent}{corner}{branch.label} {_one_line(entities[branch.node])}"
            if branch.node in drawn:
                lines.append(f"{line} (above)")
            else:
                drawn.add(branch.node)
                lines.append(line)
                stack.append((indent + below, _claim(links[branch.node], claimed)))
    return "\n".join(lines) + "\n"


@final
@dataclass(frozen=True)
class _Link:
    """One line of a tree seen from one of its ends."""

    node: int
    label: str
    ends: tuple[int, int]


def _links(drawing: Drawing) -> list[list[_Link]]:
    """For each entity the links to unfold from it, last first."""
    types: dict[tuple[int, int], list[str]] = {}
    for source, destination, link in drawing.edges():
        types.setdefault((source, destination), []).append(link.value)
    links: list[list[_Link]] = [[] for _ in drawing.entities]
    for (source, destination), names in types.items():
        label, ends = ", ".join(sorted(names)), (source, destination)
        if drawing.direction != "descendants":
            links[destination].append(_Link(source, f"◀ {label}", ends))
        if drawing.direction != "ascendants":
            links[source].append(_Link(destination, f"▶ {label}", ends))
    for branches in links:
        branches.sort(key=lambda link: (link.label, link.node), reverse=True)
    return links


def _claim(branches: list[_Link], claimed: set[tuple[int, int]]) -> list[_Link]:
    """The links that no other entity has unfolded yet; from now on they have been."""
    free = [link for link in branches if link.ends not in claimed]
    claimed.update(link.ends for link in free)
    return free


def _one_line(entity: Entity) -> str:
    what, name, *state = label(entity)
    return " ".join([what, name, *(f"[{text}]" for text in state)])
