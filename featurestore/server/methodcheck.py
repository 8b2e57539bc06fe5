"""How a call of each method is checked, where its permissions alone do not decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

from featurestore.auth import Caller, ContextValue, Guard
from featurestore.auth.condition import folded
from featurestore.auth.grants import READS, WRITES
from featurestore.server.groupaccess import GroupAccess, Groups
from featurestore.server.permission import (
    METHODS,
    action_and_resources,
    built_from,
    position_needs,
    readable_features,
)

__all__ = ["Check", "MethodChecks"]

Check = Callable[[Any, Caller, Groups | None], None]


@final
class MethodChecks:
    """Has a check for each method: it takes a request, its caller and the groups at hand.

    Args:
        guard: decides; it is active.
        access: says what a caller may do with a group.
    """

    def __init__(self, guard: Guard, access: GroupAccess) -> None:
        self._guard = guard
        self._access = access
        self.by_method: dict[str, Check] = {
            **{method: self.other(method) for method in METHODS},
            "GetRecord": self._get,
            "PutRecord": self._put,
            "UpdateRecord": self._update,
            "BatchGetRecord": _nothing,  # each entry is checked by itself
            "BatchWriteRecord": self._batch_write,
            "ListRecords": self._identifiers("sagemaker:ListRecords"),
            "Verify": self._identifiers("featureline:Verify"),
            "TraceRecord": self._identifiers("featureline:TraceRecord"),
            "CreateFeatureGroup": self._create,
            "CreateWindowedGroup": self._create_windows,
            "GetWindows": self._windows,
            "BuildDataset": self._dataset("featureline:BuildDataset"),
            "WriteDataset": self._dataset("featureline:BuildDataset"),
            "ExplainDataset": self._dataset("featureline:ExplainDataset"),
            "CreateDataset": self._builder,
            "CheckDataset": self._manifest,
            "ReadHistory": self._history,
            "GetRecordsAsOf": self._as_of,
            "LoadRows": self._load,
            "CreateTransformJob": self._transform,
        }

    def other(self, method: str) -> Check:
        """Make the check that looks for the permissions of a method and no further."""

        def check(request: Any, caller: Caller, groups: Groups | None) -> None:
            name = getattr(request, "feature_group_name", "")

            def conditions() -> Mapping[str, ContextValue]:
                group = self._access.group(name, groups) if name else None
                return {} if group is None else self._access.tags_of(group)

            for action, resource in action_and_resources(method, request):
                self._guard.authorize(caller, action, resource, conditions=conditions)

        return check

    def _get(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        self._access.read_entry(caller, "sagemaker:GetRecord", request, groups)

    def _put(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        name, values = request.feature_group_name, request.record.values
        self._access.write_entry(caller, "sagemaker:PutRecord", name, values, groups)

    def _update(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        name, values = request.feature_group_name, request.features
        self._access.write_entry(caller, "sagemaker:UpdateRecord", name, values, groups)

    def _batch_write(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        for action, resource in position_needs(request):
            self._guard.authorize(caller, action, resource)

    def _identifiers(self, action: str) -> Check:
        """Make the check of a call that answers with identifiers of records."""

        def check(request: Any, caller: Caller, groups: Groups | None) -> None:
            name = request.feature_group_name
            self._access.authorize(caller, action, name, (), groups)
            group = self._access.group(name, groups)
            if group is not None:
                self._access.refuse_each(caller, action, group, (group.record_identifier,), READS)

        return check

    def _create(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        tags = [(tag.key, tag.value) for tag in request.feature_group.tags]

        def conditions() -> dict[str, ContextValue]:
            asked: dict[str, ContextValue] = folded({f"aws:RequestTag/{k}": v for k, v in tags})
            return {**asked, "aws:tagkeys": tuple(key for key, _ in tags)}

        for action, resource in action_and_resources("CreateFeatureGroup", request):
            self._guard.authorize(caller, action, resource, conditions=conditions)

    def _create_windows(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        """Who makes windowed features must be allowed to read what they are made of."""
        for action, resource in action_and_resources("CreateWindowedGroup", request):
            self._guard.authorize(caller, action, resource)
        asked = request.windowed_group
        source, action = asked.source_feature_group_name, "sagemaker:GetRecord"
        inputs = [asked.by_feature_name]
        inputs += [f.source_feature_name for f in asked.windowed_features if f.source_feature_name]
        features = list(dict.fromkeys(inputs))
        self._access.authorize(caller, action, source, features, groups)
        group = self._access.group(source, groups)
        if group is not None:
            self._access.refuse_each(caller, action, group, features, READS)

    def _windows(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        """Its reply has all features of the group, so none may be denied."""
        name, action = request.feature_group_name, "sagemaker:GetRecord"
        self._access.authorize(caller, action, name, (), groups)
        group = self._access.group(name, groups)
        if group is not None:
            self._access.refuse_each(caller, action, group, group.feature_names, READS)

    def _dataset(self, action: str) -> Check:
        def check(request: Any, caller: Caller, groups: Groups | None) -> None:
            # A later message may bring another spec, so every one is looked at.
            for selection in request.spec.selections:
                self._access.read_entry(caller, action, selection, groups, keys=False)

        return check

    def _as_of(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        self._access.read_entry(caller, "featureline:BuildDataset", request, groups, keys=False)

    def _builder(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        action = "featureline:CreateDataset"
        spec = request.spec
        base = spec.feature_group.feature_group_name
        for entry in built_from(spec):
            self._access.read_entry(caller, action, entry, groups)
        # What is compared shows in which rows there are.
        for joined in spec.joined:
            if joined.join_type == spec.CROSS_JOIN:
                continue
            self._compared(caller, joined.feature_group_name, joined.feature_name_in_target, groups)
            if base:
                self._compared(caller, base, joined.target_feature_name_in_base, groups)

    def _compared(self, caller: Caller, name: str, feature: str, groups: Groups | None) -> None:
        group = self._access.group(name, groups)
        if group is not None:
            compared = (feature or group.record_identifier,)
            self._access.refuse_each(caller, "featureline:CreateDataset", group, compared, READS)

    def _manifest(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        if request.WhichOneof("part") != "spec":
            return
        features = readable_features(request, self._access.windowed())
        for name, names in features.items() or [("*", ())]:
            self._access.authorize(caller, "featureline:CheckDataset", name, names, groups)
        self._access.refuse_all(caller, "featureline:CheckDataset", features, groups)

    def _history(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        action, name = "featureline:ReadHistory", request.feature_group_name
        self._access.read_entry(caller, action, request, groups)
        group = self._access.group(name, groups)
        if group is not None:  # its rows have the event time in a column of their own, too
            self._access.refuse_each(caller, action, group, (group.event_time,), READS)

    def _load(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        # A later message may bring another spec, so every one is looked at.
        if request.WhichOneof("part") == "spec":
            spec = request.spec
            columns = [_Column(name) for name in spec.feature_names]
            name = spec.feature_group_name
            self._access.write_entry(caller, "featureline:LoadRows", name, columns, groups)

    def _transform(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        """Its records have all features of the groups, so none may be denied."""
        parts = (
            ("featureline:ReadHistory", request.transform_input.feature_group, READS),
            ("featureline:LoadRows", request.transform_output.feature_group, WRITES),
        )
        of_groups = [action for action, _, _ in parts]
        for action, resource in action_and_resources("CreateTransformJob", request):
            if action not in of_groups:
                self._guard.authorize(caller, action, resource)
        for action, name, kind in parts:
            if not name:
                continue
            self._access.authorize(caller, action, name, (), groups)
            group = self._access.group(name, groups)
            if group is not None:
                self._access.refuse_each(caller, action, group, group.feature_names, kind)


class _Column(NamedTuple):
    """A feature that a load writes, as a record's values are checked."""

    feature_name: str


def _nothing(request: Any, caller: Caller, groups: Groups | None) -> None:
    pass
