"""Search over feature groups and features: SageMaker's expressions on their documents.

A document is what a describe call returns, as JSON values. A filter's value is text; it is compared
as a number, a time, a truth value or text, by what the property holds. Where a property has several
values (a group's feature names, its tags), one that fulfils the filter is enough; NotEquals asks
that none is equal.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from featurestore import eventtime
from featurestore.errors import InvalidRequest, nearest

__all__ = ["Expression", "Filter", "NestedFilters", "Operator", "Resource", "matches", "sort_key"]

MAX_FILTERS: Final = 20
MAX_NAME: Final = 255
MAX_VALUE: Final = 1024
MAX_DEPTH: Final = 10


class Resource(enum.StrEnum):
    """What can be searched for."""

    FEATURE_GROUP = "FeatureGroup"
    FEATURE_METADATA = "FeatureMetadata"


class Operator(enum.StrEnum):
    """How a property is compared with a filter's value."""

    EQUALS = "Equals"
    NOT_EQUALS = "NotEquals"
    GREATER_THAN = "GreaterThan"
    GREATER_THAN_OR_EQUAL_TO = "GreaterThanOrEqualTo"
    LESS_THAN = "LessThan"
    LESS_THAN_OR_EQUAL_TO = "LessThanOrEqualTo"
    CONTAINS = "Contains"  # part of a text, upper or lower case alike
    EXISTS = "Exists"
    NOT_EXISTS = "NotExists"
    IN = "In"  # one of the values between commas


# A trailing `.*` stands for keys the user chose: Tags.team, Parameters.unit.
_PROPERTIES: Final[dict[Resource, dict[str, str]]] = {
    Resource.FEATURE_GROUP: {
        "FeatureGroupName": "text",
        "RecordIdentifierFeatureName": "text",
        "EventTimeFeatureName": "text",
        "FeatureDefinitions.FeatureName": "text",
        "FeatureDefinitions.FeatureType": "text",
        "FeatureDefinitions.CollectionType": "text",
        "OnlineStoreConfig.EnableOnlineStore": "bool",
        "OnlineStoreConfig.StorageType": "text",
        "OnlineStoreConfig.TtlDuration.Unit": "text",
        "OnlineStoreConfig.TtlDuration.Value": "number",
        "OnlineStoreConfig.SecurityConfig.KmsKeyId": "text",
        "OfflineStoreConfig.Uri": "text",
        "ThroughputConfig.ThroughputMode": "text",
        "FeatureGroupStatus": "text",
        "Description": "text",
        "CreationTime": "time",
        "LastModifiedTime": "time",
        "Version": "number",
        "Tags.*": "text",
    },
    Resource.FEATURE_METADATA: {
        "FeatureGroupName": "text",
        "FeatureName": "text",
        "FeatureType": "text",
        "CollectionType": "text",
        "Description": "text",
        "CreationTime": "time",
        "LastModifiedTime": "time",
        "Parameters.*": "text",
        "AllParameters": "text",
    },
}


@final
@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one property.

    Args:
        name: dotted, for example `FeatureGroupName` or `Tags.team`.
        operator: how to compare; absent means Equals, as SageMaker's SDK has it.
        value: text; none for Exists and NotExists.
    """

    name: str
    operator: Operator = Operator.EQUALS
    value: str = ""


@final
@dataclass(frozen=True, slots=True)
class NestedFilters:
    """Conditions that one element of a list must fulfil together."""

    name: str
    filters: tuple[Filter, ...]


@final
@dataclass(frozen=True, slots=True)
class Expression:
    """Filters and further expressions, joined by And or Or."""

    filters: tuple[Filter, ...] = ()
    nested: tuple[NestedFilters, ...] = ()
    expressions: tuple[Expression, ...] = ()
    any_of: bool = False


def matches(resource: Resource, expression: Expression) -> Callable[[Mapping[str, Any]], bool]:
    """Return the test of an expression on a document; an empty one holds for each.

    Raises:
        InvalidRequest: an unknown property, an operator that does not fit it, a value that is no
            number or time where one is compared, or too many filters.

    >>> test = matches(
    ...     Resource.FEATURE_GROUP, Expression((Filter("Tags.team", Operator.EQUALS, "ops"),))
    ... )
    >>> test({"Tags": [{"Key": "team", "Value": "ops"}]}), test({"Tags": []})
    (True, False)
    """
    return _expression(resource, expression, 0)


def sort_key(resource: Resource, name: str) -> Callable[[Mapping[str, Any]], tuple[bool, Any]]:
    """Return what documents are sorted by; those without the property come first.

    Raises:
        InvalidRequest: an unknown property.
    """
    kind = _kind(resource, name)

    def key(document: Mapping[str, Any]) -> tuple[bool, Any]:
        found = list(_values(document, name.split(".")))
        return (bool(found), _typed(kind, name, found[0]) if found else 0)

    return key


def _expression(
    resource: Resource, expression: Expression, depth: int
) -> Callable[[Mapping[str, Any]], bool]:
    if depth > MAX_DEPTH:
        raise InvalidRequest(f"search: expected at most {MAX_DEPTH} expressions inside another")
    for what, entries in (
        ("Filters", expression.filters),
        ("NestedFilters", expression.nested),
        ("SubExpressions", expression.expressions),
    ):
        if len(entries) > MAX_FILTERS:
            raise InvalidRequest(
                f"search: {what}: expected at most {MAX_FILTERS}, got {len(entries)}"
            )
    tests = [
        *(_filter(resource, entry, entry.name) for entry in expression.filters),
        *(_nested(resource, entry) for entry in expression.nested),
        *(_expression(resource, entry, depth + 1) for entry in expression.expressions),
    ]
    if expression.any_of and tests:
        return lambda document: any(test(document) for test in tests)
    return lambda document: all(test(document) for test in tests)


def _nested(resource: Resource, nested: NestedFilters) -> Callable[[Mapping[str, Any]], bool]:
    if not 1 <= len(nested.filters) <= MAX_FILTERS:
        raise InvalidRequest(
            f"search: NestedFilters.Filters: expected 1 to {MAX_FILTERS}, got {len(nested.filters)}"
        )
    tests = [
        _filter(resource, entry, f"{nested.name}.{entry.name.removeprefix(f'{nested.name}.')}")
        for entry in nested.filters
    ]

    def test(document: Mapping[str, Any]) -> bool:
        for element in _values(document, nested.name.split(".")):
            alone = _wrapped(nested.name.split("."), element)
            if all(one(alone) for one in tests):
                return True
        return False

    return test


def _wrapped(path: Sequence[str], element: Any) -> dict[str, Any]:
    """Build a document that holds only one element at a path."""
    for part in reversed(path):
        element = {part: element}
    return dict(element)


def _filter(resource: Resource, entry: Filter, name: str) -> Callable[[Mapping[str, Any]], bool]:
    kind = _kind(resource, name)
    path = name.split(".")
    operator = entry.operator
    if operator is Operator.EXISTS:
        return lambda document: any(True for _ in _values(document, path))
    if operator is Operator.NOT_EXISTS:
        return lambda document: not any(True for _ in _values(document, path))
    if not 1 <= len(entry.value) <= MAX_VALUE:
        raise InvalidRequest(
            f"search: {name}: expected a value of 1 to {MAX_VALUE} characters for {operator}, "
            f"got {len(entry.value)}"
        )
    if operator is Operator.CONTAINS:
        if kind != "text":
            raise InvalidRequest(f"search: {name} is no text; Contains cannot be used on it")
        part = entry.value.casefold()
        return lambda document: any(part in v.casefold() for v in _values(document, path))
    if operator is Operator.IN:
        wanted = {_typed(kind, name, part.strip()) for part in entry.value.split(",")}
        return lambda document: any(
            _typed(kind, name, value) in wanted for value in _values(document, path)
        )
    value = _typed(kind, name, entry.value)
    if operator is Operator.NOT_EQUALS:
        return lambda document: all(
            _typed(kind, name, found) != value for found in _values(document, path)
        )
    compare = _COMPARISONS[operator]
    return lambda document: any(
        compare(_typed(kind, name, found), value) for found in _values(document, path)
    )


_COMPARISONS: Final[dict[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQUALS: lambda a, b: bool(a == b),
    Operator.GREATER_THAN: lambda a, b: bool(a > b),
    Operator.GREATER_THAN_OR_EQUAL_TO: lambda a, b: bool(a >= b),
    Operator.LESS_THAN: lambda a, b: bool(a < b),
    Operator.LESS_THAN_OR_EQUAL_TO: lambda a, b: bool(a <= b),
}


def _kind(resource: Resource, name: str) -> str:
    known = _PROPERTIES[resource]
    kind = known.get(name)
    if kind is None and "." in name:
        kind = known.get(f"{name.partition('.')[0]}.*")
    if kind is None or len(name) > MAX_NAME:
        raise InvalidRequest(f"Unknown property name: {name[:MAX_NAME]}{nearest(name, known)}")
    return kind


def _values(document: Any, path: Sequence[str]) -> Iterator[Any]:
    """Return the values at a dotted path; lists are walked, pairs are looked up by their key."""
    if path == ["AllParameters"]:
        for pair in document.get("Parameters", ()):
            yield from (pair["Key"], pair["Value"])
        return
    if not path:
        if document not in (None, ""):
            yield document
        return
    if isinstance(document, Mapping):
        found = document.get(path[0])
        if path[0] in ("Tags", "Parameters"):
            # A key may have dots of its own.
            key = ".".join(path[1:])
            yield from (pair["Value"] for pair in found or () if pair["Key"] == key)
        elif found is not None:
            for element in found if isinstance(found, list) else (found,):
                yield from _values(element, path[1:])


def _typed(kind: str, name: str, value: Any) -> Any:
    """Read a value, of a document or a filter, in the property's type."""
    if kind == "bool":
        text = str(value).lower()
        if text not in ("true", "false"):
            raise InvalidRequest(f"search: {name}: expected true or false, got {value!r}")
        return text == "true"
    if kind == "number":
        try:
            return float(value)
        except ValueError:
            raise InvalidRequest(f"search: {name}: expected a number, got {value!r}") from None
    if kind == "time":
        return _moment(name, value)
    return str(value)


def _moment(name: str, value: str) -> dt.datetime:
    try:
        moment = dt.datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment.astimezone(dt.UTC)
    except ValueError:
        try:
            return eventtime.to_datetime(eventtime.parse_fractional(float(value)))
        except ValueError:
            pass
    raise InvalidRequest(
        f"search: {name}: expected an ISO-8601 time with a zone or Unix seconds, got {value!r}"
    )
