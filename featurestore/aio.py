"""The asynchronous client: records, datasets and offline tables for asyncio programs."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, final

import pyarrow as pa

from featurestore import convert, wire
from featurestore.awaited_builder import AwaitedBuilder
from featurestore.awaited_call import AwaitedCalls
from featurestore.awaited_datasets import AwaitedDatasets
from featurestore.check import CheckReport
from featurestore.checked import CheckedBatch
from featurestore.dataset import Dataset, FeatureSelection
from featurestore.erasure.report import ErasureReport
from featurestore.errors import InvalidRequest, PositionConflict
from featurestore.feature import Value
from featurestore.impact.report import ImpactReport
from featurestore.offline.flusher import Flushed
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import DEFAULT_RETENTION, MaintenanceReport
from featurestore.plan import DatasetPlan
from featurestore.position import SourcePosition
from featurestore.record import Delete, Put
from featurestore.remote_call import DEFAULT_TIMEOUT_S
from featurestore.saved import SavedDataset
from featurestore.schema import FeatureGroup, Ttl
from featurestore.store import Description, Found, Get, WriteError
from featurestore.streamed import WrittenDataset
from featurestore.v1 import (
    control_pb2,
    impact_pb2,
    runtime_pb2,
)
from featurestore.wire import asof as wire_asof
from featurestore.wire import control as wire_control
from featurestore.wire import impact as wire_impact
from featurestore.wire import window as wire_window
from lineage.wire.channel import ClientTls, Login

__all__ = ["AsyncStore", "connect"]

_OPEN: Final = Login()


def connect(
    target: str,
    *,
    token: str | None = None,
    tls: ClientTls | None = None,
    plaintext_token: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> AsyncStore:
    """Connect to a server; call it inside a running event loop.

    Args:
        target: `host:port`.
        token: as `featureline token create` printed it; None: `$FEATURELINE_TOKEN`, if set.
        tls: None: as `$FEATURELINE_TLS_CA`, `_CERT`, `_KEY` and `_SERVER_NAME` say, else plaintext.
        plaintext_token: send the token in plaintext to other machines, too, as
            `$FEATURELINE_PLAINTEXT_TOKEN=1` does: for a network, or a mesh, that encrypts by
            itself.
        timeout_s: deadline of each call.

    Raises:
        InvalidRequest: the token or the files of TLS cannot be used, or the token would travel to
            another machine in clear text.
    """
    return AsyncStore(
        target, login=wire.login(token, tls, plaintext_token=plaintext_token), timeout_s=timeout_s
    )


@final
class AsyncStore:
    """Verbs of `FeatureStore` as coroutines, with the same errors.

    A dataset from here is kept by `await store.save_dataset(dataset)`; its own `save` has nowhere
    to wait.
    """

    def __init__(
        self, target: str, *, login: Login = _OPEN, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        self.target = target
        self._calls = AwaitedCalls(target, login, timeout_s)
        self._channel = self._calls.channel
        self._control = self._calls.control
        self._runtime = self._calls.runtime
        self._windows = self._calls.windows
        self._datasets = AwaitedDatasets(self._calls)

    async def create_feature_group(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group."""
        request = control_pb2.CreateFeatureGroupRequest(
            feature_group=wire_control.group_message(group)
        )
        response = await self._calls.call(self._control.CreateFeatureGroup, request)
        return wire_control.description_from(response.description)

    async def describe(self, name: str) -> Description:
        """See FeatureStore.describe."""
        request = control_pb2.DescribeFeatureGroupRequest(feature_group_name=name)
        response = await self._calls.call(self._control.DescribeFeatureGroup, request)
        return wire_control.description_from(response.description)

    async def put(
        self,
        group: str,
        record: Mapping[str, object],
        *,
        ttl: Ttl | None = None,
        stores: tuple[str, ...] | None = None,
    ) -> None:
        """See FeatureStore.put."""
        request = wire.put_message(Put(group, record, ttl, stores))
        await self._calls.call(self._runtime.PutRecord, request)

    async def get(
        self, group: str, identifier: object, *, features: Sequence[str] = ()
    ) -> dict[str, Value] | None:
        """See FeatureStore.get."""
        request = runtime_pb2.GetRecordRequest(
            feature_group_name=group,
            record_identifier_value_as_string=wire.text(identifier),
            feature_names=features,
        )
        response = await self._calls.call(self._runtime.GetRecord, request)
        return convert.message_to_values(response.record) if response.HasField("record") else None

    async def batch_get(self, requests: Sequence[Get]) -> list[Found]:
        """See FeatureStore.batch_get."""
        if not requests:
            return []
        response = await self._calls.call(
            self._runtime.BatchGetRecord, wire.batch_get_message(requests)
        )
        if not response.unprocessed_identifiers:
            return wire.found_from(response)
        # Throttled: one entry after the other, as the group's units allow, keeps the order asked.
        found: list[Found] = []
        deadline = time.monotonic() + self._calls.timeout_s
        for request in requests:
            message = wire.batch_get_message([request])
            response = await self._calls.call(self._runtime.BatchGetRecord, message)
            while response.unprocessed_identifiers:
                if time.monotonic() > deadline:
                    raise wire.read_throttled(request)
                await asyncio.sleep(wire.THROTTLED_WAIT_S)
                response = await self._calls.call(self._runtime.BatchGetRecord, message)
            found.extend(wire.found_from(response))
        return found

    async def batch_write(
        self, entries: Sequence[Put | Delete], *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.batch_write."""
        batch = wire.WriteBatch(position)
        for entry in entries:
            batch.add(entry)
        return batch.errors(await self._settled(batch))

    async def put_checked(
        self, batch: CheckedBatch, *, position: SourcePosition | None = None
    ) -> list[WriteError]:
        """See FeatureStore.put_checked."""
        if not batch and position is None:
            raise InvalidRequest("batch: expected at least one accepted record, got none")
        rows = wire.RowBatch(batch.group.name, position)
        rows.add_checked(batch)
        return rows.checked_errors(await self._settled(rows))

    async def update(
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
        await self._calls.call(self._runtime.UpdateRecord, request)

    async def delete(
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
        await self._calls.call(self._runtime.DeleteRecord, request)

    async def records(
        self, group: str, *, include_soft_deleted: bool = False
    ) -> AsyncIterator[str]:
        """See FeatureStore.records."""
        token = ""
        while True:
            response = await self._calls.call(
                self._runtime.ListRecords,
                runtime_pb2.ListRecordsRequest(
                    feature_group_name=group,
                    max_results=1000,
                    next_token=token,
                    include_soft_deleted=include_soft_deleted,
                ),
            )
            for identifier in response.record_identifiers:
                yield identifier
            token = response.next_token
            if not token:
                return

    async def source_position(self, source: str) -> dict[str, int]:
        """See FeatureStore.source_position."""
        request = runtime_pb2.GetSourcePositionRequest(source=source)
        return dict((await self._calls.call(self._runtime.GetSourcePosition, request)).next)

    async def move_source(
        self, source: str, positions: Mapping[str, int], *, expected: Mapping[str, int]
    ) -> dict[str, int]:
        """See FeatureStore.move_source. Lineage names the token that the call was made with."""
        request = wire_control.move_message(source, positions, expected)
        try:
            return dict((await self._calls.call(self._control.MoveSource, request)).next)
        except PositionConflict as conflict:
            if "stored" not in conflict.facts:  # too long for an error's metadata
                conflict.facts["stored"] = await self.source_position(source)
            raise

    async def flush(self, group: str | None = None) -> dict[str, Flushed]:
        """See FeatureStore.flush."""
        request = control_pb2.FlushRequest(feature_group_name=group or "")
        response = await self._calls.unary("Flush", request)
        return wire.flushed_from(response)

    async def get_windows(
        self, group: str, keys: Iterable[object], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """See FeatureStore.get_windows."""
        request = wire_window.windows_message(group, keys, at)
        response = await self._calls.call(self._windows.GetWindows, request)
        return list(map(convert.message_to_values, response.records))

    async def get_as_of(
        self,
        group: str,
        identifiers: Iterable[object],
        times: Iterable[object],
        *,
        features: Sequence[str] = (),
        lookback: dt.timedelta | None = None,
    ) -> pa.Table:
        """See FeatureStore.get_as_of."""
        requests = wire_asof.requests(group, identifiers, times, features, lookback)
        return wire_asof.table_of(
            [await self._calls.unary("GetRecordsAsOf", request) for request in requests]
        )

    async def impact(
        self,
        group: str,
        identifier: object,
        event_time: dt.datetime | None = None,
        *,
        until: dt.datetime | None = None,
    ) -> ImpactReport:
        """See FeatureStore.impact."""
        request = wire_impact.tracing_message(group, identifier, event_time, until)
        return wire_impact.report_of(await self._calls.unary("TraceRecord", request))

    async def records_behind(self, start: str) -> AsyncGenerator[pa.Table, None]:
        """See FeatureStore.records_behind."""
        request = impact_pb2.ListRecordsBehindRequest(start=start)
        async with contextlib.aclosing(self._calls.stream("ListRecordsBehind", request)) as replies:
            async for reply in replies:
                yield wire_impact.table_of(reply)

    async def erase(
        self, group: str, identifiers: object, *, reason: str = "", datasets: str = "keep"
    ) -> ErasureReport:
        """See FeatureStore.erase. The report names the token that the call was made with."""
        request = wire_control.erase_message(group, identifiers, reason, datasets)
        response = await self._calls.unary("EraseRecords", request)
        return ErasureReport(json.loads(response.report_json))

    # -- datasets and offline tables ----------------------------------------------------------

    async def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
        spine_name: str = "",
    ) -> Dataset:
        """See FeatureStore.dataset."""
        return await self._datasets.dataset(spine, features, time, as_of, spine_name)

    async def explain_dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        *,
        time: str = "event_time",
        as_of: dt.datetime | None = None,
    ) -> DatasetPlan:
        """See FeatureStore.explain_dataset."""
        return await self._datasets.explain(spine, features, time, as_of)

    async def write_dataset(
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
        return await self._datasets.write(
            spine,
            features,
            Path(path),
            memory_limit=memory_limit,
            time=time,
            as_of=as_of,
            spine_name=spine_name,
            on_progress=on_progress,
        )

    async def create_dataset(
        self,
        base: object,
        output_path: str | Path | None = None,
        record_identifier_feature_name: str | None = None,
        event_time_identifier_feature_name: str | None = None,
        included_feature_names: Sequence[str] | None = None,
    ) -> AwaitedBuilder:
        """See FeatureStore.create_dataset; what the builder asks of the server is awaited."""
        return await AwaitedBuilder.begin(
            base,
            describe=self.describe,
            run=self._datasets.run_builder,
            output_path=output_path,
            record_identifier=record_identifier_feature_name,
            event_time=event_time_identifier_feature_name,
            included=included_feature_names,
        )

    async def save_dataset(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        return await self._datasets.save(dataset)

    async def load_dataset(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        return await self._datasets.load(fingerprint)

    async def rebuild_dataset(self, fingerprint: str) -> Dataset:
        """See FeatureStore.rebuild_dataset."""
        return await self._datasets.rebuild(fingerprint)

    async def list_datasets(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        return await self._datasets.saved()

    async def describe_dataset(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        return await self._datasets.describe(fingerprint)

    async def check_dataset(
        self, dataset: Dataset, *, rows: int | None = None, seed: int = 0
    ) -> CheckReport:
        """See FeatureStore.check_dataset."""
        return await self._datasets.check(dataset, rows, seed)

    async def maintain(
        self, group: str, *, retention: dt.timedelta = DEFAULT_RETENTION, zorder: bool = True
    ) -> MaintenanceReport:
        """See FeatureStore.maintain."""
        return await self._datasets.maintain(group, retention, zorder=zorder)

    def history(
        self,
        group: str,
        *,
        version: int | None = None,
        as_of: dt.datetime | None = None,
        features: Sequence[str] = (),
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """See FeatureStore.history; the batches come as they are asked for."""
        return self._datasets.history(group, version, as_of, features)

    async def versions(self, group: str, *, limit: int | None = None) -> list[TableVersion]:
        """See FeatureStore.versions."""
        return await self._datasets.versions(group, limit)

    async def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        return await self._datasets.restore(group, version)

    # -- end ----------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def _settled(self, batch: wire.WriteBatch | wire.RowBatch) -> Any:
        response: Any = runtime_pb2.BatchWriteRecordResponse()
        if batch.is_settled:
            return response
        request = batch.request
        try:
            response = await self._calls.call(self._runtime.BatchWriteRecord, request)
            return await self._completed(request, response)
        except PositionConflict as conflict:
            if "stored" not in conflict.facts:  # too long for an error's metadata
                conflict.facts["stored"] = await self.source_position(request.position.source)
            raise

    async def _completed(self, request: Any, response: Any) -> Any:
        """Send what a throttled server left for later, until the deadline."""
        if not response.unprocessed:
            return response
        left = wire.Unprocessed(request, response)
        deadline = time.monotonic() + self._calls.timeout_s
        while (rest := left.request) is not None and time.monotonic() < deadline:
            await asyncio.sleep(left.wait_s)
            left.take(await self._calls.call(self._runtime.BatchWriteRecord, rest))
        return left.response()
