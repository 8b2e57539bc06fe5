"""Feature groups of a server, windowed ones too: what `RemoteStore` does with them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any, final

from featurestore import convert
from featurestore.batches import arrow_values
from featurestore.errors import FeatureGroupNotFound, FeatureStoreError
from featurestore.feature import FeatureDefinition, Value
from featurestore.metadata import FeatureMetadata, MetadataChange
from featurestore.remote_call import LONG_TIMEOUT_S, RemoteCalls
from featurestore.schema import FeatureGroup, StorageType, Throughput, Ttl
from featurestore.search import Expression, Filter, Resource
from featurestore.store import (
    Description,
    WindowedDescription,
    expression_of,
    resource_of,
)
from featurestore.v1 import control_pb2, window_pb2
from featurestore.window import WindowedGroup
from featurestore.wire import control as wire_control
from featurestore.wire import window as wire_window

__all__ = ["RemoteGroups"]


@final
class RemoteGroups:
    """The verbs of feature groups and windowed groups over gRPC.

    Args:
        calls: makes the calls.
    """

    def __init__(self, calls: RemoteCalls) -> None:
        self._calls = calls
        self._control = calls.control
        self._windows = calls.windows

    def create(self, group: FeatureGroup) -> Description:
        """See FeatureStore.create_feature_group."""
        request = control_pb2.CreateFeatureGroupRequest(
            feature_group=wire_control.group_message(group)
        )
        response = self._calls.call(self._control.CreateFeatureGroup, request)
        return wire_control.description_from(response.description)

    def describe(self, name: str) -> Description:
        """See FeatureStore.describe."""
        request = control_pb2.DescribeFeatureGroupRequest(feature_group_name=name)
        response = self._calls.call(self._control.DescribeFeatureGroup, request)
        return wire_control.description_from(response.description)

    def all(self, *, name_contains: str = "") -> list[Description]:
        """See FeatureStore.list_feature_groups."""
        found: list[Description] = []
        token = ""
        while True:
            response = self._calls.call(
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
            self.describe(name).group.with_features(features)
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

    def metadata(self, group: str, feature: str) -> FeatureMetadata:
        """See FeatureStore.feature_metadata."""
        request = control_pb2.DescribeFeatureMetadataRequest(
            feature_group_name=group, feature_name=feature
        )
        response = self._calls.call(self._control.DescribeFeatureMetadata, request)
        return wire_control.metadata_from(response.feature_metadata)

    def change_metadata(self, group: str, feature: str, change: MetadataChange) -> FeatureMetadata:
        """See FeatureStore.update_feature_metadata."""
        request = wire_control.change_message(group, feature, change)
        response = self._calls.call(self._control.UpdateFeatureMetadata, request)
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
            response = self._calls.call(
                self._control.Search,
                wire_control.search_message(chosen, wanted, sort_by, descending, token),
            )
            found.extend(map(wire_control.result_from, response.results))
            token = response.next_token
            if not token:
                return found

    def _changed(self, name: str, **change: Any) -> Description:
        request = control_pb2.UpdateFeatureGroupRequest(feature_group_name=name, **change)
        response = self._calls.call(self._control.UpdateFeatureGroup, request)
        return wire_control.description_from(response.description)

    def delete(self, name: str) -> None:
        """See FeatureStore.delete_feature_group."""
        request = control_pb2.DeleteFeatureGroupRequest(feature_group_name=name)
        self._calls.call(self._control.DeleteFeatureGroup, request, timeout_s=LONG_TIMEOUT_S)

    def create_windowed(self, group: WindowedGroup) -> WindowedDescription:
        """See FeatureStore.create_windowed_group."""
        request = window_pb2.CreateWindowedGroupRequest(
            windowed_group=wire_window.windowed_group_message(group)
        )
        response = self._calls.call(
            self._windows.CreateWindowedGroup, request, timeout_s=LONG_TIMEOUT_S
        )
        return wire_window.windowed_description_from(response.description)

    def describe_windowed(self, name: str) -> WindowedDescription:
        """See FeatureStore.describe_windowed_group."""
        request = window_pb2.DescribeWindowedGroupRequest(feature_group_name=name)
        response = self._calls.call(self._windows.DescribeWindowedGroup, request)
        return wire_window.windowed_description_from(response.description)

    def all_windowed(self) -> list[WindowedDescription]:
        """See FeatureStore.list_windowed_groups."""
        request = window_pb2.ListWindowedGroupsRequest()
        response = self._calls.call(self._windows.ListWindowedGroups, request)
        return list(map(wire_window.windowed_description_from, response.descriptions))

    def delete_windowed(self, name: str) -> None:
        """See FeatureStore.delete_windowed_group."""
        request = window_pb2.DeleteWindowedGroupRequest(feature_group_name=name)
        self._calls.call(self._windows.DeleteWindowedGroup, request, timeout_s=LONG_TIMEOUT_S)

    def fill_windowed(self, name: str) -> int:
        """See FeatureStore.fill_windowed_group."""
        request = window_pb2.FillWindowedGroupRequest(feature_group_name=name)
        response = self._calls.call(
            self._windows.FillWindowedGroup, request, timeout_s=LONG_TIMEOUT_S
        )
        return int(response.events)

    def get_windows(
        self, group: str, keys: Iterable[object], *, at: dt.datetime | None = None
    ) -> list[dict[str, Value]]:
        """See FeatureStore.get_windows."""
        request = wire_window.windows_message(group, arrow_values(keys), at)
        response = self._calls.call(self._windows.GetWindows, request)
        return list(map(convert.message_to_values, response.records))

    def readable(self, name: str) -> FeatureGroup:
        """Return what a group, windowed or not, reads as."""
        try:
            return self.describe(name).group
        except FeatureGroupNotFound as error:
            try:
                found = self.describe_windowed(name)
            except FeatureStoreError:
                raise error from None
        group, features = found.group, found.features
        return FeatureGroup(
            group.name,
            record_identifier=group.by,
            event_time=features[1].name,
            features=features,
        )
