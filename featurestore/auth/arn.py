"""Resource names: how a policy speaks of feature groups, features, jobs and the rest."""

from __future__ import annotations

from typing import Final

__all__ = ["ACCOUNT", "REGION", "arn", "feature_arn", "group_arn", "group_of"]

# The account that stand-ins for AWS use; a policy that is to hold anywhere writes `*` for both.
ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
_PREFIX: Final = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:"
_GROUP: Final = f"{_PREFIX}feature-group/"
_FEATURE: Final = "/feature/"


def arn(kind: str, name: str) -> str:
    """Return the resource name of something.

    >>> arn("training-job", "flights")
    'arn:aws:sagemaker:us-east-1:123456789012:training-job/flights'
    """
    return f"{_PREFIX}{kind}/{name}"


def group_arn(name: str) -> str:
    """Return the resource name of a feature group, given its name or its resource name.

    >>> group_arn("weather") == group_arn(group_arn("weather"))
    True
    """
    if name.startswith("arn:"):
        name = name.rpartition(":feature-group/")[2]
    return _GROUP + name


def feature_arn(group: str, feature: str) -> str:
    """Return the resource name of one feature of a group.

    >>> feature_arn("people", "ssn")
    'arn:aws:sagemaker:us-east-1:123456789012:feature-group/people/feature/ssn'
    """
    return f"{group_arn(group)}{_FEATURE}{feature}"


def group_of(resource: str) -> str | None:
    """Return the resource name of the group that a feature is in, None for other resources.

    >>> group_of(feature_arn("people", "ssn")) == group_arn("people")
    True
    >>> group_of(group_arn("people")) is None
    True
    """
    group, found, _ = resource.partition(_FEATURE)
    return group if found and ":feature-group/" in group else None
