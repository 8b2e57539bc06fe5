"""The life of what is stored: maintenance, old versions, verification, expiry."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, final

import pyarrow as pa

import lineage
from featurestore import verify
from featurestore.embedded.groups import Groups
from featurestore.embedded.tables import Tables
from featurestore.errors import InvalidRequest
from featurestore.offline import DEFAULT_RETENTION, Flusher, MaintenanceReport, history, maintenance
from featurestore.offline.history import TableVersion
from featurestore.online import Committer, OnlineStore
from featurestore.provenance import (
    recorded_work,
    recorded_work_that_begins,
    versions_in_use,
)
from featurestore.registry import Registry, named
from featurestore.sealing import Sealing
from featurestore.spill import spill_folder
from featurestore.streamed import memory_bytes
from featurestore.sweep import sweep_group
from featurestore.windowed import WindowedGroups

__all__ = ["Upkeep"]

_DELETE_US: Final = 600_000_000  # more than any delete takes


@final
class Upkeep:
    """Keeps the stores of one home healthy.

    Args:
        home: the folder.
        registry: of the home.
        online: the online store.
        committer: writes into it.
        flusher: of the home.
        sealing: of the home.
        tables: of the home.
        groups: of the home.
        windowed: the windowed groups of the home.
        graph: opens the lineage graph of the home.
        now: the clock, µs since the epoch.
    """

    def __init__(
        self,
        home: Path,
        registry: Registry,
        online: OnlineStore,
        *,
        committer: Committer,
        flusher: Flusher,
        sealing: Sealing,
        tables: Tables,
        groups: Groups,
        windowed: WindowedGroups,
        graph: Callable[[], lineage.Graph],
        now: Callable[[], int],
    ) -> None:
        self._home = home
        self._registry = registry
        self._online = online
        self._committer = committer
        self._flusher = flusher
        self._sealing = sealing
        self._tables = tables
        self._groups = groups
        self._windowed = windowed
        self._graph = graph
        self._now = now

    def maintain(
        self,
        group: str,
        *,
        retention: dt.timedelta = DEFAULT_RETENTION,
        zorder: bool = True,
        pause: Callable[[str], bool] | None = None,
    ) -> MaintenanceReport:
        """See FeatureStore.maintain; one that finds nothing to do leaves nothing in lineage.

        Args:
            group: the feature group.
            retention: see FeatureStore.maintain.
            zorder: see FeatureStore.maintain.
            pause: called with the name of each step before it is taken; False ends the maintenance.
        """
        maintenance.check_retention(retention)
        entry = self._tables.with_offline(group)
        table = self._tables.open(entry)
        with (
            recorded_work_that_begins(
                self._graph, "Maintenance", group, retention_s=retention.total_seconds()
            ) as work,
            self._flusher.maintaining(entry.number),
            spill_folder(self._home, "maintain") as spill,
        ):
            report = maintenance.maintain(
                table,
                group,
                identifier=entry.group.record_identifier,
                retention=retention,
                zorder=zorder,
                spill=spill,
                flushes_paused=lambda: self._flusher.paused(entry.number),
                pinned=lambda: versions_in_use(self._graph(), table.uri, younger_than=retention),
                pause=pause,
                begin=work.begin,
            )
            if work.job is not None:
                work.job.property("table_version", report.version)
                work.job.property("files_before", report.files_before)
                work.job.property("files_after", report.files_after)
                work.job.property("files_removed", report.files_removed)
        return report

    def vacuum_unpinned(
        self,
        group: str,
        keep: Sequence[int],
        *,
        retention: dt.timedelta = DEFAULT_RETENTION,
        dry_run: bool = False,
    ) -> dict[str, int]:
        """Delete files of a group's local table that only versions beside `keep` have.

        See `featurestore.offline.maintenance.vacuum_unpinned`.
        """
        entry = self._tables.with_offline(group)
        with self._flusher.maintaining(entry.number):
            return maintenance.vacuum_unpinned(
                self._tables.open(entry),
                keep,
                retention=retention,
                flushes_paused=lambda: self._flusher.paused(entry.number),
                dry_run=dry_run,
            )

    def history(
        self,
        group: str,
        *,
        version: int | None = None,
        as_of: dt.datetime | None = None,
        features: Sequence[str] = (),
    ) -> pa.RecordBatchReader:
        """See FeatureStore.history."""
        entry = self._tables.with_offline(group)
        for feature in features:
            entry.group.feature_type(feature)
        if version is None:
            self._tables.flush(entry)
        snapshot = self._tables.open(entry).scan(version=version)
        return history.read_history(entry.group, snapshot, as_of=as_of, features=features)

    def versions(self, group: str, *, limit: int | None = None) -> list[TableVersion]:
        """See FeatureStore.versions."""
        return history.versions(self._tables.open(self._tables.with_offline(group)), limit=limit)

    def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        entry = self._tables.with_offline(group)
        with (
            recorded_work(self._graph(), "Restore", group, changes=True, restored=version) as job,
            self._flusher.maintaining(entry.number),
            self._flusher.paused(entry.number),
        ):
            made = history.restore(self._tables.open(entry), version)
            job.property("table_version", made)
            return made

    def verify(
        self,
        group: str,
        *,
        on_progress: Callable[[int], None] | None = None,
        memory_limit: int | str = verify.MEMORY_LIMIT,
    ) -> verify.VerifyReport:
        """See FeatureStore.verify; `memory_limit` is for the sort of the offline rows."""
        groups = self._registry.current()
        if group not in groups and group in self._registry.windows():
            return self._windowed.verify(group)
        limit = memory_bytes(memory_limit)
        entry = named(groups, group)
        if not (entry.group.online and entry.group.offline):
            raise InvalidRequest(f"{group}: only a group with both stores can be verified")
        self._tables.flush(entry)
        with spill_folder(self._home, "verify") as spill:
            return verify.verify(
                self._online,
                entry,
                self._tables.open(entry).scan(),
                opened=partial(self._sealing.open, entry),
                now=self._now(),
                memory_bytes=limit,
                spill=spill,
                on_progress=on_progress,
            )

    def sweep(self, *, pause: Callable[[int], bool] | None = None) -> int:
        """Give back the space of expired records; gets never return them, swept or not.

        And end the deletes of encrypted groups that a kill left half done: their keys go.

        Args:
            pause: called after each slice with the number of versions looked at; False ends the
                sweep of the group at hand.

        Returns:
            How many records were swept.
        """
        with_keys = self._sealing.numbers()
        # One that was deleted just now is being ended by the process that did it.
        if with_keys:
            for entry in self._registry.deleted(before=self._now() - _DELETE_US):
                if entry.number in with_keys:
                    self._groups.end(entry)
        if self._online.windows is not None:
            self._online.windows.sweep(self._now())
        return sum(
            sweep_group(
                self._online, self._committer.put, entry.number, now=self._now(), pause=pause
            )
            for entry in self._registry.list()
            if entry.group.online
        )
