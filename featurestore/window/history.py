"""Windowed features from the offline store: for each spine row, what its windows held.

DuckDB reads the files, leaves out what no window can hold, keeps the last version of each event
and sorts; the sums are made here, since DuckDB's depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, final

import duckdb
import numpy as np
import pyarrow as pa

from featurestore.convert import arrow_type
from featurestore.feature import Value
from featurestore.offline.base import Snapshot
from featurestore.pointintime import quoted, seen_files, sql_type, table_columns
from featurestore.window.computed import Valued, compute, taken
from featurestore.window.definition import WindowedFeature, Windows
from featurestore.window.exactsum import Bounds, Integers
from featurestore.window.parts import in_parts

__all__ = ["event_rows", "window_join", "window_keys", "window_times"]

_TIME: Final = pa.timestamp("us", "UTC")
# What an event takes while it is gone through, by itself and for each feature that is read: sums of
# values of very different size are Python's integers.
_EVENT_BYTES: Final = 100
_INPUT_BYTES: Final = 200
# And a version of one while DuckDB looks for the last.
_VERSION_BYTES: Final = 200
_BATCH_ROWS: Final = 65_536
_WAITING: Final = "waiting_events"


def window_join(
    spine: pa.Table,
    snapshot: Snapshot | None,
    windows: Windows,
    features: Sequence[str],
    *,
    as_of_us: int | None = None,
    connection: Any,
    held_bytes: int | None = None,
) -> pa.Table:
    """Give each spine row the windowed features as of its time.

    Args:
        spine: n rows of `key` (null: no events) and `time` (timestamp[us, UTC], no nulls).
        snapshot: the source's table version; None: nothing was ever written.
        windows: what to compute.
        features: names of m windowed features.
        as_of_us: only events whose write time is at or before it count; None: all.
        connection: from `pointintime.connect`.
        held_bytes: the events go by in parts of about this size; None: all are held at once. The
            result is the same.

    Returns:
        n rows in the spine's order: the m features, then `_event_time` of the latest event in the
        longest window (null without any).

    Raises:
        duckdb.OutOfMemoryException: the sort of the events does not fit into the connection's
            limit.

    Cost: the events that any window can hold are in memory at once, or with `held_bytes` twice
    those that the windows of one row hold.
    """
    wanted = {feature.name: feature for feature in windows.group.features}
    chosen = [wanted[name] for name in features]
    keys = spine["key"].combine_chunks().dictionary_encode()
    if isinstance(keys, pa.ChunkedArray):
        keys = keys.combine_chunks()
    codes = keys.indices.fill_null(-1).to_numpy().astype(np.int64)
    times = spine["time"].cast(pa.int64()).to_numpy()
    asked = _asked(snapshot, windows, chosen, keys.dictionary, times, as_of_us, connection)
    if asked is None:
        return _joined(_no_events(windows, chosen), chosen, windows, codes, times)
    connection.register("keys", asked.keys)
    try:
        if held_bytes is None or _has_all_versions(windows):
            events_query, parameters = asked.events(None)
        else:
            events_query, parameters = _waiting(asked, held_bytes, connection), {}
        relation = connection.sql(
            f"SELECT _code, epoch_us(_event_time) AS _time{asked.inputs} "
            f"FROM ({events_query}) JOIN keys USING (_key) "
            f"ORDER BY _code, _event_time, {asked.order}",
            params=parameters,
        )
        if held_bytes is None:
            events = _made(relation.to_arrow_table(), windows, chosen)
            return _joined(events, chosen, windows, codes, times)
        part_rows = max(1, held_bytes // (_EVENT_BYTES + _INPUT_BYTES * len(_inputs_of(chosen))))
        reader = relation.to_arrow_reader(min(part_rows, _BATCH_ROWS))
        joined, places = [], []
        for rows, answered in in_parts(
            _told(reader),
            reader.schema,
            codes,
            times,
            longest_us=windows.group.longest_us,
            part_rows=part_rows,
        ):
            events = _made(rows, windows, chosen)
            joined.append(_joined(events, chosen, windows, codes[answered], times[answered]))
            places.append(answered)
    finally:
        connection.unregister("keys")
        connection.execute(f"DROP TABLE IF EXISTS {_WAITING}")
    back = np.empty(len(codes), np.int64)
    back[np.concatenate(places)] = np.arange(len(codes))
    return pa.concat_tables(joined).take(pa.array(back))


def window_times(
    snapshot: Snapshot | None, windows: Windows, *, as_of_us: int | None = None, connection: Any
) -> pa.Table:
    """Return `key` and `time` of all events, each once, in their order: a spine of them."""
    if snapshot is None or not snapshot.files:
        kind = arrow_type(windows.source.definitions[windows.group.by])
        return pa.table({"key": pa.array([], kind), "time": pa.array([], _TIME)})
    events, parameters = _events(snapshot, windows, (), as_of_us=as_of_us, connection=connection)
    return connection.sql(
        f"SELECT DISTINCT _key AS key, _event_time AS time FROM ({events}) "
        f"WHERE _key IS NOT NULL ORDER BY key, time",
        params=parameters,
    ).to_arrow_table()


def window_keys(
    snapshot: Snapshot | None, windows: Windows, *, after_us: int, connection: Any
) -> pa.Array:
    """Return the keys that have events later than a time, µs, in their order."""
    kind = arrow_type(windows.source.definitions[windows.group.by])
    if snapshot is not None:
        snapshot = snapshot.between(after_us, None)
    if snapshot is None or not snapshot.files:
        return pa.array([], kind)
    events, parameters = _events(snapshot, windows, (), after_us=after_us, connection=connection)
    found = connection.sql(
        f"SELECT DISTINCT _key FROM ({events}) WHERE _key IS NOT NULL ORDER BY _key",
        params=parameters,
    ).to_arrow_table()
    return _whole(found["_key"]).cast(kind)


def event_rows(
    snapshot: Snapshot | None,
    windows: Windows,
    *,
    after_us: int,
    rows: int,
    connection: Any,
) -> Iterator[list[tuple[dict[str, Value], int]]]:
    """Return the events behind a time, as records with the features that are read, and their times.

    Args:
        snapshot: the source's table version.
        windows: the windowed group.
        after_us: only events later than this, µs.
        rows: how many at once, at most.
        connection: from `pointintime.connect`; busy until the last rows were asked for.
    """
    if snapshot is not None:
        snapshot = snapshot.between(after_us, None)
    if snapshot is None or not snapshot.files:
        return
    columns = windows.columns
    events, parameters = _events(
        snapshot, windows, columns, after_us=after_us, only_last=True, connection=connection
    )
    reader = connection.sql(
        f"SELECT epoch_us(_event_time) AS _time, {_inputs(columns)} FROM ({events}) "
        f"WHERE _key IS NOT NULL ORDER BY _key, _event_time",
        params=parameters,
    ).to_arrow_reader(rows)
    for batch in reader:
        times, *values = (column.to_pylist() for column in batch.columns)
        yield [
            (
                {
                    name: value
                    for name, value in zip(columns, row, strict=True)
                    if value is not None
                },
                time_us,
            )
            for time_us, *row in zip(times, *values, strict=True)
        ]


@final
@dataclass(frozen=True)
class _Asked:
    """What DuckDB is asked for.

    Args:
        events: makes a query of the events, of all (None) or of a share, and its parameters.
        keys: the spine's keys with their codes.
        inputs: columns of the features that are read.
        order: that of events of one key and time.
        rows: about so many versions of events there are.
    """

    events: Callable[[tuple[int, int] | None], tuple[str, dict[str, Any]]]
    keys: pa.Table
    inputs: str
    order: str
    rows: int


@final
@dataclass(frozen=True)
class _Events:
    """Events in the order of code, time and record identifier.

    Args:
        codes: which key of the spine each has.
        times: µs.
        inputs: feature → values, null where an event has none.
    """

    codes: Integers
    times: Integers
    inputs: dict[str, pa.Array]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_valued", {})

    def valued(self, name: str) -> Valued:
        """Return the events with a value of a feature."""
        known: dict[str, Valued] = self._valued  # type: ignore[attr-defined]
        if name not in known:
            known[name] = Valued(self.inputs[name])
        return known[name]


@final
class _Places:
    """Finds for each spine row which events a window holds: half-open bounds."""

    def __init__(self, events: _Events, codes: Integers, times: Integers) -> None:
        # Code and time as one number, so that one binary search finds a row's place.
        self._known = np.unique(events.times)
        self._width = len(self._known) + 1
        ranks = np.searchsorted(self._known, events.times, side="right")
        self._events = events.codes * self._width + ranks
        self._codes = codes
        self._times = times
        self._bounds: dict[int, Bounds] = {}
        self._ends = self._until(times)

    def of(self, over_us: int) -> Bounds:
        if over_us not in self._bounds:
            self._bounds[over_us] = (self._until(self._times - over_us), self._ends)
        return self._bounds[over_us]

    def _until(self, times: Integers) -> Integers:
        """Count the events at or before a time, and those of lower codes."""
        ranks = np.searchsorted(self._known, times, side="right")
        found = np.searchsorted(self._events, self._codes * self._width + ranks, side="right")
        return np.where(self._codes < 0, 0, found)


def _joined(
    events: _Events,
    chosen: Sequence[WindowedFeature],
    windows: Windows,
    codes: Integers,
    times: Integers,
) -> pa.Table:
    places = _Places(events, codes, times)
    columns: dict[str, pa.Array] = {}
    definitions = windows.schema.definitions
    for feature in chosen:
        bounds = places.of(feature.over_us)
        kind = arrow_type(definitions[feature.name])
        columns[feature.name] = _computed(events, feature, bounds).cast(kind)
    first, end = places.of(windows.group.longest_us)
    columns["_event_time"] = taken(pa.array(events.times, pa.int64()), end - 1, end > first).cast(
        _TIME
    )
    return pa.table(columns)


def _asked(
    snapshot: Snapshot | None,
    windows: Windows,
    features: Sequence[WindowedFeature],
    keys: pa.Array,
    times: Integers,
    as_of_us: int | None,
    connection: Any,
) -> _Asked | None:
    """Return what to ask DuckDB for the events; None: no window holds any."""
    inputs = _inputs_of(features)
    longest = windows.group.longest_us
    if snapshot is not None:
        snapshot = seen_files(snapshot, pa.array(times).cast(_TIME), longest, as_of_us=as_of_us)
    if snapshot is None or not snapshot.files or not len(keys):
        return None
    return _Asked(
        partial(
            _events,
            snapshot,
            windows,
            inputs,
            after_us=int(times.min()) - longest,
            until_us=int(times.max()),
            as_of_us=as_of_us,
            connection=connection,
        ),
        pa.table({"_code": pa.array(np.arange(len(keys))), "_key": keys}),
        f", {_inputs(inputs)}" if inputs else "",
        "write_time, _sequence" if _has_all_versions(windows) else "_id",
        sum(known.rows or 0 for known in snapshot.statistics),
    )


def _waiting(asked: _Asked, held_bytes: int, connection: Any) -> str:
    """Let the last versions of the events wait in a table, which DuckDB takes to disk.

    It holds all rows among which it looks for last versions, so it gets one share of the events
    after the other.
    """
    shares = max(1, -(-asked.rows * _VERSION_BYTES // (3 * held_bytes)))
    begun = f"CREATE OR REPLACE TEMP TABLE {_WAITING} AS"
    for share in range(shares):
        events, parameters = asked.events((share, shares))
        connection.execute(
            f"{begun} SELECT _key, _event_time, _id{asked.inputs} "
            f"FROM ({events}) SEMI JOIN keys USING (_key)",
            parameters,
        )
        begun = f"INSERT INTO {_WAITING}"
    return f"SELECT * FROM {_WAITING}"


def _made(rows: pa.Table, windows: Windows, features: Sequence[WindowedFeature]) -> _Events:
    """Make events of the rows of the query of `_asked`."""
    codes, moments = rows["_code"].to_numpy(), rows["_time"].to_numpy()
    if _has_all_versions(windows) and len(rows):
        # One event for each identifier and time: the last version of it.
        is_last = np.ones(len(rows), bool)
        is_last[:-1] = (codes[1:] != codes[:-1]) | (moments[1:] != moments[:-1])
        if not is_last.all():
            rows = rows.filter(pa.array(is_last))
            codes, moments = codes[is_last], moments[is_last]
    definitions = windows.source.definitions
    values = {
        name: _whole(rows[f"_input{place}"]).cast(arrow_type(definitions[name]))
        for place, name in enumerate(_inputs_of(features))
    }
    return _Events(codes, moments, values)


def _no_events(windows: Windows, features: Sequence[WindowedFeature]) -> _Events:
    none = np.array([], np.int64)
    definitions = windows.source.definitions
    empty = {name: pa.array([], arrow_type(definitions[name])) for name in _inputs_of(features)}
    return _Events(none, none, empty)


def _has_all_versions(windows: Windows) -> bool:
    return windows.group.by == windows.source.record_identifier


def _inputs_of(features: Sequence[WindowedFeature]) -> list[str]:
    return list(dict.fromkeys(f.of for f in features if f.of is not None))


def _told(reader: pa.RecordBatchReader) -> Iterator[pa.RecordBatch]:
    """Read to the end; what DuckDB raises while it streams comes as an error of Arrow."""
    try:
        yield from reader
    except (pa.ArrowException, OSError) as error:
        if "Out of Memory" in str(error):
            raise duckdb.OutOfMemoryException(str(error)) from error
        raise


def _events(
    snapshot: Snapshot,
    windows: Windows,
    inputs: Sequence[str],
    share: tuple[int, int] | None = None,
    *,
    after_us: int | None = None,
    until_us: int | None = None,
    as_of_us: int | None = None,
    only_last: bool = False,
    connection: Any,
) -> tuple[str, dict[str, Any]]:
    """Return a query of the events of a table version, and its parameters.

    Its columns: `_key`, `_event_time`, `write_time`, `_sequence`, `_id`, and `_input0` and so on.
    Where the key is the record identifier all versions of an event come, in whatever order, unless
    `only_last` is asked for; else the last one. A share (k, n) is the k-th of n.
    """
    source, by = windows.source, windows.group.by
    present = table_columns(connection, snapshot, list(dict.fromkeys([by, *inputs])))
    conditions = ["NOT is_deleted"]
    parameters: dict[str, Any] = {"files": list(snapshot.files)}
    for condition, value in (
        ("_event_time > make_timestamptz($after)", after_us),
        ("_event_time <= make_timestamptz($until)", until_us),
        ("write_time <= make_timestamptz($as_of)", as_of_us),
    ):
        if value is not None:
            conditions.append(condition)
            parameters[condition[condition.index("$") + 1 : -1]] = value

    if share is not None:
        identified = f"hash({quoted(source.record_identifier)}, _event_time)"
        conditions.append(f"{identified} % {share[1]} = {share[0]}")

    def column(name: str) -> str:
        if name in present:
            return quoted(name)
        return f"NULL::{sql_type(source.definitions[name])}"  # no file has it yet

    identifier = quoted(source.record_identifier)
    chosen = "".join(f", {column(name)} AS _input{n}" for n, name in enumerate(inputs))
    last = (
        f" QUALIFY row_number() OVER (PARTITION BY {identifier}, _event_time "
        f"ORDER BY write_time DESC, _sequence DESC) = 1"
    )
    return (
        f"SELECT {column(by)} AS _key, _event_time, write_time, _sequence, {identifier} AS _id"
        f"{chosen} FROM read_parquet($files, union_by_name = true, hive_partitioning = false) "
        f"WHERE {' AND '.join(conditions)}"
        f"{last if only_last or by != source.record_identifier else ''}",
        parameters,
    )


def _inputs(inputs: Sequence[str]) -> str:
    return ", ".join(f"_input{place}" for place in range(len(inputs)))


def _whole(column: pa.ChunkedArray) -> pa.Array:
    joined = column.combine_chunks()
    if isinstance(joined, pa.ChunkedArray):
        return pa.concat_arrays(joined.chunks) if joined.num_chunks else pa.array([], joined.type)
    return joined


def _computed(events: _Events, feature: WindowedFeature, bounds: Bounds) -> pa.Array:
    if feature.of is None:
        return pa.array(bounds[1] - bounds[0])
    return compute(events.valued(feature.of), bounds, feature)
