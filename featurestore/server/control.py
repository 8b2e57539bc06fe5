"""The control plane's service: feature groups, flush, verification and datasets."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from typing import Any, Final, final

from featurestore import wire
from featurestore.embedded import EmbeddedStore
from featurestore.errors import InvalidRequest, InvalidSpine
from featurestore.record import shown
from featurestore.server.answer import answer
from featurestore.v1 import control_pb2, control_pb2_grpc

__all__ = ["ControlService"]

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100


@final
class ControlService(control_pb2_grpc.FeatureStoreServicer):
    """Answers the calls of `featurestore.v1.FeatureStore` on an embedded store.

    Every call runs in a thread: SQLite, Delta and DuckDB block.
    """

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    async def CreateFeatureGroup(self, request: Any, context: Any) -> Any:
        """Create a group."""

        def work() -> Any:
            made = self._store.create_feature_group(wire.group_from(request.feature_group))
            return control_pb2.CreateFeatureGroupResponse(
                description=wire.description_message(made)
            )

        return await _in_thread(context, work, "CreateFeatureGroup")

    async def DescribeFeatureGroup(self, request: Any, context: Any) -> Any:
        """Describe a group."""

        def work() -> Any:
            found = self._store.describe(request.feature_group_name)
            return control_pb2.DescribeFeatureGroupResponse(
                description=wire.description_message(found)
            )

        return await _in_thread(context, work, "DescribeFeatureGroup")

    async def UpdateFeatureGroup(self, request: Any, context: Any) -> Any:
        """Add features, or change the ttl: one kind of change per call."""

        def work() -> Any:
            name = request.feature_group_name
            adds, changes_ttl = bool(request.feature_additions), request.HasField("ttl_change")
            if adds == changes_ttl:
                raise InvalidRequest(
                    f"{name}: expected one kind of change in a call, feature_additions or "
                    f"ttl_change, got {'both' if adds else 'none'}"
                )
            if adds:
                changed = self._store.add_features(
                    name, wire.definitions_from(request.feature_additions)
                )
            else:
                changed = self._store.set_ttl(name, wire.ttl_from(request.ttl_change))
            return control_pb2.UpdateFeatureGroupResponse(
                description=wire.description_message(changed)
            )

        return await _in_thread(context, work, "UpdateFeatureGroup")

    async def DeleteFeatureGroup(self, request: Any, context: Any) -> Any:
        """Delete a group; its offline table stays."""

        def work() -> Any:
            self._store.delete_feature_group(request.feature_group_name)
            return control_pb2.DeleteFeatureGroupResponse()

        return await _in_thread(context, work, "DeleteFeatureGroup")

    async def ListFeatureGroups(self, request: Any, context: Any) -> Any:
        """List groups by name, a page at a time."""

        def work() -> Any:
            limit = request.max_results or DEFAULT_PAGE
            if not 1 <= limit <= MAX_PAGE:
                raise InvalidRequest(f"max_results: expected 1 to {MAX_PAGE}, got {limit}")
            after = _read_token(request.next_token)
            found = [
                entry
                for entry in self._store.list_feature_groups(name_contains=request.name_contains)
                if entry.group.name > after
            ]
            page = found[:limit]
            more = len(found) > limit
            return control_pb2.ListFeatureGroupsResponse(
                descriptions=[wire.description_message(entry) for entry in page],
                next_token=_write_token(page[-1].group.name) if more else "",
            )

        return await _in_thread(context, work, "ListFeatureGroups")

    async def Flush(self, request: Any, context: Any) -> Any:
        """Move the outbox into the Delta tables."""

        def work() -> Any:
            flushed = self._store.flush(request.feature_group_name or None)
            return control_pb2.FlushResponse(
                flushed=[
                    control_pb2.FlushResponse.Flushed(
                        feature_group_name=name,
                        records=entry.records,
                        table_version=-1 if entry.version is None else entry.version,
                    )
                    for name, entry in flushed.items()
                ]
            )

        return await _in_thread(context, work, "Flush")

    async def Verify(self, request: Any, context: Any) -> Any:
        """Compare the two stores of a group."""

        def work() -> Any:
            report = self._store.verify(request.feature_group_name)
            return control_pb2.VerifyResponse(
                equal=report.equal,
                online=report.online,
                offline=report.offline,
                differences=[
                    control_pb2.VerifyResponse.Difference(
                        record_identifier_value_as_string=entry.identifier, reason=entry.reason
                    )
                    for entry in report.differences
                ],
            )

        return await _in_thread(context, work, "Verify")

    async def BuildDataset(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Build a point-in-time dataset from a spec and a spine, both streamed in."""
        spec: Any = None
        chunks: list[bytes] = []
        async for request in request_iterator:
            if request.WhichOneof("part") == "spec":
                spec = request.spec
            else:
                chunks.append(request.spine)

        def work() -> Any:
            if spec is None:
                raise InvalidRequest("expected the dataset's spec in the first message")
            if not chunks:
                raise InvalidSpine("expected the spine as an Arrow IPC stream, got no bytes")
            return self._store.dataset(
                wire.table_from(chunks, "spine"),
                wire.selections_from(spec),
                time=spec.time_column or "event_time",
                as_of=wire.as_of_from(spec),
                spine_name=spec.spine_name,
            )

        dataset = await _in_thread(context, work, "BuildDataset")
        yield control_pb2.BuildDatasetResponse(dataset=wire.manifest_message(dataset))
        for chunk in wire.table_chunks(dataset.table):
            yield control_pb2.BuildDatasetResponse(rows=chunk)


async def _in_thread(context: Any, work: Any, method: str) -> Any:
    return await answer(context, lambda: asyncio.to_thread(work), method)


def _write_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidRequest(
            f"next_token: expected the token of an earlier reply, got {shown(token)}"
        ) from None
