"""An independent check of windowed features: windows summed up one event at a time.

It reads rows with their versions in any order and shares nothing with `history` and `tile` but the
rule and the hash that unique values are counted by: sums are fractions, windows plain loops.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final

import pyarrow as pa

from featurestore.feature import FeatureType, Value
from featurestore.window.aggregate import SKETCH_HASHES, hash_of
from featurestore.window.definition import Aggregation, WindowedFeature, Windows

__all__ = ["events_by_key", "window_value"]

# Of one event: time, record identifier, and the record.
_Event = tuple[int, Any, Mapping[str, Any]]


def events_by_key(history: pa.Table, windows: Windows) -> dict[Any, list[_Event]]:
    """Sort out the events of a table's rows.

    Args:
        history: the columns of `windows`, `_event_time`, `is_deleted`, `write_time`, `_sequence`.
        windows: the windowed group.

    Returns:
        Key → events in the order of time and record identifier.
    """
    identifier, by = windows.source.record_identifier, windows.group.by
    versions: dict[tuple[Any, int], tuple[tuple[int, int], Mapping[str, Any]]] = {}
    times = history["_event_time"].cast(pa.int64()).to_pylist()
    written = history["write_time"].cast(pa.int64()).to_pylist()
    rows = history.drop_columns(["_event_time", "write_time"]).to_pylist()
    for row, time_us, write_us in zip(rows, times, written, strict=True):
        if row["is_deleted"]:
            continue
        place, order = (row[identifier], time_us), (write_us, row["_sequence"])
        if place not in versions or versions[place][0] < order:
            versions[place] = (order, row)
    events: dict[Any, list[_Event]] = {}
    for (name, time_us), (_, row) in versions.items():
        if row[by] is not None:
            events.setdefault(row[by], []).append((time_us, name, row))
    for some in events.values():
        some.sort(key=lambda event: event[:2])
    return events


def window_value(
    events: Sequence[_Event], feature: WindowedFeature, time_us: int, kind: FeatureType | None
) -> Value | None:
    """Return one windowed feature of one key as of a time.

    Args:
        events: of the key, from `events_by_key`, in the order of time.
        feature: the definition.
        time_us: µs since the epoch.
        kind: the type of the feature it is of; None for a count of events.
    """
    first = bisect.bisect_right(events, time_us - feature.over_us, key=_time_of)
    end = bisect.bisect_right(events, time_us, key=_time_of)
    seen = events[first:end]
    if feature.of is None:
        return len(seen)
    values = [event[2][feature.of] for event in seen if event[2][feature.of] is not None]
    if feature.kind is Aggregation.COUNT:
        return len(values)
    if feature.kind is Aggregation.APPROX_UNIQUE:
        return _unique(values)
    if not values:
        return None
    if feature.kind is Aggregation.TOP_K:
        counts = sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0]))
        return [value for value, _ in counts[: feature.k]]
    if feature.kind is Aggregation.SUM and kind is FeatureType.INTEGRAL:
        total = sum(values)
        return total if -(2**63) <= total < 2**63 else None
    found: Value | None = _OF_VALUES[feature.kind](values)
    return found


def _time_of(event: _Event) -> int:
    return event[0]


def _sum(values: Sequence[float]) -> float | None:
    infinite = {value for value in values if math.isinf(value)}
    if infinite:
        return infinite.pop() if len(infinite) == 1 else None
    return _rounded(_exact(values))


def _exact(values: Sequence[float]) -> Fraction:
    if all(map(_is_whole, values)):  # fractions of whole numbers take a hundred times as long
        return Fraction(sum(map(int, values)))
    return sum(map(Fraction, values), Fraction())


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or value.is_integer()


def _mean(values: Sequence[float]) -> float | None:
    if any(math.isinf(value) for value in values):
        return _sum(list(map(float, values)))
    return _rounded(_exact(values) / len(values))


def _std(values: Sequence[float]) -> float | None:
    if len(values) < 2 or any(math.isinf(value) for value in values):
        return None
    exact = list(map(Fraction, values))
    mean = sum(exact, Fraction()) / len(exact)
    variance = sum(((value - mean) ** 2 for value in exact), Fraction()) / (len(exact) - 1)
    return math.sqrt(_rounded(variance))


def _unique(values: Sequence[Any]) -> int:
    hashes = sorted({hash_of(value) for value in values})
    if len(hashes) <= SKETCH_HASHES:
        return len(hashes)
    return round((SKETCH_HASHES - 1) * 2.0**64 / hashes[SKETCH_HASHES - 1])


def _rounded(value: Fraction) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


_OF_VALUES: Final[Mapping[Aggregation, Callable[[Sequence[Any]], Any]]] = {
    Aggregation.SUM: _sum,
    Aggregation.MEAN: _mean,
    Aggregation.STD: _std,
    Aggregation.MIN: min,
    Aggregation.MAX: max,
    Aggregation.FIRST: lambda values: values[0],
    Aggregation.LAST: lambda values: values[-1],
}
