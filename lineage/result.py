"""The answer to a lineage query, and the forms it can be had in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final, final

from lineage.association import Association, stored_association
from lineage.change import Link, to_json
from lineage.entity import Entity, to_us
from lineage.errors import InvalidQuery
from lineage.exports import Part, export_text
from lineage.render import Drawing, to_dot, to_html, to_mermaid, to_tree
from lineage.rows import EntityRows

if TYPE_CHECKING:
    import networkx
    import pandas  # type: ignore[import-untyped]
    import pyarrow


_TEXTS: Final = (
    *("uid", "kind", "type", "name", "source_uri", "content_hash"),
    *("state", "properties"),
)


@final
@dataclass(frozen=True)
class Content:
    """What a result holds once it is read: see the properties of `LineageResult`."""

    entities: Sequence[Entity]
    path_entities: Sequence[Entity]
    depths: Mapping[str, int]
    links: Callable[[], list[Link]]


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
        return self._entities

    @property
    def path_entities(self) -> tuple[Entity, ...]:
        """The entities that do not match but lie on a path from the start to one that does.

        Empty without filters, and without edges.
        """
        return tuple(self._content.path_entities)

    @property
    def associations(self) -> tuple[Association, ...]:
        """The associations walked, between what is found.

        With filters, those on the paths from the start to what is found; walking in both
        directions, on the shortest paths.
        """
        return self._associations

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
        for source, destination, link in self._links:
            graph.add_edge(source, destination, key=link, type=link)
        return graph

    @property
    def uids(self) -> tuple[str, ...]:
        """The uids of the entities that match, in their order; costs less than the entities."""
        entities = self._content.entities
        if isinstance(entities, EntityRows):
            return tuple(entities.uids())
        return tuple(entity.uid for entity in entities)

    def pages(self, size: int) -> Iterator[tuple[Entity, ...]]:
        """The entities that match, some at a time; those of a page are built when it is.

        Args:
            size: most entities of a page, 1 or more.

        Raises:
            InvalidQuery: the size is below 1.
        """
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidQuery(f"size: expected an int of at least 1, got {size!r}")
        entities = self._content.entities
        for first in range(0, len(entities), size):
            yield tuple(entities[first : first + size])

    def to_arrow(self) -> pyarrow.Table:
        """The entities as a table, one row each, nearest first; properties as JSON text."""
        import pyarrow  # takes longer to import than most queries take

        text, time = pyarrow.string(), pyarrow.timestamp("us", tz="UTC")
        columns = _columns(self._content.entities)
        depths = self.depths
        return pyarrow.table(
            {
                **{name: pyarrow.array(columns[name], text) for name in _TEXTS[:6]},
                "version": pyarrow.array(columns["version"], pyarrow.int32()),
                **{name: pyarrow.array(columns[name], text) for name in _TEXTS[6:]},
                **{
                    name: pyarrow.array(columns[name], pyarrow.int64()).cast(time)
                    for name in ("created", "modified")
                },
                "depth": pyarrow.array([depths[uid] for uid in columns["uid"]], pyarrow.int32()),
            }
        )

    def to_pandas(self) -> pandas.DataFrame:
        """The entities as a DataFrame: the table of `to_arrow`."""
        return self.to_arrow().to_pandas()

    def associations_to_arrow(self) -> pyarrow.Table:
        """The associations as a table of source, destination and type."""
        import pyarrow  # takes longer to import than most queries take

        sources, destinations, types = zip(*self._links, strict=True) if self._links else ((),) * 3
        text = pyarrow.string()
        return pyarrow.table(
            {
                "source": pyarrow.array(sources, text),
                "destination": pyarrow.array(destinations, text),
                "type": pyarrow.array(types, text),
            }
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

    @cached_property
    def _entities(self) -> tuple[Entity, ...]:
        return tuple(self._content.entities)

    @cached_property
    def _links(self) -> list[Link]:
        return self._content.links()

    @cached_property
    def _associations(self) -> tuple[Association, ...]:
        return tuple(starmap(stored_association, self._links))

    @property
    def _drawing(self) -> Drawing:
        content = self._content
        entities = (*self.entities, *self.path_entities)
        return Drawing(
            self.start,
            self.direction,
            tuple(sorted(entities, key=lambda entity: content.depths[entity.uid])),
            self.associations,
        )


def _columns(entities: Sequence[Entity]) -> Mapping[str, Sequence[Any]]:
    """The fields of entities by name, properties as JSON text and times in microseconds."""
    if isinstance(entities, EntityRows):
        return entities.columns()
    columns: dict[str, list[Any]] = {
        name: [getattr(entity, name) for entity in entities]
        for name in ("uid", "type", "name", "source_uri", "content_hash", "version", "state")
    }
    columns["kind"] = [entity.kind.value for entity in entities]
    columns["properties"] = [to_json(entity.properties) for entity in entities]
    for name in ("created", "modified"):
        times = [getattr(entity, name) for entity in entities]
        columns[name] = [None if time is None else to_us(time) for time in times]
    return columns
