"""The calls about the life of offline tables: maintenance, history, versions and restore."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import AsyncGenerator, Generator, Iterator
from contextlib import aclosing
from typing import Any, final

import pyarrow as pa

from featurestore import wire
from featurestore.embedded import EmbeddedStore
from featurestore.errors import InvalidRequest
from featurestore.offline.maintenance import DEFAULT_RETENTION
from featurestore.server.heavy import Heavy, stepwise
from featurestore.v1 import impact_pb2, offline_pb2
from featurestore.wire import dataset as wire_dataset
from featurestore.wire import impact as wire_impact

__all__ = ["TableCalls"]


@final
class TableCalls:
    """Answers the calls of offline tables on an embedded store.

    Args:
        store: what they work on.
        heavy: runs them.
    """

    def __init__(self, store: EmbeddedStore, heavy: Heavy) -> None:
        self._store = store
        self._heavy = heavy

    async def maintain(self, request: Any) -> Any:
        """Maintain a table; a client that goes ends it after the step at hand."""
        gone = threading.Event()

        def work() -> Any:
            report = self._store.maintain(
                request.feature_group_name,
                retention=_retention(request),
                zorder=request.zorder if request.HasField("zorder") else True,
                pause=lambda step: not gone.is_set(),
            )
            return wire_dataset.maintenance_message(report)

        try:
            return await self._heavy.begin(work)
        finally:
            gone.set()

    async def history(self, request: Any) -> AsyncGenerator[Any, None]:
        """Send every version of every record."""

        def work() -> tuple[Generator[bytes, None, None], bytes | None]:
            reader = self._store.history(
                request.feature_group_name,
                version=request.version if request.HasField("version") else None,
                as_of=wire.as_of_from(request),
                features=tuple(request.feature_names),
            )
            steps = _chunks(reader)
            return steps, next(steps, None)  # the first one sorts the table

        steps, first = await self._heavy.begin(work)
        if first is not None:
            yield offline_pb2.ReadHistoryResponse(rows=first)
        async with aclosing(stepwise(steps)) as replies:
            async for chunk in replies:
                yield offline_pb2.ReadHistoryResponse(rows=chunk)

    async def behind(self, request: Any) -> AsyncGenerator[Any, None]:
        """Send the records behind something."""

        def work() -> tuple[Generator[bytes, None, None], bytes | None]:
            steps = _parts(wire_impact.rows_behind(self._store.records_behind(request.start)))
            return steps, next(steps, None)  # the first one reads a table

        steps, first = await self._heavy.begin(work)
        if first is not None:
            yield impact_pb2.ListRecordsBehindResponse(rows=first)
        async with aclosing(stepwise(steps)) as replies:
            async for part in replies:
                yield impact_pb2.ListRecordsBehindResponse(rows=part)

    async def versions(self, request: Any) -> Any:
        """List the versions of a table."""
        limit = request.limit if request.HasField("limit") else None

        def work() -> Any:
            if limit is not None and limit < 1:
                raise InvalidRequest(f"limit: expected 1 or more, got {limit}")
            return wire_dataset.versions_message(
                self._store.versions(request.feature_group_name, limit=limit)
            )

        return await self._heavy.begin(work)

    async def restore(self, request: Any) -> Any:
        """Make an older version of a table the newest one."""

        def work() -> Any:
            made = self._store.restore(request.feature_group_name, request.version)
            return offline_pb2.RestoreResponse(version=made)

        return await self._heavy.begin(work)


def _retention(request: Any) -> dt.timedelta:
    if not request.HasField("retention_us"):
        return DEFAULT_RETENTION
    return dt.timedelta(microseconds=request.retention_us)


def _parts(parts: Iterator[bytes]) -> Generator[bytes, None, None]:
    yield from parts


def _chunks(reader: pa.RecordBatchReader) -> Generator[bytes, None, None]:
    yield from wire_dataset.chunks_of(reader)
