"""Rows from store to store on a server: what `RemoteStore` does with them."""

from __future__ import annotations

from typing import final

from featurestore.dataset import name_of
from featurestore.errors import FeatureStoreError
from featurestore.loaded import BackfillReport, LoadResult, Progress
from featurestore.remote_call import RemoteCalls
from featurestore.rows import row_batches
from featurestore.v1 import transfer_pb2
from featurestore.wire import transfer as wire_transfer

__all__ = ["RemoteTransfer"]


@final
class RemoteTransfer:
    """The verbs of bulk loads and backfills over gRPC.

    Args:
        calls: makes the calls.
    """

    def __init__(self, calls: RemoteCalls) -> None:
        self._calls = calls

    def load(
        self, group: str, data: object, *, key: str, source: str, on_progress: Progress | None
    ) -> LoadResult:
        """See FeatureStore.load."""
        requests = wire_transfer.LoadRequests(
            group, row_batches(data), key=key, source=source or name_of(data)
        )
        try:
            responses = self._calls.several(self._calls.control.LoadRows, iter(requests))
            result = wire_transfer.read_load(group, key, responses, on_progress)
        except FeatureStoreError:
            if requests.failure is not None:  # the server only says that the rows ended early
                raise requests.failure from None
            raise
        return result

    def backfill(
        self, group: str, on_progress: Progress | None, *, rebuild: bool
    ) -> BackfillReport:
        """See FeatureStore.backfill and rebuild_online; the server does it."""
        request = transfer_pb2.BackfillRequest(feature_group_name=group, rebuild=rebuild)
        responses = self._calls.several(self._calls.control.Backfill, request)
        return wire_transfer.read_backfill(group, responses, on_progress)
