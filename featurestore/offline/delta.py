"""An offline table in Delta Lake, local or on an object store."""

from __future__ import annotations

import datetime as dt
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs as pa_fs
from deltalake import (
    ColumnProperties,
    CommitProperties,
    PostCommitHookProperties,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError

from featurestore.errors import InvalidRequest, StoreFull, StoreUnavailable
from featurestore.offline.base import FileStatistics, OfflineTable, Snapshot
from featurestore.offline.cache import FileCache, file_system
from featurestore.offline.handle import OpenTable, OpenTables, open_table

__all__ = [
    "REWRITE_MARK",
    "TABLE_PROPERTIES",
    "DeltaOfflineTable",
    "environment_options",
    "operation_of",
]

# Readers prune by these two columns alone. Each commit goes through the statistics of all files,
# so those of the features would cost more than the append itself; and the log names no values.
_CHECKPOINT_COMMITS: Final = 100
TABLE_PROPERTIES: Final = {
    "delta.dataSkippingStatsColumns": "_event_time,write_time",
    # Who opens the table reads the commits since the last one.
    "delta.checkpointInterval": str(_CHECKPOINT_COMMITS),
}

# In the commits that put sorted files into the place of others.
REWRITE_MARK: Final = "featureline.sorted"
_TRIES: Final = 5
# Commits need "put if absent"; every current S3 server has it by ETag.
_S3_DEFAULTS: Final = {"aws_conditional_put": "etag"}


def environment_options(uri: str) -> dict[str, str] | None:
    """Return the storage options of a uri: for S3 what `AWS_*` says now, which is stored nowhere.

    >>> environment_options("/srv/store/offline/weather") is None
    True
    """
    if not uri.startswith("s3://"):
        return None
    given = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return _S3_DEFAULTS | {name.lower(): value for name, value in given.items()}


_DAY_US: Final = 86_400_000_000
# The log keeps times in whole milliseconds, cut off; before 1970 that is upwards.
_CUT_OFF_US: Final = 1_000
_LOG_GONE: Final = ("No table metadata or protocol", "No files in log segment")
_OPEN: Final = OpenTables()


@final
class DeltaOfflineTable(OfflineTable):
    """A Delta table partitioned by event date.

    Args:
        uri: folder or object-store uri of the table.
        storage_options: passed to delta-rs, for object stores.
        cache: keeps the files of a table on an object store for reading; a local table needs none.
    """

    def __init__(
        self,
        uri: str,
        *,
        storage_options: Mapping[str, str] | None = None,
        cache: FileCache | None = None,
    ) -> None:
        self.uri = uri
        self._options = dict(storage_options) if storage_options else None
        self._cache = cache
        self._holding: ExitStack | None = None
        self._held: OpenTable | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Read the log once for all that is done meanwhile, by one thread: at its first use.

        What others commit after that is not seen, but where an append of one's own meets it.
        """
        with ExitStack() as self._holding:
            try:
                yield
            finally:
                self._holding = self._held = None

    @property
    def storage_options(self) -> dict[str, str] | None:
        """What delta-rs is opened with."""
        return self._options

    @property
    def is_local(self) -> bool:
        """Whether the table is a folder."""
        return "://" not in self.uri

    def append(self, rows: pa.Table, *, application: str, sequence: int) -> int:
        """See OfflineTable.append."""
        commit = CommitProperties(app_transactions=[Transaction(application, sequence)])
        try:
            attempt = 0
            while True:
                try:
                    return self._append(rows, commit)
                except CommitFailedError:
                    # Another writer changed what no append can pass, such as the properties.
                    attempt += 1
                    if attempt == _TRIES or self.last_sequence(application) >= sequence:
                        raise
                    time.sleep(0.05 * 2**attempt)
        except (DeltaError, OSError) as error:
            raise self.failure(error) from error

    def last_sequence(self, application: str) -> int:
        """See OfflineTable.last_sequence."""
        try:
            with self._newest() as table:
                if table is None:
                    return 0
                return int(table.delta.transaction_version(application) or 0)
        except (DeltaError, OSError) as error:
            raise self.failure(error) from error

    def version(self) -> int | None:
        """See OfflineTable.version."""
        try:
            with self._newest() as table:
                return None if table is None else table.version
        except (DeltaError, OSError) as error:
            raise self.failure(error) from error

    def scan(self, *, version: int | None = None) -> Snapshot | None:
        """See OfflineTable.scan.

        The files of a table on an object store are brought into the cache first.

        Raises:
            InvalidRequest: the table has no such version, or a vacuum took its files away.
        """
        try:
            if version is None:
                with self._newest() as newest:
                    return None if newest is None else self._snapshot(newest.delta)
            table = self.open()
            if table is None:
                raise InvalidRequest(f"{self.uri}: expected a table version, got {version}")
            self.load(table, version)
            snapshot = self._snapshot(table)
            # Only old versions lose files, so the newest one is not looked through on every read.
            if self.is_local and not all(map(os.path.exists, snapshot.files)):
                raise self.vacuumed(version)
            return snapshot
        except FileNotFoundError as error:
            raise self.vacuumed(version) from error
        except (DeltaError, OSError) as error:
            raise self.failure(error) from error

    def open(self) -> Any | None:
        """Return the newest version as delta-rs has it; None when nothing was written yet."""
        return open_table(self.uri, self._options)

    def load(self, table: Any, version: int) -> None:
        """Turn an open table to one of its versions.

        Raises:
            InvalidRequest: there is no such version, or its log was cleaned up.
        """
        newest = int(table.version())
        if not 0 <= version <= newest:
            raise InvalidRequest(
                f"{self.uri}: expected a version from 0 to {newest}, got {version}"
            )
        try:
            table.load_as_version(version)
        except DeltaError as error:
            if not any(sign in str(error) for sign in _LOG_GONE):
                raise
            raise self.vacuumed(version) from error

    def names(self, opened: Any) -> list[str]:
        """Return the files of an open table, as paths in its folder."""
        return [unquote(path) for path in self.actions(opened)["path"].to_pylist()]

    def actions(self, opened: Any) -> pa.Table:
        """Return what the log says of each file of an open table, one column per fact."""
        return _actions(opened)

    def statistics(self, opened: Any) -> dict[str, FileStatistics]:
        """Return what the log says of each file of an open table, by the file's name."""
        return _statistics(opened)

    def present(self) -> set[str]:
        """Return the paths of all data files that are there, of any version or of none.

        Raises:
            OSError: the object store cannot be reached.
        """
        if self.is_local:
            root = Path(self.uri)
            return {str(path.relative_to(root)) for path in root.glob("_event_date=*/*.parquet")}
        files = self.folder().get_file_info(pa_fs.FileSelector("", recursive=True))
        return {
            file.path for file in files if file.is_file and file.path.startswith("_event_date=")
        }

    def log_files(self) -> list[tuple[str, dt.datetime]]:
        """Return the name and the time of the last change of each file of the table's log.

        Raises:
            OSError: the object store cannot be reached.
        """
        files = self.folder().get_file_info(pa_fs.FileSelector("_delta_log"))
        return [(file.base_name, file.mtime) for file in files if file.is_file]

    def folder(self) -> Any:
        """Return the table's folder as an Arrow file system."""
        return file_system(self.uri, self._options)

    def forget(self, names: Sequence[str]) -> None:
        """Remove files from the cache, as far as they are in it."""
        if self._cache is not None:
            self._cache.forget(self.uri, names)

    def vacuumed(self, version: int | None) -> InvalidRequest:
        """Build the error of a version that maintenance has taken away."""
        return InvalidRequest(
            f"{self.uri}: version {version} cannot be read any more: a vacuum took its files away "
            f"when they were older than the retention, or an erasure did; choose a later version "
            f"(`featureline group history` lists them)"
        )

    def failure(self, error: Exception) -> Exception:
        """Say what an error of delta-rs or of the system means for the caller."""
        text = str(error)
        if "No space left" in text or "Disk quota" in text:
            return StoreFull(
                f"no space left for the offline table {self.uri}; the records wait in the "
                f"outbox: free space and flush again"
            )
        return StoreUnavailable(
            f"the offline table {self.uri}: {text}; the records wait in the outbox"
        )

    @contextmanager
    def _newest(self) -> Iterator[OpenTable | None]:
        newest = _OPEN.newest(self.uri, self._options)
        if self._holding is None:
            with newest as table:
                yield table
            return
        if self._held is None:
            self._held = self._holding.enter_context(newest)
        try:
            yield self._held
        except BaseException:
            self._held = None  # it may not be the newest one any more
            raise

    def _append(self, rows: pa.Table, commit: CommitProperties) -> int:
        with self._newest() as table:
            if table is not None:
                merge = {f.name for f in table.delta.schema().fields} != set(rows.schema.names)
                # Looking for commits that are older than is kept goes through the whole log: with
                # each checkpoint is enough.
                makes_checkpoint = (table.version + 2) % _CHECKPOINT_COMMITS == 0
                write_deltalake(
                    table.delta,
                    rows,
                    mode="append",
                    schema_mode="merge" if merge else None,
                    writer_properties=_writer_properties(rows.schema),
                    commit_properties=commit,
                    post_commithook_properties=PostCommitHookProperties(
                        cleanup_expired_logs=None if makes_checkpoint else False
                    ),
                )
                table.committed()
                return table.version
        # The folder's first commit carries rows and sequence together.
        if self.is_local:
            Path(self.uri).mkdir(parents=True, exist_ok=True)
        write_deltalake(
            self.uri,
            rows,
            partition_by=["_event_date"],
            mode="append",
            configuration=dict[str, str | None](TABLE_PROPERTIES),
            storage_options=self._options,
            writer_properties=_writer_properties(rows.schema),
            commit_properties=commit,
        )
        version = self.version()
        assert version is not None
        return version

    def _snapshot(self, table: Any) -> Snapshot:
        if self.is_local or self._cache is None:
            # delta-rs writes local paths as parts of a uri.
            files = map(unquote, table.file_uris()) if self.is_local else table.file_uris()
            paths = tuple(sorted(files))
        else:
            names = self.names(table)
            paths = tuple(sorted(self._cache.fetch(self.uri, names, self._options)))
        known = _statistics(table)
        return Snapshot(
            self.uri,
            int(table.version()),
            paths,
            tuple(field.name for field in table.schema().fields),
            tuple(known[_base(path)] for path in paths),
        )


def operation_of(commit: Mapping[str, Any]) -> str:
    """Return what made a version, by Delta's name, of an entry of its history.

    >>> operation_of({"operation": "WRITE", REWRITE_MARK: "user"})
    'OPTIMIZE'
    """
    # delta-rs calls every commit of files a WRITE.
    return "OPTIMIZE" if REWRITE_MARK in commit else str(commit.get("operation", ""))


def _writer_properties(columns: pa.Schema) -> WriterProperties:
    """Choose how appended columns are written.

    A dictionary of numbers or times, of which hardly two are equal, is most of the work of
    writing them and makes them larger.
    """
    plain = ColumnProperties(dictionary_enabled=False)
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
    return WriterProperties(
        compression="LZ4_RAW",
        column_properties={
            field.name: plain for field in columns if any(is_kind(field.type) for is_kind in kinds)
        },
    )


def _actions(table: Any) -> pa.Table:
    # pa.table would first ask whether it is a DataFrame, and import pandas for that: 0.3 s.
    return pa.RecordBatchReader.from_stream(table.get_add_actions(flatten=True)).read_all()


def _statistics(table: Any) -> dict[str, FileStatistics]:
    """Read what the log says of each file, by the file's name, which is unique."""
    actions = _actions(table)

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
            column("min.write_time"),
            strict=True,
        )
    }


def _of_file(
    rows: int | None,
    size_bytes: int,
    earliest: int | None,
    latest: int | None,
    day: int | None,
    written: int | None,
) -> FileStatistics:
    day_us = None if day is None else day * _DAY_US
    earliest_us = None if earliest is None else earliest - _CUT_OFF_US
    latest_us = None if latest is None else latest + _CUT_OFF_US
    if day_us is not None:
        # Only the first columns of a wide table have statistics; the partition bounds them all.
        earliest_us = day_us if earliest_us is None else max(earliest_us, day_us)
        last_us = day_us + _DAY_US - 1
        latest_us = last_us if latest_us is None else min(latest_us, last_us)
    first_written_us = None if written is None else written - _CUT_OFF_US
    return FileStatistics(rows, size_bytes, earliest_us, latest_us, day_us, first_written_us)


def _base(path: str) -> str:
    return path.rsplit("/", 1)[-1]
