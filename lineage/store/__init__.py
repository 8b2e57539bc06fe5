"""The seam between the graph and where it is kept: one interface, several stores."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lineage.change import Draft, Recorded
from lineage.entity import Entity, Kind
from lineage.errors import LineageError
from lineage.filter import Filter
from lineage.log import Event, Head
from lineage.proofs.checkpoint import Checkpoint
from lineage.run import Run

Edge: TypeAlias = tuple[int, int, str]
"""An association as nodes: (source, destination, type)."""

Nodes: TypeAlias = npt.NDArray[np.int64]
"""Many nodes."""

# Between two looks at the head of the log, each of which costs some 20 µs.
_LOOK_AGAIN_S = 0.005


class TimedEdge(NamedTuple):
    """An association as nodes, with the events that began and ended it."""

    source: int
    destination: int
    type: str
    valid_from: int
    valid_to: int | None


class ColumnRow(NamedTuple):
    """An edge between two columns, its ends as nodes; `properties` is JSON text."""

    source: int
    source_column: str
    destination: int
    column: str
    by: str
    type: str
    subtype: str
    description: str
    masking: bool
    properties: str


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
    def same_content(self, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], Entity]:
        """The oldest artifact of each of these content hashes (64 hex digits) and types."""

    @abstractmethod
    def around(self, source_uri: str, version: int) -> tuple[Entity | None, ...]:
        """The artifacts at a uri nearest to a version: (below, equal, above)."""

    @abstractmethod
    def nearest(self, uid: str) -> str | None:
        """The uid most similar to one that does not exist."""

    @abstractmethod
    def alias(self, alias: str) -> str | None:
        """The uid of what has this other name."""

    @abstractmethod
    def has_association(self, source: str, destination: str, type: str) -> bool:
        """Whether this association is valid."""


class Reaching(Protocol):
    """Gives the ids of whole frontiers as arrays, without an object for each association."""

    def reached(self, nodes: Nodes, *, upstream: bool, through: Collection[str]) -> Nodes:
        """The other ends of the associations at any of `nodes`, in no order, some repeatedly.

        Args:
            nodes: at least one.
            upstream: as for `View.neighbours`.
            through: association types that count; empty for all.
        """

    def links(self, first: int, after: int, types: Sequence[str]) -> tuple[Nodes, Nodes, Nodes]:
        """The associations that end at a stretch of nodes.

        Args:
            first: node of the stretch.
            after: the node behind its last.
            types: every association type.

        Returns:
            source, destination and place of the type in `types`, in no order.
        """

    def last_node(self) -> int:
        """The greatest node there is; 0 when there is none."""


class View(Lookup):
    """One consistent state of the graph, unmoved by what is recorded meanwhile.

    It is the present, or the graph exactly as it was after an earlier event.

    Nodes are the numbers a store gives its entities, in the order of their
    creation. They make long walks cheap and never leave the package.
    """

    @property
    def reaching(self) -> Reaching | None:
        """Gives ids in bulk, where that costs less than `neighbours`."""
        return None

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
    def matching(self, nodes: Sequence[int], wanted: Filter) -> list[int]:
        """Those of `nodes` that pass, in the same order."""

    @abstractmethod
    def entities(self, nodes: Sequence[int]) -> Sequence[Entity]:
        """The entities of `nodes`, in that order, as they are in this state of the graph."""

    @abstractmethod
    def sequence(self) -> int:
        """The sequence of the last event that counts."""

    @abstractmethod
    def edges(self, after: int) -> Iterator[TimedEdge]:
        """The associations that an event later than `after` began or ended, for one pass."""

    @abstractmethod
    def column_edges(
        self, columns: Sequence[tuple[int, str]], *, upstream: bool
    ) -> list[ColumnRow]:
        """The edges that end (upstream) or start (downstream) at any of these columns.

        A column is a node and a name. The empty name means every column of the node, and
        an edge at a node's empty column is met from each of its columns.
        """

    @abstractmethod
    def runs(self, node: int) -> list[Run]:
        """The executions of a job, in order of their start."""

    @abstractmethod
    def tags(self, nodes: Sequence[int]) -> dict[int, dict[str, str]]:
        """The tags of each of `nodes` that has any."""

    @abstractmethod
    def tagged(self, key: str, value: str | None) -> list[int]:
        """The nodes with this tag, of any value when None, in order."""

    @abstractmethod
    def beginning(self, content_hash: str) -> list[int]:
        """The artifacts whose content hash begins like this, in order."""

    @abstractmethod
    def sequence_at(self, time_us: int) -> int:
        """The sequence of the last event recorded at or before a time; 0 before the first."""

    @abstractmethod
    def counts(self) -> dict[str, int]:
        """How many events, entities and associations there are."""


class LineageStore(ABC):
    """Keeps the log, which is the truth, and the graph that is projected from it.

    Stores may be used by any number of threads at once.
    """

    @property
    def mirror_path(self) -> Path | None:
        """Where a snapshot of the associations may lie beside the store; None: nowhere."""
        return None

    def read_ahead(self) -> None:
        """Make ready for queries that read much of the graph; returns at once.

        A store that reads no file page by page has nothing to do.
        """
        return

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
    def append_all(self, drafts: Sequence[Draft]) -> list[Recorded | LineageError]:
        """Add several events in one transaction, in order; durable when this returns.

        Returns:
            for each draft its answer, or the error for which that one was refused; the
            others are in.

        Raises:
            StoreUnavailable: nothing was written.
        """

    @abstractmethod
    def adopt(self, events: Sequence[Event]) -> None:
        """Take over events of another log as they are, hashes and all; durable on return.

        Args:
            events: each has to follow the one before, and the first the end of this log.

        Raises:
            InvalidLog: one does not; nothing was written.
            StoreUnavailable: nothing was written.
        """

    @abstractmethod
    def view(self, as_of: int | None = None) -> AbstractContextManager[View]:
        """The graph for as long as the context lasts. Never waits for writers.

        Args:
            as_of: sequence of the last event that counts; None for the present.
        """

    @abstractmethod
    def log(self, after: int = 0) -> AbstractContextManager[tuple[Iterator[Event], Head]]:
        """The log behind event `after` as of now, in sequence, and its head; for one pass."""

    @abstractmethod
    def head(self) -> Head:
        """The end of the log; cheap, to ask whether anything was recorded since."""

    def wait(self, after: int, timeout_s: float) -> bool:
        """Wait until something is recorded behind event `after`, by any process.

        Returns:
            Whether something was, before the time was over.
        """
        until = time.monotonic() + timeout_s
        while self.head().sequence <= after:
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(_LOOK_AGAIN_S, left))
        return True

    @abstractmethod
    def hashes(self, after: int, until: int) -> list[bytes]:
        """The hashes of the events behind one, up to another, in sequence."""

    @abstractmethod
    def add_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint, in place of one at the same event; durable on return."""

    @abstractmethod
    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints, in sequence: a store makes one itself at every `checkpoint.EVERY`."""

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
