"""Filters: which of the entities that a walk met are returned."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import final

from lineage.entity import JSON, Entity, Kind, as_kind, to_us
from lineage.errors import InvalidQuery

_MISSING = object()


@final
@dataclass(frozen=True)
class Filter:
    """What an entity has to be like: alternatives inside a field, all fields together.

    Args:
        kinds: any of these; empty for all.
        types: any of these; empty for all.
        states: any of these; empty for all.
        uris: the source uri begins like any of these; empty for all.
        properties: any of these pairs, as SageMaker has it; empty for all. A name with dots
            looks into nested values, and facets are looked into behind the properties.
            Numbers are compared as numbers, also when one side is text.
        created_after: created at or after this time; UTC microseconds.
        created_before: created before or at this time.
        modified_after: last modified at or after this time.
        modified_before: last modified before or at this time.
    """

    kinds: frozenset[Kind] = frozenset()
    types: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    uris: frozenset[str] = frozenset()
    properties: Mapping[str, JSON] = field(default_factory=dict, hash=False)
    created_after: int | None = None
    created_before: int | None = None
    modified_after: int | None = None
    modified_before: int | None = None

    def __bool__(self) -> bool:
        """Whether it leaves anything out."""
        return self != _EVERYTHING

    @property
    def is_plain(self) -> bool:
        """Whether kinds and types are all it looks at."""
        return self == Filter(self.kinds, self.types)

    def matches(self, entity: Entity) -> bool:
        """Whether a stored entity passes."""
        if self.kinds and entity.kind not in self.kinds:
            return False
        if self.types and entity.type not in self.types:
            return False
        if self.states and entity.state not in self.states:
            return False
        if self.uris and not entity.source_uri.startswith(tuple(self.uris)):
            return False
        if not self.has_times(entity):
            return False
        return self.has_properties(entity)

    def has_times(self, entity: Entity) -> bool:
        """Whether its times are inside the limits."""
        if entity.created is None or entity.modified is None:
            return True
        for time, after, before in (
            (entity.created, self.created_after, self.created_before),
            (entity.modified, self.modified_after, self.modified_before),
        ):
            if after is not None and to_us(time) < after:
                return False
            if before is not None and to_us(time) > before:
                return False
        return True

    def has_properties(self, entity: Entity) -> bool:
        """Whether any of the pairs is among its properties or facets."""
        return not self.properties or any(
            _is_equal(property_of(entity, name), wanted) for name, wanted in self.properties.items()
        )


_EVERYTHING = Filter()


def as_filter(
    *,
    kinds: Collection[Kind | str] | None = None,
    types: Collection[str] | None = None,
    states: Collection[str] | None = None,
    uris: Collection[str] | None = None,
    properties: Mapping[str, JSON] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    modified_after: datetime | None = None,
    modified_before: datetime | None = None,
) -> Filter:
    """The filter that the arguments of `Graph.query` ask for; one text stands for itself.

    Raises:
        InvalidQuery: a time has no zone, or properties are no mapping.
        InvalidEntity: an unknown kind.
    """
    if properties is not None and not isinstance(properties, Mapping):
        raise InvalidQuery(f"properties: expected names and values, got {properties!r:.200}")
    return Filter(
        frozenset(map(as_kind, _several(kinds))),
        frozenset(_several(types)),
        frozenset(_several(states)),
        frozenset(_several(uris)),
        dict(properties or {}),
        _time(created_after, "created_after"),
        _time(created_before, "created_before"),
        _time(modified_after, "modified_after"),
        _time(modified_before, "modified_before"),
    )


def property_of(entity: Entity, name: str) -> object:
    """A property or facet by name, dots leading into nested values; else a mark of its own."""
    for values in (
        entity.properties,
        {key: facet.value for key, facet in entity.facets.items()},
    ):
        found = _look(values, name)
        if found is not _MISSING:
            return found
    return _MISSING


def _look(values: object, name: str) -> object:
    if not isinstance(values, Mapping):
        return _MISSING
    if name in values:
        return values[name]
    head, dot, rest = name.partition(".")
    while dot:
        if head in values:
            found = _look(values[head], rest)
            if found is not _MISSING:
                return found
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return _MISSING


def _is_equal(found: object, wanted: JSON) -> bool:
    if found is _MISSING:
        return False
    if isinstance(found, bool) or isinstance(wanted, bool):
        return str(found).lower() == str(wanted).lower()
    if isinstance(found, int | float) != isinstance(wanted, int | float):
        try:
            return float(str(found)) == float(str(wanted))
        except ValueError:
            return False
    return found == wanted


def _several(values: Collection[Kind | str] | Collection[str] | None) -> Collection[str]:
    return (values,) if isinstance(values, str) else values or ()


def _time(time: datetime | None, name: str) -> int | None:
    if time is None:
        return None
    if not isinstance(time, datetime) or time.tzinfo is None:
        raise InvalidQuery(f"{name}: expected a datetime with a zone, got {time!r}")
    return to_us(time)
