"""The remote store: every verb over gRPC, with the embedded store's errors."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, final

import pyarrow as pa

import lineage
from featurestore import wire
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport
from featurestore.checked import CheckedBatch
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.erasure.report import ErasureReport
from featurestore.feature import FeatureDefinition, Value
from featurestore.impact.report import ImpactReport
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.offline.flusher import Flushed
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import DEFAULT_RETENTION, MaintenanceReport
from featurestore.plan import DatasetPlan
from featurestore.position import SourcePosition
from featurestore.provenance import recorded_load
from featurestore.record import Delete, Put
from featurestore.remote_call import DEFAULT_TIMEOUT_S, RemoteCalls
from featurestore.remote_datasets import RemoteDatasets
from featurestore.remote_groups import RemoteGroups
from featurestore.remote_records import RemoteRecords
from featurestore.remote_transfer import RemoteTransfer
from featurestore.saved import SavedDataset
from featurestore.schema import FeatureGroup, StorageType, Throughput, Ttl
from featurestore.search import Expression, Filter, Resource
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
from featurestore.v1 import (
    control_pb2,
    impact_pb2,
)
from featurestore.verify import VerifyReport
from featurestore.window import WindowedGroup
from featurestore.wire import asof as wire_asof
from featurestore.wire import control as wire_control
from featurestore.wire import impact as wire_impact
from lineage.wire.channel import ClientTls, Login

__all__ = ["RemoteStore", "connect"]

_OPEN: Final = Login()


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    plaintext_token: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> RemoteStore:
    """Connect to a server; the first call opens the connection.

    Args:
        target: `host:port`.
        token: as `featureline token create` printed it; None: `$FEATURELINE_TOKEN`, if set.
        tls: None: as `$FEATURELINE_TLS_CA`, `_CERT`, `_KEY` and `_SERVER_NAME` say, else plaintext.
        plaintext_token: send the token in plaintext to other machines, too, as
            `$FEATURELINE_PLAINTEXT_TOKEN=1` does: for a network, or a mesh, that encrypts by
            itself.
        timeout_s: deadline of each short call; datasets, flushes and verifications have an hour.

    Raises:
        InvalidRequest: the token or the files of TLS cannot be used, or the token would travel to
            another machine in clear text.
    """
    return RemoteStore(
        target, login=wire.login(token, tls, plaintext_token=plaintext_token), timeout_s=timeout_s
    )


@final
class RemoteStore(FeatureStore):
    """The feature store of a server.

    Args:
        target: `host:port`.
        login: how it shows who it is.
        timeout_s: deadline of each short call.
    """

    def __init__(
        self, target: str, *, login: Login = _OPEN, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.target = target
        self._login = login
        self._calls = RemoteCalls(target, login, timeout_s)
        self._channel = self._calls.channel
        self._groups = RemoteGroups(self._calls)
        self._records = RemoteRecords(self._calls)
        self._transfer = RemoteTransfer(self._calls)

    # -- feature groups -----------------------------------------------------------------------

    def create_feature_group(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group."""
        return self._groups.create(group)

    def describe(self, name: str) -> Description:
        """See FeatureStore.describe."""
        return self._groups.describe(name)

    def list_feature_groups(self, *, name_contains: str = "") -> list[Description]:
        """See FeatureStore.list_feature_groups."""
        return self._groups.all(name_contains=name_contains)

    def add_features(self, name: str, features: Sequence[FeatureDefinition]) -> Description:
        """See FeatureStore.add_features."""
        return self._groups.add_features(name, features)

    def set_ttl(self, name: str, ttl: Ttl | None) -> Description:
        """See FeatureStore.set_ttl."""
        return self._groups.set_ttl(name, ttl)

    def set_throughput(self, name: str, throughput: Throughput) -> Description:
        """See FeatureStore.set_throughput."""
        return self._groups.set_throughput(name, throughput)

    def set_storage_type(self, name: str, storage_type: StorageType) -> Description:
        """See FeatureStore.set_storage_type."""
        return self._groups.set_storage_type(name, storage_type)

    def feature_metadata(self, group: str, feature: str) -> FeatureMetadata:
        """See FeatureStore.feature_metadata."""
        return self._groups.metadata(group, feature)

    def update_feature_metadata(
        self, group: str, feature: str, change: MetadataChange
    ) -> FeatureMetadata:
        """See FeatureStore.update_feature_metadata."""
        return self._groups.change_metadata(group, feature, change)

    def search(
        self,
        resource: Resource | str,
        expression: Expression | Filter | None = None,
        *,
        sort_by: str = "LastModifiedTime",
        descending: bool = True,
    ) -> list[Any]:
        """See FeatureStore.search."""
        return self._groups.search(resource, expression, sort_by=sort_by, descending=descending)

    def delete_feature_group(self, name: str) -> None:
        """See FeatureStore.delete_feature_group."""
        self._groups.delete(name)

    # -- windowed features --------------------------------------------------------------------

    def create_windowed_group(self, group: WindowedGroup) -> WindowedDescription:
        """See FeatureStore.create_windowed_group."""
        return self._groups.create_windowed(group)

    def describe_windowed_group(self, name: str) -> WindowedDescription:
        """See FeatureStore.describe_windowed_group."""
        return self._groups.describe_windowed(name)

    def list_windowed_groups(self) -> list[WindowedDescription]:
        """See FeatureStore.list_windowed_groups."""
        return self._groups.all_windowed()

    def delete_windowed_group(self, name: str) -> None:
        """See FeatureStore.delete_windowed_group."""
        self._groups.delete_windowed(name)

    def fill_windowed_group(self, name: str) -> int:
        """See FeatureStore.fill_windowed_group."""
        return self._groups.fill_windowed(name)

    def get_windows(
        self, group: str, keys: Iterable[object], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """See FeatureStore.get_windows."""
        return self._groups.get_windows(group, keys, at=at)

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
        return self._records.get(group, identifier, features=features)

    def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        return self._records.batch_get(requests)

    def get_table(
        self, group: str, identifiers: Iterable[object], *, features: Sequence[str] = ()
    ) -> pa.Table:
        """See FeatureStore.get_table; some calls are under way at once."""
        definition = self._groups.readable(group)
        return self._records.get_table(definition, identifiers, features)

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
        """See FeatureStore.put_table. Without a position, some calls are under way at once."""
        definition = self.describe_feature_group(group)
        with recorded_load(self.graph, group, source) as job:
            result = self._records.put_rows(definition, table, position, on_progress)
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
        return self._records.source_position(source)

    def move_source(
        self, source: str, positions: Mapping[str, int], *, expected: Mapping[str, int]
    ) -> dict[str, int]:
        """See FeatureStore.move_source. Lineage names the token that the call was made with."""
        return self._records.move_source(source, positions, expected=expected)

    # -- offline store and datasets -----------------------------------------------------------

    def flush(self, group: str | None = None) -> dict[str, Flushed]:
        """See FeatureStore.flush."""
        request = control_pb2.FlushRequest(feature_group_name=group or "")
        response = self._calls.unary("Flush", request)
        return wire.flushed_from(response)

    def verify(
        self, group: str, *, on_progress: Callable[[int], None] | None = None
    ) -> VerifyReport:
        """See FeatureStore.verify."""
        request = control_pb2.VerifyRequest(feature_group_name=group)
        response = self._calls.unary("Verify", request)
        report = wire.verify_from(response)
        if on_progress is not None:
            on_progress(max(report.online, report.offline))
        return report

    def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
    ) -> Dataset:
        """See FeatureStore.dataset. The spine is sent to the server, the rows come back."""
        return self._datasets.dataset(spine, features, time, as_of, spine_name)

    def explain_dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
    ) -> DatasetPlan:
        """See FeatureStore.explain_dataset."""
        return self._datasets.explain(spine, features, time, as_of)

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
        """See FeatureStore.write_dataset; the spine is sent, and the file comes, in pieces."""
        return self._datasets.write(
            spine,
            features,
            Path(path),
            memory_limit=memory_limit,
            time=time,
            as_of=as_of,
            spine_name=spine_name,
            on_progress=on_progress,
        )

    def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """See FeatureStore.run_builder."""
        return self._datasets.run_builder(options, rows)

    def save_dataset(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        return self._datasets.save(dataset)

    def load_dataset(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        return self._datasets.load(fingerprint)

    def rebuild_dataset(self, fingerprint: str) -> Dataset:
        """See FeatureStore.rebuild_dataset."""
        return self._datasets.rebuild(fingerprint)

    def list_datasets(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        return self._datasets.saved()

    def describe_dataset(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        return self._datasets.describe(fingerprint)

    def check_dataset(
        self, dataset: Dataset, *, rows: int | None = None, seed: int = 0
    ) -> CheckReport:
        """See FeatureStore.check_dataset; the rows are sent to the server."""
        return self._datasets.check(dataset, rows, seed)

    # -- the life of offline tables -----------------------------------------------------------

    def maintain(
        self, group: str, *, retention: dt.timedelta = DEFAULT_RETENTION, zorder: bool = True
    ) -> MaintenanceReport:
        """See FeatureStore.maintain."""
        return self._datasets.maintain(group, retention, zorder=zorder)

    def history(
        self,
        group: str,
        *,
        version: int | None = None,
        as_of: dt.datetime | None = None,
        features: Sequence[str] = (),
    ) -> pa.RecordBatchReader:
        """See FeatureStore.history."""
        return self._datasets.history(group, version, as_of, features)

    def versions(self, group: str, *, limit: int | None = None) -> list[TableVersion]:
        """See FeatureStore.versions."""
        return self._datasets.versions(group, limit)

    def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        return self._datasets.restore(group, version)

    @cached_property
    def _datasets(self) -> RemoteDatasets:
        return RemoteDatasets(self._calls, self)

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
        """See FeatureStore.load; the rows are sent, and all must have the same columns."""
        return self._transfer.load(group, data, key=key, source=source, on_progress=on_progress)

    def backfill(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.backfill; the server does it."""
        return self._transfer.backfill(group, on_progress, rebuild=False)

    def rebuild_online(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.rebuild_online; the server does it."""
        return self._transfer.backfill(group, on_progress, rebuild=True)

    def erase(
        self, group: str, identifiers: object, *, reason: str = "", datasets: str = "keep"
    ) -> ErasureReport:
        """See FeatureStore.erase. The report names the token that the call was made with."""
        request = wire_control.erase_message(group, identifiers, reason, datasets)
        response = self._calls.unary("EraseRecords", request)
        return ErasureReport(json.loads(response.report_json))

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
        return wire_asof.table_of(
            self._calls.unary("GetRecordsAsOf", request)
            for request in wire_asof.requests(group, identifiers, times, features, lookback)
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
        request = wire_impact.tracing_message(group, identifier, event_time, until)
        return wire_impact.report_of(self._calls.unary("TraceRecord", request))

    def records_behind(self, start: str) -> Iterator[pa.Table]:
        """See FeatureStore.records_behind."""
        request = impact_pb2.ListRecordsBehindRequest(start=start)
        for response in self._calls.stream("ListRecordsBehind", request):
            yield wire_impact.table_of(response)

    # -- lineage and end ----------------------------------------------------------------------

    @cached_property
    def graph(self) -> Any:
        """The lineage graph of the server."""
        login = self._login
        return lineage.connect(
            self.target, token=login.token, tls=login.tls, plaintext_token=login.plaintext_token
        )

    def close(self) -> None:
        """See FeatureStore.close."""
        self._channel.close()
        graph = self.__dict__.pop("graph", None)
        if graph is not None:
            graph.close()
