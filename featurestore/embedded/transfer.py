"""Rows from store to store in one home: bulk loads and backfills, with the windows they fill."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import lineage
from featurestore.backfill import backfill, rebuild_online
from featurestore.load import load
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.offline import Flusher
from featurestore.provenance import recorded_work
from featurestore.registry import Registry
from featurestore.settle import Stores
from featurestore.spine import name_of
from featurestore.windowed import WindowedGroups

__all__ = ["Transfer"]


@final
class Transfer:
    """The verbs that move rows between the stores of one home.

    Args:
        registry: of the home.
        flusher: of the home.
        windowed: the windowed groups of the home.
        stores: returns the two stores.
        graph: opens the lineage graph of the home.
    """

    def __init__(
        self,
        registry: Registry,
        flusher: Flusher,
        windowed: WindowedGroups,
        *,
        stores: Callable[[], Stores],
        graph: Callable[[], lineage.Graph],
    ) -> None:
        self._registry = registry
        self._flusher = flusher
        self._windowed = windowed
        self._stores = stores
        self._graph = graph

    def load(
        self,
        group: str,
        data: object,
        *,
        key: str,
        source: str = "",
        on_progress: Progress | None = None,
    ) -> LoadResult:
        """See FeatureStore.load."""
        named = source or name_of(data)
        result = load(self._stores(), group, data, key=key, source=named, on_progress=on_progress)
        self._fill_windows(group, on_progress)
        return result

    def backfill(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.backfill."""
        return self._brought("Backfill", backfill, group, on_progress)

    def rebuild_online(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.rebuild_online."""
        return self._brought("Rebuild", rebuild_online, group, on_progress)

    def _brought(
        self,
        kind: str,
        bring: Callable[..., BackfillReport],
        group: str,
        on_progress: Progress | None,
    ) -> BackfillReport:
        self._registry.get(group)
        with recorded_work(self._graph(), kind, group, changes=False) as job:
            report = bring(self._stores(), group, on_progress=on_progress)
            self._fill_windows(group, on_progress)
            job.property("table_version", report.version)
            job.property("written", report.written)
            job.property("removed", report.removed)
        return report

    def _fill_windows(self, group: str, on_progress: Progress | None) -> None:
        """Take rows that came into a group by no put into the windowed groups made of it."""
        tell = on_progress or (lambda step, rows: None)
        source = self._registry.get(group)
        made = [w for w in self._registry.windows().values() if w.source.number == source.number]
        if not made:
            return
        with self._flusher.settling(source.number):
            with self._stores().appending(source) as (_, mark):
                pass  # every event up to the mark is in the table now
            for entry in made:
                self._windowed.fill(
                    entry.group.name, newest=mark, on_progress=partial(tell, "windows")
                )
