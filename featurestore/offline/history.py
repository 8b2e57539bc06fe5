"""Time travel: a group's table as of a version or a write time, and back to an older version."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, final

import pyarrow as pa
from deltalake import CommitProperties
from deltalake.exceptions import DeltaError

from featurestore import eventtime, pointintime
from featurestore.convert import offline_schema
from featurestore.errors import InvalidRequest
from featurestore.offline.base import Snapshot
from featurestore.offline.delta import DeltaOfflineTable, operation_of
from featurestore.schema import FeatureGroup

__all__ = ["TableVersion", "read_history", "restore", "versions"]

_BATCH_ROWS: Final = 65_536


@final
@dataclass(frozen=True, slots=True)
class TableVersion:
    """One version of a group's table.

    Args:
        version: Delta version.
        time: of its commit.
        operation: what made it, by Delta's name: WRITE, OPTIMIZE, RESTORE, VACUUM END, …
        files: that make it up; None where it cannot be read any more.
    """

    version: int
    time: dt.datetime
    operation: str
    files: int | None

    @property
    def is_readable(self) -> bool:
        """Whether all its files are still there."""
        return self.files is not None

    def to_json(self) -> dict[str, Any]:
        """Write it as JSON values."""
        return {
            "version": self.version,
            "time": self.time.isoformat(),
            "operation": self.operation,
            "files": self.files,
            "readable": self.is_readable,
        }


def versions(table: DeltaOfflineTable, *, limit: int | None = None) -> list[TableVersion]:
    """Return the versions of a table, newest first; the log tells of no older ones.

    Args:
        table: the group's table.
        limit: how many at most.

    Raises:
        StoreUnavailable: the table cannot be read.

    Cost: each version is opened.
    """
    try:
        opened = table.open()
        if opened is None:
            return []
        found = []
        present = table.present()
        for entry in opened.history(limit):
            at = dt.datetime.fromtimestamp(entry["timestamp"] / 1000, dt.UTC)
            version = int(entry["version"])
            files = _files_of(table, version, present)
            found.append(TableVersion(version, at, operation_of(entry), files))
        return found
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error


def read_history(
    group: FeatureGroup,
    snapshot: Snapshot | None,
    *,
    as_of: dt.datetime | None = None,
    features: Sequence[str] = (),
) -> pa.RecordBatchReader:
    """Read every row of a table's version, in the order they were acknowledged in.

    Args:
        group: the definition; features that the version lacks are null.
        snapshot: the version; None: nothing was ever written.
        as_of: only rows whose write time is at or before it.
        features: names of those to return; none: all.

    Returns:
        A reader of the group's features and the offline columns, that holds a part at a time.

    Raises:
        InvalidRequest: `as_of` has no zone.
    """
    try:
        as_of_us = None if as_of is None else eventtime.to_us(as_of)
    except ValueError as error:
        raise InvalidRequest(f"as_of: {error}") from None
    schema = offline_schema(group)
    left_out = {"_event_date"}
    if features:
        left_out.update(set(group.feature_names).difference(features))
    schema = pa.schema([field for field in schema if field.name not in left_out])
    if snapshot is None or not snapshot.files:
        return pa.RecordBatchReader.from_batches(schema, iter(()))
    known = [name for name in schema.names if name in snapshot.columns]
    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in known)
    parameters: dict[str, Any] = {"files": list(snapshot.files)}
    condition = ""
    if as_of_us is not None:
        parameters["as_of"] = as_of_us
        condition = "WHERE write_time <= make_timestamptz($as_of)"
    connection = pointintime.connect()
    reader = connection.sql(
        f"SELECT {columns} FROM read_parquet($files, union_by_name = true, "
        f"hive_partitioning = false) {condition} ORDER BY write_time, _sequence",
        params=parameters,
    ).to_arrow_reader(_BATCH_ROWS)

    def batches() -> Any:
        with connection:
            for batch in reader:
                arrays = [
                    batch.column(field.name).cast(field.type)
                    if field.name in known
                    else pa.nulls(len(batch), field.type)
                    for field in schema
                ]
                yield pa.RecordBatch.from_arrays(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def restore(table: DeltaOfflineTable, version: int) -> int:
    """Make an older version the newest one, as a new commit; return its number.

    The rows that were written since are in the newest version no more. The sequence up to which a
    flusher has written stays: they are not written again, and what waits is written once. The
    caller holds the flush lock.

    Raises:
        InvalidRequest: no such version, or a vacuum took its files away.
        StoreUnavailable, StoreFull: the commit failed; the table is as it was.
    """
    try:
        opened = table.open()
        if opened is None:
            raise InvalidRequest(f"{table.uri}: expected a version, but nothing was ever written")
        newest = int(opened.version())
        table.load(opened, version)
        if version == newest:
            return newest
        if _files_of(table, version, table.present()) is None:
            raise table.vacuumed(version)
        opened = table.open()
        assert opened is not None
        opened.restore(
            version,
            # An older version may lack a column, never a feature of Delta.
            protocol_downgrade_allowed=False,
            commit_properties=CommitProperties(custom_metadata={"restored": str(version)}),
        )
        return int(opened.version())
    except (DeltaError, OSError) as error:
        raise table.failure(error) from error


def _files_of(table: DeltaOfflineTable, version: int, present: set[str]) -> int | None:
    """Count the files of a version; None when one is gone, or the log has lost it."""
    opened = table.open()
    assert opened is not None
    try:
        opened.load_as_version(version)
    except DeltaError:
        return None
    names = table.names(opened)
    return len(names) if present.issuperset(names) else None
