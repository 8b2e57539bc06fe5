"""The log of a Delta table, commit by commit: which files a version added, removed and changed."""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, final
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs
from deltalake import DeltaTable, Schema
from deltalake.exceptions import DeltaError, TableNotFoundError
from deltalake.fs import DeltaStorageHandler

from ingest.errors import IngestError, PositionLost, SourceNotFound, SourceUnavailable

__all__ = ["Commit", "DataFile", "DeltaLog", "TableDefinition"]

_COLOUR: Final = re.compile(r"\x1b\[[0-9;]*m")
_CHANGE_FEED: Final = "delta.enableChangeDataFeed"
_COLUMN_MAPPING: Final = "delta.columnMapping.mode"


@final
@dataclass(frozen=True, slots=True)
class DataFile:
    """A Parquet file of a table.

    Args:
        path: below the table's folder.
        partition: column → value as text; None: null.
        has_deleted_rows: some of its rows count as deleted by a vector beside it.
    """

    path: str
    partition: Mapping[str, str | None]
    has_deleted_rows: bool = False


@final
@dataclass(frozen=True, slots=True)
class TableDefinition:
    """What the log says of a table from some version on.

    Args:
        table_id: given when the table was made; no other table has it.
        schema: with all columns, those of the partition among them.
        has_change_feed: from now on changes of rows are written beside the table's files.
    """

    table_id: str
    schema: pa.Schema
    has_change_feed: bool


@final
@dataclass(frozen=True, slots=True)
class Commit:
    """What one version did.

    Args:
        version: its number.
        time_us: when it was committed, µs UTC; None: it does not say.
        operation: the writer's word for it.
        added: files that brought rows.
        removed: files whose rows went, or went into an added one.
        changes: files that name each changed row.
        definition: the table's new definition; None: unchanged.
    """

    version: int
    time_us: int | None = None
    operation: str = ""
    added: Sequence[DataFile] = ()
    removed: Sequence[DataFile] = ()
    changes: Sequence[DataFile] = ()
    definition: TableDefinition | None = field(default=None)


@final
class DeltaLog:
    """Reads a table's log and files.

    Args:
        uri: the table's folder, local or on an object store.
        storage_options: what the object store asks for, as deltalake takes it.

    Raises:
        SourceNotFound: there is no table.
        SourceUnavailable: it cannot be reached.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        self.uri = uri
        self._options = dict(storage_options or {}) or None
        table = self._open()
        self.definition = self._definition_of(table)
        self.latest = int(table.version())
        self._files = pyarrow.fs.PyFileSystem(
            DeltaStorageHandler(str(table.table_uri), self._options)
        )

    def commit(self, version: int) -> Commit | None:
        """Return what a version did, None while there is no such version.

        Raises:
            PositionLost: the log no longer reaches back so far.
            SourceUnavailable: it cannot be read.
        """
        try:
            with self._files.open_input_file(f"_delta_log/{version:020d}.json") as file:
                lines = file.read().decode().splitlines()
        except FileNotFoundError:
            if version <= self.latest:
                raise PositionLost(
                    f"{self.uri}: version {version} is no longer in the table's log, which was "
                    f"cleaned up; begin again from the table as it is (without starting_version, "
                    f"under a new group), and lengthen delta.logRetentionDuration",
                    partition="table",
                    position=version,
                ) from None
            return None
        except OSError as error:
            raise self._unavailable(error) from error
        return _commit_of(self.uri, version, lines)

    def refresh(self) -> None:
        """Learn of the table as it is now.

        Raises:
            SourceNotFound, SourceUnavailable: as for making one.
            PositionLost: another table lies here now.
        """
        table = self._open()
        if str(table.metadata().id) != self.definition.table_id:
            raise PositionLost(
                f"{self.uri}: the table was made anew; start again to read the new one",
                partition="table",
                position=self.latest,
            )
        self.latest = int(table.version())

    def definition_at(self, version: int) -> TableDefinition:
        """Return the table's definition after a version.

        Raises:
            PositionLost: the log no longer reaches back so far.
        """
        return self._definition_of(self._at(version))

    def snapshot(self, version: int) -> list[DataFile]:
        """Return the files that make up a version, in an order that is always the same.

        Raises:
            PositionLost: the log no longer reaches back so far.
        """
        table = self._at(version)
        actions = pa.table(table.get_add_actions(flatten=True))
        earliest = (
            actions["min.write_time"].to_pylist()
            if "min.write_time" in actions.schema.names
            else [None] * len(actions)
        )
        prefix = "partition."
        partition_columns = [name for name in actions.schema.names if name.startswith(prefix)]
        values = [_texts(actions[name]) for name in partition_columns]
        names = [name.removeprefix(prefix) for name in partition_columns]
        vectors: list[str] = []
        if "deletionVectors" in (table.protocol().reader_features or ()):
            # The vectors themselves are not needed: files that have any are refused.
            vectors = pa.table(table.deletion_vectors())["filepath"].to_pylist()
        files = []
        for number, path in enumerate(actions["path"].to_pylist()):
            partition = {name: column[number] for name, column in zip(names, values, strict=True)}
            plain = unquote(path)
            marked = any(vector.endswith(path) for vector in vectors)
            files.append((str(earliest[number]), plain, DataFile(plain, partition, marked)))
        return [file for _, _, file in sorted(files, key=lambda entry: entry[:2])]

    def first_version_from(self, time: dt.datetime) -> int:
        """Return the first version that was committed at a time or later."""
        after_ms = int(time.timestamp() * 1000)
        found = [
            int(entry["version"])
            for entry in self._open().history()
            if int(entry.get("timestamp", 0)) >= after_ms
        ]
        return min(found, default=self.latest + 1)

    def open(self, file: DataFile, version: int) -> pa.NativeFile:
        """Open a file of the table.

        Raises:
            PositionLost: it was vacuumed.
            SourceUnavailable: it cannot be read.
            IngestError: it needs more than this reader does.
        """
        if file.has_deleted_rows:
            raise IngestError(
                f"{self.uri} version {version}: {file.path} has a deletion vector, which is not "
                f"read; rewrite the table's files (REORG TABLE … APPLY (PURGE)), or switch the "
                f"change data feed on"
            )
        try:
            return self._files.open_input_file(file.path)
        except FileNotFoundError:
            raise PositionLost(
                f"{self.uri} version {version}: {file.path} is gone, most likely by a vacuum, and "
                f"not all of its rows are stored; begin again from the table as it is (without "
                f"starting_version, under a new group), and keep files for longer than ingestion "
                f"may be behind",
                partition="table",
                position=version,
            ) from None
        except OSError as error:
            raise self._unavailable(error) from error

    @contextmanager
    def reading(self, file: DataFile, version: int) -> Iterator[None]:
        """Turn what goes wrong in a file into an error that names it.

        Raises:
            SourceUnavailable: it cannot be read.
            IngestError: it is damaged.
        """
        try:
            yield
        except OSError as error:
            if isinstance(error, SourceUnavailable):
                raise
            raise self._unavailable(error) from error
        except pa.ArrowException as error:
            raise IngestError(
                f"{self.uri} version {version}: {file.path} is damaged: {error}"
            ) from error

    def _open(self) -> DeltaTable:
        try:
            return DeltaTable(self.uri, storage_options=self._options)
        except TableNotFoundError as error:
            raise SourceNotFound(
                f"{self.uri}: no Delta table; check the address, and the right to list it"
            ) from error
        except (DeltaError, OSError) as error:
            raise self._unavailable(error) from error

    def _at(self, version: int) -> DeltaTable:
        try:
            return DeltaTable(self.uri, version=version, storage_options=self._options)
        except OSError as error:
            raise self._unavailable(error) from error
        except DeltaError as error:
            raise PositionLost(
                f"{self.uri}: version {version} can no longer be read; begin again from the table "
                f"as it is, under a new group: {_words(error)}",
                partition="table",
                position=version,
            ) from error

    def _definition_of(self, table: DeltaTable) -> TableDefinition:
        metadata = table.metadata()
        return _definition(
            self.uri, str(metadata.id), metadata.configuration, pa.schema(table.schema().to_arrow())
        )

    def _unavailable(self, error: Exception) -> SourceUnavailable:
        return SourceUnavailable(
            f"{self.uri}: the table cannot be read; check the address, the storage options and "
            f"that the store answers: {_words(error)}"
        )


def _words(error: Exception) -> str:
    """An error's text on one line, without its colours."""
    return " ".join(_COLOUR.sub("", str(error)).replace("↳", "").split())


def _commit_of(uri: str, version: int, lines: Sequence[str]) -> Commit:
    added: list[DataFile] = []
    removed: list[DataFile] = []
    changes: list[DataFile] = []
    definition = None
    time_ms: int | None = None
    operation = ""
    try:
        for line in lines:
            for kind, body in json.loads(line).items():
                if kind == "commitInfo":
                    time_ms = body.get("inCommitTimestamp", body.get("timestamp"))
                    operation = str(body.get("operation", ""))
                elif kind == "metaData":
                    schema = pa.schema(Schema.from_json(body["schemaString"]).to_arrow())
                    definition = _definition(uri, body["id"], body["configuration"], schema)
                elif kind == "cdc":
                    changes.append(_file(body))
                elif kind in ("add", "remove") and body["dataChange"]:
                    (added if kind == "add" else removed).append(_file(body))
    except (ValueError, KeyError, AttributeError) as error:
        raise IngestError(f"{uri}: version {version} of the log is damaged: {error!r}") from error
    return Commit(
        version,
        None if time_ms is None else int(time_ms) * 1000,
        operation,
        added,
        removed,
        changes,
        definition,
    )


def _file(body: Mapping[str, Any]) -> DataFile:
    path = unquote(body["path"])
    if "://" in path or path.startswith("/"):
        raise IngestError(
            f"{path}: expected a file below the table's folder; a shallow clone cannot be followed"
        )
    return DataFile(path, body.get("partitionValues") or {}, bool(body.get("deletionVector")))


def _definition(
    uri: str, table_id: str, configuration: Mapping[str, str | None], schema: pa.Schema
) -> TableDefinition:
    mode = configuration.get(_COLUMN_MAPPING) or "none"
    if mode != "none":
        raise IngestError(
            f"{uri}: the table maps its columns to other names ({_COLUMN_MAPPING} is {mode!r}), "
            f"which is not read; copy it into a table without"
        )
    feed = str(configuration.get(_CHANGE_FEED) or "").lower() == "true"
    return TableDefinition(table_id, schema, feed)


def _texts(column: pa.ChunkedArray) -> list[str | None]:
    """Write partition values as the log does."""
    return [
        None if value is None else str(value).lower() if isinstance(value, bool) else str(value)
        for value in column.to_pylist()
    ]
