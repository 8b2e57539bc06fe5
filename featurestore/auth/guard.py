"""The guard of a server: who is calling, whether they may, and the log of it.

It is open, letting everybody do everything, while a home has no policy and no token. As soon as
there is one it is closed, in every process that has the home open, and it stays so until the
process is started anew on a home without any.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time, time_ns
from typing import Final, Self, final

from featurestore import eventtime
from featurestore.auth import audit, database
from featurestore.auth.arn import feature_arn
from featurestore.auth.audit import AuditLog
from featurestore.auth.condition import ContextValue
from featurestore.auth.database import AccessDatabase
from featurestore.auth.grants import READS, WRITES, Context, Grants
from featurestore.auth.policy import Decision, Statement
from featurestore.auth.token import proves, read_credential
from featurestore.errors import (
    AccessDenied,
    FeatureStoreError,
    InvalidRequest,
    StoreCorrupt,
    StoreUnavailable,
    Unauthenticated,
)
from featurestore.schema import FeatureGroup
from lineage.wire import requestid

__all__ = ["Caller", "Guard", "denied_feature"]

_log = logging.getLogger(__name__)
LOOK_S: Final = 0.2  # how often it looks for changes made by other processes
_MAX_CALLERS: Final = 50_000
_HOUR_S: Final = 3600


@final
@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a call.

    Args:
        principal: who holds the token.
        token_id: the token's public id.
        address: IP address, or empty where it is not known.
        statements: what the token could do when the call began. The guard decides by those of the
            moment, so that a stream ends with its token.
        secure: the call came over TLS.
    """

    principal: str
    token_id: str
    address: str
    statements: tuple[Statement, ...] = field(repr=False)
    secure: bool = False


@final
class _State:
    """What is known of one version of the database, and what was decided by it."""

    def __init__(self, grants: Mapping[str, Grants], *, is_active: bool) -> None:
        self.grants = grants
        self.is_active = is_active
        # By credentials, address and transport: the caller, and until when that is so (seconds).
        self.callers: dict[tuple[str | None, str, bool], tuple[Caller, float]] = {}


@final
class Guard:
    """Authenticates and authorises calls by the tokens and policies of a home.

    It may be used by many threads. A change by another process acts within a fifth of a second.
    Costs a few microseconds a call, since decisions are remembered.

    Args:
        home: folder of the stores; nothing is made there while there are no tokens and policies.
    """

    def __init__(self, home: Path) -> None:
        self._home = home
        self._audit = AuditLog(home / audit.FILE)
        self._lock = threading.Lock()
        self._database: AccessDatabase | None = None
        self._inode = -1
        self._version = -1
        self._broken: FeatureStoreError | None = None
        self._state = _State({}, is_active=False)
        self._next_look = 0.0
        self._look()

    @classmethod
    def open(cls, home: str | Path) -> Self:
        """Open the guard of a home."""
        return cls(Path(home))

    def close(self) -> None:
        """Close its files."""
        with self._lock:
            if self._database is not None:
                self._database.close()
                self._database = None
            self._next_look = float("inf")
        self._audit.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def is_active(self) -> bool:
        """Whether calls must be authenticated and authorised; true where that cannot be read."""
        if monotonic() >= self._next_look:
            self._look()
        return self._state.is_active

    def authenticate(
        self, bearer: str | None, address: str, *, secure: bool = False, request_id: str = ""
    ) -> Caller:
        """Return who calls.

        Args:
            bearer: the token, as it stands in the call's metadata: `authorization: Bearer <token>`.
            address: IP address of the peer, or empty where it is not known.
            secure: the call came over TLS.
            request_id: names the call in the audit log; see `audit`.

        Raises:
            Unauthenticated: no token, or one that is malformed, unknown, expired or revoked; the
                audit log has it.
            StoreUnavailable, StoreCorrupt: the tokens cannot be read.
        """
        if monotonic() >= self._next_look:
            self._look()
        # The whole credentials are a key of a dictionary in this process, of those that were
        # valid: Python compares them only with a key of the same random 64-bit hash.
        known = self._state.callers.get((bearer, address, secure))
        if known is not None and time() < known[1]:
            return known[0]
        return self._authenticate(bearer, address, secure, request_id)

    def authorize(
        self, caller: Caller, action: str, resource: str, *, conditions: Context = dict
    ) -> None:
        """Return when the caller may do this.

        Args:
            caller: from `authenticate`.
            action: `service:Name`.
            resource: a resource name.
            conditions: gives the keys of the request beside those of caller and time, in lower
                case; called only where a condition asks.

        Raises:
            AccessDenied: no statement allows it, or one denies it.
            Unauthenticated: the token has ended since.
        """
        grants = self.grants(caller)
        if not grants.allows(action, resource):
            decision = grants.decide(action, resource, _around(caller, grants, conditions))
            if not decision.is_allowed:
                raise denied(caller, action, resource, decision)

    def hidden_features(
        self, caller: Caller, group: FeatureGroup, *, conditions: Context = dict
    ) -> frozenset[str]:
        """Return the features of a group that the caller may not read.

        Raises:
            Unauthenticated: the token has ended since.
        """
        return frozenset(self.denied_features(caller, group, READS, conditions=conditions))

    def denied_features(
        self,
        caller: Caller,
        group: FeatureGroup,
        actions: tuple[str, ...] = WRITES,
        *,
        conditions: Context = dict,
    ) -> Mapping[str, Statement]:
        """Return the features denied for one of some actions, with the statement that does it.

        Raises:
            Unauthenticated: the token has ended since.
        """
        grants = self.grants(caller)
        return grants.denied_features(group, actions, _around(caller, grants, conditions))

    def grants(self, caller: Caller) -> Grants:
        """Return what the caller's token may do now.

        Raises:
            Unauthenticated: the token has ended since.
        """
        if monotonic() >= self._next_look:
            self._look()
        grants = self._state.grants.get(caller.token_id)
        if grants is None:
            if self._broken is not None:
                raise _again(self._broken)
            raise Unauthenticated("the token has been revoked")
        expires_us = grants.token.expires_us
        if expires_us is not None and time_ns() // 1000 >= expires_us:
            raise Unauthenticated("the token has expired; ask for a new one")
        return grants

    def audit(
        self,
        caller: Caller | None,
        action: str,
        resource: str,
        outcome: str,
        *,
        address: str = "",
        request_id: str = "",
    ) -> None:
        """Append a line to the audit log. Where it cannot, the line goes to the process's log.

        Args:
            caller: None where nobody was authenticated.
            action: `service:Name`.
            resource: a resource name.
            outcome: the gRPC status by name.
            address: of a call without caller.
            request_id: names the call in other logs; empty: that of the context, else a new one.
        """
        line = {
            "time_us": time_ns() // 1000,
            "request_id": request_id or requestid.request_id.get() or requestid.new_request_id(),
            "principal": caller.principal if caller else "",
            "token": caller.token_id if caller else "",
            "address": caller.address if caller else address,
            "action": action,
            "resource": resource,
            "outcome": outcome,
        }
        try:
            self._audit.write(**line)  # type: ignore[arg-type]  # all but the time are text
        except FeatureStoreError as error:
            # The call has been answered by now, or is refused anyway.
            _log.error("audit: %s: %s", error, line)

    def _authenticate(
        self, bearer: str | None, address: str, secure: bool, request_id: str
    ) -> Caller:
        if self._broken is not None:
            raise _again(self._broken)
        state = self._state
        now_us = time_ns() // 1000
        try:
            grants = _proven(bearer, state.grants, now_us)
        except Unauthenticated as error:
            self.audit(
                None,
                "featureline:Authenticate",
                "*",
                error.code,
                address=address,
                request_id=request_id,
            )
            raise
        token = grants.token
        caller = Caller(token.principal, token.id, address, grants.statements, secure)
        if len(state.callers) >= _MAX_CALLERS:
            state.callers.clear()
        # Looked at again when the hour of its last use changes, and when it expires.
        until = float((now_us // 1_000_000 // _HOUR_S + 1) * _HOUR_S)
        if token.expires_us is not None:
            until = min(until, token.expires_us / 1_000_000)
        state.callers[bearer, address, secure] = (caller, until)
        self._mark_used(token.id, now_us)
        return caller

    def _mark_used(self, token_id: str, now_us: int) -> None:
        if self._database is not None:
            try:
                self._database.mark_used(token_id, now_us)
            except FeatureStoreError as error:
                _log.warning("last use of token %s is not noted: %s", token_id, error)

    def _look(self) -> None:
        """Read tokens and policies again where another process has changed them."""
        if not self._lock.acquire(blocking=False):
            return  # another thread is looking
        try:
            if self._next_look == float("inf"):
                return  # closed
            self._refresh()
            self._broken = None
        except (FeatureStoreError, OSError) as error:
            # What cannot be read protects nothing: every call is refused until it can.
            _log.error("access: %s", error)
            self._broken = error if isinstance(error, FeatureStoreError) else _unreadable(error)
            self._version = -1
            self._state = _State({}, is_active=True)
        finally:
            if self._next_look != float("inf"):
                self._next_look = monotonic() + LOOK_S
            self._lock.release()

    def _refresh(self) -> None:
        path = self._home / database.FILE
        try:
            inode = os.stat(path).st_ino
        except FileNotFoundError:
            # Never made: open. Taken away: what was known still holds, until a restart.
            return
        if self._database is None or inode != self._inode:
            if self._database is not None:
                self._database.close()
                self._database = None
            self._database = AccessDatabase(self._home)
            self._inode, self._version = inode, -1
        version = self._database.version()
        if version == self._version:
            return
        try:
            policies = self._database.policies()
        except InvalidRequest as error:
            raise StoreCorrupt(
                f"{path}: {error}; put the policy again, or restore a backup"
            ) from error
        tokens = self._database.tokens()
        self._state = _State(
            {
                token.id: Grants(
                    token,
                    tuple(
                        statement
                        for name in token.policies
                        # A policy is deleted only when no token that can be used has it.
                        for statement in policies[name].policy.statements
                    ),
                )
                for token in tokens
                if token.revoked_us is None and all(name in policies for name in token.policies)
            },
            # Once closed, it opens only when started anew: a file that lost its rows opens nothing.
            is_active=self._state.is_active or bool(policies or tokens),
        )
        self._version = version


def _unreadable(error: OSError) -> StoreUnavailable:
    return StoreUnavailable(f"tokens and policies cannot be read: {error}; see to its cause")


def _again(error: FeatureStoreError) -> FeatureStoreError:
    """Return an error like this one: an object that is raised twice collects tracebacks."""
    return type(error)(error.message, **error.facts)


def denied(caller: Caller, action: str, resource: str, decision: Decision) -> AccessDenied:
    """Return the error of a decision against a caller."""
    statement = decision.statement
    return AccessDenied(
        f"{caller.principal} may not {action} on {resource}: {decision.reason}; `featureline "
        f"policy explain --token {caller.token_id} --action {action} --resource {resource}` says "
        f"more",
        principal=caller.principal,
        action=action,
        resource=resource,
        statement=None if statement is None else statement.label,
    )


def denied_feature(
    caller: Caller, action: str, group: str, feature: str, statement: Statement
) -> AccessDenied:
    """Return the error of a call that names a feature which is denied to the caller."""
    resource = feature_arn(group, feature)
    return AccessDenied(
        f"{caller.principal} may not {action} feature {feature!r} of {group}: denied by "
        f"{statement.label}; leave the feature out",
        principal=caller.principal,
        action=action,
        resource=resource,
        statement=statement.label,
    )


def _proven(bearer: str | None, grants: Mapping[str, Grants], now_us: int) -> Grants:
    if bearer is None:
        raise Unauthenticated(
            "expected a token in the metadata, `authorization: Bearer flk_…`, got none; give "
            "one: connect(target, token=…), --token-file, or FEATURELINE_TOKEN"
        )
    credential = read_credential(bearer)
    if credential is None:
        raise Unauthenticated(
            f"expected a token of the form flk_<id>_<secret>, got {len(bearer)} characters of "
            f"another form"
        )
    found = grants.get(credential.id)
    if not proves(credential, None if found is None else found.token) or found is None:
        raise Unauthenticated(
            f"token {credential.id} is not valid: unknown, revoked, or with another secret"
        )
    if found.token.state(now_us) != "active":
        raise Unauthenticated(f"token {credential.id} has expired; ask for a new one")
    return found


def _around(caller: Caller, grants: Grants, conditions: Context) -> Context:
    return lambda: {**_moment(caller, with_time=grants.asks_time), **conditions()}


def _moment(caller: Caller, *, with_time: bool) -> dict[str, ContextValue]:
    """Return the keys of the moment and the connection."""
    keys: dict[str, ContextValue] = {"aws:securetransport": "true" if caller.secure else "false"}
    if caller.address:
        keys["aws:sourceip"] = caller.address
    if with_time:
        now_us = time_ns() // 1000
        keys["aws:currenttime"] = eventtime.format_iso(now_us)
        keys["aws:epochtime"] = str(now_us // 1_000_000)
    return keys
