"""The asynchronous client's builder: options as ever, and coroutines where the server is asked."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Self, final

import pyarrow as pa

from featurestore.builder import (
    BuilderOptions,
    BuiltDataset,
    DatasetBuilder,
    JoinComparatorEnum,
    JoinTypeEnum,
    named_base,
    no_output,
    read_base,
)
from featurestore.schema import FeatureGroup
from featurestore.store import Description

__all__ = ["AwaitedBuilder"]

Describe = Callable[[str], Awaitable[Description]]
Run = Callable[[BuilderOptions, pa.Table | None], Awaitable[BuiltDataset]]


@final
class AwaitedBuilder:
    """A `DatasetBuilder` whose groups and rows are awaited; see there for each method.

    From `await store.create_dataset(base, …)`.

    Args:
        builder: collects the options; it finds groups in `groups`.
        groups: those that were described so far.
        rows: the base, where it is rows.
        describe: finds a feature group by name.
        run: makes the rows from the options, and from the base where that is rows.
        output: the folder that `to_csv_file` writes to.
    """

    def __init__(
        self,
        builder: DatasetBuilder,
        groups: dict[str, FeatureGroup],
        rows: pa.Table | None,
        *,
        describe: Describe,
        run: Run,
        output: Path | None,
    ) -> None:
        self._builder = builder
        self._groups = groups
        self._rows = rows
        self._describe = describe
        self._run = run
        self._output = output

    @classmethod
    async def begin(
        cls,
        base: object,
        *,
        describe: Describe,
        run: Run,
        output_path: str | Path | None,
        record_identifier: str | None,
        event_time: str | None,
        included: Sequence[str] | None,
    ) -> Self:
        """Begin a dataset; see FeatureStore.create_dataset.

        Raises:
            FeatureGroupNotFound: no such group.
            InvalidRequest: the base lacks a column.
        """
        name = named_base(base)
        rows = None if name is not None else await asyncio.to_thread(read_base, base)
        groups = {} if name is None else {name: (await describe(name)).group}
        builder = DatasetBuilder(
            rows if name is None else name,
            describe=groups.__getitem__,
            run=_never,
            record_identifier=record_identifier,
            event_time=event_time,
            included=included,
        )
        output = None if output_path is None else Path(output_path)
        return cls(builder, groups, rows, describe=describe, run=run, output=output)

    @property
    def options(self) -> BuilderOptions:
        """What it was told so far."""
        return self._builder.options

    async def with_feature_group(
        self,
        feature_group: str | FeatureGroup,
        target_feature_name_in_base: str | None = None,
        included_feature_names: Sequence[str] | None = None,
        feature_name_in_target: str | None = None,
        join_comparator: JoinComparatorEnum = JoinComparatorEnum.EQUALS,
        join_type: JoinTypeEnum = JoinTypeEnum.INNER_JOIN,
    ) -> Self:
        """See DatasetBuilder.with_feature_group."""
        name = feature_group if isinstance(feature_group, str) else feature_group.name
        self._groups[name] = (await self._describe(name)).group
        self._builder.with_feature_group(
            name,
            target_feature_name_in_base,
            included_feature_names,
            feature_name_in_target,
            join_comparator,
            join_type,
        )
        return self

    def point_in_time_accurate_join(self) -> Self:
        """See DatasetBuilder.point_in_time_accurate_join."""
        self._builder.point_in_time_accurate_join()
        return self

    def include_duplicated_records(self) -> Self:
        """See DatasetBuilder.include_duplicated_records."""
        self._builder.include_duplicated_records()
        return self

    def include_deleted_records(self) -> Self:
        """See DatasetBuilder.include_deleted_records."""
        self._builder.include_deleted_records()
        return self

    def with_number_of_recent_records_by_record_identifier(
        self, number_of_recent_records: int
    ) -> Self:
        """See DatasetBuilder.with_number_of_recent_records_by_record_identifier."""
        self._builder.with_number_of_recent_records_by_record_identifier(number_of_recent_records)
        return self

    def with_number_of_records_from_query_results(self, number_of_records: int) -> Self:
        """See DatasetBuilder.with_number_of_records_from_query_results."""
        self._builder.with_number_of_records_from_query_results(number_of_records)
        return self

    def as_of(self, timestamp: dt.datetime) -> Self:
        """See DatasetBuilder.as_of."""
        self._builder.as_of(timestamp)
        return self

    def with_event_time_range(
        self,
        starting_timestamp: dt.datetime | None = None,
        ending_timestamp: dt.datetime | None = None,
    ) -> Self:
        """See DatasetBuilder.with_event_time_range."""
        self._builder.with_event_time_range(starting_timestamp, ending_timestamp)
        return self

    async def build(self) -> BuiltDataset:
        """See DatasetBuilder.build."""
        return await self._run(self._builder.options, self._rows)

    async def to_arrow(self) -> pa.Table:
        """See DatasetBuilder.to_arrow."""
        return (await self.build()).table

    async def to_dataframe(self) -> tuple[Any, str]:
        """See DatasetBuilder.to_dataframe."""
        built = await self.build()
        return await asyncio.to_thread(built.table.to_pandas), built.query

    async def to_csv_file(self) -> tuple[str, str]:
        """See DatasetBuilder.to_csv_file; the file is written in a thread."""
        if self._output is None:
            raise no_output()
        built = await self.build()
        return await asyncio.to_thread(built.to_csv_file, self._output)


def _never(options: BuilderOptions, rows: pa.Table | None) -> BuiltDataset:
    raise AssertionError("the rows of an AwaitedBuilder are awaited")
