"""Entities as the rows they were read from: reading them costs less than building them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, final, overload

from lineage.change import facets_from_json
from lineage.entity import Entity, Kind, from_us, stored_entity

# The columns of a row, before those that only the store looks at.
COLUMNS = (
    "kind",
    "type",
    "name",
    "uid",
    "source_uri",
    "content_hash",
    "version",
    "state",
    "properties",
    "created",
    "modified",
    "facets",
)

_KINDS = {kind.value: kind for kind in Kind}

# What one event recorded has one time, and an answer is of few events.
_moment = lru_cache(maxsize=1_024)(from_us)


@final
class EntityRows(Sequence[Entity]):
    """Entities that are built one by one, when they are looked at.

    Args:
        rows: each begins with `COLUMNS`: kind as text, properties and facets as JSON text, and
            times in UTC microseconds.
    """

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, place: int) -> Entity: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Entity]: ...
    def __getitem__(self, place: int | slice) -> Entity | Sequence[Entity]:
        if isinstance(place, slice):
            return EntityRows(self._rows[place])
        return to_entity(self._rows[place])

    def __iter__(self) -> Iterator[Entity]:
        return map(to_entity, self._rows)

    def columns(self) -> dict[str, Sequence[Any]]:
        """The values by column."""
        values = list(zip(*self._rows, strict=True)) or [()] * len(COLUMNS)
        return dict(zip(COLUMNS, values, strict=False))

    def uids(self) -> list[str]:
        """The uid of each."""
        return [row[3] for row in self._rows]


def to_entity(row: tuple[Any, ...]) -> Entity:
    """The entity of a row."""
    created = row[9]
    created_at = _moment(created)
    modified = row[10]
    return stored_entity(
        kind=_KINDS[row[0]],
        type=row[1],
        name=row[2],
        uid=row[3],
        source_uri=row[4],
        content_hash=row[5],
        version=row[6],
        state=row[7],
        properties={} if row[8] == "{}" else json.loads(row[8]),
        created=created_at,
        modified=created_at if modified == created else _moment(modified),
        facets=None if row[11] == "{}" else facets_from_json(json.loads(row[11])),
    )
