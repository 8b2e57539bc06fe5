"""What people say about a feature: a description, and parameters as key and value."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from featurestore.errors import InvalidRequest
from featurestore.feature import FeatureDefinition
from featurestore.schema import definition_to_json

__all__ = ["FeatureMetadata", "MetadataChange"]

MAX_DESCRIPTION: Final = 255
MAX_PARAMETERS: Final = 25
MAX_PARAMETER: Final = 255
# SageMaker's pattern: letters, separators, digits and a few signs.
_PARAMETER: Final = re.compile(r"[\w \u00a0\u2000-\u200a\u2028\u2029\u202f\u205f\u3000.:/=+\-]*\Z")


@final
@dataclass(frozen=True, slots=True)
class FeatureMetadata:
    """One feature of a group, with what people say about it.

    Args:
        group: the feature group's name.
        feature: the definition.
        description: up to 255 characters.
        parameters: up to 25 pairs.
        created: when the feature was added to the group.
        modified: of the last change of the description or parameters.
    """

    group: str
    feature: FeatureDefinition
    description: str
    parameters: Mapping[str, str]
    created: dt.datetime
    modified: dt.datetime

    def to_json(self) -> dict[str, Any]:
        """Write it in the shape of SageMaker's DescribeFeatureMetadata."""
        return {
            "FeatureGroupName": self.group,
            **definition_to_json(self.feature),
            "Description": self.description,
            "Parameters": [
                {"Key": key, "Value": value} for key, value in sorted(self.parameters.items())
            ],
            "CreationTime": self.created.isoformat(),
            "LastModifiedTime": self.modified.isoformat(),
        }


@final
@dataclass(frozen=True, slots=True)
class MetadataChange:
    """A change of one feature's metadata, checked on construction.

    Args:
        description: the new one; None: it stays.
        additions: parameters to set.
        removals: keys to take away; one that is not there is no error.

    Raises:
        InvalidRequest: a rule is broken; the message names it.

    >>> MetadataChange(additions={"unit": "kelvin"}).apply("", {"owner": "weather"})
    ('', {'owner': 'weather', 'unit': 'kelvin'})
    """

    description: str | None = None
    additions: Mapping[str, str] = field(default_factory=dict)
    removals: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.description is None and not self.additions and not self.removals:
            raise InvalidRequest(
                "feature metadata: expected a description, parameter additions or removals, "
                "got none"
            )
        if self.description is not None and len(self.description) > MAX_DESCRIPTION:
            raise InvalidRequest(
                f"feature metadata: Description: expected at most {MAX_DESCRIPTION} characters, "
                f"got {len(self.description)}"
            )
        for name, entries in (("Additions", self.additions), ("Removals", self.removals)):
            if len(entries) > MAX_PARAMETERS:
                raise InvalidRequest(
                    f"feature metadata: Parameter{name}: expected at most {MAX_PARAMETERS}, "
                    f"got {len(entries)}"
                )
        for key, value in self.additions.items():
            _check_parameter("Key", key)
            _check_parameter("Value", value)
        twice = set(self.additions) & set(self.removals)
        if twice:
            raise InvalidRequest(
                f"feature metadata: parameter {min(twice)!r} is both added and removed"
            )
        object.__setattr__(self, "additions", dict(self.additions))

    def apply(self, description: str, parameters: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        """Return description and parameters after the change.

        Raises:
            InvalidRequest: there would be too many parameters.
        """
        kept = {key: value for key, value in parameters.items() if key not in self.removals}
        changed = kept | dict(self.additions)
        if len(changed) > MAX_PARAMETERS:
            raise InvalidRequest(
                f"feature metadata: expected at most {MAX_PARAMETERS} parameters, the change "
                f"makes {len(changed)}; remove some"
            )
        return (description if self.description is None else self.description), changed


def _check_parameter(what: str, text: object) -> None:
    if (
        not isinstance(text, str)
        or not 1 <= len(text) <= MAX_PARAMETER
        or not _PARAMETER.match(text)
    ):
        raise InvalidRequest(
            f"feature metadata: parameter {what}: expected 1 to {MAX_PARAMETER} letters, digits, "
            f"spaces and . : / = + - _, got {text!r}"
        )
