"""Policies in IAM's shape, and the one function that decides by them.

A request is allowed when a statement allows it and none denies it: an explicit Deny wins, and what
no statement speaks of is denied. The order of statements does not matter.

Statements on features have resources `…:feature-group/NAME/feature/FEATURE`. Only a Deny has a
meaning there: it takes the feature out of what the group's Allow gives. `NotResource` that names a
group spares its features too.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, final

from featurestore.auth.arn import group_of
from featurestore.auth.condition import (
    Condition,
    ContextValue,
    Predicate,
    folded,
    glob,
    parse_conditions,
)
from featurestore.errors import InvalidRequest, nearest

__all__ = [
    "AccessRequest",
    "Decision",
    "Effect",
    "Policy",
    "Statement",
    "Verdict",
    "decide",
    "evaluate",
    "explain",
    "parse_policy",
]

MAX_POLICY_BYTES: Final = 64 * 1024
MAX_SID: Final = 128
VERSIONS: Final = ("2012-10-17", "2008-10-17")
_NAME: Final = re.compile(r"[A-Za-z0-9+=,.@_-]{1,128}\Z")
_ACTION: Final = re.compile(r"(\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+)\Z")
_POLICY_MEMBERS: Final = frozenset({"Version", "Id", "Statement"})
_STATEMENT_MEMBERS: Final = frozenset(
    {"Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Condition"}
)
_PRINCIPALS: Final = frozenset({"Principal", "NotPrincipal"})


class Effect(enum.StrEnum):
    """What a statement, or a decision, says."""

    ALLOW = "Allow"
    DENY = "Deny"


@final
@dataclass(frozen=True, slots=True)
class Statement:
    """One statement of a policy.

    Args:
        policy: the policy's name.
        index: its place in the policy, from 0.
        sid: the name it was given, or empty.
        effect: what it says where it matches.
        actions: patterns in lower case.
        spares_actions: NotAction: it matches the actions that no pattern fits.
        resources: patterns.
        spares_resources: NotResource: it matches the resources that no pattern fits.
        conditions: all must hold.
    """

    policy: str
    index: int
    sid: str
    effect: Effect
    actions: tuple[str, ...]
    spares_actions: bool
    resources: tuple[str, ...]
    spares_resources: bool
    conditions: tuple[Condition, ...]
    _actions: tuple[Predicate, ...] = field(repr=False, compare=False)
    _resources: tuple[Predicate, ...] = field(repr=False, compare=False)

    @property
    def label(self) -> str:
        """How a person finds it: its Sid or number, and the policy."""
        return f"{self.sid or f'statement {self.index}'} of policy {self.policy}"

    def is_about(self, action: str, resource: str) -> bool:
        """Whether action and resource fit; the conditions are another matter."""
        return self.has_action(action) and self.has_resource(resource)

    def has_action(self, action: str) -> bool:
        """Whether it speaks of an action, in any case of letters."""
        lower = action.lower()
        return any(fits(lower) for fits in self._actions) != self.spares_actions

    def has_resource(self, resource: str) -> bool:
        """Whether it speaks of a resource."""
        if not self.spares_resources:
            return any(fits(resource) for fits in self._resources)
        group = group_of(resource)
        return not any(
            fits(resource) or (group is not None and fits(group)) for fits in self._resources
        )


@final
@dataclass(frozen=True, slots=True)
class Policy:
    """A named list of statements. `text` is the document as it was given."""

    name: str
    statements: tuple[Statement, ...]
    text: str


@final
@dataclass(frozen=True)
class AccessRequest:
    """What somebody wants to do.

    Args:
        action: `service:Name`.
        resource: a resource name.
        context: condition key (any case) → value or values.
    """

    action: str
    resource: str
    context: Mapping[str, ContextValue] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "context", folded(self.context))


class Decision(NamedTuple):
    """Whether a request is allowed, by which statement (None: none speaks of it), and why."""

    effect: Effect
    statement: Statement | None
    reason: str

    @property
    def is_allowed(self) -> bool:
        """Whether the request is allowed."""
        return self.effect is Effect.ALLOW


class Verdict(NamedTuple):
    """Whether one statement matches a request, and why not."""

    statement: Statement
    matches: bool
    reason: str


def evaluate(statements: Iterable[Statement], request: AccessRequest) -> Decision:
    """Decide on a request.

    An explicit Deny wins over every Allow; without a matching statement the answer is Deny. The
    deciding statement is the first that matches with the deciding effect.

    >>> policy = parse_policy(
    ...     "readers",
    ...     '''{"Statement": [
    ...     {"Sid": "Read", "Effect": "Allow", "Action": "sagemaker:Get*", "Resource": "*"}]}''',
    ... )
    >>> evaluate(policy.statements, AccessRequest("sagemaker:GetRecord", "arn:x")).reason
    'allowed by Read of policy readers'
    >>> evaluate(policy.statements, AccessRequest("sagemaker:PutRecord", "arn:x")).reason
    'no statement allows it'
    """
    return decide(statements, request.action, request.resource, request.context)


def decide(
    statements: Iterable[Statement],
    action: str,
    resource: str,
    context: Mapping[str, ContextValue],
) -> Decision:
    """Do what `evaluate` does, with a context whose keys are in lower case already."""
    allowing: Statement | None = None
    for statement in statements:
        if statement.effect is Effect.ALLOW and allowing is not None:
            continue
        if _matches(statement, action, resource, context):
            if statement.effect is Effect.DENY:
                return Decision(Effect.DENY, statement, f"denied by {statement.label}")
            allowing = statement
    if allowing is None:
        return Decision(Effect.DENY, None, "no statement allows it")
    return Decision(Effect.ALLOW, allowing, f"allowed by {allowing.label}")


def explain(
    statements: Sequence[Statement], request: AccessRequest
) -> tuple[Decision, list[Verdict]]:
    """Decide on a request, and say of each statement whether it matches and why not."""
    return evaluate(statements, request), [_verdict(entry, request) for entry in statements]


def parse_policy(name: str, text: str) -> Policy:
    """Read a policy document.

    Raises:
        InvalidRequest: it is not JSON, a member is missing, unknown or of the wrong form. The
            message says where, what was expected and what came.
    """
    if not _NAME.match(name):
        raise InvalidRequest(
            f"policy name: expected 1 to 128 letters, digits and + = , . @ _ -, got {name!r}"
        )
    if len(text.encode(errors="replace")) > MAX_POLICY_BYTES:
        raise InvalidRequest(
            f"policy {name}: expected at most {MAX_POLICY_BYTES} bytes, got {len(text)}; write "
            f"two policies"
        )
    where = f"policy {name}"
    try:
        body = json.loads(text, object_pairs_hook=lambda pairs: _unique(where, pairs))
    except (json.JSONDecodeError, RecursionError) as error:
        raise InvalidRequest(f"{where}: expected JSON: {error}") from error
    _check_members(where, body, _POLICY_MEMBERS)
    version = body.get("Version", VERSIONS[0])
    if version not in VERSIONS:
        raise InvalidRequest(
            f"{where}.Version: expected {' or '.join(VERSIONS)}, got {_shown(version)}"
        )
    if not isinstance(body.get("Id", ""), str):
        raise InvalidRequest(f"{where}.Id: expected text, got {_shown(body['Id'])}")
    entries = body.get("Statement")
    if isinstance(entries, Mapping):
        entries = [entries]
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest(
            f"{where}.Statement: expected a list of statements, got {_shown(entries)}"
        )
    statements = tuple(
        _statement(name, f"{where}.Statement[{index}]", index, entry)
        for index, entry in enumerate(entries)
    )
    sids = [statement.sid for statement in statements if statement.sid]
    for sid in sids:
        if sids.count(sid) > 1:
            raise InvalidRequest(f"{where}: expected each Sid once, got {sid!r} twice")
    return Policy(name, statements, text)


def _matches(
    statement: Statement, action: str, resource: str, context: Mapping[str, ContextValue]
) -> bool:
    return statement.is_about(action, resource) and all(
        condition.holds(context) for condition in statement.conditions
    )


def _verdict(statement: Statement, request: AccessRequest) -> Verdict:
    if not statement.has_action(request.action):
        problem = _unfit("action", request.action, statement.actions, statement.spares_actions)
    elif not statement.has_resource(request.resource):
        problem = _unfit(
            "resource", request.resource, statement.resources, statement.spares_resources
        )
    else:
        failed = [entry for entry in statement.conditions if not entry.holds(request.context)]
        if not failed:
            return Verdict(statement, True, f"matches: {statement.effect.value}")
        problem = f"condition does not hold: {failed[0].shown(request.context)}"
    return Verdict(statement, False, problem)


def _unfit(what: str, value: str, patterns: tuple[str, ...], spares: bool) -> str:
    verb = "is spared by" if spares else "is not"
    return f"{what} {value} {verb} {' or '.join(patterns)}"


def _statement(policy: str, where: str, index: int, body: Any) -> Statement:
    _check_members(where, body, _STATEMENT_MEMBERS)
    sid = body.get("Sid", "")
    if not isinstance(sid, str) or len(sid) > MAX_SID:
        raise InvalidRequest(
            f"{where}.Sid: expected text of at most {MAX_SID} characters, got {_shown(sid)}"
        )
    effect = body.get("Effect")
    if effect not in ("Allow", "Deny"):
        raise InvalidRequest(f"{where}.Effect: expected Allow or Deny, got {_shown(effect)}")
    actions, spares_actions = _patterns(where, body, "Action")
    for action in actions:
        if not _ACTION.match(action):
            raise InvalidRequest(
                f"{where}: expected an action like sagemaker:GetRecord, sagemaker:* or *, got "
                f"{action!r}"
            )
    resources, spares_resources = _patterns(where, body, "Resource")
    for resource in resources:
        if resource != "*" and not resource.startswith("arn:"):
            raise InvalidRequest(
                f"{where}: expected a resource like arn:aws:sagemaker:*:*:feature-group/NAME, or "
                f"*, got {resource!r}"
            )
    lowered = tuple(action.lower() for action in actions)
    return Statement(
        policy,
        index,
        sid,
        Effect(effect),
        lowered,
        spares_actions,
        resources,
        spares_resources,
        parse_conditions(f"{where}.Condition", body.get("Condition", {})),
        tuple(map(glob, lowered)),
        tuple(map(glob, resources)),
    )


def _patterns(where: str, body: Mapping[str, Any], member: str) -> tuple[tuple[str, ...], bool]:
    negated = f"Not{member}"
    given = [name for name in (member, negated) if name in body]
    if len(given) != 1:
        raise InvalidRequest(
            f"{where}: expected one of {member} and {negated}, got {'both' if given else 'neither'}"
        )
    value = body[given[0]]
    entries = [value] if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        raise InvalidRequest(
            f"{where}.{given[0]}: expected text or a list of texts, got {_shown(value)}"
        )
    for entry in entries:
        if not isinstance(entry, str):
            raise InvalidRequest(f"{where}.{given[0]}: expected text, got {_shown(entry)}")
        if "${" in entry:
            raise InvalidRequest(
                f"{where}.{given[0]}: expected plain text, got {entry!r}: policy variables are "
                f"not known here"
            )
    return tuple(entries), given[0] == negated


def _check_members(where: str, body: object, known: frozenset[str]) -> None:
    if not isinstance(body, Mapping):
        raise InvalidRequest(f"{where}: expected a JSON object, got {_shown(body)}")
    for member in body:
        if member in _PRINCIPALS:
            raise InvalidRequest(
                f"{where}: expected no {member}, got one: a policy is attached to tokens, and acts "
                f"for those who hold them"
            )
        if member not in known:
            raise InvalidRequest(
                f"{where}: expected members among {', '.join(sorted(known))}, got {member!r}"
                f"{nearest(member, known)}"
            )


def _unique(where: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"{where}: expected each member once, got {twice!r} twice")
    return body


def _shown(value: object) -> str:
    return "nothing" if value is None else f"{json.dumps(value, default=str)}"[:80]
