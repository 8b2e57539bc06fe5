"""Maintenance of an offline table: few large sorted files in place of many small ones.

Every flush adds a small file per event date. Maintenance rewrites the dates where that is worth
it (see `rewrite`), as commits beside those of the flusher, which pass each other. The flusher's
last sequence is a part of the table's state that no rewrite touches, so its exactly-once check
holds as before. A kill leaves either the old or the new files in the table; the others are found
and removed by a later vacuum.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, NamedTuple, final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import WriterProperties
from deltalake.exceptions import CommitFailedError, DeltaError

from featurestore.errors import InvalidRequest, StoreUnavailable
from featurestore.offline.delta import TABLE_PROPERTIES, DeltaOfflineTable
from featurestore.offline.files import TARGET_BYTES
from featurestore.offline.pinning import age_of_log, age_of_oldest, readable
from featurestore.offline.rewrite import ActiveFile, active_files, rewrite_sorted

__all__ = [
    "DEFAULT_RETENTION",
    "MaintenanceReport",
    "Rewrite",
    "maintain",
    "plan",
    "vacuum_unpinned",
]

DEFAULT_RETENTION: Final = dt.timedelta(days=7)
# So many small files in one date are worth a rewrite.
MIN_SMALL_FILES: Final = 4
# A date larger than this is not written anew as a whole: only its small files are put together.
MAX_WHOLE_BYTES: Final = 1 << 30
# One commit rewrites so much at most; a kill loses no more work than that.
_COMMIT_BYTES: Final = 512 << 20
_COMMIT_DATES: Final = 64
_CHECKPOINT_COMMITS: Final = 50
_TRIES: Final = 5
_MIN_LOG_RETENTION: Final = dt.timedelta(days=1)
_LOG_RETENTION: Final = "delta.logRetentionDuration"
_FILE_RETENTION: Final = "delta.deletedFileRetentionDuration"


class Rewrite(NamedTuple):
    """One event date whose files are worth a rewrite.

    Args:
        date: the partition's value, as the table's log has it.
        files: that are read.
        is_whole: whether these are all files of the date; else only the small ones.
    """

    date: str
    files: tuple[ActiveFile, ...]
    is_whole: bool

    @property
    def size_bytes(self) -> int:
        """How much is read."""
        return sum(file.size_bytes for file in self.files)


@final
@dataclass(frozen=True, slots=True)
class MaintenanceReport:
    """What one maintenance of a group's table did.

    Args:
        group: the feature group.
        version: of the table afterwards; None: nothing was ever written.
        dates: event dates that were rewritten.
        files_before: files of the newest version before.
        files_after: and afterwards.
        bytes_before: size of these files before.
        bytes_after: and afterwards.
        files_removed: files of older versions, and of killed writers, that the vacuum deleted.
        seconds: how long it took.
    """

    group: str
    version: int | None
    dates: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    files_removed: int = 0
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return asdict(self)


def plan(table: DeltaOfflineTable, *, zorder: bool = True) -> list[Rewrite]:
    """Say which event dates are worth a rewrite, by date; none twice in a row.

    A date is when it has at least four files below half the target of 128 MiB. Dates of up to
    1 GiB are sorted by identifier as a whole; of others the small files are.

    Args:
        table: the group's table.
        zorder: False: small files are only put together.

    Raises:
        StoreUnavailable: the table cannot be read.
    """
    try:
        opened = table.open()
        return [] if opened is None else _plan(active_files(table, opened), zorder=zorder)
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error


def maintain(
    table: DeltaOfflineTable,
    group: str,
    *,
    identifier: str,
    retention: dt.timedelta,
    zorder: bool = True,
    spill: Path,
    flushes_paused: Callable[[], AbstractContextManager[None]],
    pinned: Callable[[], Sequence[int]] = tuple,
    pause: Callable[[str], bool] | None = None,
    begin: Callable[[], None] = lambda: None,
) -> MaintenanceReport:
    """Rewrite what is worth it, write a checkpoint, and delete files that no version needs.

    Done twice, the second time finds nothing to do. Only one process may maintain a table at a
    time.

    Args:
        table: the group's table.
        group: its name, for the report.
        identifier: column that is sorted by.
        retention: how long files that left the table are kept, for datasets and readers of older
            versions; >= 0. With 0, who reads an older version now loses its files, but for those
            that are pinned.
        zorder: whether to sort by the identifier and, of each, by version.
        spill: an existing folder, for what a sort cannot hold in memory.
        flushes_paused: holds off the flusher, while files are deleted that it may be writing.
        pinned: gives versions that stay readable, however old they are; asked when there is
            something that may go.
        pause: called with the name of each step before it is taken; False ends the maintenance.
        begin: called before each change of the table's files or versions; what it raises keeps the
            change from being made. A checkpoint of the log is none.

    Raises:
        InvalidRequest: the retention is negative.
        StoreUnavailable, StoreFull: the table could not be read or written; it is whole.
    """
    check_retention(retention)
    began = time.monotonic()
    go_on = pause or (lambda step: True)
    try:
        opened = table.open()
        if opened is None:
            return MaintenanceReport(group, None)
        before = active_files(table, opened)
        keep = cache(lambda: readable(table, pinned()))
        if _log_may_go(table, retention) and keep() and go_on("log"):
            _keep_log(table, retention, keep, flushes_paused, begin)  # a rewrite cleans the log up
        dates = 0
        for batch in _batches(_plan(before, zorder=zorder)):
            if not go_on("rewrite"):
                break
            begin()
            if not zorder:
                _compact(table, batch)
            elif not rewrite_sorted(
                table,
                [file for rewrite in batch for file in rewrite.files],
                identifier=identifier,
                spill=spill,
                flushes_paused=flushes_paused,
            ):
                continue  # another process was faster
            dates += len(batch)
        opened = _reopened(table)
        if go_on("checkpoint"):
            _keep_log(table, retention, keep, flushes_paused, begin)
            opened = _reopened(table)
            if dates or int(opened.version()) % _CHECKPOINT_COMMITS == 0:
                opened.create_checkpoint()
                opened.cleanup_metadata()
        removed = _vacuum(table, retention, keep, flushes_paused, begin) if go_on("vacuum") else 0
        opened = _reopened(table)
        after = active_files(table, opened)
    except (DeltaError, OSError, pa.ArrowInvalid) as error:
        raise table.failure(error) from error
    return MaintenanceReport(
        group,
        int(opened.version()),
        dates,
        len(before),
        len(after),
        sum(file.size_bytes for file in before),
        sum(file.size_bytes for file in after),
        removed,
        time.monotonic() - began,
    )


def vacuum_unpinned(
    table: DeltaOfflineTable,
    keep: Sequence[int],
    *,
    retention: dt.timedelta,
    flushes_paused: Callable[[], AbstractContextManager[None]],
    dry_run: bool = False,
) -> dict[str, int]:
    """Delete files of older versions but for those that some versions have; the log stays.

    Args:
        table: a local one.
        keep: versions that stay readable, beside the newest and those within the retention.
        retention: how long files that left the table are kept in any case; >= 0.
        flushes_paused: holds off the flusher, while files are deleted that it may be writing.
        dry_run: whether only to say what would go.

    Returns:
        path within the table → bytes, of what was deleted or would be.

    Raises:
        InvalidRequest: the retention is negative.
        StoreUnavailable: the table cannot be read or written.
    """
    check_retention(retention)
    hours = -int(-retention.total_seconds() // 3600)
    gone: dict[str, int] = {}
    try:
        with flushes_paused():
            opened = table.open()
            if opened is None:
                return {}
            options: Any = {
                "retention_hours": hours,
                "enforce_retention_duration": False,
                "full": True,
                "keep_versions": [*readable(table, keep), int(opened.version())],
            }
            named = map(unquote, opened.vacuum(dry_run=True, **options))
            for name in sorted(table.present().intersection(named)):
                gone[name] = os.stat(os.path.join(table.uri, name)).st_size
            if gone and not dry_run:
                opened.vacuum(dry_run=False, **options)
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error
    if gone and not dry_run:
        _remove_empty_folders(table.uri)
    return gone


def check_retention(retention: dt.timedelta) -> None:
    """Refuse a negative retention.

    Raises:
        InvalidRequest: it is below 0.
    """
    if retention < dt.timedelta(0):
        raise InvalidRequest(f"retention: expected 0 or more, got {retention}")


def _plan(files: Sequence[ActiveFile], *, zorder: bool) -> list[Rewrite]:
    by_date: dict[str, list[ActiveFile]] = {}
    for file in files:
        by_date.setdefault(file.date, []).append(file)
    rewrites = []
    for date, of_date in sorted(by_date.items()):
        small = [file for file in of_date if file.size_bytes < TARGET_BYTES // 2]
        if len(small) < MIN_SMALL_FILES:
            continue
        is_whole = zorder and sum(file.size_bytes for file in of_date) <= MAX_WHOLE_BYTES
        rewrites.append(Rewrite(date, tuple(of_date if is_whole else small), is_whole))
    return rewrites


def _batches(rewrites: Sequence[Rewrite]) -> Iterator[list[Rewrite]]:
    """Put rewrites together into commits."""
    batch: list[Rewrite] = []
    for rewrite in rewrites:
        full = sum(r.size_bytes for r in batch) + rewrite.size_bytes > _COMMIT_BYTES
        if batch and (full or len(batch) >= _COMMIT_DATES):
            yield batch
            batch = []
        batch.append(rewrite)
    if batch:
        yield batch


def _compact(table: DeltaOfflineTable, batch: Sequence[Rewrite]) -> None:
    """Put small files together, in any order of rows."""
    dates: Any = [("_event_date", "in", [rewrite.date for rewrite in batch])]
    properties = WriterProperties(compression="ZSTD", max_row_group_size=131_072)
    _retried(
        lambda: _reopened(table).optimize.compact(
            partition_filters=dates, target_size=TARGET_BYTES, writer_properties=properties
        )
    )


def _keep_log(
    table: DeltaOfflineTable,
    retention: dt.timedelta,
    keep: Callable[[], Sequence[int]],
    flushes_paused: Callable[[], AbstractContextManager[None]],
    begin: Callable[[], None],
) -> None:
    """Let the log tell of removed files, and of versions, as long as these can be read.

    delta-rs by itself forgets removed files after a week and versions after thirty days: a longer
    retention would not hold. Of versions that are to stay the log goes back to the oldest.
    """
    log = files = _kept_s(retention)
    if _log_may_go(table, retention) and keep():
        oldest = int((age_of_log(table, keep()[0]) + _MIN_LOG_RETENTION).total_seconds())
        # Doubled, so that a version that grows older seldom changes the table.
        log = files << max(0, math.ceil(math.log2(oldest / files)))
    kept = {
        _LOG_RETENTION: f"interval {log} seconds",
        _FILE_RETENTION: f"interval {files} seconds",
    }
    wanted = TABLE_PROPERTIES | kept  # older stores made tables without

    def is_said() -> bool:
        said: dict[str, str] = _reopened(table).metadata().configuration
        return wanted.items() <= said.items()

    if not is_said():
        begin()
        with flushes_paused():  # an append cannot pass a change of the table's properties
            _retried(lambda: _reopened(table).alter.set_table_properties(wanted))


def _kept_s(retention: dt.timedelta) -> int:
    """Seconds that the log tells of removed files, and at least of versions."""
    return int(max(retention, _MIN_LOG_RETENTION).total_seconds())


def _log_may_go(table: DeltaOfflineTable, retention: dt.timedelta) -> bool:
    """Whether a part of the log is so old that it goes, but for versions that are to stay."""
    return (age_of_oldest(table) + _MIN_LOG_RETENTION).total_seconds() > _kept_s(retention)


def _vacuum(
    table: DeltaOfflineTable,
    retention: dt.timedelta,
    keep: Callable[[], Sequence[int]],
    flushes_paused: Callable[[], AbstractContextManager[None]],
    begin: Callable[[], None],
) -> int:
    """Delete files that no version within the retention, or to be kept, has; return how many."""
    removed: list[str] = []
    # Rounded up: never less is kept than was asked for.
    hours = -int(-retention.total_seconds() // 3600)
    # Files that nothing refers to, too: a killed writer leaves them. By age the vacuum tells
    # them from those that a writer is about to commit, so with a short retention none may be.
    options: Any = {"retention_hours": hours, "enforce_retention_duration": False, "full": True}

    def going(opened: Any) -> set[str]:
        # It names files again that an earlier one has deleted.
        named = map(unquote, opened.vacuum(dry_run=True, **options))
        return table.present().intersection(named)

    def delete() -> None:
        opened = _reopened(table)
        if keep():
            options["keep_versions"] = [*keep(), int(opened.version())]
        # A vacuum is two commits, also one that finds nothing.
        if there := going(opened):
            begin()
            opened.vacuum(dry_run=False, **options)
            removed.extend(there)

    # Most find nothing, and ask neither what is to stay nor the flusher to wait.
    if going(_reopened(table)):
        keep()
        with flushes_paused():
            _retried(delete)
    if table.is_local:
        _remove_empty_folders(table.uri)
    return len(removed)


def _remove_empty_folders(uri: str) -> None:
    with os.scandir(uri) as entries:
        folders = [entry.path for entry in entries if entry.name.startswith("_event_date=")]
    for folder in folders:
        with contextlib.suppress(OSError):  # it is not empty
            os.rmdir(folder)


def _reopened(table: DeltaOfflineTable) -> Any:
    opened = table.open()
    if opened is None:
        raise StoreUnavailable(f"the offline table {table.uri} is gone; restore a backup")
    return opened


def _retried(commit: Callable[[], None]) -> None:
    """Make a commit; where another writer was faster, on the table as it is then."""
    for attempt in range(1, _TRIES + 1):
        try:
            return commit()
        except CommitFailedError:
            if attempt == _TRIES:
                raise
            time.sleep(0.05 * 2**attempt)
