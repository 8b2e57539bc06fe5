"""The point-in-time join: for each spine row, what a feature group knew at the row's time.

One rule, in every engine (version `RULE_VERSION`):

- one row out per spine row, in the spine's order;
- a value is known from its event time on, inclusive; nothing later is seen;
- with a lookback, a value is seen up to and including event time + lookback;
- of several versions with one event time, a record comes before a delete marker, then the later
  write time, then the later sequence; after a delete nothing is known until the next record.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from featurestore import convert, eventtime, narrowjoin, numpyview
from featurestore.convert import arrow_type
from featurestore.errors import InternalError, InvalidSpine, nearest
from featurestore.feature import FeatureDefinition, FeatureType
from featurestore.historyfiles import HistoryFiles
from featurestore.offline.base import Snapshot
from featurestore.schema import FeatureGroup
from featurestore.workers import Workers

__all__ = [
    "RULE_VERSION",
    "as_of_join",
    "connect",
    "quoted",
    "seen_files",
    "spine_keys",
    "spine_times",
    "sql_type",
    "table_columns",
]

RULE_VERSION: Final = 1
_TIME: Final = pa.timestamp("us", "UTC")
_LOOKED_AT: Final = 20_000
_FEW: Final = 0.5
# Orders the versions of one identifier; of those at or before a time the last one counts. One
# comparison of rows sorts as fast as that of a time, and needs no ranking of the history first.
VERSION_ORDER: Final = "ROW(_event_time, NOT is_deleted, write_time, _sequence)"
_LAST_VERSION: Final = "ROW(s._time, true, 'infinity'::TIMESTAMPTZ, 9223372036854775807)"


def connect(
    *, threads: int | None = None, memory_limit: str | None = None, spill: Path | None = None
) -> Any:
    """Open an in-memory DuckDB that reads times as UTC.

    Args:
        threads: None: as many as there are processors.
        memory_limit: such as `512MB`; None: most of the memory.
        spill: the folder for what does not fit; made when needed.
    """
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")  # it would be in the log of a server
    if threads is not None:
        connection.execute(f"SET threads = {int(threads)}")
    if memory_limit is not None:
        connection.execute("SET memory_limit = ?", [memory_limit])
    if spill is not None:
        connection.execute("SET temp_directory = ?", [str(spill)])
    return connection


def as_of_join(
    spine: pa.Table,
    snapshot: Snapshot | None,
    group: FeatureGroup,
    features: Sequence[str],
    *,
    lookback_us: int | None = None,
    as_of_us: int | None = None,
    connection: Any | None = None,
    workers: Workers | None = None,
) -> pa.Table:
    """Give each spine row the newest version of its identifier that was known at its time.

    Args:
        spine: n rows of `key` (the identifier's Arrow type, null: no match) and `time`
            (timestamp[us, UTC], no nulls).
        snapshot: the group's table version; None: nothing was ever written.
        group: the definition.
        features: names of m features.
        lookback_us: how old a value may be, µs; None: any age.
        as_of_us: only rows whose write time is at or before it count; None: all.
        connection: from `connect`, where memory is short: all that grows with the spine or the
            history is DuckDB's then, which keeps to its limit. None: `narrowjoin` joins.
        workers: for the narrow join; None: the calling thread.

    Returns:
        n rows in the spine's order: the m features, then `_event_time` of the version they come
        from (null where nothing was known).
    """
    n = len(spine)
    snapshot = seen_files(snapshot, spine["time"], lookback_us, as_of_us=as_of_us)
    if snapshot is None or not snapshot.files or n == 0:
        return _nothing_known(group, features, n)
    kinds = group.definitions
    schema = pa.schema(
        [(name, arrow_type(kinds[name])) for name in dict.fromkeys(features)]
        + [("_event_time", _TIME)]
    )
    if connection is None:
        return _narrow_join(spine, snapshot, group, schema, lookback_us, as_of_us, workers)
    in_files = table_columns(connection, snapshot, features)
    chosen = ", ".join(
        quoted(name) if name in in_files else f"NULL::{sql_type(kinds[name])} AS {quoted(name)}"
        for name in dict.fromkeys(features)
    )
    identifier = quoted(group.record_identifier)
    known = "" if as_of_us is None else "AND write_time <= make_timestamptz($as_of)"
    parameters: dict[str, Any] = {"files": list(snapshot.files)}
    if as_of_us is not None:
        parameters["as_of"] = as_of_us
    visible = "NOT h.is_deleted"
    if lookback_us is not None:
        visible += " AND epoch_us(s._time) - epoch_us(h._event_time) <= $lookback"
        parameters["lookback"] = lookback_us
    # Our columns begin with an underscore, which no feature does: a feature may be called `time`.
    rows = pa.table(
        {
            "_row": numpyview.from_int64(np.arange(n, dtype=np.int64)),
            "_key": spine["key"],
            "_time": spine["time"],
        }
    )
    connection.register("spine", rows)
    few = ""
    if _reads_few(connection, snapshot, identifier):
        few = f"AND {identifier} IN (SELECT _key FROM spine)"
    outputs = ", ".join(
        f"CASE WHEN {visible} THEN h.{name} END AS {name}"
        for name in [*map(quoted, dict.fromkeys(features)), "_event_time"]
    )
    try:
        joined = connection.sql(
            f"""
            WITH history AS (
                SELECT {identifier} AS _key, {VERSION_ORDER} AS _version, _event_time, is_deleted
                       {", " if chosen else ""}{chosen}
                FROM read_parquet($files, union_by_name = true, hive_partitioning = false)
                WHERE _event_time <= (SELECT max(_time) FROM spine)
                  {few} {known}
            )
            SELECT s._row, {outputs}
            FROM spine s ASOF LEFT JOIN history h
              ON s._key = h._key AND {_LAST_VERSION} >= h._version
            """,
            params=parameters,
        ).to_arrow_table()
    finally:
        connection.unregister("spine")
    # Sorting the numbers alone and picking the rows is cheaper than a sort of wide rows.
    joined = joined.take(pc.sort_indices(joined["_row"]))
    if not joined["_row"].equals(rows["_row"]):
        raise InternalError(
            f"{group.name}: the join gave {len(joined)} rows for {n} spine rows; please report it"
        )
    return joined.select(schema.names).cast(schema).combine_chunks()


def _narrow_join(
    spine: pa.Table,
    snapshot: Snapshot,
    group: FeatureGroup,
    schema: pa.Schema,
    lookback_us: int | None,
    as_of_us: int | None,
    workers: Workers | None,
) -> pa.Table:
    """Join identifiers and times, then read the values of the rows that match."""
    workers = workers or Workers(1)
    identifier = group.record_identifier
    values = pa.schema([field for field in schema if field.name != "_event_time"])
    texts = [field.name for field in values if pa.types.is_string(field.type)]
    with closing(
        HistoryFiles(group.name, snapshot.files, identifier, texts=texts, workers=workers)
    ) as history:
        matches = narrowjoin.find(
            _one_array(spine["key"]),
            numpyview.int64(_one_array(spine["time"]).cast(pa.int64())),
            history,
            identifier,
            lookback_us=lookback_us,
            as_of_us=as_of_us,
            workers=workers,
        )
        columns = narrowjoin.pick(matches, history, values, workers=workers)
    seen = numpyview.from_int64(matches.times_us, is_valid=matches.rows >= 0).cast(_TIME)
    return pa.table({**columns, "_event_time": seen}, schema=schema)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    whole = column.combine_chunks()
    return pa.concat_arrays(whole.chunks) if isinstance(whole, pa.ChunkedArray) else whole


def seen_files(
    snapshot: Snapshot | None,
    times: pa.ChunkedArray | pa.Array,
    lookback_us: int | None,
    *,
    as_of_us: int | None = None,
) -> Snapshot | None:
    """Leave out the files of which no row of a spine can see a value.

    Those all of whose event times are later than the latest row, and with a lookback those all of
    whose event times are older than it reaches back from the earliest row. What is left gives
    the same values: the newest version of the left-out ones is too old to be seen. Neither is a
    file seen all of whose rows were written after the as-of time.

    Args:
        snapshot: the table version; None stays None.
        times: of the spine's rows, timestamp[us, UTC].
        lookback_us: how old a value may be, µs; None: any age.
        as_of_us: only rows whose write time is at or before it count; None: all.
    """
    if snapshot is None or not snapshot.statistics or not len(times):
        return snapshot
    ends = pc.min_max(times.cast(pa.int64())).as_py()
    earliest_us = None if lookback_us is None else ends["min"] - lookback_us
    return snapshot.between(earliest_us, ends["max"]).written_by(as_of_us)


def table_columns(connection: Any, snapshot: Snapshot, features: Sequence[str]) -> set[str]:
    """Return which features the files have: an old file lacks those that were added later."""
    missing = set(features) & set(snapshot.columns)
    found: set[str] = set()
    for file in reversed(snapshot.files):
        if not missing:
            break
        columns = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [file]
        ).fetchall()
        found |= missing & {name for name, *_ in columns}
        missing -= found
    return found


def _reads_few(connection: Any, snapshot: Snapshot, identifier: str) -> bool:
    """Whether the spine has few of the history's identifiers: then others are left out early.

    It looks at the first rows of one file. Either answer gives the same values.
    """
    ((share,),) = connection.execute(
        f"SELECT avg(CAST({identifier} IN (SELECT _key FROM spine) AS DOUBLE)) FROM (SELECT "
        f"{identifier} FROM read_parquet($file, hive_partitioning = false) LIMIT $rows)",
        {"file": snapshot.files[len(snapshot.files) // 2], "rows": _LOOKED_AT},
    ).fetchall()
    return share is not None and bool(share < _FEW)


def spine_times(spine: pa.Table, column: str) -> pa.Array:
    """Return the spine's times as timestamp[us, UTC].

    Timestamps need a zone; text is ISO-8601 with a zone; finer units are floored to µs.

    Raises:
        InvalidSpine: no such column, a null, no zone, or no time that µs of 64 bits hold.
    """
    values = _column(spine, column, "time")
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        if values.null_count:
            raise InvalidSpine(_null_time(column, values))
        times = []
        for row, text in enumerate(values.to_pylist()):
            try:
                times.append(eventtime.parse_iso(text))
            except ValueError as error:
                raise InvalidSpine(f"spine column {column!r}, row {row}: {error}") from None
        return pa.array(times, pa.int64()).cast(_TIME)
    if not pa.types.is_timestamp(kind):
        raise InvalidSpine(
            f"spine column {column!r}: expected timestamps with a zone or ISO-8601 text, got {kind}"
        )
    if kind.tz is None:
        raise InvalidSpine(
            f"spine column {column!r}: expected timestamps with a zone, got {kind}; say which zone "
            f"they are in, for example by casting to timestamp[us, UTC]"
        )
    if values.null_count:
        raise InvalidSpine(_null_time(column, values))
    if kind.unit == "ns":
        counts = numpyview.int64(values.cast(pa.int64()))
        return numpyview.from_int64(counts // 1000).cast(_TIME)
    return _cast(values, _TIME, column)


def spine_keys(spine: pa.Table, column: str, group: FeatureGroup) -> pa.Array:
    """Return the spine's identifiers of a group, in the type of its record identifier.

    Raises:
        InvalidSpine: no such column, another type, or a number out of its range.
    """
    values = _column(spine, column, f"record identifier of {group.name!r}")
    kind = group.types[group.record_identifier]
    got = values.type
    fits = {
        FeatureType.STRING: pa.types.is_string(got) or pa.types.is_large_string(got),
        FeatureType.INTEGRAL: pa.types.is_integer(got),
        FeatureType.FRACTIONAL: pa.types.is_floating(got) or pa.types.is_integer(got),
    }[kind]
    if not fits and not pa.types.is_null(got):
        raise InvalidSpine(
            f"spine column {column!r}: expected {kind.value} like the record identifier "
            f"{group.name}.{group.record_identifier}, got {got}; cast the column"
        )
    values = _cast(values, convert.ARROW_TYPES[kind], column)
    # As records have it: -0.0 and 0.0 name the same identifier.
    return pc.add(values, 0.0) if kind is FeatureType.FRACTIONAL else values


def _column(spine: pa.Table, name: str, role: str) -> pa.Array:
    if name not in spine.schema.names:
        raise InvalidSpine(
            f"the spine has no column {name!r} for the {role}; it has "
            f"{', '.join(map(repr, spine.schema.names))}{nearest(name, spine.schema.names)}"
        )
    column = spine[name].combine_chunks()
    if isinstance(column, pa.ChunkedArray):  # no chunk at all, or too large for one
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column


def _cast(values: pa.Array, kind: pa.DataType, column: str) -> pa.Array:
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        raise InvalidSpine(f"spine column {column!r}: expected {kind}: {error}") from None


def _null_time(column: str, values: pa.Array) -> str:
    row = pc.index(pc.is_null(values), True).as_py()
    return f"spine column {column!r}, row {row}: expected a time, got null"


def _nothing_known(group: FeatureGroup, features: Sequence[str], n: int) -> pa.Table:
    kinds = group.definitions
    return pa.table(
        {
            **{name: pa.nulls(n, arrow_type(kinds[name])) for name in features},
            "_event_time": pa.nulls(n, _TIME),
        }
    )


_SQL_TYPES: Final = {
    FeatureType.INTEGRAL: "BIGINT",
    FeatureType.FRACTIONAL: "DOUBLE",
    FeatureType.STRING: "VARCHAR",
}


def sql_type(feature: FeatureDefinition) -> str:
    """Return the SQL type of a feature's values."""
    kind = _SQL_TYPES[feature.type]
    return kind if feature.collection is None else f"{kind}[]"


def quoted(name: str) -> str:
    """Return a name as SQL takes it."""
    return '"' + name.replace('"', '""') + '"'
