"""Which permission each call needs, and the check of a call before it is answered.

Every method of every service is in one table, `action_and_resources`; a method that is not there is
refused. Health and reflection are not services of the store: they stay open, so that a load
balancer needs no token.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple, final

import grpc

from featurestore.auth import Caller, ContextValue, Guard, Statement, arn, group_arn
from featurestore.auth.condition import folded
from featurestore.auth.grants import READS, WRITES
from featurestore.auth.guard import denied_feature
from featurestore.errors import AccessDenied, FeatureStoreError, InvalidRequest, Unauthenticated
from featurestore.feature import FeatureDefinition, FeatureType
from featurestore.registry import Registered, Registry
from featurestore.schema import FeatureGroup
from featurestore.server.answer import CALLER
from featurestore.server.registrar import Registrar
from featurestore.window import WindowedGroup
from featurestore.wire.dataset import manifest_features, read_manifest
from lineage.errors import LineageError

__all__ = ["ACTIONS", "Access", "Entries", "action_and_resources", "guarded_by"]

# Its fronts hand the caller on with each call, and the runtime checks: many calls at a time.
_RUNTIME: Final = "featurestore.v1.FeatureStoreRuntime"
Needs = list[tuple[str, str]]
Groups = Mapping[str, Registered]
_Check = Callable[[Any, Caller, Groups | None], None]


def action_and_resources(method: str, request: Any) -> Needs:
    """Return the permissions that a call needs, all of them, as (action, resource).

    Actions have SageMaker's names where it has the call, and begin with `featureline:` elsewhere.
    Calls about all groups or jobs have the resource `…:feature-group/*`, `…:training-job/*`.

    Args:
        method: the method's name, without its service.
        request: its message; for a stream, one of its messages.

    Raises:
        AccessDenied: the method is not known here.

    >>> from featurestore.v1 import runtime_pb2
    >>> action_and_resources(
    ...     "GetRecord", runtime_pb2.GetRecordRequest(feature_group_name="weather")
    ... )
    [('sagemaker:GetRecord', 'arn:aws:sagemaker:us-east-1:123456789012:feature-group/weather')]
    """
    needs = _NEEDS.get(method)
    if needs is None:
        raise AccessDenied(
            f"{method}: no permission is defined for this method",
            principal="",
            action=method,
            resource="*",
            statement=None,
        )
    return needs(request)


@final
class Access:
    """Checks calls by a guard. While the guard is open, every check passes at once.

    Args:
        guard: decides.
        registry: has the groups' features and tags.
    """

    def __init__(self, guard: Guard, registry: Registry) -> None:
        self._guard = guard
        self._registry = registry
        self._tags: dict[str, tuple[FeatureGroup, dict[str, ContextValue]]] = {}
        self._checks: dict[str, _Check] = {
            **{method: self._other(method) for method in _NEEDS},
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

    @property
    def is_active(self) -> bool:
        """Whether calls are checked at all."""
        return self._guard.is_active

    def check(
        self,
        method: str,
        request: Any,
        caller: Caller | None,
        groups: Groups | None = None,
        *,
        request_id: str = "",
    ) -> None:
        """Return when the caller may make the call; what may not is in the audit log.

        A read that names no features is changed in place to name those that are not denied to the
        caller, so that the record comes back without the others. Entries of BatchGetRecord and
        BatchWriteRecord are not looked at here: see `entries`.

        Args:
            method: the method's name, without its service.
            request: its message; of a stream, each.
            caller: from `Guard.authenticate`.
            groups: `Registry.current()`, where it is at hand.
            request_id: of the call, for the audit log; empty: that of the context.

        Raises:
            Unauthenticated: nobody is known to make the call, or the token has ended.
            AccessDenied: not allowed, or it names a feature that is denied.
        """
        if not self._guard.is_active:
            return
        if caller is None:
            raise _nobody()
        try:
            (self._checks.get(method) or self._other(method))(request, caller, groups)
        except AccessDenied as error:
            self.refused(caller, error, request_id)
            raise

    def entries(
        self,
        method: str,
        caller: Caller | None,
        groups: Groups | None = None,
        *,
        request_id: str = "",
    ) -> Entries | None:
        """Return the check for the entries of one batch call; None while the guard is open.

        Args:
            method: BatchGetRecord or BatchWriteRecord.
            caller: from `Guard.authenticate`.
            groups: `Registry.current()`, where it is at hand.
            request_id: of the call, for the audit log; empty: that of the context.

        Raises:
            Unauthenticated: nobody is known to make the call.
        """
        if not self._guard.is_active:
            return None
        if caller is None:
            raise _nobody()
        return Entries(self, method, caller, groups or self._registry.current(), request_id)

    def audit(self, caller: Caller | None, method: str, requests: Sequence[Any], code: str) -> None:
        """Append the line of a call that was let through, with its gRPC status by name."""
        needs = [need for request in requests for need in action_and_resources(method, request)]
        actions = dict.fromkeys(action for action, _ in needs)
        resources = dict.fromkeys(resource for _, resource in needs)
        self._guard.audit(caller, ", ".join(actions) or method, ", ".join(resources) or "*", code)

    def refused(self, caller: Caller, error: AccessDenied, request_id: str = "") -> None:
        """Append the line of a call, or of entries of a batch, that was denied."""
        self._guard.audit(
            caller,
            str(error.facts["action"]),
            str(error.facts["resource"]),
            error.code,
            request_id=request_id,
        )

    def read_entry(
        self,
        caller: Caller,
        action: str,
        entry: Any,
        groups: Groups | None = None,
        *,
        keys: bool = True,
    ) -> None:
        """Check one thing that reads a group: a message with its name and feature names.

        Args:
            caller: who reads.
            action: `service:Name`.
            entry: the message; changed in place as `check` says.
            groups: `Registry.current()`, where it is at hand.
            keys: whether identifier and event time are read where no features are named.

        Raises:
            AccessDenied: not allowed, or it names a feature that is denied.
        """
        name = entry.feature_group_name
        grants = self._guard.grants(caller)
        if grants.may_deny_features:
            group = self._group(name, groups)
            if group is not None:
                self._narrow(caller, action, group, entry, keys=keys)
        resource = group_arn(name)
        if not grants.allows(action, resource):
            self._authorize(caller, action, name, entry.feature_names, groups)

    def write_entry(
        self,
        caller: Caller,
        action: str,
        name: str,
        values: Sequence[Any],
        groups: Groups | None = None,
    ) -> None:
        """Check one record, or part of one, that is written to a group.

        Args:
            caller: who writes.
            action: `service:Name`.
            name: of the group.
            values: messages with a `feature_name` each.
            groups: `Registry.current()`, where it is at hand.

        Raises:
            AccessDenied: not allowed, or it has a feature that is denied.
        """
        grants = self._guard.grants(caller)
        if not grants.allows(action, group_arn(name)):
            self._authorize(caller, action, name, [entry.feature_name for entry in values], groups)
        group = self._group(name, groups) if grants.may_deny_features else None
        if group is not None:
            denied = self._denied(caller, group, WRITES)
            for entry in values if denied else ():
                self._refuse(caller, action, group, entry.feature_name, denied)

    def is_settled(self, caller: Caller, action: str, name: str) -> bool:
        """Whether any record of a group, with any feature, passes for the caller."""
        grants = self._guard.grants(caller)
        return not grants.may_deny_features and grants.allows(action, group_arn(name))

    def check_dataset(self, caller: Caller | None, action: str, fingerprint: str) -> None:
        """Return when the caller may do something with a kept dataset, by its whole fingerprint.

        Raises:
            Unauthenticated: nobody is known to make the call, or the token has ended.
            AccessDenied: not allowed; the audit log has it.
        """
        if not self._guard.is_active:
            return
        if caller is None:
            raise _nobody()
        try:
            self._guard.authorize(caller, action, arn("dataset", fingerprint))
        except AccessDenied as error:
            self.refused(caller, error)
            raise

    def check_features(
        self,
        caller: Caller | None,
        action: str,
        features: Mapping[str, tuple[str, ...]],
        *,
        builds: bool = False,
    ) -> None:
        """Return when none of some features is denied to the caller.

        Args:
            caller: from `Guard.authenticate`.
            action: what they are read for.
            features: group → names; groups and features that are no more, too.
            builds: whether a dataset is built from them, which needs its permission.

        Raises:
            Unauthenticated: nobody is known to make the call, or the token has ended.
            AccessDenied: one is denied; the audit log has it.
        """
        if not self._guard.is_active:
            return
        if caller is None:
            raise _nobody()
        try:
            for name, names in features.items() if builds else ():
                self._authorize(caller, "featureline:BuildDataset", name, names, None)
            self._refuse_all(caller, action, features, None)
        except AccessDenied as error:
            self.refused(caller, error)
            raise

    def windowed(self) -> Mapping[str, WindowedGroup]:
        """Return the windowed groups that there are, by name."""
        known = self._registry.windows()
        return {name: entry.windows.group for name, entry in known.items()}

    def hidden(self, caller: Caller | None, name: str, features: tuple[str, ...]) -> set[str]:
        """Return those of some features of a group that are denied to the caller.

        Raises:
            Unauthenticated: nobody is known to make the call, or the token has ended.
        """
        if not self._guard.is_active:
            return set()
        if caller is None:
            raise _nobody()
        group = self._group_with(name, features, None)
        return set(self._denied(caller, group, READS)).intersection(features)

    # -- one method each ----------------------------------------------------------------------

    def _get(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        self.read_entry(caller, "sagemaker:GetRecord", request, groups)

    def _put(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        name, values = request.feature_group_name, request.record.values
        self.write_entry(caller, "sagemaker:PutRecord", name, values, groups)

    def _update(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        name, values = request.feature_group_name, request.features
        self.write_entry(caller, "sagemaker:UpdateRecord", name, values, groups)

    def _batch_write(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        for action, resource in _position(request):
            self._guard.authorize(caller, action, resource)

    def _identifiers(self, action: str) -> _Check:
        """Make the check of a call that answers with identifiers of records."""

        def check(request: Any, caller: Caller, groups: Groups | None) -> None:
            name = request.feature_group_name
            self._authorize(caller, action, name, (), groups)
            group = self._group(name, groups)
            if group is not None:
                denied = self._denied(caller, group, READS)
                self._refuse(caller, action, group, group.record_identifier, denied)

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
        self._authorize(caller, action, source, features, groups)
        group = self._group(source, groups)
        if group is not None:
            denied = self._denied(caller, group, READS)
            for feature in features:
                self._refuse(caller, action, group, feature, denied)

    def _windows(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        """Its reply has all features of the group, so none may be denied."""
        name, action = request.feature_group_name, "sagemaker:GetRecord"
        self._authorize(caller, action, name, (), groups)
        group = self._group(name, groups)
        if group is not None:
            denied = self._denied(caller, group, READS)
            for feature in group.feature_names:
                self._refuse(caller, action, group, feature, denied)

    def _dataset(self, action: str) -> _Check:
        def check(request: Any, caller: Caller, groups: Groups | None) -> None:
            # A later message may bring another spec, so every one is looked at.
            for selection in request.spec.selections:
                self.read_entry(caller, action, selection, groups, keys=False)

        return check

    def _as_of(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        self.read_entry(caller, "featureline:BuildDataset", request, groups, keys=False)

    def _builder(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        action = "featureline:CreateDataset"
        spec = request.spec
        base = spec.feature_group.feature_group_name
        for entry in _built_from(spec):
            self.read_entry(caller, action, entry, groups)
        # What is compared shows in which rows there are.
        for joined in spec.joined:
            if joined.join_type == spec.CROSS_JOIN:
                continue
            self._compared(caller, joined.feature_group_name, joined.feature_name_in_target, groups)
            if base:
                self._compared(caller, base, joined.target_feature_name_in_base, groups)

    def _compared(self, caller: Caller, name: str, feature: str, groups: Groups | None) -> None:
        group = self._group(name, groups)
        if group is not None:
            denied = self._denied(caller, group, READS)
            compared = feature or group.record_identifier
            self._refuse(caller, "featureline:CreateDataset", group, compared, denied)

    def _manifest(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        if request.WhichOneof("part") != "spec":
            return
        features = _manifest_features(request, self.windowed())
        for name, names in features.items() or [("*", ())]:
            self._authorize(caller, "featureline:CheckDataset", name, names, groups)
        self._refuse_all(caller, "featureline:CheckDataset", features, groups)

    def _history(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        action, name = "featureline:ReadHistory", request.feature_group_name
        self.read_entry(caller, action, request, groups)
        group = self._group(name, groups)
        if group is not None:  # its rows have the event time in a column of their own, too
            denied = self._denied(caller, group, READS)
            self._refuse(caller, action, group, group.event_time, denied)

    def _load(self, request: Any, caller: Caller, groups: Groups | None) -> None:
        # A later message may bring another spec, so every one is looked at.
        if request.WhichOneof("part") == "spec":
            spec = request.spec
            columns = [_Column(name) for name in spec.feature_names]
            name = spec.feature_group_name
            self.write_entry(caller, "featureline:LoadRows", name, columns, groups)

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
            self._authorize(caller, action, name, (), groups)
            group = self._group(name, groups)
            if group is not None:
                denied = self._denied(caller, group, kind)
                for feature in group.feature_names:
                    self._refuse(caller, action, group, feature, denied)

    def _other(self, method: str) -> _Check:
        def check(request: Any, caller: Caller, groups: Groups | None) -> None:
            name = getattr(request, "feature_group_name", "")

            def conditions() -> Mapping[str, ContextValue]:
                group = self._group(name, groups) if name else None
                return {} if group is None else self._tags_of(group)

            for action, resource in action_and_resources(method, request):
                self._guard.authorize(caller, action, resource, conditions=conditions)

        return check

    # -- parts --------------------------------------------------------------------------------

    def _authorize(
        self,
        caller: Caller,
        action: str,
        name: str,
        features: Sequence[str],
        groups: Groups | None,
    ) -> None:
        def conditions() -> Mapping[str, ContextValue]:
            group = self._group(name, groups)
            if group is None:
                return {"featureline:featurenames": tuple(features)}
            names = tuple(features) or group.feature_names
            return {**self._tags_of(group), "featureline:featurenames": names}

        self._guard.authorize(caller, action, group_arn(name), conditions=conditions)

    def _denied(
        self, caller: Caller, group: FeatureGroup, actions: tuple[str, ...]
    ) -> Mapping[str, Statement]:
        return self._guard.denied_features(
            caller, group, actions, conditions=lambda: self._tags_of(group)
        )

    def _narrow(
        self, caller: Caller, action: str, group: FeatureGroup, entry: Any, *, keys: bool
    ) -> None:
        denied = self._denied(caller, group, READS)
        if not denied:
            return
        if entry.feature_names:
            for feature in entry.feature_names:
                self._refuse(caller, action, group, feature, denied)
            return
        left_out = () if keys else (group.record_identifier, group.event_time)
        readable = [name for name in group.feature_names if name not in left_out]
        visible = [name for name in readable if name not in denied]
        if not visible and readable:
            # No name at all would mean every feature.
            self._refuse(caller, action, group, readable[0], denied)
        if len(visible) < len(readable):
            entry.feature_names.extend(visible)

    def _refuse(
        self,
        caller: Caller,
        action: str,
        group: FeatureGroup,
        feature: str,
        denied: Mapping[str, Statement],
    ) -> None:
        statement = denied.get(feature)
        if statement is not None:
            raise denied_feature(caller, action, group.name, feature, statement)

    def _refuse_all(
        self,
        caller: Caller,
        action: str,
        features: Mapping[str, tuple[str, ...]],
        groups: Groups | None,
    ) -> None:
        if not self._guard.grants(caller).may_deny_features:
            return
        for name, names in features.items():
            group = self._group_with(name, names, groups)
            denied = self._denied(caller, group, READS)
            for feature in names:
                self._refuse(caller, action, group, feature, denied)

    def _group_with(
        self, name: str, features: tuple[str, ...], groups: Groups | None
    ) -> FeatureGroup:
        """Return a group that has some features, though it may be deleted, or made anew without.

        Raises:
            InvalidFeatureGroup: a name is none.
        """
        group = self._group(name, groups)
        known = () if group is None else group.features
        missing = set(features).difference(feature.name for feature in known)
        if group is not None and not missing:
            return group
        made = tuple(FeatureDefinition(feature, FeatureType.STRING) for feature in sorted(missing))
        if group is not None:
            return replace(group, features=(*known, *made))
        keys = [key for number in range(len(made) + 2) if (key := f"k{number}") not in missing]
        texts = [FeatureDefinition(key, FeatureType.STRING) for key in keys[:2]]
        return FeatureGroup(name, keys[0], keys[1], (*texts, *made))

    def _group(self, name: str, groups: Groups | None) -> FeatureGroup | None:
        known = self._registry.current() if groups is None else groups
        found = known.get(name) or known.get(name.rpartition("/")[2])
        if found is not None:
            return found.group
        windowed = self._registry.windows().get(name)
        return None if windowed is None else windowed.windows.schema

    def _tags_of(self, group: FeatureGroup) -> dict[str, ContextValue]:
        known = self._tags.get(group.name)
        if known is None or known[0] is not group:
            keys: dict[str, ContextValue] = {}
            for key, value in group.tags.items():
                keys[f"aws:ResourceTag/{key}"] = value
                keys[f"sagemaker:ResourceTag/{key}"] = value
            known = self._tags[group.name] = (group, folded(keys))
        return known[1]


@final
class Entries:
    """Checks the entries of one batch call one by one; each refusal is logged once a resource.

    Args:
        access: decides.
        method: BatchGetRecord or BatchWriteRecord; a stream of puts is the latter.
        caller: who makes the call.
        groups: `Registry.current()`.
        request_id: of the call, for the audit log.
    """

    def __init__(
        self, access: Access, method: str, caller: Caller, groups: Groups, request_id: str
    ) -> None:
        self._access = access
        self._request_id = request_id
        self._caller = caller
        self._groups = groups
        self._reads = method == "BatchGetRecord"
        self._action = f"sagemaker:{method}"
        self._settled: set[tuple[str, str]] = set()
        self._logged: set[object] = set()

    def check(self, entry: Any) -> None:
        """Return when the caller may read or write the entry; see `Access.check`.

        Raises:
            AccessDenied: not this one; others may pass.
            Unauthenticated: the token has ended.
        """
        name = entry.feature_group_name
        deletes = not self._reads and entry.HasField("deletion")
        action = _DELETE if deletes else self._action
        if (action, name) in self._settled:
            return
        access, caller = self._access, self._caller
        try:
            if self._reads:
                access.read_entry(caller, action, entry, self._groups)
            else:
                access.write_entry(caller, action, name, entry.record.values, self._groups)
        except AccessDenied as error:
            if error.facts["resource"] not in self._logged:
                self._logged.add(error.facts["resource"])
                access.refused(caller, error, self._request_id)
            raise
        if access.is_settled(caller, action, name):
            self._settled.add((action, name))


def _nobody() -> Unauthenticated:
    return Unauthenticated(
        "expected a token in the call's metadata, `authorization: Bearer flk_…`, got none"
    )


def _nothing(request: Any, caller: Caller, groups: Groups | None) -> None:
    pass


# -- the table ------------------------------------------------------------------------------------


def _on_group(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, group_arn(request.feature_group_name))]


def _on(action: str, resource: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, resource)]


class _Column(NamedTuple):
    """A feature that a load writes, as a record's values are checked."""

    feature_name: str


def _on_job(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, arn("training-job", request.training_job_name))]


def _each_group(action: str, entries: Iterable[Any]) -> Needs:
    names = dict.fromkeys(entry.feature_group_name for entry in entries)
    return [(action, group_arn(name)) for name in names]


def _built_from(spec: Any) -> list[Any]:
    """Return the groups that a builder's options name, the base first."""
    base = [spec.feature_group] if spec.WhichOneof("base") == "feature_group" else []
    return [*base, *spec.joined]


def _manifest_features(
    request: Any, windowed: Mapping[str, WindowedGroup]
) -> Mapping[str, tuple[str, ...]]:
    """Return the features in a dataset to be checked; none where its manifest cannot be read."""
    try:
        return manifest_features(read_manifest(request.spec.manifest_json), windowed)
    except InvalidRequest:  # the call answers so itself
        return {}


def _checked_groups(request: Any) -> Needs:
    if request.WhichOneof("part") != "spec":
        return []
    names = tuple(_manifest_features(request, {})) or ("*",)
    return [("featureline:CheckDataset", group_arn(name)) for name in names]


def _new_dataset(request: Any) -> Needs:
    if request.WhichOneof("part") != "manifest_json":
        return []
    try:
        fingerprint = read_manifest(request.manifest_json)["fingerprint"]
    except InvalidRequest:
        fingerprint = "*"
    return [("featureline:SaveDataset", arn("dataset", fingerprint))]


def _kept(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, arn("dataset", request.fingerprint))]


def _position(request: Any) -> Needs:
    if not request.HasField("position"):
        return []
    return [("featureline:PutSourcePosition", arn("source", request.position.source))]


def _training(request: Any) -> Needs:
    """Creating a job also reads and writes: files of the server's machine, or kept datasets."""
    needs = [("sagemaker:CreateTrainingJob", arn("training-job", request.training_job_name))]
    for channel in request.input_data_config:
        if channel.WhichOneof("data_source") == "path":
            needs.append(("featureline:ReadPath", _place(channel.path)))
        else:
            needs.append(("featureline:ReadDataset", arn("dataset", channel.dataset)))
    kept = (request.checkpoint_config.path, request.tensor_board_output_config.path)
    needs += [("featureline:WritePath", _place(path)) for path in kept if path]
    return needs


def _replay(request: Any) -> Needs:
    """The lineage names the job and its data; who also gets the model may read models."""
    actions = ["featureline:ReplayModel", *["featureline:ReadModel"] * request.keep]
    return [(action, _GRAPH) for action in actions]


def _transform(request: Any) -> Needs:
    """Creating a job also uses a model, reads, and writes: files here, or feature groups."""
    needs = [("sagemaker:CreateTransformJob", arn("transform-job", request.transform_job_name))]
    model, source, where = request.model_name, request.transform_input, request.transform_output
    if "/" in model:
        needs.append(("featureline:ReadPath", _place(model)))
    else:
        needs.append(("sagemaker:DescribeTrainingJob", arn("training-job", model)))
    if source.WhichOneof("data_source") == "feature_group":
        needs.append(("featureline:ReadHistory", group_arn(source.feature_group)))
    else:
        needs.append(("featureline:ReadPath", _place(source.path)))
    if where.WhichOneof("destination") == "feature_group":
        needs.append(("featureline:LoadRows", group_arn(where.feature_group)))
    else:
        needs.append(("featureline:WritePath", _place(where.path)))
    return needs


def _place(path: str) -> str:
    """Name a file or folder as the job will find it: `..` leads out of no permission."""
    return arn("path", os.path.abspath(path.removeprefix("file://")))


def _on_transform(action: str) -> Callable[[Any], Needs]:
    return lambda request: [(action, arn("transform-job", request.transform_job_name))]


_DELETE: Final = "sagemaker:DeleteRecord"
_GRAPH: Final = arn("lineage-group", "sagemaker-default-lineage-group")
_ALL_GROUPS: Final = group_arn("*")
_NEEDS: Final[dict[str, Callable[[Any], Needs]]] = {
    # FeatureStoreRuntime
    "PutRecord": _on_group("sagemaker:PutRecord"),
    "GetRecord": _on_group("sagemaker:GetRecord"),
    "BatchGetRecord": lambda request: _each_group("sagemaker:BatchGetRecord", request.identifiers),
    "BatchWriteRecord": lambda request: [
        *_each_group(
            "sagemaker:BatchWriteRecord",
            (entry for entry in request.entries if not entry.HasField("deletion")),
        ),
        *_each_group(_DELETE, (entry for entry in request.entries if entry.HasField("deletion"))),
        *_position(request),
    ],
    "UpdateRecord": _on_group("sagemaker:UpdateRecord"),
    "DeleteRecord": _on_group("sagemaker:DeleteRecord"),
    "ListRecords": _on_group("sagemaker:ListRecords"),
    "StreamRecords": _on_group("sagemaker:BatchWriteRecord"),
    "GetSourcePosition": lambda request: [
        ("featureline:GetSourcePosition", arn("source", request.source))
    ],
    # FeatureStore
    "CreateFeatureGroup": lambda request: [
        ("sagemaker:CreateFeatureGroup", group_arn(request.feature_group.feature_group_name))
    ],
    "DescribeFeatureGroup": _on_group("sagemaker:DescribeFeatureGroup"),
    "UpdateFeatureGroup": _on_group("sagemaker:UpdateFeatureGroup"),
    "DeleteFeatureGroup": _on_group("sagemaker:DeleteFeatureGroup"),
    "ListFeatureGroups": _on("sagemaker:ListFeatureGroups", _ALL_GROUPS),
    "UpdateFeatureMetadata": _on_group("sagemaker:UpdateFeatureMetadata"),
    "DescribeFeatureMetadata": _on_group("sagemaker:DescribeFeatureMetadata"),
    "Search": _on("sagemaker:Search", _ALL_GROUPS),
    "Flush": lambda request: [("featureline:Flush", group_arn(request.feature_group_name or "*"))],
    "Verify": _on_group("featureline:Verify"),
    "BuildDataset": lambda request: _each_group(
        "featureline:BuildDataset", request.spec.selections
    ),
    "EraseRecords": _on_group("featureline:EraseRecords"),
    "TraceRecord": _on_group("featureline:TraceRecord"),
    "ListRecordsBehind": _on("featureline:ListRecordsBehind", _ALL_GROUPS),
    "MoveSource": lambda request: [("featureline:MoveSource", arn("source", request.source))],
    "WriteDataset": lambda request: _each_group(
        "featureline:BuildDataset", request.spec.selections
    ),
    "ExplainDataset": lambda request: _each_group(
        "featureline:ExplainDataset", request.spec.selections
    ),
    "CreateDataset": lambda request: _each_group(
        "featureline:CreateDataset", _built_from(request.spec)
    ),
    "CheckDataset": _checked_groups,
    "SaveDataset": _new_dataset,
    "LoadDataset": _kept("featureline:ReadDataset"),
    "RebuildDataset": _kept("featureline:RebuildDataset"),
    "DescribeDataset": _kept("featureline:DescribeDataset"),
    "ListDatasets": _on("featureline:ListDatasets", arn("dataset", "*")),
    "Maintain": _on_group("featureline:Maintain"),
    "ReadHistory": _on_group("featureline:ReadHistory"),
    "GetRecordsAsOf": _on_group("featureline:BuildDataset"),
    "ListTableVersions": _on_group("featureline:ListTableVersions"),
    "Restore": _on_group("featureline:Restore"),
    "LoadRows": lambda request: (
        _each_group("featureline:LoadRows", [request.spec])
        if request.WhichOneof("part") == "spec"
        else []
    ),
    "Backfill": lambda request: _on_group(
        "featureline:RebuildOnline" if request.rebuild else "featureline:Backfill"
    )(request),
    # WindowedFeatures
    "CreateWindowedGroup": lambda request: [
        (
            "featureline:CreateWindowedGroup",
            group_arn(request.windowed_group.windowed_group_name),
        )
    ],
    "DescribeWindowedGroup": _on_group("featureline:DescribeWindowedGroup"),
    "ListWindowedGroups": _on("featureline:ListWindowedGroups", _ALL_GROUPS),
    "DeleteWindowedGroup": _on_group("featureline:DeleteWindowedGroup"),
    "FillWindowedGroup": _on_group("featureline:FillWindowedGroup"),
    "GetWindows": _on_group("sagemaker:GetRecord"),
    # Lineage: one graph, one resource
    "Record": _on("featureline:RecordLineage", _GRAPH),
    "RecordBatch": _on("featureline:RecordLineage", _GRAPH),
    "DescribeEntity": _on("featureline:DescribeEntity", _GRAPH),
    "FindEntities": _on("featureline:FindEntities", _GRAPH),
    "QueryLineage": _on("sagemaker:QueryLineage", _GRAPH),
    "VerifyLog": _on("featureline:VerifyLog", _GRAPH),
    "Subscribe": _on("featureline:SubscribeLineage", _GRAPH),
    "MakeCheckpoint": _on("featureline:MakeCheckpoint", _GRAPH),
    "ListCheckpoints": _on("featureline:ListCheckpoints", _GRAPH),
    "ProveEntity": _on("featureline:ProveEntity", _GRAPH),
    "ProveGrowth": _on("featureline:ProveGrowth", _GRAPH),
    "SearchEntities": _on("featureline:SearchEntities", _GRAPH),
    "FindPaths": _on("featureline:FindPaths", _GRAPH),
    "CommonAncestors": _on("featureline:CommonAncestors", _GRAPH),
    "CommonDescendants": _on("featureline:CommonDescendants", _GRAPH),
    "DiffLineage": _on("featureline:DiffLineage", _GRAPH),
    "ExplainEntity": _on("featureline:ExplainEntity", _GRAPH),
    "QueryColumns": _on("featureline:QueryColumns", _GRAPH),
    "ListInputFeatures": _on("featureline:ListInputFeatures", _GRAPH),
    "ListFeatureUsers": _on("featureline:ListFeatureUsers", _GRAPH),
    "ListRuns": _on("featureline:ListRuns", _GRAPH),
    "ListEvents": _on("featureline:ListEvents", _GRAPH),
    "AddTags": _on("sagemaker:AddTags", _GRAPH),
    "DeleteTags": _on("sagemaker:DeleteTags", _GRAPH),
    "ListTags": _on("sagemaker:ListTags", _GRAPH),
    "DescribeGraph": _on("featureline:DescribeGraph", _GRAPH),
    "ExportGraph": _on("featureline:ExportGraph", _GRAPH),
    "ListOpenLineageEvents": _on("featureline:ListOpenLineageEvents", _GRAPH),
    "RebuildGraph": _on("featureline:RebuildGraph", _GRAPH),
    "ReplaySpool": _on("featureline:ReplaySpool", _GRAPH),
    "CollectGarbage": _on("featureline:CollectGarbage", _GRAPH),
    # Training
    "CreateTrainingJob": _training,
    "DescribeTrainingJob": _on_job("sagemaker:DescribeTrainingJob"),
    "ReadTrainingJobLogs": _on_job("featureline:ReadTrainingJobLogs"),
    "ReadTrainingJobMetrics": _on_job("featureline:ReadTrainingJobMetrics"),
    "ReadTrainingJobReport": _on_job("featureline:ReadTrainingJobReport"),
    "DescribeTrainingBudget": _on("featureline:DescribeTrainingBudget", arn("training-job", "*")),
    "UpdateTrainingBudget": _on("featureline:UpdateTrainingBudget", arn("training-job", "*")),
    "ListTrainingJobs": _on("sagemaker:ListTrainingJobs", arn("training-job", "*")),
    "StopTrainingJob": _on_job("sagemaker:StopTrainingJob"),
    "ReplayModel": _replay,
    # BatchTransform
    "CreateTransformJob": _transform,
    "DescribeTransformJob": _on_transform("sagemaker:DescribeTransformJob"),
    "ListTransformJobs": _on("sagemaker:ListTransformJobs", arn("transform-job", "*")),
    "StopTransformJob": _on_transform("sagemaker:StopTransformJob"),
}
ACTIONS: Final = frozenset(
    {
        "featureline:Backfill",
        "featureline:BuildDataset",
        "featureline:CheckDataset",
        "featureline:CollectGarbage",
        "featureline:CommonAncestors",
        "featureline:CommonDescendants",
        "featureline:CreateDataset",
        "featureline:CreateWindowedGroup",
        "featureline:DeleteWindowedGroup",
        "featureline:DescribeDataset",
        "featureline:DescribeEntity",
        "featureline:DescribeGraph",
        "featureline:DescribeTrainingBudget",
        "featureline:DescribeWindowedGroup",
        "featureline:DiffLineage",
        "featureline:EraseRecords",
        "featureline:ExplainDataset",
        "featureline:ExplainEntity",
        "featureline:ExportGraph",
        "featureline:FillWindowedGroup",
        "featureline:FindEntities",
        "featureline:FindPaths",
        "featureline:Flush",
        "featureline:GetSourcePosition",
        "featureline:ListCheckpoints",
        "featureline:ListDatasets",
        "featureline:ListEvents",
        "featureline:ListFeatureUsers",
        "featureline:ListInputFeatures",
        "featureline:ListOpenLineageEvents",
        "featureline:ListRecordsBehind",
        "featureline:ListRuns",
        "featureline:ListTableVersions",
        "featureline:ListWindowedGroups",
        "featureline:LoadRows",
        "featureline:Maintain",
        "featureline:MakeCheckpoint",
        "featureline:MoveSource",
        "featureline:ProveEntity",
        "featureline:ProveGrowth",
        "featureline:PutSourcePosition",
        "featureline:QueryColumns",
        "featureline:ReadDataset",
        "featureline:ReadHistory",
        "featureline:ReadModel",
        "featureline:ReadPath",
        "featureline:ReadTrainingJobLogs",
        "featureline:ReadTrainingJobMetrics",
        "featureline:ReadTrainingJobReport",
        "featureline:RebuildDataset",
        "featureline:RebuildGraph",
        "featureline:RebuildOnline",
        "featureline:RecordLineage",
        "featureline:ReplayModel",
        "featureline:ReplaySpool",
        "featureline:Restore",
        "featureline:SaveDataset",
        "featureline:SearchEntities",
        "featureline:SubscribeLineage",
        "featureline:TraceRecord",
        "featureline:UpdateTrainingBudget",
        "featureline:Verify",
        "featureline:VerifyLog",
        "featureline:WritePath",
        "sagemaker:AddTags",
        "sagemaker:BatchGetRecord",
        "sagemaker:BatchWriteRecord",
        "sagemaker:CreateFeatureGroup",
        "sagemaker:CreateTrainingJob",
        "sagemaker:CreateTransformJob",
        "sagemaker:DeleteFeatureGroup",
        "sagemaker:DeleteRecord",
        "sagemaker:DeleteTags",
        "sagemaker:DescribeFeatureGroup",
        "sagemaker:DescribeFeatureMetadata",
        "sagemaker:DescribeTrainingJob",
        "sagemaker:DescribeTransformJob",
        "sagemaker:GetRecord",
        "sagemaker:ListFeatureGroups",
        "sagemaker:ListRecords",
        "sagemaker:ListTags",
        "sagemaker:ListTrainingJobs",
        "sagemaker:ListTransformJobs",
        "sagemaker:PutRecord",
        "sagemaker:QueryLineage",
        "sagemaker:Search",
        "sagemaker:StopTrainingJob",
        "sagemaker:StopTransformJob",
        "sagemaker:UpdateFeatureGroup",
        "sagemaker:UpdateFeatureMetadata",
        "sagemaker:UpdateRecord",
    }
)


# -- services of grpc.aio -------------------------------------------------------------------------


def guarded_by(access: Access, registrar: Registrar) -> GuardedRegistrar:
    """Return a registrar whose services are checked by `access`, and audited.

    The registrar behind it, made with the same guard, authenticates the caller and answers errors:

        guarded = guarded_by(access, Registrar(server, guard=guard))
        lineage_pb2_grpc.add_LineageServicer_to_server(service, guarded)
    """
    return GuardedRegistrar(access, registrar)


@final
class GuardedRegistrar:
    """Takes services in place of a registrar. Health and reflection go past it."""

    def __init__(self, access: Access, registrar: Registrar) -> None:
        self._access = access
        self._registrar = registrar
        self.gate = registrar.gate

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Do nothing: generated code registers the same handlers by name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service, each behind its check; the runtime has its own."""
        if service != _RUNTIME:
            handlers = {
                name: _guarded(self._access, name, handler) for name, handler in handlers.items()
            }
        self._registrar.add_registered_method_handlers(service, handlers)


def _guarded(access: Access, method: str, handler: Any) -> Any:
    read, write = handler.request_deserializer, handler.response_serializer
    if handler.unary_unary is not None:
        unary = _unary(access, method, handler.unary_unary)
        return grpc.unary_unary_rpc_method_handler(unary, read, write)
    if handler.stream_stream is not None:
        stream = _stream(access, method, handler.stream_stream)
        return grpc.stream_stream_rpc_method_handler(stream, read, write)
    if handler.unary_stream is not None:
        replies = _replies(access, method, handler.unary_stream)
        return grpc.unary_stream_rpc_method_handler(replies, read, write)
    requests = _requests(access, method, handler.stream_unary)
    return grpc.stream_unary_rpc_method_handler(requests, read, write)


def _unary(access: Access, method: str, handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> Any:
        if not access.is_active:
            return await handle(request, context)
        caller = CALLER.get()
        access.check(method, request, caller)
        with _audited(access, method, caller, [request], context):
            return await handle(request, context)

    return guarded


def _replies(access: Access, method: str, handle: Any) -> Any:
    async def guarded(request: Any, context: Any) -> AsyncIterator[Any]:
        caller = CALLER.get()
        with contextlib.ExitStack() as audit:
            if access.is_active:
                access.check(method, request, caller)
                audit.enter_context(_audited(access, method, caller, [request], context))
            async with contextlib.aclosing(handle(request, context)) as replies:
                async for reply in replies:
                    yield reply

    return guarded


def _requests(access: Access, method: str, handle: Any) -> Any:
    async def guarded(requests: AsyncIterator[Any], context: Any) -> Any:
        if not access.is_active:
            return await handle(requests, context)
        caller = CALLER.get()
        passed: list[Any] = []
        checked = _checked(access, method, caller, requests, passed)
        with _audited(access, method, caller, passed, context):
            return await handle(checked, context)

    return guarded


def _stream(access: Access, method: str, handle: Any) -> Any:
    async def guarded(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        if not access.is_active:
            async with contextlib.aclosing(handle(requests, context)) as replies:
                async for reply in replies:
                    yield reply
            return
        caller = CALLER.get()
        passed: list[Any] = []
        checked = _checked(access, method, caller, requests, passed)
        with _audited(access, method, caller, passed, context):
            async with contextlib.aclosing(handle(checked, context)) as replies:
                async for reply in replies:
                    yield reply

    return guarded


async def _checked(
    access: Access,
    method: str,
    caller: Caller | None,
    requests: AsyncIterator[Any],
    passed: list[Any],
) -> AsyncIterator[Any]:
    async for request in requests:
        access.check(method, request, caller)
        if action_and_resources(method, request):
            passed.append(request)
        yield request


@contextlib.contextmanager
def _audited(
    access: Access, method: str, caller: Caller | None, requests: Sequence[Any], context: Any
) -> Iterator[None]:
    """Write the line of a call when it ends, however it ends."""
    code = grpc.StatusCode.UNKNOWN.name
    try:
        yield
        code = grpc.StatusCode.OK.name
    except grpc.aio.AbortError:
        code = context.code().name
        raise
    except (asyncio.CancelledError, GeneratorExit):
        code = grpc.StatusCode.CANCELLED.name
        raise
    except (FeatureStoreError, LineageError) as error:
        # A denied call has its line already.
        code = "" if isinstance(error, AccessDenied) else error.code
        raise
    finally:
        if code:
            access.audit(caller, method, requests, code)
