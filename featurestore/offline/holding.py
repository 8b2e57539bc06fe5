"""Where a table keeps the rows of an identifier: files and versions."""

from __future__ import annotations

import re
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from featurestore import eventtime
from featurestore.offline.delta import DeltaOfflineTable
from featurestore.offline.erase import may_have, stretches, versions_by_file

__all__ = ["Row", "rows_held"]

_PARTITION: Final = re.compile(r"_event_date=(\d{4}-\d\d-\d\d)/")
_INTERNAL: Final = ("_event_time", "write_time", "is_deleted", "_sequence")


class Row(NamedTuple):
    """One record of a table, times in µs since 1970; `files` and `versions` as they hold it."""

    event_time_us: int
    write_time_us: int
    sequence: int
    is_deleted: bool
    files: tuple[str, ...]
    versions: tuple[tuple[int, int], ...]


def rows_held(
    table: DeltaOfflineTable,
    column: str,
    kind: pa.DataType,
    value: Any,
    *,
    first_us: int | None = None,
    last_us: int | None = None,
) -> list[Row]:
    """Find the rows of an identifier in every version whose files are still there.

    Args:
        table: the group's table.
        column: of the record identifier.
        kind: its Arrow type.
        value: the identifier.
        first_us: only rows of this event time or later; None: all.
        last_us: only rows of this event time or earlier; None: all.

    Returns:
        each record once, oldest first, with all the files and versions that have it.

    Raises:
        StoreUnavailable: the table cannot be read.

    Cost: the statistics of every data file of the days asked for; the rows of those whose range
    fits; the table's log, once.
    """
    try:
        opened = table.open()
        if opened is None:
            return []
        system = table.folder()
        days = (_day(first_us), _day(last_us))
        found: dict[tuple[int, int, int, bool], list[str]] = {}
        for name in sorted(table.present() | set(table.names(opened))):
            if not _is_of(name, *days):
                continue
            try:
                for key in _rows_of(system, name, column, kind, value):
                    if (first_us is None or key[0] >= first_us) and (
                        last_us is None or key[0] <= last_us
                    ):
                        found.setdefault(key, []).append(name)
            except (pa.ArrowInvalid, FileNotFoundError):
                continue  # what a killed writer left, or a vacuum took away meanwhile
        files = {name for names in found.values() for name in names}
        held = versions_by_file(system, int(opened.version()), files) if files else {}
        rows = []
        for key, names in sorted(found.items()):
            # A file that no version has was never committed.
            committed = sorted((name for name in names if held[name]), key=lambda n: min(held[n]))
            if committed:
                versions = stretches(set().union(*(held[name] for name in committed)))
                rows.append(Row(*key, tuple(committed), versions))
        return rows
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error


def _day(time_us: int | None) -> str | None:
    return None if time_us is None else eventtime.to_datetime(time_us).date().isoformat()


def _is_of(name: str, first: str | None, last: str | None) -> bool:
    """Whether a file may have rows of the days from first to last; unknown days may."""
    day = _PARTITION.match(name)
    if day is None:
        return True
    return (first is None or day[1] >= first) and (last is None or day[1] <= last)


def _rows_of(
    system: Any, name: str, column: str, kind: pa.DataType, value: Any
) -> list[tuple[int, int, int, bool]]:
    """The identifier's rows of one file, by what tells them apart."""
    found: list[tuple[int, int, int, bool]] = []
    with system.open_input_file(name) as opened, pq.ParquetFile(opened) as file:
        if column not in file.schema_arrow.names:
            return []
        place = file.schema_arrow.names.index(column)
        for group in range(file.num_row_groups):
            statistics = file.metadata.row_group(group).column(place).statistics
            if not may_have(statistics, [value]):
                continue
            rows = file.read_row_group(group, columns=[column, *_INTERNAL])
            # delta-rs writes texts of a kind (string_view) that Arrow cannot compare.
            rows = rows.filter(pc.equal(rows[column].cast(kind), value))
            times = [
                rows[name].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
                for name in ("_event_time", "write_time")
            ]
            found += zip(
                *times, rows["_sequence"].to_pylist(), rows["is_deleted"].to_pylist(), strict=True
            )
    return found
