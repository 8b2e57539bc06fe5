"""Datasets and offline tables of a server: what `RemoteStore` does with them."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, final

import pyarrow as pa

from featurestore.arriving import ArrivingFile
from featurestore.builder import BuilderOptions, BuiltDataset
from featurestore.check import CheckReport
from featurestore.dataset import Dataset, FeatureSelection, Keeper, moment_us
from featurestore.offline.history import TableVersion
from featurestore.offline.maintenance import MaintenanceReport
from featurestore.plan import DatasetPlan
from featurestore.remote_call import RemoteCalls
from featurestore.saved import SavedDataset
from featurestore.spine import name_of, read_spine, spine_batches
from featurestore.store import selections
from featurestore.streamed import WrittenDataset, memory_bytes
from featurestore.v1 import dataset_pb2, offline_pb2
from featurestore.wire import dataset as wire_dataset

__all__ = ["RemoteDatasets"]


@final
class RemoteDatasets:
    """The verbs of datasets and offline tables over gRPC.

    Args:
        calls: makes the calls.
        keeper: the store that datasets from here are saved in.
    """

    def __init__(self, calls: RemoteCalls, keeper: Keeper) -> None:
        self._calls = calls
        self._keeper = keeper

    def dataset(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        time: str,
        as_of: dt.datetime | None,
        spine_name: str,
    ) -> Dataset:
        """See FeatureStore.dataset."""
        rows = read_spine(spine)
        spec = wire_dataset.dataset_spec(
            selections(features),
            time,
            as_of_us=moment_us(as_of),
            spine_name=spine_name or name_of(spine),
        )
        requests = wire_dataset.build_requests(spec, wire_dataset.chunks_of(rows))
        return self._built("BuildDataset", requests)

    def explain(
        self,
        spine: object,
        features: Iterable[FeatureSelection | str],
        time: str,
        as_of: dt.datetime | None,
    ) -> DatasetPlan:
        """See FeatureStore.explain_dataset."""
        rows = read_spine(spine)
        spec = wire_dataset.dataset_spec(selections(features), time, as_of_us=moment_us(as_of))
        requests = wire_dataset.build_requests(spec, wire_dataset.chunks_of(rows))
        return wire_dataset.plan_from(self._calls.unary("ExplainDataset", requests))

    def write(
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
            spine_name=spine_name or name_of(spine),
            memory=memory_bytes(memory_limit),
        )
        rows = spine_batches(spine)
        requests = wire_dataset.build_requests(spec, wire_dataset.chunks_of(rows))
        replies = self._calls.stream("WriteDataset", requests)
        with ArrivingFile(path, on_progress) as arriving, contextlib.closing(replies):
            for reply in replies:
                arriving.take(reply)
            return arriving.finish()

    def run_builder(self, options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
        """See FeatureStore.run_builder."""
        requests = wire_dataset.builder_requests(options, rows)
        replies = self._calls.stream("CreateDataset", requests)
        first = next(replies).built
        table = wire_dataset.batches_from((reply.rows for reply in replies), "dataset").read_all()
        return BuiltDataset(table, first.query, json.loads(first.manifest_json))

    def save(self, dataset: Dataset) -> Path:
        """See FeatureStore.save_dataset."""
        reply = self._calls.unary("SaveDataset", wire_dataset.save_requests(dataset))
        return wire_dataset.saved_from(reply.dataset).path

    def load(self, fingerprint: str) -> Dataset:
        """See FeatureStore.load_dataset."""
        return self._built("LoadDataset", dataset_pb2.LoadDatasetRequest(fingerprint=fingerprint))

    def rebuild(self, fingerprint: str) -> Dataset:
        """See FeatureStore.rebuild_dataset."""
        request = dataset_pb2.RebuildDatasetRequest(fingerprint=fingerprint)
        return self._built("RebuildDataset", request)

    def saved(self) -> list[SavedDataset]:
        """See FeatureStore.list_datasets."""
        replies = self._calls.stream("ListDatasets", dataset_pb2.ListDatasetsRequest())
        return [wire_dataset.saved_from(reply) for reply in replies]

    def describe(self, fingerprint: str) -> SavedDataset:
        """See FeatureStore.describe_dataset."""
        request = dataset_pb2.DescribeDatasetRequest(fingerprint=fingerprint)
        return wire_dataset.saved_from(self._calls.unary("DescribeDataset", request).dataset)

    def check(self, dataset: Dataset, rows: int | None, seed: int) -> CheckReport:
        """See FeatureStore.check_dataset."""
        requests = wire_dataset.check_requests(dataset, rows, seed)
        return wire_dataset.check_from(self._calls.unary("CheckDataset", requests))

    def maintain(self, group: str, retention: dt.timedelta, *, zorder: bool) -> MaintenanceReport:
        """See FeatureStore.maintain."""
        request = wire_dataset.maintain_request(group, retention, zorder=zorder)
        return wire_dataset.maintenance_from(self._calls.unary("Maintain", request))

    def history(
        self,
        group: str,
        version: int | None,
        as_of: dt.datetime | None,
        features: Sequence[str],
    ) -> pa.RecordBatchReader:
        """See FeatureStore.history; a reader that is let go ends the call."""
        request = wire_dataset.history_request(group, version, moment_us(as_of), features)
        replies = self._calls.stream("ReadHistory", request)
        return wire_dataset.batches_from((reply.rows for reply in replies), "history")

    def versions(self, group: str, limit: int | None) -> list[TableVersion]:
        """See FeatureStore.versions."""
        request = offline_pb2.ListTableVersionsRequest(feature_group_name=group, limit=limit)
        return wire_dataset.versions_from(self._calls.unary("ListTableVersions", request))

    def restore(self, group: str, version: int) -> int:
        """See FeatureStore.restore."""
        request = offline_pb2.RestoreRequest(feature_group_name=group, version=version)
        return int(self._calls.unary("Restore", request).version)

    def _built(self, method: str, request: Any) -> Dataset:
        replies = self._calls.stream(method, request)
        manifest = next(replies).dataset.manifest_json
        table = wire_dataset.batches_from((reply.rows for reply in replies), "dataset").read_all()
        return wire_dataset.dataset_from(manifest, table, self._keeper)
