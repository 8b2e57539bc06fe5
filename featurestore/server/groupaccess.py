"""What a caller may do with a feature group: its records, and each of its features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

from featurestore.auth import Caller, ContextValue, Guard, Statement, group_arn
from featurestore.auth.condition import folded
from featurestore.auth.grants import READS, WRITES
from featurestore.auth.guard import denied_feature
from featurestore.feature import FeatureDefinition, FeatureType
from featurestore.registry import Registered, Registry
from featurestore.schema import FeatureGroup
from featurestore.window import WindowedGroup

__all__ = ["GroupAccess", "Groups"]

Groups = Mapping[str, Registered]


@final
class GroupAccess:
    """Holds callers to what the guard allows them of each group.

    Args:
        guard: decides; it is active.
        registry: has the groups' features and tags.
    """

    def __init__(self, guard: Guard, registry: Registry) -> None:
        self._guard = guard
        self._registry = registry
        self._tags: dict[str, tuple[FeatureGroup, dict[str, ContextValue]]] = {}

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
            entry: the message; changed in place as `Access.check` says.
            groups: `Registry.current()`, where it is at hand.
            keys: whether identifier and event time are read where no features are named.

        Raises:
            AccessDenied: not allowed, or it names a feature that is denied.
        """
        name = entry.feature_group_name
        grants = self._guard.grants(caller)
        if grants.may_deny_features:
            group = self.group(name, groups)
            if group is not None:
                self._narrow(caller, action, group, entry, keys=keys)
        resource = group_arn(name)
        if not grants.allows(action, resource):
            self.authorize(caller, action, name, entry.feature_names, groups)

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
            self.authorize(caller, action, name, [entry.feature_name for entry in values], groups)
        group = self.group(name, groups) if grants.may_deny_features else None
        if group is not None:
            denied = self.denied(caller, group, WRITES)
            for entry in values if denied else ():
                self._refuse(caller, action, group, entry.feature_name, denied)

    def is_settled(self, caller: Caller, action: str, name: str) -> bool:
        """Whether any record of a group, with any feature, passes for the caller."""
        grants = self._guard.grants(caller)
        return not grants.may_deny_features and grants.allows(action, group_arn(name))

    def authorize(
        self,
        caller: Caller,
        action: str,
        name: str,
        features: Sequence[str],
        groups: Groups | None,
    ) -> None:
        """Return when the caller may do something with some features of a group; none: with all.

        Raises:
            AccessDenied: not allowed.
        """

        def conditions() -> Mapping[str, ContextValue]:
            group = self.group(name, groups)
            if group is None:
                return {"featureline:featurenames": tuple(features)}
            names = tuple(features) or group.feature_names
            return {**self.tags_of(group), "featureline:featurenames": names}

        self._guard.authorize(caller, action, group_arn(name), conditions=conditions)

    def denied(
        self, caller: Caller, group: FeatureGroup, actions: tuple[str, ...]
    ) -> Mapping[str, Statement]:
        """Return the features that are denied to the caller, with what denies each."""
        return self._guard.denied_features(
            caller, group, actions, conditions=lambda: self.tags_of(group)
        )

    def refuse_each(
        self,
        caller: Caller,
        action: str,
        group: FeatureGroup,
        features: Sequence[str],
        actions: tuple[str, ...],
    ) -> None:
        """Raise AccessDenied for the first of some features of a group that is denied."""
        denied = self.denied(caller, group, actions)
        for feature in features:
            self._refuse(caller, action, group, feature, denied)

    def refuse_all(
        self,
        caller: Caller,
        action: str,
        features: Mapping[str, tuple[str, ...]],
        groups: Groups | None,
    ) -> None:
        """Raise AccessDenied for the first denied feature of some groups, that may be no more."""
        if not self._guard.grants(caller).may_deny_features:
            return
        for name, names in features.items():
            self.refuse_each(caller, action, self.group_with(name, names, groups), names, READS)

    def group_with(
        self, name: str, features: tuple[str, ...], groups: Groups | None
    ) -> FeatureGroup:
        """Return a group that has some features, though it may be deleted, or made anew without.

        Raises:
            InvalidFeatureGroup: a name is none.
        """
        group = self.group(name, groups)
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

    def group(self, name: str, groups: Groups | None) -> FeatureGroup | None:
        """Return a group by its name or ARN, windowed ones too; None: there is none."""
        known = self._registry.current() if groups is None else groups
        found = known.get(name) or known.get(name.rpartition("/")[2])
        if found is not None:
            return found.group
        windowed = self._registry.windows().get(name)
        return None if windowed is None else windowed.windows.schema

    def windowed(self) -> Mapping[str, WindowedGroup]:
        """Return the windowed groups that there are, by name."""
        known = self._registry.windows()
        return {name: entry.windows.group for name, entry in known.items()}

    def tags_of(self, group: FeatureGroup) -> dict[str, ContextValue]:
        """Return a group's tags as the keys that conditions name them by."""
        known = self._tags.get(group.name)
        if known is None or known[0] is not group:
            keys: dict[str, ContextValue] = {}
            for key, value in group.tags.items():
                keys[f"aws:ResourceTag/{key}"] = value
                keys[f"sagemaker:ResourceTag/{key}"] = value
            known = self._tags[group.name] = (group, folded(keys))
        return known[1]

    def _narrow(
        self, caller: Caller, action: str, group: FeatureGroup, entry: Any, *, keys: bool
    ) -> None:
        denied = self.denied(caller, group, READS)
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
