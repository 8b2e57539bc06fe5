"""Wide frontiers of a walk in the store: the ids at once, the associations when asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final, final

import numpy as np

from lineage.store import Edge, LineageStore, Nodes, Reaching, View

# From so many nodes on an array of ids costs less than the associations one by one. Answers that
# come this far are seldom small, so that what is read a second time seldom is much.
_MANY: Final = 1_000


@final
class Frontiers:
    """Steps of one query through a store that gives ids in bulk: see `walk.Wide`.

    Args:
        reaching: gives the ids.
        view: the state of the graph that is walked.
        store: opens that state again, for associations that are asked for later.
    """

    def __init__(self, reaching: Reaching, view: View, store: LineageStore) -> None:
        self._reaching = reaching
        self._view = view
        self._store = store
        self._steps: list[_Step] = []

    @property
    def least(self) -> int:
        """From so many nodes on it is worth it."""
        return _MANY

    def begin(self, nodes: Collection[int]) -> Any:
        """One flag for each node, those of `nodes` set."""
        seen = np.zeros(self._reaching.last_node() + 1, bool)
        seen[np.fromiter(nodes, np.int64, len(nodes))] = True
        return seen

    def step(
        self,
        frontier: Any,
        seen: Any,
        *,
        upstream: bool,
        downstream: bool,
        through: Collection[str],
    ) -> tuple[Any, Callable[[], list[Edge]]]:
        """The next frontier in order, marked as seen; the associations are read when called for."""
        nodes = np.asarray(frontier, np.int64)
        ways = [True] * upstream + [False] * downstream
        reached = [self._reaching.reached(nodes, upstream=way, through=through) for way in ways]
        met = np.concatenate(reached)
        met = np.unique(met[~seen[met]])
        seen[met] = True
        step = _Step(nodes, ways, through, self._store, self._view.sequence())
        self._steps.append(step)
        return met, step

    def settle(self) -> None:
        """Read the associations of all steps now, while the view is there."""
        for step in self._steps:
            step.read(self._view)


@final
class _Step:
    """The associations of one step."""

    def __init__(
        self,
        nodes: Nodes,
        ways: Collection[bool],
        through: Collection[str],
        store: LineageStore,
        sequence: int,
    ) -> None:
        self._nodes = nodes
        self._ways = ways
        self._through = through
        self._store = store
        self._sequence = sequence
        self._edges: list[Edge] | None = None

    def __call__(self) -> list[Edge]:
        if self._edges is not None:
            return self._edges
        with self._store.view(self._sequence) as view:
            return self.read(view)

    def read(self, view: View) -> list[Edge]:
        """Read them from a view, and keep them."""
        nodes, edges = self._nodes.tolist(), []
        for upstream in self._ways:
            edges += view.neighbours(nodes, upstream=upstream)
        if self._through:
            edges = [edge for edge in edges if edge[2] in self._through]
        self._edges = edges
        return edges
