"""Features: a name, the type of its values, and whether it holds one or a collection of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final, final

__all__ = ["CollectionType", "FeatureDefinition", "FeatureType", "Scalar", "Value"]

Scalar = int | float | str
Value = Scalar | list[int] | list[float] | list[str]
MAX_DIMENSION: Final = 8192


class FeatureType(enum.StrEnum):
    """The type of a feature's values: int64, IEEE double or UTF-8 text."""

    INTEGRAL = "Integral"
    FRACTIONAL = "Fractional"
    STRING = "String"


class CollectionType(enum.StrEnum):
    """How a feature that holds several values holds them."""

    LIST = "List"
    SET = "Set"  # each value once, in the order of its first appearance
    VECTOR = "Vector"  # Fractional values, as many as the dimension


@final
@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """One feature.

    Args:
        name: as `FeatureGroup` allows.
        type: of the value, or of each element of a collection.
        collection: None: one value.
        dimension: of a Vector, 1 to 8,192.
    """

    name: str
    type: FeatureType
    collection: CollectionType | None = None
    dimension: int | None = None
