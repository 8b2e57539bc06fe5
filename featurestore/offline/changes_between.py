"""What changed between two versions of an offline table: which files, how many rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, final

from deltalake.exceptions import DeltaError

from featurestore.errors import InvalidRequest
from featurestore.offline.base import FileStatistics
from featurestore.offline.delta import DeltaOfflineTable, environment_options, operation_of

__all__ = ["TableChange", "TableCommit", "changes_between"]

# These rewrite files and leave the rows as they are.
_SAME_ROWS: Final = frozenset({"OPTIMIZE", "VACUUM START", "VACUUM END", "SET TBLPROPERTIES"})


@final
@dataclass(frozen=True)
class TableCommit:
    """One commit between two versions of a table.

    Args:
        version: that it made.
        time: when, UTC; None where the log does not say.
        operation: such as WRITE, OPTIMIZE, DELETE or RESTORE.
    """

    version: int
    time: dt.datetime | None
    operation: str


@final
@dataclass(frozen=True)
class TableChange:
    """What changed between two versions of a table, as its log says.

    Args:
        uri: of the table.
        old_version: the one.
        new_version: the other; may be the older of the two.
        old_rows: rows of the one; None: unknown.
        new_rows: rows of the other; None: unknown.
        files_added: names of the files that only the other has, sorted.
        files_removed: names of the files that only the one has, sorted.
        rows_added: rows of the files added; None: unknown.
        rows_removed: rows of the files removed; None: unknown.
        earliest: no event time in a file added or removed is earlier; None: unknown.
        latest: no event time in a file added or removed is later; None: unknown.
        columns_added: names of the columns that only the other has.
        columns_removed: names of the columns that only the one has.
        commits: those between the two, oldest first; empty where the log is cleaned up.
    """

    uri: str
    old_version: int
    new_version: int
    old_rows: int | None
    new_rows: int | None
    files_added: tuple[str, ...]
    files_removed: tuple[str, ...]
    rows_added: int | None
    rows_removed: int | None
    earliest: dt.datetime | None
    latest: dt.datetime | None
    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    commits: tuple[TableCommit, ...]

    @property
    def has_same_rows(self) -> bool:
        """Whether all that happened in between is known to leave rows as they are."""
        return (
            bool(self.commits) and all(each.operation in _SAME_ROWS for each in self.commits)
        ) or not (self.files_added or self.files_removed)

    @property
    def share(self) -> float:
        """How much of the rows changed, from 0 to 1: those added and removed, of all there were."""
        if self.has_same_rows:
            return 0.0
        added, removed = self.rows_added, self.rows_removed
        if added is None or removed is None or self.old_rows is None:
            return 0.5
        # Files that were rewritten are on both sides: what is more or less than before counts.
        changed = abs(added - removed) if removed else added
        return min(1.0, changed / max(self.old_rows, self.new_rows or 0, 1))

    def summary(self) -> str:
        """Say it in a line.

        >>> TableChange(
        ...     "weather", 3, 5, 100, 120, ("b",), (), 20, 0, None, None, (), (), ()
        ... ).summary()
        'version 3 → 5: 1 file added (20 rows), 100 → 120 rows'
        """
        parts = [
            f"{_plural(len(files), 'file')} {verb}{_in_brackets(rows)}"
            for files, rows, verb in (
                (self.files_added, self.rows_added, "added"),
                (self.files_removed, self.rows_removed, "removed"),
            )
            if files
        ] or ["the same files"]
        if self.old_rows is not None and self.new_rows is not None:
            parts.append(f"{self.old_rows:,} → {self.new_rows:,} rows")
        if self.has_same_rows and (self.files_added or self.files_removed):
            parts.append("only rewritten: the same rows")
        if self.earliest is not None and self.latest is not None:
            days = dict.fromkeys((f"{self.earliest:%Y-%m-%d}", f"{self.latest:%Y-%m-%d}"))
            parts.append(f"event times {' to '.join(days)}")
        for names, verb in ((self.columns_added, "new"), (self.columns_removed, "gone")):
            if names:
                parts.append(f"{verb}: {', '.join(names)}")
        return f"version {self.old_version} → {self.new_version}: {', '.join(parts)}"

    def to_json(self) -> dict[str, Any]:
        """Give it as plain values."""
        return {
            "uri": self.uri,
            "old_version": self.old_version,
            "new_version": self.new_version,
            "old_rows": self.old_rows,
            "new_rows": self.new_rows,
            "files_added": list(self.files_added),
            "files_removed": list(self.files_removed),
            "rows_added": self.rows_added,
            "rows_removed": self.rows_removed,
            "earliest": None if self.earliest is None else self.earliest.isoformat(),
            "latest": None if self.latest is None else self.latest.isoformat(),
            "columns_added": list(self.columns_added),
            "columns_removed": list(self.columns_removed),
            "has_same_rows": self.has_same_rows,
            "commits": [
                {
                    "version": each.version,
                    "time": None if each.time is None else each.time.isoformat(),
                    "operation": each.operation,
                }
                for each in self.commits
            ],
        }


def changes_between(
    uri: str, old: int, new: int, *, storage_options: Mapping[str, str] | None = None
) -> TableChange:
    """Compare two versions of a table by its log; no data file is read.

    Args:
        uri: folder or object-store uri of the table.
        old: Delta version, from 0.
        new: Delta version; may be the older of the two.
        storage_options: for object stores; None: what the environment says.

    Raises:
        InvalidRequest: there is no table, or no such version, or its log was cleaned up.
        StoreUnavailable: the table cannot be read.
    """
    options = environment_options(uri) if storage_options is None else storage_options
    table = DeltaOfflineTable(uri, storage_options=options)
    try:
        opened = table.open()
        if opened is None:
            raise InvalidRequest(f"{uri}: expected an offline table, found none")
        commits = _commits(opened, old, new)
        # The newer first: an open table knows of no version after the one it was turned to.
        known = {
            version: _files(table, opened, version) for version in (max(old, new), min(old, new))
        }
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error
    (before, old_columns), (after, new_columns) = known[old], known[new]
    added = sorted(after.keys() - before.keys())
    removed = sorted(before.keys() - after.keys())
    changed = [after[name] for name in added] + [before[name] for name in removed]
    return TableChange(
        uri,
        old,
        new,
        _rows(before.values()),
        _rows(after.values()),
        tuple(added),
        tuple(removed),
        _rows(after[name] for name in added),
        _rows(before[name] for name in removed),
        _time(min, [file.earliest_us for file in changed]),
        _time(max, [file.latest_us for file in changed]),
        tuple(name for name in new_columns if name not in old_columns),
        tuple(name for name in old_columns if name not in new_columns),
        commits,
    )


def _files(
    table: DeltaOfflineTable, opened: Any, version: int
) -> tuple[dict[str, FileStatistics], list[str]]:
    """Read the files of a version, by name, and its columns."""
    table.load(opened, version)
    return table.statistics(opened), [field.name for field in opened.schema().fields]


def _commits(opened: Any, old: int, new: int) -> tuple[TableCommit, ...]:
    """Read the commits between two versions; none when the log does not reach back that far."""
    first, last = min(old, new) + 1, max(old, new)
    found = [
        TableCommit(
            int(entry["version"]),
            dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC)
            if "timestamp" in entry
            else None,
            operation_of(entry),
        )
        for entry in opened.history()
        if first <= int(entry["version"]) <= last
    ]
    found.sort(key=lambda each: each.version)
    return tuple(found) if len(found) == last - first + 1 else ()


def _rows(files: Iterable[FileStatistics]) -> int | None:
    counts = [known.rows for known in files]
    return None if None in counts else sum(count or 0 for count in counts)


def _time(
    choose: Callable[[Iterable[int]], int], times_us: Sequence[int | None]
) -> dt.datetime | None:
    known = [time for time in times_us if time is not None]
    if not known or len(known) < len(times_us):
        return None
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=choose(known))


def _in_brackets(rows: int | None) -> str:
    return "" if rows is None else f" ({_plural(rows, 'row')})"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
