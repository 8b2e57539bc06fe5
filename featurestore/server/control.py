"""The control plane's service: feature groups, flush, verification and datasets."""

from __future__ import annotations

import asyncio
import base64
import datetime as dt
import json
from collections.abc import AsyncIterator
from functools import partial
from typing import Any, Final, final

from featurestore import wire
from featurestore.embedded import EmbeddedStore
from featurestore.errors import InvalidRequest, InvalidSpine
from featurestore.record import shown
from featurestore.server import transfer
from featurestore.server.access import Access
from featurestore.server.answer import CALLER, answer
from featurestore.server.datasets import DEFAULT_MEMORY_BYTES, DatasetCalls
from featurestore.server.heavy import Heavy
from featurestore.server.scratch import Scratch
from featurestore.server.tables import TableCalls
from featurestore.store import Description
from featurestore.v1 import control_pb2, control_pb2_grpc, erasure_pb2, source_pb2
from featurestore.wire import asof as wire_asof
from featurestore.wire import control as wire_control
from featurestore.wire import impact as wire_impact

__all__ = ["ControlService"]

MAX_PAGE: Final = 1000
DEFAULT_PAGE: Final = 100


@final
class ControlService(control_pb2_grpc.FeatureStoreServicer):
    """Answers the calls of `featurestore.v1.FeatureStore` on an embedded store.

    Every call runs in a thread: SQLite, Delta and DuckDB block.

    Args:
        store: what is served; temporary files are in `tmp` of its home.
        access: says which features of a kept dataset a caller may read; None: all.
        dataset_memory_bytes: what one build of a dataset into a file may take.
    """

    def __init__(
        self,
        store: EmbeddedStore,
        *,
        access: Access | None = None,
        dataset_memory_bytes: int = DEFAULT_MEMORY_BYTES,
    ) -> None:
        self._store = store
        self._heavy = Heavy(Scratch(store.home / "tmp"))
        self._datasets = DatasetCalls(
            store, self._heavy, access=access, memory_bytes=dataset_memory_bytes
        )
        self._tables = TableCalls(store, self._heavy)

    def close(self) -> None:
        """Wait for the long work under way."""
        self._heavy.close()

    async def CreateFeatureGroup(self, request: Any, context: Any) -> Any:
        """Create a group."""

        def work() -> Any:
            made = self._store.create_feature_group(wire_control.group_from(request.feature_group))
            return control_pb2.CreateFeatureGroupResponse(
                description=wire_control.description_message(made)
            )

        return await _in_thread(context, work, "CreateFeatureGroup")

    async def DescribeFeatureGroup(self, request: Any, context: Any) -> Any:
        """Describe a group."""

        def work() -> Any:
            found = self._store.describe(request.feature_group_name)
            return control_pb2.DescribeFeatureGroupResponse(
                description=wire_control.description_message(found)
            )

        return await _in_thread(context, work, "DescribeFeatureGroup")

    async def UpdateFeatureGroup(self, request: Any, context: Any) -> Any:
        """Add features, or change ttl, storage type or throughput: one kind of change per call."""

        def work() -> Any:
            name = request.feature_group_name
            asked = [
                member
                for member, is_asked in (
                    ("feature_additions", bool(request.feature_additions)),
                    ("ttl_change", request.HasField("ttl_change")),
                    ("storage_type", bool(request.storage_type)),
                    ("throughput_config", request.HasField("throughput_config")),
                )
                if is_asked
            ]
            if len(asked) != 1:
                raise InvalidRequest(
                    f"{name}: expected one kind of change in a call, feature_additions, "
                    f"ttl_change, storage_type or throughput_config, "
                    f"got {' and '.join(asked) or 'none'}"
                )
            if asked == ["feature_additions"]:
                changed = self._store.add_features(
                    name, wire_control.definitions_from(request.feature_additions)
                )
            elif asked == ["ttl_change"]:
                changed = self._store.set_ttl(name, wire.ttl_from(request.ttl_change))
            elif asked == ["storage_type"]:
                changed = self._store.set_storage_type(
                    name, wire_control.storage_type_from(request.storage_type)
                )
            else:
                changed = self._store.set_throughput(
                    name, wire_control.throughput_from(request.throughput_config)
                )
            return control_pb2.UpdateFeatureGroupResponse(
                description=wire_control.description_message(changed)
            )

        return await _in_thread(context, work, "UpdateFeatureGroup")

    async def DeleteFeatureGroup(self, request: Any, context: Any) -> Any:
        """Delete a group; its offline table stays."""

        def work() -> Any:
            self._store.delete_feature_group(request.feature_group_name)
            return control_pb2.DeleteFeatureGroupResponse()

        return await _in_thread(context, work, "DeleteFeatureGroup")

    async def ListFeatureGroups(self, request: Any, context: Any) -> Any:
        """List groups that fulfil the filters, a page at a time."""

        def work() -> Any:
            found = _listed(
                self._store.list_feature_groups(name_contains=request.name_contains), request
            )
            page, token = _page([(_place(request, entry), entry) for entry in found], request)
            return control_pb2.ListFeatureGroupsResponse(
                descriptions=[wire_control.description_message(entry) for entry in page],
                next_token=token,
            )

        return await _in_thread(context, work, "ListFeatureGroups")

    async def UpdateFeatureMetadata(self, request: Any, context: Any) -> Any:
        """Change the description and parameters of one feature."""

        def work() -> Any:
            changed = self._store.update_feature_metadata(
                request.feature_group_name,
                request.feature_name,
                wire_control.change_from(request),
            )
            return control_pb2.UpdateFeatureMetadataResponse(
                feature_metadata=wire_control.metadata_message(changed)
            )

        return await _in_thread(context, work, "UpdateFeatureMetadata")

    async def DescribeFeatureMetadata(self, request: Any, context: Any) -> Any:
        """Describe one feature."""

        def work() -> Any:
            found = self._store.feature_metadata(request.feature_group_name, request.feature_name)
            return control_pb2.DescribeFeatureMetadataResponse(
                feature_metadata=wire_control.metadata_message(found)
            )

        return await _in_thread(context, work, "DescribeFeatureMetadata")

    async def Search(self, request: Any, context: Any) -> Any:
        """Search feature groups or features, a page at a time."""

        def work() -> Any:
            _check_order(request)
            found = self._store.search(
                wire_control.resource_from(request),
                wire_control.expression_from(request.search_expression),
                sort_by=request.sort_by or "LastModifiedTime",
                descending=request.sort_order != control_pb2.ASCENDING,
            )
            start = _read_place(request.next_token)
            limit = _limit(request)
            page = found[start : start + limit]
            end = start + len(page)
            return control_pb2.SearchResponse(
                results=map(wire_control.result_message, page),
                next_token=_write_token(str(end)) if end < len(found) else "",
                total_hits=len(found),
            )

        return await _in_thread(context, work, "Search")

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

    async def EraseRecords(self, request: Any, context: Any) -> Any:
        """Erase identifiers from every store."""
        caller = CALLER.get()  # it is not there in another thread

        def work() -> Any:
            report = self._store.erase(
                request.feature_group_name,
                list(request.record_identifiers_value_as_string),
                reason=request.reason,
                datasets=wire_control.saved_datasets_from(request),
                by="" if caller is None else f"token {caller.token_id} of {caller.principal}",
            )
            return erasure_pb2.EraseRecordsResponse(report_json=json.dumps(report.to_json()))

        return await _in_thread(context, work, "EraseRecords")

    async def MoveSource(self, request: Any, context: Any) -> Any:
        """Move the stored position of a source."""
        caller = CALLER.get()  # it is not there in another thread

        def work() -> Any:
            stands = self._store.move_source(
                request.source,
                dict(request.positions),
                expected=dict(request.expected),
                by="" if caller is None else f"token {caller.token_id} of {caller.principal}",
            )
            return source_pb2.MoveSourceResponse(next=stands)

        return await _in_thread(context, work, "MoveSource")

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

    async def ExplainDataset(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        """Say what a build would read."""
        return await self._datasets.explain(request_iterator)

    def WriteDataset(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Build a dataset into a file and send that."""
        return self._datasets.write(request_iterator)

    async def SaveDataset(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        """Keep a dataset that a client has."""
        return await self._datasets.save(request_iterator)

    def LoadDataset(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send a kept dataset."""
        return self._datasets.load(request)

    def RebuildDataset(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Build a kept dataset again and send it."""
        return self._datasets.rebuild(request)

    def ListDatasets(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send what is known of every kept dataset."""
        return self._datasets.list()

    async def DescribeDataset(self, request: Any, context: Any) -> Any:
        """Describe a kept dataset."""
        return await self._datasets.describe(request)

    async def CheckDataset(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        """Derive the values of a dataset again."""
        return await self._datasets.check(request_iterator)

    def CreateDataset(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Run a DatasetBuilder and send its rows."""
        return self._datasets.create(request_iterator)

    async def Maintain(self, request: Any, context: Any) -> Any:
        """Maintain an offline table."""
        return await self._tables.maintain(request)

    def ReadHistory(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send every version of every record of a group."""
        return self._tables.history(request)

    async def ListTableVersions(self, request: Any, context: Any) -> Any:
        """List the versions of an offline table."""
        return await self._tables.versions(request)

    async def Restore(self, request: Any, context: Any) -> Any:
        """Make an older version of an offline table the newest one."""
        return await self._tables.restore(request)

    async def GetRecordsAsOf(self, request: Any, context: Any) -> Any:
        """Return features of identifiers, each as of a time of its own."""
        work = partial(wire_asof.answered, self._store, request)
        return await _in_thread(context, work, "GetRecordsAsOf")

    async def TraceRecord(self, request: Any, context: Any) -> Any:
        """Say where a record is kept and what it reached."""
        work = partial(wire_impact.traced, self._store, request)
        return await _in_thread(context, work, "TraceRecord")

    def ListRecordsBehind(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Send the records whose values are in what comes from saved datasets."""
        return self._tables.behind(request)

    async def LoadRows(
        self, request_iterator: AsyncIterator[Any], context: Any
    ) -> AsyncIterator[Any]:
        """Load rows into both stores."""
        async for response in transfer.load_rows(self._store, request_iterator, context):
            yield response

    async def Backfill(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Bring what the offline store has online."""
        async for response in transfer.backfill(self._store, request, context):
            yield response


async def _in_thread(context: Any, work: Any, method: str) -> Any:
    return await answer(context, lambda: asyncio.to_thread(work), method)


def _limit(request: Any) -> int:
    limit = int(request.max_results or DEFAULT_PAGE)
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidRequest(f"max_results: expected 1 to {MAX_PAGE}, got {limit}")
    return limit


def _check_order(request: Any) -> None:
    if request.sort_order not in control_pb2.SortOrder.values():
        raise InvalidRequest(
            f"sort_order: expected ASCENDING or DESCENDING, got {request.sort_order}"
        )


def _listed(entries: list[Description], request: Any) -> list[Description]:
    """Return the groups that fulfil a list call's filters, in its order."""
    _check_order(request)
    if request.sort_by not in control_pb2.ListFeatureGroupsRequest.SortBy.values():
        raise InvalidRequest(f"sort_by: unknown number {request.sort_by}")
    status = request.feature_group_status_equals
    offline = request.offline_store_status_equals
    after = _moment(request, "creation_time_after")
    before = _moment(request, "creation_time_before")
    found = [
        entry
        for entry in entries
        if status in ("", "Created")
        and offline in ("", _offline_status(entry))
        and (after is None or entry.created > after)
        and (before is None or entry.created < before)
    ]
    found.sort(
        key=lambda entry: _place(request, entry),
        reverse=request.sort_order == control_pb2.DESCENDING,
    )
    return found


def _moment(request: Any, field: str) -> dt.datetime | None:
    """Read a field with a time; None where it is unset."""
    if not request.HasField(field):
        return None
    stamp = getattr(request, field)
    try:
        moment: dt.datetime = stamp.ToDatetime(dt.UTC)
    except (ValueError, OverflowError):
        raise InvalidRequest(
            f"{field}: expected a time of the years 0001 to 9999, got {stamp.seconds} s and "
            f"{stamp.nanos} ns since the epoch"
        ) from None
    return moment


def _offline_status(entry: Description) -> str:
    return "Active" if entry.group.offline else "Disabled"


def _place(request: Any, entry: Description) -> tuple[str, str]:
    """Return what orders a list: the property asked for, then the name."""
    kinds = control_pb2.ListFeatureGroupsRequest
    name = entry.group.name
    if request.sort_by == kinds.CREATION_TIME:
        return f"{entry.created:%Y%m%d%H%M%S%f}", name
    if request.sort_by == kinds.OFFLINE_STORE_STATUS:
        return _offline_status(entry), name
    return "", name


def _page(
    found: list[tuple[tuple[str, str], Description]], request: Any
) -> tuple[list[Description], str]:
    """Cut one page out of a sorted list; groups made or gone meanwhile do not shift it."""
    limit = _limit(request)
    token = _read_token(request.next_token)
    if token:
        kind, _, name = token.partition("/")
        last = (kind, name)
        is_descending = request.sort_order == control_pb2.DESCENDING
        found = [hit for hit in found if (hit[0] < last if is_descending else hit[0] > last)]
    page = found[:limit]
    more = _write_token("/".join(page[-1][0])) if len(found) > limit else ""
    return [entry for _, entry in page], more


def _read_place(token: str) -> int:
    text = _read_token(token)
    if text and not (text.isascii() and text.isdecimal()):
        raise InvalidRequest(
            f"next_token: expected the token of an earlier reply, got {shown(token)}"
        )
    return int(text or 0)


def _write_token(name: str) -> str:
    return base64.urlsafe_b64encode(name.encode()).decode()


def _read_token(token: str) -> str:
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except ValueError:
        raise InvalidRequest(
            f"next_token: expected the token of an earlier reply, got {shown(token)}"
        ) from None
