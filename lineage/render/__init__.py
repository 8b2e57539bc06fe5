"""Pictures of a part of the graph: terminal tree, Mermaid, Graphviz and an HTML page."""

from lineage.render.dot import to_dot
from lineage.render.drawing import Drawing
from lineage.render.html import to_html
from lineage.render.mermaid import to_mermaid
from lineage.render.tree import to_tree

__all__ = ["Drawing", "to_dot", "to_html", "to_mermaid", "to_tree"]
