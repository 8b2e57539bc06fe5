"""Records as of times: from the online store where that can answer, else from the history."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from featurestore import convert, eventtime, pointintime
from featurestore.codec import StoredValue
from featurestore.dataset import FeatureSelection, Resolved
from featurestore.errors import InvalidRequest
from featurestore.feature import FeatureType
from featurestore.record import identifier_text
from featurestore.schema import FeatureGroup
from featurestore.window.history import window_join

__all__ = ["checked_times", "read_as_of"]

_TIME: Final = pa.timestamp("us", "UTC")
_NUMBERS: Final[dict[FeatureType, Callable[[str], Any]]] = {
    FeatureType.INTEGRAL: int,
    FeatureType.FRACTIONAL: float,
}
_Stored: TypeAlias = Callable[[Sequence[bytes]], Sequence[StoredValue | None]]


def read_as_of(
    selection: FeatureSelection,
    identifiers: Iterable[object],
    times: Iterable[object],
    *,
    schema_of: Callable[[], FeatureGroup],
    stored: _Stored | None,
    resolved: Callable[[FeatureSelection], Resolved],
) -> pa.Table:
    """Give each pair of identifier and time what was known of it then.

    Args:
        selection: the group, its features and the lookback.
        identifiers: n of them.
        times: n of them.
        schema_of: returns what the group reads as.
        stored: reads the online store; None: it cannot answer.
        resolved: flushes the group and returns its history.

    Returns:
        n rows of the features.

    Raises:
        see `FeatureStore.get_as_of`.
    """
    group = schema_of()
    features = list(selection.features) or [
        name
        for name in group.feature_names
        if name not in (group.record_identifier, group.event_time)
    ]
    for name in features:
        group.feature_type(name)
    values = (
        identifiers.to_pylist()
        if isinstance(identifiers, pa.Array | pa.ChunkedArray)
        else identifiers
    )
    texts = [identifier_text(group, value) for value in values]
    times_us = checked_times(group.name, times)
    for time_us in times_us:
        if not eventtime.MIN_US <= time_us <= eventtime.MAX_US:
            raise InvalidRequest(
                f"{group.name}: times: expected times of the years 0000 to 9999, got {time_us} µs "
                f"since 1970"
            )
    if len(texts) != len(times_us):
        raise InvalidRequest(
            f"{group.name}: expected as many times as identifiers, got {len(times_us)} for "
            f"{len(texts)}"
        )
    if not group.offline:
        raise InvalidRequest(f"{group.name}: the group has no offline store to look back in")
    known: dict[str, StoredValue | None] = {}
    if stored is not None and texts:
        unique = list(dict.fromkeys(texts))
        known = dict(zip(unique, stored([text.encode() for text in unique]), strict=True))
    lookback_us = selection.lookback_us
    records: list[bytes] = []
    # Where each row's values are: in the records, behind them in the history, or nowhere.
    places: list[int | None] = []
    asked: list[int] = []
    for row, (text, time_us) in enumerate(zip(texts, times_us, strict=True)):
        value = known.get(text)
        # A tombstone may stand for a record that expired, which is to be seen; one that is
        # absent may have been; a later version hides the one that counts.
        if value is None or value.is_deleted or value.event_time_us > time_us:
            places.append(-1 - len(asked))
            asked.append(row)
        elif lookback_us is not None and time_us - value.event_time_us > lookback_us:
            places.append(None)
        else:
            places.append(len(records))
            records.append(value.record)
    found = convert.records_to_columns(group, records, features)
    if not asked and None not in places:
        return pa.table([found[name] for name in features], features)
    schema = pa.schema([(name, convert.arrow_type(group.definitions[name])) for name in features])
    parts = [pa.table([found[name] for name in features], features).cast(schema)]
    if asked:
        parts.append(
            _history(
                resolved(replace(selection, features=tuple(features))),
                pa.array([_key(group, texts[row]) for row in asked], _key_type(group)),
                pa.array([times_us[row] for row in asked], pa.int64()).cast(_TIME),
                features,
            ).cast(schema)
        )
    rows = [None if p is None else p if p >= 0 else len(records) - 1 - p for p in places]
    return pa.concat_tables(parts).combine_chunks().take(pa.array(rows, pa.int64()))


def checked_times(name: str, times: Iterable[object]) -> list[int]:
    """Return times in µs since 1970.

    Raises:
        InvalidRequest: one has no zone, or is no time.
    """
    if isinstance(times, pa.Array | pa.ChunkedArray):
        if not pa.types.is_timestamp(times.type) or times.type.tz is None or times.null_count:
            raise InvalidRequest(
                f"{name}: times: expected timestamps with a zone and no nulls, got {times.type}"
                + (f" with {times.null_count} nulls" if times.null_count else "")
            )
        if times.type.unit == "ns":
            return [int(ns) // 1000 for ns in times.cast(pa.int64()).to_pylist()]
        return [int(us) for us in times.cast(_TIME).cast(pa.int64()).to_pylist()]
    found = []
    for place, time in enumerate(times):
        if not isinstance(time, dt.datetime):
            raise InvalidRequest(f"{name}: times: expected datetimes, got {time!r} at {place}")
        try:
            found.append(eventtime.to_us(time))
        except ValueError as error:
            raise InvalidRequest(f"{name}: times: {error} at {place}") from None
    return found


def _key(group: FeatureGroup, text: str) -> object:
    return _NUMBERS.get(group.types[group.record_identifier], str)(text)


def _key_type(group: FeatureGroup) -> pa.DataType:
    return convert.ARROW_TYPES[group.types[group.record_identifier]]


def _history(entry: Resolved, keys: pa.Array, times: pa.Array, features: Sequence[str]) -> pa.Table:
    spine = pa.table({"key": keys, "time": times})
    connection = pointintime.connect()
    try:
        if entry.windows is not None:
            computed = [name for name in features if name != entry.group.record_identifier]
            if entry.group.event_time in computed:
                raise InvalidRequest(
                    f"{entry.group.name}: expected its windowed features, got "
                    f"{entry.group.event_time!r}, which no window has"
                )
            joined = window_join(
                spine, entry.snapshot, entry.windows, computed, connection=connection
            )
            # As a record has its identifier: of those of whom something was known.
            seen = joined["_event_time"].combine_chunks().is_valid()
            named = pc.if_else(seen, keys, pa.scalar(None, keys.type))
            joined = joined.append_column(entry.group.record_identifier, named)
        else:
            joined = pointintime.as_of_join(
                spine,
                entry.snapshot,
                entry.group,
                features,
                lookback_us=entry.selection.lookback_us,
                connection=connection,
            )
    finally:
        connection.close()
    return joined.select(list(features))
