"""An offline table in Delta Lake, local or on an object store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from featurestore.errors import InvalidRequest, StoreFull, StoreUnavailable
from featurestore.offline.base import FileStatistics, OfflineTable, Snapshot

__all__ = ["DeltaOfflineTable"]

_DAY_US: Final = 86_400_000_000
# The log keeps times in whole milliseconds, cut off; before 1970 that is upwards.
_CUT_OFF_US: Final = 1_000
_LOG_GONE: Final = ("No table metadata or protocol", "No files in log segment")


@final
class DeltaOfflineTable(OfflineTable):
    """A Delta table partitioned by event date.

    Args:
        uri: folder or object-store uri of the table.
        storage_options: passed to delta-rs, for object stores.
    """

    def __init__(self, uri: str, *, storage_options: Mapping[str, str] | None = None) -> None:
        self._uri = uri
        self._options = dict(storage_options) if storage_options else None

    def append(self, rows: pa.Table, *, application: str, sequence: int) -> int:
        """See OfflineTable.append."""
        commit = CommitProperties(app_transactions=[Transaction(application, sequence)])
        try:
            table = self._open()
            if table is None:
                # The folder's first commit carries rows and sequence together.
                if "://" not in self._uri:
                    Path(self._uri).mkdir(parents=True, exist_ok=True)
                write_deltalake(
                    self._uri,
                    rows,
                    partition_by=["_event_date"],
                    mode="append",
                    storage_options=self._options,
                    commit_properties=commit,
                )
                table = self._open()
                assert table is not None
            else:
                merge = {f.name for f in table.schema().fields} != set(rows.schema.names)
                write_deltalake(
                    table,
                    rows,
                    mode="append",
                    schema_mode="merge" if merge else None,
                    commit_properties=commit,
                )
                table.update_incremental()
            return int(table.version())
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    def last_sequence(self, application: str) -> int:
        """See OfflineTable.last_sequence."""
        try:
            table = self._open()
            if table is None:
                return 0
            return int(table.transaction_version(application) or 0)
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    def scan(self, *, version: int | None = None) -> Snapshot | None:
        """See OfflineTable.scan.

        Raises:
            InvalidRequest: the table has no such version.
        """
        try:
            table = self._open()
            if table is None:
                if version is None:
                    return None
                raise InvalidRequest(f"{self._uri}: expected a table version, got {version}")
            if version is not None:
                if not 0 <= version <= table.version():
                    raise InvalidRequest(
                        f"{self._uri}: expected a version from 0 to {table.version()}, "
                        f"got {version}"
                    )
                _load(table, version)
            files = table.file_uris()
            if "://" not in self._uri:
                files = map(unquote, files)  # delta-rs writes local paths as parts of a uri
            ordered = tuple(sorted(files))
            known = _statistics(table)
            return Snapshot(
                self._uri,
                int(table.version()),
                ordered,
                tuple(field.name for field in table.schema().fields),
                tuple(known[_base(file)] for file in ordered),
            )
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    def _open(self) -> Any | None:
        try:
            return DeltaTable(self._uri, storage_options=self._options)
        except TableNotFoundError:
            return None

    def _unavailable(self, error: Exception) -> Exception:
        text = str(error)
        if "No space left" in text or "Disk quota" in text:
            return StoreFull(
                f"no space left for the offline table {self._uri}; the records wait in the "
                f"outbox: free space and flush again"
            )
        return StoreUnavailable(
            f"the offline table {self._uri}: {text}; the records wait in the outbox"
        )


def _load(table: Any, version: int) -> None:
    try:
        table.load_as_version(version)
    except DeltaError as error:
        if not any(sign in str(error) for sign in _LOG_GONE):
            raise
        raise InvalidRequest(
            f"{table.table_uri}: version {version} is gone: the log begins after it"
        ) from error


def _statistics(table: Any) -> dict[str, FileStatistics]:
    """Read what the log says of each file, by the file's name, which is unique."""
    actions = pa.table(table.get_add_actions(flatten=True))

    def column(name: str) -> list[Any]:
        if name not in actions.schema.names:
            return [None] * len(actions)
        values = actions[name]
        if pa.types.is_timestamp(values.type):
            values = values.cast(pa.timestamp("us", "UTC")).cast(pa.int64())
        elif pa.types.is_date32(values.type):
            values = values.cast(pa.int32())
        return list(values.to_pylist())

    return {
        _base(path): _of_file(*facts)
        for path, *facts in zip(
            column("path"),
            column("num_records"),
            column("size_bytes"),
            column("min._event_time"),
            column("max._event_time"),
            column("partition._event_date"),
            strict=True,
        )
    }


def _of_file(
    rows: int | None, size_bytes: int, earliest: int | None, latest: int | None, day: int | None
) -> FileStatistics:
    day_us = None if day is None else day * _DAY_US
    earliest_us = None if earliest is None else earliest - _CUT_OFF_US
    latest_us = None if latest is None else latest + _CUT_OFF_US
    if day_us is not None:
        # Only the first columns of a wide table have statistics; the partition bounds them all.
        earliest_us = day_us if earliest_us is None else max(earliest_us, day_us)
        last_us = day_us + _DAY_US - 1
        latest_us = last_us if latest_us is None else min(latest_us, last_us)
    return FileStatistics(rows, size_bytes, earliest_us, latest_us, day_us)


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]
