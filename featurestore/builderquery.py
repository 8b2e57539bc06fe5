"""The SQL of a `DatasetBuilder`, and running it on the files of table versions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any, Final, final

import duckdb
import pyarrow as pa

from featurestore import pointintime
from featurestore.builder import (
    BuilderOptions,
    BuiltDataset,
    JoinedGroup,
    JoinTypeEnum,
    check_joined,
    check_rows,
    checked_count,
    known_column,
)
from featurestore.dataset import Resolved
from featurestore.digest import table_digest
from featurestore.errors import InvalidRequest
from featurestore.pointintime import quoted

__all__ = ["build"]

_TIME: Final = pa.timestamp("us", "UTC")
_INTERNAL: Final = ("_event_time", "write_time", "api_invocation_time", "is_deleted", "_sequence")
_SECOND_US: Final = 1_000_000


def build(
    options: BuilderOptions,
    rows: pa.Table | None,
    resolve: Callable[[str], Resolved],
    *,
    threads: int | None = None,
) -> tuple[BuiltDataset, list[Resolved]]:
    """Run what a builder was told.

    Args:
        options: from a builder; they are checked again.
        rows: the base, where that is rows; without the columns `_event_time` and `_order`.
        resolve: finds a feature group and its table version; asked once for each group.
        threads: for DuckDB; None: as many as there are processors.

    Returns:
        The rows with their manifest, and the groups they were built from.

    Raises:
        FeatureGroupNotFound: no such group.
        InvalidRequest: the base or a group lacks a column, options do not go together, or columns
            cannot be compared.
    """
    names = [*([] if options.base is None else [options.base]), *(j.group for j in options.joined)]
    resolved = {name: resolve(name) for name in dict.fromkeys(names)}
    if (options.base is None) == (rows is None):
        raise InvalidRequest("create_dataset: expected a feature group or rows as the base")
    base = rows if rows is not None else resolved[str(options.base)]
    query = _Query(options, base, resolved)
    connection = pointintime.connect(threads=threads)
    try:
        text = query.write(connection)
        table = connection.sql(text, params=query.parameters).to_arrow_table()
    except duckdb.Error as error:
        raise InvalidRequest(f"create_dataset: the query cannot be run: {error}") from error
    finally:
        connection.close()
    body = {
        "builder": options.to_json(),
        "base_digest": None if rows is None else table_digest(rows),
        "rows_digest": table_digest(table),
    }
    manifest = {
        "fingerprint": hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest(),
        **body,
        "rows": len(table),
        "versions": {
            name: one.snapshot.version if one.snapshot else None for name, one in resolved.items()
        },
        "columns": query.origins,
    }
    return BuiltDataset(table, text, manifest), list(resolved.values())


@final
class _Query:
    """The SQL of one build.

    Args:
        options: what to do.
        base: a feature group as the store knows it, or rows.
        resolved: the groups by name.
    """

    def __init__(
        self,
        options: BuilderOptions,
        base: Resolved | pa.Table,
        resolved: Mapping[str, Resolved],
    ) -> None:
        self._options = options
        self._base = base
        self._resolved = resolved
        self.parameters: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        if isinstance(base, Resolved):
            self._identifier, self._time = base.group.record_identifier, base.group.event_time
            columns = list(base.group.feature_names)
        else:
            columns = list(base.schema.names)
            self._identifier, self._time = check_rows(options, columns)
        self._included = [
            known_column(one, columns, "the base") for one in options.included or columns
        ]
        for joined in options.joined:
            check_joined(joined, columns, resolved[joined.group].group)
        checked_count(options.recent or 0, "number_of_recent_records")
        checked_count(options.records or 0, "number_of_records")

    def _check(self) -> None:
        if self._options.joined:
            return
        if self._options.point_in_time:
            raise InvalidRequest("point_in_time_accurate_join: expected a group to join, got none")
        if isinstance(self._base, Resolved):
            return
        for name, is_set in (
            ("include_deleted_records", self._options.deleted),
            ("include_duplicated_records", self._options.duplicated),
            ("as_of", self._options.as_of_us is not None),
        ):
            if is_set:
                raise InvalidRequest(f"{name}: a table alone has none of this; join a group")

    def write(self, connection: Any) -> str:
        """Register the base with a connection, and return the query."""
        self._check()
        if isinstance(self._base, Resolved):
            base = self._group_rows(self._base, "base", self.parameters)
        else:
            connection.register("base_rows", _timed(self._base, self._time))
            where = self._where("_event_time")
            base = f"fg_base AS (SELECT * FROM base_rows{where})"
        tables = [base]
        columns = [f"fg_base.{quoted(name)}" for name in self._included]
        about = f"{self._options.base}." if self._options.base else ""
        self.origins = {name: f"{about}{name}" if about else "base" for name in self._included}
        joins, recency, order = [], ["fg_base._event_time"], ["fg_base._order"]
        for number, joined in enumerate(self._options.joined, 1):
            name = f"fg_{number}"
            resolved = self._resolved[joined.group]
            tables.append(self._group_rows(resolved, str(number), self.parameters))
            included = joined.included or resolved.group.feature_names
            columns += [f"{name}.{quoted(f)} AS {quoted(f'{f}.{number}')}" for f in included]
            self.origins |= {f"{f}.{number}": f"{joined.group}.{f}" for f in included}
            joins.append(self._join(joined, name))
            recency.append(f"{name}._event_time")
            order.append(f"{name}._order")
        keeps = ""
        if self._options.recent is not None:
            newest = ", ".join(f"{column} DESC NULLS LAST" for column in recency)
            keeps = (
                f"\nQUALIFY row_number() OVER (PARTITION BY fg_base.{quoted(self._identifier)} "
                f"ORDER BY {newest}, {', '.join(order)}) <= {self._options.recent}"
            )
        limit = "" if self._options.records is None else f"\nLIMIT {self._options.records}"
        return (
            "WITH "
            + ",\n".join(tables)
            + f"\nSELECT {', '.join(columns)}\nFROM fg_base{''.join(joins)}{keeps}"
            + f"\nORDER BY {', '.join(f'{column} NULLS LAST' for column in order)}{limit}"
        )

    def _join(self, joined: JoinedGroup, name: str) -> str:
        conditions = []
        if joined.type is not JoinTypeEnum.CROSS_JOIN:
            left = quoted(joined.target or self._identifier)
            comparator = joined.comparator.value
            right = joined.feature or self._resolved[joined.group].group.record_identifier
            conditions.append(f"fg_base.{left} {comparator} {name}.{quoted(right)}")
        if self._options.point_in_time:
            conditions.append(f"fg_base._event_time >= {name}._event_time")
        # SQL's cross join takes no condition; an inner join with one is the same.
        word = joined.type.value
        if joined.type is JoinTypeEnum.CROSS_JOIN and conditions:
            word = JoinTypeEnum.INNER_JOIN.value
        return f"\n{word} {name}" + (f" ON {' AND '.join(conditions)}" if conditions else "")

    def _group_rows(self, resolved: Resolved, suffix: str, parameters: dict[str, Any]) -> str:
        """Write the tables of one group: all rows, the last markers, and the rows that are kept."""
        group = resolved.group
        identifier = quoted(group.record_identifier)
        known = (
            ""
            if self._options.as_of_us is None
            else f" WHERE {_at('write_time', '<=', self._options.as_of_us)}"
        )
        texts = [
            f"origin_{suffix} AS (SELECT * FROM {_source(resolved, suffix, parameters)}{known})"
        ]
        conditions = ["NOT is_deleted", *self._range("_event_time")]
        version = "ROW(_event_time, api_invocation_time, write_time)"
        if not self._options.deleted:
            both = self._options.start_us is not None and self._options.end_us is not None
            within = ["is_deleted", *(self._range("_event_time") if both else ())]
            texts.append(
                f"deleted_{suffix} AS (SELECT {identifier} AS _key, max({version}) AS _last "
                f"FROM origin_{suffix} WHERE {' AND '.join(within)} GROUP BY _key)"
            )
            conditions.append(f"(_last IS NULL OR {version} > _last)")
            source = f"origin_{suffix} LEFT JOIN deleted_{suffix} ON {identifier} = _key"
        else:
            source = f"origin_{suffix}"
        newest = "api_invocation_time DESC, write_time DESC, _sequence DESC"
        first = (
            ""
            if self._options.duplicated
            else f" QUALIFY row_number() OVER (PARTITION BY {identifier}, _event_time "
            f"ORDER BY {newest}) = 1"
        )
        texts.append(
            f"fg_{suffix} AS (SELECT *, row_number() OVER (ORDER BY {identifier}, _event_time, "
            f"_sequence) AS _order FROM {source} WHERE {' AND '.join(conditions)}{first})"
        )
        return ",\n".join(texts)

    def _range(self, column: str) -> list[str]:
        ends = ((">=", self._options.start_us), ("<=", self._options.end_us))
        return [_at(column, sign, us) for sign, us in ends if us is not None]

    def _where(self, column: str) -> str:
        conditions = self._range(column)
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _source(resolved: Resolved, suffix: str, parameters: dict[str, Any]) -> str:
    """Name the group's files as a table that has every feature."""
    group, snapshot = resolved.group, resolved.snapshot
    kinds = group.definitions
    wanted = [*group.feature_names, *_INTERNAL]
    if snapshot is None or not snapshot.files:
        types = {name: pointintime.sql_type(kinds[name]) for name in group.feature_names}
        internal = dict(zip(_INTERNAL, ["TIMESTAMPTZ"] * 3 + ["BOOLEAN", "BIGINT"], strict=True))
        columns = (f"NULL::{kind} AS {quoted(name)}" for name, kind in (types | internal).items())
        return f"(SELECT {', '.join(columns)} WHERE false)"
    columns = (
        quoted(name)
        if name in snapshot.columns
        else f"NULL::{pointintime.sql_type(kinds[name])} AS {quoted(name)}"
        for name in wanted
    )
    parameters[f"files_{suffix}"] = list(snapshot.files)
    return (
        f"(SELECT {', '.join(columns)} FROM read_parquet($files_{suffix}, union_by_name = true, "
        f"hive_partitioning = false))"
    )


def _timed(base: pa.Table, time: str) -> pa.Table:
    """Add the parsed event time, and the order of the rows."""
    kind = base.schema.field(time).type
    if pa.types.is_floating(kind) or pa.types.is_integer(kind):
        seconds = base[time].cast(pa.float64()).to_pylist()
        counts = [None if second is None else round(second * _SECOND_US) for second in seconds]
        times = pa.array(counts, pa.int64()).cast(_TIME)
    else:
        times = pointintime.spine_times(base, time)
    return base.append_column("_event_time", times).append_column(
        "_order", pa.array(range(len(base)), pa.int64())
    )


def _at(column: str, sign: str, us: int) -> str:
    return f"{column} {sign} make_timestamptz({us})"
