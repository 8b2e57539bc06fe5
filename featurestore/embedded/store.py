"""The embedded store: every verb on the files of one home folder."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import cached_property
from pathlib import Path
from typing import Any, final

import pyarrow as pa

import lineage
from featurestore import record as record_rules
from featurestore import verify
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport
from featurestore.checked import CheckedBatch
from featurestore.dataset import (
    Dataset,
    FeatureSelection,
    Resolved,
    moment_us,
)
from featurestore.embedded.datasets import Datasets
from featurestore.embedded.groups import Groups
from featurestore.embedded.prepare import Preparer
from featurestore.embedded.reads import Reader
from featurestore.embedded.records import Records
from featurestore.embedded.resolve import Resolver
from featurestore.embedded.tables import Tables
from featurestore.embedded.transfer import Transfer
from featurestore.embedded.upkeep import Upkeep
from featurestore.engine import Engine
from featurestore.erasure import Eraser, ErasureReport
from featurestore.feature import FeatureDefinition, Value
from featurestore.impact import ImpactReport, Tracer
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.offline import (
    DEFAULT_RETENTION,
    DeltaOfflineTable,
    Flushed,
    Flusher,
    MaintenanceReport,
)
from featurestore.offline.history import TableVersion
from featurestore.online import (
    Committer,
    OnlineStore,
    OutboxBound,
    OutboxLimit,
    Write,
    open_online,
)
from featurestore.plan import DatasetPlan
from featurestore.position import SourcePosition, check_source
from featurestore.provenance import (
    record_windowed_group,
    recorded_load,
    recorded_work,
    table_change,
)
from featurestore.record import Delete, Put
from featurestore.registry import Registered, Registry
from featurestore.saved import SavedDataset, SavedDatasets
from featurestore.schema import (
    FeatureGroup,
    StorageType,
    Throughput,
    Ttl,
)
from featurestore.sealing import Sealing
from featurestore.search import Expression, Filter, Resource
from featurestore.seek import move_source
from featurestore.settle import Stores
from featurestore.store import (
    Description,
    FeatureStore,
    Found,
    Get,
    PutResult,
    WindowedDescription,
    WriteError,
)
from featurestore.streamed import WrittenDataset
from featurestore.window import WindowedGroup
from featurestore.windowed import WindowedGroups

__all__ = ["EmbeddedStore"]


@final
class EmbeddedStore(FeatureStore):
    """The feature store of one home folder, in this process.

    Args:
        home: an existing folder.
        online: the online store; by default the one the home remembers, LMDB in `home/online`.
        now: the clock, µs since the epoch.
        future_tolerance_us: how far ahead of the clock an event time may lie.
    """

    def __init__(
        self,
        home: Path,
        *,
        online: OnlineStore | None = None,
        now: Callable[[], int] = record_rules.now_us,
        future_tolerance_us: int = record_rules.FUTURE_TOLERANCE_US,
    ) -> None:
        self.home = home
        self._now = now
        self._tolerance_us = future_tolerance_us
        with ExitStack() as opened:
            self.registry = opened.enter_context(closing(Registry(home / "meta.db")))
            self.sealing = opened.enter_context(closing(Sealing(home)))
            self.online = online or open_online(home)
            opened.pop_all()
        self.bounded = OutboxBound(self.online)
        self._committer = Committer(self.bounded)
        self._flusher = Flusher(
            self.online.outbox,
            application=f"featureline:{self.online.store_id}",
            locks=home / "locks",
            opened=self.sealing.open_entries,
            now=now,
        )
        self.tables = Tables(home, self.registry, self.online, self._flusher)
        self.resolver = Resolver(self.registry, self.tables)
        self.saved = SavedDatasets(home / "artifacts")
        self.windowed = WindowedGroups(
            self.registry,
            self.online,
            flushed=self.tables.flushed,
            recorded=lambda group: record_windowed_group(self.graph, group),
            spill=home / "spill",
            now=now,
        )
        self.reader = Reader(self.registry, self.online, self.sealing, self.windowed, now=now)
        self.prepare = Preparer(
            self.reader, self.sealing, now=now, tolerance_us=future_tolerance_us
        )
        self._records = Records(
            self.registry,
            self._committer,
            self.prepare,
            self.reader,
            now=now,
            tolerance_us=future_tolerance_us,
        )
        self._datasets = Datasets(
            self.registry,
            self.resolver,
            self.saved,
            reader=self.reader,
            windowed=self.windowed,
            keeper=self,
            graph=lambda: self.graph,
            now=now,
        )
        self._transfer = Transfer(
            self.registry,
            self._flusher,
            self.windowed,
            stores=lambda: self.stores,
            graph=lambda: self.graph,
        )
        self.groups = Groups(
            self.registry,
            self.online,
            self.sealing,
            flusher=self._flusher,
            tables=self.tables,
            graph=lambda: self.graph,
            now=now,
        )
        self.upkeep = Upkeep(
            home,
            self.registry,
            self.online,
            committer=self._committer,
            flusher=self._flusher,
            sealing=self.sealing,
            tables=self.tables,
            groups=self.groups,
            windowed=self.windowed,
            graph=lambda: self.graph,
            now=now,
        )

    # -- feature groups -----------------------------------------------------------------------

    def create_feature_group(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group.

        A group that names no place for its offline table gets the one that `$FEATURELINE_OFFLINE`
        names at this moment (`s3://BUCKET/PREFIX`), for good; without it, the home.
        """
        return self.groups.create(group)

    def describe(self, name: str) -> Description:
        """See FeatureStore.describe."""
        return self.groups.described(self.registry.get(name))

    def list_feature_groups(self, *, name_contains: str = "") -> list[Description]:
        """See FeatureStore.list_feature_groups."""
        return [entry for entry in self.groups.all() if name_contains in entry.group.name]

    def add_features(self, name: str, features: Sequence[FeatureDefinition]) -> Description:
        """See FeatureStore.add_features."""
        return self.groups.change(name, lambda group: group.with_features(features))

    def set_ttl(self, name: str, ttl: Ttl | None) -> Description:
        """See FeatureStore.set_ttl."""
        return self.groups.change(name, lambda group: group.with_ttl(ttl))

    def set_throughput(self, name: str, throughput: Throughput) -> Description:
        """See FeatureStore.set_throughput; only a server holds callers to it."""
        return self.groups.change(name, lambda group: group.with_throughput(throughput))

    def set_storage_type(self, name: str, storage_type: StorageType) -> Description:
        """See FeatureStore.set_storage_type."""
        return self.groups.change(name, lambda group: group.with_storage_type(storage_type))

    def feature_metadata(self, group: str, feature: str) -> FeatureMetadata:
        """See FeatureStore.feature_metadata."""
        return self.groups.metadata(group, feature)

    def update_feature_metadata(
        self, group: str, feature: str, change: MetadataChange
    ) -> FeatureMetadata:
        """See FeatureStore.update_feature_metadata."""
        return self.groups.change_metadata(group, feature, change)

    def search(
        self,
        resource: Resource | str,
        expression: Expression | Filter | None = None,
        *,
        sort_by: str = "LastModifiedTime",
        descending: bool = True,
    ) -> list[Any]:
        """See FeatureStore.search."""
        return self.groups.search(resource, expression, sort_by=sort_by, descending=descending)

    def delete_feature_group(self, name: str) -> None:
        """See FeatureStore.delete_feature_group."""
        self.groups.delete(name)

    # -- windowed features --------------------------------------------------------------------

    def create_windowed_group(
        self, group: WindowedGroup, *, on_progress: Callable[[int], None] | None = None
    ) -> WindowedDescription:
        """See FeatureStore.create_windowed_group; `on_progress` gets the earlier events' number."""
        return self.windowed.create(group, on_progress=on_progress)

    def describe_windowed_group(self, name: str) -> WindowedDescription:
        """See FeatureStore.describe_windowed_group."""
        return self.windowed.describe(name)

    def list_windowed_groups(self) -> list[WindowedDescription]:
        """See FeatureStore.list_windowed_groups."""
        return self.windowed.all()

    def delete_windowed_group(self, name: str) -> None:
        """See FeatureStore.delete_windowed_group."""
        self.windowed.get(name)
        with recorded_work(self.graph, "WindowDeletion", name, changes=False):
            self.windowed.delete(name)

    def get_windows(
        self, group: str, keys: Iterable[object], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """See FeatureStore.get_windows."""
        entry = self.windowed.get(group)
        return self.windowed.read(entry, self.windowed.texts(entry, keys), at=at)

    def fill_windowed_group(
        self, name: str, *, on_progress: Callable[[int], None] | None = None
    ) -> int:
        """See FeatureStore.fill_windowed_group; `on_progress` gets the number of events so far."""
        self.windowed.get(name)
        with recorded_work(self.graph, "WindowFill", name, changes=False) as job:
            events = self.windowed.fill(name, on_progress=on_progress)
            job.property("events", events)
        return events

    def window_history(
        self, group: str, *, version: int | None = None, as_of: dt.datetime | None = None
    ) -> pa.Table:
        """Return the windowed features as of each event, from the offline store.

        Args:
            group: the windowed group.
            version: Delta version of its source's table; None: the newest, after a flush.
            as_of: only events whose write time is at or before it count.

        Returns:
            One row for each key and event time, in their order: the key, `event_time`, then the
            features.

        Raises:
            FeatureGroupNotFound: no such windowed group.
            InvalidRequest: there is no such version, or a vacuum took its files away.
        """
        source = self.windowed.get(group).source
        snapshot = (
            self.tables.flushed(source)
            if version is None
            else self.offline_table(source).scan(version=version)
        )
        return self.windowed.history(group, snapshot, as_of_us=moment_us(as_of))

    # -- records ------------------------------------------------------------------------------

    def put(
        self,
        group: str,
        record: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.put."""
        self._records.put(group, record, ttl=ttl, stores=stores)

    def get(
        self, group: str, identifier: object, *, features: Sequence[str] = ()
    ) -> dict[str, Value] | None:
        """See FeatureStore.get."""
        found = self.batch_get([Get(group, [identifier], tuple(features))])
        return found[0].record if found else None

    def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        return self.reader.many(requests)

    def get_table(
        self, group: str, identifiers: Iterable[object], *, features: Sequence[str] = ()
    ) -> pa.Table:
        """See FeatureStore.get_table."""
        return self.reader.table(group, identifiers, features=features)

    def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.batch_write."""
        return self._records.batch_write(entries, position=position)

    def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.put_checked."""
        return self._records.put_checked(batch, position=position)

    def put_table(
        self,
        group: str,
        table: Any,
        *,
        position: SourcePosition | None = None,
        source: str = "",
        on_progress: Callable[[int], None] | None = None,
    ) -> PutResult:
        """See FeatureStore.put_table."""
        entry = self.registry.get(group)
        with recorded_load(self.graph, group, source) as job:
            result = self._records.put_rows(entry, table, position, on_progress)
            job.property("rows", result.rows)
            job.property("refused", len(result.errors))
        return result

    def update(
        self,
        group: str,
        identifier: object,
        features: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.update."""
        self._records.update(group, identifier, features, ttl=ttl, stores=stores)

    def delete(
        self, group: str, identifier: object, *, event_time: object, hard: bool = False
    ) -> None:
        """See FeatureStore.delete."""
        self._records.delete(group, identifier, event_time=event_time, hard=hard)

    def records(self, group: str, *, include_soft_deleted: bool = False) -> Iterator[str]:
        """See FeatureStore.records."""
        return self._records.records(group, include_soft_deleted=include_soft_deleted)

    def source_position(self, source: str) -> dict[str, int]:
        """See FeatureStore.source_position."""
        return self.online.source_position(check_source(source))

    def move_source(
        self,
        source: str,
        positions: Mapping[str, int],
        *,
        expected: Mapping[str, int],
        by: str = "",
    ) -> dict[str, int]:
        """See FeatureStore.move_source; `by` is who does it."""
        return move_source(
            self.graph,
            self.source_position,
            lambda position: self.commit([], position),
            source,
            positions,
            expected=expected,
            by=by,
        )

    # -- offline store and datasets -----------------------------------------------------------

    def flush(self, group: str | None = None) -> dict[str, Flushed]:
        """See FeatureStore.flush."""
        entries = [self.registry.get(group)] if group is not None else self.registry.list()
        return {
            entry.group.name: self.tables.flush(entry) for entry in entries if entry.group.offline
        }

    def verify(
        self,
        group: str,
        *,
        on_progress: Callable[[int], None] | None = None,
        memory_limit: int | str = verify.MEMORY_LIMIT,
    ) -> verify.VerifyReport:
        """See FeatureStore.verify; `memory_limit` is for the sort of the offline rows."""
        return self.upkeep.verify(group, on_progress=on_progress, memory_limit=memory_limit)

    def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
        threads: int | None = None,
        engine: Engine = "duckdb",
        spark: Any | None = None,
    ) -> Dataset:
        """See FeatureStore.dataset; the result does not depend on the engine.

        The joins of the groups share `threads`, by default one for each processor. With
        `engine="spark"` the session `spark` joins, by default the active one or a new one; see
        `write_dataset` for a result that does not fit into memory.
        """
        return self._datasets.dataset(
            spine,
            features,
            time=time,
            as_of=as_of,
            spine_name=spine_name,
            threads=threads,
            engine=engine,
            spark=spark,
        )

    def get_as_of(
        self,
        group: str,
        identifiers: Iterable[object],
        times: Iterable[object],
        *,
        features: Sequence[str] = (),
        lookback: dt.timedelta | None = None,
    ) -> pa.Table:
        """See FeatureStore.get_as_of."""
        return self._datasets.get_as_of(
            group, identifiers, times, features=features, lookback=lookback
        )

    def explain_dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
    ) -> DatasetPlan:
        """See FeatureStore.explain_dataset."""
        return self._datasets.explain(spine, features, time=time, as_of=as_of)

    def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """See FeatureStore.run_builder."""
        return self._datasets.run_builder(options, rows)

    def write_dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        path: str | Path,
        *,
        memory_limit: int | str | None = None,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
        threads: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        engine: Engine = "duckdb",
        spark: Any | None = None,
    ) -> WrittenDataset:
        """See FeatureStore.write_dataset; by DuckDB within a limit of memory, or by Spark.

        Spark's executors write a folder of files, in the order of their names; the rows do not pass
        through this process but for their digest.

        Args:
            spine: with Spark also a folder or several paths of Parquet files, which the executors
                read, or a Spark DataFrame.
            features: see there.
            path: the file to write; with Spark the folder, where the executors can write too.
            memory_limit: for DuckDB, which needs it.
            time: see there.
            as_of: see there.
            spine_name: see there.
            threads: for DuckDB; the result does not depend on it.
            on_progress: for DuckDB.
            engine: `duckdb` or `spark`.
            spark: the Spark session; by default the active one, else a new one.

        Raises:
            StoreUnavailable: Spark could not finish.
        """
        return self._datasets.write(
            spine,
            features,
            path,
            memory_limit=memory_limit,
            time=time,
            as_of=as_of,
            spine_name=spine_name,
            threads=threads,
            on_progress=on_progress,
            engine=engine,
            spark=spark,
        )

    def save_dataset(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        return self._datasets.save(dataset)

    def load_dataset(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        return self._datasets.load(fingerprint)

    def rebuild_dataset(
        self,
        fingerprint: str,
        *,
        threads: int | None = None,
        engine: Engine = "duckdb",
        spark: Any | None = None,
    ) -> Dataset:
        """See FeatureStore.rebuild_dataset.

        Args:
            fingerprint: or four or more of its first characters.
            threads: how many the joins share; the result does not depend on it.
            engine: `duckdb` or `spark`, whichever built it the first time.
            spark: the Spark session; by default the active one, else a new one.
        """
        return self._datasets.rebuild(fingerprint, threads=threads, engine=engine, spark=spark)

    def list_datasets(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        return self._datasets.all()

    def describe_dataset(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        return self._datasets.describe(fingerprint)

    def check_dataset(
        self, dataset: Dataset, *, rows: int | None = None, seed: int = 0
    ) -> CheckReport:
        """See FeatureStore.check_dataset."""
        return self._datasets.check(dataset, rows=rows, seed=seed)

    # -- rows from store to store -------------------------------------------------------------

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
        return self._transfer.load(group, data, key=key, source=source, on_progress=on_progress)

    def backfill(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.backfill."""
        return self._transfer.backfill(group, on_progress=on_progress)

    def rebuild_online(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.rebuild_online."""
        return self._transfer.rebuild_online(group, on_progress=on_progress)

    @cached_property
    def stores(self) -> Stores:
        """The home's stores, for what moves rows between them."""
        return Stores(
            self.home,
            self.registry,
            self.online,
            self._committer.put,
            self._flusher,
            self.sealing,
            self.offline_table,
            lambda: self.graph,
            self._now,
            self._tolerance_us,
        )

    # -- the life of offline tables -----------------------------------------------------------

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
        return self.upkeep.maintain(group, retention=retention, zorder=zorder, pause=pause)

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
        return self.upkeep.vacuum_unpinned(group, keep, retention=retention, dry_run=dry_run)

    def history(
        self,
        group: str,
        *,
        version: int | None = None,
        as_of: dt.datetime | None = None,
        features: Sequence[str] = (),
    ) -> pa.RecordBatchReader:
        """See FeatureStore.history."""
        return self.upkeep.history(group, version=version, as_of=as_of, features=features)

    def limit_outbox(self, *, records: int | None = None, size_bytes: int | None = None) -> None:
        """Refuse writes while too much waits for the offline store, by an Overloaded error.

        Nothing that was acknowledged is dropped, and nothing of a refused write is stored. Writes
        for the online store alone pass. The limit is of this process, and at first there is none.

        Args:
            records: so many may wait, of all groups; None: any number.
            size_bytes: and so many bytes; an engine that cannot tell (Redis) does not look.
        """
        self.bounded.limit = OutboxLimit(records, size_bytes)

    def versions(self, group: str, *, limit: int | None = None) -> list[TableVersion]:
        """See FeatureStore.versions."""
        return self.upkeep.versions(group, limit=limit)

    def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        return self.upkeep.restore(group, version)

    def erase(
        self,
        group: str,
        identifiers: object,
        *,
        reason: str = "",
        datasets: str = "keep",
        by: str = "",
    ) -> ErasureReport:
        """See FeatureStore.erase; `by` names who asks, by default the user of the process."""
        return self.eraser.erase(group, identifiers, reason=reason, datasets=datasets, by=by)

    @cached_property
    def eraser(self) -> Eraser:
        """What erases; its `holders` are what beside the stores has records of the home."""
        return Eraser(
            self.home,
            self.registry,
            self.online,
            self._flusher,
            self.tables.flush,
            self.offline_table,
            self.saved,
            lambda: self.graph,
            self._now,
        )

    def impact(
        self,
        group: str,
        identifier: object,
        event_time: dt.datetime | None = None,
        *,
        until: dt.datetime | None = None,
    ) -> ImpactReport:
        """See FeatureStore.impact."""
        return self._tracer.impact(group, identifier, event_time, until=until)

    def records_behind(self, start: str) -> Iterator[pa.Table]:
        """See FeatureStore.records_behind."""
        return self._tracer.records_behind(start)

    @property
    def _tracer(self) -> Tracer:
        return Tracer(
            self.registry.get, self.offline_table, self.saved, self.resolver.manifest, self.graph
        )

    # -- lineage and end ----------------------------------------------------------------------

    @cached_property
    def graph(self) -> lineage.Graph:
        """The lineage graph of the home."""
        return lineage.open_home(self.home, changes=table_change)

    def sweep(self, *, pause: Callable[[int], bool] | None = None) -> int:
        """Give back the space of expired records; gets never return them, swept or not.

        And end the deletes of encrypted groups that a kill left half done: their keys go.

        Args:
            pause: called after each slice with the number of versions looked at; False ends the
                sweep of the group at hand.

        Returns:
            How many records were swept.
        """
        return self.upkeep.sweep(pause=pause)

    def close(self) -> None:
        """See FeatureStore.close."""
        self.online.close()
        self.sealing.close()
        self.registry.close()
        graph = self.__dict__.pop("graph", None)
        if graph is not None:
            graph.close()

    # -- for the server and the command line --------------------------------------------------

    def commit(self, writes: Sequence[Write], position: SourcePosition | None) -> None:
        """Store checked writes, and a position with them, in one transaction."""
        self._records.commit(writes, position)

    def resolve_manifest(
        self, manifest: Mapping[str, Any], *, engine: Engine = "duckdb"
    ) -> list[Resolved]:
        """Return what a dataset's manifest refers to, at the table versions it names.

        Args:
            manifest: see `Dataset`.
            engine: that will read the files.

        Raises:
            FeatureGroupNotFound, InvalidRequest: a group or its table is not there any more.
        """
        return self.resolver.manifest(manifest, engine=engine)

    def offline_table(self, entry: Registered, *, engine: Engine = "duckdb") -> DeltaOfflineTable:
        """Return the offline table of a group; Spark's executors read files where they lie."""
        return self.tables.open(entry, engine=engine)
