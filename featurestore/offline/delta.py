"""An offline table in Delta Lake, local or on an object store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, final
from urllib.parse import unquote

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError, TableNotFoundError

from featurestore.errors import InvalidRequest, StoreFull, StoreUnavailable
from featurestore.offline.base import OfflineTable, Snapshot

__all__ = ["DeltaOfflineTable"]


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
                table.load_as_version(version)
            files = table.file_uris()
            if "://" not in self._uri:
                files = map(unquote, files)  # delta-rs writes local paths as parts of a uri
            return Snapshot(
                self._uri,
                int(table.version()),
                tuple(sorted(files)),
                tuple(field.name for field in table.schema().fields),
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
