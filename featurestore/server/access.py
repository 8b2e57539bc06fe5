"""The check of a call before it is answered, and its line in the audit log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

from featurestore.auth import Caller, Guard, arn
from featurestore.auth.grants import READS
from featurestore.errors import AccessDenied, Unauthenticated
from featurestore.registry import Registry
from featurestore.server.groupaccess import GroupAccess, Groups
from featurestore.server.methodcheck import MethodChecks
from featurestore.server.permission import DELETE, action_and_resources
from featurestore.window import WindowedGroup

__all__ = ["Access", "Entries"]


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
        self._groups = GroupAccess(guard, registry)
        self._methods = MethodChecks(guard, self._groups)

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
            (self._methods.by_method.get(method) or self._methods.other(method))(
                request, caller, groups
            )
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
        known = groups or self._registry.current()
        return Entries(self, self._groups, method, caller, known, request_id)

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

    def is_settled(self, caller: Caller, action: str, name: str) -> bool:
        """Whether any record of a group, with any feature, passes for the caller."""
        return self._groups.is_settled(caller, action, name)

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
                self._groups.authorize(caller, "featureline:BuildDataset", name, names, None)
            self._groups.refuse_all(caller, action, features, None)
        except AccessDenied as error:
            self.refused(caller, error)
            raise

    def windowed(self) -> Mapping[str, WindowedGroup]:
        """Return the windowed groups that there are, by name."""
        return self._groups.windowed()

    def hidden(self, caller: Caller | None, name: str, features: tuple[str, ...]) -> set[str]:
        """Return those of some features of a group that are denied to the caller.

        Raises:
            Unauthenticated: nobody is known to make the call, or the token has ended.
        """
        if not self._guard.is_active:
            return set()
        if caller is None:
            raise _nobody()
        group = self._groups.group_with(name, features, None)
        return set(self._groups.denied(caller, group, READS)).intersection(features)


@final
class Entries:
    """Checks the entries of one batch call one by one; each refusal is logged once a resource.

    Args:
        access: has the audit log.
        decides: says what the caller may do with a group.
        method: BatchGetRecord or BatchWriteRecord; a stream of puts is the latter.
        caller: who makes the call.
        groups: `Registry.current()`.
        request_id: of the call, for the audit log.
    """

    def __init__(
        self,
        access: Access,
        decides: GroupAccess,
        method: str,
        caller: Caller,
        groups: Groups,
        request_id: str,
    ) -> None:
        self._access = access
        self._decides = decides
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
        action = DELETE if deletes else self._action
        if (action, name) in self._settled:
            return
        decides, caller = self._decides, self._caller
        try:
            if self._reads:
                decides.read_entry(caller, action, entry, self._groups)
            else:
                decides.write_entry(caller, action, name, entry.record.values, self._groups)
        except AccessDenied as error:
            if error.facts["resource"] not in self._logged:
                self._logged.add(error.facts["resource"])
                self._access.refused(caller, error, self._request_id)
            raise
        if decides.is_settled(caller, action, name):
            self._settled.add((action, name))


def _nobody() -> Unauthenticated:
    return Unauthenticated(
        "expected a token in the call's metadata, `authorization: Bearer flk_…`, got none"
    )
