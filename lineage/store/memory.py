"""The lineage store that lives in this process and ends with it."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from itertools import chain
from typing import final

from lineage.change import Change, Draft, Link, Recorded
from lineage.entity import Entity, Kind
from lineage.errors import StoreClosed
from lineage.log import Event, Head, append_event, now_us
from lineage.projection import project, resolve
from lineage.store import Edge, LineageStore, View


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

    def append(self, draft: Draft) -> Recorded:
        """Add one event; it lasts as long as the process."""
        with self._locked():
            known = self._recorded.get(draft.event_uid)
            if known is not None:
                return self._graph.recorded(known, len(draft.entities))
            change, before = resolve(draft, self._graph)
            event, head = append_event(
                self._head,
                now_us=now_us(),
                actor=draft.actor,
                kind=draft.kind,
                event_uid=draft.event_uid,
                body=change.encode(),
            )
            self._graph.apply(event, project(change, event.time_us, before), change.associations)
            self._events.append(event)
            self._recorded[event.event_uid] = event
            self._head = head
            return self._graph.recorded(event, len(draft.entities))

    @contextmanager
    def view(self) -> Iterator[View]:
        """The graph as of now; writers of other threads wait until the context ends."""
        with self._locked():
            yield self._graph

    @contextmanager
    def log(self) -> Iterator[tuple[Iterator[Event], Head]]:
        """The events so far, and the head."""
        with self._locked():
            events, head = list(self._events), self._head
        yield iter(events), head

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

    def _replayed(self) -> _Tables:
        tables = _Tables()
        for event in self._events:
            change = Change.decode(event.body)
            before = tables.by_uid([entity.uid for entity in change.entities])
            entities = project(change, event.time_us, before)
            tables.apply(event, entities, change.associations)
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
        self._entities: list[Entity] = []
        self._nodes: dict[str, int] = {}
        self._artifacts: dict[str, dict[str, int]] = {}
        self._upstream: dict[int, dict[Edge, None]] = {}
        self._downstream: dict[int, dict[Edge, None]] = {}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Tables) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def apply(self, event: Event, entities: Sequence[Entity], associations: Sequence[Link]) -> None:
        """Take in what an event projects to."""
        self._events = event.sequence
        for entity in entities:
            node = self._nodes.get(entity.uid)
            if node is None:
                self._entities.append(entity)
                self._nodes[entity.uid] = node = len(self._entities)
                if entity.kind is Kind.ARTIFACT:
                    versions = self._artifacts.setdefault(entity.source_uri, {})
                    versions[entity.content_hash] = node
            else:
                self._entities[node - 1] = entity
        for upstream, downstream, link in associations:
            source, destination = self._nodes[upstream], self._nodes[downstream]
            edge = (source, destination, link)
            self._upstream.setdefault(destination, {})[edge] = None
            self._downstream.setdefault(source, {})[edge] = None

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

    def matching(
        self, nodes: Sequence[int], *, types: Collection[str], kinds: Collection[Kind]
    ) -> list[int]:
        return [
            node
            for node in nodes
            if (not types or self._entities[node - 1].type in types)
            and (not kinds or self._entities[node - 1].kind in kinds)
        ]

    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        return [self._entities[node - 1] for node in nodes]

    def counts(self) -> dict[str, int]:
        return {
            "events": self._events,
            "entities": len(self._entities),
            "associations": sum(map(len, self._downstream.values())),
        }

    def _artifacts_at(self, source_uri: str) -> list[Entity]:
        nodes = self._artifacts.get(source_uri, {}).values()
        return [self._entities[node - 1] for node in nodes]


def _version(entity: Entity) -> int:
    return entity.version
