"""A drawing as a Mermaid flowchart, for Markdown pages."""

from __future__ import annotations

from collections.abc import Mapping

from lineage.entity import Kind
from lineage.render.drawing import COLOURS, LOOSE, Drawing, label

_SHAPES: Mapping[Kind, tuple[str, str]] = {
    Kind.ARTIFACT: ("[", "]"),
    Kind.TRIAL_COMPONENT: ("([", "])"),
    Kind.ACTION: ("([", "])"),
    Kind.CONTEXT: ("{{", "}}"),
    Kind.TRIAL: ("{{", "}}"),
    Kind.EXPERIMENT: ("{{", "}}"),
}


def to_mermaid(drawing: Drawing) -> str:
    """A Mermaid flowchart, left to right; any character of a name is harmless."""
    lines = ["flowchart LR"]
    for place, entity in enumerate(drawing.entities):
        before, after = _SHAPES[entity.kind]
        text = "<br/>".join(_plain(line) for line in label(entity))
        lines.append(f'    n{place}{before}"{text}"{after}:::{entity.kind.value}')
    for source, destination, link in drawing.edges():
        arrow = "-.->" if link in LOOSE else "-->"
        lines.append(f"    n{source} {arrow}|{link.value}| n{destination}")
    lines += [
        f"    classDef {kind.value} fill:{COLOURS[kind]},color:#fff,stroke:none"
        for kind in sorted({entity.kind for entity in drawing.entities})
    ]
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """Every character that could mean something to Mermaid or HTML, by its number."""
    return "".join(c if c.isalnum() or c in " .-_/…" else f"#{ord(c)};" for c in text)
