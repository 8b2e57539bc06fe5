"""A drawing as a Graphviz digraph."""

from __future__ import annotations

from collections.abc import Mapping

from lineage.entity import Kind
from lineage.render.drawing import COLOURS, LOOSE, Drawing, label

_SHAPES: Mapping[Kind, str] = {
    Kind.ARTIFACT: "box",
    Kind.TRIAL_COMPONENT: "ellipse",
    Kind.ACTION: "ellipse",
    Kind.CONTEXT: "hexagon",
    Kind.TRIAL: "hexagon",
    Kind.EXPERIMENT: "hexagon",
}


def to_dot(drawing: Drawing) -> str:
    """A Graphviz digraph, left to right; any character of a name is harmless."""
    lines = [
        "digraph lineage {",
        "    rankdir=LR;",
        '    node [style=filled, fontname="sans-serif", fontcolor=white, penwidth=0];',
        '    edge [fontname="sans-serif", fontsize=9, color="#777777"];',
    ]
    for place, entity in enumerate(drawing.entities):
        text = r"\n".join(_quoted(line) for line in label(entity))
        lines.append(
            f'    n{place} [label="{text}", shape={_SHAPES[entity.kind]}, '
            f'fillcolor="{COLOURS[entity.kind]}"];'
        )
    for source, destination, link in drawing.edges():
        style = ", style=dashed" if link in LOOSE else ""
        lines.append(f'    n{source} -> n{destination} [label="{link.value}"{style}];')
    return "\n".join([*lines, "}"]) + "\n"


def _quoted(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")
