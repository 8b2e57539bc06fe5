"""Datasets and offline tables of a server: what `AsyncStore` does with them."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import json
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, final

import pyarrow as pa

from featurestore import wire
from featurestore.arriving import ArrivingFile
from featurestore.awaited_call import AwaitedCalls
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport
from featurestore.dataset import Dataset, FeatureSelection, moment_us
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import MaintenanceReport
from featurestore.plan import DatasetPlan
from featurestore.saved import SavedDataset
from featurestore.spine import name_of, read_spine, spine_batches
from featurestore.store import selections
from featurestore.streamed import WrittenDataset, memory_bytes
from featurestore.v1 import dataset_pb2, offline_pb2
from featurestore.wire import dataset as wire_dataset

__all__ = ["AwaitedDatasets"]


@final
class AwaitedDatasets:
    """The verbs of datasets and offline tables as coroutines.

    Spines and rows are read and written in threads.

    Args:
        calls: makes the calls.
    """

    def __init__(self, calls: AwaitedCalls) -> None:
        self._calls = calls

    async def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        time: str,
        as_of: dt.datetime | None,
        spine_name: str,
    ) -> Dataset:
        """See FeatureStore.dataset."""
        rows = await asyncio.to_thread(read_spine, spine)
        spec = wire_dataset.dataset_spec(
            selections(features),
            time,
            as_of_us=moment_us(as_of),
            spine_name=spine_name or name_of(spine),
        )
        requests = wire_dataset.build_requests(spec, wire_dataset.chunks_of(rows))
        return await self._built("BuildDataset", requests)

    async def explain(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        time: str,
        as_of: dt.datetime | None,
    ) -> DatasetPlan:
        """See FeatureStore.explain_dataset."""
        rows = await asyncio.to_thread(read_spine, spine)
        spec = wire_dataset.dataset_spec(selections(features), time, as_of_us=moment_us(as_of))
        requests = wire_dataset.build_requests(spec, wire_dataset.chunks_of(rows))
        return wire_dataset.plan_from(await self._calls.unary("ExplainDataset", requests))

    async def write(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        path: Path,
        *,
        memory_limit: int | str,
        time: str,
        as_of: dt.datetime | None,
        spine_name: str,
        on_progress: Callable[[int], None] | None,
    ) -> WrittenDataset:
        """See FeatureStore.write_dataset."""
        spec = wire_dataset.dataset_spec(
            selections(features),
            time,
            as_of_us=moment_us(as_of),
            spine_name=spine_name or await asyncio.to_thread(name_of, spine),
            memory=memory_bytes(memory_limit),
        )
        rows = await asyncio.to_thread(spine_batches, spine)
        requests = wire_dataset.build_requests(spec, wire_dataset.chunks_of(rows))
        replies = self._calls.stream("WriteDataset", requests)
        with ArrivingFile(path, on_progress) as arriving:
            async with contextlib.aclosing(replies):
                async for reply in replies:
                    if reply.WhichOneof("part") == "file":
                        await asyncio.to_thread(arriving.take, reply)
                    else:
                        arriving.take(reply)
            return await asyncio.to_thread(arriving.finish)

    async def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """See FeatureStore.run_builder."""
        requests = wire_dataset.builder_requests(options, rows)
        replies = self._calls.stream("CreateDataset", requests)
        async with contextlib.aclosing(replies):
            first = (await anext(replies)).built
            chunks = [reply.rows async for reply in replies]
        table = await asyncio.to_thread(wire.table_from, chunks, "dataset")
        return BuiltDataset(table, first.query, json.loads(first.manifest_json))

    async def save(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        reply = await self._calls.unary("SaveDataset", wire_dataset.save_requests(dataset))
        return wire_dataset.saved_from(reply.dataset).path

    async def load(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        request = dataset_pb2.LoadDatasetRequest(fingerprint=fingerprint)
        return await self._built("LoadDataset", request)

    async def rebuild(self, fingerprint: str) -> Dataset:
        """See FeatureStore.rebuild_dataset."""
        request = dataset_pb2.RebuildDatasetRequest(fingerprint=fingerprint)
        return await self._built("RebuildDataset", request)

    async def saved(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        replies = self._calls.stream("ListDatasets", dataset_pb2.ListDatasetsRequest())
        return [wire_dataset.saved_from(reply) async for reply in replies]

    async def describe(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        request = dataset_pb2.DescribeDatasetRequest(fingerprint=fingerprint)
        return wire_dataset.saved_from(
            (await self._calls.unary("DescribeDataset", request)).dataset
        )

    async def check(self, dataset: Dataset, rows: int | None, seed: int) -> CheckReport:
        """See FeatureStore.check_dataset."""
        requests = wire_dataset.check_requests(dataset, rows, seed)
        return wire_dataset.check_from(await self._calls.unary("CheckDataset", requests))

    async def maintain(
        self, group: str, retention: dt.timedelta, *, zorder: bool
    ) -> MaintenanceReport:
        """See FeatureStore.maintain."""
        request = wire_dataset.maintain_request(group, retention, zorder=zorder)
        return wire_dataset.maintenance_from(await self._calls.unary("Maintain", request))

    async def history(
        self,
        group: str,
        version: int | None,
        as_of: dt.datetime | None,
        features: Sequence[str],
    ) -> AsyncGenerator[pa.RecordBatch, None]:
        """See FeatureStore.history."""
        request = wire_dataset.history_request(group, version, moment_us(as_of), features)
        loop = asyncio.get_running_loop()
        replies = self._calls.stream("ReadHistory", request)

        def chunks() -> Iterator[bytes]:
            # Read in a thread, which waits for the loop to bring the next piece.
            while True:
                found = asyncio.run_coroutine_threadsafe(_next(replies), loop).result()
                if found is None:
                    return
                yield found.rows

        try:
            reader = await asyncio.to_thread(wire_dataset.batches_from, chunks(), "history")
            batches = iter(reader)
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                yield batch
        finally:
            await replies.aclose()

    async def versions(self, group: str, limit: int | None) -> list[TableVersion]:
        """See FeatureStore.versions."""
        request = offline_pb2.ListTableVersionsRequest(feature_group_name=group, limit=limit)
        return wire_dataset.versions_from(await self._calls.unary("ListTableVersions", request))

    async def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        request = offline_pb2.RestoreRequest(feature_group_name=group, version=version)
        return int((await self._calls.unary("Restore", request)).version)

    async def _built(self, method: str, request: Any) -> Dataset:
        manifest = ""
        chunks: list[bytes] = []
        async for reply in self._calls.stream(method, request):
            if reply.WhichOneof("part") == "dataset":
                manifest = reply.dataset.manifest_json
            else:
                chunks.append(reply.rows)
        table = await asyncio.to_thread(wire.table_from, chunks, "dataset")
        return wire_dataset.dataset_from(manifest, table, None)


async def _next(replies: AsyncGenerator[Any, None]) -> Any:
    return await anext(replies, None)
