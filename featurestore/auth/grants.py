"""What one token may do, remembered: the statements of its policies and the decisions made by them.

A decision is remembered by action and resource where no condition on time, address, tags or
features can change it; otherwise only the statements that speak of both are evaluated again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, final

from featurestore.auth.arn import ACCOUNT, feature_arn, group_arn
from featurestore.auth.condition import ContextValue, folded
from featurestore.auth.policy import Decision, Effect, Statement, decide
from featurestore.auth.token import Token
from featurestore.schema import FeatureGroup

__all__ = ["READS", "WRITES", "Context", "Grants"]

Context = Callable[[], Mapping[str, ContextValue]]

# Values leave by the first and come in by the second: a feature denied for one of a kind is denied
# for all of it, so that a Deny on GetRecord cannot be got round by BatchGetRecord.
READS: Final = (
    "sagemaker:GetRecord",
    "sagemaker:BatchGetRecord",
    "featureline:BuildDataset",
    "featureline:CreateDataset",
    "featureline:CheckDataset",
    "featureline:ReadDataset",
    "featureline:ReadHistory",
)
WRITES: Final = (
    "sagemaker:PutRecord",
    "sagemaker:BatchWriteRecord",
    "sagemaker:UpdateRecord",
    "featureline:LoadRows",
)

_MAX_REMEMBERED: Final = 10_000  # resources come from requests: memory must not grow with them
_NOTHING: Final[Mapping[str, Statement]] = {}


class _Features(NamedTuple):
    """The features of a group that are denied always, and those where it depends on the call."""

    group: FeatureGroup
    always: Mapping[str, Statement]
    depending: tuple[tuple[str, tuple[Statement, ...]], ...]


@final
class Grants:
    """Decides for one token.

    Args:
        token: whose.
        statements: of all its policies.
    """

    def __init__(self, token: Token, statements: tuple[Statement, ...]) -> None:
        self.token = token
        self.statements = statements
        self.static = folded(
            {
                "aws:username": token.principal,
                "aws:PrincipalArn": f"arn:aws:iam::{ACCOUNT}:user/{token.principal}",
                **{f"aws:PrincipalTag/{key}": value for key, value in token.tags.items()},
            }
        )
        self.asks_time = any(
            condition.is_about_time for entry in statements for condition in entry.conditions
        )
        self._denies = tuple(entry for entry in statements if entry.effect is Effect.DENY)
        self._decided: dict[tuple[str, str], Decision | tuple[Statement, ...]] = {}
        self._features: dict[tuple[str, tuple[str, ...]], _Features] = {}

    @property
    def may_deny_features(self) -> bool:
        """Whether there is any statement that could deny a feature."""
        return bool(self._denies)

    def allows(self, action: str, resource: str) -> bool:
        """Whether it is remembered that this is allowed, whatever the call."""
        known = self._decided.get((action, resource))
        return type(known) is Decision and known.effect is Effect.ALLOW

    def decide(self, action: str, resource: str, context: Context) -> Decision:
        """Decide on a request; `context` is asked only where a condition needs it.

        Its keys are in lower case.
        """
        key = (action, resource)
        known = self._decided.get(key)
        if known is None:
            known = self._plan(action, resource)
            if len(self._decided) >= _MAX_REMEMBERED:
                self._decided.clear()
            self._decided[key] = known
        if isinstance(known, Decision):
            return known
        return decide(known, action, resource, {**self.static, **context()})

    def denied_features(
        self, group: FeatureGroup, actions: tuple[str, ...], context: Context
    ) -> Mapping[str, Statement]:
        """Return the features of a group that statements on features deny, with the statement.

        A Deny on the group itself is not about its features: it denies the whole call.
        """
        if not self._denies:
            return _NOTHING
        key = (group.name, actions)
        known = self._features.get(key)
        if known is None or known.group is not group:
            known = self._plan_features(group, actions)
            if len(self._features) >= _MAX_REMEMBERED:
                self._features.clear()
            self._features[key] = known
        if not known.depending:
            return known.always
        denied = dict(known.always)
        values: dict[str, ContextValue] = {**self.static, **context()}
        for feature, statements in known.depending:
            statement = self._denying(group.name, feature, statements, actions, values)
            if statement is not None:
                denied[feature] = statement
        return denied

    def _plan(self, action: str, resource: str) -> Decision | tuple[Statement, ...]:
        """Decide for good, or return the statements that each call has to be held against."""
        about = [entry for entry in self.statements if entry.is_about(action, resource)]
        depending = [entry for entry in about if not _is_static(entry)]
        fixed = [entry for entry in about if _is_static(entry)]
        decision = decide(fixed, action, resource, self.static)
        if decision.statement is not None and decision.effect is Effect.DENY:
            return decision
        denies = any(entry.effect is Effect.DENY for entry in depending)
        if not denies and (decision.is_allowed or not depending):
            return decision
        return tuple(fixed + depending)

    def _plan_features(self, group: FeatureGroup, actions: tuple[str, ...]) -> _Features:
        resource = group_arn(group.name)
        about = [
            entry
            for entry in self._denies
            if any(entry.has_action(action) for action in actions)
            and not entry.has_resource(resource)
        ]
        fixed = tuple(entry for entry in about if _is_static(entry))
        always: dict[str, Statement] = {}
        depending: list[tuple[str, tuple[Statement, ...]]] = []
        for feature in group.feature_names:
            named = feature_arn(group.name, feature)
            statement = self._denying(group.name, feature, fixed, actions, self.static)
            if statement is not None:
                always[feature] = statement
                continue
            rest = tuple(
                entry for entry in about if entry not in fixed and entry.has_resource(named)
            )
            if rest:
                depending.append((feature, rest))
        return _Features(group, always, tuple(depending))

    def _denying(
        self,
        group: str,
        feature: str,
        statements: tuple[Statement, ...],
        actions: tuple[str, ...],
        context: Mapping[str, ContextValue],
    ) -> Statement | None:
        if not statements:
            return None
        values = {**context, "featureline:featurenames": (feature,)}
        for action in actions:
            found = decide(statements, action, feature_arn(group, feature), values).statement
            if found is not None:
                return found
        return None


def _is_static(statement: Statement) -> bool:
    return all(condition.is_static for condition in statement.conditions)
