"""Windowed features: aggregates over time windows, defined once for every way they are computed.

A windowed group is read like a feature group whose record identifier is the feature the events are
grouped `by`. Its rule, in every way of execution (version `WINDOW_RULE_VERSION`):

- every record that was put is an event at its event time; of several versions of one record
  identifier and event time the last one written counts. Deletes are no events and take none away;
- a window of length `over` at time t holds the events of t - over < event time <= t;
- events whose value is null do not count, but for a count without `of`;
- no result depends on the order in which events came: sums are exact and rounded once at the end.
"""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, final

from featurestore.errors import InvalidFeatureGroup
from featurestore.feature import CollectionType, FeatureDefinition, FeatureType
from featurestore.schema import FeatureGroup, check_name

__all__ = ["WINDOW_RULE_VERSION", "Aggregation", "WindowedFeature", "WindowedGroup", "Windows"]

WINDOW_RULE_VERSION: Final = 1
MAX_WINDOW: Final = dt.timedelta(days=3660)
MAX_TOP: Final = 100
_DEFAULT_TOP: Final = 10
_GRACE: Final = dt.timedelta(hours=1)
_US: Final = dt.timedelta(microseconds=1)
_UNITS: Final = (
    ("d", dt.timedelta(days=1)),
    ("h", dt.timedelta(hours=1)),
    ("min", dt.timedelta(minutes=1)),
    ("s", dt.timedelta(seconds=1)),
    ("us", _US),
)


class Aggregation(enum.StrEnum):
    """What is said of the events of a window."""

    COUNT = "count"  # how many; 0 without any
    SUM = "sum"  # exact, then rounded to the feature's type; null beyond int64
    MEAN = "mean"
    STD = "std"  # of the sample (n - 1); null below two events
    MIN = "min"
    MAX = "max"
    FIRST = "first"  # of the earliest event; at equal times of the lowest record identifier
    LAST = "last"  # of the latest event; at equal times of the highest record identifier
    APPROX_UNIQUE = "approx_unique"  # exact up to 512 values, beyond it within about 4 %
    TOP_K = "top_k"  # the most frequent values; at equal counts the lowest first


_NUMERIC: Final = frozenset({Aggregation.SUM, Aggregation.MEAN, Aggregation.STD})
_KEPT_TYPE: Final = frozenset(
    {
        Aggregation.SUM,
        Aggregation.MIN,
        Aggregation.MAX,
        Aggregation.FIRST,
        Aggregation.LAST,
        Aggregation.TOP_K,
    }
)


@final
@dataclass(frozen=True)
class WindowedFeature:
    """One aggregate over one window.

    Args:
        aggregation: an `Aggregation` or its text.
        of: the feature of the source group; None: the event itself, for a count.
        over: the window's length, from 1 µs to ten years.
        name: of the result; by default such as `delay_mean_6h`.
        k: how many values a `top_k` returns at most, 1 to 100; by default 10.

    Raises:
        InvalidFeatureGroup: an unknown aggregation, a length or a k out of range.

    >>> WindowedFeature("mean", of="delay", over=dt.timedelta(hours=6)).name
    'delay_mean_6h'
    >>> WindowedFeature("count", over=dt.timedelta(minutes=90)).name
    'count_90min'
    """

    aggregation: Aggregation | str
    of: str | None = None
    over: dt.timedelta = dt.timedelta(0)
    name: str = ""
    k: int | None = None

    def __post_init__(self) -> None:
        try:
            aggregation = Aggregation(self.aggregation)
        except ValueError:
            raise InvalidFeatureGroup(
                f"windowed feature: expected an aggregation of "
                f"{', '.join(kind.value for kind in Aggregation)}, got {self.aggregation!r}"
            ) from None
        object.__setattr__(self, "aggregation", aggregation)
        if not isinstance(self.over, dt.timedelta) or not _US <= self.over <= MAX_WINDOW:
            raise InvalidFeatureGroup(
                f"windowed feature {aggregation.value}: expected a window `over` from 1 µs to "
                f"{MAX_WINDOW.days:,} days, got {self.over!r}"
            )
        if self.of is None and aggregation is not Aggregation.COUNT:
            raise InvalidFeatureGroup(
                f"windowed feature {aggregation.value}: expected the feature it is `of`, got none"
            )
        if not self.name:
            named = f"{self.of}_" if self.of else ""
            object.__setattr__(self, "name", f"{named}{aggregation.value}_{_span(self.over)}")
        check_name(self.name, "windowed feature")
        if aggregation is Aggregation.TOP_K:
            k = _DEFAULT_TOP if self.k is None else self.k
            if isinstance(k, bool) or not isinstance(k, int) or not 1 <= k <= MAX_TOP:
                raise InvalidFeatureGroup(
                    f"{self.name}: expected k from 1 to {MAX_TOP}, got {self.k!r}"
                )
            object.__setattr__(self, "k", k)
        elif self.k is not None:
            raise InvalidFeatureGroup(
                f"{self.name}: expected k with top_k only, got it with {aggregation.value}"
            )

    @property
    def kind(self) -> Aggregation:
        """The aggregation, however it was given."""
        return Aggregation(self.aggregation)

    @property
    def over_us(self) -> int:
        """The window's length in µs."""
        return self.over // _US

    def definition(self, source: FeatureGroup) -> FeatureDefinition:
        """Return the feature that the result is.

        Raises:
            FeatureNotFound: the source group has no feature `of`.
            InvalidFeatureGroup: its type does not fit the aggregation.
        """
        aggregation = self.kind
        if self.of is None:
            return FeatureDefinition(self.name, FeatureType.INTEGRAL)
        kind = source.feature_type(self.of)
        feature = source.definitions[self.of]
        if feature.collection is not None:
            raise InvalidFeatureGroup(
                f"{self.name}: expected a feature with one value, got "
                f"{source.name}.{self.of}, which holds a {feature.collection.value}"
            )
        if aggregation in _NUMERIC and kind is FeatureType.STRING:
            raise InvalidFeatureGroup(
                f"{self.name}: expected a number for {aggregation.value}, got "
                f"{source.name}.{self.of}, which is a String"
            )
        if aggregation is Aggregation.TOP_K:
            return FeatureDefinition(self.name, kind, CollectionType.LIST)
        if aggregation in _KEPT_TYPE:
            return FeatureDefinition(self.name, kind)
        if aggregation in _NUMERIC:
            return FeatureDefinition(self.name, FeatureType.FRACTIONAL)
        return FeatureDefinition(self.name, FeatureType.INTEGRAL)

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        body: dict[str, Any] = {
            "FeatureName": self.name,
            "Aggregation": self.kind.value,
            "WindowMicroseconds": self.over_us,
        }
        if self.of is not None:
            body["SourceFeatureName"] = self.of
        if self.k is not None:
            body["K"] = self.k
        return body


@final
@dataclass(frozen=True)
class WindowedGroup:
    """Windowed features of one feature group's records, by one of its features.

    Args:
        name: read like a feature group's, and different from all of them.
        source: the feature group whose records are the events.
        by: the source's feature that windows are kept for each value of: its record identifier, or
            any other String or Integral feature.
        features: what is computed.
        description: at most 128 characters.
        retention: how much longer than the longest window events are kept online, so that the
            values of a past time can be read there; datasets do not need it.

    Raises:
        InvalidFeatureGroup: a name that breaks a rule, no features, or two of one name.

    >>> group = WindowedGroup(
    ...     "carrier_delays",
    ...     source="flights",
    ...     by="carrier",
    ...     features=[WindowedFeature("mean", of="delay", over=dt.timedelta(hours=6))],
    ... )
    >>> WindowedGroup.from_json(group.to_json()) == group
    True
    """

    name: str
    source: str
    by: str
    features: Sequence[WindowedFeature]
    description: str = ""
    retention: dt.timedelta = dt.timedelta(0)

    def __post_init__(self) -> None:
        check_name(self.name, "windowed group")
        object.__setattr__(self, "features", tuple(self.features))
        if not self.features:
            raise InvalidFeatureGroup(f"{self.name}: expected at least one windowed feature")
        if not isinstance(self.retention, dt.timedelta) or self.retention < dt.timedelta(0):
            raise InvalidFeatureGroup(
                f"{self.name}: expected a retention >= 0, got {self.retention!r}"
            )

    @cached_property
    def longest_us(self) -> int:
        """The longest window in µs."""
        return max(feature.over_us for feature in self.features)

    @property
    def kept_us(self) -> int:
        """How long events are kept online, in µs: an hour more than asked for.

        A read, or a comparison of the stores, is as of the moment it began.
        """
        return self.longest_us + (self.retention + _GRACE) // _US

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The features of the source that are aggregated, each once, in their first order."""
        return tuple(dict.fromkeys(f.of for f in self.features if f.of is not None))

    def schema(self, source: FeatureGroup) -> FeatureGroup:
        """Return the feature group that this one reads as.

        Raises:
            FeatureNotFound: the source lacks a feature.
            InvalidFeatureGroup: the source cannot be aggregated so.
        """
        kind = source.feature_type(self.by)
        by = source.definitions[self.by]
        is_identifier = self.by == source.record_identifier
        if by.collection is not None or self.by == source.event_time:
            raise InvalidFeatureGroup(
                f"{self.name}: expected a feature with one value to group by, got "
                f"{source.name}.{self.by}"
            )
        if kind is FeatureType.FRACTIONAL and not is_identifier:
            raise InvalidFeatureGroup(
                f"{self.name}: expected a String or Integral feature to group by, got "
                f"{source.name}.{self.by}, which is Fractional"
            )
        if not (source.online and source.offline):
            raise InvalidFeatureGroup(
                f"{self.name}: expected a source with both stores, got {source.name!r}"
            )
        if source.kms_key:
            raise InvalidFeatureGroup(
                f"{self.name}: the source {source.name!r} is encrypted, and events of windows are "
                f"kept in clear; aggregate a group without encryption"
            )
        return FeatureGroup(
            self.name,
            record_identifier=self.by,
            event_time=source.event_time,
            features=(
                FeatureDefinition(self.by, kind),
                source.definitions[source.event_time],
                *(feature.definition(source) for feature in self.features),
            ),
            description=self.description,
        )

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "WindowedGroupName": self.name,
            "SourceFeatureGroupName": self.source,
            "ByFeatureName": self.by,
            "WindowedFeatures": [feature.to_json() for feature in self.features],
            "Description": self.description,
            "RetentionMicroseconds": self.retention // _US,
        }

    @classmethod
    def from_json(cls, body: object) -> WindowedGroup:
        """Read JSON values; a window may also be given as `WindowSeconds`.

        Raises:
            InvalidFeatureGroup: a field is missing, unknown, or has another type.
        """
        fields = _Fields("windowed group", body)
        group = cls(
            fields.take("WindowedGroupName", str),
            fields.take("SourceFeatureGroupName", str),
            fields.take("ByFeatureName", str),
            [_feature(entry) for entry in fields.take("WindowedFeatures", list)],
            fields.take("Description", str, ""),
            fields.span("Retention", 0),
        )
        fields.end()
        return group


@final
@dataclass(frozen=True)
class Windows:
    """A windowed group and the feature group whose records are its events."""

    group: WindowedGroup
    source: FeatureGroup

    @cached_property
    def schema(self) -> FeatureGroup:
        """The feature group that it reads as."""
        return self.group.schema(self.source)

    @property
    def columns(self) -> tuple[str, ...]:
        """The features of the source that are read."""
        named = (self.source.record_identifier, self.group.by, *self.group.inputs)
        return tuple(dict.fromkeys(named))


def _feature(body: object) -> WindowedFeature:
    fields = _Fields("WindowedFeatures", body)
    feature = WindowedFeature(
        fields.take("Aggregation", str),
        fields.take("SourceFeatureName", str, None),
        fields.span("Window"),
        fields.take("FeatureName", str, ""),
        fields.take("K", int, None),
    )
    fields.end()
    return feature


_ABSENT: Final = object()


@final
class _Fields:
    """Takes the fields of a JSON object, each once, and refuses what is left."""

    def __init__(self, where: str, body: object) -> None:
        if not isinstance(body, Mapping):
            raise InvalidFeatureGroup(f"{where}: expected a JSON object, got {body!r}")
        self._where = where
        self._left = dict(body)

    def take(self, name: str, kind: type, default: Any = _ABSENT) -> Any:
        value = self._left.pop(name, default)
        if value is _ABSENT:
            raise InvalidFeatureGroup(f"{self._where}: expected a field {name}")
        if value is default:
            return value
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise InvalidFeatureGroup(
                f"{self._where}.{name}: expected {kind.__name__}, got {value!r}"
            )
        return value

    def span(self, name: str, default: Any = _ABSENT) -> dt.timedelta:
        if f"{name}Seconds" in self._left:
            seconds = self._left.pop(f"{name}Seconds")
            if isinstance(seconds, bool) or not isinstance(seconds, int | float):
                raise InvalidFeatureGroup(
                    f"{self._where}.{name}Seconds: expected a number, got {seconds!r}"
                )
            unit, count = "seconds", seconds
        else:
            unit, count = "microseconds", self.take(f"{name}Microseconds", int, default)
        try:
            return dt.timedelta(**{unit: count})
        except (OverflowError, ValueError):  # the second is a NaN's
            raise InvalidFeatureGroup(
                f"{self._where}.{name}: expected at most {MAX_WINDOW.days:,} days, got {count!r} "
                f"{unit}"
            ) from None

    def end(self) -> None:
        if self._left:
            raise InvalidFeatureGroup(f"{self._where}: unknown field {next(iter(self._left))!r}")


def _span(over: dt.timedelta) -> str:
    """Write a length in the largest unit that divides it."""
    for unit, size in _UNITS:
        if over % size == dt.timedelta(0):
            return f"{over // size}{unit}"
    raise AssertionError("a timedelta is a number of microseconds")
