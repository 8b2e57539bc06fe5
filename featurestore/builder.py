"""Datasets in the manner of SageMaker's DatasetBuilder: its options, with the meaning of its SQL.

This is for code that is written for it. `FeatureStore.dataset` gives each row of a spine the
newest value known at its time; the builder joins and filters as it is told, and a
point-in-time join of it keeps every earlier version unless the number of recent records is set.
"""

from __future__ import annotations

import datetime as dt
import enum
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Self, final

import pyarrow as pa
import pyarrow.csv

from featurestore import eventtime
from featurestore.errors import InvalidRequest, nearest
from featurestore.schema import FeatureGroup
from featurestore.spine import is_query, read_spine

__all__ = [
    "BuilderOptions",
    "BuiltDataset",
    "DatasetBuilder",
    "JoinComparatorEnum",
    "JoinTypeEnum",
    "JoinedGroup",
    "named_base",
    "read_base",
]

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
@dataclass(frozen=True, slots=True)
class JoinedGroup:
    """A feature group that is joined to the base; see `DatasetBuilder.with_feature_group`.

    Args:
        group: its name.
        target: the base's column to compare; None: its identifier.
        included: the group's features to return; none: all.
        feature: the group's feature to compare; None: its identifier.
        comparator: between base and group.
        type: of the join.
    """

    group: str
    target: str | None = None
    included: tuple[str, ...] = ()
    feature: str | None = None
    comparator: JoinComparatorEnum = JoinComparatorEnum.EQUALS
    type: JoinTypeEnum = JoinTypeEnum.INNER_JOIN


@final
@dataclass(frozen=True, slots=True)
class BuilderOptions:
    """What a `DatasetBuilder` was told, without the rows of its base.

    Args:
        base: the feature group; None: rows.
        identifier: the rows' record identifier; None where the base is a group.
        time: the rows' event time; None where the base is a group.
        included: the base's columns to return; none: all.
        joined: the groups, in their order.
        point_in_time: whether later versions are left out of the joins.
        duplicated: whether rows of one identifier and event time all stay.
        deleted: whether the history before a delete stays.
        recent: so many rows of each identifier; None: all.
        records: so many rows; None: all.
        as_of_us: only what was written at or before it; None: all.
        start_us: the first event time; None: any.
        end_us: the last event time; None: any.
    """

    base: str | None = None
    identifier: str | None = None
    time: str | None = None
    included: tuple[str, ...] = ()
    joined: tuple[JoinedGroup, ...] = ()
    point_in_time: bool = False
    duplicated: bool = False
    deleted: bool = False
    recent: int | None = None
    records: int | None = None
    as_of_us: int | None = None
    start_us: int | None = None
    end_us: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Write them as JSON values."""
        joined = [
            {**asdict(one), "comparator": one.comparator.value, "type": one.type.value}
            for one in self.joined
        ]
        return {**asdict(self), "joined": joined}


@final
@dataclass(frozen=True)
class BuiltDataset:
    """The result of a builder.

    Args:
        table: the rows.
        query: the SQL that made them.
        manifest: JSON values that name how: `fingerprint`, `builder` (the options), `base_digest`
            (None where the base is a group), `rows`, `rows_digest`, `versions` (group → Delta
            version), `columns` (name → origin), and `lineage`.
    """

    table: pa.Table
    query: str
    manifest: Mapping[str, Any] = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """Names the content: equal options, base and rows give an equal fingerprint."""
        return str(self.manifest["fingerprint"])

    def to_csv_file(self, folder: Path) -> tuple[str, str]:
        """Write the rows to a CSV file in a folder; return its path and the query."""
        name = hashlib.sha256(self.query.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"dataset-{name}.csv"
        pyarrow.csv.write_csv(self.table, path)
        return str(path), self.query


@final
class DatasetBuilder:
    """Collects what a dataset is made of; each method changes it and returns it.

    From `store.create_dataset(base, …)`. By default there is one row per identifier and event
    time, the one with the latest `api_invocation_time`, then `write_time`, and rows at or before an
    identifier's last delete marker are dropped. Markers are never returned.

    The groups are read when the rows are asked for, each time anew, and lineage records each build.

    Args:
        base: the name of a feature group, or rows.
        describe: finds a feature group by name.
        run: makes the rows from the options, and from the base where that is rows.
        output_path: the folder that `to_csv_file` writes to.
        record_identifier: the base's, where the base is rows.
        event_time: the base's, where the base is rows: timestamps with a zone, ISO-8601 text,
            or Unix seconds.
        included: the base's columns to return; none: all.
    """

    def __init__(
        self,
        base: str | pa.Table,
        *,
        describe: Callable[[str], FeatureGroup],
        run: Callable[[BuilderOptions, pa.Table | None], BuiltDataset],
        output_path: str | Path | None = None,
        record_identifier: str | None = None,
        event_time: str | None = None,
        included: Sequence[str] | None = None,
    ) -> None:
        self._describe = describe
        self._run = run
        self._output = None if output_path is None else Path(output_path)
        self._rows = None if isinstance(base, str) else base
        if isinstance(base, str):
            self._columns = list(with_offline(describe(base)).feature_names)
            self._options = BuilderOptions(base=base, included=tuple(included or ()))
        else:
            self._columns = list(base.schema.names)
            self._options = BuilderOptions(
                identifier=record_identifier, time=event_time, included=tuple(included or ())
            )
            check_rows(self._options, self._columns)
        for name in self._options.included:
            known_column(name, self._columns, "the base")

    @property
    def options(self) -> BuilderOptions:
        """What it was told so far."""
        return self._options

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
        joined = JoinedGroup(
            feature_group if isinstance(feature_group, str) else feature_group.name,
            target_feature_name_in_base,
            tuple(included_feature_names or ()),
            feature_name_in_target,
            JoinComparatorEnum(join_comparator),
            JoinTypeEnum(join_type),
        )
        check_joined(joined, self._columns, self._describe(joined.group))
        return self._with(joined=(*self._options.joined, joined))

    def point_in_time_accurate_join(self) -> Self:
        """Join only versions whose event time is at or before the base's; needs a join.

        All of them: for the newest one set `with_number_of_recent_records_by_record_identifier`.
        """
        return self._with(point_in_time=True)

    def include_duplicated_records(self) -> Self:
        """Keep all rows of one identifier and event time."""
        return self._with(duplicated=True)

    def include_deleted_records(self) -> Self:
        """Keep what an identifier had before it was deleted; markers are not returned."""
        return self._with(deleted=True)

    def with_number_of_recent_records_by_record_identifier(
        self, number_of_recent_records: int
    ) -> Self:
        """Keep so many rows of each identifier of the base, the newest ones.

        Newest by the base's event time, then by that of each joined group.
        """
        return self._with(
            recent=checked_count(number_of_recent_records, "number_of_recent_records")
        )

    def with_number_of_records_from_query_results(self, number_of_records: int) -> Self:
        """Keep the first so many rows of the result."""
        return self._with(records=checked_count(number_of_records, "number_of_records"))

    def as_of(self, timestamp: dt.datetime) -> Self:
        """See only what was written offline at or before a time, in whole seconds."""
        us = _moment(timestamp, "as_of")
        return self._with(as_of_us=us - us % _SECOND_US)

    def with_event_time_range(
        self,
        starting_timestamp: dt.datetime | None = None,
        ending_timestamp: dt.datetime | None = None,
    ) -> Self:
        """Keep event times from the one to the other, both inclusive; None: without an end.

        Delete markers outside count too, unless both are given.
        """
        start_us, end_us = (
            None if one is None else _moment(one, "with_event_time_range")
            for one in (starting_timestamp, ending_timestamp)
        )
        return self._with(start_us=start_us, end_us=end_us)

    def build(self) -> BuiltDataset:
        """Make the rows, in the order of the base: a table's own, a group's by identifier.

        Raises:
            InvalidRequest: options that do not go together, or columns that cannot be compared.
        """
        return self._run(self._options, self._rows)

    def to_arrow(self) -> pa.Table:
        """Return the rows; see `build`."""
        return self.build().table

    def to_dataframe(self) -> tuple[Any, str]:
        """Return the rows as a pandas DataFrame, and the query; see `build`."""
        built = self.build()
        return built.table.to_pandas(), built.query

    def to_csv_file(self) -> tuple[str, str]:
        """Write the rows to a CSV file in the output path; return its path and the query."""
        if self._output is None:
            raise no_output()
        return self.build().to_csv_file(self._output)

    def _with(self, **changes: Any) -> Self:
        self._options = replace(self._options, **changes)
        return self


def named_base(base: object) -> str | None:
    """Return the name of a builder's base that is a feature group; None: it is rows."""
    if isinstance(base, FeatureGroup):
        return base.name
    if isinstance(base, str) and not (is_query(base) or Path(base).suffix):
        return base
    return None


def no_output() -> InvalidRequest:
    """Make the error of a CSV file that has no folder to go to."""
    return InvalidRequest("to_csv_file: expected an output_path in create_dataset, got none")


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


def check_rows(options: BuilderOptions, columns: Sequence[str]) -> tuple[str, str]:
    """Return the record identifier and the event time of a base that is rows.

    Raises:
        InvalidRequest: one is not named, or the rows lack it.
    """
    if not options.identifier or not options.time:
        raise InvalidRequest(
            "create_dataset: a table as base needs record_identifier_feature_name and "
            "event_time_identifier_feature_name"
        )
    return (
        known_column(options.identifier, columns, "the base"),
        known_column(options.time, columns, "the base"),
    )


def check_joined(joined: JoinedGroup, columns: Sequence[str], group: FeatureGroup) -> None:
    """Check a join against the base's columns and the group.

    Raises:
        InvalidRequest: the base or the group lacks a column, or the group an offline store.
    """
    features = with_offline(group).feature_names
    if joined.target is not None:
        known_column(joined.target, columns, "the base")
    for name in joined.included:
        known_column(name, features, group.name)
    if joined.feature is not None:
        known_column(joined.feature, features, group.name)


def with_offline(group: FeatureGroup) -> FeatureGroup:
    """Return a group that can be joined.

    Raises:
        InvalidRequest: it has no offline store.
    """
    if not group.offline:
        raise InvalidRequest(f"{group.name}: the group has no offline store to join with")
    return group


def known_column(name: str, names: Sequence[str], where: str) -> str:
    """Return a column's name.

    Raises:
        InvalidRequest: it is not among the names.
    """
    if name not in names:
        raise InvalidRequest(f"create_dataset: {where} has no {name!r}{nearest(name, names)}")
    return name


def checked_count(number: int, name: str) -> int:
    """Return a number of rows.

    Raises:
        InvalidRequest: it is negative.
    """
    if number < 0:
        raise InvalidRequest(f"{name}: expected 0 or more, got {number}")
    return int(number)


def _moment(moment: dt.datetime, name: str) -> int:
    try:
        return eventtime.to_us(moment)
    except ValueError as error:
        raise InvalidRequest(f"{name}: {error}") from None
