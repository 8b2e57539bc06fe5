"""Datasets in the manner of SageMaker's DatasetBuilder: its options, with the meaning of its SQL.

This is for code that is written for it. `FeatureStore.dataset` gives each row of a spine the
newest value known at its time; the builder joins and filters as it is told, and a
point-in-time join of it keeps every earlier version unless the number of recent records is set.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self, final

import duckdb
import pyarrow as pa
import pyarrow.csv

from featurestore import eventtime, pointintime
from featurestore.dataset import Resolved
from featurestore.errors import InvalidRequest, nearest
from featurestore.schema import FeatureGroup
from featurestore.spine import read_spine

__all__ = ["DatasetBuilder", "JoinComparatorEnum", "JoinTypeEnum", "read_base"]

_TIME: Final = pa.timestamp("us", "UTC")
_INTERNAL: Final = ("_event_time", "write_time", "api_invocation_time", "is_deleted", "_sequence")
_SECOND_US: Final = 1_000_000


class JoinTypeEnum(enum.Enum):
    """How rows of the base and of a feature group are joined."""

    INNER_JOIN = "JOIN"
    LEFT_JOIN = "LEFT JOIN"
    RIGHT_JOIN = "RIGHT JOIN"
    FULL_JOIN = "FULL JOIN"
    CROSS_JOIN = "CROSS JOIN"


class JoinComparatorEnum(enum.Enum):
    """How the base's feature and the group's are compared: base, comparator, group."""

    EQUALS = "="
    GREATER_THAN = ">"
    GREATER_THAN_OR_EQUAL_TO = ">="
    LESS_THAN = "<"
    LESS_THAN_OR_EQUAL_TO = "<="
    NOT_EQUAL_TO = "<>"


@final
@dataclass(frozen=True)
class _Joined:
    """A feature group that is joined to the base."""

    resolved: Resolved
    target: str | None
    included: tuple[str, ...]
    feature: str
    comparator: JoinComparatorEnum
    type: JoinTypeEnum


@final
class DatasetBuilder:
    """Collects what a dataset is made of; each method changes it and returns it.

    From `store.create_dataset(base, …)`. By default there is one row per identifier and event
    time, the one with the latest `api_invocation_time`, then `write_time`, and rows at or before an
    identifier's last delete marker are dropped. Markers are never returned.

    Args:
        base: a feature group as the store knows it, or rows.
        resolve: finds a feature group by name.
        output_path: the folder that `to_csv_file` writes to.
        record_identifier: the base's, where the base is a table.
        event_time: the base's, where the base is a table: timestamps with a zone, ISO-8601 text,
            or Unix seconds.
        included: the base's columns to return; none: all.
    """

    def __init__(
        self,
        base: Resolved | pa.Table,
        resolve: Callable[[str], Resolved],
        *,
        output_path: str | Path | None,
        record_identifier: str | None,
        event_time: str | None,
        included: Sequence[str] | None,
    ) -> None:
        self._base = base
        self._resolve = resolve
        self._output = None if output_path is None else Path(output_path)
        if isinstance(base, Resolved):
            self._identifier, self._time = base.group.record_identifier, base.group.event_time
            columns = list(base.group.feature_names)
        else:
            columns = list(base.schema.names)
            if record_identifier is None or event_time is None:
                raise InvalidRequest(
                    "create_dataset: a table as base needs record_identifier_feature_name and "
                    "event_time_identifier_feature_name"
                )
            self._identifier = _known(record_identifier, columns, "the base")
            self._time = _known(event_time, columns, "the base")
        self._columns = columns
        self._included = [_known(name, columns, "the base") for name in included or columns]
        self._joined: list[_Joined] = []
        self._point_in_time = self._duplicated = self._deleted = False
        self._recent: int | None = None
        self._records: int | None = None
        self._as_of_us: int | None = None
        self._start_us: int | None = None
        self._end_us: int | None = None

    def with_feature_group(
        self,
        feature_group: str | FeatureGroup,
        target_feature_name_in_base: str | None = None,
        included_feature_names: Sequence[str] | None = None,
        feature_name_in_target: str | None = None,
        join_comparator: JoinComparatorEnum = JoinComparatorEnum.EQUALS,
        join_type: JoinTypeEnum = JoinTypeEnum.INNER_JOIN,
    ) -> Self:
        """Join a feature group; the columns of the first are called `feature.1`, and so on.

        Args:
            feature_group: it or its name.
            target_feature_name_in_base: the base's column to compare; None: its identifier.
            included_feature_names: the group's features to return; None: all.
            feature_name_in_target: the group's feature to compare; None: its identifier.
            join_comparator: between base and group.
            join_type: a cross join takes no comparison.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: the base or the group lacks a column.
        """
        name = feature_group if isinstance(feature_group, str) else feature_group.name
        resolved = self._resolve(name)
        group = resolved.group
        features = list(group.feature_names)
        target = target_feature_name_in_base
        if target is not None:
            _known(target, self._columns, "the base")
        self._joined.append(
            _Joined(
                resolved,
                target,
                tuple(_known(one, features, name) for one in included_feature_names or features),
                _known(feature_name_in_target or group.record_identifier, features, name),
                JoinComparatorEnum(join_comparator),
                JoinTypeEnum(join_type),
            )
        )
        return self

    def point_in_time_accurate_join(self) -> Self:
        """Join only versions whose event time is at or before the base's; needs a join.

        All of them: for the newest one set `with_number_of_recent_records_by_record_identifier`.
        """
        self._point_in_time = True
        return self

    def include_duplicated_records(self) -> Self:
        """Keep all rows of one identifier and event time."""
        self._duplicated = True
        return self

    def include_deleted_records(self) -> Self:
        """Keep what an identifier had before it was deleted; markers are not returned."""
        self._deleted = True
        return self

    def with_number_of_recent_records_by_record_identifier(
        self, number_of_recent_records: int
    ) -> Self:
        """Keep so many rows of each identifier of the base, the newest ones.

        Newest by the base's event time, then by that of each joined group.
        """
        self._recent = _count(number_of_recent_records, "number_of_recent_records")
        return self

    def with_number_of_records_from_query_results(self, number_of_records: int) -> Self:
        """Keep the first so many rows of the result."""
        self._records = _count(number_of_records, "number_of_records")
        return self

    def as_of(self, timestamp: dt.datetime) -> Self:
        """See only what was written offline at or before a time, in whole seconds."""
        us = _moment(timestamp, "as_of")
        self._as_of_us = us - us % _SECOND_US
        return self

    def with_event_time_range(
        self,
        starting_timestamp: dt.datetime | None = None,
        ending_timestamp: dt.datetime | None = None,
    ) -> Self:
        """Keep event times from the one to the other, both inclusive; None: without an end.

        Delete markers outside count too, unless both are given.
        """
        self._start_us, self._end_us = (
            None if one is None else _moment(one, "with_event_time_range")
            for one in (starting_timestamp, ending_timestamp)
        )
        return self

    def to_arrow(self) -> pa.Table:
        """Return the rows, in the order of the base: a table's own, a group's by identifier.

        Raises:
            InvalidRequest: options that do not go together, or columns that cannot be compared.
        """
        return self._run()[0]

    def to_dataframe(self) -> tuple[Any, str]:
        """Return the rows as a pandas DataFrame, and the query; see `to_arrow`."""
        table, query = self._run()
        return table.to_pandas(), query

    def to_csv_file(self) -> tuple[str, str]:
        """Write the rows to a CSV file in the output path; return its path and the query."""
        if self._output is None:
            raise InvalidRequest("to_csv_file: expected an output_path in create_dataset, got none")
        table, query = self._run()
        name = hashlib.sha256(query.encode()).hexdigest()[:16]
        self._output.mkdir(parents=True, exist_ok=True)
        path = self._output / f"dataset-{name}.csv"
        pyarrow.csv.write_csv(table, path)
        return str(path), query

    def _run(self) -> tuple[pa.Table, str]:
        self._check()
        connection = pointintime.connect()
        parameters: dict[str, Any] = {}
        try:
            query = self._query(connection, parameters)
            table = connection.sql(query, params=parameters).to_arrow_table()
        except duckdb.Error as error:
            raise InvalidRequest(f"create_dataset: the query cannot be run: {error}") from error
        finally:
            connection.close()
        return table, query

    def _check(self) -> None:
        if self._joined:
            return
        if self._point_in_time:
            raise InvalidRequest("point_in_time_accurate_join: expected a group to join, got none")
        if isinstance(self._base, Resolved):
            return
        for name, is_set in (
            ("include_deleted_records", self._deleted),
            ("include_duplicated_records", self._duplicated),
            ("as_of", self._as_of_us is not None),
        ):
            if is_set:
                raise InvalidRequest(f"{name}: a table alone has none of this; join a group")

    def _query(self, connection: Any, parameters: dict[str, Any]) -> str:
        if isinstance(self._base, Resolved):
            base = self._group_rows(self._base, "base", parameters)
        else:
            connection.register("base_rows", _timed(self._base, self._time))
            where = self._where("_event_time")
            base = f"fg_base AS (SELECT * FROM base_rows{where})"
        tables = [base]
        columns = [f"fg_base.{_quoted(name)}" for name in self._included]
        joins, recency, order = [], ["fg_base._event_time"], ["fg_base._order"]
        for number, joined in enumerate(self._joined, 1):
            name = f"fg_{number}"
            tables.append(self._group_rows(joined.resolved, str(number), parameters))
            columns += [
                f"{name}.{_quoted(f)} AS {_quoted(f'{f}.{number}')}" for f in joined.included
            ]
            joins.append(self._join(joined, name))
            recency.append(f"{name}._event_time")
            order.append(f"{name}._order")
        keeps = ""
        if self._recent is not None:
            newest = ", ".join(f"{column} DESC NULLS LAST" for column in recency)
            keeps = (
                f"\nQUALIFY row_number() OVER (PARTITION BY fg_base.{_quoted(self._identifier)} "
                f"ORDER BY {newest}, {', '.join(order)}) <= {self._recent}"
            )
        limit = "" if self._records is None else f"\nLIMIT {self._records}"
        return (
            "WITH "
            + ",\n".join(tables)
            + f"\nSELECT {', '.join(columns)}\nFROM fg_base{''.join(joins)}{keeps}"
            + f"\nORDER BY {', '.join(f'{column} NULLS LAST' for column in order)}{limit}"
        )

    def _join(self, joined: _Joined, name: str) -> str:
        conditions = []
        if joined.type is not JoinTypeEnum.CROSS_JOIN:
            left = _quoted(joined.target or self._identifier)
            comparator = joined.comparator.value
            conditions.append(f"fg_base.{left} {comparator} {name}.{_quoted(joined.feature)}")
        if self._point_in_time:
            conditions.append(f"fg_base._event_time >= {name}._event_time")
        # SQL's cross join takes no condition; an inner join with one is the same.
        word = joined.type.value
        if joined.type is JoinTypeEnum.CROSS_JOIN and conditions:
            word = JoinTypeEnum.INNER_JOIN.value
        return f"\n{word} {name}" + (f" ON {' AND '.join(conditions)}" if conditions else "")

    def _group_rows(self, resolved: Resolved, suffix: str, parameters: dict[str, Any]) -> str:
        """Write the tables of one group: all rows, the last markers, and the rows that are kept."""
        group = resolved.group
        identifier = _quoted(group.record_identifier)
        known = (
            "" if self._as_of_us is None else f" WHERE {_at('write_time', '<=', self._as_of_us)}"
        )
        texts = [
            f"origin_{suffix} AS (SELECT * FROM {_source(resolved, suffix, parameters)}{known})"
        ]
        conditions = ["NOT is_deleted", *self._range("_event_time")]
        version = "ROW(_event_time, api_invocation_time, write_time)"
        if not self._deleted:
            both = self._start_us is not None and self._end_us is not None
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
            if self._duplicated
            else f" QUALIFY row_number() OVER (PARTITION BY {identifier}, _event_time "
            f"ORDER BY {newest}) = 1"
        )
        texts.append(
            f"fg_{suffix} AS (SELECT *, row_number() OVER (ORDER BY {identifier}, _event_time, "
            f"_sequence) AS _order FROM {source} WHERE {' AND '.join(conditions)}{first})"
        )
        return ",\n".join(texts)

    def _range(self, column: str) -> list[str]:
        ends = ((">=", self._start_us), ("<=", self._end_us))
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
        columns = (f"NULL::{kind} AS {_quoted(name)}" for name, kind in (types | internal).items())
        return f"(SELECT {', '.join(columns)} WHERE false)"
    columns = (
        _quoted(name)
        if name in snapshot.columns
        else f"NULL::{pointintime.sql_type(kinds[name])} AS {_quoted(name)}"
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


def read_base(base: object) -> pa.Table:
    """Read a builder's base that is no feature group, as a spine is read.

    Raises:
        InvalidRequest: a column has a name that the builder itself needs.
    """
    table = read_spine(base)
    taken = {"_event_time", "_order"} & set(table.schema.names)
    if taken:
        raise InvalidRequest(f"create_dataset: rename the base's column {min(taken)!r}")
    return table


def _known(name: str, names: Sequence[str], where: str) -> str:
    if name not in names:
        raise InvalidRequest(f"create_dataset: {where} has no {name!r}{nearest(name, names)}")
    return name


def _count(number: int, name: str) -> int:
    if number < 0:
        raise InvalidRequest(f"{name}: expected 0 or more, got {number}")
    return int(number)


def _moment(moment: dt.datetime, name: str) -> int:
    try:
        return eventtime.to_us(moment)
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}") from None


def _at(column: str, sign: str, us: int) -> str:
    return f"{column} {sign} make_timestamptz({us})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
