"""What is drawn, and the words that every form of drawing uses for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, final

from lineage.association import Association, AssociationType
from lineage.column import ColumnLineage
from lineage.entity import Entity, Kind

COLOURS: Final[Mapping[Kind, str]] = {
    Kind.ARTIFACT: "#3b7dd8",
    Kind.TRIAL_COMPONENT: "#8257d8",
    Kind.ACTION: "#c98a12",
    Kind.CONTEXT: "#1f9d6b",
    Kind.TRIAL: "#cf4f8f",
    Kind.EXPERIMENT: "#c8503c",
}
LOOSE: Final = (AssociationType.SAME_AS, AssociationType.ASSOCIATED_WITH)
"""The types that say nothing of cause; drawings dash them."""

_LONGEST_LABEL = 60


@final
@dataclass(frozen=True)
class Drawing:
    """What is drawn.

    Args:
        start: uid that the walk started from; need not be among the entities.
        direction: ascendants, descendants or both.
        entities: nearest first.
        associations: those with an end that is not among the entities are left out.
        columns: which columns went into which; only the page tells them.
    """

    start: str
    direction: str
    entities: tuple[Entity, ...]
    associations: tuple[Association, ...]
    columns: tuple[ColumnLineage, ...] = ()

    def edges(self) -> list[tuple[int, int, AssociationType]]:
        """The associations as places in `entities`: source, destination, type."""
        places = {entity.uid: place for place, entity in enumerate(self.entities)}
        return [
            (places[a.source], places[a.destination], a.type)
            for a in self.associations
            if a.source in places and a.destination in places
        ]


def label(entity: Entity) -> list[str]:
    """Type, name with version, and state if any."""
    name = shorten(entity.name, _LONGEST_LABEL)
    if has_version(entity):
        name = f"{name} v{entity.version}"
    return [shorten(entity.type, _LONGEST_LABEL), name, *([entity.state] if entity.state else [])]


def has_version(entity: Entity) -> bool:
    """Whether a drawing tells the version: always of an artifact, else from the second on."""
    return entity.kind is Kind.ARTIFACT or entity.version > 1


def shorten(text: str, most: int) -> str:
    """`text` in at most `most` characters, cut in the middle: names differ at their ends.

    >>> shorten("flights-2013-01-training-job", 15)
    'flights…ing-job'
    """
    if len(text) <= most:
        return text
    tail = (most - 1) // 2
    return f"{text[: most - 1 - tail]}…{text[-tail:]}"
