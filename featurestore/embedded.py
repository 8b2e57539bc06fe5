"""The embedded store: every verb on the files of one home folder."""

from __future__ import annotations

import datetime as dt
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import cached_property, partial
from operator import attrgetter, itemgetter
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa

import lineage
from featurestore import builderquery, convert, eventtime, verify
from featurestore import record as record_rules
from featurestore.arrowcode import Encoded, check_records, encode_batch
from featurestore.arrowview import without_views
from featurestore.asof import read_as_of
from featurestore.backfill import backfill, rebuild_online
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport, check_dataset
from featurestore.checked import CheckedBatch
from featurestore.codec import DELETED, HARD, NEVER, StoredValue
from featurestore.dataset import (
    Dataset,
    FeatureSelection,
    Resolved,
    moment_us,
)
from featurestore.engine import Engine, build, check_engine, write
from featurestore.erasure import Eraser, ErasureReport
from featurestore.errors import (
    FeatureGroupNotFound,
    FeatureStoreError,
    InvalidRecord,
    InvalidRequest,
    StoreFull,
    StoreUnavailable,
)
from featurestore.feature import FeatureDefinition, Value
from featurestore.impact import ImpactReport, Tracer
from featurestore.load import expiries, load
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.offline import (
    DEFAULT_RETENTION,
    DeltaOfflineTable,
    Flushed,
    Flusher,
    MaintenanceReport,
    Snapshot,
    history,
    maintenance,
)
from featurestore.offline.cache import FileCache
from featurestore.offline.delta import environment_options
from featurestore.offline.history import TableVersion
from featurestore.online import (
    Batch,
    Committer,
    OnlineStore,
    OutboxBound,
    OutboxLimit,
    Outcome,
    PutColumns,
    Write,
    open_online,
)
from featurestore.plan import DatasetPlan, explain
from featurestore.position import SourcePosition, check_source
from featurestore.provenance import (
    record_builder,
    record_dataset,
    record_feature_group,
    record_windowed_group,
    recorded_load,
    recorded_work,
    recorded_work_that_begins,
    table_change,
    versions_in_use,
)
from featurestore.rebuild import rebuild
from featurestore.record import Delete, Put
from featurestore.registry import Registered, Registry, named
from featurestore.saved import SavedDataset, SavedDatasets
from featurestore.schema import (
    FeatureGroup,
    StorageType,
    Store,
    Throughput,
    Ttl,
    check_place,
)
from featurestore.sealing import Sealing
from featurestore.search import Expression, Filter, Resource, matches, sort_key
from featurestore.seek import move_source
from featurestore.settle import Stores
from featurestore.spill import spill_folder
from featurestore.spine import name_of, read_spine
from featurestore.store import (
    Description,
    FeatureStore,
    Found,
    Get,
    PutResult,
    WindowedDescription,
    WriteError,
    expression_of,
    resource_of,
    selections,
)
from featurestore.streamed import WrittenDataset, memory_bytes
from featurestore.sweep import sweep_group
from featurestore.update import merge
from featurestore.window import WindowedGroup, Windows
from featurestore.windowed import WindowedGroups

__all__ = ["EmbeddedStore", "open_store"]

# A commit of so many rows holds other writers up for 30 to 100 ms.
TABLE_CHUNK: Final = 10_000
TABLE_CHUNK_BYTES: Final = 32 << 20
_LIST_CHUNK: Final = 1_000
_DELETE_US: Final = 600_000_000  # more than any delete takes
_UNTAKEN_BY_DELTA: Final = re.compile(r"[\[\]\\^|]|%[0-9A-Fa-f]{2}")


def open_store(home: str | Path | None = None, *, online: str | None = None) -> EmbeddedStore:
    """Open the store in a home folder, making it when absent.

    Several processes may have one home open at once. A home remembers its online store, so that
    `online` need be given only once, and again when the login changes.

    Args:
        home: default `$FEATURELINE_HOME`, else `./.featureline`.
        online: URL of the online store in Redis or Valkey (`redis://…`, `rediss://…` or
            `redis+cluster://…`, see `featurestore.online.RedisUrl`); default
            `$FEATURELINE_ONLINE`, else the one that the home remembers, at first LMDB in it.

    Raises:
        StoreCorrupt: a file in the folder is damaged or belongs to another program.
        StoreUnavailable: the folder cannot be opened, or the Delta library cannot take its name;
            the home has another online store, or that one cannot be reached.
        InvalidRequest: the URL has another form.
    """
    chosen = Path(home or os.environ.get("FEATURELINE_HOME") or ".featureline").resolve()
    untaken = _UNTAKEN_BY_DELTA.search(str(chosen))
    if untaken is not None:
        raise StoreUnavailable(
            f"the home {chosen} cannot be opened: the Delta library takes no {untaken.group()!r} "
            f"in a path; choose another folder"
        )
    try:
        chosen.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(
            f"the home {chosen} cannot be opened: {error.strerror}; choose a folder this process "
            f"may write to"
        ) from error
    url = online or os.environ.get("FEATURELINE_ONLINE") or None
    with ExitStack() as opened:
        engine = None if url is None else opened.enter_context(closing(open_online(chosen, url)))
        store = EmbeddedStore(chosen, online=engine)
        opened.pop_all()
    return store


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

    # -- feature groups -----------------------------------------------------------------------

    def create_feature_group(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group.

        A group that names no place for its offline table gets the one that `$FEATURELINE_OFFLINE`
        names at this moment (`s3://BUCKET/PREFIX`), for good; without it, the home.
        """
        default = os.environ.get("FEATURELINE_OFFLINE", "")
        if group.offline and not group.offline_place and default:
            group = group.with_offline_place(check_place(default, "$FEATURELINE_OFFLINE"))
        return self._described(self.registry.create(group, now=self._now(), also=self._begin_group))

    def describe(self, name: str) -> Description:
        """See FeatureStore.describe."""
        return self._described(self.registry.get(name))

    def list_feature_groups(self, *, name_contains: str = "") -> list[Description]:
        """See FeatureStore.list_feature_groups."""
        return [
            self._described(entry)
            for entry in self.registry.list()
            if name_contains in entry.group.name
        ]

    def add_features(self, name: str, features: Sequence[FeatureDefinition]) -> Description:
        """See FeatureStore.add_features."""
        return self._changed(name, lambda group: group.with_features(features))

    def set_ttl(self, name: str, ttl: Ttl | None) -> Description:
        """See FeatureStore.set_ttl."""
        return self._changed(name, lambda group: group.with_ttl(ttl))

    def set_throughput(self, name: str, throughput: Throughput) -> Description:
        """See FeatureStore.set_throughput; only a server holds callers to it."""
        return self._changed(name, lambda group: group.with_throughput(throughput))

    def set_storage_type(self, name: str, storage_type: StorageType) -> Description:
        """See FeatureStore.set_storage_type."""
        return self._changed(name, lambda group: group.with_storage_type(storage_type))

    def feature_metadata(self, group: str, feature: str) -> FeatureMetadata:
        """See FeatureStore.feature_metadata."""
        self.registry.get(group).group.feature_type(feature)
        return next(f for f in self.registry.metadata([group]) if f.feature.name == feature)

    def update_feature_metadata(
        self, group: str, feature: str, change: MetadataChange
    ) -> FeatureMetadata:
        """See FeatureStore.update_feature_metadata."""
        self.registry.change_metadata(group, feature, change, now=self._now())
        return self.feature_metadata(group, feature)

    def search(
        self,
        resource: Resource | str,
        expression: Expression | Filter | None = None,
        *,
        sort_by: str = "LastModifiedTime",
        descending: bool = True,
    ) -> list[Any]:
        """See FeatureStore.search."""
        chosen = resource_of(resource)
        fulfils = matches(chosen, expression_of(expression))
        key = sort_key(chosen, sort_by)
        entries: Iterable[Any] = self.list_feature_groups()
        if chosen is Resource.FEATURE_METADATA:
            entries = self.registry.metadata([entry.group.name for entry in entries])
        found = [(entry.to_json(), entry) for entry in entries]
        hits = [(document, entry) for document, entry in found if fulfils(document)]
        hits.sort(key=lambda hit: key(hit[0]), reverse=descending)
        return [entry for _, entry in hits]

    def delete_feature_group(self, name: str) -> None:
        """See FeatureStore.delete_feature_group."""
        entry = self.registry.get(name)
        with recorded_work(self.graph, "GroupDeletion", name, changes=False):
            self._flush(entry)  # acknowledged records reach the offline table, which stays
            self._end_group(self.registry.delete(name, now=self._now()))

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
            self._flushed(source)
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
        self._committer.put(Batch([self.prepare(Put(group, record, ttl, stores))]))

    def get(
        self, group: str, identifier: object, *, features: Sequence[str] = ()
    ) -> dict[str, Value] | None:
        """See FeatureStore.get."""
        found = self.batch_get([Get(group, [identifier], tuple(features))])
        return found[0].record if found else None

    def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        now = self._now()
        groups = self.registry.current()
        if any(asked.group not in groups for asked in requests):
            return self._batch_get_with_windows(requests, groups)
        entries = [readable(groups, asked.group, asked.features) for asked in requests]
        texts = [
            [record_rules.identifier_text(entry.group, i) for i in asked.identifiers]
            for entry, asked in zip(entries, requests, strict=True)
        ]
        wanted = [
            (entry.number, [text.encode() for text in names])
            for entry, names in zip(entries, texts, strict=True)
        ]
        found: list[Found] = []
        for entry, asked, identifiers, answer in zip(
            entries, requests, texts, self.online.get_many(wanted), strict=True
        ):
            if isinstance(answer, FeatureStoreError):
                raise answer
            features = asked.features or None
            found.extend(
                Found(asked.group, text, convert.decode_record(value.record, features))
                for text, value in zip(identifiers, self.sealing.open(entry, answer), strict=True)
                if value is not None and value.is_readable(now)
            )
        return found

    def get_table(
        self, group: str, identifiers: Iterable[object], *, features: Sequence[str] = ()
    ) -> pa.Table:
        """See FeatureStore.get_table."""
        groups = self.registry.current()
        windowed = None if group in groups else self.registry.windows().get(group)
        if windowed is not None:
            schema = windowed.windows.schema
            check_readable(schema, features)
            texts = self.windowed.texts(windowed, arrow_values(identifiers))
            return convert.records_to_table(
                schema, texts, list(self.windowed.records(windowed, texts, features)), features
            )
        entry = readable(groups, group, features)
        texts = identifier_texts(entry.group, identifiers)
        now = self._now()
        records: list[bytes | None] = []
        for start in range(0, len(texts), TABLE_CHUNK):
            keys = [text.encode() for text in texts[start : start + TABLE_CHUNK]]
            records.extend(
                value.record if value is not None and value.is_readable(now) else None
                for value in self._stored(entry, keys)
            )
        return convert.records_to_table(entry.group, texts, records, features)

    def _batch_get_with_windows(
        self, requests: Sequence[Get], groups: Mapping[str, Registered]
    ) -> list[Found]:
        """Read windowed groups one by one; what is neither kind of group is not found."""
        windowed = self.registry.windows()
        found: list[Found] = []
        for asked in requests:
            entry = None if asked.group in groups else windowed.get(asked.group)
            if entry is None:
                readable(groups, asked.group, asked.features)
                found.extend(self.batch_get([asked]))
                continue
            check_readable(entry.windows.schema, asked.features)
            texts = self.windowed.texts(entry, arrow_values(asked.identifiers))
            wanted = asked.features
            for text, record in zip(texts, self.windowed.read(entry, texts), strict=True):
                chosen = {n: v for n, v in record.items() if not wanted or n in wanted}
                found.append(Found(asked.group, text, chosen))
        return found

    def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.batch_write."""
        if not entries and position is None:
            raise InvalidRequest("entries: expected at least one record in the batch, got none")
        writes: list[Write] = []
        errors: list[WriteError] = []
        groups = self.registry.current()
        for index, entry in enumerate(entries):
            try:
                if isinstance(entry, Delete):
                    writes.append(self._soft_delete(named(groups, entry.group), entry))
                else:
                    writes.append(self._prepare_put(groups, entry))
            except (InvalidRequest, FeatureGroupNotFound) as error:
                errors.append(write_error(index, len(entries), error))
        self.commit(writes, position)
        return errors

    def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.put_checked."""
        if not batch and position is None:
            raise InvalidRequest("batch: expected at least one accepted record, got none")
        entry = self.registry.get(batch.group.name)
        encoded, now = batch.encoded, self._now()
        errors: list[WriteError] = []
        if entry.group == batch.group:
            puts, rows = self._puts(entry, encoded, None, now), encoded.rows
        else:
            checked = check_records(
                entry.group, encoded.records, now=now, tolerance_us=self._tolerance_us
            )
            puts, rows = self._puts(entry, checked, None, now), encoded.rows[checked.rows]
            errors = [
                WriteError(int(encoded.rows[place]), type(error).__name__, error.message)
                for place, error in checked.refused
            ]
        if not batch.deletes:
            self.commit(puts, position)
            return errors
        numbered: list[tuple[int, Write]] = list(zip(rows.tolist(), puts, strict=True))
        for number, delete in batch.deletes:
            try:
                write = self._soft_delete(entry, delete)
            except InvalidRecord as error:
                errors.append(WriteError(number, type(error).__name__, error.message))
            else:
                numbered.append((number, write))
        numbered.sort(key=itemgetter(0))
        self.commit([write for _, write in numbered], position)
        return sorted(errors, key=attrgetter("index"))

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
            result = self._put_rows(entry, table, position, on_progress)
            job.property("rows", result.rows)
            job.property("refused", len(result.errors))
        return result

    def _put_rows(
        self,
        entry: Registered,
        table: Any,
        position: SourcePosition | None,
        on_progress: Callable[[int], None] | None,
    ) -> PutResult:
        group = entry.group.name
        rows = 0
        errors: list[WriteError] = []
        waiting: list[PutColumns] = []
        for batch in record_batches(table):
            now = self._now()
            encoded = encode_batch(entry.group, batch, now=now, tolerance_us=self._tolerance_us)
            waiting.append(self._puts(entry, encoded, None, now))
            errors.extend(
                WriteError(rows + row, type(error).__name__, f"{error} (row {rows + row})")
                for row, error in encoded.refused
            )
            rows += len(batch)
            if position is None:
                self.commit(waiting.pop(), None)
            if on_progress is not None:
                on_progress(rows)
        if rows == 0:
            raise InvalidRequest(f"{group}: expected a table with rows, got an empty one")
        if waiting:
            self.commit(PutColumns.join(waiting), position)
        return PutResult(rows - len(errors), errors)

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
        while True:
            # Another writer may put a newer version between the look and the write: look again.
            entry = self.registry.get(group)
            write = self.prepare_update(entry, identifier, features, ttl, stores)
            if self._committer.put(Batch([write]))[0] is not Outcome.CHANGED:
                return

    def delete(
        self, group: str, identifier: object, *, event_time: object, hard: bool = False
    ) -> None:
        """See FeatureStore.delete."""
        entry = self.registry.get(group)
        write = self.prepare_delete(entry, identifier, event_time, hard=hard)
        if self._committer.put(Batch([write]))[0] is Outcome.REFUSED:
            raise refused_delete(entry, write)

    def records(self, group: str, *, include_soft_deleted: bool = False) -> Iterator[str]:
        """See FeatureStore.records."""
        entry = self.registry.get(group)
        after: bytes | None = None
        while True:
            identifiers, after = self.list_page(
                entry, after=after, limit=_LIST_CHUNK, include_soft_deleted=include_soft_deleted
            )
            yield from identifiers
            if after is None:
                return

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
        return {entry.group.name: self._flush(entry) for entry in entries if entry.group.offline}

    def verify(
        self,
        group: str,
        *,
        on_progress: Callable[[int], None] | None = None,
        memory_limit: int | str = verify.MEMORY_LIMIT,
    ) -> verify.VerifyReport:
        """See FeatureStore.verify; `memory_limit` is for the sort of the offline rows."""
        groups = self.registry.current()
        if group not in groups and group in self.registry.windows():
            return self.windowed.verify(group)
        limit = memory_bytes(memory_limit)
        entry = named(groups, group)
        if not (entry.group.online and entry.group.offline):
            raise InvalidRequest(f"{group}: only a group with both stores can be verified")
        self._flush(entry)
        with spill_folder(self.home, "verify") as spill:
            return verify.verify(
                self.online,
                entry,
                self.offline_table(entry).scan(),
                opened=partial(self.sealing.open, entry),
                now=self._now(),
                memory_bytes=limit,
                spill=spill,
                on_progress=on_progress,
            )

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
        check_engine(engine, spark, threads=threads)
        rows = read_spine(spine)
        resolved = self._resolve(selections(features), engine)
        dataset = build(
            rows,
            resolved,
            engine=engine,
            time=time,
            as_of_us=moment_us(as_of),
            threads=threads,
            session=spark,
        )
        name = spine_name or name_of(spine)
        return self._recorded(dataset, resolved, name, rebuilt=False)

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
        groups = self.registry.current()
        entry = groups.get(group)
        return read_as_of(
            FeatureSelection(group, tuple(features), lookback=lookback),
            identifiers,
            times,
            schema_of=lambda: (
                self.windowed.get(group).windows.schema if entry is None else entry.group
            ),
            stored=None
            if entry is None or not entry.group.online
            else partial(self._stored, entry),
            resolved=lambda asked: self._resolve([asked])[0],
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
        resolved = self._resolve(selections(features))
        return explain(read_spine(spine), resolved, time=time, as_of_us=moment_us(as_of))

    def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """See FeatureStore.run_builder."""
        built, resolved = builderquery.build(options, rows, self._resolve_plain)
        uid = record_builder(self.graph, built.manifest, resolved)
        return replace(built, manifest={**built.manifest, "lineage": {"uid": uid}})

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
        check_engine(
            engine, spark, memory_limit=memory_limit, threads=threads, on_progress=on_progress
        )
        resolved = self._resolve(selections(features), engine)
        name = spine_name or name_of(spine)
        return write(
            spine,
            resolved,
            Path(path),
            engine=engine,
            time=time,
            as_of_us=moment_us(as_of),
            recorded=lambda manifest: self._with_lineage(manifest, resolved, name, rebuilt=False),
            memory_limit=memory_limit,
            threads=threads,
            on_progress=on_progress,
            session=spark,
        )

    def save_dataset(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        return self.saved.save(dataset, now=eventtime.to_datetime(self._now()))

    def load_dataset(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        return replace(self.saved.load(fingerprint), keeper=self)

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
        manifest = self.saved.find(fingerprint).manifest
        dataset, resolved = rebuild(
            manifest,
            self.saved.spine(manifest),
            partial(self.resolve_manifest, engine=engine),
            threads=threads,
            engine=engine,
            session=spark,
        )
        name = str(manifest.get("lineage", {}).get("spine", ""))
        return self._recorded(dataset, resolved, name, rebuilt=True)

    def list_datasets(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        return self.saved.list()

    def describe_dataset(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        return self.saved.find(fingerprint)

    def check_dataset(
        self, dataset: Dataset, *, rows: int | None = None, seed: int = 0
    ) -> CheckReport:
        """See FeatureStore.check_dataset."""
        resolved = self.resolve_manifest(dataset.manifest)
        return check_dataset(dataset, resolved, rows=rows, seed=seed)

    @cached_property
    def windowed(self) -> WindowedGroups:
        """The windowed groups of the home."""
        return WindowedGroups(
            self.registry,
            self.online,
            flushed=self._flushed,
            recorded=lambda group: record_windowed_group(self.graph, group),
            spill=self.home / "spill",
            now=self._now,
        )

    @cached_property
    def saved(self) -> SavedDatasets:
        """The datasets that are kept in the home."""
        return SavedDatasets(self.home / "artifacts")

    def _recorded(
        self, dataset: Dataset, resolved: list[Resolved], spine_name: str, *, rebuilt: bool
    ) -> Dataset:
        manifest = self._with_lineage(dataset.manifest, resolved, spine_name, rebuilt=rebuilt)
        return replace(dataset, manifest=manifest, keeper=self)

    def _with_lineage(
        self,
        manifest: Mapping[str, Any],
        resolved: list[Resolved],
        spine_name: str,
        *,
        rebuilt: bool,
    ) -> dict[str, Any]:
        uid = record_dataset(self.graph, manifest, resolved, spine_name=spine_name, rebuilt=rebuilt)
        source = {"spine": spine_name} if spine_name else {}
        return {**manifest, "lineage": {"uid": uid, **source}}

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
        named = source or name_of(data)
        result = load(self.stores, group, data, key=key, source=named, on_progress=on_progress)
        self._fill_windows(group, on_progress)
        return result

    def backfill(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.backfill."""
        self.registry.get(group)
        with recorded_work(self.graph, "Backfill", group, changes=False) as job:
            report = backfill(self.stores, group, on_progress=on_progress)
            self._fill_windows(group, on_progress)
            job.property("table_version", report.version)
            job.property("written", report.written)
            job.property("removed", report.removed)
        return report

    def rebuild_online(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.rebuild_online."""
        self.registry.get(group)
        with recorded_work(self.graph, "Rebuild", group, changes=False) as job:
            report = rebuild_online(self.stores, group, on_progress=on_progress)
            self._fill_windows(group, on_progress)
            job.property("table_version", report.version)
            job.property("written", report.written)
            job.property("removed", report.removed)
        return report

    def _fill_windows(self, group: str, on_progress: Progress | None) -> None:
        """Take rows that came into a group by no put into the windowed groups made of it."""
        tell = on_progress or (lambda step, rows: None)
        source = self.registry.get(group)
        made = [w for w in self.registry.windows().values() if w.source.number == source.number]
        if not made:
            return
        with self._flusher.settling(source.number):
            with self.stores.appending(source) as (_, mark):
                pass  # every event up to the mark is in the table now
            for entry in made:
                self.windowed.fill(
                    entry.group.name, newest=mark, on_progress=partial(tell, "windows")
                )

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
        maintenance.check_retention(retention)
        entry = self._with_offline(group)
        table = self.offline_table(entry)
        with (
            recorded_work_that_begins(
                lambda: self.graph, "Maintenance", group, retention_s=retention.total_seconds()
            ) as work,
            self._flusher.maintaining(entry.number),
            spill_folder(self.home, "maintain") as spill,
        ):
            report = maintenance.maintain(
                table,
                group,
                identifier=entry.group.record_identifier,
                retention=retention,
                zorder=zorder,
                spill=spill,
                flushes_paused=lambda: self._flusher.paused(entry.number),
                pinned=lambda: versions_in_use(self.graph, table.uri, younger_than=retention),
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
        entry = self._with_offline(group)
        with self._flusher.maintaining(entry.number):
            return maintenance.vacuum_unpinned(
                self.offline_table(entry),
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
        entry = self._with_offline(group)
        for feature in features:
            entry.group.feature_type(feature)
        if version is None:
            self._flush(entry)
        snapshot = self.offline_table(entry).scan(version=version)
        return history.read_history(entry.group, snapshot, as_of=as_of, features=features)

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
        return history.versions(self.offline_table(self._with_offline(group)), limit=limit)

    def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        entry = self._with_offline(group)
        with (
            recorded_work(self.graph, "Restore", group, changes=True, restored=version) as job,
            self._flusher.maintaining(entry.number),
            self._flusher.paused(entry.number),
        ):
            made = history.restore(self.offline_table(entry), version)
            job.property("table_version", made)
            return made

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
            self._flush,
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
            self.registry.get, self.offline_table, self.saved, self.resolve_manifest, self.graph
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
        with_keys = self.sealing.numbers()
        # One that was deleted just now is being ended by the process that did it.
        if with_keys:
            for entry in self.registry.deleted(before=self._now() - _DELETE_US):
                if entry.number in with_keys:
                    self._end_group(entry)
        if self.online.windows is not None:
            self.online.windows.sweep(self._now())
        return sum(
            sweep_group(
                self.online, self._committer.put, entry.number, now=self._now(), pause=pause
            )
            for entry in self.registry.list()
            if entry.group.online
        )

    def close(self) -> None:
        """See FeatureStore.close."""
        self.online.close()
        self.sealing.close()
        self.registry.close()
        graph = self.__dict__.pop("graph", None)
        if graph is not None:
            graph.close()

    # -- for the server and the command line --------------------------------------------------

    def prepare(self, put: Put) -> Write:
        """Check one record and make the write of it.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRecord: the record does not fit it.
        """
        return self._prepare_put(self.registry.current(), put)

    def prepare_message(
        self, entry: Registered, message: Any, ttl: Ttl | None, stores: tuple[str, ...] | None
    ) -> Write:
        """Check one record as it came over the wire and make the write of it."""
        now = self._now()
        identifier, event_time, data = convert.check_message(
            entry.group, message, now=now, tolerance_us=self._tolerance_us
        )
        return self._put(entry, identifier, event_time, data, ttl, stores, now)

    def prepare_records(
        self, entry: Registered, records: Sequence[bytes], ttl: Ttl | None
    ) -> tuple[PutColumns, list[tuple[int, InvalidRecord]]]:
        """Check many records as they came over the wire and make the writes of them.

        Returns:
            The writes, in order, and number and reason of each refused record.
        """
        now = self._now()
        checked = check_records(entry.group, records, now=now, tolerance_us=self._tolerance_us)
        return self._puts(entry, checked, ttl, now), checked.refused

    def prepare_update(
        self,
        entry: Registered,
        identifier: object,
        features: Mapping[str, object],
        ttl: Ttl | None,
        stores: tuple[str, ...] | None,
    ) -> Write:
        """Apply a partial update to the stored version and make the write of it.

        The write is compare-and-set: where it comes out as CHANGED, prepare it again.
        """
        group = entry.group
        online, offline = _targets(group, stores)
        if not group.online:
            raise InvalidRequest(
                f"{group.name}: the group has no online store, so there is no record to update; "
                f"put whole records"
            )
        text = record_rules.identifier_text(group, identifier)
        stored = self._stored(entry, [text.encode()])[0]
        now = self._now()
        updated = merge(
            group, text, stored, features, ttl, now=now, tolerance_us=self._tolerance_us
        )
        assert stored is not None
        return Write(
            entry.number,
            text.encode(),
            updated.event_time_us,
            self.sealing.seal(entry, text.encode(), updated.record),
            0,
            updated.expires_us,
            entry.version,
            now,
            online,
            offline,
            stored.sequence,
        )

    def prepare_delete(
        self,
        entry: Registered,
        identifier: object,
        event_time: object,
        *,
        hard: bool,
        stores: tuple[str, ...] | None = None,
    ) -> Write:
        """Make the write of a delete: a tombstone online, a marker offline."""
        group = entry.group
        online, offline = _targets(group, stores)
        marker = record_rules.check(
            group,
            {
                group.record_identifier: identifier,
                group.event_time: event_time,
            },
            now=self._now(),
            tolerance_us=self._tolerance_us,
        )
        key = marker.identifier.encode()
        data = convert.encode_record(marker.values, group.collections)
        return Write(
            entry.number,
            key,
            marker.event_time_us,
            self.sealing.seal(entry, key, data),
            DELETED | HARD if hard else DELETED,
            NEVER,
            entry.version,
            self._now(),
            online,
            offline,
        )

    def _soft_delete(self, entry: Registered, delete: Delete) -> Write:
        return self.prepare_delete(
            entry, delete.identifier, delete.event_time, hard=False, stores=delete.stores
        )

    def commit(self, writes: Sequence[Write], position: SourcePosition | None) -> None:
        """Store checked writes, and a position with them, in one transaction."""
        if writes or position is not None:
            self._committer.put(Batch(writes, position))

    def list_page(
        self, entry: Registered, *, after: bytes | None, limit: int, include_soft_deleted: bool
    ) -> tuple[list[str], bytes | None]:
        """Return one page of identifiers and the key to go on from, None at the end."""
        now = self._now()
        values = self.online.scan(entry.number, after=after, limit=limit)
        identifiers = [
            value.identifier.decode()
            for _, value in values
            if value.is_readable(now)
            or (include_soft_deleted and value.is_deleted and not value.flags & HARD)
        ]
        return identifiers, values[-1][0] if len(values) == limit else None

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
        resolved = []
        for body in manifest["selections"]:
            definition = body.get("windows")
            windowed = None if definition is None else WindowedGroup.from_json(definition)
            entry = self.registry.get(body["group"] if windowed is None else windowed.source)
            version = manifest["versions"][body["group"]]
            snapshot = None
            if version is not None:
                snapshot = self.offline_table(entry, engine=engine).scan(version=version)
            table = manifest["tables"].get(body["group"])
            if snapshot is not None and snapshot.content_hash != table["content_hash"]:
                raise InvalidRequest(
                    f"{body['group']}: version {version} of {snapshot.uri} is not the table the "
                    f"dataset was built from ({table['uri']}); was the group created anew?"
                )
            lookback_us = body["lookback_us"]
            selection = FeatureSelection(
                body["group"],
                tuple(body["features"]),
                key=body["key"],
                prefix=body["prefix"],
                lookback=None if lookback_us is None else dt.timedelta(microseconds=lookback_us),
                version=version,
            )
            if windowed is not None:
                windows = Windows(windowed, entry.group)
                resolved.append(Resolved(selection, windows.schema, snapshot, windows))
                continue
            group = entry.group
            if not selection.features:  # it had none, so that features added since are not it
                bare = (group.record_identifier, group.event_time)
                group = replace(group, features=tuple(f for f in group.features if f.name in bare))
            resolved.append(Resolved(selection, group, snapshot))
        return resolved

    def offline_table(self, entry: Registered, *, engine: Engine = "duckdb") -> DeltaOfflineTable:
        """Return the offline table of a group; Spark's executors read files where they lie."""
        uri = self._offline_uri(entry)
        cache = FileCache(self.home / "cache" / "offline") if engine == "duckdb" else None
        return DeltaOfflineTable(uri, storage_options=environment_options(uri), cache=cache)

    def _prepare_put(self, groups: Mapping[str, Registered], put: Put) -> Write:
        ttl = put.ttl
        if ttl is not None and not isinstance(ttl, Ttl):
            raise InvalidRequest(f"{put.group}: expected a Ttl, got {ttl!r}")
        return self._prepare(named(groups, put.group), put.record, ttl, put.stores, self._now())

    def _prepare(
        self,
        entry: Registered,
        record: Mapping[str, object],
        ttl: Ttl | None,
        stores: tuple[str, ...] | None,
        now: int,
    ) -> Write:
        checked = record_rules.check(entry.group, record, now=now, tolerance_us=self._tolerance_us)
        data = convert.checked_size(
            entry.group, convert.encode_record(checked.values, entry.group.collections)
        )
        return self._put(entry, checked.identifier, checked.event_time_us, data, ttl, stores, now)

    def _stored(
        self, entry: Registered, identifiers: Sequence[bytes]
    ) -> Sequence[StoredValue | None]:
        """Return the stored versions of identifiers, with their records in clear."""
        return self.sealing.open(entry, self.online.get(entry.number, identifiers))

    def _put(
        self,
        entry: Registered,
        identifier: str,
        event_time_us: int,
        data: bytes,
        ttl: Ttl | None,
        stores: tuple[str, ...] | None,
        now: int,
    ) -> Write:
        """Make the write of a checked record."""
        online, offline = _targets(entry.group, stores)
        ttl = ttl or entry.group.ttl
        # A ttl that ends after the last event time there is never ends.
        ends = None if ttl is None else event_time_us + ttl.us
        key = identifier.encode()
        return Write(
            entry.number,
            key,
            event_time_us,
            self.sealing.seal(entry, key, data) if entry.group.kms_key else data,
            0,
            NEVER if ends is None or ends > eventtime.MAX_US else ends,
            entry.version,
            now,
            online,
            offline,
        )

    def _puts(self, entry: Registered, encoded: Encoded, ttl: Ttl | None, now: int) -> PutColumns:
        """Make the writes of many checked records of one group: `_put` by the column."""
        group = entry.group
        return PutColumns(
            entry.number,
            encoded.identifiers,
            encoded.event_times_us,
            self.sealing.seal_all(entry, encoded.identifiers, encoded.records),
            expiries(ttl or group.ttl, encoded.event_times_us),
            entry.version,
            now,
            group.online,
            group.offline,
        )

    def _resolve(
        self, asked: Sequence[FeatureSelection], engine: Engine = "duckdb"
    ) -> list[Resolved]:
        """Find what selections refer to; those of one group share one table version."""
        resolved: list[Resolved] = []
        first: dict[str, Resolved] = {}
        for selection in asked:
            found = first.get(selection.group)
            if found is None:
                found = first[selection.group] = self._resolve_one(selection, engine)
            elif found.selection.version != selection.version:
                raise InvalidRequest(
                    f"{selection.group}: expected one table version in a dataset, got "
                    f"{found.selection.version} and {selection.version} (None: the newest)"
                )
            if found.windows is not None and selection.lookback is not None:
                raise InvalidRequest(
                    f"{selection.group}: expected no lookback for a windowed group, got "
                    f"{selection.lookback}; its windows say how far back each feature sees"
                )
            resolved.append(replace(found, selection=selection))
        return resolved

    def _resolve_one(self, selection: FeatureSelection, engine: Engine = "duckdb") -> Resolved:
        groups = self.registry.current()
        name = selection.group
        windowed = None if name in groups else self.registry.windows().get(name)
        entry = named(groups, name) if windowed is None else windowed.source
        if not entry.group.offline:
            raise InvalidRequest(f"{name}: the group has no offline store to join with")
        if selection.version is None:
            snapshot = self._flushed(entry, engine)
        else:
            snapshot = self.offline_table(entry, engine=engine).scan(version=selection.version)
        if windowed is None:
            return Resolved(selection, entry.group, snapshot)
        return Resolved(selection, windowed.windows.schema, snapshot, windowed.windows)

    def _resolve_plain(self, name: str) -> Resolved:
        self.registry.get(name)  # a windowed group has no rows of its own to join
        return self._resolve_one(FeatureSelection(name))

    def _flushed(self, entry: Registered, engine: Engine = "duckdb") -> Snapshot | None:
        table = self.offline_table(entry, engine=engine)
        with table.held():  # from the flush's first look at it on, which is under its lock
            self._flush(entry, table)
            return table.scan()

    def _with_offline(self, name: str) -> Registered:
        entry = self.registry.get(name)
        if not entry.group.offline:
            raise InvalidRequest(f"{name}: the group has no offline store; there is no table")
        return entry

    def _flush(self, entry: Registered, table: DeltaOfflineTable | None = None) -> Flushed:
        name = entry.group.name
        # A writer that was killed in its commit may leave a state that readers of LMDB see only
        # after the next writer: without this a flush would miss what a later read returns.
        self.online.put(())
        try:
            return self._flusher.flush(
                lambda: self.registry.get(name), table or self.offline_table(entry)
            )
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            kind = StoreFull if full else StoreUnavailable
            raise kind(
                f"{name}: the flush could not write: {error}; the records wait in the outbox"
            ) from error

    def _changed(self, name: str, change: Callable[[FeatureGroup], FeatureGroup]) -> Description:
        return self._described(
            self.registry.update(name, change, now=self._now(), also=self._record_group)
        )

    def _described(self, entry: Registered) -> Description:
        return Description(
            entry.group,
            entry.version,
            eventtime.to_datetime(entry.created_us),
            eventtime.to_datetime(entry.modified_us),
            self._offline_uri(entry) if entry.group.offline else "",
        )

    def _offline_uri(self, entry: Registered) -> str:
        place = entry.group.offline_place
        if not place:
            return str(self.home / "offline" / entry.offline_folder)
        # Several homes may share a prefix: the moment of creation tells their tables apart.
        return f"{place.rstrip('/')}/{entry.offline_folder}-{entry.created_us}"

    def _begin_group(self, entry: Registered) -> None:
        self.sealing.create(entry)  # first: without a key nothing is told of the group
        self._record_group(entry)

    def _end_group(self, entry: Registered) -> None:
        # Records acknowledged until the delete reach the table, before the drop takes the outbox.
        self._flusher.flush(lambda: entry, self.offline_table(entry))
        self.sealing.destroy(entry)
        self.online.drop(entry.number)

    def _record_group(self, entry: Registered) -> None:
        record_feature_group(self.graph, entry, self._offline_uri(entry))


def readable(groups: Mapping[str, Registered], name: str, features: Sequence[str]) -> Registered:
    """Return a group whose records can be read online, with the asked features known.

    Raises:
        FeatureGroupNotFound, FeatureNotFound: what the request names does not exist.
        InvalidRequest: the group has no online store.
    """
    entry = named(groups, name)
    check_readable(entry.group, features)
    return entry


def check_readable(group: FeatureGroup, features: Sequence[str]) -> None:
    """Check that a group's records can be read online, and has the asked features.

    Raises:
        FeatureNotFound: the group lacks a feature.
        InvalidRequest: the group has no online store.
    """
    if not group.online:
        raise InvalidRequest(
            f"{group.name}: the group has no online store to read from; build a dataset instead"
        )
    for feature in features:
        group.feature_type(feature)


def identifier_texts(group: FeatureGroup, identifiers: Iterable[object]) -> list[str]:
    """Return record identifiers as the texts they are stored under.

    Raises:
        InvalidRecord: one is null or has another type.
    """
    return [record_rules.identifier_text(group, each) for each in arrow_values(identifiers)]


def arrow_values(values: Iterable[object]) -> Iterable[object]:
    """Return values given as an Arrow array as Python's, others as they are."""
    return values.to_pylist() if isinstance(values, pa.Array | pa.ChunkedArray) else values


def write_error(index: int, total: int, error: FeatureStoreError) -> WriteError:
    """Say which record of a batch was refused and why."""
    return WriteError(
        index, type(error).__name__, f"{error.message} (record {index + 1} of {total})"
    )


def refused_delete(entry: Registered, write: Write) -> InvalidRecord:
    """Build the error of a hard delete that is not later than the stored record."""
    return InvalidRecord(
        f"{entry.group.name}: a hard delete of {write.identifier.decode()!r} must have a later "
        f"event time than the stored record, got {eventtime.format_iso(write.event_time_us)}",
        group=entry.group.name,
        feature=entry.group.event_time,
    )


def record_batches(
    table: Any, rows: int = TABLE_CHUNK, size_bytes: int = TABLE_CHUNK_BYTES
) -> Iterator[pa.RecordBatch]:
    """Read anything with the Arrow C stream interface as batches, not larger than asked.

    Args:
        table: a table, a record batch, a reader, pandas or Polars; small batches are joined.
        rows: at most so many in a batch.
        size_bytes: at most so large is a batch of more than one row.
    """
    waiting: list[pa.RecordBatch] = []
    held = held_bytes = 0
    for batch in map(without_views, _stream(table)):
        pieces = max(1, -(-batch.nbytes // size_bytes))
        step = max(1, min(rows, -(-len(batch) // pieces)))
        for start in range(0, len(batch), step):
            part = batch.slice(start, step)
            if waiting and (held + len(part) > rows or held_bytes + part.nbytes > size_bytes):
                yield pa.concat_batches(waiting)
                waiting, held, held_bytes = [], 0, 0
            waiting.append(part)
            held += len(part)
            held_bytes += part.nbytes
    if waiting:
        yield pa.concat_batches(waiting)


def _stream(table: Any) -> Iterator[pa.RecordBatch]:
    if isinstance(table, pa.RecordBatch):
        yield table
        return
    if isinstance(table, pa.Table):
        yield from table.to_batches()
        return
    if not hasattr(table, "__arrow_c_stream__"):
        raise InvalidRequest(
            f"expected an Arrow table or reader, pandas or Polars, got {type(table).__name__}"
        )
    yield from pa.RecordBatchReader.from_stream(table)


def _targets(group: FeatureGroup, stores: tuple[str, ...] | None) -> tuple[bool, bool]:
    """Return whether a write goes to the online and to the offline store."""
    if stores is None:
        return group.online, group.offline
    wanted = target_stores(group.name, stores)
    for store, has in ((Store.ONLINE, group.online), (Store.OFFLINE, group.offline)):
        if store in wanted and not has:
            raise InvalidRecord(
                f"{group.name}: target store {store.value} is not enabled for the group",
                group=group.name,
            )
    return Store.ONLINE in wanted, Store.OFFLINE in wanted


def target_stores(group: str, stores: Sequence[str]) -> set[Store]:
    """Read the stores a record shall go to.

    Raises:
        InvalidRecord: none, or another name than the two.
    """
    try:
        wanted = {Store(store) for store in stores}
    except ValueError:
        wanted = set()
    if not wanted:
        raise InvalidRecord(
            f"{group}: target stores: expected one or both of "
            f"{', '.join(store.value for store in Store)}, got {tuple(stores)!r}",
            group=group,
        )
    return wanted
