"""The lineage graph: record events, look up entities, walk, ask, export, and check the log."""

from lineage.graph.draft import as_draft
from lineage.graph.graph import Graph, open  # noqa: A004 - `lineage.open` is the front door

__all__ = ["Graph", "as_draft", "open"]
