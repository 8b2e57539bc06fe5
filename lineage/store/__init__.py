"""The seam between the graph and where it is kept: one interface, several stores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TypeAlias

from lineage.change import Draft, Recorded
from lineage.entity import Entity, Kind
from lineage.log import Event, Head

Edge: TypeAlias = tuple[int, int, str]
"""An association as nodes: (source, destination, type)."""


class Lookup(ABC):
    """What has to be known of the graph to add an event to it."""

    @abstractmethod
    def by_uid(self, uids: Collection[str]) -> dict[str, Entity]:
        """The entities with these uids, by uid; those that do not exist are left out."""

    @abstractmethod
    def latest(self, source_uris: Collection[str]) -> dict[str, Entity]:
        """The artifacts with the highest version at each uri, by uri."""

    @abstractmethod
    def artifact(self, source_uri: str, content_hash: str) -> Entity | None:
        """The artifact with this identity."""

    @abstractmethod
    def around(self, source_uri: str, version: int) -> tuple[Entity | None, ...]:
        """The artifacts at a uri nearest to a version: (below, equal, above)."""

    @abstractmethod
    def nearest(self, uid: str) -> str | None:
        """The uid most similar to one that does not exist."""


class View(Lookup):
    """One consistent state of the graph, unmoved by what is recorded meanwhile.

    Nodes are the numbers a store gives its entities, in the order of their
    creation. They make long walks cheap and never leave the package.
    """

    @abstractmethod
    def find(
        self,
        *,
        kind: Kind | None,
        type: str | None,
        name: str | None,
        source_uri: str | None,
    ) -> list[Entity]:
        """The entities equal in every field that is not None, oldest first."""

    @abstractmethod
    def node(self, uid: str) -> int | None:
        """The node of an entity."""

    @abstractmethod
    def neighbours(self, nodes: Sequence[int], *, upstream: bool) -> list[Edge]:
        """The associations that end (upstream) or start (downstream) at any of `nodes`."""

    @abstractmethod
    def matching(
        self, nodes: Sequence[int], *, types: Collection[str], kinds: Collection[Kind]
    ) -> list[int]:
        """Those of `nodes` with any of the types and any of the kinds; empty means all."""

    @abstractmethod
    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        """The entities of `nodes`, in that order, as they are in this state of the graph."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many events, entities and associations there are."""


class LineageStore(ABC):
    """Keeps the log, which is the truth, and the graph that is projected from it.

    Stores may be used by any number of threads at once.
    """

    @abstractmethod
    def append(self, draft: Draft) -> Recorded:
        """Add one event, all or nothing; durable when this returns.

        Raises:
            EntityNotFound: an association names a uid that does not exist.
            EntityConflict: a uid stands for something else.
            InvalidAssociation: it connects an entity with itself, or two experiment entities.
            StoreUnavailable: nothing was written.
        """

    @abstractmethod
    def view(self) -> AbstractContextManager[View]:
        """The graph as of now, for as long as the context lasts. Never waits for writers."""

    @abstractmethod
    def log(self) -> AbstractContextManager[tuple[Iterator[Event], Head]]:
        """The whole log as of now, in sequence, and its head; for one pass."""

    @abstractmethod
    def rebuild(self) -> int:
        """Project the graph anew from the log alone; returns the number of events read."""

    @abstractmethod
    def stale(self) -> tuple[int, str] | None:
        """Compare the graph with what the log says.

        Returns:
            None when they agree, else the sequence of an event that is projected
            wrongly, and what is wrong.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of files; idempotent. Every later call raises StoreClosed."""
