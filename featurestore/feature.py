"""Features: a name and the type of its values."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import final

__all__ = ["FeatureDefinition", "FeatureType", "Value"]

Value = int | float | str


class FeatureType(enum.StrEnum):
    """The type of a feature's values: int64, IEEE double or UTF-8 text."""

    INTEGRAL = "Integral"
    FRACTIONAL = "Fractional"
    STRING = "String"


@final
@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """One feature: a name and the type of its values."""

    name: str
    type: FeatureType
