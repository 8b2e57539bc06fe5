"""Columns: which features feed a model, and which models use a feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import final

from lineage.column import ColumnLink, ColumnResult
from lineage.entity import JSON, Entity
from lineage.questions.words import entity_json, title

_IMPORTANCE = "importance"


@final
@dataclass(frozen=True)
class FeatureUse:
    """A column that feeds something, where it came from, and how much it counts.

    Args:
        entity: where the column is: what nothing further upstream is recorded of.
        column: its name there; empty for the entity as a whole.
        input: the column that it became on the way in, as the user of it names it.
        importance: how much it counts, as the job said; None where it did not.
        user: what uses it, such as a model.
        depth: edges between the two.
    """

    entity: Entity
    column: str
    input: str
    importance: float | None
    user: Entity
    depth: int

    def text(self) -> str:
        """The use in a line: importance, feature, and the name it goes by."""
        share = "      " if self.importance is None else f"{self.importance:6.3f}"
        renamed = f" as {self.input}" if self.input not in ("", self.column) else ""
        return f"{share}  {self.column or '(all)'} of {title(self.entity)}{renamed}"

    def to_json(self) -> dict[str, JSON]:
        """The use as plain values."""
        return {
            "entity": entity_json(self.entity),
            "column": self.column,
            "input": self.input,
            "importance": self.importance,
            "user": entity_json(self.user),
            "depth": self.depth,
        }


def features_of(
    result: ColumnResult, user: Entity, entities: Mapping[str, Entity]
) -> list[FeatureUse]:
    """The columns at the far end of an upstream walk, the most important first.

    Args:
        result: the walk up from all columns of `user`.
        user: what is fed.
        entities: those in the result, by uid.
    """
    upstream: dict[tuple[str, str], list[ColumnLink]] = {}
    for link in result.links:
        upstream.setdefault((link.destination, link.column), []).append(link)
    found: dict[tuple[str, str, str], FeatureUse] = {}
    for link in result.links:
        if link.destination != user.uid or link.source == user.uid:
            continue
        importance = _importance(link)
        for (uid, column), depth in _ends(upstream, (link.source, link.source_column)):
            if uid not in entities:
                continue
            use = FeatureUse(entities[uid], column, link.source_column, importance, user, depth + 1)
            key = (uid, column, link.source_column)
            known = found.get(key)
            if known is None or (known.importance or 0.0) < (importance or 0.0):
                found[key] = use
    return sorted(
        found.values(),
        key=lambda use: (
            use.importance is None,
            -(use.importance or 0.0),
            use.entity.name,
            use.column,
        ),
    )


def users_of(
    result: ColumnResult,
    feature: Entity,
    column: str,
    entities: Mapping[str, Entity],
    *,
    types: frozenset[str],
) -> list[FeatureUse]:
    """What a column of a feature reaches, the most important use first.

    Args:
        result: the walk down from the column.
        feature: where the column is.
        column: its name.
        entities: those in the result, by uid.
        types: entity types that count as users; empty for all.
    """
    depths = {(node.entity, node.column): node.depth for node in result.columns}
    found: dict[tuple[str, str], FeatureUse] = {}
    for link in result.links:
        user = entities.get(link.destination)
        if user is None or (types and user.type not in types):
            continue
        importance = _importance(link)
        key = (user.uid, link.source_column)
        known = found.get(key)
        if known is None or (known.importance or 0.0) < (importance or 0.0):
            depth = depths.get((link.source, link.source_column), 0) + 1
            found[key] = FeatureUse(feature, column, link.source_column, importance, user, depth)
    return sorted(
        found.values(),
        key=lambda use: (-(use.importance or 0.0), use.user.name, use.user.version, use.input),
    )


def _ends(
    upstream: Mapping[tuple[str, str], list[ColumnLink]], start: tuple[str, str]
) -> Iterator[tuple[tuple[str, str], int]]:
    """The columns that nothing further upstream is recorded of, and how far each is."""
    depths = {start: 0}
    waiting = [start]
    while waiting:
        column = waiting.pop()
        # An edge without a column touches all rows, and is of none in particular.
        links = upstream.get(column, [])
        if not links:
            yield column, depths[column]
        for link in links:
            before = (link.source, link.source_column)
            if before not in depths:
                depths[before] = depths[column] + 1
                waiting.append(before)


def _importance(link: ColumnLink) -> float | None:
    value = link.properties.get(_IMPORTANCE)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)
