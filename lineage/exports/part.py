"""What is exported: the whole graph or the answer to a query, read piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, final

from lineage.association import AssociationType, stored_association
from lineage.change import Change
from lineage.column import ColumnEdge, ColumnLineage
from lineage.entity import Entity
from lineage.log import Event, Head
from lineage.render import Drawing
from lineage.run import Run
from lineage.store import View

if TYPE_CHECKING:
    from lineage.result import LineageResult

_CHUNK = 1_000

T = TypeVar("T")

Log: TypeAlias = Callable[[], AbstractContextManager[tuple[Iterator[Event], Head]]]
"""Opens the log from its beginning."""


class Tie(NamedTuple):
    """An association with the entities at its ends."""

    source: Entity
    destination: Entity
    type: AssociationType


@final
class Part:
    """Entities and what lies between them; each method reads it anew, in chunks.

    A part without a view is what a `LineageResult` holds: entities and associations. With a
    view it also has columns, runs, tags, other names and who recorded what.

    Args:
        result: the answer to a query; None for the whole graph.
        view: the state of the graph, which the caller keeps open.
        log: opens its log.
        sequence: of the last event of the view.
    """

    def __init__(
        self,
        result: LineageResult | None = None,
        *,
        view: View | None = None,
        log: Log | None = None,
        sequence: int = 0,
    ) -> None:
        self.sequence = sequence
        self._result = result
        self._view = view
        self._log = log
        self._uids: frozenset[str] | None = None
        if result is not None:
            self._uids = frozenset(entity.uid for entity in self.entities())

    @property
    def start(self) -> str:
        """The uid that the walk started from; empty for the whole graph."""
        return "" if self._result is None else self._result.start

    @property
    def depths(self) -> Mapping[str, int]:
        """How far each uid is from the start; empty for the whole graph."""
        return {} if self._result is None else self._result.depths

    def entities(self) -> Iterator[Entity]:
        """Of a result nearest first, of the whole graph oldest first."""
        if self._result is not None:
            depths = self._result.depths
            both = (*self._result.entities, *self._result.path_entities)
            yield from sorted(both, key=lambda entity: depths[entity.uid])
        elif self._view is not None:
            for nodes in self._nodes():
                yield from self._view.entities(nodes)

    def ties(self) -> Iterator[Tie]:
        """The associations between entities of the part."""
        if self._result is not None:
            known = {entity.uid: entity for entity in self.entities()}
            for association in self._result.associations:
                yield Tie(
                    known[association.source], known[association.destination], association.type
                )
        elif self._view is not None:
            valid = (
                edge
                for edge in self._view.edges(0)
                if edge.valid_from <= self.sequence
                and (edge.valid_to is None or edge.valid_to > self.sequence)
            )
            for edges in _chunks(valid, _CHUNK):
                known_nodes = self._by_node(
                    sorted({node for edge in edges for node in (edge.source, edge.destination)})
                )
                for edge in edges:
                    yield Tie(
                        known_nodes[edge.source],
                        known_nodes[edge.destination],
                        AssociationType(edge.type),
                    )

    def columns(self) -> Iterator[ColumnLineage]:
        """The column edges between entities of the part, by destination and who says so."""
        if self._view is None:
            return
        ranks = self._ranks()
        if not ranks:
            return
        for nodes in self._nodes():
            rows = self._view.column_edges([(node, "") for node in nodes], upstream=True)
            if not rows:
                continue
            known = self._by_node(
                sorted({node for row in rows for node in (row.source, row.destination)})
            )
            said: dict[tuple[str, str], dict[ColumnEdge, None]] = {}
            for row in rows:
                source, destination = known[row.source].uid, known[row.destination].uid
                # Asked for the edges at a column, a store may add those of its neighbours.
                if row.destination not in nodes or not self._has(source):
                    continue
                edge = ColumnEdge(
                    source,
                    row.source_column,
                    row.column,
                    row.type,
                    row.subtype,
                    row.description,
                    row.masking,
                    json.loads(row.properties),
                )
                said.setdefault((destination, row.by), {})[edge] = None
            for (destination, by), edges in said.items():
                rank = ranks.get((destination, by), 0)
                yield ColumnLineage(destination, by, tuple(edges), rank)

    def runs(self) -> Iterator[Run]:
        """The executions of the jobs of the part."""
        if self._view is not None:
            for nodes in self._nodes():
                for node in nodes:
                    yield from self._view.runs(node)

    def tags(self) -> Iterator[tuple[str, str, str]]:
        """Uid, key and value of each tag."""
        if self._view is None:
            return
        for nodes in self._nodes():
            tags = self._view.tags(nodes)
            known = self._by_node(sorted(tags))
            for node, own in tags.items():
                for key, value in own.items():
                    yield known[node].uid, key, value

    def aliases(self) -> Iterator[tuple[str, str]]:
        """The other names, each with the uid that it stands for."""
        found: dict[str, str] = {}
        for _, change in self._changes(b'"aliases"'):
            found.update(change.aliases)
        yield from ((alias, uid) for alias, uid in found.items() if self._has(uid))

    def actors(self) -> Iterator[tuple[str, str]]:
        """Each uid with those who recorded it, from the first event that names it on."""
        seen: set[tuple[str, str]] = set()
        for event, change in self._changes(b""):
            for entity in change.entities:
                pair = entity.uid, event.actor
                if pair not in seen and self._has(entity.uid):
                    seen.add(pair)
                    yield pair

    def drawing(self) -> Drawing:
        """The part in one piece, to be drawn."""
        return Drawing(
            self.start,
            "" if self._result is None else self._result.direction,
            tuple(self.entities()),
            tuple(
                stored_association(tie.source.uid, tie.destination.uid, tie.type.value)
                for tie in self.ties()
            ),
            tuple(self.columns()),
        )

    def _has(self, uid: str) -> bool:
        return self._uids is None or uid in self._uids

    def _nodes(self) -> Iterator[list[int]]:
        """The nodes of the part in chunks."""
        assert self._view is not None
        if self._uids is not None:
            nodes = (self._view.node(uid) for uid in sorted(self._uids))
            yield from _chunks((node for node in nodes if node is not None), _CHUNK)
            return
        # Nodes are numbered from 1 in the order of creation.
        last = self._view.counts()["entities"]
        for first in range(1, last + 1, _CHUNK):
            yield list(range(first, min(first + _CHUNK, last + 1)))

    def _by_node(self, nodes: list[int]) -> dict[int, Entity]:
        assert self._view is not None
        return dict(zip(nodes, self._view.entities(nodes), strict=True))

    def _ranks(self) -> dict[tuple[str, str], int]:
        """The greatest rank that each one gave the columns of each destination."""
        ranks: dict[tuple[str, str], int] = {}
        for _, change in self._changes(b'"columns"'):
            for said in change.columns:
                key = str(said.destination), said.by
                ranks[key] = max(ranks.get(key, 0), said.rank)
        return ranks

    def _changes(self, mark: bytes) -> Iterator[tuple[Event, Change]]:
        """What the events say whose bodies have these bytes."""
        if self._log is None:
            return
        with self._log() as (events, _):
            for event in events:
                if event.sequence > self.sequence:
                    return
                if mark in event.body:
                    yield event, Change.decode(event.body)


def _chunks(items: Iterator[T], size: int) -> Iterator[list[T]]:
    while chunk := list(islice(items, size)):
        yield chunk
