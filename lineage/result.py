"""The answer to a lineage query, and the forms it can be had in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, final

from lineage.association import Association
from lineage.change import to_json
from lineage.entity import Entity
from lineage.exports import Part, export_text
from lineage.render import Drawing, to_dot, to_html, to_mermaid, to_tree

if TYPE_CHECKING:
    import networkx
    import pyarrow


@final
@dataclass(frozen=True)
class Content:
    """What a result holds once it is read: see the properties of `LineageResult`."""

    entities: tuple[Entity, ...]
    path_entities: tuple[Entity, ...]
    associations: tuple[Association, ...]
    depths: Mapping[str, int]


@final
@dataclass(frozen=True, eq=False)
class LineageResult:
    """The part of the graph that a query found.

    An answer of more than 5,000 entities is read when its entities or associations are
    first asked for, and the graph has to be open then; `len` is known at once.

    Args:
        start: uid the walk started from.
        direction: ascendants, descendants or both.
        count: number of entities found, also `len(result)`.
        truncated: whether the limit left any out.
        content: gives the entities and associations.
    """

    start: str
    direction: str
    count: int
    truncated: bool
    content: Callable[[], Content] = field(repr=False)

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Entity]:
        return iter(self.entities)

    @property
    def entities(self) -> tuple[Entity, ...]:
        """The entities that match, nearest first and oldest first among equals."""
        return self._content.entities

    @property
    def path_entities(self) -> tuple[Entity, ...]:
        """The entities that do not match but lie on a path from the start to one that does.

        Empty without filters, and without edges.
        """
        return self._content.path_entities

    @property
    def associations(self) -> tuple[Association, ...]:
        """The associations walked, between what is found.

        With filters, those on the paths from the start to what is found; walking in both
        directions, on the shortest paths.
        """
        return self._content.associations

    @property
    def depths(self) -> Mapping[str, int]:
        """How many associations each uid is from the start, path entities included."""
        return self._content.depths

    def to_networkx(self) -> networkx.MultiDiGraph:
        """The result as a graph: nodes are uids, edges run downstream and are keyed by type.

        Nodes carry the fields of the entity and `depth`. Path entities are nodes too.
        """
        import networkx  # takes longer to import than most queries take

        graph = networkx.MultiDiGraph()
        for entity in (*self.entities, *self.path_entities):
            fields = {name: value for name, value in vars(entity).items() if name != "uid"}
            graph.add_node(entity.uid, **fields, depth=self.depths[entity.uid])
        for association in self.associations:
            link = association.type.value
            graph.add_edge(association.source, association.destination, key=link, type=link)
        return graph

    def to_arrow(self) -> pyarrow.Table:
        """The entities as a table, one row each, nearest first; properties as JSON text."""
        import pyarrow  # takes longer to import than most queries take

        time = pyarrow.timestamp("us", tz="UTC")
        schema = pyarrow.schema(
            [
                ("uid", pyarrow.string()),
                ("kind", pyarrow.string()),
                ("type", pyarrow.string()),
                ("name", pyarrow.string()),
                ("source_uri", pyarrow.string()),
                ("content_hash", pyarrow.string()),
                ("version", pyarrow.int32()),
                ("state", pyarrow.string()),
                ("properties", pyarrow.string()),
                ("created", time),
                ("modified", time),
                ("depth", pyarrow.int32()),
            ]
        )
        depths = self.depths
        return pyarrow.Table.from_pylist(
            [
                vars(entity)
                | {
                    "kind": entity.kind.value,
                    "properties": to_json(entity.properties),
                    "depth": depths[entity.uid],
                }
                for entity in self.entities
            ],
            schema=schema,
        )

    def associations_to_arrow(self) -> pyarrow.Table:
        """The associations as a table of source, destination and type."""
        import pyarrow  # takes longer to import than most queries take

        text = pyarrow.string()
        return pyarrow.Table.from_pylist(
            [
                {"source": a.source, "destination": a.destination, "type": a.type.value}
                for a in self.associations
            ],
            schema=pyarrow.schema([("source", text), ("destination", text), ("type", text)]),
        )

    def to_mermaid(self) -> str:
        """A Mermaid flowchart, left to right, for Markdown pages."""
        return to_mermaid(self._drawing)

    def to_dot(self) -> str:
        """A Graphviz digraph, left to right."""
        return to_dot(self._drawing)

    def to_tree(self) -> str:
        """A tree for terminals, from the start outwards; a shared entity is drawn once."""
        return to_tree(self._drawing)

    def to_html(self, *, title: str | None = None) -> str:
        """One page that needs no network: pan, zoom, search, details, and paths by hovering.

        Args:
            title: heading; by default the direction and the name of the start.

        Raises:
            InvalidQuery: there are more than 20,000 entities to draw.
        """
        return to_html(self._drawing, title=title)

    def to_prov_json(self) -> str:
        """W3C PROV for programs; `Graph.export` adds columns and who recorded what."""
        return export_text(Part(self), "prov-json")

    def to_prov_n(self) -> str:
        """W3C PROV for people; `Graph.export` adds columns and who recorded what."""
        return export_text(Part(self), "prov-n")

    def to_graphml(self) -> str:
        """GraphML, for networkx, yEd and igraph; `Graph.export` adds columns."""
        return export_text(Part(self), "graphml")

    def to_gexf(self) -> str:
        """GEXF with times, for Gephi; `Graph.export` adds columns."""
        return export_text(Part(self), "gexf")

    def to_ndjson(self) -> str:
        """One entity or association a line; `Graph.export` adds columns, runs and tags."""
        return export_text(Part(self), "ndjson")

    @cached_property
    def _content(self) -> Content:
        return self.content()

    @property
    def _drawing(self) -> Drawing:
        content = self._content
        entities = (*content.entities, *content.path_entities)
        return Drawing(
            self.start,
            self.direction,
            tuple(sorted(entities, key=lambda entity: content.depths[entity.uid])),
            content.associations,
        )
