"""The feature store's verbs, the same embedded and over gRPC."""

from __future__ import annotations

import datetime as dt
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self, final

import pyarrow as pa

from featurestore.builder import BuilderOptions, BuiltDataset, DatasetBuilder, named_base, read_base
from featurestore.check import CheckReport
from featurestore.checked import CheckedBatch
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.erasure.report import ErasureReport
from featurestore.errors import FeatureGroupNotFound, InvalidRequest
from featurestore.feature import FeatureDefinition, Value
from featurestore.impact.report import ImpactReport
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.offline.flusher import Flushed
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import DEFAULT_RETENTION, MaintenanceReport
from featurestore.plan import DatasetPlan
from featurestore.position import SourcePosition
from featurestore.record import Delete, Put
from featurestore.saved import SavedDataset
from featurestore.schema import FeatureGroup, StorageType, Throughput, Ttl
from featurestore.search import Expression, Filter, Resource
from featurestore.streamed import WrittenDataset
from featurestore.verify import VerifyReport
from featurestore.window import WindowedGroup

__all__ = [
    "Description",
    "FeatureStore",
    "Found",
    "Get",
    "PutResult",
    "WindowedDescription",
    "WriteError",
]


@final
@dataclass(frozen=True, slots=True)
class WriteError:
    """Why one record of a batch was refused.

    Args:
        index: its place in the batch, from 0.
        code: name of the error's class.
        message: what was expected and what came.
    """

    index: int
    code: str
    message: str


@final
@dataclass(frozen=True, slots=True)
class PutResult:
    """What became of a table of records.

    Args:
        rows: records stored.
        errors: records refused, by row number.
    """

    rows: int
    errors: list[WriteError]


@final
@dataclass(frozen=True, slots=True)
class Get:
    """Identifiers of one group to read.

    Args:
        group: the feature group.
        identifiers: what to read.
        features: names to return; none: all.
    """

    group: str
    identifiers: Sequence[object]
    features: tuple[str, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Found:
    """The latest record of one identifier."""

    group: str
    identifier: str
    record: dict[str, Value]


@final
@dataclass(frozen=True, slots=True)
class Description:
    """A feature group as the store knows it.

    Args:
        group: the newest definition.
        version: counts definitions, from 1.
        created: time of creation.
        modified: time of the last change.
        offline_uri: the Delta table; "" without an offline store.
    """

    group: FeatureGroup
    version: int
    created: dt.datetime
    modified: dt.datetime
    offline_uri: str

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's DescribeFeatureGroup, with our additions."""
        body = self.group.to_json()
        body.update(
            FeatureGroupStatus="Created",
            LastUpdateStatus={"Status": "Successful"},
            CreationTime=self.created.isoformat(),
            LastModifiedTime=self.modified.isoformat(),
            Version=self.version,
        )
        if self.offline_uri:
            body["OfflineStoreConfig"] = {**body["OfflineStoreConfig"], "Uri": self.offline_uri}
        return body


@final
@dataclass(frozen=True, slots=True)
class WindowedDescription:
    """A windowed group as the store knows it.

    Args:
        group: the definition.
        features: what it reads as: the key, the source's event time, then the windowed features.
        created: time of creation.
        is_filled: whether the events from before its creation are online; it can be read then.
    """

    group: WindowedGroup
    features: tuple[FeatureDefinition, ...]
    created: dt.datetime
    is_filled: bool

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        types = {feature.name: feature for feature in self.features}
        body = self.group.to_json()
        for entry in body["WindowedFeatures"]:
            feature = types[entry["FeatureName"]]
            entry["FeatureType"] = feature.type.value
            if feature.collection is not None:
                entry["CollectionType"] = feature.collection.value
        body["WindowedGroupStatus"] = "Created" if self.is_filled else "Creating"
        body["CreationTime"] = self.created.isoformat()
        return body


class FeatureStore(ABC):
    """Feature groups, records and datasets.

    `featurestore.open(home)` gives an embedded store, `featurestore.connect("host:port")` one on
    a server; both raise the same errors. A store is a context manager and may be used from many
    threads.
    """

    # -- feature groups -----------------------------------------------------------------------

    @abstractmethod
    def create_feature_group(self, group: FeatureGroup) -> Description:
        """Create a feature group.

        Raises:
            FeatureGroupExists: the name is taken.
        """

    @abstractmethod
    def describe(self, name: str) -> Description:
        """Return a feature group's definition, version and places.

        Raises:
            FeatureGroupNotFound: no such group.
        """

    def describe_feature_group(self, name: str) -> FeatureGroup:
        """Return a feature group's newest definition.

        Raises:
            FeatureGroupNotFound: no such group.
        """
        return self.describe(name).group

    @abstractmethod
    def list_feature_groups(self, *, name_contains: str = "") -> list[Description]:
        """Return the feature groups whose name contains a text, sorted by name."""

    @abstractmethod
    def add_features(self, name: str, features: Sequence[FeatureDefinition]) -> Description:
        """Add features to a group, as its next version. Old records read back without them.

        Raises:
            InvalidFeatureGroup: a name that exists or breaks a rule, or more than 100 additions.
        """

    @abstractmethod
    def set_ttl(self, name: str, ttl: Ttl | None) -> Description:
        """Change the time to live of records put from now on."""

    @abstractmethod
    def set_throughput(self, name: str, throughput: Throughput) -> Description:
        """Change what may be read and written a second; a server holds callers to it."""

    @abstractmethod
    def set_storage_type(self, name: str, storage_type: StorageType) -> Description:
        """Change the online storage type, from Standard to Standard_V2.

        Raises:
            InvalidFeatureGroup: any other change.
        """

    @abstractmethod
    def feature_metadata(self, group: str, feature: str) -> FeatureMetadata:
        """Return one feature with its description and parameters.

        Raises:
            FeatureGroupNotFound, FeatureNotFound: no such group or feature.
        """

    @abstractmethod
    def update_feature_metadata(
        self, group: str, feature: str, change: MetadataChange
    ) -> FeatureMetadata:
        """Change the description and parameters of one feature.

        Raises:
            FeatureGroupNotFound, FeatureNotFound: no such group or feature.
            InvalidRequest: there would be more than 25 parameters.
        """

    @abstractmethod
    def search(
        self,
        resource: Resource | str,
        expression: Expression | Filter | None = None,
        *,
        sort_by: str = "LastModifiedTime",
        descending: bool = True,
    ) -> list[Any]:
        """Return the feature groups, or the features, that fulfil an expression.

        Args:
            resource: `FeatureGroup` or `FeatureMetadata`.
            expression: None: all.
            sort_by: a property of the resource.
            descending: newest or greatest first.

        Returns:
            `Description` values for groups, `FeatureMetadata` values for features.

        Raises:
            InvalidRequest: an unknown property, or a value that does not fit it.
        """

    @abstractmethod
    def delete_feature_group(self, name: str) -> None:
        """Delete a group and its online records. Its offline table stays."""

    # -- windowed features --------------------------------------------------------------------

    @abstractmethod
    def create_windowed_group(self, group: WindowedGroup) -> WindowedDescription:
        """Create a windowed group: from now on every record put to its source is an event.

        Events from before are taken in from the offline store before this returns; when that was
        cut off, the same call goes on with it. The group is then read like a feature group: by
        `get`, `batch_get` and `get_table` as of now, and in a `dataset` as of each row's time.

        Raises:
            FeatureGroupExists: the name is taken, by a feature group or a windowed one.
            FeatureGroupNotFound, FeatureNotFound: the source does not exist, or lacks a feature.
            InvalidFeatureGroup: the source cannot be aggregated so.
            InvalidRequest: the online store keeps no windows (Redis).
        """

    @abstractmethod
    def describe_windowed_group(self, name: str) -> WindowedDescription:
        """Return a windowed group.

        Raises:
            FeatureGroupNotFound: no such windowed group.
        """

    @abstractmethod
    def list_windowed_groups(self) -> list[WindowedDescription]:
        """Return the windowed groups, sorted by name."""

    @abstractmethod
    def delete_windowed_group(self, name: str) -> None:
        """Delete a windowed group and what is kept of it online; its source stays as it is.

        Raises:
            FeatureGroupNotFound: no such windowed group.
        """

    @abstractmethod
    def fill_windowed_group(self, name: str) -> int:
        """Take the events of the offline store into the online store, where it lacks them.

        For an online store that was lost, or a source whose rows came to the offline store in
        another way than by puts. Puts and reads go on meanwhile.

        Returns:
            How many events the offline store has within the group's reach.

        Raises:
            FeatureGroupNotFound: no such windowed group.
        """

    @abstractmethod
    def get_windows(
        self, group: str, keys: Iterable[object], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """Return the windowed features of keys as of a time.

        Args:
            group: the windowed group.
            keys: values of the feature that it is `by`.
            at: as of when; None: now. Earlier by no more than the group's retention.

        Returns:
            One record per key in the order asked, with the key; a feature that is null is absent.

        Raises:
            FeatureGroupNotFound: no such windowed group.
            InvalidRecord: a key is null or has another type.
            InvalidRequest: `at` is before what is kept online.
        """

    def group(self, name: str) -> FeatureSelection:
        """Return a selection of features of a group, or of a windowed one, for `dataset`.

        `store.group("weather")["temp", "wind_speed"]`

        Raises:
            FeatureGroupNotFound: no such group, windowed or not.
        """
        try:
            return FeatureSelection(self.describe(name).group.name)
        except FeatureGroupNotFound:
            if name not in {entry.group.name for entry in self.list_windowed_groups()}:
                raise
            return FeatureSelection(name)

    # -- records ------------------------------------------------------------------------------

    @abstractmethod
    def put(
        self,
        group: str,
        record: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """Put one record; it is durable in both stores when this returns.

        Replaces the whole record: features not given become null. The newest event time stays
        the latest, in any order of arrival; an older record goes to the offline store only.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRecord: the record does not fit it.
        """

    @abstractmethod
    def get(
        self, group: str, identifier: object, *, features: Sequence[str] = ()
    ) -> dict[str, Value] | None:
        """Return the latest record, or None when there is none, it was deleted or it expired.

        Raises:
            FeatureGroupNotFound: no such group.
            FeatureNotFound: `features` names one the group lacks.
        """

    @abstractmethod
    def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """Return the latest records of many identifiers in many groups.

        In the order asked; identifiers without a record are left out.
        """

    @abstractmethod
    def get_table(
        self, group: str, identifiers: Iterable[object], *, features: Sequence[str] = ()
    ) -> pa.Table:
        """Return the latest records of many identifiers of one group as an Arrow table.

        One row per identifier, in the order asked, equal ones too. Where there is no record, it
        was deleted or it expired, every feature is null but the record identifier.

        Args:
            group: the feature group.
            identifiers: values, or an Arrow array of them.
            features: columns to return, in this order; none: all, in the order of definition.

        Raises:
            FeatureGroupNotFound: no such group.
            FeatureNotFound: `features` names one the group lacks.
            InvalidRecord: an identifier is null or has another type.
        """

    @abstractmethod
    def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """Put and delete records, and store a source's position, in one transaction.

        Good records are stored although others are refused. Of entries of
        one record with equal event times the last record counts, and no deletion.

        Returns:
            One error per refused record, in order.

        Raises:
            PositionConflict: the source stands elsewhere; nothing was written.
            InvalidRequest: no entries and no position.
        """

    @abstractmethod
    def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """Put and delete what was checked already, and store a source's position with it.

        For writers that must know before the transaction what is refused. The same as
        `batch_write` of the accepted entries, without checking them a second time where the store
        is at hand.

        Args:
            batch: from `check_batch`, against the group as `describe_feature_group` gave it.
            position: stored in the same transaction.

        Returns:
            One error per entry that is refused all the same, since the group or the clock has
            changed after the check; by the numbers of what was checked.

        Raises:
            PositionConflict: the source stands elsewhere; nothing was written.
            FeatureGroupNotFound: the group is gone.
            InvalidRequest: nothing was accepted and there is no position.
        """

    @abstractmethod
    def put_table(
        self,
        group: str,
        table: Any,
        *,
        position: SourcePosition | None = None,
        source: str = "",
        on_progress: Callable[[int], None] | None = None,
    ) -> PutResult:
        """Put the rows of an Arrow table, record batch reader, or anything that offers one.

        Args:
            group: the feature group.
            table: columns named like features, one record per row.
            position: stored with the rows, which then go in one transaction.
            source: uri of where the rows came from, for lineage, which records the load.
            on_progress: called with the number of rows settled so far.

        Raises:
            FeatureNotFound: a column is no feature of the group.
            InvalidRequest: the table has no rows.
        """

    @abstractmethod
    def update(
        self,
        group: str,
        identifier: object,
        features: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """Change up to 100 features of a stored record and keep the others.

        The offline store gets the whole record as it is afterwards. Without an event time among
        the features the stored one stays, and so does the stored time to live without a `ttl`.

        Args:
            group: the feature group.
            identifier: of the record.
            features: feature name → value; None makes a feature null.
            ttl: needs an event time among the features.
            stores: where the change goes; None: everywhere the group has a store.

        Raises:
            RecordNotFound: no such record, or it was deleted or has expired.
            RecordConflict: the stored record has a later event time.
            InvalidRecord: a value does not fit, or a ttl without an event time.
        """

    @abstractmethod
    def delete(
        self, group: str, identifier: object, *, event_time: object, hard: bool = False
    ) -> None:
        """Delete a record as of an event time; a marker goes to the offline store.

        A soft delete that is not later than the stored record leaves it readable, and still
        writes the marker.

        Raises:
            InvalidRecord: a hard delete that is not later than the stored record.
        """

    @abstractmethod
    def records(self, group: str, *, include_soft_deleted: bool = False) -> Iterator[str]:
        """Return the identifiers that can be read now, in the order of their bytes."""

    @abstractmethod
    def source_position(self, source: str) -> dict[str, int]:
        """Return where a source has to go on: partition → next position; empty when unknown."""

    @abstractmethod
    def move_source(
        self, source: str, positions: Mapping[str, int], *, expected: Mapping[str, int]
    ) -> dict[str, int]:
        """Move partitions of a source to other positions, back or on, with no records.

        Whoever reads the source learns of it when the store refuses its next batch, and goes on
        from the new position. The move is one action of lineage, type `Seek`, with where each
        partition stood, where it stands now, and who moved it.

        Args:
            source: its name.
            positions: partition → the next position to read; other partitions stay.
            expected: partition → where it was seen to stand; one that is moved and is not in it
                must have no position yet.

        Returns:
            The source's positions after the move.

        Raises:
            PositionConflict: a partition stands elsewhere by now; nothing was moved.
            InvalidRequest: no partition is moved, or one to a place that is none.
        """

    # -- offline store and datasets -----------------------------------------------------------

    @abstractmethod
    def flush(self, group: str | None = None) -> dict[str, Flushed]:
        """Move the outbox into the Delta tables, of one group or all; return when committed."""

    @abstractmethod
    def verify(
        self, group: str, *, on_progress: Callable[[int], None] | None = None
    ) -> VerifyReport:
        """Flush, then compare the online store with the latest rows of the offline store.

        Of a windowed group the features of each key are compared, as of now.

        Memory does not grow with the records; sorting the offline rows takes up to 512 MB, and
        space on the home's disk, which is free again afterwards.

        Args:
            group: a feature group with both stores.
            on_progress: called with the number of identifiers compared so far; of a store on a
                server, at the end.

        Raises:
            InvalidRequest: the group lacks one of the stores.
        """

    @abstractmethod
    def load(
        self,
        group: str,
        data: object,
        *,
        key: str,
        source: str = "",
        on_progress: Progress | None = None,
    ) -> LoadResult:
        """Load many rows: straight into the offline table, the latest ones online.

        Rows are checked as `put_table` checks them; refused ones are reported and the others are
        stored, in one commit. The same key again, by any process and after a kill at any point,
        finishes what is left, adds nothing twice and says `already`. Puts go on meanwhile; a flush
        of the group waits while the files are written.

        Args:
            group: the feature group; it needs an offline store.
            data: an Arrow table or reader, pandas, Polars or anything with the Arrow C stream
                interface, a DuckDB relation or query (a text that begins with SELECT, WITH or
                FROM), or a Parquet, CSV or Arrow file, or a folder or a list of such.
            key: names this load in this group for ever: 1 to 200 printable characters.
            source: uri of where the rows came from, for lineage; by default the file's path.
            on_progress: called with the step (`read`, `write`, `online`) and the rows done in it.

        Raises:
            FeatureNotFound: a column is no feature of the group.
            InvalidRecord: a column has a type that no row of it can have.
            InvalidRequest: there are no rows, they cannot be read, or the key was used for others.
            StoreUnavailable, StoreFull: a store could not be written; load again with the key.
        """

    @abstractmethod
    def backfill(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """Bring what the offline table has online, where nothing or something older is.

        At one event time the offline version counts, but for a put that still waits for its
        flush. Markers and expired records go online as tombstones, so that a late older put does
        not bring a record back. A killed backfill goes on where it stopped, and puts, flushes and
        reads go on meanwhile.

        Args:
            group: the feature group; it needs both stores.
            on_progress: called with `online` and the identifiers done.

        Raises:
            InvalidRequest: the group lacks a store.
        """

    @abstractmethod
    def rebuild_online(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """Make the online store of a group anew from the offline table, after loss or damage.

        As `backfill`, but every version that was flushed gives way to the offline one, also a
        newer one, and what the offline table does not know is hidden. What waited in a lost
        outbox is lost. All deletes count as soft ones.
        """

    def offline_uri(self, group: str) -> str:
        """Return the folder or uri of a group's Delta table."""
        return self.describe(group).offline_uri

    @abstractmethod
    def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
    ) -> Dataset:
        """Build a point-in-time dataset: each spine row with what was known at its time.

        The groups are flushed first, so every acknowledged record counts. See
        `featurestore.pointintime` for the rule.

        Args:
            spine: Arrow, pandas, Polars, or a Parquet, CSV or Arrow file.
            features: selections, or texts such as `weather[temp,wind]`.
            time: the spine's time column (timestamp with a zone, or ISO-8601 text).
            as_of: only records written offline at or before it count.
            spine_name: names the spine in lineage; by default its file's name or digest.

        Raises:
            InvalidSpine: a column is missing or has the wrong type.
            FeatureGroupNotFound, FeatureNotFound: a selection names what does not exist.
        """

    @abstractmethod
    def get_as_of(
        self,
        group: str,
        identifiers: Iterable[object],
        times: Iterable[object],
        *,
        features: Sequence[str] = (),
        lookback: dt.timedelta | None = None,
    ) -> pa.Table:
        """Return features of identifiers, each as of a time of its own.

        By the rule of `dataset`: the newest version with an event time at or before the time, a
        deletion counts, a ttl does not. It makes no dataset and leaves nothing in lineage. What the
        online store has answers where it is old enough to be seen; the rest comes from the offline
        table, after a flush. So a record that was put into one store only is seen, or not, by which
        one answers.

        Args:
            group: a feature group with an offline store, or a windowed group.
            identifiers: values, or an Arrow array of them.
            times: as many; datetimes with a zone, or an Arrow array of timestamps with one.
            features: columns to return; none: all but the record identifier and the event time.
            lookback: how old a value may be; None: any age. Not for windowed groups.

        Returns:
            One row per pair, in the order asked; nulls where nothing was known.

        Raises:
            FeatureGroupNotFound, FeatureNotFound: no such group or feature.
            InvalidRecord: an identifier is null or has another type.
            InvalidRequest: a time has no zone, there are not as many, or the group has no offline
                store.

        Cost: one read of the online store; a join with the history when that does not answer.
        """

    @abstractmethod
    def impact(
        self,
        group: str,
        identifier: object,
        event_time: dt.datetime | None = None,
        *,
        until: dt.datetime | None = None,
    ) -> ImpactReport:
        """Say where a record is kept, which datasets have it, and what was made of those.

        Saved datasets are looked into row by row, at the table versions they were built from. Of
        others it is known only that they read a version with the record: they may have it.

        Args:
            group: a feature group with an offline store.
            identifier: of the record.
            event_time: of the record; None: every record of the identifier.
            until: of the last record, the first being of `event_time`; None: one record.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRecord: the identifier is null or has another type.
            InvalidRequest: the group has no offline store, a time has no zone, or the last comes
                before the first.

        Cost: the statistics of the table's files; each table version of a saved dataset with
        features of the group, once.
        """

    @abstractmethod
    def records_behind(self, start: str) -> Iterator[pa.Table]:
        """Name the records whose values are in what comes from saved datasets.

        Args:
            start: uid, in the lineage graph, of a model, a job, a dataset.

        Yields:
            for each dataset and group a table of `dataset` (its fingerprint), `feature_group`,
            `record_identifier`, `event_time`, and in how many `rows` it is. Windowed features are
            left out: they are made of every event in their window.

        Raises:
            InvalidRequest: the graph has no such entity.

        Cost: reads each table version once.
        """

    @abstractmethod
    def erase(
        self, group: str, identifiers: object, *, reason: str = "", datasets: str = "keep"
    ) -> ErasureReport:
        """Erase identifiers from every store of the home, and return a signed report.

        All their records with an event time up to now go: the online record, what waits for the
        offline table, and every row in every version of that table. Those that arrive later are
        erased on arrival: a put of them is acknowledged and stored nowhere. A record with a later
        event time is a new one, and lives. An erasure that is cut is finished by the next one, or
        when a server of the home starts. See docs/erasure.md for what is and is not reached.

        Args:
            group: the feature group.
            identifiers: one, or several.
            reason: for the report; it must not name an identifier.
            datasets: what becomes of saved datasets with rows of them: `keep` or `delete`.

        Returns:
            The report; where nothing was held, `is_found` is false.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: no identifier, or one of another type.
            StoreUnavailable: a store cannot be reached, or the package that signs is absent.

        Cost: looks at every data file of the table; versions that need a file with such rows
        cannot be read any more.
        """

    @abstractmethod
    def explain_dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
    ) -> DatasetPlan:
        """Say what `dataset` with the same arguments would read; the groups are flushed first.

        Raises:
            InvalidSpine: a column is missing or has the wrong type.
            FeatureGroupNotFound, FeatureNotFound: a selection names what does not exist.
        """

    @abstractmethod
    def write_dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        path: str | Path,
        *,
        memory_limit: int | str,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
        on_progress: Callable[[int], None] | None = None,
    ) -> WrittenDataset:
        """Build a dataset into a Parquet file, with a limit on the memory that takes.

        Its fingerprint is that of `dataset` with the same arguments. `path` appears whole or not
        at all.

        Args:
            spine: see `dataset`; a Parquet file, a query or a record batch reader is read in
                pieces. In the order of time it is joined fastest.
            features: selections, or texts such as `weather[temp,wind]`.
            path: the file to write, on this machine.
            memory_limit: bytes, or a text such as `512MB`; 64 MB or more. What the process holds
                already does not count. A server takes its own limit where that is lower.
            time: the spine's time column.
            as_of: only records written offline at or before it count.
            spine_name: names the spine in lineage; by default its file's name or digest.
            on_progress: called with the number of rows joined so far.

        Raises:
            InvalidSpine: a column is missing or has the wrong type.
            FeatureGroupNotFound, FeatureNotFound: a selection names what does not exist.
            InvalidRequest: the join does not fit into the limit.
        """

    def create_dataset(
        self,
        base: object,
        output_path: str | Path | None = None,
        record_identifier_feature_name: str | None = None,
        event_time_identifier_feature_name: str | None = None,
        included_feature_names: Sequence[str] | None = None,
    ) -> DatasetBuilder:
        """Begin a dataset in the manner of SageMaker's DatasetBuilder.

        Args:
            base: a feature group or its name; or rows, as a spine is given.
            output_path: the folder for `to_csv_file`, on this machine.
            record_identifier_feature_name: the base's identifier, where it is rows.
            event_time_identifier_feature_name: the base's event time, where it is rows.
            included_feature_names: the base's columns to return; None: all.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: the base lacks a column.
        """
        name = named_base(base)
        return DatasetBuilder(
            read_base(base) if name is None else name,
            describe=self.describe_feature_group,
            run=self.run_builder,
            output_path=output_path,
            record_identifier=record_identifier_feature_name,
            event_time=event_time_identifier_feature_name,
            included=included_feature_names,
        )

    @abstractmethod
    def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """Make the rows that a `DatasetBuilder` asks for, after a flush of its groups.

        Args:
            options: of the builder.
            rows: its base, where that is no feature group.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: the base or a group lacks a column, or options do not go together.
        """

    @abstractmethod
    def save_dataset(self, dataset: Dataset) -> Path:
        """Keep a dataset with its spine; training jobs find it by its fingerprint.

        Returns:
            Its Parquet file; that of a server's dataset is on the server's machine.

        Raises:
            InvalidRequest: it is only a part of a dataset.
        """

    @abstractmethod
    def load_dataset(self, fingerprint: str) -> Dataset:
        """Read a kept dataset by its fingerprint, or four or more of its first characters.

        Raises:
            DatasetNotFound: no kept dataset, or more than one, has it.
            StoreCorrupt: the file was altered.
        """

    @abstractmethod
    def rebuild_dataset(self, fingerprint: str) -> Dataset:
        """Build a kept dataset again, from its spine and the table versions it names.

        Its fingerprint and rows are those of the first time, whatever was written since. Lineage
        records it as another build.

        Args:
            fingerprint: or four or more of its first characters.

        Raises:
            DatasetNotFound: no kept dataset, or more than one, has it.
            DatasetChanged: the spine or a table version is gone or not what it was.
        """

    @abstractmethod
    def list_datasets(self) -> list[SavedDataset]:
        """Return the datasets that are kept, the oldest first."""

    @abstractmethod
    def describe_dataset(self, fingerprint: str) -> SavedDataset:
        """Return what a kept dataset was built from, with the statistics of its columns.

        Args:
            fingerprint: or four or more of its first characters.

        Raises:
            DatasetNotFound: no kept dataset, or more than one, has it.
        """

    @abstractmethod
    def check_dataset(
        self, dataset: Dataset, *, rows: int | None = None, seed: int = 0
    ) -> CheckReport:
        """Derive a dataset's values again from the Delta tables, without the join's engine.

        Args:
            dataset: what to check; a part will do.
            rows: how many rows, chosen at random; None: all.
            seed: of the choice.

        Raises:
            FeatureGroupNotFound, InvalidRequest: a group or table version that it was built from
                is not there any more.
        """

    # -- the life of offline tables -----------------------------------------------------------

    @abstractmethod
    def maintain(
        self, group: str, *, retention: dt.timedelta = DEFAULT_RETENTION, zorder: bool = True
    ) -> MaintenanceReport:
        """Rewrite the small files of a group's offline table, and delete files no version needs.

        Others put, flush and read meanwhile. A second maintenance right after finds nothing to do.
        Versions that a replay of something in use needs stay readable: see `lineage.gc.in_use`.

        Args:
            group: the feature group.
            retention: versions that were the newest within it stay readable, for datasets built
                from them, `history` and `restore`; >= 0.
            zorder: whether the rows of each event date are sorted by the record identifier and,
                of each, by version, so that a dataset reads them as they come.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: it has no offline store, or the retention is negative.
            StoreUnavailable, StoreFull: the table could not be written; it is whole.
        """

    @abstractmethod
    def history(
        self,
        group: str,
        *,
        version: int | None = None,
        as_of: dt.datetime | None = None,
        features: Sequence[str] = (),
    ) -> pa.RecordBatchReader:
        """Read every version of every record of a group, as its offline table was.

        Rows come in the order they were acknowledged in: the features, then `_event_time`,
        `write_time`, `api_invocation_time`, `is_deleted`, `_expires_at` and `_sequence`.

        Args:
            group: the feature group.
            version: Delta version; None: the newest, after a flush.
            as_of: only rows whose write time is at or before it.
            features: names of those to return; none: all.

        Returns:
            A reader that holds a part at a time; `read_all()` makes a table of it.

        Raises:
            FeatureGroupNotFound, FeatureNotFound: no such group or feature.
            InvalidRequest: it has no offline store, there is no such version, or a vacuum took
                its files away; `as_of` has no zone.
        """

    @abstractmethod
    def versions(self, group: str, *, limit: int | None = None) -> list[TableVersion]:
        """Return the versions of a group's offline table, newest first.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: it has no offline store.
        """

    @abstractmethod
    def restore(self, group: str, version: int) -> int:
        """Make an older version of a group's offline table the newest; return its new number.

        What was flushed since that version is in the newest one no more, and is not flushed again;
        it can be read by its own version within the retention. What still waits in the outbox is
        flushed as ever, once. The online store stays as it is.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: it has no offline store, there is no such version, or a vacuum took
                its files away.
            StoreUnavailable, StoreFull: the table could not be written; it is as it was.
        """

    # -- lineage and end ----------------------------------------------------------------------

    @property
    @abstractmethod
    def graph(self) -> Any:
        """The lineage graph: `lineage.Graph`, or `lineage.LineageClient` of a server."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections. What was acknowledged is durable already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def expression_of(expression: Expression | Filter | None) -> Expression:
    """Read a search expression given as one, as a single filter, or not at all."""
    if expression is None:
        return Expression()
    return Expression((expression,)) if isinstance(expression, Filter) else expression


def resource_of(resource: Resource | str) -> Resource:
    """Read what is searched for.

    Raises:
        InvalidRequest: it is neither feature groups nor features.
    """
    try:
        return Resource(resource)
    except ValueError:
        raise InvalidRequest(
            f"search: expected FeatureGroup or FeatureMetadata, got {resource!r}"
        ) from None


def selections(features: Iterable[FeatureSelection | str]) -> list[FeatureSelection]:
    """Read selections given as values or as texts."""
    if isinstance(features, FeatureSelection | str):
        features = [features]
    return [
        FeatureSelection.parse(entry) if isinstance(entry, str) else entry for entry in features
    ]
