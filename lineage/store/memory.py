"""The lineage store that lives in this process and ends with it."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from difflib import get_close_matches
from itertools import chain
from typing import final

from lineage.change import Change, Draft, Recorded, columns_digest, to_json
from lineage.column import ColumnLineage
from lineage.entity import Entity, Kind
from lineage.errors import LineageError, StoreClosed
from lineage.filter import Filter
from lineage.log import Event, Head, append_event, check_follows, now_us
from lineage.projection import project, resolve
from lineage.proofs.checkpoint import EVERY, Checkpoint, make_checkpoint
from lineage.run import Run, merged_run
from lineage.store import ColumnRow, Edge, LineageStore, TimedEdge, View


@final
class MemoryStore(LineageStore):
    """A store without a file: fast, real, and gone with the process.

    >>> from lineage import Graph, context
    >>> graph = Graph(MemoryStore())
    >>> graph.record([context("FeatureGroup", "flights")], kind="GroupCreated").sequence
    1
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._closed = False
        self._events: list[Event] = []
        self._head = Head()
        self._recorded: dict[str, Event] = {}
        self._graph = _Tables()
        self._checkpoints: dict[int, Checkpoint] = {}

    def append(self, draft: Draft) -> Recorded:
        """Add one event; it lasts as long as the process."""
        with self._locked():
            known = self._recorded.get(draft.event_uid)
            if known is not None:
                return self._graph.recorded(known, len(draft.entities))
            change, before = resolve(draft, self._graph)
            made = self._checkpoints.get(self._head.sequence)
            if made is not None and made.sequence % EVERY:
                change = replace(change, checkpoint=(made.sequence, made.root.hex()))
            event, head = append_event(
                self._head,
                now_us=now_us(),
                actor=draft.actor,
                kind=draft.kind,
                event_uid=draft.event_uid,
                body=change.encode(),
            )
            self._graph.apply(event, change, project(change, event.time_us, before))
            self._events.append(event)
            self._recorded[event.event_uid] = event
            self._head = head
            self._pass_checkpoints(head.sequence - 1)
            return self._graph.recorded(event, len(draft.entities))

    def append_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Add several events; they last as long as the process."""
        outcomes: list[Recorded | LineageError] = []
        with self._locked():
            for draft in drafts:
                try:
                    outcomes.append(self.append(draft))
                except LineageError as error:
                    outcomes.append(error)
        return outcomes

    def adopt(self, events: Sequence[Event]) -> None:
        """Take over events of another log; they last as long as the process."""
        with self._locked():
            before, self._head = self._head, check_follows(self._head, events)
            noted = []
            for event in events:
                change = Change.decode(event.body)
                if change.checkpoint is not None and 0 < change.checkpoint[0] < event.sequence:
                    noted.append(change.checkpoint[0])
                known = self._graph.by_uid([entity.uid for entity in change.entities])
                self._graph.apply(event, change, project(change, event.time_us, known))
                self._recorded[event.event_uid] = event
            self._events += events
            self._pass_checkpoints(before.sequence)
            for sequence in noted:
                if sequence not in self._checkpoints:
                    self._make_checkpoint(sequence)

    @contextmanager
    def view(self, as_of: int | None = None) -> Iterator[View]:
        """The graph; writers of other threads wait until the context ends.

        One of the past is projected anew from the events.
        """
        with self._locked():
            is_past = as_of is not None and as_of < self._head.sequence
            yield self._replayed(as_of) if is_past else self._graph

    @contextmanager
    def log(self, after: int = 0) -> Iterator[tuple[Iterator[Event], Head]]:
        """The events so far, and the head."""
        with self._locked():
            events, head = self._events[after:], self._head
        yield iter(events), head

    def head(self) -> Head:
        """The end of the log."""
        with self._locked():
            return self._head

    def hashes(self, after: int, until: int) -> list[bytes]:
        """The hashes of the events behind one, up to another."""
        with self._locked():
            return [event.hash for event in self._events[after:until]]

    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint; it lasts as long as the process."""
        with self._locked():
            self._checkpoints[checkpoint.sequence] = checkpoint

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints so far."""
        with self._locked():
            return [self._checkpoints[sequence] for sequence in sorted(self._checkpoints)]

    def rebuild(self) -> int:
        """Project the graph anew from the events."""
        with self._locked():
            self._graph = self._replayed()
            return len(self._events)

    def stale(self) -> tuple[int, str] | None:
        """Compare the graph with a fresh projection of the events."""
        with self._locked():
            if self._graph == self._replayed():
                return None
            return self._head.sequence, "the graph in memory differs from the log"

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._closed = True
            self._events.clear()
            self._recorded.clear()
            self._graph = _Tables()

    def _pass_checkpoints(self, before: int) -> None:
        for passed in range(before // EVERY + 1, self._head.sequence // EVERY + 1):
            self._make_checkpoint(passed * EVERY)

    def _make_checkpoint(self, sequence: int) -> None:
        last = max((known for known in self._checkpoints if known <= sequence), default=0)
        before = self._checkpoints.get(last)
        self.add_checkpoint(make_checkpoint(before, sequence, now_us(), self.hashes))

    def _replayed(self, until: int | None = None) -> _Tables:
        tables = _Tables()
        for event in self._events[:until]:
            change = Change.decode(event.body)
            before = tables.by_uid([entity.uid for entity in change.entities])
            tables.apply(event, change, project(change, event.time_us, before))
        return tables

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._lock:
            if self._closed:
                raise StoreClosed()
            yield


@final
class _Tables(View):
    """The graph as dictionaries; node n is the n-th entity."""

    def __init__(self) -> None:
        self._events = 0
        self._times: list[int] = []
        self._entities: list[Entity] = []
        self._nodes: dict[str, int] = {}
        self._artifacts: dict[str, dict[str, int]] = {}
        self._contents: dict[tuple[str, str], int] = {}
        self._edges: dict[Edge, int] = {}
        self._ended: list[TimedEdge] = []
        self._upstream: dict[int, dict[Edge, None]] = {}
        self._downstream: dict[int, dict[Edge, None]] = {}
        self._columns: dict[tuple[int, str], tuple[tuple[int, str], list[ColumnRow]]] = {}
        self._runs: dict[str, tuple[int, Run]] = {}
        self._tags: dict[int, dict[str, str]] = {}
        self._aliases: dict[str, int] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tables) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def apply(self, event: Event, change: Change, entities: Sequence[Entity]) -> None:
        """Take in what an event projects to."""
        self._events = event.sequence
        self._times.append(event.time_us)
        for entity in entities:
            node = self._nodes.get(entity.uid)
            if node is None:
                self._entities.append(entity)
                self._nodes[entity.uid] = node = len(self._entities)
                if entity.kind is Kind.ARTIFACT:
                    versions = self._artifacts.setdefault(entity.source_uri, {})
                    versions[entity.content_hash] = node
                    self._contents.setdefault((entity.content_hash, entity.type), node)
            else:
                self._entities[node - 1] = entity
        for link in change.associations:
            edge = self._edge(*link)
            if edge not in self._edges:
                self._edges[edge] = event.sequence
                self._upstream.setdefault(edge[1], {})[edge] = None
                self._downstream.setdefault(edge[0], {})[edge] = None
        for link in change.retractions:
            edge = self._edge(*link)
            self._ended.append(TimedEdge(*edge, self._edges.pop(edge), event.sequence))
            del self._upstream[edge[1]][edge], self._downstream[edge[0]][edge]
        for said in change.columns:
            self._say_columns(said)
        for run in change.runs:
            node, known = self._runs.get(run.uid, (self._nodes[str(run.entity)], None))
            self._runs[run.uid] = node, merged_run(known, run)
        for uid, key, value in change.tags:
            tags = self._tags.setdefault(self._nodes[uid], {})
            tags.pop(key, None)
            if value is not None:
                tags[key] = value
        for alias, uid in change.aliases:
            self._aliases[alias] = self._nodes[uid]

    def recorded(self, event: Event, count: int) -> Recorded:
        """The answer to an event that is in."""
        uids = [entity.uid for entity in Change.decode(event.body).entities[:count]]
        return Recorded(event.sequence, tuple(self._entities[self._nodes[uid] - 1] for uid in uids))

    def by_uid(self, uids: Collection[str]) -> dict[str, Entity]:
        return {uid: self._entities[self._nodes[uid] - 1] for uid in uids if uid in self._nodes}

    def latest(self, source_uris: Collection[str]) -> dict[str, Entity]:
        return {
            uri: max(self._artifacts_at(uri), key=_version)
            for uri in source_uris
            if uri in self._artifacts
        }

    def artifact(self, source_uri: str, content_hash: str) -> Entity | None:
        node = self._artifacts.get(source_uri, {}).get(content_hash)
        return None if node is None else self._entities[node - 1]

    def same_content(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Entity]:
        return {
            one: self._entities[self._contents[one] - 1] for one in wanted if one in self._contents
        }

    def around(self, source_uri: str, version: int) -> tuple[Entity | None, ...]:
        known = self._artifacts_at(source_uri)
        return (
            max((a for a in known if a.version < version), key=_version, default=None),
            next((a for a in known if a.version == version), None),
            min((a for a in known if a.version > version), key=_version, default=None),
        )

    def nearest(self, uid: str) -> str | None:
        by_name = (entity.uid for entity in self._entities if entity.name == uid)
        return next(by_name, None) or next(iter(get_close_matches(uid, self._nodes, n=1)), None)

    def find(
        self,
        *,
        kind: Kind | None,
        type: str | None,
        name: str | None,
        source_uri: str | None,
    ) -> list[Entity]:
        return [
            entity
            for entity in self._entities
            if (kind is None or entity.kind is kind)
            and (type is None or entity.type == type)
            and (name is None or entity.name == name)
            and (source_uri is None or entity.source_uri == source_uri)
        ]

    def node(self, uid: str) -> int | None:
        return self._nodes.get(uid)

    def neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        edges = self._upstream if upstream else self._downstream
        return list(chain.from_iterable(edges.get(node, ()) for node in nodes))

    def matching(self, nodes: Sequence[int], wanted: Filter) -> list[int]:
        return [node for node in nodes if wanted.matches(self._entities[node - 1])]

    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        return [self._entities[node - 1] for node in nodes]

    def alias(self, alias: str) -> str | None:
        node = self._aliases.get(alias)
        return None if node is None else self._entities[node - 1].uid

    def has_association(self, source: str, destination: str, type: str) -> bool:
        known = source in self._nodes and destination in self._nodes
        return known and self._edge(source, destination, type) in self._edges

    def sequence(self) -> int:
        return self._events

    def edges(self, after: int) -> Iterator[TimedEdge]:
        valid = (TimedEdge(*edge, since, None) for edge, since in self._edges.items())
        for edge in (*self._ended, *valid):
            if edge.valid_from > after or (edge.valid_to or 0) > after:
                yield edge

    def column_edges(
        self, columns: Sequence[tuple[int, str]], *, upstream: bool
    ) -> list[ColumnRow]:
        wanted = set(columns)
        whole = {node for node, column in columns if not column}
        found = []
        for _, rows in self._columns.values():
            for row in rows:
                at = row[2:4] if upstream else row[0:2]
                node, column = at
                is_met = at in wanted or node in whole
                if is_met or (not column and any(node == other for other, _ in wanted)):
                    found.append(row)
        return found

    def runs(self, node: int) -> list[Run]:
        own = [run for entity, run in self._runs.values() if entity == node]
        return sorted(
            own, key=lambda run: (run.started_us is not None, run.started_us or 0, run.uid)
        )

    def tags(self, nodes: Sequence[int]) -> dict[int, dict[str, str]]:
        return {node: dict(self._tags[node]) for node in nodes if self._tags.get(node)}

    def tagged(self, key: str, value: str | None) -> list[int]:
        return sorted(
            node
            for node, tags in self._tags.items()
            if key in tags and (value is None or tags[key] == value)
        )

    def beginning(self, content_hash: str) -> list[int]:
        return [
            node
            for node, entity in enumerate(self._entities, 1)
            if entity.kind is Kind.ARTIFACT and entity.content_hash.startswith(content_hash)
        ]

    def sequence_at(self, time_us: int) -> int:
        return bisect_right(self._times, time_us)

    def counts(self) -> dict[str, int]:
        return {
            "events": self._events,
            "entities": len(self._entities),
            "associations": len(self._edges),
        }

    def _edge(self, source: str, destination: str, type: str) -> Edge:
        return self._nodes[source], self._nodes[destination], type

    def _say_columns(self, said: ColumnLineage) -> None:
        node = self._nodes[str(said.destination)]
        place = said.rank, columns_digest(said)
        known = self._columns.get((node, said.by))
        if known is not None and known[0] >= place:
            return
        rows = [
            ColumnRow(
                self._nodes[str(edge.source)],
                edge.source_column,
                node,
                edge.column,
                said.by,
                edge.type,
                edge.subtype,
                edge.description,
                edge.masking,
                to_json(edge.properties),
            )
            for edge in said.edges
        ]
        self._columns[node, said.by] = place, rows

    def _artifacts_at(self, source_uri: str) -> list[Entity]:
        nodes = self._artifacts.get(source_uri, {}).values()
        return [self._entities[node - 1] for node in nodes]


def _version(entity: Entity) -> int:
    return entity.version
