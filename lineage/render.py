"""Drawing a part of the lineage graph as text: Mermaid, Graphviz and terminal trees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from lineage.association import Association, AssociationType
from lineage.entity import Entity, Kind

COLOURS: Mapping[Kind, str] = {
    Kind.ARTIFACT: "#3b7dd8",
    Kind.TRIAL_COMPONENT: "#8257d8",
    Kind.ACTION: "#c98a12",
    Kind.CONTEXT: "#1f9d6b",
    Kind.TRIAL: "#cf4f8f",
    Kind.EXPERIMENT: "#c8503c",
}

_LONGEST_LABEL = 60
_MERMAID_SHAPES: Mapping[Kind, tuple[str, str]] = {
    Kind.ARTIFACT: ("[", "]"),
    Kind.TRIAL_COMPONENT: ("([", "])"),
    Kind.ACTION: ("([", "])"),
    Kind.CONTEXT: ("{{", "}}"),
    Kind.TRIAL: ("{{", "}}"),
    Kind.EXPERIMENT: ("{{", "}}"),
}
_DOT_SHAPES: Mapping[Kind, str] = {
    Kind.ARTIFACT: "box",
    Kind.TRIAL_COMPONENT: "ellipse",
    Kind.ACTION: "ellipse",
    Kind.CONTEXT: "hexagon",
    Kind.TRIAL: "hexagon",
    Kind.EXPERIMENT: "hexagon",
}
_LOOSE = (AssociationType.SAME_AS, AssociationType.ASSOCIATED_WITH)


@final
@dataclass(frozen=True)
class Drawing:
    """What is drawn.

    Args:
        start: uid that the walk started from; need not be among the entities.
        direction: ascendants, descendants or both.
        entities: nearest first.
        associations: those with an end that is not among the entities are left out.
    """

    start: str
    direction: str
    entities: tuple[Entity, ...]
    associations: tuple[Association, ...]

    def edges(self) -> list[tuple[int, int, AssociationType]]:
        """The associations as places in `entities`: source, destination, type."""
        places = {entity.uid: place for place, entity in enumerate(self.entities)}
        return [
            (places[a.source], places[a.destination], a.type)
            for a in self.associations
            if a.source in places and a.destination in places
        ]


def to_mermaid(drawing: Drawing) -> str:
    """A Mermaid flowchart, left to right; any character of a name is harmless."""
    lines = ["flowchart LR"]
    for place, entity in enumerate(drawing.entities):
        before, after = _MERMAID_SHAPES[entity.kind]
        label = "<br/>".join(_mermaid_text(line) for line in _label(entity))
        lines.append(f'    n{place}{before}"{label}"{after}:::{entity.kind.value}')
    for source, destination, link in drawing.edges():
        arrow = "-.->" if link in _LOOSE else "-->"
        lines.append(f"    n{source} {arrow}|{link.value}| n{destination}")
    lines += [
        f"    classDef {kind.value} fill:{COLOURS[kind]},color:#fff,stroke:none"
        for kind in sorted({entity.kind for entity in drawing.entities})
    ]
    return "\n".join(lines) + "\n"


def to_dot(drawing: Drawing) -> str:
    """A Graphviz digraph, left to right; any character of a name is harmless."""
    lines = [
        "digraph lineage {",
        "    rankdir=LR;",
        '    node [style=filled, fontname="sans-serif", fontcolor=white, penwidth=0];',
        '    edge [fontname="sans-serif", fontsize=9, color="#777777"];',
    ]
    for place, entity in enumerate(drawing.entities):
        label = r"\n".join(_dot_text(line) for line in _label(entity))
        lines.append(
            f'    n{place} [label="{label}", shape={_DOT_SHAPES[entity.kind]}, '
            f'fillcolor="{COLOURS[entity.kind]}"];'
        )
    for source, destination, link in drawing.edges():
        style = ", style=dashed" if link in _LOOSE else ""
        lines.append(f'    n{source} -> n{destination} [label="{link.value}"{style}];')
    return "\n".join([*lines, "}"]) + "\n"


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
    what, name, *state = _label(entity)
    return " ".join([what, name, *(f"[{text}]" for text in state)])


def _label(entity: Entity) -> list[str]:
    """Type, name with version, and state if any."""
    name = shorten(entity.name, _LONGEST_LABEL)
    if entity.kind is Kind.ARTIFACT or entity.version > 1:
        name = f"{name} v{entity.version}"
    return [shorten(entity.type, _LONGEST_LABEL), name, *([entity.state] if entity.state else [])]


def shorten(text: str, most: int) -> str:
    """`text` in at most `most` characters, cut in the middle: names differ at their ends.

    >>> shorten("flights-2013-01-training-job", 15)
    'flights…ing-job'
    """
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"


def _mermaid_text(text: str) -> str:
    """Every character that could mean something to Mermaid or HTML, by its number."""
    return "".join(c if c.isalnum() or c in " .-_/…" else f"#{ord(c)};" for c in text)


def _dot_text(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")
