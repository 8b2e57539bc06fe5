"""Windowed features from the offline store: for each spine row, what its windows held.

DuckDB reads the files, leaves out what no window can hold, keeps the last version of each event
and sorts; the sums are made here, since DuckDB's depend on the number of threads.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, Final, final

import duckdb
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from featurestore.convert import arrow_type
from featurestore.feature import Value
from featurestore.offline.base import Snapshot
from featurestore.pointintime import quoted, seen_files, sql_type, table_columns
from featurestore.window.aggregate import (
    SKETCH_HASHES,
    hash_of,
    mean_of,
    std_of,
    sum_of,
    top_of,
    unique_of,
)
from featurestore.window.definition import Aggregation, WindowedFeature, Windows
from featurestore.window.parts import in_parts

__all__ = ["event_rows", "window_join", "window_keys", "window_times"]

_TIME: Final = pa.timestamp("us", "UTC")
# So many bits of an int64 may hold a sum that then never overflows.
_BITS: Final = 62
_EXACT_INTEGER: Final = 2**53
_EXPONENTS: Final = 900  # within them no scaling meets the ends of the doubles
# What an event takes while it is gone through, by itself and for each feature that is read: sums of
# values of very different size are Python's integers.
_EVENT_BYTES: Final = 100
_INPUT_BYTES: Final = 200
# And a version of one while DuckDB looks for the last.
_VERSION_BYTES: Final = 200
_BATCH_ROWS: Final = 65_536
_WAITING: Final = "waiting_events"
_Integers = npt.NDArray[np.int64]
_Bounds = tuple[_Integers, _Integers]


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

    codes: _Integers
    times: _Integers
    inputs: dict[str, pa.Array]

    def __post_init__(self) -> None:
        object.__setattr__(self, "_valued", {})

    def valued(self, name: str) -> _Valued:
        """Return the events with a value of a feature."""
        known: dict[str, _Valued] = self._valued  # type: ignore[attr-defined]
        if name not in known:
            known[name] = _Valued(self.inputs[name])
        return known[name]


@final
class _Valued:
    """The values that are not null, and where they are among all events."""

    def __init__(self, column: pa.Array) -> None:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
        self._before = np.concatenate([[0], np.cumsum(valid)])
        self.values = column.drop_null()

    def bounds(self, bounds: _Bounds) -> _Bounds:
        """Turn bounds among all events into bounds among these."""
        return self._before[bounds[0]], self._before[bounds[1]]

    @cached_property
    def numbers(self) -> npt.NDArray[Any]:
        return np.asarray(self.values.to_numpy(zero_copy_only=False))

    @cached_property
    def sums(self) -> _Prefix:
        return _Prefix(self.numbers)

    @cached_property
    def squares(self) -> _Prefix:
        return _Prefix(self.numbers, power=2)

    @cached_property
    def ranked(self) -> tuple[_Integers, pa.Array]:
        """Each value's rank among the distinct values, and these in their order."""
        values = self.values
        if pa.types.is_floating(values.type):
            values = pc.add(values, 0.0)  # one zero
        encoded = values.dictionary_encode()
        distinct = encoded.dictionary
        order = pc.sort_indices(distinct).to_numpy()
        rank = np.empty(len(distinct), np.int64)
        rank[order] = np.arange(len(distinct))
        return rank[encoded.indices.to_numpy()], distinct.take(pa.array(order))


@final
class _Places:
    """Finds for each spine row which events a window holds: half-open bounds."""

    def __init__(self, events: _Events, codes: _Integers, times: _Integers) -> None:
        # Code and time as one number, so that one binary search finds a row's place.
        self._known = np.unique(events.times)
        self._width = len(self._known) + 1
        ranks = np.searchsorted(self._known, events.times, side="right")
        self._events = events.codes * self._width + ranks
        self._codes = codes
        self._times = times
        self._bounds: dict[int, _Bounds] = {}
        self._ends = self._until(times)

    def of(self, over_us: int) -> _Bounds:
        if over_us not in self._bounds:
            self._bounds[over_us] = (self._until(self._times - over_us), self._ends)
        return self._bounds[over_us]

    def _until(self, times: _Integers) -> _Integers:
        """Count the events at or before a time, and those of lower codes."""
        ranks = np.searchsorted(self._known, times, side="right")
        found = np.searchsorted(self._events, self._codes * self._width + ranks, side="right")
        return np.where(self._codes < 0, 0, found)


def _joined(
    events: _Events,
    chosen: Sequence[WindowedFeature],
    windows: Windows,
    codes: _Integers,
    times: _Integers,
) -> pa.Table:
    places = _Places(events, codes, times)
    columns: dict[str, pa.Array] = {}
    definitions = windows.schema.definitions
    for feature in chosen:
        bounds = places.of(feature.over_us)
        kind = arrow_type(definitions[feature.name])
        columns[feature.name] = _compute(events, feature, bounds, windows).cast(kind)
    first, end = places.of(windows.group.longest_us)
    columns["_event_time"] = _taken(pa.array(events.times, pa.int64()), end - 1, end > first).cast(
        _TIME
    )
    return pa.table(columns)


def _asked(
    snapshot: Snapshot | None,
    windows: Windows,
    features: Sequence[WindowedFeature],
    keys: pa.Array,
    times: _Integers,
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


def _compute(
    events: _Events, feature: WindowedFeature, bounds: _Bounds, windows: Windows
) -> pa.Array:
    if feature.of is None:
        return pa.array(bounds[1] - bounds[0])
    valued = events.valued(feature.of)
    first, end = valued.bounds(bounds)
    if feature.kind is Aggregation.COUNT:
        return pa.array(end - first)
    return _COMPUTED[feature.kind](valued, first, end, feature)


# -- sums ---------------------------------------------------------------------------------------


@final
class _Prefix:
    """Exact sums of all first values, as integers times one power of two.

    Args:
        values: int64 or doubles; infinities are counted beside the sum.
        power: 1, or 2 for the sums of squares.
    """

    def __init__(self, values: npt.NDArray[Any], *, power: int = 1) -> None:
        self.above = self.below = None
        self.exponent = 0
        if values.dtype.kind == "f":
            infinite = np.isinf(values)
            if infinite.any():
                self.above = np.concatenate([[0], np.cumsum(infinite & (values > 0))])
                self.below = np.concatenate([[0], np.cumsum(infinite & (values < 0))])
                values = np.where(infinite, 0.0, values)
            integers, self.exponent = _integers(values)
        else:
            integers = values
        self.exponent *= power
        highest = (
            max((abs(int(integers.max())), abs(int(integers.min()))), default=0)
            if len(integers)
            else 0
        )
        is_small = (highest**power * max(len(integers), 1)).bit_length() <= _BITS
        self.sums: Any
        if integers.dtype != object and is_small:
            self.sums = np.concatenate([[0], np.cumsum(integers.astype(np.int64) ** power)])
        else:
            self.sums = np.array(
                [0, *accumulate(value**power for value in integers.tolist())], object
            )

    def between(self, first: _Integers, end: _Integers) -> npt.NDArray[Any]:
        """Return the sums of the values from first to before end, of int64 or of Python's int."""
        return np.asarray(self.sums[end] - self.sums[first])

    def infinities(self, first: _Integers, end: _Integers) -> _Bounds:
        """Count +infinities and -infinities."""
        if self.above is None or self.below is None:
            none = np.zeros(len(first), np.int64)
            return none, none
        return self.above[end] - self.above[first], self.below[end] - self.below[first]


def _integers(values: npt.NDArray[np.float64]) -> tuple[npt.NDArray[Any], int]:
    """Return doubles as integers times one power of two: int64 where they fit."""
    fraction, exponents = np.frexp(values)
    mantissas = np.ldexp(fraction, 53).astype(np.int64)
    exponents = exponents.astype(np.int64) - 53
    some = mantissas != 0
    if not some.any():
        return mantissas, 0
    # Without the zeros behind the last bit that is set.
    _, behind = np.frexp((mantissas & -mantissas).astype(np.float64))
    zeros = np.where(some, behind - 1, 0)
    mantissas >>= zeros
    exponents += zeros
    lowest = int(exponents[some].min())
    shifts = np.where(some, exponents - lowest, 0)
    bits = int((np.frexp(np.abs(mantissas).astype(np.float64))[1] + shifts).max())
    if bits <= _BITS:
        return mantissas << shifts, lowest
    pairs = zip(mantissas.tolist(), shifts.tolist(), strict=True)
    return np.array([mantissa << shift for mantissa, shift in pairs], object), lowest


def _sum(valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature) -> pa.Array:
    prefix = valued.sums
    totals = prefix.between(first, end)
    is_integral = pa.types.is_integer(valued.values.type)
    if totals.dtype != object and prefix.above is None and abs(prefix.exponent) < _EXPONENTS:
        made = totals if is_integral else totals.astype(np.float64) * 2.0**prefix.exponent
        return pa.array(made, mask=end == first)
    above, below = prefix.infinities(first, end)
    return pa.array(
        [
            None if not n else sum_of(total, prefix.exponent, up, down, is_integral=is_integral)
            for n, total, up, down in zip(
                (end - first).tolist(),
                totals.tolist(),
                above.tolist(),
                below.tolist(),
                strict=True,
            )
        ],
        pa.int64() if is_integral else pa.float64(),
    )


def _mean(valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature) -> pa.Array:
    prefix = valued.sums
    totals = prefix.between(first, end)
    counts = end - first
    if (
        totals.dtype != object
        and prefix.above is None
        and abs(prefix.exponent) < _EXPONENTS
        and (not len(totals) or np.abs(totals).max() <= _EXACT_INTEGER)
    ):
        # Both are exact as doubles, so their quotient is rounded once, and scaling is exact.
        means = totals / np.maximum(counts, 1) * 2.0**prefix.exponent
        return pa.array(means, mask=counts == 0)
    above, below = prefix.infinities(first, end)
    columns = (counts.tolist(), totals.tolist(), above.tolist(), below.tolist())
    return pa.array(
        [
            mean_of(n, total, prefix.exponent, up, down) if n else None
            for n, total, up, down in zip(*columns, strict=True)
        ],
        pa.float64(),
    )


def _std(valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature) -> pa.Array:
    sums, squares = valued.sums, valued.squares
    above, below = sums.infinities(first, end)
    columns = (
        (end - first).tolist(),
        sums.between(first, end).tolist(),
        squares.between(first, end).tolist(),
        (above + below).tolist(),
    )
    return pa.array(
        [
            std_of(n, total, sums.exponent, square, squares.exponent, infinite)
            for n, total, square, infinite in zip(*columns, strict=True)
        ],
        pa.float64(),
    )


# -- values -------------------------------------------------------------------------------------


def _extreme(highest: bool) -> Callable[..., pa.Array]:
    pick = np.maximum if highest else np.minimum

    def compute(
        valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature
    ) -> pa.Array:
        ranks, distinct = valued.ranked
        counts = end - first
        found = np.full(len(first), -1, np.int64)
        # Any window is two runs of one length that is a power of two; all runs of one length are
        # made from those of half of it (Bender and Farach-Colton, 2000, section 3).
        length, best = 1, ranks
        level = np.zeros(len(first), np.int64)
        some = counts > 0
        level[some] = np.frexp(counts[some].astype(np.float64))[1] - 1
        for step in range(int(level[some].max()) + 1 if some.any() else 0):
            here = some & (level == step)
            found[here] = pick(best[first[here]], best[end[here] - length])
            if len(best) > length:
                best = pick(best[:-length], best[length:])
            length *= 2
        return _taken(distinct, found, some)

    return compute


def _first(valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature) -> pa.Array:
    return _taken(valued.values, first, end > first)


def _last(valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature) -> pa.Array:
    return _taken(valued.values, end - 1, end > first)


def _taken(values: pa.Array, places: _Integers, some: npt.NDArray[np.bool_]) -> pa.Array:
    return values.take(pa.array(np.where(some, places, 0), mask=~some))


def _unique(
    valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature
) -> pa.Array:
    ranks, distinct = valued.ranked
    hashes = [hash_of(value) for value in distinct.to_pylist()]
    few = len(hashes) <= SKETCH_HASHES
    held: list[int] = []  # hashes of the values in the window, in their order

    def came(rank: int) -> None:
        if not few:
            bisect.insort(held, hashes[rank])

    def went(rank: int) -> None:
        if not few:
            del held[bisect.bisect_left(held, hashes[rank])]

    def result(counts: dict[int, int]) -> int:
        return len(counts) if len(counts) <= SKETCH_HASHES else unique_of(held)

    return pa.array(_slide(ranks, first, end, came, went, result), pa.int64())


def _top(valued: _Valued, first: _Integers, end: _Integers, feature: WindowedFeature) -> pa.Array:
    ranks, distinct = valued.ranked
    values = distinct.to_pylist()
    k = feature.k
    assert k is not None

    def nothing(rank: int) -> None:
        pass

    def result(counts: dict[int, int]) -> list[Any] | None:
        return [values[rank] for rank in top_of(counts, k)] if counts else None

    return pa.array(
        _slide(ranks, first, end, nothing, nothing, result), pa.list_(valued.values.type)
    )


def _slide(
    ranks: _Integers,
    first: _Integers,
    end: _Integers,
    came: Callable[[int], None],
    went: Callable[[int], None],
    result: Callable[[dict[int, int]], Any],
) -> list[Any]:
    """Move one window over all values, from each row's to the next, and ask for its result.

    In the order of rows by key and time both ends only move on.
    """
    values = ranks.tolist()
    counts: dict[int, int] = {}
    results: list[Any] = [None] * len(first)
    begin = stop = 0
    made: Any = result(counts)
    for row in np.lexsort((first, end)).tolist():
        low, high = int(first[row]), int(end[row])
        changed = False
        while stop < high:
            rank = values[stop]
            stop += 1
            changed = True
            counts[rank] = counts.get(rank, 0) + 1
            if counts[rank] == 1:
                came(rank)
        while begin < low:
            rank = values[begin]
            begin += 1
            changed = True
            counts[rank] -= 1
            if not counts[rank]:
                del counts[rank]
                went(rank)
        if changed:
            made = result(counts)
        results[row] = made
    return results


_COMPUTED: Final[dict[Aggregation, Callable[..., pa.Array]]] = {
    Aggregation.SUM: _sum,
    Aggregation.MEAN: _mean,
    Aggregation.STD: _std,
    Aggregation.MIN: _extreme(False),
    Aggregation.MAX: _extreme(True),
    Aggregation.FIRST: _first,
    Aggregation.LAST: _last,
    Aggregation.APPROX_UNIQUE: _unique,
    Aggregation.TOP_K: _top,
}
