"""Channels that are larger than memory: labels at hand, inputs read a part at a time from files."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self, final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from training.data import Dataset, Labels, kind_of, manifest_of
from training.encoding import Input, is_number
from training.errors import FitFailed, InvalidData
from training.formats import ContentType, files_of
from training.formats.column import ROLE_KEY
from training.formats.columnar import read_arrow
from training.formats.parts import COLUMNAR, parts_of
from training.inputs import Inputs
from training.labelling import (
    input_names,
    label_columns,
    label_name,
    labels_of,
    queries_of,
    roles_of,
    weights_of,
)

__all__ = ["Stream"]


@final
@dataclass(frozen=True, eq=False)
class Stream:
    """What a `Dataset` is, but that the inputs stay in files and come a part at a time.

    Labels, weights and queries are in memory, 8 bytes a row each. The parts are the same each
    time they are read.

    Args:
        source: where the inputs are.
        target: n labels; None: there are none.
        inputs: how inputs are encoded.
        bounds: where each part begins, and at last n.
        label: the label's column name.
        channel: what errors call these rows.
        weights: as a `Dataset` has them.
        groups: as a `Dataset` has them, ascending; a part holds whole queries.
        upper: as a `Dataset` has them.
    """

    source: _Source
    target: npt.NDArray[np.float64] | None
    inputs: Inputs
    bounds: tuple[int, ...]
    label: str = "label"
    channel: str = "train"
    weights: npt.NDArray[np.float64] | None = None
    groups: npt.NDArray[np.int64] | None = None
    upper: npt.NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return self.bounds[-1]

    @property
    def width(self) -> int:
        """How many columns its matrix has."""
        return self.inputs.width

    def labels(self) -> npt.NDArray[np.float64]:
        """Return the labels.

        Raises:
            InvalidData: there are none.
        """
        if self.target is None:
            raise InvalidData(f"{self.channel}: there is no label", channel=self.channel)
        return self.target

    def parts(self) -> Iterator[Dataset]:
        """Read all rows again, a part at a time.

        Raises:
            InvalidData: a value cannot be an input.
        """
        tables = _recut(self.source.tables(), self.bounds)
        for (start, end), table in zip(itertools.pairwise(self.bounds), tables, strict=True):
            where = self.channel if start == 0 else f"{self.channel}, counted from row {start + 1}"
            rows = slice(start, end)
            yield Dataset(
                features=self.inputs.encode(table, channel=where),
                target=None if self.target is None else self.target[rows],
                inputs=self.inputs,
                label=self.label,
                channel=where,
                weights=None if self.weights is None else self.weights[rows],
                groups=None if self.groups is None else self.groups[rows],
                upper=None if self.upper is None else self.upper[rows],
            )

    def head(self, rows: int) -> Dataset:
        """Return the first rows, at most those of the first part, as a dataset in memory."""
        return next(self.parts()).head(rows)

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> Dataset:
        """Return the rows of these ascending numbers as a dataset in memory; all are read."""
        found = []
        for start, part in zip(self.bounds, self.parts(), strict=False):
            low, high = np.searchsorted(rows, (start, start + len(part)))
            if low < high:
                found.append(part.take(rows[low:high] - start, channel=self.channel))
        return Dataset.joined(found)

    @classmethod
    def open(
        cls,
        path: Path | Sequence[Path],
        *,
        channel: str,
        folder: Path,
        part_bytes: int,
        content_type: str | None = None,
        label: str | None = None,
        features: Sequence[str] = (),
        inputs: Inputs | None = None,
        labels: Labels = "required",
        reading: Mapping[str, Mapping[str, str]] | None = None,
        intervals: bool = False,
        beside: Mapping[str, str] | None = None,
    ) -> Self:
        """Open a channel's file or folder; see `read_dataset` for the arguments both have.

        Files that are no Parquet or Arrow are written as Parquet into `folder` first, since they
        are read several times.

        Args:
            path: a file, or a folder of files of one kind, or its files in the order they are read.
            channel: what errors call the data.
            folder: for files of its own, which the caller removes.
            part_bytes: of a part in memory, about.
            content_type: None: by the files' ending.
            label: the column to predict.
            features: the input columns.
            inputs: those of the training data.
            labels: whether there must be a label, may be one, or is none.
            reading: further parameters by content type.
            intervals: whether labels may be intervals.
            beside: columns of weights and queries.

        Raises:
            InvalidData: it is not there, cannot be read, does not fit, or its queries do not lie
                together.
            FitFailed: there is no room in the folder.
        """
        files = files_of(path, channel=channel) if isinstance(path, Path) else list(path)
        kind = kind_of(files, content_type, channel=channel, reading=reading, labels=labels)
        if kind.base not in COLUMNAR:
            files = _written(files, kind, channel, folder, part_bytes)
            kind = ContentType("application/x-parquet")
        schema = _schema(files, kind, channel)
        source = _Source(tuple(files), kind, schema, channel, part_bytes)
        roles = roles_of(schema, beside or {})
        hidden = _hidden(schema, roles)
        name = ""
        if labels == "required" or label is not None or "label" in schema.names:
            name = label_name(schema.names, label, hidden, channel, intervals=intervals)
        ends = label_columns(schema.names, name) if name else []
        chosen: list[str] = []
        if inputs is None:
            chosen = input_names(schema.names, ends, hidden, features, channel)
        held, seen, count = [], [], 0
        known = list(dict.fromkeys([*ends, *roles.values()]))
        learnt = [name for name in chosen if not is_number(schema.field(name).type)]
        # Without a label and words, one column is read to count the rows.
        for table in source.only([*known, *learnt] or schema.names[:1]).tables():
            count += len(table)
            held.append(table.select(known))
            seen.append(Inputs.of(table.select(learnt), channel=channel).columns)
        pa.default_memory_pool().release_unused()
        if not count:
            raise InvalidData(f"{channel}: there are no rows", channel=channel)
        rows = pa.concat_tables(held)
        target, upper = None, None
        if name:
            target, upper = labels_of(rows, name, channel, intervals=intervals)
        groups = queries_of(rows, roles, channel)
        inputs = inputs or Inputs(_merged(chosen, seen, channel))
        if set(inputs.names) <= set(schema.names):
            source = source.only(inputs.names)
        return cls(
            source=source,
            target=target,
            inputs=inputs,
            bounds=_bounds(count, source.part_rows(), groups, channel),
            label=name,
            channel=channel,
            weights=weights_of(rows, roles, channel),
            groups=groups,
            upper=upper,
        )


@final
@dataclass(frozen=True)
class _Source:
    """Files of columns, with the columns that are wanted of all of them together."""

    files: tuple[Path, ...]
    kind: ContentType
    schema: pa.Schema
    channel: str
    part_bytes: int

    def only(self, names: Sequence[str]) -> _Source:
        """Want these columns."""
        wanted = dict.fromkeys(names)
        return replace(self, schema=pa.schema([self.schema.field(name) for name in wanted]))

    def tables(self) -> Iterator[pa.Table]:
        """Read the files in the types of the schema; a column that one lacks is null there."""
        for file in self.files:
            for table in parts_of(
                file,
                self.kind,
                channel=self.channel,
                part_bytes=self.part_bytes,
                columns=self.schema.names,
            ):
                columns = [
                    table[field.name].cast(field.type)
                    if field.name in table.column_names
                    else pa.nulls(len(table), field.type)
                    for field in self.schema
                ]
                yield pa.table(columns, schema=self.schema)

    def part_rows(self) -> int:
        """Return how many rows a part has."""
        first = next(self.tables())
        return max(1, int(self.part_bytes * len(first) // max(first.nbytes, 1)))


def _hidden(schema: pa.Schema, roles: Mapping[str, str]) -> set[str]:
    """Return the columns that are no inputs unless they are named."""
    manifest = manifest_of(schema) or {}
    marked = {field.name for field in schema if ROLE_KEY in (field.metadata or {})}
    time = {manifest["time"]} if manifest.get("time") else set()
    return {*roles.values(), *manifest.get("keys", ()), *marked, *time}


def _written(
    files: Sequence[Path], kind: ContentType, channel: str, folder: Path, part_bytes: int
) -> list[Path]:
    """Write files of any kind as Parquet, a file for each part."""
    written: list[Path] = []
    for file in files:
        for table in parts_of(file, kind, channel=channel, part_bytes=part_bytes):
            path = folder / f"{channel}-{len(written):05}.parquet"
            try:
                pq.write_table(table, path, compression="lz4", use_dictionary=False)
            except OSError as error:
                raise FitFailed(
                    f"{channel}: the rows do not fit into memory, and cannot be written to "
                    f"{folder}: {error}; make room there, or give the job more memory"
                ) from error
            written.append(path)
    return written


def _schema(files: Sequence[Path], kind: ContentType, channel: str) -> pa.Schema:
    is_parquet = kind.base == "application/x-parquet"
    try:
        schemas = [pq.read_schema(f) if is_parquet else read_arrow(f, {}).schema for f in files]
        return pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(
            f"{channel}: the files of {files[0].parent} do not fit together: {error}",
            channel=channel,
            path=str(files[0].parent),
        ) from error


def _recut(tables: Iterator[pa.Table], bounds: Sequence[int]) -> Iterator[pa.Table]:
    """Cut tables that follow each other at other places."""
    held: list[pa.Table] = []
    rows = 0
    for start, end in itertools.pairwise(bounds):
        while rows < end - start:
            held.append(next(tables))
            rows += len(held[-1])
        whole = pa.concat_tables(held)
        yield whole.slice(0, end - start)
        rows -= end - start
        held = [whole.slice(end - start)] if rows else []


def _bounds(
    count: int, rows: int, groups: npt.NDArray[np.int64] | None, channel: str
) -> tuple[int, ...]:
    """Return where parts begin, no query being cut, and at last the count."""
    starts: npt.NDArray[Any] = np.arange(0, count, rows)
    if groups is not None:
        falls = groups[1:] < groups[:-1]
        if falls.any():
            row = int(falls.argmax()) + 1
            raise InvalidData(
                f"{channel}: rows that do not fit into memory must be in the order of their "
                f"queries, and query {groups[row]} in row {row + 1} follows query "
                f"{groups[row - 1]}: sort them, or give the job more memory",
                channel=channel,
            )
        starts = np.unique(np.searchsorted(groups, groups[starts], side="left"))
    return (*(int(start) for start in starts), count)


def _merged(
    names: Sequence[str], seen: Sequence[tuple[Input, ...]], channel: str
) -> tuple[Input, ...]:
    """Return the inputs of all parts, from what each part knows of those that are no numbers."""
    found: dict[str, Input] = {name: Input(name, "number") for name in names}
    for columns in seen:
        for column in columns:
            before = found[column.name]
            if before.kind == "number":
                found[column.name] = column
                continue
            if before.kind == "vector" and before.size != column.size:
                raise InvalidData(
                    f"{channel}: column {column.name!r} has vectors of {before.size} and of "
                    f"{column.size} numbers, and a vector has the same number in every row",
                    channel=channel,
                    column=column.name,
                )
            words = tuple(sorted({*before.categories, *column.categories}))
            size = max(before.size, column.size)
            found[column.name] = replace(before, categories=words, size=size)
    return tuple(found.values())
