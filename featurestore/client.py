"""The remote store: every verb over gRPC, with the embedded store's errors."""

from __future__ import annotations

import datetime as dt
import json
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple, final

import grpc
import pyarrow as pa

import lineage
from featurestore import convert, eventtime, wire
from featurestore.arrowcode import encode_batch
from featurestore.batches import arrow_values, identifier_texts, record_batches
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport
from featurestore.checked import CheckedBatch
from featurestore.dataset import Dataset, FeatureSelection, name_of
from featurestore.erasure.report import ErasureReport
from featurestore.errors import (
    FeatureGroupNotFound,
    FeatureStoreError,
    InvalidRequest,
    PositionConflict,
    StoreUnavailable,
)
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
from featurestore.remote_datasets import RemoteDatasets, Requests
from featurestore.requested import check_readable
from featurestore.rows import row_batches
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
    expression_of,
    resource_of,
)
from featurestore.streamed import WrittenDataset
from featurestore.v1 import (
    control_pb2,
    control_pb2_grpc,
    impact_pb2,
    runtime_pb2,
    runtime_pb2_grpc,
    transfer_pb2,
    window_pb2,
    window_pb2_grpc,
)
from featurestore.verify import VerifyReport
from featurestore.window import WindowedGroup
from featurestore.wire import asof as wire_asof
from featurestore.wire import control as wire_control
from featurestore.wire import impact as wire_impact
from featurestore.wire import transfer as wire_transfer
from featurestore.wire import window as wire_window
from lineage.wire.channel import ClientTls, Login

__all__ = ["RemoteStore", "connect"]

DEFAULT_TIMEOUT_S: Final = 30.0
# A dataset or a verification takes as long as its data.
LONG_TIMEOUT_S: Final = 3600.0
_ROWS_PER_CALL: Final = 5_000
_BYTES_PER_CALL: Final = 16 << 20
_IDENTIFIERS_PER_CALL: Final = 1_000
_CALLS_IN_FLIGHT: Final = 4
_OPEN: Final = Login()
_NO_ERRORS: Final = runtime_pb2.BatchWriteRecordResponse()


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
        self._timeout_s = timeout_s
        self._login = login
        self._channel = wire.open_channel(login.channel, target)
        self._runtime: Any = runtime_pb2_grpc.FeatureStoreRuntimeStub(self._channel)
        self._control: Any = control_pb2_grpc.FeatureStoreStub(self._channel)
        self._windows: Any = window_pb2_grpc.WindowedFeaturesStub(self._channel)
        # BatchWriteRecord of a request that is bytes already.
        self._write_rows: Any = self._channel.unary_unary(
            "/featurestore.v1.FeatureStoreRuntime/BatchWriteRecord",
            request_serializer=bytes,
            response_deserializer=runtime_pb2.BatchWriteRecordResponse.FromString,
        )

    # -- feature groups -----------------------------------------------------------------------

    def create_feature_group(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group."""
        request = control_pb2.CreateFeatureGroupRequest(
            feature_group=wire_control.group_message(group)
        )
        response = self._call(self._control.CreateFeatureGroup, request)
        return wire_control.description_from(response.description)

    def describe(self, name: str) -> Description:
        """See FeatureStore.describe."""
        request = control_pb2.DescribeFeatureGroupRequest(feature_group_name=name)
        response = self._call(self._control.DescribeFeatureGroup, request)
        return wire_control.description_from(response.description)

    def list_feature_groups(self, *, name_contains: str = "") -> list[Description]:
        """See FeatureStore.list_feature_groups."""
        found: list[Description] = []
        token = ""
        while True:
            response = self._call(
                self._control.ListFeatureGroups,
                control_pb2.ListFeatureGroupsRequest(name_contains=name_contains, next_token=token),
            )
            found.extend(map(wire_control.description_from, response.descriptions))
            token = response.next_token
            if not token:
                return found

    def add_features(self, name: str, features: Sequence[FeatureDefinition]) -> Description:
        """See FeatureStore.add_features."""
        if not features:  # on the wire that would be no change at all
            self.describe_feature_group(name).with_features(features)
        return self._changed(name, feature_additions=wire_control.definitions_message(features))

    def set_ttl(self, name: str, ttl: Ttl | None) -> Description:
        """See FeatureStore.set_ttl."""
        change = control_pb2.UpdateFeatureGroupRequest.TtlChange(
            ttl_duration=convert.ttl_to_message(ttl)
        )
        return self._changed(name, ttl_change=change)

    def set_throughput(self, name: str, throughput: Throughput) -> Description:
        """See FeatureStore.set_throughput."""
        return self._changed(name, throughput_config=wire_control.throughput_message(throughput))

    def set_storage_type(self, name: str, storage_type: StorageType) -> Description:
        """See FeatureStore.set_storage_type."""
        return self._changed(name, storage_type=wire_control.storage_type_number(storage_type))

    def feature_metadata(self, group: str, feature: str) -> FeatureMetadata:
        """See FeatureStore.feature_metadata."""
        request = control_pb2.DescribeFeatureMetadataRequest(
            feature_group_name=group, feature_name=feature
        )
        response = self._call(self._control.DescribeFeatureMetadata, request)
        return wire_control.metadata_from(response.feature_metadata)

    def update_feature_metadata(
        self, group: str, feature: str, change: MetadataChange
    ) -> FeatureMetadata:
        """See FeatureStore.update_feature_metadata."""
        request = wire_control.change_message(group, feature, change)
        response = self._call(self._control.UpdateFeatureMetadata, request)
        return wire_control.metadata_from(response.feature_metadata)

    def search(
        self,
        resource: Resource | str,
        expression: Expression | Filter | None = None,
        *,
        sort_by: str = "LastModifiedTime",
        descending: bool = True,
    ) -> list[Any]:
        """See FeatureStore.search."""
        chosen, wanted = resource_of(resource), expression_of(expression)
        found: list[Any] = []
        token = ""
        while True:
            response = self._call(
                self._control.Search,
                wire_control.search_message(chosen, wanted, sort_by, descending, token),
            )
            found.extend(map(wire_control.result_from, response.results))
            token = response.next_token
            if not token:
                return found

    def _changed(self, name: str, **change: Any) -> Description:
        request = control_pb2.UpdateFeatureGroupRequest(feature_group_name=name, **change)
        response = self._call(self._control.UpdateFeatureGroup, request)
        return wire_control.description_from(response.description)

    def delete_feature_group(self, name: str) -> None:
        """See FeatureStore.delete_feature_group."""
        request = control_pb2.DeleteFeatureGroupRequest(feature_group_name=name)
        self._call(self._control.DeleteFeatureGroup, request, timeout_s=LONG_TIMEOUT_S)

    # -- windowed features --------------------------------------------------------------------

    def create_windowed_group(self, group: WindowedGroup) -> WindowedDescription:
        """See FeatureStore.create_windowed_group."""
        request = window_pb2.CreateWindowedGroupRequest(
            windowed_group=wire_window.windowed_group_message(group)
        )
        response = self._call(self._windows.CreateWindowedGroup, request, timeout_s=LONG_TIMEOUT_S)
        return wire_window.windowed_description_from(response.description)

    def describe_windowed_group(self, name: str) -> WindowedDescription:
        """See FeatureStore.describe_windowed_group."""
        request = window_pb2.DescribeWindowedGroupRequest(feature_group_name=name)
        response = self._call(self._windows.DescribeWindowedGroup, request)
        return wire_window.windowed_description_from(response.description)

    def list_windowed_groups(self) -> list[WindowedDescription]:
        """See FeatureStore.list_windowed_groups."""
        request = window_pb2.ListWindowedGroupsRequest()
        response = self._call(self._windows.ListWindowedGroups, request)
        return list(map(wire_window.windowed_description_from, response.descriptions))

    def delete_windowed_group(self, name: str) -> None:
        """See FeatureStore.delete_windowed_group."""
        request = window_pb2.DeleteWindowedGroupRequest(feature_group_name=name)
        self._call(self._windows.DeleteWindowedGroup, request, timeout_s=LONG_TIMEOUT_S)

    def fill_windowed_group(self, name: str) -> int:
        """See FeatureStore.fill_windowed_group."""
        request = window_pb2.FillWindowedGroupRequest(feature_group_name=name)
        response = self._call(self._windows.FillWindowedGroup, request, timeout_s=LONG_TIMEOUT_S)
        return int(response.events)

    def get_windows(
        self, group: str, keys: Iterable[object], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """See FeatureStore.get_windows."""
        request = wire_window.windows_message(group, arrow_values(keys), at)
        response = self._call(self._windows.GetWindows, request)
        return list(map(convert.message_to_values, response.records))

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
        request = wire.put_message(Put(group, record, ttl, stores))
        self._call(self._runtime.PutRecord, request)

    def get(
        self, group: str, identifier: object, *, features: Sequence[str] = ()
    ) -> dict[str, Value] | None:
        """See FeatureStore.get."""
        request = runtime_pb2.GetRecordRequest(
            feature_group_name=group,
            record_identifier_value_as_string=wire.text(identifier),
            feature_names=features,
        )
        response = self._call(self._runtime.GetRecord, request)
        return convert.message_to_values(response.record) if response.HasField("record") else None

    def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        if not requests:
            return []
        response = self._call(self._runtime.BatchGetRecord, wire.batch_get_message(requests))
        if not response.unprocessed_identifiers:
            return wire.found_from(response)
        # Throttled: one entry after the other, as the group's units allow, keeps the order asked.
        found: list[Found] = []
        deadline = time.monotonic() + self._timeout_s
        for request in requests:
            message = wire.batch_get_message([request])
            response = self._call(self._runtime.BatchGetRecord, message)
            while response.unprocessed_identifiers:
                if time.monotonic() > deadline:
                    raise wire.read_throttled(request)
                time.sleep(wire.THROTTLED_WAIT_S)
                response = self._call(self._runtime.BatchGetRecord, message)
            found.extend(wire.found_from(response))
        return found

    def get_table(
        self, group: str, identifiers: Iterable[object], *, features: Sequence[str] = ()
    ) -> pa.Table:
        """See FeatureStore.get_table; some calls are under way at once."""
        definition = self._readable(group)
        check_readable(definition, features)
        texts = identifier_texts(definition, identifiers)
        records: list[bytes | None] = []
        under_way: deque[tuple[Get, Any]] = deque()

        def settle() -> None:
            asked, call = under_way.popleft()
            records.extend(wire.records_from(asked, self._read_result(asked, call)))

        for start in range(0, len(texts), _IDENTIFIERS_PER_CALL):
            part = Get(group, texts[start : start + _IDENTIFIERS_PER_CALL], tuple(features))
            under_way.append((part, self._read(part)))
            if len(under_way) == _CALLS_IN_FLIGHT:
                settle()
        while under_way:
            settle()
        return convert.records_to_table(definition, texts, records, features)

    def _readable(self, name: str) -> FeatureGroup:
        """Return what a group, windowed or not, reads as."""
        try:
            return self.describe_feature_group(name)
        except FeatureGroupNotFound as error:
            try:
                found = self.describe_windowed_group(name)
            except FeatureStoreError:
                raise error from None
        group, features = found.group, found.features
        return FeatureGroup(
            group.name,
            record_identifier=group.by,
            event_time=features[1].name,
            features=features,
        )

    def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.batch_write."""
        batch = wire.WriteBatch(position)
        for entry in entries:
            batch.add(entry)
        return batch.errors(self._settled(batch))

    def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.put_checked."""
        if not batch and position is None:
            raise InvalidRequest("batch: expected at least one accepted record, got none")
        rows = wire.RowBatch(batch.group.name, position)
        rows.add_checked(batch)
        return rows.checked_errors(self._settled_rows(rows))

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
            result = self._put_rows(definition, table, position, on_progress)
            job.property("rows", result.rows)
            job.property("refused", len(result.errors))
        return result

    def _put_rows(
        self,
        definition: FeatureGroup,
        table: Any,
        position: SourcePosition | None,
        on_progress: Callable[[int], None] | None,
    ) -> PutResult:
        group = definition.name
        rows = 0
        errors: list[WriteError] = []
        if position is not None:
            whole = wire.RowBatch(group, position)
            for part in record_batches(table):
                _add_rows(whole, definition, part)
            rows = whole.count
            _check_rows(group, rows)
            errors = whole.row_errors(self._settled_rows(whole))
            if on_progress is not None:
                on_progress(rows)
            return PutResult(rows - len(errors), errors)
        under_way: deque[tuple[int, wire.RowBatch, Any]] = deque()

        def settle() -> None:
            done, batch, call = under_way.popleft()
            response = _NO_ERRORS
            if call is not None:
                response = self._completed(batch, self._result(call))
            errors.extend(batch.row_errors(response))
            if on_progress is not None:
                on_progress(done)

        for part in record_batches(table, _ROWS_PER_CALL, _BYTES_PER_CALL):
            batch = wire.RowBatch(group, start=rows)
            _add_rows(batch, definition, part)
            rows += batch.count
            under_way.append((rows, batch, self._send(batch)))
            if len(under_way) == _CALLS_IN_FLIGHT:
                settle()
        while under_way:
            settle()
        _check_rows(group, rows)
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
        request = wire.update_message(group, identifier, features, ttl, stores)
        self._call(self._runtime.UpdateRecord, request)

    def delete(
        self, group: str, identifier: object, *, event_time: object, hard: bool = False
    ) -> None:
        """See FeatureStore.delete."""
        modes = runtime_pb2.DeleteRecordRequest
        request = runtime_pb2.DeleteRecordRequest(
            feature_group_name=group,
            record_identifier_value_as_string=wire.text(identifier),
            event_time=wire.event_time_text(event_time),
            mode=modes.HARD if hard else modes.SOFT,
        )
        self._call(self._runtime.DeleteRecord, request)

    def records(self, group: str, *, include_soft_deleted: bool = False) -> Iterator[str]:
        """See FeatureStore.records."""
        token = ""
        while True:
            response = self._call(
                self._runtime.ListRecords,
                runtime_pb2.ListRecordsRequest(
                    feature_group_name=group,
                    max_results=1000,
                    next_token=token,
                    include_soft_deleted=include_soft_deleted,
                ),
            )
            yield from response.record_identifiers
            token = response.next_token
            if not token:
                return

    def source_position(self, source: str) -> dict[str, int]:
        """See FeatureStore.source_position."""
        request = runtime_pb2.GetSourcePositionRequest(source=source)
        return dict(self._call(self._runtime.GetSourcePosition, request).next)

    def move_source(
        self, source: str, positions: Mapping[str, int], *, expected: Mapping[str, int]
    ) -> dict[str, int]:
        """See FeatureStore.move_source. Lineage names the token that the call was made with."""
        request = wire_control.move_message(source, positions, expected)
        try:
            return dict(self._call(self._control.MoveSource, request).next)
        except PositionConflict as conflict:
            if "stored" not in conflict.facts:  # too long for an error's metadata
                conflict.facts["stored"] = self.source_position(source)
            raise

    # -- offline store and datasets -----------------------------------------------------------

    def flush(self, group: str | None = None) -> dict[str, Flushed]:
        """See FeatureStore.flush."""
        request = control_pb2.FlushRequest(feature_group_name=group or "")
        response = self._call(self._control.Flush, request, timeout_s=LONG_TIMEOUT_S)
        return wire.flushed_from(response)

    def verify(
        self, group: str, *, on_progress: Callable[[int], None] | None = None
    ) -> VerifyReport:
        """See FeatureStore.verify."""
        request = control_pb2.VerifyRequest(feature_group_name=group)
        response = self._call(self._control.Verify, request, timeout_s=LONG_TIMEOUT_S)
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
        return RemoteDatasets(_Long(self), self)

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
        requests = wire_transfer.LoadRequests(
            group, row_batches(data), key=key, source=source or name_of(data)
        )
        try:
            responses = self._several(self._control.LoadRows, iter(requests))
            result = wire_transfer.read_load(group, key, responses, on_progress)
        except FeatureStoreError:
            if requests.failure is not None:  # the server only says that the rows ended early
                raise requests.failure from None
            raise
        return result

    def backfill(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.backfill; the server does it."""
        return self._backfill(group, on_progress, rebuild=False)

    def rebuild_online(self, group: str, *, on_progress: Progress | None = None) -> BackfillReport:
        """See FeatureStore.rebuild_online; the server does it."""
        return self._backfill(group, on_progress, rebuild=True)

    def _backfill(
        self, group: str, on_progress: Progress | None, *, rebuild: bool
    ) -> BackfillReport:
        request = transfer_pb2.BackfillRequest(feature_group_name=group, rebuild=rebuild)
        responses = self._several(self._control.Backfill, request)
        return wire_transfer.read_backfill(group, responses, on_progress)

    def _several(self, method: Any, request: Any) -> Iterator[Any]:
        """Give the replies to a call that has several; it has an hour."""
        metadata = self._login.call_metadata()
        try:
            yield from method(request, timeout=LONG_TIMEOUT_S, metadata=metadata)
        except grpc.RpcError as error:
            wire.raise_from_rpc(error, self.target, self._login, metadata[0][1])
        except ValueError as error:
            raise self._closed() from error

    def erase(
        self, group: str, identifiers: object, *, reason: str = "", datasets: str = "keep"
    ) -> ErasureReport:
        """See FeatureStore.erase. The report names the token that the call was made with."""
        request = wire_control.erase_message(group, identifiers, reason, datasets)
        response = self._call(self._control.EraseRecords, request, timeout_s=LONG_TIMEOUT_S)
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
            self._call(self._control.GetRecordsAsOf, request, timeout_s=LONG_TIMEOUT_S)
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
        return wire_impact.report_of(
            self._call(self._control.TraceRecord, request, timeout_s=LONG_TIMEOUT_S)
        )

    def records_behind(self, start: str) -> Iterator[pa.Table]:
        """See FeatureStore.records_behind."""
        request = impact_pb2.ListRecordsBehindRequest(start=start)
        for response in self._stream("ListRecordsBehind", request):
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

    def _call(self, method: Any, request: Any, *, timeout_s: float | None = None) -> Any:
        metadata = self._login.call_metadata()
        try:
            return method(request, timeout=timeout_s or self._timeout_s, metadata=metadata)
        except grpc.RpcError as error:
            wire.raise_from_rpc(error, self.target, self._login, metadata[0][1])
        except ValueError as error:
            raise self._closed() from error

    def _unary(self, method: str, request: Any) -> Any:
        return self._call(getattr(self._control, method), request, timeout_s=LONG_TIMEOUT_S)

    def _stream(self, method: str, request: Any) -> Generator[Any, None, None]:
        metadata = self._login.call_metadata()
        sent = Requests(request) if isinstance(request, Iterator) else None
        try:
            call = getattr(self._control, method)(
                request if sent is None else sent, timeout=LONG_TIMEOUT_S, metadata=metadata
            )
        except ValueError as error:
            raise self._closed() from error
        if sent is not None:
            sent.begun(call)
        try:
            yield from call
        except grpc.RpcError as error:
            if sent is None or sent.error is None:
                wire.raise_from_rpc(error, self.target, self._login, metadata[0][1])
        finally:
            call.cancel()
        if sent is not None and sent.error is not None:
            raise sent.error

    def _settled(self, batch: wire.WriteBatch) -> Any:
        return self._write(batch, self._runtime.BatchWriteRecord, batch.request)

    def _settled_rows(self, batch: wire.RowBatch) -> Any:
        return self._write(batch, self._write_rows, batch.data)

    def _write(self, batch: wire.WriteBatch | wire.RowBatch, method: Any, request: Any) -> Any:
        if batch.is_settled:
            return _NO_ERRORS
        try:
            return self._completed(batch, self._call(method, request))
        except PositionConflict as conflict:
            if "stored" not in conflict.facts:  # too long for an error's metadata
                source = batch.request.position.source
                conflict.facts["stored"] = self.source_position(source)
            raise

    def _completed(self, batch: wire.WriteBatch | wire.RowBatch, response: Any) -> Any:
        """Send what a throttled server left for later, until the deadline."""
        if not response.unprocessed:
            return response
        left = wire.Unprocessed(batch.request, response)
        deadline = time.monotonic() + self._timeout_s
        while (request := left.request) is not None and time.monotonic() < deadline:
            time.sleep(left.wait_s)
            left.take(self._call(self._runtime.BatchWriteRecord, request))
        return left.response()

    def _read(self, request: Get) -> Any:
        return self._begin(self._runtime.BatchGetRecord, wire.batch_get_message([request]))

    def _read_result(self, request: Get, call: Any) -> Any:
        """Wait for a batch get; ask a throttled server again until the deadline."""
        response = self._result(call)
        deadline = time.monotonic() + self._timeout_s
        while response.unprocessed_identifiers:
            if time.monotonic() > deadline:
                raise wire.read_throttled(request)
            time.sleep(wire.THROTTLED_WAIT_S)
            response = self._result(self._read(request))
        return response

    def _send(self, batch: wire.RowBatch) -> Any:
        return None if batch.is_settled else self._begin(self._write_rows, batch.data)

    def _begin(self, method: Any, request: Any) -> _UnderWay:
        metadata = self._login.call_metadata()
        try:
            call = method.future(request, timeout=self._timeout_s, metadata=metadata)
        except ValueError as error:
            raise self._closed() from error
        return _UnderWay(call, metadata[0][1])

    def _closed(self) -> StoreUnavailable:
        # gRPC says it by a ValueError.
        return StoreUnavailable(f"the connection to the feature store at {self.target} is closed")

    def _result(self, begun: _UnderWay) -> Any:
        try:
            return begun.call.result()
        except grpc.RpcError as error:
            wire.raise_from_rpc(error, self.target, self._login, begun.request_id)


@final
class _Long:
    """Calls that take as long as their data.

    Args:
        store: the client.
    """

    def __init__(self, store: RemoteStore) -> None:
        self.unary = store._unary
        self.stream = store._stream


class _UnderWay(NamedTuple):
    """A call whose reply is not yet there."""

    call: Any
    request_id: str


def _add_rows(batch: wire.RowBatch, group: FeatureGroup, part: pa.RecordBatch) -> None:
    # What lies in the future the server's clock decides.
    batch.add(encode_batch(group, part, now=eventtime.MAX_US, tolerance_us=0), len(part))


def _check_rows(group: str, rows: int) -> None:
    if rows == 0:
        raise InvalidRequest(f"{group}: expected a table with rows, got an empty one")
