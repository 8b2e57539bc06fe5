"""What the build of a dataset will read, said before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from featurestore import convert, eventtime, pointintime
from featurestore.dataset import Resolved
from featurestore.datasetbuild import output_names
from featurestore.feature import FeatureType
from featurestore.offline.base import Snapshot

__all__ = ["DatasetPlan", "GroupPlan", "explain"]

_INTERNAL: Final = ("_event_time", "is_deleted", "write_time", "_sequence")
_FOOTERS: Final = 100
# Measured with DuckDB 2.0: what a sorted row takes beside its features, and what Arrow and Python
# take when nothing is read.
_ROW_BYTES: Final = 96
_BASE_BYTES: Final = 64 << 20
_DAY_US: Final = 86_400_000_000


@final
@dataclass(frozen=True, slots=True)
class GroupPlan:
    """What will be read of one selection's feature group.

    Args:
        group: its name.
        version: the Delta version; None: nothing was ever written.
        key: the spine column with the identifier.
        lookback_us: how old a value may be; None: any age.
        files: of the version.
        files_read: those with values that a spine row can see.
        pruned_by_partition: left out because of their event date.
        pruned_by_statistics: left out because of their first and last event time.
        pruned_by_write_time: left out because they were written after the as-of time.
        rows: of the version; None: the log does not say.
        rows_read: in the files that are read.
        size_bytes: of the version's files.
        bytes_read: of the read columns in the read files, compressed; over 100 files an estimate
            from 100 of them.
        columns_read: of the files; identifier and order of versions among them.
        columns: how many the version has.
        memory_bytes: about what the join of this group takes.
    """

    group: str
    version: int | None
    key: str
    lookback_us: int | None
    files: int
    files_read: int
    pruned_by_partition: int
    pruned_by_statistics: int
    pruned_by_write_time: int
    rows: int | None
    rows_read: int | None
    size_bytes: int
    bytes_read: int
    columns_read: tuple[str, ...]
    columns: int
    memory_bytes: int

    def __str__(self) -> str:
        if self.version is None:
            return f"{self.group}: nothing was written yet"
        late = f", {self.pruned_by_write_time:,} by write time" if self.pruned_by_write_time else ""
        reach = "any age" if self.lookback_us is None else f"at most {_span(self.lookback_us)} old"
        return (
            f"{self.group}@{self.version} by {self.key}, {reach}\n"
            f"  files    {self.files_read:,} of {self.files:,} "
            f"({self.pruned_by_partition:,} left out by event date, "
            f"{self.pruned_by_statistics:,} by first and last event time{late})\n"
            f"  rows     {_count(self.rows_read)} of {_count(self.rows)}\n"
            f"  columns  {len(self.columns_read)} of {self.columns}: "
            f"{', '.join(self.columns_read)}\n"
            f"  bytes    {_size(self.bytes_read)} of {_size(self.size_bytes)}\n"
            f"  memory   about {_size(self.memory_bytes)}"
        )


@final
@dataclass(frozen=True, slots=True)
class DatasetPlan:
    """What the build of a dataset will read; `str` says it for people.

    Args:
        rows: of the spine, and of the dataset.
        earliest: the spine's first time, ISO-8601; None without rows.
        latest: the spine's last time.
        columns: of the dataset.
        groups: one per selection, in their order; they are joined one after another.
        memory_bytes: about what the build takes at most, beyond what the process has.
    """

    rows: int
    earliest: str | None
    latest: str | None
    columns: int
    groups: tuple[GroupPlan, ...]
    memory_bytes: int

    def to_json(self) -> dict[str, Any]:
        """Write the plan as JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        times = f" from {self.earliest} to {self.latest}" if self.rows else ""
        return "\n".join(
            [
                f"{self.rows:,} rows{times}, {self.columns} columns",
                *map(str, self.groups),
                f"memory   about {_size(self.memory_bytes)} in all",
            ]
        )


def explain(
    spine: pa.Table, resolved: Sequence[Resolved], *, time: str, as_of_us: int | None = None
) -> DatasetPlan:
    """Say what `datasetbuild.build` with the same arguments will read.

    Raises:
        InvalidSpine: a column is missing, has the wrong type, or a time is null.
        FeatureNotFound: a selection names no feature of its group.

    Cost: reads the footers of at most 100 files a group, and no row.
    """
    times = pointintime.spine_times(spine, time)
    names = output_names(spine.schema.names, resolved)
    groups = []
    for entry, chosen in zip(resolved, names, strict=True):
        key = entry.selection.key or entry.group.record_identifier
        pointintime.spine_keys(spine, key, entry.group)
        groups.append(_group(entry, key, list(chosen), times, as_of_us))
    ends = pc.min_max(times.cast(pa.int64())).as_py()
    result = sum(
        _width(entry, list(chosen)) for entry, chosen in zip(resolved, names, strict=True)
    ) * len(spine)
    return DatasetPlan(
        rows=len(spine),
        earliest=None if ends["min"] is None else eventtime.format_iso(ends["min"]),
        latest=None if ends["max"] is None else eventtime.format_iso(ends["max"]),
        columns=len(spine.schema.names) + sum(map(len, names)),
        groups=tuple(groups),
        memory_bytes=_BASE_BYTES + result + max(group.memory_bytes for group in groups),
    )


def _group(
    entry: Resolved, key: str, features: list[str], times: pa.Array, as_of_us: int | None
) -> GroupPlan:
    snapshot = entry.snapshot
    lookback_us = entry.lookback_us
    if snapshot is None:
        return GroupPlan(
            *(entry.group.name, None, key, lookback_us, 0, 0, 0, 0, 0, 0, 0, 0, 0, (), 0, 0)
        )
    by_time = pointintime.seen_files(snapshot, times, lookback_us)
    read = pointintime.seen_files(snapshot, times, lookback_us, as_of_us=as_of_us)
    assert by_time is not None
    assert read is not None
    by_day = _by_day(snapshot, times, lookback_us)
    asked = dict.fromkeys([entry.group.record_identifier, *_INTERNAL, *features])
    if entry.windows is not None:
        asked = dict.fromkeys([*entry.windows.columns, *_INTERNAL])
    columns = tuple(name for name in asked if name in snapshot.columns)
    rows = _rows(read)
    held = (rows or 0) * (_ROW_BYTES + _width(entry, features))
    return GroupPlan(
        group=entry.group.name,
        version=snapshot.version,
        key=key,
        lookback_us=lookback_us,
        files=len(snapshot.files),
        files_read=len(read.files),
        pruned_by_partition=by_day,
        pruned_by_statistics=len(snapshot.files) - len(by_time.files) - by_day,
        pruned_by_write_time=len(by_time.files) - len(read.files),
        rows=_rows(snapshot),
        rows_read=rows,
        size_bytes=sum(known.size_bytes for known in snapshot.statistics),
        bytes_read=_bytes(read, columns),
        columns_read=columns,
        columns=len(snapshot.columns),
        memory_bytes=held + len(times) * (_ROW_BYTES + _width(entry, features)),
    )


def _by_day(snapshot: Snapshot, times: pa.Array, lookback_us: int | None) -> int:
    """Count the files that their event date alone leaves out."""
    dates = tuple(
        known._replace(
            earliest_us=known.day_us,
            latest_us=None if known.day_us is None else known.day_us + _DAY_US - 1,
        )
        for known in snapshot.statistics
    )
    by_date = Snapshot(snapshot.uri, snapshot.version, snapshot.files, snapshot.columns, dates)
    left = pointintime.seen_files(by_date, times, lookback_us)
    assert left is not None
    return len(snapshot.files) - len(left.files)


def _rows(snapshot: Snapshot) -> int | None:
    rows = [known.rows for known in snapshot.statistics]
    known_rows = [count for count in rows if count is not None]
    return sum(known_rows) if len(known_rows) == len(snapshot.files) else None


def _bytes(snapshot: Snapshot, columns: Sequence[str]) -> int:
    """Add up the read columns' compressed bytes, by the files' footers."""
    step = max(1, -(-len(snapshot.files) // _FOOTERS))
    files = snapshot.files[::step]
    wanted = set(columns)
    found = 0
    for file in files:
        footer = pq.ParquetFile(file).metadata
        for number in range(footer.num_row_groups):
            group = footer.row_group(number)
            chunks = (group.column(index) for index in range(group.num_columns))
            found += sum(
                chunk.total_compressed_size
                for chunk in chunks
                if chunk.path_in_schema.split(".", 1)[0] in wanted
            )
    return round(found * len(snapshot.files) / len(files)) if files else 0


def _width(entry: Resolved, features: Sequence[str]) -> int:
    """Return about how many bytes a row of these features takes in memory."""
    kinds = entry.group.definitions
    plain = {FeatureType.STRING: 32}
    return sum(
        plain.get(kinds[name].type, 8)
        if kinds[name].collection is None
        else 16 + 8 * _length(convert.arrow_type(kinds[name]))
        for name in features
    )


def _length(kind: pa.DataType) -> int:
    """Return the length that is assumed of a list."""
    return int(kind.list_size) if pa.types.is_fixed_size_list(kind) else 32


def _size(size_bytes: int) -> str:
    value = float(size_bytes)
    for unit in ("B", "KB", "MB"):
        if value < 1024:
            return f"{value:,.0f} {unit}"
        value /= 1024
    return f"{value:,.1f} GB"


def _count(rows: int | None) -> str:
    return "an unknown number" if rows is None else f"{rows:,}"


def _span(us: int) -> str:
    return f"{us / 1_000_000:,.6g} s"
