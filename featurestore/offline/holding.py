"""Where a table keeps the rows of an identifier: files and versions."""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.exceptions import DeltaError

from featurestore.offline.delta import DeltaOfflineTable
from featurestore.offline.erase import held_versions, may_have

__all__ = ["Row", "rows_held"]

_INTERNAL = ("_event_time", "write_time", "is_deleted", "_sequence")


class Row(NamedTuple):
    """One record of a table, times in µs since 1970; `files` and `versions` as they hold it."""

    event_time_us: int
    write_time_us: int
    sequence: int
    is_deleted: bool
    files: tuple[str, ...]
    versions: tuple[tuple[int, int], ...]


def rows_held(table: DeltaOfflineTable, column: str, kind: pa.DataType, value: Any) -> list[Row]:
    """Find the rows of an identifier in every version whose files are still there.

    Args:
        table: the group's table.
        column: of the record identifier.
        kind: its Arrow type.
        value: the identifier.

    Returns:
        each record once, oldest first, with all the files and versions that have it.

    Raises:
        StoreUnavailable: the table cannot be read.

    Cost: the statistics of every data file there is; the rows of those whose range fits.
    """
    try:
        opened = table.open()
        if opened is None:
            return []
        system = table.folder()
        found: dict[tuple[int, int, int, bool], list[str]] = {}
        for name in sorted(table.present() | set(table.names(opened))):
            try:
                for key in _rows_of(system, name, column, kind, value):
                    found.setdefault(key, []).append(name)
            except (pa.ArrowInvalid, FileNotFoundError):
                continue  # what a killed writer left, or a vacuum took away meanwhile
        newest = int(opened.version())
        rows = []
        for key, files in sorted(found.items()):
            held = {name: held_versions(system, newest, {name}) for name in files}
            # A file that no version has was never committed.
            files = sorted((name for name in files if held[name]), key=lambda one: held[one])
            if files:
                rows.append(Row(*key, tuple(files), held_versions(system, newest, set(files))))
        return rows
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error


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
