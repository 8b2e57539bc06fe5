"""The service of windowed groups: what they are, and their features as of a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, final

from featurestore import convert
from featurestore.embedded import EmbeddedStore
from featurestore.server.answer import answer
from featurestore.v1 import window_pb2, window_pb2_grpc
from featurestore.wire import window as wire_window

__all__ = ["WindowService"]


@final
class WindowService(window_pb2_grpc.WindowedFeaturesServicer):
    """Answers the calls of `featurestore.v1.WindowedFeatures` on an embedded store.

    Every call runs in a thread: SQLite, Delta and DuckDB block.
    """

    def __init__(self, store: EmbeddedStore) -> None:
        self._store = store

    async def CreateWindowedGroup(self, request: Any, context: Any) -> Any:
        """Create a windowed group."""

        def work() -> Any:
            made = self._store.create_windowed_group(
                wire_window.windowed_group_from(request.windowed_group)
            )
            return window_pb2.CreateWindowedGroupResponse(
                description=wire_window.windowed_description_message(made)
            )

        return await _in_thread(context, work, "CreateWindowedGroup")

    async def DescribeWindowedGroup(self, request: Any, context: Any) -> Any:
        """Describe a windowed group."""

        def work() -> Any:
            found = self._store.describe_windowed_group(request.feature_group_name)
            return window_pb2.DescribeWindowedGroupResponse(
                description=wire_window.windowed_description_message(found)
            )

        return await _in_thread(context, work, "DescribeWindowedGroup")

    async def ListWindowedGroups(self, request: Any, context: Any) -> Any:
        """List all windowed groups."""

        def work() -> Any:
            return window_pb2.ListWindowedGroupsResponse(
                descriptions=map(
                    wire_window.windowed_description_message, self._store.list_windowed_groups()
                )
            )

        return await _in_thread(context, work, "ListWindowedGroups")

    async def DeleteWindowedGroup(self, request: Any, context: Any) -> Any:
        """Delete a windowed group."""

        def work() -> Any:
            self._store.delete_windowed_group(request.feature_group_name)
            return window_pb2.DeleteWindowedGroupResponse()

        return await _in_thread(context, work, "DeleteWindowedGroup")

    async def FillWindowedGroup(self, request: Any, context: Any) -> Any:
        """Take the events of the offline store in again."""

        def work() -> Any:
            events = self._store.fill_windowed_group(request.feature_group_name)
            return window_pb2.FillWindowedGroupResponse(events=events)

        return await _in_thread(context, work, "FillWindowedGroup")

    async def GetWindows(self, request: Any, context: Any) -> Any:
        """Return windowed features as of a time."""

        def work() -> Any:
            name = request.feature_group_name
            found = self._store.get_windows(
                name,
                list(request.record_identifiers_value_as_string),
                at=wire_window.at_from(request),
            )
            response = window_pb2.GetWindowsResponse()
            collections = self._store.windowed.get(name).windows.schema.collections
            for record in found:
                response.records.add().MergeFromString(convert.encode_record(record, collections))
            return response

        return await _in_thread(context, work, "GetWindows")


async def _in_thread(context: Any, work: Callable[[], Any], method: str) -> Any:
    return await answer(context, lambda: asyncio.to_thread(work), method)
